//! Two repositories with keys and chunks of their own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use packstone::base::id::ObjectId;
use packstone::base::time::Time;
use packstone::codec::chunker::Parameters;
use packstone::codec::kdf::Params;
use packstone::ops::copy::{self, Copied, Copying, Done, Options};
use packstone::ops::select::{Filter, SnapshotRef};
use packstone::ops::{Monitor, Result, Silent, check};
use packstone::repository::keyring::NewSlot;
use packstone::repository::lock::Locks;
use packstone::repository::{Access, CreateOptions, Repository};
use packstone::storage::Storage;
use packstone::storage::crash::CrashDisk;
use packstone::storage::local::Local;

use crate::world::{packs, secret};

/// Small chunks: a file of some megabytes has a list of two levels.
pub const SMALL: Parameters = Parameters { min: 64, average: 256, max: 1024 };
/// Others.
pub const LARGE: Parameters = Parameters { min: 16 << 10, average: 64 << 10, max: 256 << 10 };

/// One repository on a disk in memory.
#[derive(Clone)]
pub struct Side {
    pub disk: CrashDisk,
    locks: Locks,
    number: u8,
    pub cache: Option<PathBuf>,
}

impl Side {
    pub fn new(number: u8, files: Parameters) -> Self {
        let side = Self { disk: CrashDisk::new(), locks: Locks::none(), number, cache: None };
        let storage = Arc::new(Local::create_with_disk(side.disk.clone()).unwrap());
        let secret = secret(number);
        let slot = NewSlot { secret: &secret, kdf: Params::DEFAULT, label: "", created: Time::now() };
        Repository::create(side.access(storage), &[slot], &CreateOptions { files, created: Time::now() }).unwrap();
        side
    }

    fn access(&self, storage: Arc<dyn Storage>) -> Access {
        Access {
            storage,
            locks: self.locks.clone(),
            place: PathBuf::from(format!("/repository {}", self.number)),
            cache: self.cache.clone(),
            remembered: None,
            retry_lock: Duration::ZERO,
        }
    }

    pub fn open(&self) -> Repository {
        let storage = Arc::new(Local::open_with_disk(self.disk.clone()));
        Repository::open(self.access(storage), &secret(self.number)).unwrap()
    }
}

pub const PACK_BYTES: u64 = 96 << 10;

pub fn options() -> Options {
    Options { readers: 2, packs: packs(PACK_BYTES) }
}

/// Copies what is named, or everything; what became of each.
pub fn copy_as(
    source: &Repository,
    destination: &Repository,
    names: &[ObjectId],
    monitor: &dyn Monitor,
) -> Result<Vec<(ObjectId, Done)>> {
    let names: Vec<SnapshotRef> = names.iter().map(|id| SnapshotRef::Prefix(id.to_string())).collect();
    let mut plan = copy::plan(source, destination, &names, &Filter::default())?;
    let mut copying = Copying::new(source, destination, &mut plan, options(), monitor);
    plan.copy.iter().map(|chosen| Ok((chosen.id, copying.snapshot(chosen)?))).collect()
}

/// The same, when each must be copied.
pub fn copy_all(source: &Repository, destination: &Repository) -> Vec<Copied> {
    let done = copy_as(source, destination, &[], &Silent).unwrap();
    let copied = |(_, done)| match done {
        Done::Copied(copied) => copied,
        other => panic!("{other:?}"),
    };
    done.into_iter().map(copied).collect()
}

/// Reads every byte.
pub fn assert_sound(repository: &Repository) {
    let options = check::Options { data: check::Data::All, ..check::Options::default() };
    let report = check::run(repository, &options, &Silent).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}
