//! The numbers in `format-spec/limits.md` are those of the code, row by row.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

macro_rules! constants {
    ($($($path:ident)::+),* $(,)?) => {
        [$((stringify!($($path)::+).replace(' ', ""), packstone::$($path)::+ as u64)),*]
    };
}

#[test]
fn every_limit_in_the_spec_is_the_codes() {
    let code = BTreeMap::from(constants![
        codec::config::CONFIG_BYTES,
        codec::key_slot::SLOT_BYTES,
        codec::key_slot::LABEL_BYTES_MAX,
        codec::live_state::SLOTS_MAX,
        codec::kdf::Params::MEMORY_KIB_MIN,
        codec::kdf::Params::MEMORY_KIB_MAX,
        codec::kdf::Params::PASSES_MIN,
        codec::kdf::Params::PASSES_MAX,
        codec::kdf::Params::LANES_MAX,
        codec::kdf::Params::WORK_KIB_MAX,
        codec::kdf::Params::WORK_ALL_KIB_MAX,
        codec::key_file::FILE_BYTES_MAX,
        codec::unit::OVERHEAD_BYTES,
        codec::block::PLAIN_MAX,
        codec::block::STORED_MAX,
        codec::compress::WINDOW_LOG_MAX,
        codec::pack::LENGTH_MAX,
        codec::pack::BLOCKS_MAX,
        codec::pack::CHUNKS_MAX,
        codec::pack::DIRECTORY_MAX,
        codec::pack::PADDED_MIN,
        codec::segment::PACKS_MAX,
        codec::segment::CHUNKS_MAX,
        codec::segment::PLAIN_MAX,
        codec::segment::BYTES_MAX,
        codec::snapshot::PLAIN_MAX,
        codec::snapshot::BYTES_MAX,
        codec::snapshot::TEXT_MAX,
        codec::snapshot::PATH_MAX,
        codec::snapshot::LIST_MAX,
        codec::stream::RECORD_MAX,
        codec::stream::CHUNK_MAX,
        codec::tree::NAME_MAX,
        codec::tree::TEXT_MAX,
        codec::tree::HOLES_MAX,
        codec::tree::XATTRS_MAX,
        codec::chunk_list::INLINE_MAX,
        codec::chunk_list::DEPTH_MAX,
        codec::tree::DIRECTORY_DEPTH_MAX,
        codec::head::BYTES_MAX,
        codec::head::CHECKPOINT_BYTES_MIN,
        codec::head::DIFFERENCE_BYTES_MAX,
    ]);
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/format-spec/limits.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let spec: BTreeMap<String, u64> = rows
        .map(|row| {
            let (name, rest) = row.split_once("` | ").unwrap();
            let (value, _) = rest.split_once(" | ").unwrap();
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{name}: {value} is no number")))
        })
        .collect();
    assert_eq!(spec, code);
}
