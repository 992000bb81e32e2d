//! Every command that reads a repository, on each of the hostile snapshots.

use std::fs;
use std::time::Duration;

use super::content::{self, CASES, Case};
use super::is_full;
use super::watched;
use super::world::World;

const COPY: [&str; 9] =
    ["--repo", "other", "--key-file", "other-key", "copy", "--from-repo", "repository", "--from-key-file", "key"];

/// True for a command that says of all of a snapshot's tree that it is well when it ends with 0.
fn answers_for_the_tree(words: &[&str]) -> bool {
    words == COPY
        || words.starts_with(&["check"])
        || words.starts_with(&["restore"])
        || words.starts_with(&["dump"])
        || words.starts_with(&["drill"])
}

/// True for one that goes through the whole tree, and makes a new one of it or says that there is nothing to make.
fn goes_through_the_tree(words: &[&str]) -> bool {
    words.starts_with(&["rewrite"]) || words.starts_with(&["repair", "snapshots"])
}

const COMMANDS: [&[&str]; 33] = [
    &["restore", "latest", "--target", "out", "--delete", "--dry-run"],
    &["repair", "snapshots", "--dry-run"],
    &["check"],
    &COPY,
    &["stats", "--mode", "raw-data", "latest"],
    &["dump", "latest", "/", "--target", "archive.tar"],
    &["prune", "--dry-run"],
    &["diff", "latest~1", "latest"],
    &["ls", "latest", "--recursive"],
    &["find", "nothing"],
    &["show", "latest"],
    &["rewrite", "--exclude", "nothing", "latest"],
    &["backup", "--host", "hostile", "tree"],
    &["deleted", "--host", "hostile"],
    &["snapshots", "--json"],
    &["status"],
    &["stats", "latest"],
    &["stats", "--mode", "files-by-contents", "latest"],
    &["stats", "--mode", "blobs-per-file", "latest"],
    &["diff", "latest", "./tree", "--content"],
    &["find", "--json", "*"],
    &["show", "latest", "--json"],
    &["repair", "snapshots"],
    &["repair", "index"],
    &["repair", "packs"],
    &["prune"],
    &["tag", "--add", "x", "latest"],
    &["forget", "latest"],
    &["sync"],
    &["recover", "offsite", "--to", "back"],
    &["drill", "offsite", "--to", "drills"],
    &["check", "--read-data"],
    &["restore", "latest", "--target", "out", "--delete", "--verify"],
];

/// Commands that would write, or send, gigabytes of one hostile file before anything can be wrong.
fn is_too_much(case: Case, words: &[&str]) -> bool {
    let fills = words == COPY || ["dump", "drill"].contains(&words[0]) || words.ends_with(&["--verify"]);
    case == Case::OneChunkAgain && fills
}

#[test]
fn every_command_on_every_hostile_snapshot() {
    let whole = World::new();
    let patience = Duration::from_millis(if is_full() { 8_000 } else { 800 });
    let (mut count, mut wrong, mut worst) = (0, Vec::new(), 0);
    let chosen: Option<String> = std::env::var("PACKSTONE_HOSTILE_CASE").ok();
    for (row, case) in CASES.into_iter().enumerate() {
        if chosen.as_ref().is_some_and(|chosen| *chosen != format!("{case:?}")) {
            continue;
        }
        let hostile = whole.copy();
        content::make(&hostile, case);
        if is_full() {
            hostile.command(&["sync"]).output().unwrap();
        }
        for (number, words) in COMMANDS.into_iter().enumerate() {
            // Each case with the first command, which plans a restore, and some of the others.
            if is_too_much(case, words) || !is_full() && number != 0 && number % CASES.len() != row % CASES.len() {
                continue;
            }
            let world = hostile.copy();
            fs::create_dir(world.path("out")).unwrap();
            let ended = watched::run(world.command(words), patience);
            count += 1;
            worst = worst.max(ended.memory_kib);
            // A plan does not read the content.
            let is_unread = case == Case::OneChunkAgain && words.contains(&"--dry-run") || words == ["check"];
            let answers = answers_for_the_tree(words) && !is_unread
                || goes_through_the_tree(words) && matches!(case, Case::Deep | Case::Laughs);
            let lies = ended.code == Some(0) && case.is_broken() && answers;
            if lies || ended.fault.is_some() {
                wrong.push(format!("{case:?}: {}", ended.shown()));
            }
            if is_full() {
                println!("{case:?}: {:.180}", ended.shown());
            }
        }
    }
    println!("{count} of {}: commands on hostile snapshots; at most {worst} KiB", CASES.len() * COMMANDS.len());
    assert!(wrong.is_empty(), "{} went wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
}
