//! The cache under damage, other processes and other repositories: whatever happens to the files, an answer is right
//! or there is none.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// A small generator (Marsaglia, "Xorshift RNGs", 2003), so that every run damages the same places.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

const REPOSITORY: RepositoryId = RepositoryId([3; 32]);

fn key() -> Key {
    Key::new([5; 32])
}

fn object(n: u32) -> ObjectId {
    ObjectId::of(&n.to_le_bytes())
}

fn chunk(n: u32) -> ChunkId {
    ChunkId(*blake3::keyed_hash(&[1; 32], &n.to_le_bytes()).as_bytes())
}

fn stamp(generation: u64, segments: std::ops::Range<u32>) -> Stamp {
    Stamp { generation, head: object(u32::MAX), segments: segments.map(object).collect() }
}

/// Packs `numbers`, each of 4 blocks of 8 chunks.
fn packs(numbers: std::ops::Range<u32>) -> Vec<NewPack> {
    let block = |pack: u32, block: u32| {
        let chunks: Vec<_> = (0..8).map(|n| (chunk(pack * 32 + block * 8 + n), 1000 + n)).collect();
        let plain_length = chunks.iter().map(|(_, length)| length).sum();
        let codec = if block == 0 { Codec::Stored } else { Codec::Zstd };
        (BlockPlace { offset: u64::from(block) << 20, stored_length: 900 + block, plain_length, codec }, chunks)
    };
    let pack = |number: u32| NewPack {
        fact: PackFact { id: object(1000 + number), length: 1 << 25, kind: 3, segment: object(number / 4) },
        blocks: (0..4).map(|n| block(number, n)).collect(),
    };
    numbers.map(pack).collect()
}

/// Every answer that is right, however the packs are numbered.
struct Truth {
    chunks: HashMap<ChunkId, (ObjectId, u16, u32, u32)>,
    blocks: HashMap<(ObjectId, u16), BlockPlace>,
}

impl Truth {
    fn of(packs: &[NewPack]) -> Self {
        let mut truth = Self { chunks: HashMap::new(), blocks: HashMap::new() };
        for pack in packs {
            for ((place, chunks), block) in pack.blocks.iter().zip(0..) {
                truth.blocks.insert((pack.fact.id, block), *place);
                let mut offset = 0;
                for (id, length) in chunks {
                    truth.chunks.insert(*id, (pack.fact.id, block, offset, *length));
                    offset += length;
                }
            }
        }
        truth
    }

    /// Asks for everything, and for what is not there. Panics on a wrong answer; returns (right, missing, refused).
    fn ask(&self, cache: &Cache) -> (usize, usize, usize) {
        let (mut right, mut missing, mut refused) = (0, 0, 0);
        for (id, expected) in &self.chunks {
            match cache.lookup(id) {
                Ok(Some(at)) => {
                    assert_eq!((at.pack, at.block, at.offset, at.length), *expected);
                    assert_eq!(cache.packs()[at.pack_number as usize].id, at.pack);
                    right += 1;
                }
                Ok(None) => missing += 1,
                Err(_) => refused += 1,
            }
        }
        for (number, fact) in cache.packs().iter().enumerate() {
            for block in 0..5 {
                match cache.block(u32::try_from(number).unwrap(), block) {
                    Ok(Some(place)) => {
                        assert_eq!(Some(&place), self.blocks.get(&(fact.id, block)));
                        right += 1;
                    }
                    Ok(None) => missing += usize::from(block < 4),
                    Err(_) => refused += 1,
                }
            }
        }
        for n in 1_000_000..1_000_032 {
            assert!(!matches!(cache.lookup(&chunk(n)), Ok(Some(_))));
        }
        (right, missing, refused)
    }
}

fn write_packs(folder: &Path, stamp: Stamp, packs: &[NewPack], from_scratch: bool) -> Result<(), CacheError> {
    write(folder, &key(), REPOSITORY, Update { stamp, packs: Box::new(packs.iter().cloned()) }, from_scratch)
}

fn open(folder: &Path) -> Result<Cache, CacheError> {
    Cache::try_open(folder, &key(), REPOSITORY)
}

/// As [`open`], without proving the seal: what is left to the records' checks and the guard.
fn open_unsealed(folder: &Path) -> Result<Cache, CacheError> {
    let files = Files::new(folder);
    let lock = files.lock_shared()?;
    Cache::open_locked(&files, &key(), REPOSITORY, lock)
}

