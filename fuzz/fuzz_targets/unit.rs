//! A sealed unit: arbitrary bytes do not open (they would have to guess a commitment), what is sealed does, and no
//! flipped bit goes unnoticed.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use packstone::base::id::RepositoryId;
use packstone::codec::key_tree::{KeyTree, MasterKey};
use packstone::codec::unit::{self, Codec, Context, PREFIX_BYTES, UnitKind};

static KEYS: LazyLock<KeyTree> = LazyLock::new(|| KeyTree::new(&MasterKey::new([1; 32]), RepositoryId([2; 32])));

fuzz_target!(|data: &[u8]| {
    let (first, content) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    let kind = UnitKind::ALL[usize::from(first) % UnitKind::ALL.len()];
    let codec = if first & 0x80 == 0 { Codec::Stored } else { Codec::Zstd };
    let (clear, content) = content.split_at(content.len().min(usize::from(first >> 4)));
    let context = Context { kind, codec, plain_length: content.len() as u32, clear };
    assert!(unit::open(&KEYS, &context, &mut data.to_vec()).is_err());

    let mut sealed = [&[0; PREFIX_BYTES], content].concat();
    unit::seal(&KEYS, &context, &[first; 32], &mut sealed).expect("a short content");
    assert_eq!(unit::open(&KEYS, &context, &mut sealed.clone()), Ok(content));
    let bit = content.iter().fold(usize::from(first), |sum, byte| sum * 31 % 0xff_ffff + usize::from(*byte));
    let at = bit % (sealed.len() * 8);
    sealed[at / 8] ^= 1 << (at % 8);
    assert!(unit::open(&KEYS, &context, &mut sealed).is_err());
});
