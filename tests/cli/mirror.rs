//! Mirrors as a person sees them: a second directory, lost and found.

use std::fs;

use super::plain;
use super::reading::{json, lines, objects};
use super::support::{World, files_beneath};

/// A repository of two snapshots with a mirror in a directory that is up to date; the state code.
fn world() -> (World, [String; 2], String) {
    let world = World::with_repository();
    world.write("letters/one", "dear one\n".repeat(2_000));
    let first = world.backup();
    world.write("letters/two", "dear two\n".repeat(2_000));
    let second = world.backup();
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    let ran = world.ok(&["sync", "--json"]);
    let code = json(&ran)["state_code"].as_str().unwrap().to_owned();
    (world, [first, second], code)
}

fn files(world: &World) -> usize {
    ["keys", "packs", "index", "snapshots", "heads"].iter().map(|folder| objects(world, folder).len()).sum()
}

#[test]
fn a_mirror_is_added_synced_and_listed_without_a_secret() {
    let world = World::with_repository();
    world.write("a", "a");
    world.backup();
    let run = |words: &[&str]| {
        let ran: super::Ran = world.bare(words).output().unwrap().into();
        assert_eq!(ran.code, Some(0), "{words:?}: {}", ran.err);
        ran
    };
    assert!(run(&["mirror", "list"]).out.contains("this repository is the only copy"));
    let ran = run(&["mirror", "add", "offsite", "mirror"]);
    assert!(ran.out.contains("writing and reading back: the same bytes"), "{}", ran.out);
    assert!(plain(&ran.out).contains("Next: packstone sync offsite"), "{}", ran.out);
    let ran = run(&["sync", "--dry-run"]);
    assert!(ran.out.contains("objects would be sent"), "{}", ran.out);
    assert_eq!(files_beneath(&world.path("mirror")).len(), 0);
    let ran = run(&["sync"]);
    assert!(ran.out.contains("whole at generation 2   state code 2-"), "{}", ran.out);
    assert!(ran.out.contains("(was empty)"), "{}", ran.out);
    let ran = run(&["sync", "offsite"]);
    assert!(ran.out.contains("nothing to send"), "{}", ran.out);
    let ran = run(&["mirror", "list", "--json"]);
    let listed = lines(&ran.out).remove(0);
    assert_eq!((listed["generation"].as_u64(), listed["failed_objects"].as_u64()), (Some(2), Some(0)), "{listed}");
    let ran = run(&["mirror", "remove", "offsite"]);
    assert!(ran.out.contains("its files stay"), "{}", ran.out);
    assert!(world.path("mirror/config").exists());
}

/// A little every night: what was read back longest ago comes first, and in the end everything was.
#[test]
fn a_mirror_is_read_back_a_little_at_a_time() {
    let (world, _, _) = world();
    for name in ["three", "four"] {
        world.write(&format!("letters/{name}"), super::prune::noise(name.len() as u64, 100_000));
        world.backup();
    }
    world.ok(&["sync", "--sample", "0"]);
    let nightly = ["check", "--mirror", "offsite", "--max-age", "30d", "--budget", "50k", "--json"];
    let (mut objects, mut nights, mut bytes) = (0, 0, 0);
    let all = loop {
        let ran = json(&world.ok(&nightly));
        objects += ran["objects_read"].as_u64().unwrap();
        bytes += ran["bytes_read"].as_u64().unwrap();
        nights += 1;
        assert!(nights < 50, "{ran}");
        assert_eq!(ran["verified"].is_null(), ran["overdue_objects"] != 0, "{ran}");
        if ran["overdue_objects"] == 0 {
            break ran["objects"].as_u64().unwrap();
        }
    };
    assert!(objects == all && nights > 4 && bytes > 200_000, "{objects} of {all} in {nights} nights");
    assert_eq!(json(&world.ok(&nightly))["objects_read"], 0, "nothing is due");
    assert!(!lines(&world.ok(&["mirror", "list", "--json"]).out)[0]["verified"].is_null());
    let again = world.ok(&["check", "--mirror", "offsite", "--budget", "1"]);
    assert!(again.out.contains("1 read back") && again.out.contains("due as well"), "{}", again.out);
    let part = |n: u32| {
        let ran = world.ok(&["check", "--mirror", "offsite", "--read-data-subset", &format!("{n}/3"), "--json"]);
        json(&ran)["objects_read"].as_u64().unwrap()
    };
    assert_eq!(part(1) + part(2) + part(3), all);
    // What is sent again has not been read back.
    let pack = files_beneath(&world.path("mirror/packs")).remove(0);
    fs::remove_file(pack).unwrap();
    assert_eq!(world.run(&nightly).code, Some(13));
    world.ok(&["sync", "--sample", "0"]);
    assert_eq!(json(&world.ok(&nightly))["objects_read"], 1);
    let mirror = world.path("mirror");
    let ran = world.run(&["check", "--mirror", world.text(&mirror), "--budget", "1G"]);
    assert!(ran.code == Some(2) && ran.err.contains("with a name"), "{}", ran.err);
}

