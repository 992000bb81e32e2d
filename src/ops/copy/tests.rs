#![allow(clippy::unwrap_used)]
use std::fs;

use super::*;
use crate::codec::chunker::Parameters;
use crate::codec::tree::Node;
use crate::files::exclude::Excludes;
use crate::files::source::Sources;
use crate::files::walk::Rules;
use crate::ops::tree_walk::TreeWalk;
use crate::ops::{Silent, backup, content};
use crate::repository::fixture;
use crate::storage::memory::Memory;

fn repository(number: u8) -> Repository {
    fixture::repository(&Memory::new(), number, Parameters { min: 64, average: 256, max: 1024 })
}

/// More files with two names lie between the first names and the second ones than are remembered.
#[test]
fn a_second_name_is_read_again_when_the_first_is_forgotten() {
    const FILES: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    for directory in ["first", "second"] {
        fs::create_dir(folder.path().join(directory)).unwrap();
    }
    for number in 0..FILES {
        let mut bytes = vec![0; 20_000];
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
        let first = folder.path().join(format!("first/{number}"));
        fs::write(&first, bytes).unwrap();
        fs::hard_link(first, folder.path().join(format!("second/{number}"))).unwrap();
    }
    let (source, destination) = (repository(1), repository(2));
    let sources = Sources::new(&[folder.path().to_path_buf()], &Excludes::new()).unwrap();
    let labels = backup::Labels {
        time: None,
        host: String::new(),
        user: String::new(),
        label: String::new(),
        tags: Vec::new(),
        paths: sources.paths.clone(),
        options: Vec::new(),
    };
    let options = backup::Options {
        parent: None,
        unchanged: backup::scan::Unchanged::default(),
        skip_if_unchanged: false,
        allow_empty: false,
        readers: 2,
        packs: PackOptions::default(),
    };
    backup::run(&source, sources, Rules::default(), &labels, &options, &Silent).unwrap();
    let mut plan = plan(&source, &destination, &[], &Filter::default()).unwrap();
    let options = Options { readers: 2, packs: PackOptions::default() };
    let done = Copying::new(&source, &destination, &mut plan, options, &Silent).snapshot(&plan.copy[0]).unwrap();
    let Done::Copied(copied) = done else { unreachable!("{done:?}") };
    assert!(
        copied.files_read > FILES as u64 * 3 / 2,
        "{} were read: hardly any content was forgotten",
        copied.files_read
    );
    let snapshot = destination.snapshot(copied.id).unwrap();
    let mut files = 0;
    for visited in TreeWalk::new(&destination, &snapshot, b"", snapshot.root.clone()) {
        let visited = visited.unwrap();
        let Node::File(stored) = &visited.entry.node else { continue };
        let mut bytes = Vec::new();
        let mut sink = |piece: content::Piece<'_>| -> Result<()> {
            if let content::Piece::Data(data) = piece {
                bytes.extend_from_slice(data);
            }
            Ok(())
        };
        content::read(&destination, &visited.path, stored, &mut sink).unwrap();
        let path = std::str::from_utf8(&visited.path).unwrap();
        assert_eq!(bytes, fs::read(path).unwrap());
        files += 1;
    }
    assert_eq!(files, 2 * FILES);
}
