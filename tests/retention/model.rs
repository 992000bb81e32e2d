//! Random sequences of commands against a simple model: which snapshots are live, and what each holds and says.
//!
//! Commands run one after the other, in the middle of a backup or of a prune, and beside readers that stay open; the power
//! goes in the middle of some; clocks jump ten years; caches are lost, or are those of another state. What `forget`
//! removes by rules is left to the rules; the model knows what no rule may remove. After each sequence every live
//! snapshot is read back byte for byte, has the tags that it was given, and the program's own check finds nothing.
//!
//! `PACKSTONE_FULL=1` runs 20,000 sequences, otherwise 500; `PACKSTONE_SEED=n` runs one.

use packstone::base::stop::Stop;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use packstone::base::id::ObjectId;
use packstone::base::time::Time;
use packstone::files::exclude::Excludes;
use packstone::files::source::Sources;
use packstone::ops::order::FUTURE_SECONDS;
use packstone::ops::retag::Change;
use packstone::ops::{Item, Monitor, Phase, Problem, Severity, Silent, backup, check};
use packstone::repository::lock::Locks;
use packstone::repository::{Access, Repository};
use packstone::storage::Storage;
use packstone::storage::crash::CrashDisk;
use packstone::storage::local::Local;

use crate::act::{Act, Done, Policy, TAGS, TEN_YEARS, WEEK, act, merging_packs};
use crate::world::{self, Contents, Machine, Noise, Source, is_full};

/// A reader that stays open: what it saw when it began must be there until it ends.
struct Reader {
    repository: Repository,
    sees: Vec<ObjectId>,
}

/// What a snapshot is besides its name; nothing of it ever changes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    contents: Arc<Contents>,
    tags: Vec<String>,
    held: bool,
    time: i64,
}

impl Facts {
    fn changed(&self, change: &Change) -> Self {
        let mut facts = self.clone();
        match change {
            Change::Set(tags) => facts.tags.clone_from(tags),
            Change::Tags { add, remove } => {
                facts.tags.extend(add.iter().filter(|tag| !self.tags.contains(tag)).cloned());
                facts.tags.retain(|tag| !remove.contains(tag));
            }
            Change::Held(held) => facts.held = *held,
        }
        facts
    }
}

/// How a backup is to be labelled.
#[derive(Debug, Clone)]
struct Label {
    time: i64,
    tags: Vec<String>,
}

struct World {
    disk: CrashDisk,
    locks: Locks,
    caches: tempfile::TempDir,
    noise: Noise,
    source: Source,
    live: BTreeSet<ObjectId>,
    /// Every snapshot that ever was.
    ever: BTreeMap<ObjectId, Facts>,
    readers: Vec<Reader>,
    clock: i64,
    log: Vec<String>,
}

/// Does something once, in the middle of a backup or of a prune.
struct Meddler<'a> {
    left: AtomicI64,
    act: Mutex<Box<dyn FnMut() + Send + 'a>>,
}

impl<'a> Meddler<'a> {
    fn new(when: i64, act: impl FnMut() + Send + 'a) -> Self {
        Self { left: AtomicI64::new(when), act: Mutex::new(Box::new(act)) }
    }

    fn step(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            (self.act.lock().unwrap())();
        }
    }
}

impl Monitor for Meddler<'_> {
    fn phase(&self, phase: Phase) {
        if phase == Phase::Publish && self.left.swap(-1, Ordering::SeqCst) >= 0 {
            (self.act.lock().unwrap())();
        }
    }
    fn expect(&self, _: u64, _: u64, _: bool) {}
    fn advance(&self, _: u64, _: u64) {
        self.step();
    }
    fn item(&self, _: &Item<'_>) {
        self.step();
    }
    fn problem(&self, &Problem { severity, path, message, .. }: &Problem<'_>) {
        assert_eq!(severity, Severity::Note, "{path:?}: {message}");
    }
    fn stop(&self) -> Option<Stop> {
        None
    }
}

fn open(disk: &CrashDisk, locks: &Locks, cache: Option<PathBuf>) -> packstone::repository::Result<Repository> {
    let storage: Arc<dyn Storage> = Arc::new(Local::open_with_disk(disk.clone()));
    let machine = Machine { cache, remembered: None };
    let access = Access { locks: locks.clone(), ..machine.access(storage) };
    Repository::open(access, &world::secret(1))
}

