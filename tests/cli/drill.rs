//! Drills as a person holds them: what comes back from a mirror is compared, timed, remembered, and removed again.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use super::reading::{json, lines};
use super::support::{World, files_beneath};

/// A repository of two sources with a mirror that is up to date. Nothing of the machine is needed by a drill: it is all moved away.
fn world() -> World {
    let world = World::with_repository();
    for number in 0..60 {
        world.write(&format!("letters/{number}"), format!("letter {number}\n").repeat(500));
    }
    fs::set_permissions(world.tree().join("letters/7"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("letters/7", world.tree().join("seven")).unwrap();
    world.backup();
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    world.ok(&["sync"]);
    world
}

/// No folder of a drill is left.
fn clean(world: &World) {
    let left = fs::read_dir(world.path("drills")).into_iter().flatten().count();
    assert_eq!(left, 0, "something was left");
}

#[test]
fn a_drill_brings_everything_back_and_leaves_nothing() {
    let world = world();
    let ran = world.ok(&["drill", "--to", "drills", "--json"]);
    let told = json(&ran);
    assert_eq!(
        (told["passed"].as_bool(), told["snapshots"].as_u64(), told["files"].as_u64()),
        (Some(true), Some(1), Some(60))
    );
    assert_eq!(told["not_proven_percent"].as_f64(), Some(0.0), "{told}");
    assert!(told["seconds_to_first_file"].as_f64() <= told["seconds_to_complete"].as_f64(), "{told}");
    assert!(told["fetched_bytes"].as_u64().unwrap() > 1000 && told["kept"].is_null(), "{told}");
    clean(&world);
    let ran = world.ok(&["drill", "offsite", "--to", "drills"]);
    assert!(ran.out.contains("offsite  PASSED  first file "), "{}", ran.out);
    assert!(ran.out.contains("60 files of 1 snapshot and all metadata identical"), "{}", ran.out);
    assert!(ran.out.contains("| cleaned up\nlast 2: 2 of 2 passed"), "{}", ran.out);
    let ran = world.ok(&["drill", "history"]);
    assert!(ran.out.contains("last 2: 2 passed; last full drill"), "{}", ran.out);
    clean(&world);
}

/// Neither the repository, nor the cache, nor what this machine remembers is needed, and none of them is written.
#[test]
fn a_drill_knows_what_a_blank_machine_knows() {
    let world = world();
    let mirror = world.path("mirror");
    for lost in ["repository", "home/.cache", "home/.local/state"] {
        let _ = fs::rename(world.path(lost), world.path(&format!("{}-lost", lost.replace('/', "-"))));
    }
    let ran = world.ok(&["drill", world.text(&mirror), "--to", "drills", "--json"]);
    assert_eq!(json(&ran)["passed"].as_bool(), Some(true));
    assert!(!world.path("repository").exists() && !world.path("home/.cache").exists());
    clean(&world);
    // It is remembered, for the repository that the mirror says it is.
    let ran = world.ok(&["drill", "history", "--json"]);
    let rows = lines(&ran.out);
    assert_eq!((rows.len(), rows[0]["outcome"].as_str()), (2, Some("passed")));
    // A wrong secret is the person's mistake.
    let mut command = world.bare(&["drill", world.text(&mirror), "--to", "drills"]);
    let ran: super::Ran = command.env("PACKSTONE_PASSWORD", "wrong").output().unwrap().into();
    assert_eq!(ran.code, Some(12), "{}", ran.err);
    clean(&world);
}

#[test]
fn a_share_is_chosen_by_its_seed() {
    let world = world();
    let drill = |seed: &str| json(&world.ok(&["drill", "--sample", "10%", "--seed", seed, "--to", "drills", "--json"]));
    let (one, again) = (drill("1"), drill("1"));
    let files = one["files"].as_u64().unwrap();
    assert!((1..30).contains(&files), "{one}");
    assert_eq!((&one["files"], &one["bytes"], &one["seed"]), (&again["files"], &again["bytes"], &again["seed"]));
    assert!(one["not_proven_percent"].as_f64().unwrap() > 50.0, "{one}");
    // However small the share, it is one file at least.
    let ran = world.ok(&["drill", "--sample", "0.001", "--to", "drills"]);
    assert!(ran.out.contains("not proven: "), "{}", ran.out);
    assert!(ran.out.contains("no full drill yet"), "{}", ran.out);
    let ran = world.ok(&["drill", "--path", "tree/letters/3", "--to", "drills", "--json"]);
    assert_eq!(json(&ran)["files"].as_u64(), Some(1));
    clean(&world);
}

#[test]
fn a_check_command_looks_at_what_came_back() {
    let world = world();
    let ran = world.ok(&["drill", "--to", "drills", "--check-command", "test -s tree/letters/7"]);
    assert!(ran.out.contains("PASSED"), "{}", ran.out);
    let ran = world.run(&["drill", "--to", "drills", "--check-command", "test -e tree/letters/61"]);
    assert_eq!(ran.code, Some(19), "{}", ran.err);
    assert!(
        ran.out.contains("FAILED") && ran.out.contains("the check command test failed: exit status: 1"),
        "{}",
        ran.out
    );
    let ran = world.run(&["drill", "--to", "drills", "--check-command", "no-such-program"]);
    assert!(ran.code == Some(19) && ran.out.contains("cannot be run"), "{}", ran.out);
    clean(&world);
    let ran = world.ok(&["drill", "--to", "drills", "--keep", "--json"]);
    let kept = json(&ran)["kept"].as_str().unwrap().to_owned();
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o700);
    let restored = fs::read_dir(format!("{kept}/restored")).unwrap().next().unwrap().unwrap().path();
    assert!(restored.join("tree/letters/59").exists());
}

/// Whatever is wrong on the mirror, the drill says so, with exit code 19, and is counted.
#[test]
fn a_damaged_mirror_fails_its_drill() {
    let world = world();
    let packs: Vec<_> = files_beneath(&world.path("mirror/packs"));
    for (index, pack) in packs.iter().enumerate() {
        let whole = fs::read(pack).unwrap();
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::set_permissions(pack, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(pack, &bytes).unwrap();
        let ran = world.run(&["drill", "--to", "drills"]);
        assert_eq!(ran.code, Some(19), "{index}: {} {}", ran.out, ran.err);
        fs::remove_file(pack).unwrap();
        let ran = world.run(&["drill", "--to", "drills", "--sample", "100"]);
        assert_eq!(ran.code, Some(19), "{index}: {} {}", ran.out, ran.err);
        fs::write(pack, &whole).unwrap();
        clean(&world);
    }
    let ran = world.ok(&["drill", "--to", "drills"]);
    let held = 2 * packs.len() + 1;
    assert!(ran.out.contains(&format!("last {held}: 1 of {held} passed")), "{}", ran.out);
    let ran = world.ok(&["drill", "history", "--json"]);
    assert!(lines(&ran.out).iter().any(|row| row["outcome"] == "failed" && row["reason"].as_str().is_some()));
    // A mirror that is not there fails, too.
    fs::rename(world.path("mirror"), world.path("unmounted")).unwrap();
    let ran = world.run(&["drill", "--to", "drills"]);
    assert_ne!(ran.code, Some(0), "{}", ran.out);
    clean(&world);
}

/// A disk of 200 kB in memory, mounted for as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(world: &World) -> Option<Self> {
        let place = world.path("small");
        fs::create_dir(&place).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=200k", "none"]).arg(&place).output();
        if mount.is_ok_and(|ran| ran.status.success()) {
            return Some(Self(place));
        }
        println!("skipped: a full disk, for nothing can be mounted here");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// What keeps a drill from being held says nothing of the mirror: it is recorded apart, and the rate of those that were held stays.
#[test]
fn a_drill_that_cannot_be_held_is_no_failed_one() {
    let world = world();
    world.ok(&["drill", "--to", "drills"]);
    let other = World::with_repository();
    let wrong = other.key();
    let key = ["--key-file", other.text(&wrong)];
    let small = SmallDisk::mount(&world);
    let mut cases = vec![
        (vec!["--path", "tree/letetrs/7"], 21, "letetrs"),
        (vec!["--snapshot", "00000000"], 21, "00000000"),
        (key.to_vec(), 12, "another key opens it"),
    ];
    if let Some(SmallDisk(disk)) = &small {
        cases.push((vec!["--to", world.text(disk)], 21, "are free there"));
    }
    for (words, code, says) in cases {
        let to = if words.contains(&"--to") { vec![] } else { vec!["--to", "drills"] };
        let ran = world.run(&[vec!["drill"], to, words.clone()].concat());
        assert_eq!(ran.code, Some(code), "{words:?}: {} {}", ran.out, ran.err);
        assert!(ran.err.contains(says), "{words:?}: {}", ran.err);
        let last = lines(&world.ok(&["drill", "history", "--json"]).out).remove(0);
        assert_eq!(last["outcome"], "not held", "{words:?}: {last}");
        let history = world.ok(&["drill", "history"]);
        assert!(history.out.contains("last 1: 1 passed") && history.out.contains("not held: "), "{}", history.out);
        let status = world.run(&["status"]);
        assert!(!status.out.contains("the last drill failed"), "{}", status.out);
    }
    clean(&world);
}

/// What was killed is cleaned up by the next drill; what runs is not.
#[test]
fn a_killed_drill_is_cleaned_up_by_the_next() {
    let world = world();
    let mut command = world.command(&["drill", "--to", "drills", "--check-command", "sleep 60"]);
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let restored = || files_beneath(&world.path("drills")).iter().any(|path| path.ends_with("seven"));
    while !restored() {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    world.ok(&["drill", "--to", "drills"]);
    assert!(restored(), "the running one was taken away");
    child.kill().unwrap();
    child.wait().unwrap();
    world.ok(&["drill", "--to", "drills"]);
    clean(&world);
    let ran = world.ok(&["drill", "history"]);
    assert!(ran.out.contains("did not end"), "{}", ran.out);
}

/// Anybody may write into the directory where drills are held: what lies there under such a name is not believed.
#[test]
fn a_folder_of_somebody_else_is_let_alone() {
    let world = world();
    let (open, link, linked) = ("packstone-drill-open", "packstone-drill-link", world.path("linked"));
    for folder in [world.path("drills").join(open), linked.clone()] {
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    }
    // Who opens a pipe that nobody reads waits for ever.
    let pipe = world.path("drills").join(open).join("lock");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::write(linked.join("lock"), "").unwrap();
    symlink(&linked, world.path("drills").join(link)).unwrap();
    world.ok(&["drill", "--to", "drills"]);
    assert!(fs::symlink_metadata(pipe).is_ok() && linked.join("lock").exists());
    assert_eq!(fs::read_dir(world.path("drills")).unwrap().count(), 2);
}

#[test]
fn several_mirrors_are_drilled_in_turn() {
    let world = world();
    world.ok(&["mirror", "add", "second", "mirror-2"]);
    world.ok(&["sync", "second"]);
    let ran = world.run(&["drill", "--to", "drills"]);
    assert!(ran.code == Some(2) && ran.err.contains("say --all"), "{}", ran.err);
    fs::remove_dir_all(world.path("mirror/packs")).unwrap();
    let ran = world.run(&["drill", "--all", "--to", "drills"]);
    assert_eq!(ran.code, Some(19), "{}", ran.err);
    assert!(ran.out.contains("second  PASSED"), "{} {}", ran.out, ran.err);
    let empty = World::with_repository();
    let ran = empty.run(&["drill"]);
    assert!(ran.code == Some(2) && ran.err.contains("there is no mirror to drill"), "{}", ran.err);
    clean(&world);
}
