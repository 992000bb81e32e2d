//! The paths of what is this program's own, for the one set of [`crate::files::own`]. format-spec/own.md.

use super::mirror::store;
use super::{Context, open};
use crate::base::escape::escape;
use crate::base::id::RepositoryId;
use crate::files::own::{Found, OwnError, OwnPlaces, Owner, What};
use crate::repository::Repository;
use crate::tasks::failure::Failure;
use std::path::Path;
use std::sync::Arc;

impl From<OwnError> for Failure {
    fn from(error: OwnError) -> Self {
        let this = Self::failed(error.to_string());
        match error {
            OwnError::Unknown { source, .. } => this.because_of(&source),
            _ => this,
        }
    }
}

/// Everything that is packstone's own, for a command that has a repository open.
#[must_use]
pub fn places(context: &Context, repository: &Repository) -> Arc<OwnPlaces> {
    let mut own = around(context, Some(repository.id()));
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
pub fn places_without(context: &Context) -> OwnPlaces {
    around(context, open::id(context))
}

/// Without a home directory there is none of the user's directories, and no list of mirrors either.
fn around(context: &Context, id: Option<RepositoryId>) -> OwnPlaces {
    let mut own = OwnPlaces::new(id);
    let global = &context.global;
    let state = global.default_state_directory();
    for (what, path) in [
        (What::State, &state),
        (What::Configuration, &global.configuration_directory()),
        (What::Cache, &global.default_cache_directory()),
    ] {
        if let Ok(path) = path {
            own.add(what, path);
        }
    }
    if let Some(directory) = &global.state_dir {
        own.add_state_in(directory);
    }
    if let Some(directory) = &global.cache_dir {
        own.add_caches_in(directory);
    }
    if let Ok(place) = open::place(context) {
        own.add(What::Repository, &place);
    }
    if let Some(from) = &global.from_mirror
        && let Ok(place) = store::find(context, from)
        && let Some(directory) = place.address.directory()
    {
        own.add(What::Mirror(from.clone()), directory);
    }
    let (Some(id), Ok(_)) = (id, global.state_directory()) else { return own };
    match store::directories(context, id) {
        Ok(mirrors) => mirrors.into_iter().for_each(|(name, directory)| own.add(What::Mirror(name), &directory)),
        Err(error) => own.add_unknown(format!("where the mirrors lie cannot be determined ({})", error.chain())),
    }
    own
}

/// Refuses a directory that was named, or one in it, when it is packstone's own or another repository.
///
/// # Errors
/// See [`OwnError`].
pub fn refuse_within(context: &Context, path: &Path) -> Result<(), Failure> {
    Ok(places_without(context).refuse_within(path)?)
}

/// The same for a key file or a page with a key. Settings are the one place of packstone's where they may lie.
///
/// # Errors
/// See [`OwnError`].
pub fn refuse_key_in(context: &Context, path: &Path) -> Result<(), Failure> {
    let own = places_without(context);
    match own.find_path(path) {
        Ok(Some(Found { owner: Owner::Place(What::Configuration), .. })) => Ok(()),
        _ => Ok(own.refuse_within(path)?),
    }
}

/// Refuses a place for a whole repository or mirror that lies in one of packstone's own, or in a repository. What may stand there itself
/// (what is left of the very thing) is the command's question.
///
/// # Errors
/// See [`OwnError`].
pub fn refuse_beneath(context: &Context, path: &Path) -> Result<(), Failure> {
    let own = places_without(context);
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

/// How many paths are named in a line.
const NAMED: usize = 5;

/// The line about what a backup left out; none when there is nothing.
#[must_use]
pub fn left_out(own: &[Vec<u8>]) -> Option<String> {
    let named: Vec<String> = own.iter().take(NAMED).map(|path| escape(path)).collect();
    let more = own.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {} more", crate::text::size::count(more as u64)) } else { String::new() };
    (!own.is_empty()).then(|| format!("Left out, packstone's own: {}{more}", named.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_few_are_named() {
        let paths = |count: usize| (0..count).map(|number| format!("/\u{1b}{number}").into_bytes()).collect::<Vec<_>>();
        assert_eq!(left_out(&[]), None);
        assert_eq!(left_out(&paths(1)).as_deref(), Some("Left out, packstone's own: /\\x1b0"));
        let line = left_out(&paths(NAMED + 2)).unwrap_or_default();
        assert!(line.ends_with(", /\\x1b4 and 2 more"), "{line}");
    }
}
