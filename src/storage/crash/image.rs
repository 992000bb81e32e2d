//! The disks that may be found after a power cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::CrashDisk;
use super::tree::{Effect, Node, SplitMix64, Tree, apply, walk};

impl CrashDisk {
    /// The disks that may be found after a power cut at this moment, each once: with nothing of what is not synced,
    /// with every prefix of it (its next write torn, too), with everything, with everything but one effect, and with
    /// `random` random subsets, writes torn at random. Every image is a disk of its own with the power on.
    #[must_use]
    pub fn images(&self, seed: u64, random: usize) -> Vec<Self> {
        let state = self.lock();
        let mut source = SplitMix64(seed);
        let mut images = Images::default();

        let mut prefix = state.durable.clone();
        images.add(&prefix);
        for effect in &state.pending {
            if let Effect::Write { offset, bytes, .. } = effect {
                for _ in 0..3 {
                    let mut image = prefix.clone();
                    apply(&mut image, effect, Some(source.tear(*offset, bytes.len())));
                    images.add(&image);
                }
            }
            apply(&mut prefix, effect, None);
            images.add(&prefix);
        }
        for left_out in 0..state.pending.len() {
            let mut image = state.durable.clone();
            for (index, effect) in state.pending.iter().enumerate() {
                if index != left_out {
                    apply(&mut image, effect, None);
                }
            }
            images.add(&image);
        }
        for _ in 0..random {
            let mut image = state.durable.clone();
            for effect in &state.pending {
                let draw = source.below(8);
                match effect {
                    Effect::Write { offset, bytes, .. } if draw == 0 => {
                        apply(&mut image, effect, Some(source.tear(*offset, bytes.len())));
                    }
                    _ if draw < 5 => apply(&mut image, effect, None),
                    _ => {}
                }
            }
            images.add(&image);
        }
        images.disks
    }
}

/// Images found so far; equal ones are kept once.
#[derive(Default)]
struct Images {
    disks: Vec<CrashDisk>,
    seen: BTreeSet<[u8; 32]>,
    /// Hash of each content by its address; the contents are kept so that no address is used twice.
    hashes: BTreeMap<usize, (Arc<Vec<u8>>, blake3::Hash)>,
}

impl Images {
    fn add(&mut self, tree: &Tree) {
        let mut hasher = blake3::Hasher::new();
        walk(tree, &mut |path, node| {
            hasher.update(&(path.len() as u64).to_le_bytes());
            hasher.update(path.as_bytes());
            match node {
                Node::Directory(_) => hasher.update(b"d"),
                Node::File { bytes, mode } => {
                    let entry = self.hashes.entry(Arc::as_ptr(bytes) as usize);
                    let (_, hash) = entry.or_insert_with(|| (Arc::clone(bytes), blake3::hash(bytes)));
                    hasher.update(b"f").update(&mode.to_le_bytes()).update(hash.as_bytes())
                }
            };
        });
        if self.seen.insert(*hasher.finalize().as_bytes()) {
            self.disks.push(CrashDisk::from_tree(tree.clone()));
        }
    }
}
