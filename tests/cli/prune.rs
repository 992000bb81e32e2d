//! `prune` from outside: what it says, and real processes that are stopped, killed and overtaken.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::forget::ids;
use super::plain;
use super::reading::{flip, json, objects};
use super::support::{World, snapshot_id};

/// Bytes that do not shrink.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
    };
    (0..length / 8).flat_map(|_| next().to_le_bytes()).collect()
}

fn stored(world: &World) -> u64 {
    objects(world, "packs").iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

/// Two snapshots of which the first alone holds a large file.
fn world() -> (World, String, String) {
    let world = World::with_repository();
    world.write("large", noise(1, 6 << 20));
    let first = world.backup();
    fs::remove_file(world.tree().join("large")).unwrap();
    world.write("small", "small");
    let second = world.backup();
    (world, first, second)
}

#[test]
fn space_comes_back_when_the_grace_is_over_or_at_once() {
    let (world, first, second) = world();
    assert!(world.ok(&["prune"]).out.contains("Nothing to do"), "all is needed");
    let before = stored(&world);
    world.ok(&["forget", &first]);
    let dry = world.ok(&["prune", "--dry-run"]);
    assert!(dry.out.contains("would be marked: 6.4"), "{}", dry.out);
    let ran = world.ok(&["prune"]);
    assert!(ran.out.contains("that nothing needs marked: 6.4"), "{}", ran.out);
    assert!(ran.out.contains("free by the first prune after 20"), "{}", ran.out);
    assert!(plain(&ran.out).contains("Now: packstone prune --instant"), "{}", ran.out);
    assert_eq!(stored(&world), before, "nothing has gone yet");
    let back = world.ok(&["undelete", &first]);
    assert!(back.out.contains(&first[..8]), "{}", back.out);
    world.ok(&["restore", &first, "--target", "back", "--verify"]);
    let ran = world.ok(&["forget", &first, "--prune", "--instant"]);
    assert!(ran.out.contains("removed: 6.4"), "{}", ran.out);
    assert!(stored(&world) < 200_000, "{}", stored(&world));
    let ran = world.run(&["undelete", &first]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("was swept by prune: it cannot come back"), "{}", ran.err);
    assert_eq!(ids(&world), [second.as_str()]);
    world.ok(&["restore", &second, "--target", "second", "--verify"]);
    world.ok(&["check", "--read-data", "--with-cache"]);
    let again = json(&world.ok(&["prune", "--json"]));
    assert_eq!((again["message_type"].as_str(), again["waiting_bytes"].as_u64()), (Some("prune"), Some(0)), "{again}");
}

/// A pack of which little is needed is rewritten; what is needed stays readable, by a cache of before too.
#[test]
fn packs_of_which_little_is_needed_are_rewritten() {
    let world = World::with_repository();
    for number in 0..40 {
        world.write(&format!("{number:02}"), noise(number, 400_000));
    }
    let first = world.backup();
    for number in (0..40).filter(|number| number % 4 != 0) {
        fs::remove_file(world.tree().join(format!("{number:02}"))).unwrap();
    }
    let second = world.backup();
    let before = stored(&world);
    world.ok(&["forget", &first]);
    let kept = world.ok(&["prune", "--max-unused", "unlimited", "--instant"]);
    assert!(kept.out.contains("stay unused"), "{}", kept.out);
    assert!(stored(&world) > before - 50_000, "{}", kept.out);
    let ran = world.ok(&["prune", "--instant", "-v"]);
    assert!(ran.out.contains("unused: rewritten") && ran.out.contains("rewritten: 16"), "{}", ran.out);
    let after = stored(&world);
    assert!(after < 4_600_000 && after > 4_000_000, "{before} -> {after}");
    world.ok(&["restore", &second, "--target", "back", "--verify"]);
    world.ok(&["check", "--read-data", "--with-cache"]);
    // The segments that list what is gone are replaced, and then there is nothing more to do.
    world.ok(&["prune", "--instant"]);
    let ran = world.ok(&["prune"]);
    assert!(ran.out.contains("Nothing to do"), "{}", ran.out);
}

/// What is moved out of a pack is checked, and the whole pack as well: a bit in a block that nothing needs, or in the padding,
/// ends it too.
#[test]
fn a_pack_that_is_rewritten_must_be_whole() {
    let world = World::with_repository();
    for number in 0..20 {
        world.write(&format!("{number:02}"), noise(number, 400_000));
    }
    let first = world.backup();
    for number in 4..20 {
        fs::remove_file(world.tree().join(format!("{number:02}"))).unwrap();
    }
    let second = world.backup();
    world.ok(&["forget", &first]);
    let is_large = |path: &std::path::PathBuf| fs::metadata(path).unwrap().len() > 4_000_000;
    let path = objects(&world, "packs").into_iter().find(is_large).unwrap();
    let pack = json(&world.ok(&["cat", "pack", path.file_name().unwrap().to_str().unwrap(), "--json"]));
    let blocks = pack["blocks"].as_array().unwrap();
    let offsets = blocks.iter().map(|block| block["offset"].as_u64().unwrap() + 1_000);
    let positions: Vec<u64> = offsets.chain([fs::metadata(&path).unwrap().len() - 33]).collect();
    assert!(positions.len() >= 4, "{pack}");
    for position in positions {
        flip(&path, &[position]);
        let ran = world.run(&["prune", "--instant"]);
        assert_eq!(ran.code, Some(17), "byte {position}: {}", ran.err);
        assert!(ran.err.contains("damaged: packs/"), "{}", ran.err);
        assert!(path.exists(), "byte {position}");
        flip(&path, &[position]);
    }
    world.ok(&["prune", "--instant"]);
    assert!(!path.exists(), "it was rewritten");
    world.ok(&["restore", &second, "--target", "back", "--verify"]);
    world.ok(&["check", "--read-data", "--with-cache"]);
}

#[test]
fn damage_ends_it_before_anything_is_marked() {
    let (world, first, _) = world();
    world.ok(&["forget", &first]);
    super::reading::spoil_packs(&world, "tree");
    let ran = world.run(&["prune", "--instant"]);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
    assert!(ran.err.contains("damaged: packs/"), "{}", ran.err);
    assert!(stored(&world) > 6_000_000, "nothing was removed");
}

/// A repair marks packs that are gone. When they are back they may be the only copy of what snapshots need: a prune sweeps nothing
/// before it has found everything that they need somewhere else.
#[test]
fn packs_that_are_back_are_not_swept_while_snapshots_need_them() {
    let (world, _, second) = world();
    let (packs, away) = (world.path("repository/packs"), world.path("away"));
    fs::rename(&packs, &away).unwrap();
    assert_eq!(world.run(&["repair", "index"]).code, Some(17));
    fs::remove_dir_all(&packs).unwrap_or_default();
    fs::rename(&away, &packs).unwrap();
    let before = objects(&world, "packs");
    assert!(before.len() >= 3, "{before:?}");
    for words in [&["prune", "--instant"][..], &["forget", "--keep-last", "5", "--prune", "--instant"], &["prune"]] {
        let ran = world.run(words);
        assert_eq!(ran.code, Some(17), "{words:?} {}", ran.err);
        assert_eq!(objects(&world, "packs"), before, "{words:?} removed packs");
    }
    world.ok(&["repair", "index", "--read-all-packs"]);
    world.ok(&["prune", "--instant"]);
    world.ok(&["restore", &second, "--target", "back", "--verify"]);
    world.ok(&["check", "--read-data"]);
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}

/// Waits until the process has read all that was written to it.
fn drained(child: &Child) {
    let wchan = format!("/proc/{}/io", child.id());
    let read = || fs::read_to_string(&wchan).unwrap_or_default();
    let (mut last, began) = (read(), Instant::now());
    loop {
        std::thread::sleep(Duration::from_millis(150));
        let now = read();
        if now == last || began.elapsed() > Duration::from_secs(60) {
            return;
        }
        last = now;
    }
}

/// Story: a backup was suspended after it had decided which chunks need not be stored again. Meanwhile the snapshot that held
/// them was forgotten, the repository was pruned, and the clock jumped. The backup went on and published a snapshot
/// of chunks that were gone.
#[test]
fn a_stopped_backup_keeps_what_it_relies_on() {
    let world = World::with_repository();
    let content = noise(3, 24 << 20);
    let backup = || {
        let mut command = world.command(&["backup", "--json", "--stdin", "--stdin-filename", "dump"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(&content).unwrap();
        (child, pipe)
    };
    let end = |child: Child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        snapshot_id(&output.into())
    };
    let (child, pipe) = backup();
    drop(pipe);
    let first = end(child);
    let packs = objects(&world, "packs");

    let (child, pipe) = backup();
    drained(&child);
    signal(&child, "STOP");
    world.ok(&["forget", &first]);
    let ran = world.ok(&["prune", "--instant"]);
    assert!(ran.out.contains("marked: 25"), "{}", ran.out);
    assert!(
        ran.out.contains(&format!("backup, PID {}", child.id())),
        "the one that is waited for is named: {}",
        ran.out
    );
    let later = |words: &[&str]| {
        let mut command = Command::new("faketime");
        let plain = world.command(words);
        command.arg("+10 years").arg(plain.get_program()).args(plain.get_args()).current_dir(world.path("."));
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.output()
    };
    match later(&["prune"]) {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => eprintln!("SKIPPED: a clock ten years ahead: faketime: {error}"),
    }
    assert!(packs.iter().all(|pack| pack.exists()), "nothing that it relies on was removed");
    signal(&child, "CONT");
    drop(pipe);
    let second = end(child);
    let dumped = world.command(&["dump", &second, "/dump"]).output().unwrap();
    assert!(dumped.status.success() && dumped.stdout == content);
    world.ok(&["prune", "--instant"]);
    let dumped = world.command(&["dump", &second, "/dump"]).output().unwrap();
    assert!(dumped.status.success() && dumped.stdout == content);
    world.ok(&["check", "--read-data"]);
}

/// While a backup runs a prune marks, and says that it left the rewriting out; a restore goes on.
#[test]
fn a_prune_beside_a_backup_marks_and_does_not_rewrite() {
    let world = World::with_repository();
    for number in 0..20 {
        world.write(&format!("{number:02}"), noise(number, 400_000));
    }
    let first = world.backup();
    for number in (0..20).filter(|number| number % 4 != 0) {
        fs::remove_file(world.tree().join(format!("{number:02}"))).unwrap();
    }
    let second = world.backup();
    world.ok(&["forget", &first]);
    let mut command = world.command(&["backup", "--stdin", "--stdin-filename", "x"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(b"something").unwrap();
    drained(&child);
    let ran = world.ok(&["prune", "--instant"]);
    assert!(ran.err.contains("packs were not rewritten") && ran.err.contains("PID"), "{} {}", ran.out, ran.err);
    world.ok(&["restore", &second, "--target", "back", "--verify"]);
    drop(pipe);
    assert!(child.wait().unwrap().success());
    let ran = world.ok(&["prune", "--instant"]);
    assert!(ran.out.contains("rewritten"), "{}", ran.out);
    world.ok(&["check", "--read-data"]);
}
