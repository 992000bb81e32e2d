//! A git repository that is committed to, packed and pruned while it is backed up.
//!
//! A snapshot restores to a repository that `git fsck --full` finds whole and `git log` reads, or it is partial and names what it
//! lacks. It can fail in two ways. **Lost**: what was committed before the backup began is not there, or a branch, `HEAD` or
//! the index is missing. **Torn**: all of that is there, and something is newer than the objects that were stored before it, because
//! a tree is read one directory after the other and a commit came between. Later rounds of the backup are there to exclude it. Both are faults.

use std::path::Path;
use std::time::{Duration, Instant};

use super::told;
use super::world::{Place, World, full};

/// What git says, when it fails.
fn git(world: &World, at: &Path, words: &[&str]) -> Result<String, String> {
    let mut command = world.command(Path::new("git"), words);
    // The restored files are the same user's; git asks because the directories above are not.
    command.current_dir(at).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_OPTIONAL_LOCKS", "0");
    command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    let output = command.output().unwrap();
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let told: Vec<&str> = text.lines().filter(|line| !line.starts_with("dangling")).take(4).collect();
    Err(format!("git {}: {}", words.join(" "), told::cut(&told.join("; "))))
}

/// What was there at every moment: the names, and everything that the commit needs.
fn kept(world: &World, at: &Path, before: &str) -> Result<(), String> {
    for name in [".git/HEAD", ".git/config", ".git/index", ".git/objects", ".git/refs/heads"] {
        if !at.join(name).exists() {
            return Err(format!("{name} is missing"));
        }
    }
    for reference in ["refs/heads/main", "refs/heads/side-0", "refs/tags/kept"] {
        // Whether there is what it names is the next question.
        git(world, at, &["rev-parse", "--verify", reference])?;
    }
    git(world, at, &["rev-list", "--objects", before]).map(drop)
}

/// Everything that git needs to work with it again.
fn whole(world: &World, at: &Path) -> Result<(), String> {
    git(world, at, &["fsck", "--full"])?;
    git(world, at, &["log", "--oneline", "--all"])?;
    git(world, at, &["ls-files"]).map(drop)
}

#[test]
fn a_repository_under_git_comes_back_whole_or_is_partial() {
    let wanted = if full() { 50 } else { 5 };
    let root = rustix::process::getuid().is_root();
    let user = root.then_some(65_534);
    let world = match World::new(Place::Default, user) {
        Ok(world) => world,
        Err(why) => return println!("SKIPPED git under a backup: {why}"),
    };
    if let Err(why) = world.command(Path::new("git"), &["--version"]).output() {
        return println!("SKIPPED git under a backup: it needs git ({why})");
    }
    if let Err(why) = world.command(Path::new("setpriv"), &["--version"]).output() {
        return println!("SKIPPED git under a backup: it needs setpriv ({why})");
    }
    world.make_history();
    let mut committer = world.committer();
    let (mut good, mut partial, mut lost, mut torn) = (0, 0, 0, 0);
    let mut faults = Vec::new();
    let mut commits = 0;
    for number in 0..wanted {
        // A packed and pruned repository now and then, and always one that has moved on.
        let begun = Instant::now();
        let before = loop {
            // A soft reset and a commit are two steps: what HEAD is between them is kept by nothing but a log.
            match git(&world, &world.tree(), &["rev-parse", "--verify", "refs/tags/kept^{commit}"]) {
                Ok(commit) => break commit,
                Err(why) => assert!(begun.elapsed() < Duration::from_secs(60), "{why}"),
            }
        };
        let ran = world.backup();
        committer.expect_alive();
        let snapshot = match world.snapshot(&ran) {
            Ok(snapshot) => snapshot,
            Err(why) => {
                faults.push(format!("backup {number}: {why}"));
                continue;
            }
        };
        let restored = world.restored();
        let result = whole(&world, &restored);
        let kept = kept(&world, &restored, &before);
        let describe = |word: &str, why: String| {
            let notes: Vec<_> = snapshot.notes.iter().take(4).collect();
            format!("snapshot {number} ({}, exit code {}) is {word}: {why}; {notes:?}", snapshot.outcome, snapshot.exit)
        };
        match (kept, result) {
            (Ok(()), Ok(())) => good += 1,
            _ if snapshot.exit == 3 && !snapshot.notes.is_empty() => partial += 1,
            (Err(why), _) => {
                lost += 1;
                faults.push(describe("lost", why));
            }
            (Ok(()), Err(why)) => {
                torn += 1;
                faults.push(describe("torn", why));
            }
        }
        commits = git(&world, &world.tree(), &["rev-list", "--count", "main"]).map_or(commits, |n| n.parse().unwrap());
        world.clear();
    }
    drop(committer);
    println!(
        "git: {wanted} snapshots of a repository that came to {commits} commits: {good} whole, {partial} partial and named, {lost} lost, \
         {torn} torn"
    );
    assert!(commits > 45, "nobody committed: {commits}");
    assert!(faults.is_empty(), "{} of {wanted}:\n{}", faults.len(), faults.join("\n"));
}
