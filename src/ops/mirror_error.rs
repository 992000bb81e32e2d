//! What speaks against a mirror: why it is not written to, or is not whole.

use crate::codec::head::HeadRef;
use crate::storage::ObjectName;
use crate::storage::cause::Behind;

/// Why a mirror was not written to, or is not whole.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// Something else lies there.
    #[error("something else is at this place, and no repository: {name}{}", and_more(*.files))]
    Foreign {
        /// How many files.
        files: usize,
        /// One of them, escaped.
        name: String,
    },
    /// The config there is another one.
    #[error("this is a mirror of another repository")]
    OtherRepository,
    /// Heads there are ours, and the config is not.
    #[error("damaged: the config on the mirror is not that of this repository, although its heads are")]
    WrongConfig,
    /// The mirror has a newer head that follows ours.
    #[error("the mirror is ahead: it has generation {theirs}, the repository here generation {ours}")]
    Ahead {
        /// Our generation.
        ours: u64,
        /// The mirror's.
        theirs: u64,
    },
    /// The mirror has an older head than was seen there.
    #[error("rollback: this mirror stood at generation {seen} when last seen, and now {}", shows(*.found))]
    Rollback {
        /// Generation of the head that was seen.
        seen: u64,
        /// What it shows now.
        found: Option<HeadRef>,
    },
    /// A signed head there cannot be read.
    #[error("{name} on the mirror is signed by this repository and cannot be read: {why}")]
    UnreadableHead {
        /// The head.
        name: ObjectName,
        /// Why not.
        why: String,
    },
    /// Objects did not arrive.
    #[error("the mirror is not whole for generation {generation}: {missing} of {of} objects are not there ({first})")]
    Incomplete {
        /// The head that needs them.
        generation: u64,
        /// How many are missing.
        missing: usize,
        /// Of how many.
        of: usize,
        /// The first ones, and why.
        first: String,
        /// What is behind it, where that is known.
        behind: Option<Box<Behind>>,
    },
}

fn and_more(files: usize) -> String {
    if files > 1 { format!(" and {} more", files - 1) } else { String::new() }
}

fn shows(found: Option<HeadRef>) -> String {
    found.map_or_else(|| "has no head of it".to_owned(), |head| format!("shows generation {}", head.generation))
}
