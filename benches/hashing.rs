//! Ids: keyed, of chunks of every usual length; plain, of a stored object.

#![allow(missing_docs)]

mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use packstone::base::id::ObjectId;
use packstone::codec::key_tree::ChunkKind;

fn hashing(criterion: &mut Criterion) {
    let keys = support::keys();
    let data = support::noise(32 << 20);
    let mut group = criterion.benchmark_group("hashing");
    group.sample_size(20);
    for length in [1 << 10, 16 << 10, 256 << 10, 1 << 20] {
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_with_input(BenchmarkId::new("chunk id", length), &data[..length], |bencher, chunk| {
            bencher.iter(|| keys.chunk_id(ChunkKind::Data, chunk));
        });
    }
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("object id of a pack", |bencher| bencher.iter(|| ObjectId::of(&data)));
    group.finish();
}

criterion_group!(benches, hashing);
criterion_main!(benches);
