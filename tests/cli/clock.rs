//! Clocks that are wrong: which snapshot is the newest, and how old it is, by every command. Each run is given a clock with
//! faketime; the files keep the kernel's times, as on a machine whose clock was set right in between.

use std::process::Command;

use super::Ran;
use super::reading::json;
use super::support::{World, snapshot_id};

/// Runs the program with another clock; none without faketime.
fn at(world: &World, clock: &str, words: &[&str]) -> Option<Ran> {
    let program = world.command(words);
    let mut command = Command::new("faketime");
    command.arg(clock).arg(program.get_program()).args(program.get_args()).env_clear().current_dir(world.path(""));
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    match command.output() {
        Ok(output) => Some(output.into()),
        Err(error) => {
            eprintln!("SKIPPED clock: faketime: {error}");
            None
        }
    }
}

/// Two snapshots: "old", made with the clock at the given time, then "new" with the right clock.
fn world(clock: &str) -> Option<(World, String, String)> {
    let world = World::with_repository();
    world.write("f", "old");
    let ran = at(&world, clock, &["backup", "--json", "tree"])?;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let old = snapshot_id(&ran);
    world.write("f", "new!");
    let new = world.backup();
    Some((world, old, new))
}

fn ids(ran: &Ran) -> Vec<String> {
    json(ran).as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_snapshot_from_a_clock_that_was_ahead_is_never_the_newest() {
    let Some((world, old, new)) = world("2099-06-01 00:00:00") else { return };
    assert_eq!(world.ok(&["dump", "latest", "tree/f"]).out, "new!");
    assert_eq!(world.ok(&["dump", "latest~1", "tree/f"]).out, "old");
    assert_eq!(json(&world.ok(&["show", "--json", "latest"]))["id"], new.as_str());
    world.ok(&["restore", "latest", "--target", "back"]);
    assert_eq!(std::fs::read(world.path("back/tree/f")).unwrap(), b"new!");
    let diff = world.ok(&["diff", "latest~1", "latest"]).out;
    assert!(diff.contains(&format!("comparing snapshot {} to {}", &old[..8], &new[..8])), "{diff}");
    let found = world.ok(&["find", "f"]).out;
    assert!(found.find(&new[..8]).unwrap() < found.find(&old[..8]).unwrap(), "the newest first: {found}");
    assert!(world.ok(&["ls", "latest"]).out.contains(&new[..8]));
    // The list: in its order, with what is in doubt, and why.
    assert_eq!(ids(&world.ok(&["snapshots", "--json"])), [old.clone(), new.clone()]);
    assert_eq!(ids(&world.ok(&["snapshots", "--json", "--latest", "1"])), [new.as_str()]);
    let list = json(&world.ok(&["snapshots", "--json"]));
    assert!(list[0]["time_in_doubt"] == "ahead" && list[1].get("time_in_doubt").is_none(), "{list}");
    let text = world.ok(&["snapshots"]).out;
    assert!(text.contains("! time in doubt"), "{text}");
    assert!(text.contains(&format!("! the time of {} is ahead of this machine's clock", &old[..8])), "{text}");
    // The next backup compares with the newest, also when latest is named as its parent.
    for words in [&["backup", "--json", "-n", "tree"][..], &["backup", "--json", "-n", "tree", "--parent", "latest"]] {
        let ran = world.ok(words);
        let summary: serde_json::Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
        assert_eq!(summary["files_unmodified"].as_u64().unwrap() + summary["files_changed"].as_u64().unwrap(), 1);
        assert_eq!(summary["files_new"], 0, "{words:?}: {}", ran.out);
    }
    let next = world.backup();
    assert_eq!(json(&world.ok(&["show", "--json", &next]))["parent"], new.as_str());
    world.ok(&["backup", "--parent", "latest~1", "tree"]);
    let last = json(&world.ok(&["show", "--json", "latest"]));
    assert_eq!(last["parent"], new.as_str());
    world.ok(&["forget", "--keep-last", "1"]);
    let left = ids(&world.ok(&["snapshots", "--json"]));
    assert_eq!(
        left,
        [old, last["id"].as_str().unwrap().to_owned()],
        "what is ahead is not removed, and takes no place"
    );
}

#[test]
fn status_says_how_old_the_newest_is_whatever_the_clocks_say() {
    let Some((world, old, new)) = world("2099-06-01 00:00:00") else { return };
    let ran = world.ok(&["status"]);
    assert!(
        ran.out.contains(&format!("the time of snapshot {} is ahead of this machine's clock", &old[..8])),
        "{}",
        ran.out
    );
    let ran = at(&world, "2031-11-29 00:00:00", &["status"]).unwrap();
    assert_eq!(ran.code, Some(18), "{}", ran.out);
    assert!(ran.out.contains(&format!("the newest complete snapshot, {}, is ", &new[..8])), "{}", ran.out);
    let told = json(&at(&world, "2031-11-29 00:00:00", &["status", "--json"]).unwrap());
    assert!(told["sources"][0]["age_seconds"].as_u64().unwrap() > 3 * 365 * 86_400, "{told}");
    assert_eq!(told["sources"][0]["newest_complete"], &new[..8]);
    // A dead clock here: nothing is known, and that is not "nothing is overdue".
    let ran = at(&world, "1970-01-05 00:00:00", &["status"]).unwrap();
    assert_eq!(ran.code, Some(18), "{}", ran.out);
    assert!(
        ran.out.contains("is of an age that cannot be determined: its time is ahead of this machine's clock"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("the times of 2 snapshots are ahead of this machine's clock"), "{}", ran.out);
    let told = json(&at(&world, "1970-01-05 00:00:00", &["status", "--json"]).unwrap());
    assert!(told["sources"][0]["age_seconds"].is_null(), "{told}");
    assert_eq!(told["sources"][0]["newest_complete_time_in_doubt"], "ahead");
    assert_eq!(at(&world, "1970-01-05 00:00:00", &["dump", "latest", "tree/f"]).unwrap().out, "new!");
}

/// One snapshot alone, from a clock that was ahead: it is the newest, and nobody knows how old it is.
#[test]
fn a_snapshot_alone_and_ahead_is_overdue() {
    let world = World::with_repository();
    world.write("f", "x");
    let Some(ran) = at(&world, "2099-06-01 00:00:00", &["backup", "tree"]) else { return };
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let ran = world.run(&["status"]);
    assert!(ran.code == Some(18) && ran.out.contains("age that cannot be determined"), "{}", ran.out);
    assert!(ran.out.contains("unknown"), "{}", ran.out);
    assert_eq!(world.ok(&["dump", "latest", "tree/f"]).out, "x");
}

/// A clock that fell back to 1970 after a night without power.
#[test]
fn a_snapshot_from_a_dead_clock_is_the_newest_when_it_arrived_last() {
    let world = World::with_repository();
    for (content, clock) in [("one", "2025-01-01"), ("two", "2025-01-02"), ("three!", "1970-01-05")] {
        world.write("f", content);
        let Some(ran) = at(&world, &format!("{clock} 12:00:00"), &["backup", "tree"]) else { return };
        assert_eq!(ran.code, Some(0), "{}", ran.err);
    }
    assert_eq!(world.ok(&["dump", "latest", "tree/f"]).out, "three!");
    assert_eq!(world.ok(&["dump", "latest~2", "tree/f"]).out, "one");
    let text = world.ok(&["snapshots"]).out;
    assert!(text.contains("is contradicted by the order in which the snapshots were stored"), "{text}");
    // It may be as old as the one before it.
    let ran = world.run(&["status"]);
    assert!(ran.code == Some(18) && ran.out.contains("may be ") && ran.out.contains("or less"), "{}", ran.out);
    // Of what is gone since, the newest says it.
    world.write("other", "x");
    std::fs::remove_file(world.tree().join("f")).unwrap();
    world.backup();
    let deleted = world.ok(&["deleted"]).out;
    assert!(deleted.contains("tree/f"), "{deleted}");
}

#[test]
fn a_drill_and_a_mirror_take_the_newest_and_know_its_age() {
    let Some((world, _, new)) = world("2099-06-01 00:00:00") else { return };
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    world.ok(&["sync"]);
    let told = json(&world.ok(&["drill", "--to", "drills", "--keep", "--json"]));
    assert!(told["passed"] == true && told["data_age_seconds"].as_u64().unwrap() < 3_600, "{told}");
    let kept = std::path::Path::new(told["kept"].as_str().unwrap()).join("restored").join(&new[..8]).join("tree/f");
    assert_eq!(std::fs::read(kept).unwrap(), b"new!");
    assert_eq!(world.ok(&["dump", "--from", "offsite", "latest", "tree/f"]).out, "new!");
    let told = json(&at(&world, "2031-01-01 00:00:00", &["drill", "--to", "drills", "--json"]).unwrap());
    assert!(told["data_age_seconds"].as_u64().unwrap() > 3 * 365 * 86_400, "{told}");
    // Once the clock is back, a sync and a drill of the future say nothing about now.
    world.write("f", "newer");
    world.backup();
    let told = json(&world.run(&["status", "--json"]));
    let sentences: Vec<&str> =
        told["complaints"].as_array().unwrap().iter().map(|one| one["sentence"].as_str().unwrap()).collect();
    let ahead = "offsite: the last drill was at a time ahead of this machine's clock";
    assert!(sentences.contains(&ahead) && told["overdue"] == true, "{told}");
}

/// Story: all backups but the last were tagged, the clock fell back, and the newest was taken for the oldest: the rules would have
/// removed it. What was made from another snapshot, or claims a time, said nothing about clocks.
#[test]
fn a_clock_that_fell_back_does_not_hide_the_newest_behind_tagged_ones() {
    let world = World::with_repository();
    for content in ["one", "two", "three!"] {
        world.write("f", content);
        world.backup();
    }
    world.ok(&["tag", "--add", "keep"]);
    world.write("f", "newest");
    let Some(ran) = at(&world, "2020-01-01 12:00:00", &["backup", "tree"]) else { return };
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(world.ok(&["dump", "latest", "tree/f"]).out, "newest");
    world.ok(&["forget", "--keep-last", "1", "--group-by", ""]);
    assert_eq!(world.ok(&["dump", "latest", "tree/f"]).out, "newest");
}
