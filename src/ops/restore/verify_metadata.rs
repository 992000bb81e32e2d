//! The half of `--verify` that compares metadata: of every entry, of every kind, all that a restore sets.
//!
//! What could not be set is known already, with its reason. It is not said twice: [`parts`] are remembered for each entry, and only
//! what differs beside them is a finding.

use crate::base::lock::lock;
use std::os::fd::BorrowedFd;

use super::execute::Shared;
use super::existing::is_same_special;
use super::report::{ProblemKind, READ_BACK};
use crate::codec::tree::{Metadata, Node};
use crate::files::apply::{ApplyProblem, Severity, What};
use crate::files::keep::Found;
use crate::files::target::TargetDirectory;

const OWNER: u8 = 1 << 0;
const MODE: u8 = 1 << 1;
const SET_ID: u8 = 1 << 2;
const CAPABILITIES: u8 = 1 << 3;
const TIMES: u8 = 1 << 4;
const ATTRIBUTES: u8 = 1 << 5;
const FLAGS: u8 = 1 << 6;

/// The parts of metadata that something about an inode is, a bit for each.
pub(super) const fn parts(what: &What) -> u8 {
    match what {
        What::Owner => OWNER,
        What::OwnerAndMode => OWNER | MODE,
        What::Mode => MODE,
        What::SetIdBits => SET_ID,
        What::SetIdBitsAndCapabilities => SET_ID | CAPABILITIES,
        What::Capabilities | What::CapabilitiesToRemove => CAPABILITIES,
        What::Times => TIMES,
        What::Attributes | What::Attribute(_) | What::AttributeToRemove(_) => ATTRIBUTES,
        What::Flags | What::Flag(_) => FLAGS,
        What::Device | What::HardLinks => 0,
    }
}

/// Compares the metadata of an open inode.
pub(super) fn compare(shared: &Shared<'_>, path: &[u8], ordinal: u32, metadata: &Metadata, fd: BorrowedFd<'_>) {
    let found = match Found::of(fd) {
        Ok(found) => found,
        Err(error) => return shared.problem(path, ProblemKind::Verify, format!("cannot be read back: {error}")),
    };
    let known = lock(&shared.known).get(&ordinal).copied().unwrap_or_default();
    for what in shared.applier.differences(metadata, &found) {
        if parts(&what) & !known != 0 {
            let problem = ApplyProblem { what, severity: Severity::Failed, reason: READ_BACK.to_owned() };
            shared.report(|report| report.unset(problem, path));
        }
    }
}

/// Compares a symbolic link, pipe, socket or device.
pub(super) fn special(
    shared: &Shared<'_>,
    path: &[u8],
    ordinal: u32,
    name: &[u8],
    metadata: &Metadata,
    node: &Node,
    directory: &TargetDirectory,
) {
    let there = directory.stat(name).ok().flatten().and_then(|stat| directory.candidate(name, stat.kind));
    match there {
        Some(candidate) if is_same_special(&candidate, node) => {
            compare(shared, path, ordinal, metadata, candidate.file());
        }
        _ => {
            let message = "read back and not as in the snapshot: something else is there; run the same command again";
            shared.problem(path, ProblemKind::Verify, message.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_said_about_metadata_is_about_a_part_of_it() {
        let name = || b"user.x".to_vec();
        for (what, said, expected) in [
            (What::Owner, "owner", 1),
            (What::Mode, "mode", 2),
            (What::OwnerAndMode, "owner and mode", 3),
            (What::SetIdBits, "set-id bits", 4),
            (What::Capabilities, "capabilities", 8),
            (What::CapabilitiesToRemove, "capabilities (to be removed)", 8),
            (What::SetIdBitsAndCapabilities, "set-id bits and capabilities", 12),
            (What::Times, "times", 16),
            (What::Attributes, "extended attributes", 32),
            (What::Attribute(name()), "extended attribute user.x", 32),
            // Only the name says so.
            (What::Attribute(b"user.mode".to_vec()), "extended attribute user.mode", 32),
            (What::AttributeToRemove(name()), "extended attribute user.x (to be removed)", 32),
            (What::Flag(16), "inode flag 0x10", 64),
            (What::Flags, "inode flags", 64),
            (What::Device, "devices", 0),
            (What::HardLinks, "hard links", 0),
        ] {
            assert_eq!((parts(&what), what.to_string().as_str()), (expected, said));
        }
    }
}
