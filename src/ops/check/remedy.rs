//! What to do next about a finding: one value each, so that whoever counts or offers repairs reads no sentence.

use crate::base::command::suggest;
use crate::base::id::ObjectId;
use std::borrow::Cow;

/// What to do about an object that only another copy has.
const COPY_BACK: &str =
    "copy the file of that name back from any other copy of the repository: it is the same there and never changes";

/// What to do next about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// Any other copy of the repository has the object.
    CopyBack,
    /// The same of a pack; without another copy `repair packs` saves what can be read of it.
    RepairPacks,
    /// The same of a key slot; without another copy `key add` and `key remove` put another one in its place.
    ReplaceKey,
    /// `repair index` makes the segment again.
    RepairIndex,
    /// `repair index` finds out from the packs themselves what a broken segment listed.
    ReadPacks,
    /// Packs are to be copied back, read by `repair index --read-all-packs`, stored again by `backup --force`; `repair snapshots` makes snapshots
    /// without the rest.
    BringChunksBack,
    /// `backup --force` stores again what is still on this machine.
    StoreAgain,
    /// `check` as the user who owns the files.
    CheckAsOwner,
    /// `check` after a look at the disk; `repair objects` where it has lost something.
    LookAtDisk,
    /// `check` after a look at both.
    LookAtFiles,
    /// Restore what is needed of the snapshot, and `forget` it.
    Forget(ObjectId),
    /// What no command of this program does.
    ByHand(&'static str),
}

impl Remedy {
    /// The sentence for people. Every command in it stands between its marks ([`crate::base::command`]).
    #[must_use]
    pub fn sentence(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::CopyBack => COPY_BACK,
            Self::RepairPacks => {
                let give_up = concat!(
                    "without one, save what can still be read; backups then store again what they meet: ",
                    suggest!("repair packs")
                );
                return format!("{COPY_BACK}; {give_up}").into();
            }
            Self::ReplaceKey => concat!(
                "copy the file back from any other copy of the repository, or make another key: ",
                suggest!("key add"),
                "  and remove this one: ",
                suggest!("key remove ID")
            ),
            Self::RepairIndex => suggest!("repair index"),
            Self::ReadPacks => concat!("read from the packs themselves what they hold: ", suggest!("repair index")),
            Self::BringChunksBack => concat!(
                "copy missing packs back from any other copy. Then: ",
                suggest!("repair index --read-all-packs"),
                "  To store again what is still on this machine: ",
                suggest!("backup --force PATH"),
                "  For the rest: ",
                suggest!("repair snapshots")
            ),
            Self::StoreAgain => concat!(
                "restore leaves these files out. To store again what is still on this machine: ",
                suggest!("backup --force PATH")
            ),
            Self::CheckAsOwner => {
                concat!("check who owns the repository's files, and check them again as that user: ", suggest!("check"))
            }
            Self::LookAtDisk => concat!(
                "look at the kernel's log and at the disk's health, and check again: ",
                suggest!("check"),
                "  What the disk has lost comes back from a mirror: ",
                suggest!("repair objects")
            ),
            Self::LookAtFiles => concat!(
                "check who owns the repository's files, look at the kernel's log, and check again: ",
                suggest!("check")
            ),
            Self::Forget(id) => {
                let forget = suggest!("forget {}", id.short());
                let why = "an older version or another program wrote it: restore what you need of it. Then: ";
                return format!("{why}{forget}").into();
            }
            Self::ByHand(sentence) => sentence,
        })
    }

    /// True when `repair index` is a part of it.
    #[must_use]
    pub const fn repairs_index(&self) -> bool {
        matches!(self, Self::RepairIndex | Self::ReadPacks | Self::BringChunksBack)
    }

    /// True when `repair packs` is a part of it.
    #[must_use]
    pub const fn repairs_packs(&self) -> bool {
        matches!(self, Self::RepairPacks)
    }

    /// True when `repair snapshots` is a part of it.
    #[must_use]
    pub const fn repairs_snapshots(&self) -> bool {
        matches!(self, Self::BringChunksBack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is offered as data is what the sentence says.
    #[test]
    fn the_sentence_names_each_repair_that_is_meant() {
        let all = [
            Remedy::CopyBack,
            Remedy::RepairPacks,
            Remedy::ReplaceKey,
            Remedy::RepairIndex,
            Remedy::ReadPacks,
            Remedy::BringChunksBack,
            Remedy::StoreAgain,
            Remedy::CheckAsOwner,
            Remedy::LookAtDisk,
            Remedy::LookAtFiles,
            Remedy::Forget(ObjectId([7; 32])),
            Remedy::ByHand("keep both copies"),
        ];
        for remedy in all {
            let sentence = remedy.sentence();
            let names = |command: &str| sentence.contains(&format!("\u{91}{command}"));
            let meant = (remedy.repairs_index(), remedy.repairs_packs(), remedy.repairs_snapshots());
            let named = (names("repair index"), names("repair packs"), names("repair snapshots"));
            assert_eq!(meant, named, "{remedy:?}: {sentence}");
            assert!(!sentence.is_empty());
        }
    }
}
