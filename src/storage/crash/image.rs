//! The disks that may be found after a power cut.

use std::collections::BTreeSet;

use super::CrashDisk;
use super::tree::{Effect, Node, SplitMix64, Tree, apply, walk};

impl CrashDisk {
    /// The disks that may be found after a power cut at this moment, each once: with nothing of what is not synced,
    /// with every prefix of it (its next write torn, too), with everything, with everything but one effect, and with
    /// `random` random subsets, writes torn at random. Every image is a disk of its own with the power on.
    #[must_use]
    pub fn images(&self, seed: u64, random: usize) -> Vec<Self> {
        let mut images = Vec::new();
        self.each_image(seed, random, |image| images.push(image));
        images
    }

    /// As [`CrashDisk::images`], one at a time, for disks that are too large to have many of them at once.
    pub fn each_image(&self, seed: u64, random: usize, visit: impl FnMut(Self)) {
        let (durable, pending) = {
            let state = self.lock();
            (state.durable.clone(), state.pending.clone())
        };
        let mut source = SplitMix64(seed);
        let mut images = Images { visit, seen: BTreeSet::new() };

        let mut prefix = durable.clone();
        images.add(&prefix);
        for effect in &pending {
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
        for left_out in 0..pending.len() {
            let mut image = durable.clone();
            for (index, effect) in pending.iter().enumerate() {
                if index != left_out {
                    apply(&mut image, effect, None);
                }
            }
            images.add(&image);
        }
        for _ in 0..random {
            let mut image = durable.clone();
            for effect in &pending {
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
    }
}

/// Images found so far; equal ones are visited once.
struct Images<V> {
    visit: V,
    seen: BTreeSet<[u8; 32]>,
}

impl<V: FnMut(CrashDisk)> Images<V> {
    fn add(&mut self, tree: &Tree) {
        let mut hasher = blake3::Hasher::new();
        let mut reached = Tree::new();
        walk(tree, &mut |path, number, node| {
            reached.insert(number, node.clone());
            hasher.update(&(path.len() as u64).to_le_bytes());
            hasher.update(path.as_bytes());
            match node {
                Node::Directory(_) => hasher.update(b"d"),
                Node::File { content, mode } => {
                    hasher.update(b"f").update(&mode.to_le_bytes()).update(content.hash().as_bytes())
                }
            };
        });
        if self.seen.insert(*hasher.finalize().as_bytes()) {
            (self.visit)(CrashDisk::from_tree(reached));
        }
    }
}
