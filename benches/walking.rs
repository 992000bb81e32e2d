//! The walk over 20,000 files in 200 directories, with a look at each (as an unchanged backup does it).

#![allow(missing_docs, clippy::expect_used)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use packstone::files::exclude::Excludes;
use packstone::files::source::Sources;
use packstone::files::walk::{Rules, Step, Walk};

const DIRECTORIES: usize = 200;
const FILES: usize = 100;

fn walking(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for directory in 0..DIRECTORIES {
        let directory = folder.path().join(format!("directory-{directory:03}"));
        std::fs::create_dir(&directory).expect("a directory");
        for file in 0..FILES {
            std::fs::write(directory.join(format!("file-{file:03}.c")), b"content").expect("a file");
        }
    }
    let sources = [folder.path().to_owned()];
    let walk = |patterns: &[&str]| {
        let mut excludes = Excludes::new();
        for pattern in patterns {
            excludes.add(pattern.as_bytes(), false).expect("a pattern");
        }
        let sources = Sources::new(&sources, &excludes).expect("a source");
        let steps = Walk::new(sources, Rules { excludes, ..Rules::default() });
        steps.filter(|step| matches!(step, Step::Entry(_))).count()
    };
    let mut group = criterion.benchmark_group("walking");
    group.sample_size(20).throughput(Throughput::Elements((DIRECTORIES * FILES) as u64));
    group.bench_function("everything", |bencher| {
        bencher.iter(|| assert_eq!(walk(&[]), DIRECTORIES * FILES));
    });
    let patterns = ["*.o", "*.tmp", "node_modules", "/proc/*", "**/target/debug", "file-00?.c"];
    group.bench_function("everything, six exclude patterns", |bencher| {
        bencher.iter(|| assert_eq!(walk(&patterns), DIRECTORIES * (FILES - 10)));
    });
    group.finish();
}

criterion_group!(benches, walking);
criterion_main!(benches);