fn save(
    repository: &Repository,
    path: &std::path::Path,
    label: &Label,
    monitor: &dyn Monitor,
) -> packstone::ops::Result<ObjectId> {
    let parent = repository.snapshots().unwrap().last().map(|(id, _)| *id);
    let options = backup::Options { packs: merging_packs(), ..world::options(parent) };
    let sources = Sources::new(&[path.to_path_buf()], &Excludes::new())?;
    let labels = backup::Labels {
        time: Some(Time::from_seconds(label.time)),
        tags: label.tags.clone(),
        ..world::labels(sources.paths.clone())
    };
    let rules = packstone::files::walk::Rules::default();
    let report = backup::run(repository, sources, rules, &labels, &options, monitor)?;
    MERGES.fetch_add(usize::from(report.written.merged_bytes > 0), Ordering::SeqCst);
    Ok(report.snapshot.unwrap())
}

/// Backups that made one pack out of several.
static MERGES: AtomicUsize = AtomicUsize::new(0);

impl World {
    fn new(seed: u64) -> Self {
        let disk = CrashDisk::new();
        let storage = Arc::new(Local::create_with_disk(disk.clone()).unwrap());
        drop(Machine::default().create(storage, 1).unwrap());
        Self {
            disk,
            locks: Locks::none(),
            caches: tempfile::tempdir().unwrap(),
            noise: Noise(seed),
            source: Source::empty(),
            live: BTreeSet::new(),
            ever: BTreeMap::new(),
            readers: Vec::new(),
            clock: Time::now().seconds,
            log: Vec::new(),
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.noise.next() % below
    }

    /// One of two caches, or none: machines that see the repository at different times.
    fn cache(&mut self) -> Option<PathBuf> {
        match self.draw(3) {
            0 => None,
            number => Some(self.caches.path().join(number.to_string())),
        }
    }

    fn open(&mut self) -> Repository {
        let cache = self.cache();
        open(&self.disk, &self.locks, cache).unwrap()
    }

    fn edit(&mut self) {
        for _ in 0..=self.draw(3) {
            let name = format!("{}/{}", self.draw(2), self.draw(4));
            // Contents come back, so chunks of forgotten snapshots are needed again.
            let which = self.draw(6);
            let length = (Noise(which).next() % 50_000) as usize;
            self.source.write(&name, &Noise(which).bytes(length));
        }
    }

    /// The next backup is some hours or days later; one clock in eight is ten years off.
    fn label(&mut self) -> Label {
        self.clock += ((1 + self.draw(60)) * 3_600) as i64;
        let off = [0, 0, 0, 0, 0, 0, TEN_YEARS, -TEN_YEARS, 0][self.draw(9) as usize];
        let tags = TAGS.iter().filter(|_| self.noise.next().is_multiple_of(4)).map(|tag| (*tag).to_owned()).collect();
        Label { time: self.clock + off, tags }
    }

    fn tags(&mut self) -> Vec<String> {
        TAGS.iter().filter(|_| self.noise.next().is_multiple_of(2)).map(|tag| (*tag).to_owned()).collect()
    }

    fn some_live(&mut self) -> Vec<ObjectId> {
        self.live.iter().filter(|_| self.noise.next().is_multiple_of(2)).copied().collect()
    }

    fn choose(&mut self) -> Act {
        match self.draw(12) {
            0..2 => {
                let mut ids = self.some_live();
                if self.draw(8) > 0 {
                    ids.retain(|id| !self.ever[id].held);
                }
                Act::Forget(ids)
            }
            2..4 => {
                let now = self.clock;
                Act::Rules(Box::new(Policy::draw(&mut self.noise, now)))
            }
            4..6 => {
                let ids = self.some_live();
                let change = match self.draw(5) {
                    0 => Change::Set(self.tags()),
                    1 => Change::Tags { add: self.tags(), remove: self.tags() },
                    2 => Change::Held(true),
                    _ => Change::Held(false),
                };
                Act::Retag(ids, change)
            }
            6 => match self.gone() {
                Some(id) => Act::Undelete(id),
                None => self.choose(),
            },
            _ => self.choose_prune(),
        }
    }

    fn choose_prune(&mut self) -> Act {
        let grace = if self.draw(2) == 0 { Duration::ZERO } else { WEEK };
        let now = Time::now().seconds + [0, 0, TEN_YEARS, -TEN_YEARS][self.draw(4) as usize];
        Act::Prune { grace, now, max_unused: [0, 0, 100_000][self.draw(3) as usize] }
    }

    /// One that is live no more.
    fn gone(&mut self) -> Option<ObjectId> {
        let gone: Vec<ObjectId> = self.ever.keys().filter(|id| !self.live.contains(*id)).copied().collect();
        if gone.is_empty() { None } else { Some(gone[self.draw(gone.len() as u64) as usize]) }
    }

    fn made(&mut self, id: ObjectId, contents: &Arc<Contents>, label: &Label) {
        let Label { time, tags } = label.clone();
        self.ever.insert(id, Facts { contents: Arc::clone(contents), tags, held: false, time });
        self.live.insert(id);
    }

    /// What was done is now so in the model too, or is nothing that may be done.
    fn apply(&mut self, what: &Act, done: &Done) -> Result<(), String> {
        let wrong = |rule: &str| Err(format!("{what:?} did {done:?}: {rule}"));
        let mut expected = Done { refused: done.refused, ..Done::default() };
        match what {
            Act::Forget(ids) => {
                let wanted: Vec<ObjectId> = ids.iter().filter(|id| self.live.contains(*id)).copied().collect();
                let is_held = wanted.iter().any(|id| self.ever[id].held);
                if done.refused != is_held {
                    return wrong("what is held is not removed, and with it nothing");
                }
                expected.removed = if is_held { Vec::new() } else { wanted };
            }
            Act::Rules(policy) => {
                expected.removed = done.removed.iter().filter(|id| self.live.contains(*id)).copied().collect();
                if expected.removed.iter().any(|id| self.ever[id].held) {
                    return wrong("a rule removed what is held");
                }
                if expected.removed.iter().any(|id| self.ever[id].time > policy.now + FUTURE_SECONDS) {
                    return wrong("a rule removed what is from the future");
                }
                if !self.live.is_empty() && expected.removed.len() == self.live.len() {
                    return wrong("rules removed everything");
                }
            }
            Act::Retag(ids, change) => {
                let live = ids.iter().filter(|id| self.live.contains(*id));
                let changed: Vec<_> = live
                    .map(|id| (*id, self.ever[id].changed(change)))
                    .filter(|(id, to)| self.ever[id] != *to)
                    .collect();
                for (id, facts) in changed {
                    let Some((_, new)) = done.replaced.iter().find(|(old, _)| *old == id) else {
                        return wrong("one was left as it was");
                    };
                    self.live.remove(&id);
                    self.live.insert(*new);
                    self.ever.insert(*new, facts);
                    expected.replaced.push((id, *new));
                }
            }
            Act::Undelete(id) if !done.refused => {
                expected.back.push(*id);
                self.live.insert(*id);
            }
            Act::Undelete(_) | Act::Prune { .. } => {}
        }
        for id in &expected.removed {
            self.live.remove(id);
        }
        let sorted = |mut done: Done| {
            done.removed.sort();
            done.replaced.sort();
            done
        };
        if sorted(expected) == sorted(done.clone()) { Ok(()) } else { wrong("it should have done something else") }
    }

    fn backup(&mut self, meddled: bool) -> Result<(), String> {
        self.edit();
        let label = self.label();
        let repository = self.open();
        let acts: Vec<Act> = if meddled { (0..=self.draw(3)).map(|_| self.choose()).collect() } else { Vec::new() };
        let when = if meddled { self.draw(6) as i64 } else { -1 };
        let other_cache = self.cache();
        let (disk, locks) = (self.disk.clone(), self.locks.clone());
        let done = Mutex::new(Vec::new());
        let failed = Mutex::new(None);
        let meddler = Meddler::new(when, || {
            for one in &acts {
                let result = open(&disk, &locks, other_cache.clone())
                    .map_err(|error| error.to_string())
                    .and_then(|repository| act(&repository, one, &Silent));
                match result {
                    Ok(what) => done.lock().unwrap().push((one.clone(), what)),
                    Err(error) => *failed.lock().unwrap() = Some(error),
                }
            }
        });
        let contents = Arc::new(self.source.contents());
        let made = save(&repository, self.source.path(), &label, &meddler);
        drop(meddler);
        let (done, failed) = (done.into_inner().unwrap(), failed.into_inner().unwrap());
        if let Some(error) = failed {
            return Err(format!("in the middle of a backup: {error}"));
        }
        self.log.push(format!("backup {label:?} with {done:?} at {when}"));
        for (what, done) in &done {
            self.apply(what, done)?;
        }
        // Its parent may have been forgotten between being chosen and the lock.
        let id = made.map_err(|error| format!("backup: {error}"))?;
        self.made(id, &contents, &label);
        Ok(())
    }

    /// A prune with a whole backup in the middle, which meets chunks that the prune has just found to be waste; or with
    /// something else that publishes a head.
    fn prune_meddled(&mut self) -> Result<(), String> {
        self.edit();
        let label = self.label();
        let what = self.choose_prune();
        let other = if self.draw(2) == 0 { Some(self.choose()) } else { None };
        let repository = self.open();
        let when = self.draw(5) as i64;
        let cache = self.cache();
        let contents = Arc::new(self.source.contents());
        let (disk, locks, path) = (self.disk.clone(), self.locks.clone(), self.source.path().to_path_buf());
        let made = Mutex::new(None);
        let done = Mutex::new(None);
        let meddler = Meddler::new(when, || {
            let repository = open(&disk, &locks, cache.clone()).unwrap();
            match &other {
                Some(other) => *done.lock().unwrap() = Some(act(&repository, other, &Silent)),
                None => *made.lock().unwrap() = Some(save(&repository, &path, &label, &Silent)),
            }
        });
        let pruned = act(&repository, &what, &meddler);
        drop(meddler);
        self.log.push(format!("{what:?} with {other:?} at {when}"));
        if let (Some(other), Some(done)) = (&other, done.into_inner().unwrap()) {
            self.apply(other, &done.map_err(|error| format!("in the middle of a prune: {error}"))?)?;
        }
        match made.into_inner().unwrap() {
            Some(Ok(id)) => self.made(id, &contents, &label),
            // While packs are being rewritten.
            Some(Err(packstone::ops::Error::Repository(packstone::repository::Error::Locked(_)))) | None => {}
            Some(Err(error)) => return Err(format!("a backup in the middle of a prune: {error}")),
        }
        pruned.map(drop)
    }

    /// Rules are applied to what was there before something else happened.
    fn forget_meddled(&mut self) -> Result<(), String> {
        let now = self.clock;
        let policy = Policy::draw(&mut self.noise, now);
        let other = self.choose();
        let repository = self.open();
        let second = self.open();
        let mut between = None;
        let done = policy.run(&repository, &mut || between = Some(act(&second, &other, &Silent)))?;
        self.log.push(format!("{policy:?} with {other:?}: {between:?}, {done:?}"));
        if let Some(between) = between {
            self.apply(&other, &between?)?;
        }
        self.apply(&Act::Rules(Box::new(policy)), &done)
    }

    /// The power goes somewhere in the middle of a command. What was acknowledged has happened; what was not has happened as
    /// a whole or not at all.
    fn crash(&mut self) -> Result<(), String> {
        self.readers.clear();
        self.edit();
        let label = self.label();
        let what = if self.draw(2) == 0 { None } else { Some(self.choose()) };
        let disk = world::copy(&self.disk);
        let stop = self.draw(90);
        disk.stop_after(stop);
        let (mut made, mut done) = (None, None);
        let cache = self.cache();
        if let Ok(repository) = open(&disk, &self.locks, cache) {
            match &what {
                None => made = save(&repository, self.source.path(), &label, &Silent).ok(),
                Some(what) => done = act(&repository, what, &Silent).ok(),
            }
        }
        let mut images = Vec::new();
        disk.each_image(stop, 4, |image| images.push(image));
        let chosen = self.draw(images.len() as u64) as usize;
        self.disk = images.swap_remove(chosen);
        self.disk.restart();
        self.log.push(format!("crash after {stop} of {what:?}: {made:?}, {done:?}"));
        let repository = open(&self.disk, &self.locks, None).map_err(|error| format!("after a crash: {error}"))?;
        let found: BTreeSet<ObjectId> = repository.tip().state.snapshots.keys().copied().collect();
        match (&what, done) {
            (None, _) => {
                let contents = Arc::new(self.source.contents());
                let published = found.iter().find(|id| !self.ever.contains_key(*id)).copied();
                if let Some(id) = made.or(published) {
                    self.made(id, &contents, &label);
                }
            }
            (Some(what), Some(done)) => self.apply(what, &done)?,
            (Some(_), None) if found == self.live => {}
            (Some(what), None) => {
                let done = self.seen(&repository, &found, what)?;
                self.apply(what, &done)?;
            }
        }
        if found == self.live {
            return Ok(());
        }
        let name = |ids: &BTreeSet<ObjectId>| ids.iter().map(|id| id.short().to_string()).collect::<Vec<_>>();
        Err(format!("after a crash {:?} are live, not {:?}", name(&found), name(&self.live)))
    }

    /// What somebody did, found out from what is there.
    fn seen(&self, repository: &Repository, found: &BTreeSet<ObjectId>, what: &Act) -> Result<Done, String> {
        let mut done = Done { removed: self.live.difference(found).copied().collect(), ..Done::default() };
        let Act::Retag(_, change) = what else {
            done.back = found.difference(&self.live).copied().collect();
            return Ok(done);
        };
        for new in found.difference(&self.live) {
            let snapshot = repository.snapshot(*new).map_err(|error| error.to_string())?;
            let is_old = |old: &&ObjectId| {
                let facts = self.ever[*old].changed(change);
                facts.tags == snapshot.tags && facts.held == snapshot.held && facts.time == snapshot.time.seconds
            };
            let old = done.removed.iter().position(|old| is_old(&old)).ok_or("a snapshot out of nowhere")?;
            done.replaced.push((done.removed.swap_remove(old), *new));
        }
        Ok(done)
    }

    fn step(&mut self) -> Result<(), String> {
        match self.draw(15) {
            0..3 => self.backup(false),
            3..5 => self.backup(true),
            5..8 => self.prune_meddled(),
            8 => self.forget_meddled(),
            9..11 => {
                let what = self.choose();
                let repository = self.open();
                let done = act(&repository, &what, &Silent)?;
                self.log.push(format!("{what:?}: {done:?}"));
                self.apply(&what, &done)
            }
            11 => {
                let repository = self.open();
                let sees = repository.tip().state.snapshots.keys().copied().collect();
                self.log.push("a reader begins".to_owned());
                self.readers.push(Reader { repository, sees });
                Ok(())
            }
            12 => match self.readers.pop() {
                None => Ok(()),
                Some(reader) => self.read(&reader.repository, &reader.sees),
            },
            _ => self.crash(),
        }
    }

    fn read(&self, repository: &Repository, ids: &[ObjectId]) -> Result<(), String> {
        let root = self.source.path().as_os_str().as_encoded_bytes()[1..].to_vec();
        for id in ids {
            let contents = world::contents(repository, *id, &root)?;
            let snapshot = repository.snapshot(*id).map_err(|error| error.to_string())?;
            let (tags, held, time) = (snapshot.tags, snapshot.held, snapshot.time.seconds);
            let found = Facts { contents: Arc::new(contents), tags, held, time };
            if Some(&found) != self.ever.get(id) {
                return Err(format!("snapshot {} is another one", id.short()));
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        for reader in std::mem::take(&mut self.readers) {
            self.read(&reader.repository, &reader.sees).map_err(|wrong| format!("a reader: {wrong}"))?;
        }
        let repository = self.open();
        let live: Vec<ObjectId> = repository.tip().state.snapshots.keys().copied().collect();
        if live != self.live.iter().copied().collect::<Vec<_>>() {
            return Err(format!("{} snapshots are live, {} should be", live.len(), self.live.len()));
        }
        self.read(&repository, &live)?;
        let options = check::Options { data: check::Data::All, ..check::Options::default() };
        let report = check::run(&repository, &options, &Silent).map_err(|error| format!("check: {error}"))?;
        match report.findings.first() {
            None => Ok(()),
            Some(finding) => Err(format!("check: {}", finding.message)),
        }
    }
}

fn sequence(seed: u64) -> Result<(), String> {
    let mut world = World::new(seed);
    let steps = 4 + world.draw(12);
    let run = |world: &mut World| {
        (0..steps).try_for_each(|_| world.step())?;
        world.finish()
    };
    run(&mut world).map_err(|wrong| format!("seed {seed}: {wrong}\n  {}", world.log.join("\n  ")))
}

#[test]
fn live_snapshots_survive_every_sequence() {
    if let Some(seed) = std::env::var("PACKSTONE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        sequence(seed).unwrap_or_else(|wrong| panic!("{wrong}"));
        return;
    }
    let count = if is_full() { 20_000 } else { 500 };
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= count || wrong.lock().unwrap().is_some() {
                        break;
                    }
                    if let Err(error) = sequence(seed as u64) {
                        *wrong.lock().unwrap() = Some(error);
                    }
                }
            });
        }
    });
    if let Some(wrong) = wrong.into_inner().unwrap() {
        panic!("{wrong}");
    }
    let merges = MERGES.load(Ordering::SeqCst);
    assert!(merges > count / 10, "only {merges} backups merged small packs");
    println!(
        "{count} of {count} sequences of commands: every live snapshot reads back exactly; {merges} backups merged packs"
    );
}

/// Sequences that once failed.
#[test]
fn seeds_that_failed_once() {
    for seed in [] {
        sequence(seed).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}
