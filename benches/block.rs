//! Blocks of 2 MiB: packed and sealed, opened and unpacked, and their chunks hashed again.

#![allow(missing_docs, clippy::expect_used)]

mod support;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use packstone::codec::block;
use packstone::codec::chunk_list::ChunkRef;
use packstone::codec::compress::{Compressor, Decompressor};
use packstone::codec::key_tree::ChunkKind;
use packstone::codec::pack::PackKind;

const BLOCK_BYTES: usize = 2 << 20;
const CHUNK_BYTES: usize = 16 << 10;
const RANDOM: [u8; 32] = [9; 32];

fn blocks(criterion: &mut Criterion) {
    let keys = support::keys();
    let kind = PackKind::Data;
    let mut group = criterion.benchmark_group("block");
    group.sample_size(20).throughput(Throughput::Bytes(BLOCK_BYTES as u64));
    for (name, plain) in [("text", support::text(BLOCK_BYTES)), ("noise", support::noise(BLOCK_BYTES))] {
        for level in [1, 3] {
            let mut compressor = Compressor::new(level).expect("a level of zstd");
            group.bench_function(format!("seal {name}, level {level}"), |bencher| {
                bencher.iter(|| block::seal(&keys, kind, &mut compressor, &plain, &RANDOM).expect("a block"));
            });
        }
        let mut compressor = Compressor::new(3).expect("a level of zstd");
        let sealed = block::seal(&keys, kind, &mut compressor, &plain, &RANDOM).expect("a block");
        let mut decompressor = Decompressor::new().expect("memory");
        group.bench_function(format!("open {name}"), |bencher| {
            bencher.iter_batched_ref(
                || sealed.bytes.clone(),
                |unit| {
                    block::open(&keys, kind, &mut decompressor, sealed.codec, BLOCK_BYTES as u32, unit)
                        .expect("it opens")
                },
                BatchSize::LargeInput,
            );
        });
        let chunks: Vec<ChunkRef> = plain
            .chunks(CHUNK_BYTES)
            .map(|chunk| ChunkRef { id: keys.chunk_id(ChunkKind::Data, chunk), length: CHUNK_BYTES as u32 })
            .collect();
        group.bench_function(format!("verify chunks of {name}"), |bencher| {
            bencher.iter(|| block::verify_chunks(&keys, kind, &plain, &chunks).expect("the same chunks"));
        });
    }
    group.finish();
}

criterion_group!(benches, blocks);
criterion_main!(benches);
