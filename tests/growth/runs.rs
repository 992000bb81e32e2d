//! Many small backups, and no prune: heads, segments and packs stay few, and everything is there.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::Duration;

use packstone::base::id::ObjectId;
use packstone::base::time::Time;
use packstone::codec::live_state::MarkedKind;
use packstone::ops::{Silent, check, prune};
use packstone::repository::pack_writer::PackOptions;

use crate::world::{World, bytes_beneath, is_full};

const FILES: usize = 30;

/// Names of files beneath a folder, and of those in it.
fn count(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| if entry.file_type().unwrap().is_dir() { count(&entry.path()) } else { 1 }).sum()
}

struct Counts {
    heads: usize,
    head_bytes: u64,
    segments: usize,
    packs: usize,
}

impl Counts {
    fn of(world: &World) -> Self {
        let folder = |name: &str| world.place.join(name);
        Self {
            heads: count(&folder("heads")),
            head_bytes: bytes_beneath(&folder("heads")),
            segments: count(&folder("index")),
            packs: count(&folder("packs")),
        }
    }
}

/// A backup each time a file of the thirty changed, as by a timer. `kept`: so many snapshots stay, the others are forgotten at once.
struct Runs {
    world: World,
    kept: usize,
    snapshots: VecDeque<(ObjectId, usize)>,
    done: usize,
}

impl Runs {
    fn new(kept: usize) -> Self {
        let world = World::new();
        (0..FILES).for_each(|number| world.write(&format!("file-{number}"), &Self::content(number, 0)));
        Self { world, kept, snapshots: VecDeque::new(), done: 0 }
    }

    fn content(number: usize, run: usize) -> Vec<u8> {
        let word = blake3::hash(format!("{number} {run}").as_bytes());
        word.as_bytes().iter().cycle().take(2_000 + number * 100).copied().collect()
    }

    fn run(&mut self) {
        let (world, run) = (&self.world, self.done);
        // As a process of its own, which relies on nothing older.
        world.repository.pin_newest().unwrap();
        for number in 0..3 {
            let number = (run * 3 + number) % FILES;
            world.write(&format!("file-{number}"), &Self::content(number, run));
        }
        let report = world.backup_on(self.snapshots.back().map(|(id, _)| *id), &world.tree, &Silent);
        assert!(report.warnings.is_empty(), "{:?}", report.warnings);
        self.snapshots.push_back((report.snapshot.unwrap(), run));
        self.done += 1;
        if self.snapshots.len() > self.kept {
            let (oldest, _) = self.snapshots.pop_front().unwrap();
            let forget = |state: &mut packstone::codec::live_state::LiveState, generation| {
                state.mark(oldest, MarkedKind::Snapshot, generation);
                Ok(())
            };
            world.repository.append(forget).unwrap();
        }
    }

    /// What the file was in that run.
    fn expected(number: usize, run: usize) -> Vec<u8> {
        let wrote = (0..=run).rev().take(FILES).find(|run| (0..3).any(|step| (run * 3 + step) % FILES == number));
        Self::content(number, wrote.unwrap_or(0))
    }

    fn check(&self, every: usize) {
        let options = check::Options { data: check::Data::All, seed: 0, whole_cache: true };
        let report = check::run(&self.world.repository, &options, &Silent).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        for (id, run) in self.snapshots.iter().step_by(every) {
            let files = self.world.files(*id);
            assert_eq!(files.len(), FILES);
            for number in 0..FILES {
                assert!(files[&format!("/file-{number}")] == Self::expected(number, *run), "run {run}, file {number}");
            }
        }
    }

    fn prune(&self) {
        let limits = prune::Limits { max_unused: prune::MaxUnused::default(), max_repack: None, pack_bytes: 32 << 20 };
        let options = prune::Options { limits, grace: Duration::ZERO, packs: PackOptions::default(), now: Time::now() };
        prune::run(&self.world.repository, &options, &Silent).unwrap();
    }
}

/// As many as there are in the short form; with `PACKSTONE_FULL=1` 5,000.
fn many_small_backups(kept: usize) {
    let runs = if is_full() { 5_000 } else { 70 };
    let mut hourly = Runs::new(kept);
    let mut most = (0, 0, 0);
    for _ in 0..runs {
        hourly.run();
        let heads = count(&hourly.world.place.join("heads"));
        most.0 = most.0.max(heads);
        if hourly.done.is_multiple_of(10) {
            let now = Counts::of(&hourly.world);
            most = (most.0, most.1.max(now.segments), most.2.max(now.packs));
        }
    }
    let now = Counts::of(&hourly.world);
    println!(
        "{runs} backups, {kept} kept: {} heads of {} bytes, {} segments, {} packs; at most {most:?}",
        now.heads, now.head_bytes, now.segments, now.packs
    );
    assert!(most.0 <= 36, "{} heads", most.0);
    assert!(now.head_bytes < 20 << 20, "{} bytes of heads", now.head_bytes);
    // 31 short ones, those that the last merges left, and what is of full length.
    assert!(most.1 < 100 && most.2 < 240, "{most:?}");
    hourly.check(runs / 20);
    hourly.prune();
    let after = Counts::of(&hourly.world);
    println!("after a prune: {} heads, {} segments, {} packs", after.heads, after.segments, after.packs);
    assert!(after.segments < 200 && after.packs < 200, "{} segments, {} packs", after.segments, after.packs);
    hourly.check(runs / 20);
}

#[test]
fn many_small_backups_leave_few_files() {
    many_small_backups(usize::MAX);
}

#[test]
fn many_small_backups_that_are_forgotten_leave_few_files() {
    many_small_backups(48);
}
