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
use crate::files::apply::{ApplyProblem, Severity};
use crate::files::keep::Found;
use crate::files::target::TargetDirectory;

/// The parts of metadata, by a word of what is said about them.
const PARTS: [&str; 7] = ["owner", "mode", "set-id", "capabilities", "times", "attribute", "flag"];

/// The parts that something said about metadata is about, a bit for each.
pub(super) fn parts(what: &str) -> u8 {
    let found = PARTS.iter().enumerate().filter(|(_, word)| what.contains(*word));
    found.fold(0, |all, (number, _)| all | 1 << number)
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
        for (what, expected) in [
            ("owner", 1),
            ("owner and mode", 3),
            ("set-id bits", 4),
            ("set-id bits and capabilities", 12),
            ("times", 16),
            ("extended attributes", 32),
            ("extended attribute user.x (to be removed)", 32),
            ("inode flag 0x10", 64),
            ("inode flags", 64),
        ] {
            assert_eq!(parts(what), expected, "{what}");
        }
    }
}