/// The mirrors hold the good copies: nothing is sent until a check as thorough as the one that found damage has found none.
#[test]
fn a_failed_check_stops_a_sync() {
    let (world, _, _) = world();
    let pack = objects(&world, "packs").remove(0);
    let position = fs::metadata(&pack).unwrap().len() / 2;
    super::reading::flip(&pack, &[position]);
    assert_eq!(world.run(&["check", "--read-data"]).code, Some(17));
    let refused = || {
        let ran = world.run(&["sync"]);
        assert!(ran.code == Some(17) && ran.err.contains("nothing was sent: the check of"), "{}", ran.err);
        assert!(plain(&ran.err).contains("packstone repair objects"), "{}", ran.err);
    };
    refused();
    world.ok(&["check"]);
    refused();
    // Another copy is another matter.
    world.ok(&["--from", "offsite", "check", "--read-data"]);
    refused();
    let ran = world.ok(&["sync", "--force"]);
    assert!(ran.err.contains("nothing is deleted on a mirror"), "{}", ran.err);
    let ran = world.run(&["status"]);
    assert!(ran.code == Some(18) && ran.out.contains("found damage"), "{}", ran.out);
    world.ok(&["repair", "objects"]);
    world.ok(&["check", "--read-data"]);
    world.ok(&["sync"]);
    assert_eq!(world.run(&["status"]).code, Some(0));
    // What a look at the names alone has found is over when another one finds nothing.
    let away = world.path("away");
    fs::rename(&pack, &away).unwrap();
    assert_eq!(world.run(&["check"]).code, Some(17));
    refused();
    fs::rename(&away, &pack).unwrap();
    world.ok(&["check"]);
    world.ok(&["sync"]);
}

/// What was damaged here was given up and swept: the mirror has the only copy, until nothing here is damaged any more.
#[test]
fn nothing_is_deleted_on_a_mirror_while_damage_is_known_here() {
    let (world, [first, _], _) = world();
    world.ok(&["forget", &first, "--prune", "--instant", "--max-unused", "0"]);
    world.ok(&["sync"]);
    let slot = files_beneath(&world.repository().join("packs")).remove(0);
    fs::rename(&slot, world.path("away")).unwrap();
    assert_eq!(world.run(&["check"]).code, Some(17));
    let before = files_beneath(&world.path("mirror"));
    let ran = world.ok(&["sync", "--force", "--grace", "0", "--max-delete", "100", "--json"]);
    assert!(json(&ran)["deletion"].is_null(), "{}", ran.out);
    assert_eq!(files_beneath(&world.path("mirror")), before);
    fs::rename(world.path("away"), &slot).unwrap();
    world.ok(&["check"]);
    let ran = world.ok(&["sync", "--grace", "0", "--max-delete", "100", "--json"]);
    assert!(json(&ran)["deletion"]["deleted"].as_u64() > Some(0), "{}", ran.out);
}