/// A cache of `count` packs in a folder of its own.
fn sample(count: u32) -> (tempfile::TempDir, Truth) {
    let folder = tempfile::tempdir().unwrap();
    let packs = packs(0..count);
    write_packs(folder.path(), stamp(7, 0..count.div_ceil(4)), &packs, true).unwrap();
    (folder, Truth::of(&packs))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_written_is_found_and_nothing_else() {
    let (folder, truth) = sample(10);
    let cache = open(folder.path()).unwrap();
    assert_eq!(*cache.stamp(), stamp(7, 0..3));
    assert_eq!(cache.packs().len(), 10);
    assert_eq!(truth.ask(&cache), (10 * 32 + 10 * 4, 0, 0));
    assert_eq!(cache.block(10, 0).unwrap(), None);
    assert_eq!(names(folder.path()), ["index.lock", "index.redb", "index.seal"]);
}

#[test]
fn an_update_adds_packs_and_moves_the_stamp() {
    let (folder, _) = sample(10);
    write_packs(folder.path(), stamp(8, 1..5), &packs(8..20), false).unwrap();
    let cache = open(folder.path()).unwrap();
    assert_eq!(*cache.stamp(), stamp(8, 1..5));
    assert_eq!(cache.packs().len(), 20, "packs 8 and 9 keep their numbers");
    assert_eq!(Truth::of(&packs(0..20)).ask(&cache), (20 * 36, 0, 0));
}

#[test]
fn of_two_places_of_one_chunk_the_later_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut twice = packs(0..2);
    twice[1].blocks = twice[0].blocks.clone();
    write_packs(folder.path(), stamp(1, 0..1), &twice, true).unwrap();
    let cache = open(folder.path()).unwrap();
    assert_eq!(cache.lookup(&chunk(0)).unwrap().unwrap().pack, twice[1].fact.id);
    drop(cache);
    let mut third = packs(2..3);
    third[0].blocks = twice[0].blocks.clone();
    write_packs(folder.path(), stamp(2, 0..1), &third, false).unwrap();
    let cache = open(folder.path()).unwrap();
    assert_eq!(cache.lookup(&chunk(0)).unwrap().unwrap().pack, third[0].fact.id);
}

#[test]
fn a_segment_s_pack_is_taken_over_block_by_block() {
    use crate::codec::chunk_list::ChunkRef;
    use crate::codec::pack::{Block, HEADER_BYTES, PackDirectory, PackKind};
    use crate::codec::segment::SegmentPack;
    let block = |n: u32, codec| Block {
        codec,
        stored_length: 1_000 + n,
        plain_length: 30,
        chunks: vec![ChunkRef { id: chunk(2 * n), length: 10 }, ChunkRef { id: chunk(2 * n + 1), length: 20 }],
    };
    let pack = SegmentPack {
        id: object(1),
        length: 65_536,
        kind: PackKind::Tree,
        directory: PackDirectory { blocks: vec![block(0, Codec::Zstd), block(1, Codec::Stored)] },
        directory_prefix: [0; 64],
    };
    let folder = tempfile::tempdir().unwrap();
    write_packs(folder.path(), stamp(1, 0..1), &[NewPack::of_segment(object(9), &pack)], true).unwrap();
    let cache = open(folder.path()).unwrap();
    assert_eq!(cache.packs(), [PackFact { id: object(1), length: 65_536, kind: 4, segment: object(9) }]);
    let at = Location { pack: object(1), pack_number: 0, block: 1, offset: 10, length: 20 };
    assert_eq!(cache.lookup(&chunk(3)).unwrap(), Some(at));
    let place = BlockPlace {
        offset: HEADER_BYTES as u64 + 1_000,
        stored_length: 1_001,
        plain_length: 30,
        codec: Codec::Stored,
    };
    assert_eq!(cache.block(0, 1).unwrap(), Some(place));
}

#[test]
fn an_empty_cache_is_a_cache() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("made/on/demand");
    assert!(matches!(open(&folder), Err(CacheError::Absent)));
    assert!(matches!(write_packs(&folder, stamp(1, 0..0), &[], false), Err(CacheError::Absent)));
    assert!(!folder.exists(), "an update of nothing leaves nothing");
    write_packs(&folder, stamp(1, 0..0), &[], true).unwrap();
    let cache = open(&folder).unwrap();
    assert_eq!(cache.lookup(&chunk(0)).unwrap(), None);
    assert_eq!(cache.packs(), []);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for name in names(&folder) {
        assert_eq!(mode(&folder.join(&name)), 0o600, "{name}");
    }
}

