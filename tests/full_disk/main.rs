//! A disk that is full: whatever room is left, the program says the truth, loses nothing, can forget and prune, and goes on
//! when there is room again.
//!
//! The repository lies in a tmpfs whose free space goes from nothing to a little more than a backup needs, in steps of 64 KiB. At
//! each step: a backup, whose exit code must be true; every snapshot that was there restores; `forget` and `prune --instant` work,
//! also when somebody else takes the room that is free between the two; with the room that they made the next backup succeeds; all
//! that is live restores. Then the same without the ballast, the room that
//! the program sets aside while there is enough: there `forget` may say that the disk is full, and works when it is no more.
//! The short form takes every sixteenth step, `PACKSTONE_FULL=1` all of them. Mounting needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const STEP: u64 = 64 << 10;
/// What the next backup adds does not shrink; a pack has 4 MiB.
const ADDED: usize = 9 << 20;
/// What the snapshot that is forgotten has for itself.
const FORGOTTEN: usize = 11 << 20;

/// The tmpfs, unmounted in the end.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&at).unwrap();
        system("mount", &["-t", "tmpfs", "-o", "size=256m,mode=700", "packstone-test", at.to_str().unwrap()])?;
        Ok(Self(at))
    }

    fn resize(&self, bytes: u64) {
        system("mount", &["-o", &format!("remount,size={bytes}"), self.0.to_str().unwrap()]).unwrap();
    }

    /// Used and free bytes.
    fn room(&self) -> (u64, u64) {
        let found = rustix::fs::statvfs(&self.0).unwrap();
        ((found.f_blocks - found.f_bfree) * found.f_frsize, found.f_bavail * found.f_frsize)
    }

    fn leave_free(&self, bytes: u64) {
        self.resize(self.room().0 + bytes);
        assert_eq!(self.room().1, bytes);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = system("umount", &["--lazy", self.0.to_str().unwrap()]);
    }
}

fn system(program: &str, words: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(words).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    // The ballast is room that is set aside, and holds zeros.
    system("cp", &["-a", "--sparse=never", from.to_str().unwrap(), to.to_str().unwrap()]).unwrap();
}

/// Bytes that do not shrink.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new_keyed(&[7; 32]).update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

struct World {
    folder: tempfile::TempDir,
    disk: Disk,
}

impl World {
    /// A repository on a disk of its own; none where nothing can be mounted, which is said.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::mount(folder.path().join("disk"))
            .inspect_err(|why| println!("SKIPPED a full disk: mounting a tmpfs needs root ({why})"))
            .ok()?;
        let world = Self { folder, disk };
        fs::create_dir(world.path("home")).unwrap();
        world.ok(&["init", "--new-key-file", "key"]);
        Some(world)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn repository(&self) -> PathBuf {
        self.disk.0.join("repository")
    }

