//! What is harmed, and how.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use packstone::base::id::ObjectId;
use packstone::codec::pack;
use packstone::storage::ObjectName;

use super::world::{Copy, Noise, Template};

/// A part of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    Header,
    Block,
    Directory,
    Padding,
    Footer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Config,
    /// The newest head, on a machine that remembers it.
    NewestHead,
    /// The newest head, on a machine that has never seen the repository.
    NewestHeadUnseen,
    MiddleHead,
    CheckpointHead,
    /// The slot of the key file that is used.
    Slot,
    Segment,
    Snapshot,
    DataPack(Part),
    TreePack(Part),
    Cache,
    CacheSeal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    Deleted,
    Truncated,
    Flipped,
    Replaced,
    Noise,
}

pub const HARMS: [Harm; 5] = [Harm::Deleted, Harm::Truncated, Harm::Flipped, Harm::Replaced, Harm::Noise];

pub fn victims() -> Vec<Victim> {
    let parts = [Part::Whole, Part::Header, Part::Block, Part::Directory, Part::Padding, Part::Footer];
    let plain = [
        Victim::Config,
        Victim::NewestHead,
        Victim::NewestHeadUnseen,
        Victim::MiddleHead,
        Victim::CheckpointHead,
        Victim::Slot,
        Victim::Segment,
        Victim::Snapshot,
        Victim::Cache,
        Victim::CacheSeal,
    ];
    let packs = parts.into_iter().flat_map(|part| [Victim::DataPack(part), Victim::TreePack(part)]);
    plain.into_iter().chain(packs).collect()
}

impl Victim {
    /// The object in the repository; none for the cache.
    pub fn name(self, template: &Template) -> Option<ObjectName> {
        let later = &template.runs[1];
        Some(match self {
            Self::Config => ObjectName::Config,
            Self::NewestHead | Self::NewestHeadUnseen => *template.heads.last().unwrap(),
            Self::MiddleHead => template.heads[1],
            Self::CheckpointHead => template.heads[0],
            Self::Slot => ObjectName::Key(template.slots[0]),
            Self::Segment => ObjectName::Segment(later.segment),
            Self::Snapshot => ObjectName::Snapshot(later.snapshot),
            Self::DataPack(_) => ObjectName::Pack(later.data.id),
            Self::TreePack(_) => ObjectName::Pack(later.tree.id),
            Self::Cache | Self::CacheSeal => return None,
        })
    }

    /// Another object of the same kind.
    fn sibling(self, template: &Template) -> PathBuf {
        let first = &template.runs[0];
        let own = |name: ObjectName| template.file(&name);
        match self {
            Self::Config => template.stranger.join("repository/config"),
            Self::NewestHead | Self::NewestHeadUnseen | Self::CheckpointHead => own(template.heads[1]),
            Self::MiddleHead => own(template.heads[0]),
            Self::Slot => own(ObjectName::Key(template.slots[1])),
            Self::Segment => own(ObjectName::Segment(first.segment)),
            Self::Snapshot => own(ObjectName::Snapshot(first.snapshot)),
            Self::DataPack(_) => own(ObjectName::Pack(first.data.id)),
            Self::TreePack(_) => own(ObjectName::Pack(first.tree.id)),
            Self::Cache | Self::CacheSeal => {
                let folder = fs::read_dir(template.stranger.join("cache")).unwrap().next().unwrap().unwrap();
                folder.path().join(self.cache_name())
            }
        }
    }

    fn cache_name(self) -> &'static str {
        if self == Self::CacheSeal { "index.seal" } else { "index.redb" }
    }

    fn file(self, template: &Template, copy: &Copy) -> PathBuf {
        match self.name(template) {
            Some(name) => copy.file(&name),
            None => copy.cache_file(self.cache_name()),
        }
    }

    /// The bytes that are harmed.
    fn range(self, bytes: &[u8]) -> std::ops::Range<usize> {
        let (Self::DataPack(part) | Self::TreePack(part)) = self else { return 0..bytes.len() };
        let footer_at = bytes.len() - pack::FOOTER_BYTES;
        let footer = pack::parse_footer(&bytes[footer_at..], bytes.len() as u64).unwrap();
        let directory = footer.directory_offset as usize;
        let padding = directory + footer.directory_length as usize;
        match part {
            Part::Whole => 0..bytes.len(),
            Part::Header => 0..pack::HEADER_BYTES,
            Part::Block => pack::HEADER_BYTES..directory,
            Part::Directory => directory..padding,
            Part::Padding => padding..footer_at,
            Part::Footer => footer_at..bytes.len(),
        }
    }

    /// Harms a copy; false when this harm makes no sense here.
    pub fn harm(self, harm: Harm, template: &Template, copy: &Copy) -> bool {
        if self == Self::NewestHeadUnseen {
            copy.forget();
        }
        let file = self.file(template, copy);
        let mut bytes = fs::read(&file).unwrap();
        let range = self.range(&bytes);
        let whole = range.len() == bytes.len();
        if range.is_empty() {
            return false;
        }
        match harm {
            Harm::Deleted if whole => {
                fs::remove_file(&file).unwrap();
                return true;
            }
            Harm::Replaced if whole => bytes = fs::read(self.sibling(template)).unwrap(),
            Harm::Deleted | Harm::Replaced => return false,
            Harm::Truncated => bytes.truncate(range.start + range.len() / 2),
            Harm::Flipped => bytes[range.start + range.len() / 2] ^= 0x10,
            Harm::Noise => bytes[range.clone()].copy_from_slice(&Noise(5).bytes(range.len())),
        }
        store(&file, &bytes);
        true
    }

    /// Brings the object back from the template, as from another copy of the repository.
    pub fn heal(self, template: &Template, copy: &Copy) {
        if let Some(name) = self.name(template) {
            store(&copy.file(&name), &fs::read(template.file(&name)).unwrap());
        }
    }

    /// True for files that this harm may keep from being restored. Everything else must come back exactly.
    pub fn may_cost(self, template: &Template, snapshot: ObjectId, path: &str) -> bool {
        if snapshot != template.runs[1].snapshot {
            return false;
        }
        match self {
            Self::DataPack(_) => path == super::world::LATER,
            Self::TreePack(_) | Self::Segment | Self::Snapshot => true,
            _ => false,
        }
    }
}

/// Writes a file whatever its mode was: objects are read-only.
fn store(file: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(file);
    fs::write(file, bytes).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}
