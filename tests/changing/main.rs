//! A source that does not keep still: files, links, pipes and directories are replaced, linked, exchanged, moved, cut and
//! grown, all at once, while `packstone backup` runs again and again.
//!
//! Promised: a name that exists at every moment is in the snapshot, or the snapshot is partial (exit code 3) and names it. What
//! is only ever replaced by a rename comes back as it was at one moment of the backup. When it is quiet again, the next
//! backup holds what is there, byte for byte. [`told`] has the rules, `writer.py` what is done to the tree; [`git`] does
//! the same to a repository that people commit to.
//!
//! The short form takes some seconds, `PACKSTONE_FULL=1` ten minutes; as root each place is also tried as user 65534. The seed of
//! the writers is printed; `PACKSTONE_SEED` sets it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

mod control;
mod git;
mod told;
#[path = "../support/tree.rs"]
mod tree;
mod world;

use told::{Judge, Tally};
use world::{Place, World, full, seed};

/// What runs at once.
const PARTS: [&str; 5] = ["replaced", "linked", "exchanged", "moved", "loose"];

/// Backs up until the time is over; every snapshot is judged. Then everything stands still, and one more is exact.
fn trial(place: Place, user: Option<u32>, seed: u64, long: Duration) -> Option<Vec<String>> {
    let who = user.map_or_else(|| "whoever runs the tests".to_owned(), |user| format!("user {user}"));
    let world = World::new(place, user)
        .inspect_err(|why| println!("SKIPPED a changing tree on {}: {why}", place.word()))
        .ok()?;
    world.python(&["make", world.text(&world.tree()), &seed.to_string()]);
    let judge = Judge::of(&world.tree());
    let mut writers = Vec::new();
    for part in PARTS {
        writers.push(world.writer(&[part, world.text(&world.tree()), &seed.to_string()]));
    }
    let mut tally = Tally::default();
    let mut faults = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < long || tally.snapshots < 3 {
        let before = judge.generations(&world.tree());
        let ran = world.backup();
        let after = judge.generations(&world.tree());
        let number = tally.snapshots;
        match world.snapshot(&ran) {
            Ok(snapshot) => {
                let found = judge.faults(&snapshot, &before, &after, &mut tally);
                faults.extend(found.into_iter().map(|fault| format!("snapshot {number}: {fault}")));
            }
            Err(why) => faults.push(format!("backup {number}: {why}")),
        }
        for writer in &mut writers {
            writer.expect_alive();
        }
        assert!(faults.len() < 5_000, "there is no end of it: {:#?}", &faults[..20]);
        tally.snapshots += 1;
        world.clear();
    }
    drop(writers);
    faults.extend(quiet(&world));
    println!(
        "on {}, as {who}: {}; {} of {} snapshots are without a fault",
        place.word(),
        tally,
        tally.sound(&faults),
        tally.snapshots
    );
    Some(faults.into_iter().map(|fault| format!("{}, {who}: {fault}", place.word())).collect())
}

/// What is there is what the next backup holds.
fn quiet(world: &World) -> Vec<String> {
    let ran = world.backup();
    let mut faults = match world.snapshot(&ran) {
        Ok(snapshot) if snapshot.outcome == "complete" => Vec::new(),
        Ok(snapshot) => vec![format!("at rest: the snapshot is {}: {:?}", snapshot.outcome, snapshot.notes)],
        Err(why) => vec![format!("at rest: {why}")],
    };
    if world.restored().exists() {
        let differences = tree::differences(&world.tree(), &world.restored());
        faults.extend(differences.into_iter().map(|difference| format!("at rest: {}", told::cut(&difference))));
    }
    world.clear();
    let check = world.run(&["check", "--read-data"]);
    if check.code != Some(0) {
        faults.push(format!("check --read-data: {:?} {}", check.code, check.err));
    }
    faults
}

#[test]
fn names_that_are_always_there_are_stored_or_named() {
    let seed = seed();
    let root = rustix::process::getuid().is_root();
    let mut faults = Vec::new();
    let runs: Vec<(Place, Option<u32>)> = if root {
        vec![
            (Place::Default, None),
            (Place::Tmpfs, Some(65_534)),
            (Place::Btrfs, None),
            (Place::Default, Some(65_534)),
            (Place::Tmpfs, None),
            (Place::Btrfs, Some(65_534)),
        ]
    } else {
        println!("SKIPPED a changing tree as root: it needs root");
        vec![(Place::Default, None), (Place::Tmpfs, None)]
    };
    // The short form takes the first three: each place once, and each user.
    let runs = if full() { &runs[..] } else { &runs[..runs.len().min(3)] };
    let long = if full() { Duration::from_secs(600) / runs.len() as u32 } else { Duration::from_millis(2_500) };
    for (number, (place, user)) in runs.iter().enumerate() {
        faults.extend(trial(*place, *user, seed.wrapping_add(number as u64), long).unwrap_or_default());
    }
    assert!(
        faults.is_empty(),
        "{} faults, seed {seed}; the first:\n{}",
        faults.len(),
        faults[..faults.len().min(25)].join("\n")
    );
}