    fn run(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packstone"));
        command.args(words).env_clear().current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("HOME", self.path("home")).env("TZ", "UTC").env("PACKSTONE_PACK_SIZE", "4");
        command.env("PACKSTONE_REPOSITORY", self.repository());
        if words[0] != "init" {
            command.env("PACKSTONE_KEY_FILE", self.path("key"));
        }
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    fn ok(&self, words: &[&str]) -> String {
        let (code, out, err) = self.run(words);
        assert_eq!(code, Some(0), "{words:?}, {:?} used and free\n{out}\n{err}", self.disk.room());
        out
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path("tree").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn backup(&self) -> String {
        printed(&self.ok(&["backup", "--json", "tree"])).unwrap()
    }

    fn live(&self) -> Vec<String> {
        let list: serde_json::Value = serde_json::from_str(&self.ok(&["snapshots", "--json"])).unwrap();
        list.as_array().unwrap().iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The snapshot is what a folder of this name holds.
    fn restores(&self, id: &str, name: &str) {
        let out = self.path("out");
        self.ok(&["restore", &format!("{id}:tree"), "--target", "out"]);
        assert!(same(&out, &self.path(name)), "snapshot {id} is not {name}");
        fs::remove_dir_all(out).unwrap();
    }

    /// Everything as it was, and so much room.
    fn again(&self, free: u64, ballast: bool) {
        self.disk.resize(256 << 20);
        copy(&self.path("repository"), &self.repository());
        if !ballast {
            fs::remove_file(self.repository().join("lock/ballast")).unwrap();
        }
        copy(&self.path("home-before"), &self.path("home"));
        self.disk.leave_free(free);
    }
}

fn printed(out: &str) -> Option<String> {
    let mut lines = out.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    Some(lines.rfind(|line| line["message_type"] == "summary")?["snapshot_id"].as_str()?.to_owned())
}

fn same(one: &Path, other: &Path) -> bool {
    system("diff", &["-r", one.to_str().unwrap(), other.to_str().unwrap()]).is_ok()
}

/// What one step came to.
#[derive(Default)]
struct Tally {
    steps: usize,
    stored: usize,
    full: usize,
    /// `forget` had no room.
    stuck: usize,
}

const FULL: &str = "the disk of the repository is full: nothing was published";

fn step(world: &World, [first, second]: [&str; 2], free: u64, ballast: bool, tally: &mut Tally) {
    world.again(free, ballast);
    let (code, out, err) = world.run(&["backup", "--json", "tree"]);
    let id = printed(&out);
    tally.steps += 1;
    match (code, &id) {
        (Some(0), Some(id)) => {
            tally.stored += 1;
            world.restores(id, "tree");
        }
        (Some(1), None) => {
            tally.full += 1;
            assert!(err.contains(FULL), "{free} free: {err}");
        }
        _ => panic!("{free} free: {code:?}\n{out}\n{err}"),
    }
    let mut expected = vec![first.to_owned(), second.to_owned()];
    expected.extend(id.clone());
    assert_eq!(world.live(), expected, "{free} free");
    world.restores(first, "tree-1");
    world.restores(second, "tree-2");
    world.ok(&["check"]);

    if !ballast {
        let (code, _, err) = world.run(&["forget", first]);
        if code != Some(0) {
            assert!(code == Some(1) && err.contains(FULL), "{free} free: {err}");
            assert_eq!(world.live(), expected, "{free} free");
            tally.stuck += 1;
            world.disk.leave_free(1 << 20);
            world.ok(&["forget", first]);
        }
    } else {
        world.ok(&["forget", first]);
        // A neighbour on the disk takes what was given, and all else.
        world.disk.leave_free(0);
    }
    // What was freed goes into the ballast first.
    let room =
        || world.disk.room().1 + fs::metadata(world.repository().join("lock/ballast")).map_or(0, |file| file.len());
    let before = room();
    world.ok(&["prune", "--instant"]);
    let after = room();
    assert!(after > before + FORGOTTEN as u64 - (1 << 20), "{free} free: {before}, and then {after}");
    world.restores(second, "tree-2");

    let last = world.backup();
    world.restores(&last, "tree");
    world.restores(second, "tree-2");
    if let Some(id) = id {
        world.restores(&id, "tree");
    }
    world.ok(&["check", "--read-data"]);
}

#[test]
fn a_full_disk_costs_nothing_but_the_backup_that_did_not_fit() {
    let Some(world) = World::new() else { return };
    for number in 0..40 {
        world.write(&format!("{}/{number}", number % 5), &noise(number, 30_000));
    }
    world.write("forgotten", &noise(100, FORGOTTEN));
    let first = world.backup();
    copy(&world.path("tree"), &world.path("tree-1"));
    fs::remove_file(world.path("tree/forgotten")).unwrap();
    world.write("second", &noise(101, 200_000));
    let second = world.backup();
    copy(&world.path("tree"), &world.path("tree-2"));
    world.write("added", &noise(102, ADDED));
    assert!(world.repository().join("lock/ballast").exists(), "there was room for the ballast");
    copy(&world.repository(), &world.path("repository"));
    copy(&world.path("home"), &world.path("home-before"));

    let full = std::env::var_os("PACKSTONE_FULL").is_some_and(|value| value == "1");
    let stride = if full { 1 } else { 16 };
    let steps = (ADDED as u64 + (1 << 20)) / STEP + 1;
    for ballast in [true, false] {
        let mut tally = Tally::default();
        for number in (0..steps).step_by(stride).chain([steps]) {
            step(&world, [&first, &second], number * STEP, ballast, &mut tally);
        }
        let Tally { steps, stored, full, stuck } = tally;
        assert!(stored > 0 && full > 2, "{stored} backups fitted, {full} did not");
        assert!(ballast || stuck > 0, "without the ballast there was always room");
        println!(
            "{}: {steps} of {steps} sizes: {full} backups found the disk full and said so, {stored} fitted; in {stuck} of them \
             nothing could be forgotten before there was more room; pruning and the next backup worked after each, and nothing \
             was lost",
            if ballast { "with the ballast" } else { "without" }
        );
    }
}

/// Whoever publishes on a full disk, and however often: what a prune needs stays, although a neighbour takes at once what was given.
#[test]
fn what_a_prune_needs_is_kept_for_it() {
    let Some(world) = World::new() else { return };
    let mut snapshots = Vec::new();
    for number in 0..30 {
        world.write("changing", &noise(number, 600_000));
        snapshots.push(world.backup());
    }
    world.disk.leave_free(0);
    let last = snapshots.pop().unwrap();
    let mut published = 0;
    for id in &snapshots {
        let (code, _, err) = world.run(&["forget", id]);
        match code {
            Some(0) => published += 1,
            code => {
                assert!(code == Some(1) && err.contains(FULL), "{err}");
                break;
            }
        }
        world.disk.leave_free(0);
    }
    assert!((8..29).contains(&published), "{published} of 29 snapshots were forgotten on the full disk");
    let left = fs::metadata(world.repository().join("lock/ballast")).unwrap().len();
    assert!(left >= 1 << 20, "{left}");
    world.ok(&["prune", "--instant"]);
    assert!(
        fs::metadata(world.repository().join("lock/ballast")).unwrap().len() > left,
        "what was freed goes into it first"
    );
    world.ok(&["check", "--read-data"]);
    world.restores(&last, "tree");
    println!("{published} times something was forgotten before nothing more was given, and then a prune worked");
}

/// Where a drill has no room, that is said before anything is fetched.
#[test]
fn a_drill_asks_for_room_first() {
    let Some(world) = World::new() else { return };
    world.write("file", &noise(1, 5 << 20));
    world.backup();
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    world.ok(&["sync"]);
    let drill = ["drill", "offsite", "--to", "disk/drills"];
    // For the repository or not even that; for it, and not for what is restored from it.
    for mebibytes in [1, 4, 8] {
        world.disk.leave_free(mebibytes << 20);
        let (code, _, err) = world.run(&drill);
        assert!(code == Some(21) && err.contains("the drill needs"), "{mebibytes}: {code:?} {err}");
        assert_eq!(fs::read_dir(world.disk.0.join("drills")).unwrap().count(), 0);
    }
    world.disk.leave_free(20 << 20);
    world.ok(&drill);
}
