//! The real program is killed with SIGKILL at random moments of a backup, again and again, while the tree changes.
//!
//! Promised: nothing acknowledged is lost (a snapshot whose id was printed reads back byte for byte), no lock stays, the
//! next run needs no hand, what was left behind is taken over or cleared away, and `check --read-data` finds nothing in the end.
//! The short form kills 20 times, `PACKSTONE_FULL=1` 200 times. The seed is printed; `PACKSTONE_SEED` sets it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use packstone::base::id::ObjectId;
use packstone::codec::pack::PackKind;
use packstone::codec::tree::Node;
use packstone::repository::Repository;
use packstone::repository::list_reader::{Chunks, Listing};
use packstone::repository::lock::Locks;

use self::repository::open_with_key_file;

mod overlap;
#[path = "../support/repository.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod repository;
#[path = "../crash/structure.rs"]
mod structure;

/// SplitMix64.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }
}

type Contents = BTreeMap<String, blake3::Hash>;

struct World {
    folder: tempfile::TempDir,
    noise: Noise,
    /// What the tree holds now.
    contents: Contents,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self { folder: tempfile::tempdir().unwrap(), noise: Noise(seed), contents: Contents::new() };
        fs::create_dir(world.path("home")).unwrap();
        let status = world.command(&["init", "--new-key-file", "key", "--chunk-size", "64k"]).status().unwrap();
        assert!(status.success());
        for number in 0..300 {
            let length = world.noise.next() as usize % 40_000;
            world.write(&format!("{}/{number}", number % 12), length);
        }
        world.write("large", 6 << 20);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&mut self, name: &str, length: usize) {
        let path = self.path("tree").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = self.noise.bytes(length);
        self.contents.insert(format!("tree/{name}"), blake3::hash(&bytes));
        fs::write(path, bytes).unwrap();
    }

    /// Some files change, some go, the large one gets another end.
    fn change(&mut self, round: usize) {
        for _ in 0..12 {
            let number = self.noise.next() % 320;
            let length = self.noise.next() as usize % 200_000;
            self.write(&format!("{}/{number}", number % 12), length);
        }
        let number = self.noise.next() % 300;
        let name = format!("{}/{number}", number % 12);
        if self.contents.remove(&format!("tree/{name}")).is_some() {
            fs::remove_file(self.path("tree").join(name)).unwrap();
        }
        if round.is_multiple_of(4) {
            self.write("large", 6 << 20);
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packstone"));
        command.args(words).env_clear().current_dir(self.folder.path()).env("HOME", self.path("home"));
        command.env("PACKSTONE_REPOSITORY", self.path("repository")).env("TZ", "UTC").stdin(Stdio::null());
        if words[0] != "init" {
            command.env("PACKSTONE_KEY_FILE", self.path("key"));
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self) -> Child {
        self.command(&["backup", "--json", "tree"]).spawn().unwrap()
    }

    /// Opens the repository as a machine that knows nothing but the key.
    fn open(&self) -> Repository {
        open_with_key_file(&self.path("repository"), &self.path("key"))
    }
}

/// The id that a run printed, if it came to that.
fn printed(output: &str) -> Option<ObjectId> {
    let mut lines = output.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let summary = lines.rfind(|line| line["message_type"] == "summary")?;
    summary["snapshot_id"].as_str()?.parse().ok()
}

/// Waits for the end of a run; whether it ended well, and the id that it printed.
fn end(mut child: Child) -> (bool, Option<ObjectId>, String) {
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    let status = child.wait().unwrap();
    (status.success(), printed(&out), err)
}

fn contents(repository: &Repository, id: ObjectId) -> Contents {
    let mut contents = Contents::new();
    let mut open = vec![(String::new(), repository.snapshot(id).unwrap().root)];
    while let Some((path, list)) = open.pop() {
        for entry in Listing::new(repository, list) {
            let entry = entry.unwrap();
            let name = String::from_utf8(entry.name).unwrap();
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            match entry.node {
                Node::Directory { listing } => open.push((path, listing)),
                Node::File(content) => {
                    let mut hasher = blake3::Hasher::new();
                    for chunk in Chunks::new(repository, content.chunks) {
                        hasher.update(&repository.chunk(PackKind::Data, &chunk.unwrap()).unwrap());
                    }
                    contents.insert(path, hasher.finalize());
                }
                other => panic!("{path}: {other:?} was never there"),
            }
        }
    }
    contents
}

fn empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

/// The seed of a test's random numbers, printed.
fn seed() -> u64 {
    let seed = std::env::var("PACKSTONE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_nanos() as u64
    });
    println!("PACKSTONE_SEED={seed}");
    seed
}

#[test]
fn a_program_that_is_killed_loses_nothing_acknowledged() {
    let full = std::env::var_os("PACKSTONE_FULL").is_some_and(|value| value == "1");
    let wanted = if full { 200 } else { 20 };
    let mut world = World::new(seed());
    let mut acknowledged: BTreeMap<ObjectId, Contents> = BTreeMap::new();
    let (mut killed, mut ended, mut taken_over) = (0, 0, 0);
    // A guess of how long a run takes, made better by each that ends.
    let mut whole = Duration::from_millis(400);
    for round in 0.. {
        if killed >= wanted {
            break;
        }
        assert!(round < 20 * wanted, "hardly any run was still alive when it was killed");
        world.change(round);
        let delay = whole.mul_f64((world.noise.next() % 1_000) as f64 / 1_000.0);
        let mut child = world.start();
        std::thread::sleep(delay);
        let alive = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        let (well, id, errors) = end(child);
        assert!(well || alive, "a run failed by itself: {errors}");
        killed += usize::from(!well);
        if let Some(id) = id {
            // Printed is promised, also when the end was not seen any more.
            acknowledged.insert(id, world.contents.clone());
        }
        Locks::open(&world.path("repository")).writer_free().expect("the killed process left a lock");
        // Most of the time the next run is killed as well; every third one is let be, and needs no hand.
        if round % 3 == 0 {
            let orphans = fs::read_dir(world.path("repository/tmp")).unwrap().count();
            let begun = Instant::now();
            let (well, id, errors) = end(world.start());
            assert!(well, "the run after a killed one fails: {errors}");
            whole = whole.mul_f64(0.7) + begun.elapsed().mul_f64(0.3);
            let id = id.expect("a run that ends well prints its snapshot");
            assert!(empty(&world.path("repository/tmp")), "{orphans} files in tmp/ before it, and some after it");
            let repository = world.open();
            assert_eq!(contents(&repository, id), world.contents, "round {round}");
            acknowledged.insert(id, world.contents.clone());
            ended += 1;
            taken_over += usize::from(orphans > 0);
        }
    }
    let repository = world.open();
    let all = acknowledged.len();
    for (id, wanted) in &acknowledged {
        assert!(repository.tip().state.snapshots.contains_key(id), "snapshot {} is gone", id.short());
        assert_eq!(contents(&repository, *id), *wanted, "snapshot {}", id.short());
    }
    assert_eq!(repository.take_warnings(), Vec::<String>::new());
    println!(
        "killed {killed} times: {all} of {all} acknowledged snapshots are whole, {ended} of {ended} next runs \
         needed no hand ({taken_over} found something in tmp/)"
    );
    structure::check(&repository, &BTreeSet::new()).unwrap();
    let check = world.command(&["check", "--read-data"]).output().unwrap();
    let said = [check.stdout, check.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(check.status.success(), "check: {said:?}");
}