#[test]
fn of_2000_flipped_bytes_each_is_noticed_before_the_database_is_opened() {
    let (folder, _) = sample(64);
    let index = folder.path().join("index.redb");
    let good = fs::read(&index).unwrap();
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let file = fs::OpenOptions::new().write(true).open(&index).unwrap();
    let put = |at: usize, byte: u8| std::os::unix::fs::FileExt::write_all_at(&file, &[byte], at as u64).unwrap();
    for _ in 0..2000 {
        let at = random.below(good.len());
        put(at, good[at] ^ (1 + random.next() % 255) as u8);
        assert!(matches!(open(folder.path()), Err(CacheError::Damaged(_))), "byte {at}");
        put(at, good[at]);
    }
    open(folder.path()).unwrap();
}

#[test]
fn of_2000_flipped_bits_none_gives_a_wrong_answer_even_without_the_seal() {
    let (folder, truth) = sample(64);
    let total = 64 * 36;
    let index = folder.path().join("index.redb");
    let good = fs::read(&index).unwrap();
    // Pages that are all zero are never read, so damage there shows nothing.
    let used: Vec<usize> =
        (0..good.len()).step_by(4096).filter(|at| good[*at..at + 4096].iter().any(|b| *b != 0)).collect();
    let mut random = Xorshift(0x2545_f491_4f6c_dd1d);
    let mut noticed = 0;
    for _ in 0..2000 {
        let at = used[random.below(used.len())] + random.below(4096);
        let mut damaged = good.clone();
        damaged[at] ^= 1 << random.below(8);
        fs::write(&index, &damaged).unwrap();
        match open_unsealed(folder.path()) {
            Err(_) => noticed += 1,
            Ok(cache) => {
                let (right, _, refused) = truth.ask(&cache);
                assert_eq!(cache.is_damaged(), refused > 0);
                noticed += usize::from(right < total);
            }
        }
    }
    assert!(noticed > 500, "only {noticed} of 2000 damages touched anything that is read");
}

#[test]
fn truncations_and_noise_are_noticed_and_healed_by_writing_from_scratch() {
    let (folder, truth) = sample(16);
    let index = folder.path().join("index.redb");
    let good = fs::read(&index).unwrap();
    let mut random = Xorshift(77);
    let lengths = [0, 1, 9, 63, 64, 319, 320, 4095, 4096, 8192, good.len() / 2, good.len() - 4096, good.len() - 1];
    for length in lengths.into_iter().chain((0..100).map(|_| random.below(good.len()))) {
        fs::write(&index, &good[..length]).unwrap();
        assert!(matches!(open(folder.path()), Err(CacheError::Damaged(_))), "{length} bytes");
        if let Ok(cache) = open_unsealed(folder.path()) {
            truth.ask(&cache);
        }
    }
    let mut longer = good.clone();
    longer.push(0);
    let noise: Vec<u8> = (0..good.len()).map(|_| random.next() as u8).collect();
    let mut noise_behind_the_header = noise.clone();
    noise_behind_the_header[..4096].copy_from_slice(&good[..4096]);
    for damaged in [longer, noise, noise_behind_the_header, vec![0; good.len()]] {
        fs::write(&index, &damaged).unwrap();
        assert!(matches!(open(folder.path()), Err(CacheError::Damaged(_))));
        assert!(matches!(
            write_packs(folder.path(), stamp(8, 0..4), &packs(16..17), false),
            Err(CacheError::Damaged(_))
        ));
        write_packs(folder.path(), stamp(9, 0..4), &packs(0..16), true).unwrap();
        assert_eq!(truth.ask(&open(folder.path()).unwrap()), (16 * 36, 0, 0));
    }
}

#[test]
fn a_damaged_seal_is_no_seal() {
    let (folder, _) = sample(4);
    let seal = folder.path().join("index.seal");
    let good = fs::read(&seal).unwrap();
    for bit in 0..good.len() * 8 {
        let mut damaged = good.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&seal, &damaged).unwrap();
        assert!(open(folder.path()).is_err(), "bit {bit}");
    }
    for length in 0..good.len() {
        fs::write(&seal, &good[..length]).unwrap();
        assert!(matches!(open(folder.path()), Err(CacheError::Damaged(_))));
    }
    fs::remove_file(&seal).unwrap();
    assert!(matches!(open(folder.path()), Err(CacheError::Absent)));
}

