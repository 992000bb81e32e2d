//! The digests of files that lie in several blocks, taken from the pieces while they are written: chunks that are all right, in the
//! wrong order or too few of them, are found by nothing else.
//!
//! A hasher wants the bytes in order. Blocks are handed out in order, so a worker is a few blocks ahead of another at most: what
//! it has is kept until the gap is filled, a few blocks for all files together. What does not come in order by then, because a
//! file shares chunks with others, is not compared, and the report says so.

use crate::base::lock::lock;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::pieces::Piece;
use super::worker::bytes_of;
use crate::codec::tree::{Content, Hole};

/// Blocks that wait for the one before, for all files together: 2 MiB each as a rule.
const WAITING_MAX: usize = 16;
/// Files that have begun and are not finished: a hasher takes 2 KiB.
const FILES_MAX: usize = 4_096;

/// What is known of a file when its last piece has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is what was backed up.
    Right,
    /// It is not.
    Wrong,
    /// Its pieces did not come in order.
    NotCompared,
}

/// True when this is the digest of the file that is made of these pieces of one block.
pub(super) fn is_right(digest: [u8; 32], run: &[Piece], plain: &[u8], holes: &[Hole]) -> bool {
    let mut hasher = blake3::Hasher::new();
    run.iter().filter_map(|piece| bytes_of(piece, plain)).for_each(|bytes| {
        hasher.update(bytes);
    });
    Content::digest_of(hasher, holes) == digest
}

/// Neighbouring pieces of one block.
#[derive(Debug)]
struct Waiting {
    token: u64,
    pieces: Vec<Piece>,
    plain: Arc<Vec<u8>>,
}

/// A file that has begun.
#[derive(Debug)]
struct Running {
    hasher: blake3::Hasher,
    /// Position of the next byte.
    next: u64,
    waiting: Vec<Waiting>,
    /// It cannot be compared any more.
    is_lost: bool,
}

impl Running {
    fn new() -> Self {
        Self { hasher: blake3::Hasher::new(), next: 0, waiting: Vec::new(), is_lost: false }
    }

    fn feed(&mut self, pieces: &[Piece], plain: &[u8]) {
        for piece in pieces {
            let Some(bytes) = bytes_of(piece, plain) else { return self.lose() };
            self.hasher.update(bytes);
            self.next += u64::from(piece.length);
        }
    }

    fn lose(&mut self) {
        self.is_lost = true;
        self.waiting.clear();
    }

    /// Takes neighbouring pieces; true when they wait now.
    fn take(&mut self, token: u64, pieces: &[Piece], plain: &Arc<Vec<u8>>) -> bool {
        let Some(first) = pieces.first().filter(|_| !self.is_lost) else { return false };
        if first.position != self.next {
            self.waiting.push(Waiting { token, pieces: pieces.to_vec(), plain: Arc::clone(plain) });
            return true;
        }
        self.feed(pieces, plain);
        let follows = |waiting: &Waiting, next| waiting.pieces.first().is_some_and(|piece| piece.position == next);
        while let Some(place) = self.waiting.iter().position(|waiting| follows(waiting, self.next)) {
            let waiting = self.waiting.swap_remove(place);
            self.feed(&waiting.pieces, &waiting.plain);
        }
        false
    }
}

#[derive(Debug, Default)]
struct Files {
    running: HashMap<u32, Arc<Mutex<Running>>>,
    /// What waits, or did, the oldest first.
    waiting: VecDeque<(u64, u32)>,
    tokens: u64,
}

/// See the module. Files go by their row in the catalog.
#[derive(Debug, Default)]
pub(super) struct Digests(Mutex<Files>);

impl Digests {
    /// Takes the pieces of a file in one block.
    pub fn add(&self, row: u32, run: &[Piece], plain: &Arc<Vec<u8>>) {
        let (running, token) = {
            let mut files = lock(&self.0);
            files.tokens += 1;
            let token = files.tokens;
            let is_full = files.running.len() >= FILES_MAX;
            let running = files.running.entry(row).or_insert_with(|| {
                let mut running = Running::new();
                running.is_lost = is_full;
                Arc::new(Mutex::new(running))
            });
            (Arc::clone(running), token)
        };
        let is_next = |one: &Piece, other: &Piece| one.position + u64::from(one.length) == other.position;
        let mut waits = false;
        {
            let mut running = lock(&running);
            for pieces in run.chunk_by(is_next) {
                waits |= running.take(token, pieces, plain);
            }
        }
        if waits {
            self.make_room(token, row);
        }
    }

