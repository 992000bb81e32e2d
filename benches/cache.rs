//! The cache: writing it from scratch, adding to it, opening it (which proves its seal), looking chunks up.

#![allow(missing_docs, clippy::expect_used)]

use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use packstone::base::id::{ChunkId, ObjectId, RepositoryId};
use packstone::codec::key_tree::Key;
use packstone::codec::unit::Codec;
use packstone::repository::cache::{BlockPlace, Cache, NewPack, PackFact, Stamp, Update, write};

const REPOSITORY: RepositoryId = RepositoryId([3; 32]);
/// A pack of 32 MiB holds 16 blocks; a block of 2 MiB of small files holds about 128 chunks.
const BLOCKS: u32 = 16;
const CHUNKS: u32 = 128;
const PACK_CHUNKS: u32 = BLOCKS * CHUNKS;
/// 49 packs of 2,048 chunks: 100,352 chunks, a Linux source tree.
const PACKS: u32 = 49;

fn key() -> Key {
    Key::new([5; 32])
}

fn chunk(n: u32) -> ChunkId {
    ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn packs(numbers: std::ops::Range<u32>) -> Vec<NewPack> {
    let block = |first: u32, offset: u64| {
        let place = BlockPlace { offset, stored_length: 400_000, plain_length: CHUNKS * 16_384, codec: Codec::Zstd };
        (place, (first..first + CHUNKS).map(|n| (chunk(n), 16_384)).collect())
    };
    numbers
        .map(|number| NewPack {
            fact: PackFact {
                id: ObjectId::of(&number.to_le_bytes()),
                length: 1 << 25,
                kind: 3,
                segment: ObjectId([7; 32]),
            },
            blocks: (0..BLOCKS).map(|n| block(number * PACK_CHUNKS + n * CHUNKS, u64::from(n) * 400_000)).collect(),
        })
        .collect()
}

fn fill(folder: &Path, packs: &[NewPack], from_scratch: bool) {
    let stamp = Stamp { generation: 1, head: ObjectId([1; 32]), segments: [ObjectId([7; 32])].into() };
    let update = Update { stamp, packs: Box::new(packs.iter().cloned()) };
    write(folder, &key(), REPOSITORY, update, from_scratch).expect("a cache in a temporary folder");
}

fn cache(criterion: &mut Criterion) {
    let all = packs(0..PACKS);
    let mut group = criterion.benchmark_group("cache");
    group.sample_size(10);

    group.throughput(Throughput::Elements(u64::from(PACKS * PACK_CHUNKS)));
    group.bench_function("write 100,352 chunks from scratch", |bencher| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        bencher.iter(|| fill(folder.path(), &all, true));
    });

    group.throughput(Throughput::Elements(u64::from(PACK_CHUNKS)));
    let one = packs(PACKS..PACKS + 1);
    group.bench_function("add 2,048 chunks to 100,352", |bencher| {
        bencher.iter_batched(
            || {
                let folder = tempfile::tempdir().expect("a temporary folder");
                fill(folder.path(), &all, true);
                folder
            },
            |folder| fill(folder.path(), &one, false),
            BatchSize::PerIteration,
        );
    });

    let folder = tempfile::tempdir().expect("a temporary folder");
    fill(folder.path(), &all, true);
    let index_bytes = std::fs::metadata(folder.path().join("index.redb")).expect("an index").len();
    group.throughput(Throughput::Bytes(index_bytes));
    group.bench_function("open", |bencher| {
        bencher.iter(|| Cache::open(folder.path(), &key(), REPOSITORY).expect("a sound cache"));
    });

    let cache = Cache::open(folder.path(), &key(), REPOSITORY).expect("a sound cache");
    let mut ids: Vec<_> = (0..10_000).map(|n| chunk(n * 10)).collect();
    group.throughput(Throughput::Elements(ids.len() as u64));
    let lookup_all = |ids: &[ChunkId]| {
        for id in ids {
            black_box(cache.lookup(id).expect("a sound cache"));
        }
    };
    group.bench_function("look up 10,000 chunks", |bencher| bencher.iter(|| lookup_all(&ids)));
    ids.sort_unstable();
    group.bench_function("look up 10,000 chunks in order", |bencher| bencher.iter(|| lookup_all(&ids)));
    let unknown: Vec<_> = (0..10_000).map(|n| chunk(1 << 30 | n)).collect();
    group.bench_function("look up 10,000 unknown chunks", |bencher| bencher.iter(|| lookup_all(&unknown)));
    group.finish();
}

criterion_group!(benches, cache);
criterion_main!(benches);