/// Another machine had a copy of the repository, wrote to it, and synced it first.
#[test]
fn two_histories_are_brought_together() {
    let (world, _, _) = world();
    let key = world.key();
    let copy = ["copy", "--from-mirror", "offsite", "--from-key-file", world.text(&key)];
    let ran = world.run(&copy);
    assert!(ran.code == Some(1) && ran.err.contains("with the same history"), "{}", ran.err);
    let cp = |from: &str, to: &str| {
        let done = std::process::Command::new("cp").arg("-a").args([world.path(from), world.path(to)]).status();
        assert!(done.unwrap().success());
    };
    cp("repository", "twin");
    let (twin, home) = (world.path("twin"), world.path("home-2"));
    fs::create_dir(&home).unwrap();
    let there = |words: &[&str]| {
        let ran = world.command(words).env("HOME", &home).env("PACKSTONE_REPOSITORY", &twin).output().unwrap();
        assert!(ran.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    world.write("theirs", "theirs");
    there(&["backup", "tree"]);
    there(&["mirror", "add", "offsite", "mirror"]);
    there(&["sync"]);
    let [sync, json_option] = ["sync", "--json"];
    let ran =
        world.command(&[sync, json_option]).env("HOME", &home).env("PACKSTONE_REPOSITORY", &twin).output().unwrap();
    let code = json(&super::Ran::from(ran))["state_code"].as_str().unwrap().to_owned();
    fs::remove_file(world.tree().join("theirs")).unwrap();
    world.write("ours", "ours");
    world.backup();
    let on_mirror = files_beneath(&world.path("mirror"));
    let ran = world.run(&["sync"]);
    assert!(ran.code == Some(16) && ran.err.contains("copy --from-mirror offsite"), "{}", ran.err);
    let ran = world.ok(&["copy", "--from-repo", "twin", "--from-key-file", world.text(&key), "--dry-run"]);
    assert!(ran.out.contains("would be copied"), "{}", ran.out);
    let ran = world.ok(&copy);
    assert!(ran.out.contains("1 snapshot copied"), "{}", ran.out);
    let ran = world.ok(&copy);
    assert!(!ran.out.contains("1 snapshot copied"), "{}", ran.out);
    assert_eq!(json(&world.ok(&["snapshots", "--json"])).as_array().unwrap().len(), 4);
    for (snapshot, file) in [("latest", "ours"), ("latest~1", "theirs")] {
        assert_eq!(world.ok(&["dump", snapshot, &format!("tree/{file}")]).out, file);
    }
    world.ok(&["check", "--read-data"]);
    // What they have stays as it is; this history gets a mirror of its own.
    assert_eq!(world.run(&["sync"]).code, Some(16));
    assert_eq!(files_beneath(&world.path("mirror")), on_mirror);
    world.ok(&["mirror", "remove", "offsite"]);
    world.ok(&["mirror", "add", "offsite", "mirror-2"]);
    world.ok(&["sync"]);
    world.ok(&["check", "--mirror", "offsite", "--read-data"]);
    // Whoever published on top of the other one left two histories there. Each comes back by its code.
    for object in files_beneath(&world.repository()) {
        let to = world.path("mirror").join(object.strip_prefix(world.repository()).unwrap());
        if !to.exists() {
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(object, to).unwrap();
        }
    }
    let mirror = world.path("mirror");
    let (one, other) = (world.path("one"), world.path("other"));
    let ours = json(&world.ok(&["sync", "--json"]))["state_code"].as_str().unwrap().to_owned();
    for (code, to) in [(&code, &one), (&ours, &other)] {
        let ran = world.ok(&["recover", world.text(&mirror), "--head", code, "--to", world.text(to)]);
        assert!(ran.out.contains("remembered apart"), "{}", ran.out);
    }
    // All three are on this machine now, and none is taken for a rollback of another.
    world.backup();
    for (copy, count) in [(&one, 3), (&other, 4)] {
        for _ in 0..2 {
            let ran = world.ok(&["--repo", world.text(copy), "snapshots", "--json"]);
            assert_eq!(json(&ran).as_array().unwrap().len(), count);
        }
    }
    world.ok(&["--repo", world.text(&one), "backup", "tree"]);
    world.backup();
}

/// With several mirrors one that is slow holds up nobody: neither the others, nor their locks.
#[test]
fn a_slow_mirror_holds_up_nobody() {
    let (world, _, _) = world();
    world.ok(&["mirror", "add", "slow", "mirror-2"]);
    world.write("big", super::prune::noise(1, 3_000_000));
    world.backup();
    world.ok(&["sync", "offsite"]);
    let mut child = world.command(&["sync", "--limit-upload", "300k"]).spawn().unwrap();
    let mut first = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut first).unwrap();
    world.write("small", "small");
    world.backup();
    assert!(first.starts_with("offsite  whole at generation") && child.try_wait().unwrap().is_none(), "{first}");
    world.ok(&["sync", "offsite"]);
    assert_eq!(world.run(&["sync", "slow"]).code, Some(11));
    let ran = world.run(&["sync", "slow", "offsite", "offsite"]);
    assert!(ran.code == Some(11) && ran.out.contains("nothing to send"), "{} {}", ran.out, ran.err);
    child.kill().unwrap();
    child.wait().unwrap();
    world.ok(&["sync"]);
}

#[test]
fn what_is_no_mirror_is_told() {
    let (world, _, _) = world();
    std::os::unix::fs::symlink(world.path("mirror"), world.path("linked")).unwrap();
    for (words, code, told) in [
        (&["mirror", "add", "offsite", "other"][..], 1, "there is a mirror offsite already"),
        (&["mirror", "add", "twice", "linked"], 1, "mirror offsite is at this address already"),
        (&["mirror", "add", "twice", "mirror"], 1, "mirror offsite is at this address already"),
        (&["mirror", "add", "no name", "x"], 2, "letters, digits"),
        (&["mirror", "add", "x", "nfs://host/x"], 2, "known services: s3"),
        (&["mirror", "add", "x", "s3://b", "-o", "regoin=x"], 2, "s3 has no option regoin"),
        (&["mirror", "add", "x", "s3://b?secret_access_key=x"], 2, "is a secret and is not taken here"),
        (&["sync", "nowhere"], 1, "there is no mirror nowhere"),
        (&["--from", "nowhere", "snapshots"], 1, "there is no mirror nowhere"),
    ] {
        let ran = world.run(words);
        assert_eq!(ran.code, Some(code), "{words:?}: {}", ran.err);
        assert!(ran.err.contains(told), "{words:?}: {}", ran.err);
    }
    // The repository is no copy of itself.
    for place in ["repository", "repository/packs/mirror", "."] {
        let ran = world.run(&["mirror", "add", "self", place]);
        assert!(ran.code == Some(2) && ran.err.contains("that is no second copy"), "{place}: {}", ran.err);
    }
    // Something else lies there.
    fs::create_dir(world.path("photos")).unwrap();
    fs::write(world.path("photos/beach.jpg"), "sea").unwrap();
    world.ok(&["mirror", "add", "--no-probe", "photos", "photos"]);
    let ran = world.run(&["sync", "photos"]);
    assert!(ran.code == Some(1) && ran.err.contains("beach.jpg"), "{}", ran.err);
    assert_eq!(fs::read_dir(world.path("photos")).unwrap().count(), 1);
}

#[test]
fn a_lost_repository_comes_back() {
    let (world, snapshots, code) = world();
    let before = files(&world);
    fs::remove_dir_all(world.repository()).unwrap();
    let mirror = world.path("mirror");
    let mirror = world.text(&mirror);
    let ran = world.ok(&["recover", mirror, "--expect-head", &code, "--dry-run"]);
    assert!(ran.out.contains("freshness PROVEN") && !world.repository().exists(), "{}", ran.out);
    let ran = world.ok(&["recover", mirror, "--expect-head", &code]);
    assert!(ran.out.contains("2 snapshots, check clean"), "{}", ran.out);
    assert!(files(&world) <= before);
    world.ok(&["check", "--read-data"]);
    for id in &snapshots {
        world.ok(&["restore", id, "--target", id, "--verify"]);
    }
    let ran = world.ok(&["recover", mirror]);
    assert!(ran.out.contains("0 objects") && ran.out.contains("check clean"), "{}", ran.out);
    // Life goes on, and so does the mirror.
    world.write("letters/three", "three");
    world.backup();
    let ran = world.run(&["recover", mirror]);
    assert!(ran.code == Some(1) && ran.err.contains("holds a repository already"), "{}", ran.err);
    let ran = world.ok(&["sync"]);
    assert!(ran.out.contains("(was at generation 3)"), "{}", ran.out);
}

#[test]
fn a_blank_machine_cannot_tell_how_new_a_mirror_is_and_says_so() {
    let (world, _, code) = world();
    let mirror = world.path("mirror");
    let mirror = world.text(&mirror);
    let old = world.path("old");
    assert!(std::process::Command::new("cp").args(["-a", mirror, world.text(&old)]).status().unwrap().success());
    world.write("letters/three", "three");
    world.backup();
    let newer = json(&world.ok(&["sync", "--json"]))["state_code"].as_str().unwrap().to_owned();
    // This machine knows better.
    let to = world.path("to");
    let ran = world.run(&["recover", world.text(&old), "--to", world.text(&to)]);
    assert_eq!(ran.code, Some(15), "{}", ran.err);
    assert!(ran.err.contains(&format!("--head {code}")), "{}", ran.err);
    // Another one does not, unless it is told.
    let blank = |words: &[&str]| -> super::Ran {
        fs::create_dir_all(world.path("blank")).unwrap();
        world.command(words).env("HOME", world.path("blank")).output().unwrap().into()
    };
    let ran = blank(&["recover", world.text(&old), "--to", "to", "--expect-head", &newer]);
    assert_eq!(ran.code, Some(14), "{}", ran.err);
    let ran = blank(&["recover", world.text(&old), "--to", "to"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("freshness NOT proven"), "{}", ran.out);
    assert!(ran.err.contains("freshness NOT proven") && ran.err.contains("generation 3, state code"), "{}", ran.err);
    // And an older state comes back when it is asked for.
    let ran = blank(&["recover", mirror, "--to", "again", "--head", &code]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
}

#[test]
fn a_mirror_that_was_set_back_is_refused_until_it_is_accepted() {
    let (world, _, code) = world();
    let (mirror, old) = (world.path("mirror"), world.path("old"));
    assert!(
        std::process::Command::new("cp")
            .args(["-a", world.text(&mirror), world.text(&old)])
            .status()
            .unwrap()
            .success()
    );
    world.write("letters/three", "three");
    world.backup();
    world.ok(&["sync"]);
    fs::remove_dir_all(&mirror).unwrap();
    fs::rename(&old, &mirror).unwrap();
    let ran = world.run(&["check", "--mirror", "offsite"]);
    assert_eq!(ran.code, Some(14), "{}", ran.err);
    let ran = world.run(&["sync"]);
    assert_eq!(ran.code, Some(14), "{}", ran.err);
    assert!(plain(&ran.err).contains(&format!("packstone mirror accept offsite --head {code}")), "{}", ran.err);
    assert_eq!(world.run(&["mirror", "accept", "offsite", "--head", "none"]).code, Some(0));
    world.ok(&["mirror", "accept", "offsite", "--head", &code]);
    world.ok(&["sync"]);
}

#[test]
fn files_come_straight_from_a_mirror() {
    let (world, snapshots, _) = world();
    fs::remove_dir_all(world.repository()).unwrap();
    let mirror = world.path("mirror");
    for from in ["offsite", world.text(&mirror)] {
        let ran = world.ok(&["--from", from, "ls", &snapshots[1]]);
        assert!(ran.out.contains("letters/two"), "{}", ran.out);
        let ran = world.ok(&["--from", from, "dump", "latest", "tree/letters/one"]);
        assert_eq!(ran.out.len(), "dear one\n".len() * 2_000);
        world.ok(&["--from", from, "restore", &snapshots[0], "--target", from.trim_start_matches('/'), "--verify"]);
    }
    // Nothing is written there.
    let count = fs::read_dir(world.path("mirror/heads")).unwrap().count();
    for words in [&["forget", "latest"][..], &["tag", "--add", "x"], &["hold", "latest"]] {
        let ran = world.run(&[&["--from", "offsite"], words].concat());
        assert_ne!(ran.code, Some(0), "{words:?}");
        assert!(ran.err.contains("a mirror is only read here"), "{words:?}: {}", ran.err);
    }
    assert_eq!(fs::read_dir(world.path("mirror/heads")).unwrap().count(), count);
}

#[test]
fn secrets_of_a_mirror_reach_no_child_and_no_output() {
    let world = World::with_repository();
    world.write("a", "a");
    world.backup();
    let mut command = world.bare(&[
        "mirror",
        "add",
        "cloud",
        "s3://bucket/x",
        "-o",
        "endpoint=http://127.0.0.1:9",
        "-o",
        "region=x",
        "--no-probe",
    ]);
    let ran: super::Ran = command.env("PACKSTONE_MIRROR_SECRET_ACCESS_KEY", "very-secret").output().unwrap().into();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let state = world.path("home/.local/state/packstone/mirrors");
    for entry in fs::read_dir(state).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(11).any(|window| window == b"very-secret"));
    }
    assert!(!ran.out.contains("very-secret") && !ran.err.contains("very-secret"));
}

#[test]
fn damage_on_a_mirror_is_found_and_mended_from_here() {
    let (world, _, _) = world();
    let ran = world.ok(&["check", "--mirror", "offsite", "--read-data"]);
    assert!(ran.out.contains("whole at generation 3") && ran.out.contains("read back"), "{}", ran.out);
    let packs: Vec<_> = files_beneath(&world.path("mirror/packs"));
    let (flipped, lost) = (&packs[0], &packs[1]);
    super::check::damage(flipped, |bytes| bytes[700] ^= 1);
    fs::remove_file(lost).unwrap();
    let ran = world.run(&["check", "--mirror", "offsite"]);
    assert_eq!(ran.code, Some(13), "{}", ran.out);
    assert!(
        ran.out.contains("missing: packs/") && plain(&ran.out).contains("packstone repair mirror offsite"),
        "{}",
        ran.out
    );
    let ran = world.run(&["check", "--mirror", "offsite", "--read-data"]);
    assert_eq!(ran.code, Some(17), "{}", ran.out);
    let ran = world.run(&["repair", "mirror", "offsite", "--dry-run"]);
    assert_eq!(ran.code, Some(17), "{}", ran.out);
    let ran = world.ok(&["repair", "mirror", "offsite"]);
    assert!(ran.out.contains("1 object sent again"), "{}", ran.out);
    assert_eq!(fs::read_dir(world.path("mirror/quarantine")).unwrap().count(), 1);
    let ran = world.ok(&["sync"]);
    assert!(ran.out.contains("1 object sent"), "{}", ran.out);
    world.ok(&["check", "--mirror", "offsite", "--read-data"]);
}

#[test]
fn what_was_pruned_leaves_a_mirror_late_and_under_a_cap() {
    let (world, [first, second], _) = world();
    world.ok(&["forget", &first, "--prune", "--instant", "--max-unused", "0"]);
    let names = || files_beneath(&world.path("mirror"));
    let before = names();
    let ran = world.ok(&["sync"]);
    assert!(ran.out.contains("will be deleted there, the first in 30 days"), "{}", ran.out);
    assert!(before.iter().all(|path| path.exists()));
    let ran = world.ok(&["sync", "--grace", "29d"]);
    assert!(ran.out.contains("nothing to send"), "{}", ran.out);
    assert!(before.iter().all(|path| path.exists()));
    let ran = world.run(&["sync", "--grace", "0", "--max-delete", "1"]);
    assert_eq!(ran.code, Some(20), "{}", ran.err);
    assert!(plain(&ran.err).contains("packstone sync offsite --max-delete 100"), "{}", ran.err);
    assert!(before.iter().all(|path| path.exists()));
    // A mirror that could not be reached is worse news than one from which nothing was deleted.
    world.ok(&["mirror", "add", "unplugged", "mirror-2"]);
    fs::remove_dir_all(world.path("mirror-2")).unwrap();
    let ran = world.run(&["sync", "--grace", "0", "--max-delete", "1"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("nothing was deleted there") && ran.err.contains("unplugged"), "{}", ran.err);
    world.ok(&["mirror", "remove", "unplugged"]);
    let ran = world.ok(&["sync", "--no-delete", "--json"]);
    assert!(json(&ran)["deletion"].is_null(), "{}", ran.out);
    let ran = world.ok(&["sync", "--grace", "0", "--max-delete", "100", "--dry-run"]);
    assert!(ran.out.contains("would be deleted"), "{}", ran.out);
    assert!(before.iter().all(|path| path.exists()));
    let ran = world.ok(&["sync", "--grace", "0", "--max-delete", "100", "--json"]);
    let deleted = json(&ran)["deletion"]["deleted"].as_u64().unwrap();
    let gone = before.iter().filter(|path| !path.exists()).count() as u64;
    assert!(gone > 0 && gone == deleted, "{gone}: {}", ran.out);
    // More than half has gone within a week, and nothing is due now.
    let ran = world.ok(&["sync", "--grace", "0", "--max-delete", "1", "--json"]);
    assert_eq!(json(&ran)["deletion"]["due"].as_u64(), Some(0), "{}", ran.out);
    world.ok(&["check", "--mirror", "offsite", "--read-data"]);
    world.ok(&["restore", "--from", "offsite", &second, "--target", "back"]);
    assert_eq!(fs::read_to_string(world.path("back/tree/letters/two")).unwrap(), "dear two\n".repeat(2_000));
}

/// Every object in turn is damaged, shortened, or gone: it comes back, and nothing else changes.
#[test]
fn damage_here_is_mended_from_a_mirror() {
    let (world, _, _) = world();
    let repository = world.repository();
    let folders = ["keys", "packs", "index", "snapshots"];
    let objects: Vec<_> = folders.iter().flat_map(|folder| files_beneath(&repository.join(folder))).collect();
    let mut mended = 0;
    let pack = &files_beneath(&repository.join("packs"))[0];
    fs::rename(pack, world.path("pack")).unwrap();
    let ran = world.run(&["check"]);
    assert!(plain(&ran.out).contains("offsite may have good copies.  First: packstone repair objects"), "{}", ran.out);
    fs::rename(world.path("pack"), pack).unwrap();
    for (number, object) in objects.iter().enumerate() {
        let right = fs::read(object).unwrap();
        fs::remove_file(object).unwrap();
        match number % 3 {
            0 => {}
            1 => fs::write(object, &right[..right.len() / 2]).unwrap(),
            _ => {
                let mut flipped = right.clone();
                flipped[right.len() / 3] ^= 4;
                fs::write(object, flipped).unwrap();
            }
        }
        assert_eq!(world.run(&["repair", "objects", "--dry-run"]).code, Some(17), "{object:?}");
        let ran = world.run(&["repair", "objects"]);
        assert_eq!(ran.code, Some(0), "{object:?}: {} {}", ran.out, ran.err);
        assert!(ran.out.contains(", from offsite"), "{}", ran.out);
        assert_eq!(fs::read(object).unwrap(), right, "{object:?}");
        mended += 1;
    }
    println!("{mended} of {} objects mended", objects.len());
    assert!(files_beneath(&repository.join("quarantine")).len() >= objects.len() / 2, "what was damaged is kept");
    let ran = world.ok(&["repair", "objects"]);
    assert!(ran.out.contains("0 damaged, 0 missing"), "{}", ran.out);
    world.ok(&["check", "--read-data"]);
    // What is damaged there as well stays where it is.
    let pack = &files_beneath(&repository.join("packs"))[0];
    let there = world.path("mirror").join(pack.strip_prefix(&repository).unwrap());
    for file in [pack, &there] {
        let mut bytes = fs::read(file).unwrap();
        bytes[40] ^= 1;
        fs::remove_file(file).unwrap();
        fs::write(file, bytes).unwrap();
    }
    let before = fs::read(pack).unwrap();
    let ran = world.run(&["repair", "objects"]);
    assert!(ran.code == Some(17) && ran.out.contains("no mirror has packs/"), "{} {}", ran.out, ran.err);
    assert_eq!(fs::read(pack).unwrap(), before);
    let lonely = World::with_repository();
    fs::remove_file(&files_beneath(&lonely.repository().join("keys"))[0]).unwrap();
    let ran = lonely.run(&["repair", "objects"]);
    assert!(ran.code == Some(1) && ran.err.contains("there is no mirror to fetch from"), "{}", ran.err);
}

/// What other programs write for a place elsewhere is never a directory here, wherever an address is taken.
#[test]
fn a_place_elsewhere_is_not_taken_for_a_directory() {
    let (world, _, _) = world();
    for (typed, said) in [
        (
            "s3:bucket",
            "for the service write s3://bucket, for a directory of this name ./s3:bucket or its absolute path",
        ),
        ("b2:bucket:path", "for the service write b2://bucket/path, for a directory of this name ./b2:bucket:path"),
        ("ann@host:/srv/backup", "sftp://ann@host/srv/backup"),
        ("rclone:remote:x", "s3://BUCKET/PATH"),
    ] {
        for words in [
            &["mirror", "add", "cloud", typed][..],
            &["mirror", "add", "cloud", typed, "--dry-run"],
            &["mirror", "add", "cloud", typed, "--no-probe"],
            &["recover", typed, "--to", "back"],
            &["drill", typed],
            &["check", "--mirror", typed],
            &["--from", typed, "snapshots"],
            &["copy", "--from-mirror", typed],
        ] {
            let ran = world.run(words);
            assert!(ran.code == Some(2) && ran.err.contains(said), "{words:?}: {:?} {}", ran.code, ran.err);
        }
        assert!(!world.path(typed.split('/').next().unwrap()).exists() && !world.path("back").exists());
    }
    assert_eq!(lines(&world.ok(&["mirror", "list", "--json"]).out).len(), 1);
    // Both ways to say that a directory is meant.
    world.ok(&["mirror", "add", "one", "./s3:bucket"]);
    world.ok(&["sync", "one"]);
    let absolute = world.path("s3:bucket");
    for typed in ["./s3:bucket", world.text(&absolute), "mirror/../s3:bucket"] {
        world.ok(&["--from", typed, "snapshots"]);
        let ran = world.ok(&["recover", typed, "--to", "back", "--dry-run"]);
        assert!(ran.out.contains("to fetch into"), "{}", ran.out);
    }
    let ran = world.run(&["recover", "mirror", "--to", "back"]);
    assert!(ran.code == Some(1) && ran.err.contains("the directory of this name is ./mirror"), "{}", ran.err);
}

/// The path of an unmounted disk must not become a directory on the disk beneath it.
#[test]
fn only_the_last_directory_of_a_mirror_is_made() {
    let world = World::with_repository();
    for words in [&["mirror", "add", "usb", "usb/backup"][..], &["mirror", "add", "usb", "usb/backup", "--dry-run"]] {
        let ran = world.run(words);
        assert_eq!(ran.code, Some(1), "{}", ran.out);
        assert!(ran.err.contains("/usb is not there") && ran.err.contains("is its disk mounted?"), "{}", ran.err);
        assert!(!world.path("usb").exists() && lines(&world.ok(&["mirror", "list", "--json"]).out).is_empty());
    }
    fs::create_dir(world.path("usb")).unwrap();
    let ran = world.ok(&["mirror", "add", "usb", "usb/backup", "--dry-run"]);
    assert!(ran.out.contains("the directory would be made") && !world.path("usb/backup").exists(), "{}", ran.out);
    world.ok(&["mirror", "add", "usb", "usb/backup"]);
    // Given again, as after an interruption; another place under the name is refused.
    let ran = world.ok(&["mirror", "add", "usb", "usb/backup"]);
    assert!(ran.out.contains("is on the list already"), "{}", ran.out);
    assert_eq!(world.run(&["mirror", "add", "usb", "usb/other"]).code, Some(1));
    // Probes of commands that were killed.
    for number in 0..3 {
        let bytes = super::prune::noise(number, 64 << 10);
        let id = blake3::hash(&bytes).to_hex().to_string();
        let folder = world.path("usb/backup/packs").join(&id[..2]);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(id), bytes).unwrap();
    }
    world.ok(&["sync"]);
}

#[test]
fn a_mirror_on_the_repositorys_own_disk_is_said() {
    let (world, _, _) = world();
    let said = "offsite is on the same file system as the repository: when that disk fails, both are lost";
    world.ok(&["mirror", "remove", "offsite"]);
    let ran = world.ok(&["mirror", "add", "offsite", "mirror"]);
    assert!(ran.err.contains(said), "{}", ran.err);
    world.ok(&["sync"]);
    // A note: nothing that is done later makes it better, and the mirror is as good as was asked for.
    let ran = world.ok(&["status"]);
    assert!(
        plain(&ran.out).contains(&format!("  {said}.  Next: packstone mirror add NAME s3://BUCKET/PATH")),
        "{}",
        ran.out
    );
    let told = json(&world.ok(&["status", "--json"]));
    assert!(told["mirrors"][0]["same_file_system"] == true && told["overdue"] == false, "{told}");
    // Its disk is not mounted: where it would lie then is not asked.
    fs::rename(world.path("mirror"), world.path("unplugged")).unwrap();
    assert!(!world.ok(&["status"]).out.contains(said));
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
        println!("SKIPPED a_mirror_on_the_repositorys_own_disk_is_said: it needs another file system at /dev/shm");
        return;
    };
    let device = |path: &std::path::Path| std::os::unix::fs::MetadataExt::dev(&fs::metadata(path).unwrap());
    if device(other.path()) == device(&world.repository()) {
        println!("SKIPPED a_mirror_on_the_repositorys_own_disk_is_said: /dev/shm is no other file system");
        return;
    }
    world.ok(&["mirror", "remove", "offsite"]);
    let ran = world.ok(&["mirror", "add", "offsite", world.text(&other.path().join("mirror"))]);
    assert!(!ran.err.contains("same file system"), "{}", ran.err);
    world.ok(&["sync"]);
    assert!(!world.ok(&["status"]).out.contains("same file system"));
}
