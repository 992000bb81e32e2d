//! The paths of what is this program's own, for the one set of [`crate::files::own`]. format-spec/own.md.

use super::{Environment, mirrors, repositories};
use crate::base::id::RepositoryId;
use crate::files::own::{Found, OwnPlaces, Owner, What};
use crate::ops::Monitor;
use crate::repository::Repository;
use crate::tasks::failure::Failure;
use std::path::Path;
use std::sync::Arc;

/// Everything that is packstone's own, for a command that has a repository open.
#[must_use]
pub fn places(environment: &Environment, monitor: &dyn Monitor, repository: &Repository) -> Arc<OwnPlaces> {
    let mut own = around(environment, monitor, Some(repository.id()));
    // One that is read straight from a mirror has an address there.
    if repository.place().is_absolute() {
        own.add(What::Repository, repository.place());
    }
    if let Some(folder) = repository.cache_folder() {
        own.add(What::Cache, folder);
    }
    Arc::new(own)
}

/// The same for a command that has none, or none yet.
#[must_use]
pub fn places_without(environment: &Environment, monitor: &dyn Monitor) -> OwnPlaces {
    around(environment, monitor, repositories::find_id(environment))
}

/// Without a home directory there is none of the user's directories, and no list of mirrors either.
fn around(environment: &Environment, monitor: &dyn Monitor, id: Option<RepositoryId>) -> OwnPlaces {
    let mut own = OwnPlaces::new(id);
    let places = &environment.places;
    let state = places.default_state_directory();
    for (what, path) in [
        (What::State, &state),
        (What::Configuration, &places.configuration_directory()),
        (What::Cache, &places.default_cache_directory()),
    ] {
        if let Ok(path) = path {
            own.add(what, path);
        }
    }
    if let Some(directory) = &places.state {
        own.add_state_in(directory);
    }
    if let Some(directory) = &places.cache {
        own.add_caches_in(directory);
    }
    if let Ok(place) = repositories::place(environment) {
        own.add(What::Repository, &place);
    }
    if let Some(from) = &environment.from_mirror
        && let Ok(place) = mirrors::find_mirror(environment, monitor, from)
        && let Some(directory) = place.address.directory()
    {
        own.add(What::Mirror(from.clone()), directory);
    }
    let (Some(id), Ok(_)) = (id, places.state_directory()) else { return own };
    match mirrors::list_directories(environment, id) {
        Ok(mirrors) => mirrors.into_iter().for_each(|(name, directory)| own.add(What::Mirror(name), &directory)),
        Err(error) => own.add_unknown(format!("where the mirrors lie cannot be determined ({})", error.chain())),
    }
    own
}

/// Refuses a directory that was named, or one in it, when it is packstone's own or another repository.
///
/// # Errors
/// See [`OwnError`](crate::files::own::OwnError).
pub fn refuse_within(environment: &Environment, monitor: &dyn Monitor, path: &Path) -> Result<(), Failure> {
    Ok(places_without(environment, monitor).refuse_within(path)?)
}

/// The same for a key file or a page with a key. Settings are the one place of packstone's where they may lie.
///
/// # Errors
/// See [`OwnError`](crate::files::own::OwnError).
pub fn refuse_key_in(environment: &Environment, monitor: &dyn Monitor, path: &Path) -> Result<(), Failure> {
    let own = places_without(environment, monitor);
    match own.find_path(path) {
        Ok(Some(Found { owner: Owner::Place(What::Configuration), .. })) => Ok(()),
        _ => Ok(own.refuse_within(path)?),
    }
}

/// Refuses a place for a whole repository or mirror that lies in one of packstone's own, or in a repository. What may stand there itself
/// (what is left of the very thing) is the command's question.
///
/// # Errors
/// See [`OwnError`](crate::files::own::OwnError).
pub fn refuse_beneath(environment: &Environment, monitor: &dyn Monitor, path: &Path) -> Result<(), Failure> {
    let own = places_without(environment, monitor);
    let may_stand = |found: &Found| {
        let whole = matches!(
            found.owner,
            Owner::Place(What::Repository | What::Mirror(_)) | Owner::Copy | Owner::Other(_) | Owner::Unknown
        );
        found.itself && whole
    };
    match own.find_path(path) {
        Ok(Some(found)) if may_stand(&found) => {
            // It may lie in another one.
            match path.parent() {
                Some(above) if own.find_path(above).ok().flatten().is_some() => Ok(own.refuse_within(above)?),
                _ => Ok(()),
            }
        }
        _ => Ok(own.refuse_within(path)?),
    }
}
