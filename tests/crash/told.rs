//! What the user was told, and whether a disk keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use packstone::base::id::ObjectId;
use packstone::ops::{Silent, check};
use packstone::repository::{Error, Repository};
use packstone::storage::Storage;
use packstone::storage::crash::CrashDisk;
use packstone::storage::disk::Disk;
use packstone::storage::local::Local;

use crate::structure;
use crate::world::{self, Contents, Machine};

/// What a user was told so far.
#[derive(Clone, Default)]
pub struct Told {
    /// `init` said that it is done.
    pub made: bool,
    /// Snapshots with what they hold.
    pub snapshots: BTreeMap<ObjectId, Arc<Contents>>,
    /// Secrets that open the repository.
    pub opens: BTreeSet<u8>,
    /// Secrets that do not open it any more.
    pub closed: BTreeSet<u8>,
    /// A change of keys that was begun and not acknowledged: exactly one of the two opens.
    pub either: Option<(u8, u8)>,
    /// Packs that a repair has given up: the only marked ones whose files may be elsewhere.
    pub given_up: BTreeSet<ObjectId>,
}

/// How a disk is judged.
pub struct Judge<'a> {
    pub machine: &'a Machine,
    /// What the next run saves.
    pub source: &'a Path,
    /// What that holds.
    pub now: &'a Contents,
}

impl Judge<'_> {
    /// What is wrong with `disk`, if anything. A backup is run on it.
    pub fn check<D: Disk>(&self, told: &Told, disk: &CrashDisk, wrap: impl Fn(CrashDisk) -> D) -> Result<(), String> {
        let storage: Arc<dyn Storage> = Arc::new(Local::open_with_disk(wrap(disk.clone())));
        self.check_storage(told, &storage, || {
            let made = Local::create_with_disk(wrap(disk.clone())).map_err(|error| error.to_string())?;
            Ok(Arc::new(made))
        })?;
        let left: Vec<String> = disk.files().into_keys().filter(|path| path.starts_with("tmp/")).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("the next run leaves {left:?}")) }
    }

    /// The same on any storage; `make` makes it when there is no repository yet.
    pub fn check_storage(
        &self,
        told: &Told,
        storage: &Arc<dyn Storage>,
        make: impl FnOnce() -> Result<Arc<dyn Storage>, String>,
    ) -> Result<(), String> {
        let repository = self.enter(told, storage, make)?;
        let root = root(self.source);
        for (id, wanted) in &told.snapshots {
            if !repository.tip().state.snapshots.contains_key(id) {
                return Err(format!("snapshot {} was acknowledged and is gone", id.short()));
            }
            same(&world::contents(&repository, *id, &root)?, wanted)?;
        }
        let report = world::backup(&repository, self.source).map_err(|error| format!("the next backup: {error}"))?;
        let id = report.snapshot.ok_or("the next backup made no snapshot")?;
        if !report.warnings.is_empty() {
            return Err(format!("the next backup warns: {:?}", report.warnings));
        }
        // Again from the files alone, by a machine that knows nothing.
        let key = *told.opens.iter().next().unwrap_or(&1);
        let opened = Machine::default().open(Arc::clone(storage), key);
        let repository = match (opened, told.either) {
            (Err(Error::WrongSecret { .. }), Some((_, other))) => Machine::default().open(Arc::clone(storage), other),
            (opened, _) => opened,
        };
        let repository = repository.map_err(|error| format!("opening after the next backup: {error}"))?;
        same(&world::contents(&repository, id, &root)?, self.now)?;
        structure(&repository, &told.given_up)
    }

    /// Opens the repository with every secret that must open it, and makes it when there was none to be found.
    fn enter(
        &self,
        told: &Told,
        storage: &Arc<dyn Storage>,
        make: impl FnOnce() -> Result<Arc<dyn Storage>, String>,
    ) -> Result<Repository, String> {
        if !told.made {
            return match self.machine.open(Arc::clone(storage), 1) {
                Ok(repository) => Ok(repository),
                Err(Error::NoRepository { .. }) => {
                    self.machine.create(make()?, 1).map_err(|error| format!("init again: {error}"))
                }
                Err(error) => Err(format!("an interrupted init: {error}")),
            };
        }
        let mut opened = None;
        for key in &told.opens {
            let repository = self.machine.open(Arc::clone(storage), *key);
            opened = Some(repository.map_err(|error| format!("secret {key} was acknowledged: {error}"))?);
        }
        for key in &told.closed {
            if !matches!(self.machine.open(Arc::clone(storage), *key), Err(Error::WrongSecret { .. })) {
                return Err(format!("secret {key} was removed and opens"));
            }
        }
        if let Some((one, other)) = told.either {
            let one = self.machine.open(Arc::clone(storage), one);
            let other = self.machine.open(Arc::clone(storage), other);
            opened = match (one, other) {
                (Ok(repository), Err(Error::WrongSecret { .. })) | (Err(Error::WrongSecret { .. }), Ok(repository)) => {
                    Some(repository)
                }
                (one, other) => return Err(format!("of two secrets not one opens: {one:?}, {other:?}")),
            };
        }
        opened.ok_or_else(|| "no secret was ever acknowledged".to_owned())
    }
}

fn root(source: &Path) -> Vec<u8> {
    source.as_os_str().as_encoded_bytes()[1..].to_vec()
}

fn same(found: &Contents, wanted: &Contents) -> Result<(), String> {
    if found == wanted {
        return Ok(());
    }
    let paths: BTreeSet<_> = found.keys().chain(wanted.keys()).collect();
    let differs = |path: &&&Vec<u8>| found.get(**path) != wanted.get(**path);
    let first = paths.iter().find(differs).map(|path| String::from_utf8_lossy(path).into_owned());
    Err(format!("a snapshot has other contents than its source had: {first:?} first"))
}

/// [`structure::check`], every live snapshot reads to its end, and the program's own check finds nothing either.
fn structure(repository: &Repository, given_up: &BTreeSet<ObjectId>) -> Result<(), String> {
    structure::check(repository, given_up)?;
    for (id, snapshot) in repository.snapshots().unwrap() {
        snapshot.map_err(|error| error.to_string())?;
        world::contents(repository, id, b"")?;
    }
    let options = check::Options { data: check::Data::All, ..check::Options::default() };
    let report = check::run(repository, &options, &Silent).map_err(|error| format!("check: {error}"))?;
    match report.findings.first() {
        None => Ok(()),
        Some(finding) => Err(format!("check: {}", finding.message)),
    }
}
