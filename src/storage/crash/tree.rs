//! The files and directories of a [`super::CrashDisk`], and what one call does to them.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Unit in which a disk writes, in bytes: a torn write ends at a multiple of it.
const SECTOR_BYTES: usize = 512;
/// Number of the root directory.
pub(super) const ROOT: u64 = 0;

#[derive(Debug, Clone)]
pub(super) enum Node {
    Directory(Arc<BTreeMap<String, u64>>),
    File { content: Arc<Content>, mode: u32 },
}

/// The bytes of a file. Their hash is kept: telling images apart asks for it again and again.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    bytes: Vec<u8>,
    hash: OnceLock<blake3::Hash>,
}

impl Content {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn hash(&self) -> blake3::Hash {
        *self.hash.get_or_init(|| blake3::hash(&self.bytes))
    }

    fn edit(&mut self) -> &mut Vec<u8> {
        self.hash = OnceLock::new();
        &mut self.bytes
    }
}

/// Files and directories by number. Cheap to copy: contents are shared until they change.
pub(super) type Tree = BTreeMap<u64, Node>;

/// A change that was made but not synced.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    Write { node: u64, offset: usize, bytes: Arc<[u8]> },
    Mode { node: u64, mode: u32 },
    Link { directory: u64, name: String, node: u64 },
    Unlink { directory: u64, name: String },
    Rename { from: (u64, String), to: (u64, String), node: u64 },
}

/// What is left of a torn write; the cut is an offset in the file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Torn {
    /// The file ends at the cut.
    Short { cut: usize },
    /// The file has its full length, with zeros after the cut.
    ZeroTail { cut: usize },
    /// Zeros before the cut: the later sectors came first.
    ZeroHead { cut: usize },
}

/// Visits everything that can be reached from the root, in order of path.
pub(super) fn walk(tree: &Tree, visit: &mut dyn FnMut(&str, u64, &Node)) {
    let mut rest = vec![(String::new(), ROOT)];
    while let Some((path, number)) = rest.pop() {
        let Some(node) = tree.get(&number) else { continue };
        visit(&path, number, node);
        if let Node::Directory(entries) = node {
            let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            rest.extend(entries.iter().rev().map(|(name, number)| (below(name), *number)));
        }
    }
}

fn entries_mut(tree: &mut Tree, directory: u64) -> Option<&mut BTreeMap<String, u64>> {
    match tree.get_mut(&directory) {
        Some(Node::Directory(entries)) => Some(Arc::make_mut(entries)),
        _ => None,
    }
}

/// Makes an effect happen in a tree, whole or torn.
pub(super) fn apply(tree: &mut Tree, effect: &Effect, torn: Option<Torn>) {
    match effect {
        Effect::Write { node, offset, bytes } => {
            let Some(Node::File { content, .. }) = tree.get_mut(node) else { return };
            let content = Arc::make_mut(content).edit();
            let end = offset + bytes.len();
            let (from, to, length) = match torn {
                None => (*offset, end, end),
                Some(Torn::Short { cut }) => (*offset, cut, cut),
                Some(Torn::ZeroTail { cut }) => (*offset, cut, end),
                Some(Torn::ZeroHead { cut }) => (cut, end, end),
            };
            if content.len() < length {
                content.resize(length, 0);
            }
            content[from..to].copy_from_slice(&bytes[from - offset..to - offset]);
        }
        Effect::Mode { node, mode: new } => {
            if let Some(Node::File { mode, .. }) = tree.get_mut(node) {
                *mode = *new;
            }
        }
        Effect::Link { directory, name, node } => {
            if let Some(entries) = entries_mut(tree, *directory) {
                entries.insert(name.clone(), *node);
            }
        }
        Effect::Unlink { directory, name } => {
            if let Some(entries) = entries_mut(tree, *directory) {
                entries.remove(name);
            }
        }
        Effect::Rename { from, to, node } => {
            if let Some(entries) = entries_mut(tree, from.0)
                && entries.get(&from.1) == Some(node)
            {
                entries.remove(&from.1);
            }
            if let Some(entries) = entries_mut(tree, to.0) {
                entries.insert(to.1.clone(), *node);
            }
        }
    }
}

/// SplitMix64 (G. Steele et al., "Fast Splittable Pseudorandom Number Generators", 2014): the same seed, the same images.
pub(super) struct SplitMix64(pub(super) u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0. The bias of the remainder does not matter here.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A way to tear a write of `length` bytes at `offset`.
    pub(super) fn tear(&mut self, offset: usize, length: usize) -> Torn {
        let first = offset / SECTOR_BYTES;
        let last = (offset + length).div_ceil(SECTOR_BYTES);
        let cut = (first as u64 + self.below((last - first) as u64 + 1)) as usize * SECTOR_BYTES;
        let cut = cut.clamp(offset, offset + length);
        match self.below(3) {
            0 => Torn::Short { cut },
            1 => Torn::ZeroTail { cut },
            _ => Torn::ZeroHead { cut },
        }
    }
}