#[test]
fn a_folder_in_the_place_of_a_file_is_damage_and_gives_way_when_empty() {
    for name in ["index.redb", "index.seal"] {
        let (folder, truth) = sample(4);
        let path = folder.path().join(name);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(open(folder.path()), Err(CacheError::Damaged(_))), "{name}");
        assert!(write_packs(folder.path(), stamp(8, 0..1), &packs(0..4), false).is_err());
        write_packs(folder.path(), stamp(8, 0..1), &packs(0..4), true).unwrap();
        assert_eq!(truth.ask(&open(folder.path()).unwrap()), (4 * 36, 0, 0));
    }
    let (folder, _) = sample(4);
    let index = folder.path().join("index.redb");
    fs::remove_file(&index).unwrap();
    fs::create_dir_all(index.join("kept")).unwrap();
    assert!(matches!(write_packs(folder.path(), stamp(8, 0..1), &packs(0..4), true), Err(CacheError::Io { .. })));
    assert!(index.join("kept").is_dir());
}

#[test]
fn the_cache_of_another_repository_or_key_is_not_opened() {
    let (folder, _) = sample(4);
    let other = RepositoryId([4; 32]);
    assert!(matches!(Cache::try_open(folder.path(), &key(), other), Err(CacheError::OtherRepository)));
    assert!(matches!(Writer::open(folder.path(), &key(), other), Err(CacheError::OtherRepository)));
    assert!(Cache::open(folder.path(), &Key::new([6; 32]), REPOSITORY).is_none());
    // The same with a seal that fits: the records themselves say whose they are.
    let files = Files::new(folder.path());
    fs::remove_file(&files.seal).unwrap();
    seal::write(&files.index, &files.seal, &key(), other).unwrap();
    assert!(matches!(Cache::try_open(folder.path(), &key(), other), Err(CacheError::OtherRepository)));
    fs::remove_file(&files.seal).unwrap();
    seal::write(&files.index, &files.seal, &Key::new([6; 32]), REPOSITORY).unwrap();
    assert!(matches!(
        Cache::try_open(folder.path(), &Key::new([6; 32]), REPOSITORY),
        Err(CacheError::Damaged("meta record"))
    ));
}

#[test]
fn an_older_state_of_the_files_is_a_cache_with_an_older_stamp() {
    let (folder, truth) = sample(4);
    let files = Files::new(folder.path());
    let (index, seal) = (fs::read(&files.index).unwrap(), fs::read(&files.seal).unwrap());
    write_packs(folder.path(), stamp(8, 0..2), &packs(4..8), false).unwrap();
    fs::write(&files.index, &index).unwrap();
    assert!(matches!(open(folder.path()), Err(CacheError::Damaged(_))), "an index under a newer seal");
    fs::write(&files.seal, &seal).unwrap();
    let cache = open(folder.path()).unwrap();
    assert_eq!(*cache.stamp(), stamp(7, 0..1));
    assert_eq!(truth.ask(&cache), (4 * 36, 0, 0));
}

#[test]
fn readers_share_it_and_a_writer_meeting_them_is_told_at_once() {
    let (folder, truth) = sample(16);
    let first = open(folder.path()).unwrap();
    let second = open(folder.path()).unwrap();
    std::thread::scope(|scope| {
        for cache in [&first, &second, &first, &second] {
            scope.spawn(|| assert_eq!(truth.ask(cache), (16 * 36, 0, 0)));
        }
    });
    for from_scratch in [false, true] {
        assert!(matches!(
            write_packs(folder.path(), stamp(8, 0..4), &packs(0..1), from_scratch),
            Err(CacheError::Busy)
        ));
    }
    drop(first);
    assert!(matches!(Writer::open(folder.path(), &key(), REPOSITORY), Err(CacheError::Busy)));
    assert_eq!(truth.ask(&second), (16 * 36, 0, 0));
    drop(second);
    write_packs(folder.path(), stamp(8, 0..4), &[], false).unwrap();
}

#[test]
fn there_is_one_writer_and_readers_meeting_it_go_without() {
    let (folder, truth) = sample(4);
    for begin in [Writer::create, Writer::open] {
        let mut writer = begin(folder.path(), &key(), REPOSITORY).unwrap();
        assert!(matches!(open(folder.path()), Err(CacheError::Busy)));
        assert!(matches!(Writer::create(folder.path(), &key(), REPOSITORY), Err(CacheError::Busy)));
        assert!(matches!(Writer::open(folder.path(), &key(), REPOSITORY), Err(CacheError::Busy)));
        for pack in packs(0..4) {
            writer.add(&pack).unwrap();
        }
        writer.finish(&stamp(9, 0..1)).unwrap();
        assert_eq!(truth.ask(&open(folder.path()).unwrap()), (4 * 36, 0, 0));
    }
}