    /// What has waited for longest is given up for what waits now: a gap between two workers would have been filled.
    fn make_room(&self, token: u64, row: u32) {
        let mut given_up = Vec::new();
        {
            let mut files = lock(&self.0);
            files.waiting.push_back((token, row));
            while files.waiting.len() > WAITING_MAX {
                let Some((token, row)) = files.waiting.pop_front() else { break };
                given_up.extend(files.running.get(&row).map(|running| (token, Arc::clone(running))));
            }
        }
        for (token, running) in given_up {
            let mut running = lock(&running);
            if running.waiting.iter().any(|waiting| waiting.token == token) {
                running.lose();
            }
        }
    }

    /// All pieces of a file of this length without its holes have come.
    pub fn end(&self, row: u32, length: u64, digest: [u8; 32], holes: &[Hole]) -> Verdict {
        let running = lock(&self.0).running.remove(&row);
        let Some(running) = running else { return Verdict::NotCompared };
        let running = lock(&running);
        if running.is_lost || running.next != length {
            return Verdict::NotCompared;
        }
        match Content::digest_of(running.hasher.clone(), holes) == digest {
            true => Verdict::Right,
            false => Verdict::Wrong,
        }
    }

    /// A file has failed.
    pub fn forget(&self, row: u32) {
        lock(&self.0).running.remove(&row);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::id::ChunkId;

    const LENGTH: u32 = 4;

    /// The how many-th chunk of a file, in the block of that number.
    fn piece(number: u32) -> Piece {
        Piece::new(0, number as u16, 0, u64::from(number * LENGTH), 0, LENGTH, &ChunkId([0; 32]))
    }

    /// What is said of a file whose chunks come in this order.
    fn verdict(order: &[u32], wrong: bool) -> Verdict {
        let block = |number: u32| Arc::new(vec![number as u8; LENGTH as usize]);
        let mut hasher = blake3::Hasher::new();
        for number in 0..order.len() as u32 {
            hasher.update(&block(number));
        }
        let mut digest = Content::digest_of(hasher, &[]);
        digest[0] ^= u8::from(wrong);
        let digests = Digests::default();
        for number in order {
            digests.add(7, &[piece(*number)], &block(*number));
        }
        let verdict = digests.end(7, order.len() as u64 * u64::from(LENGTH), digest, &[]);
        assert!(lock(&digests.0).running.is_empty());
        verdict
    }

    #[test]
    fn what_comes_nearly_in_order_is_compared() {
        let many: Vec<u32> = (0..500).collect();
        let swapped: Vec<u32> = many.chunks(4).flat_map(|some| some.iter().rev().copied()).collect();
        let backwards: Vec<u32> = (0..40).rev().collect();
        let late: Vec<u32> = (1..40).chain([0]).collect();
        for (order, expected) in [
            (many, Verdict::Right),
            (swapped, Verdict::Right),
            (vec![2, 1, 0], Verdict::Right),
            (backwards, Verdict::NotCompared),
            (late, Verdict::NotCompared),
        ] {
            assert_eq!(verdict(&order, false), expected, "{order:?}");
            let wrong = if expected == Verdict::Right { Verdict::Wrong } else { expected };
            assert_eq!(verdict(&order, true), wrong, "{order:?}");
        }
    }

    /// A file that comes in another order does not take the room from those that come in theirs.
    #[test]
    fn one_that_is_given_up_holds_nobody_up() {
        let block = Arc::new(vec![1; LENGTH as usize]);
        let digests = Digests::default();
        for number in (1..30).rev() {
            digests.add(1, &[piece(number)], &block);
        }
        let mut hasher = blake3::Hasher::new();
        for number in [1, 0, 3, 2, 5, 4] {
            digests.add(2, &[piece(number)], &block);
            hasher.update(&block);
        }
        let digest = Content::digest_of(hasher, &[]);
        assert_eq!(digests.end(2, 6 * u64::from(LENGTH), digest, &[]), Verdict::Right);
        assert_eq!(digests.end(1, 30 * u64::from(LENGTH), digest, &[]), Verdict::NotCompared);
    }
}
