//! Random sequences of commands on two repositories that copy from each other, against a model: which backups are where, and
//! what each holds. `PACKSTONE_FULL=1` runs 2,000 sequences, otherwise 60; `PACKSTONE_SEED=n` runs one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use packstone::base::id::ObjectId;
use packstone::base::time::Time;
use packstone::codec::live_state::MarkedKind;
use packstone::ops::Silent;
use packstone::ops::copy::Done;
use packstone::ops::prune::{self, Limits, MaxUnused};

use super::pair::{LARGE, PACK_BYTES, SMALL, Side, assert_sound, copy_as};
use super::world::{Contents, Noise, Source, backup, contents, is_full, packs};

struct World {
    sides: [Side; 2],
    /// For each side what it holds: snapshots, and the first one that each comes from.
    live: [BTreeMap<ObjectId, (ObjectId, Arc<Contents>)>; 2],
    caches: tempfile::TempDir,
    source: Source,
    noise: Noise,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            sides: [Side::new(1, SMALL), Side::new(2, LARGE)],
            live: [BTreeMap::new(), BTreeMap::new()],
            caches: tempfile::tempdir().unwrap(),
            source: Source::empty(),
            noise: Noise(seed),
        }
    }

    fn draw(&mut self, below: u64) -> usize {
        (self.noise.next() % below) as usize
    }

    /// One of two machines with caches of their own, or one without.
    fn side(&mut self, number: usize) -> Side {
        let machine = self.draw(3);
        let cache = (machine > 0).then(|| self.caches.path().join(machine.to_string()));
        let mut side = self.sides[number].clone();
        side.cache = cache;
        side
    }

    fn step(&mut self) {
        let one = self.draw(2);
        let repository = self.side(one).open();
        match self.draw(8) {
            0..3 => {
                for _ in 0..=self.draw(3) {
                    let name = format!("{}/{}", self.draw(3), self.draw(4));
                    let which = self.draw(8) as u64;
                    let length = (Noise(which).next() % 50_000) as usize;
                    self.source.write(&name, &Noise(which).bytes(length));
                }
                let id = backup(&repository, self.source.path()).unwrap().snapshot.unwrap();
                self.live[one].insert(id, (id, Arc::new(self.source.contents())));
            }
            3..6 => {
                let other = self.side(1 - one).open();
                let all: Vec<ObjectId> = self.live[one].keys().copied().collect();
                let all_of_them = self.draw(2) == 0;
                let wanted: Vec<ObjectId> =
                    all.into_iter().filter(|_| all_of_them || self.noise.next().is_multiple_of(2)).collect();
                if wanted.is_empty() {
                    return;
                }
                let done: BTreeMap<ObjectId, Done> =
                    copy_as(&repository, &other, &wanted, &Silent).unwrap().into_iter().collect();
                for id in wanted {
                    let (origin, held) = self.live[one][&id].clone();
                    let is_there = self.live[1 - one].values().any(|(other, _)| *other == origin);
                    match done.get(&id) {
                        None => assert!(is_there, "{} was not copied", id.short()),
                        Some(Done::Copied(copied)) => {
                            assert!(!is_there, "{} was copied again", id.short());
                            self.live[1 - one].insert(copied.id, (origin, held));
                        }
                        Some(other) => panic!("{other:?}"),
                    }
                }
            }
            6 => {
                let gone: Vec<ObjectId> =
                    self.live[one].keys().copied().filter(|_| self.noise.next().is_multiple_of(3)).collect();
                let mark = |state: &mut packstone::codec::live_state::LiveState, generation| {
                    for id in &gone {
                        state.mark(*id, MarkedKind::Snapshot, generation);
                    }
                    Ok(())
                };
                repository.append(mark).unwrap();
                self.live[one].retain(|id, _| !gone.contains(id));
            }
            _ => {
                let grace = Duration::from_secs(if self.draw(3) == 0 { 1 << 20 } else { 0 });
                let limits = Limits { max_unused: MaxUnused::Bytes(0), max_repack: None, pack_bytes: PACK_BYTES };
                let options = prune::Options { limits, grace, packs: packs(PACK_BYTES), now: Time::now() };
                prune::run(&repository, &options, &Silent).unwrap();
            }
        }
    }

    fn finish(&mut self) {
        let root = self.source.path().as_os_str().as_encoded_bytes()[1..].to_vec();
        for one in 0..2 {
            let repository = self.side(one).open();
            let found: Vec<ObjectId> = repository.tip().state.snapshots.keys().copied().collect();
            assert_eq!(found, self.live[one].keys().copied().collect::<Vec<_>>());
            for (id, (origin, held)) in &self.live[one] {
                assert!(contents(&repository, *id, &root).unwrap() == **held, "{}", id.short());
                let original = repository.snapshot(*id).unwrap().original;
                assert_eq!(original.unwrap_or(*id), *origin);
            }
            assert_sound(&repository);
        }
    }
}

#[test]
fn two_repositories_hold_what_was_backed_up_or_copied() {
    let chosen = std::env::var("PACKSTONE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = chosen.map_or(0..if is_full() { 2_000 } else { 60 }, |seed| seed..seed + 1);
    for seed in seeds.clone() {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..6 + world.draw(14) {
            world.step();
        }
        world.finish();
    }
    println!("{} sequences on two repositories", seeds.count());
}