#[test]
fn writers_that_race_leave_a_sound_cache() {
    let (folder, truth) = sample(4);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let folder = folder.path();
            scope.spawn(move || match write_packs(folder, stamp(8, 0..1), &packs(0..4), n % 2 == 0) {
                Ok(()) | Err(CacheError::Busy) => {}
                Err(error) => panic!("{error}"),
            });
        }
    });
    assert_eq!(truth.ask(&open(folder.path()).unwrap()), (4 * 36, 0, 0));
}

#[test]
fn a_writer_that_is_dropped_takes_only_what_it_touched() {
    let (folder, truth) = sample(4);
    let mut writer = Writer::create(folder.path(), &key(), REPOSITORY).unwrap();
    writer.add(&packs(5..6)[0]).unwrap();
    drop(writer);
    assert_eq!(truth.ask(&open(folder.path()).unwrap()), (4 * 36, 0, 0), "a new file was dropped");
    let mut writer = Writer::open(folder.path(), &key(), REPOSITORY).unwrap();
    writer.add(&packs(5..6)[0]).unwrap();
    drop(writer);
    assert!(matches!(open(folder.path()), Err(CacheError::Absent)));
    assert_eq!(names(folder.path()), ["index.lock", "index.seal"]);
}

#[test]
fn what_a_killed_writer_leaves_is_not_opened_and_is_cleared() {
    let (folder, truth) = sample(4);
    let files = Files::new(folder.path());
    // Killed while it added: redb's own files as they are in the middle of a transaction.
    let writer = Writer::open(folder.path(), &key(), REPOSITORY).unwrap();
    let torn = fs::read(&files.index).unwrap();
    drop(writer);
    fs::write(&files.index, torn).unwrap();
    fs::write(folder.path().join("index.redb.new"), b"half").unwrap();
    fs::write(folder.path().join("index.seal.new"), b"half").unwrap();
    assert!(matches!(open(folder.path()), Err(CacheError::Damaged(_))));
    write_packs(folder.path(), stamp(8, 0..1), &packs(0..4), true).unwrap();
    assert_eq!(truth.ask(&open(folder.path()).unwrap()), (4 * 36, 0, 0));
    assert_eq!(names(folder.path()), ["index.lock", "index.redb", "index.seal"]);
}

#[test]
fn a_failed_lookup_stops_the_cache_for_good() {
    let (folder, truth) = sample(64);
    let files = Files::new(folder.path());
    let good = fs::read(&files.index).unwrap();
    // Zeros where the chunk ids of the table's leaves are: found by looking for one of them.
    let id = chunk(33);
    let at = good.windows(32).position(|window| window == id.as_bytes()).unwrap() / 4096 * 4096;
    let mut damaged = good;
    damaged[at..at + 4096].fill(0);
    fs::write(&files.index, damaged).unwrap();
    let cache = open_unsealed(folder.path()).unwrap();
    assert!(!cache.is_damaged());
    assert!(matches!(cache.lookup(&id), Err(CacheError::Damaged(_))));
    assert!(cache.is_damaged());
    assert!(!files.seal.exists());
    let (right, missing, _) = truth.ask(&cache);
    assert_eq!((right, missing), (0, 0), "no answer after the first failed one");
    drop(cache);
    assert!(matches!(open(folder.path()), Err(CacheError::Absent)));
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = write_packs(&file.join("cache"), stamp(1, 0..1), &[], true).unwrap_err();
    assert!(error.to_string().contains("file/cache"), "{error}");
    assert!(Cache::open(&file.join("cache"), &key(), REPOSITORY).is_none());
}

#[test]
fn blocks_that_no_pack_can_have_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut long = packs(0..1);
    long[0].blocks[0].1 = vec![(chunk(0), u32::MAX), (chunk(1), 2)];
    assert!(matches!(write_packs(folder.path(), stamp(1, 0..1), &long, true), Err(CacheError::Unfit(_))));
    let mut many = packs(0..1);
    let place = many[0].blocks[0].0;
    many[0].blocks = vec![(place, Vec::new()); 65_537];
    assert!(matches!(write_packs(folder.path(), stamp(1, 0..1), &many, true), Err(CacheError::Unfit(_))));
    assert_eq!(names(folder.path()), ["index.lock"]);
}
