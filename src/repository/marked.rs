//! Where marked and swept objects lie.

use crate::base::id::ObjectId;
use crate::codec::live_state::MarkedKind;
use crate::storage::{Folder, ObjectName};

/// The object that a mark is about.
#[must_use]
pub const fn object_name(id: ObjectId, kind: MarkedKind) -> ObjectName {
    match kind {
        MarkedKind::Slot => ObjectName::Key(id),
        MarkedKind::Pack => ObjectName::Pack(id),
        MarkedKind::Segment => ObjectName::Segment(id),
        MarkedKind::Snapshot => ObjectName::Snapshot(id),
    }
}

/// The folder in which such objects lie.
#[must_use]
pub const fn folder(kind: MarkedKind) -> Folder {
    match kind {
        MarkedKind::Slot => Folder::Keys,
        MarkedKind::Pack => Folder::Packs,
        MarkedKind::Segment => Folder::Index,
        MarkedKind::Snapshot => Folder::Snapshots,
    }
}
