//! Content-defined cutting of a stream with the lengths of file contents and of listings.

#![allow(missing_docs, clippy::expect_used)]

mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use packstone::codec::chunker::{Cutter, Parameters};

fn cut_all(cutter: &Cutter<'_>, data: &[u8]) -> usize {
    let (mut rest, mut chunks) = (data, 0);
    while let Some(length) = cutter.next(rest, true) {
        rest = &rest[length..];
        chunks += 1;
    }
    chunks
}

fn cutting(criterion: &mut Criterion) {
    let keys = support::keys();
    let data = support::noise(64 << 20);
    let mut group = criterion.benchmark_group("cutting");
    group.sample_size(10).throughput(Throughput::Bytes(data.len() as u64));
    for (name, parameters) in [("files", Parameters::FILES), ("trees", Parameters::TREES)] {
        let cutter = Cutter::new(keys.gear(), parameters).expect("the program's own parameters");
        group.bench_function(name, |bencher| bencher.iter(|| cut_all(&cutter, &data)));
    }
    group.finish();
}

criterion_group!(benches, cutting);
criterion_main!(benches);
