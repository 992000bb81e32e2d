//! Repair: make again what can be made again. One file a part.
//!
//! Some repairs go in rounds. What each round finds is told before it is carried out; a face that cannot tell it any more ends the repair.

pub mod heads;
pub mod index;
pub mod mirror;
pub mod objects;
pub mod packs;
pub mod snapshots;

use super::environment::{Environment, mirrors};
use super::failure::Failure;
use crate::base::id::RepositoryId;
use crate::ops::{Monitor, Problem, Subject};
use crate::storage::MirrorStore;
use std::sync::Arc;

/// What a repair tells that begins again when another run has changed the repository.
#[derive(Debug, Clone, Copy)]
pub enum Round<'a, Plan> {
    /// What will be done now; in a dry run, what would be.
    Planned(&'a Plan),
    /// Another run came first: nothing was changed, and there will be a new plan.
    Overtaken,
}

/// Mirrors by name.
type Mirrors = Vec<(String, Arc<dyn MirrorStore>)>;

/// Those of these names that can be opened, all without any name; and the names of the others, each with a warning.
fn open_mirrors(
    names: &[String],
    repository: RepositoryId,
    environment: &Environment,
    monitor: &dyn Monitor,
) -> Result<(Mirrors, Vec<String>), Failure> {
    let book = mirrors::open_book(environment, repository)?;
    let (mut opened, mut closed) = (Mirrors::new(), Vec::new());
    for mirror in mirrors::choose_mirrors(&book, names)? {
        match mirrors::MirrorLocation::of(&mirror).and_then(|place| mirrors::open_store(environment, &place, false)) {
            Ok(store) => opened.push((mirror.name, store)),
            Err(error) => {
                let message = format!("{}: {}", mirror.name, error.chain());
                monitor.problem(&Problem::warning(Subject::Mirror, &message));
                closed.push(mirror.name);
            }
        }
    }
    Ok((opened, closed))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ops::select::IdBeginning;

    #[test]
    fn requests_are_read_as_they_are_typed() {
        let packs: packs::Request = serde_json::from_str(r#"{"packs": ["AB1"], "dry-run": true}"#).unwrap();
        assert!(packs.packs == [IdBeginning("ab1".to_owned())] && packs.dry_run);
        assert!(serde_json::from_str::<packs::Request>(r#"{"packs": ["x"]}"#).is_err());
        let heads: heads::Request = serde_json::from_str(r#"{"mirrors": ["off"], "set-back": true}"#).unwrap();
        assert!(heads.mirrors == ["off"] && heads.set_back);
        let index: index::Request = serde_json::from_str(r#"{"read-all-packs": true}"#).unwrap();
        assert!(index.read_all_packs && !index.read_data);
        assert!(serde_json::from_str::<objects::Request>(r#"{"mirror": "off"}"#).is_err());
    }
}
