//! Root restores into a directory that somebody else may write, and that somebody is there.
//!
//! An enemy (user 65534, `enemy.py`) fills the target first: with files that have the right bytes, which he keeps open and mapped, with
//! links out of it, with other kinds of files, with rights for himself. In two rounds of three he goes on during the restore: exchanges files for his
//! own, takes hold of what is new, renames what is not finished, moves directories away. When root believes that all is well he writes through
//! whatever he still holds. Then [`judge`] looks:
//!
//! - No file that belongs to somebody else, no file with set-id bits that are not his own, and no file with capabilities holds a byte that is
//!   not the snapshot's, wherever it lies now.
//! - Nothing outside the target has changed: a tree of root's files beside it, which he links to and points to.
//! - Where he kept still during the restore, exit code 0 means that the target is as the snapshot has it.
//!
//! The short form plays 42 rounds, `PACKSTONE_FULL=1` 1,002: each `--overwrite` mode, with and without `--delete`, with
//! `fs.protected_hardlinks` on and off (which is the system's, and is put back). The seed is printed; `PACKSTONE_SEED` sets it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

mod control;
mod judge;
mod play;
mod source;

use play::{Protected, Stage};

/// The one who may write the target.
const ENEMY: u32 = 65_534;

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

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    fn choose<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.next() as usize % all.len()]
    }
}

/// What the judge says, for a count of each.
const KINDS_OF_FAULT: [&str; 9] = [
    "OUTSIDE the target",
    "bytes that are not the snapshot's",
    "a link that the snapshot does not have",
    "a device that the snapshot does not have",
    "made by the enemy afterwards",
    " expected, ",
    "is missing",
    "should not be there",
    "temporary names are left",
];

fn seed() -> u64 {
    let seed = std::env::var("PACKSTONE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos())
    });
    println!("PACKSTONE_SEED={seed}");
    seed
}

#[test]
fn an_enemy_in_the_target_gets_nothing_that_is_not_his() {
    let stage = match Stage::new() {
        Ok(stage) => stage,
        Err(why) => return println!("SKIPPED an enemy in the target: {why}"),
    };
    let protected = match Protected::remember() {
        Ok(protected) => protected,
        Err(why) => return println!("SKIPPED an enemy in the target: {why}"),
    };
    let full = std::env::var_os("PACKSTONE_FULL").is_some_and(|value| value == "1");
    let rounds = if full { 1_002 } else { 42 };
    let seed = seed();
    let mut noise = Noise(seed);
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    let (mut faults, mut bad, mut exact, mut left) = (Vec::new(), 0, 0, 0);
    for number in 0..rounds {
        let round = play::Round::choose(number, &mut noise);
        protected.set(round.protected);
        let told = play::play(&stage, &round);
        for exit in told.exits {
            *codes.entry(exit).or_default() += 1;
        }
        exact += told.compared;
        left += told.temporary;
        bad += usize::from(!told.faults.is_empty());
        faults.extend(told.faults.into_iter().map(|fault| format!("round {number} ({round}): {fault}")));
    }
    println!(
        "{} of {rounds} rounds without a fault; exit codes {codes:?}; {exact} restores were compared with the snapshot, and {left} temporary \
         names were left where the enemy had a hand in it",
        rounds - bad
    );
    for kind in KINDS_OF_FAULT {
        let of_kind: Vec<&String> = faults.iter().filter(|fault| fault.contains(kind)).collect();
        if let Some(first) = of_kind.first() {
            println!("{} times \"{kind}\", such as {first}", of_kind.len());
        }
    }
    assert!(exact > rounds / 12, "hardly any restore succeeded where the enemy kept still: {exact}");
    assert!(
        faults.is_empty(),
        "{} faults in {bad} rounds, seed {seed}; the first:\n{}",
        faults.len(),
        faults[..faults.len().min(30)].join("\n")
    );
}
