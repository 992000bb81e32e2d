//! What a machine remembers of a repository, while another of its processes publishes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use packstone::repository::lock::Locks;
use packstone::repository::remembered::Remembered;
use packstone::repository::{Access, Repository};
use packstone::storage::crash::CrashDisk;
use packstone::storage::local::Local;
use packstone::storage::{Folder, Listed, ObjectName, Result, Storage, Upload};

use crate::world::{self, Machine};

/// Any storage; after so many reads something happens.
#[derive(Clone)]
struct Reads {
    inner: Arc<dyn Storage>,
    left: Arc<AtomicI64>,
    act: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reads").finish_non_exhaustive()
    }
}

impl Reads {
    fn after<T>(&self, result: T) -> T {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            (self.act)();
        }
        result
    }
}

impl Storage for Reads {
    fn create(&self) -> Result<Box<dyn Upload>> {
        self.inner.create()
    }
    fn read(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.after(self.inner.read(name, limit))
    }
    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Vec<u8>> {
        self.after(self.inner.read_range(name, offset, length))
    }
    fn length(&self, name: &ObjectName) -> Result<u64> {
        self.after(self.inner.length(name))
    }
    fn list(&self, folder: Folder) -> Result<Vec<Listed>> {
        self.after(self.inner.list(folder))
    }
    fn strays(&self, folder: Folder) -> Result<Vec<String>> {
        self.inner.strays(folder)
    }
    fn settle(&self, name: &ObjectName) -> Result<()> {
        self.inner.settle(name)
    }
    fn remove(&self, name: &ObjectName) -> Result<()> {
        self.inner.remove(name)
    }
    fn set_aside(&self, name: &ObjectName) -> Result<String> {
        self.inner.set_aside(name)
    }

    fn clean_temporary(&self) -> Result<u64> {
        self.inner.clean_temporary()
    }
}

/// Story: a restore had read the newest head when a backup of the same machine published the next one and remembered it. The
/// restore compared its head with that memory, and said that the repository had been set back.
#[test]
fn a_head_that_is_published_while_another_process_opens_is_no_rollback() {
    let disk = CrashDisk::new();
    drop(Machine::default().create(Arc::new(Local::create_with_disk(disk.clone()).unwrap()), 1).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let locks = Locks::none();
    let access = |storage: Arc<dyn Storage>| Access {
        locks: locks.clone(),
        remembered: Some(Remembered::new(folder.path().to_path_buf())),
        ..Machine::default().access(storage)
    };
    let other = access(Arc::new(Local::open_with_disk(disk.clone())));
    let mut moments = 0;
    loop {
        let left = Arc::new(AtomicI64::new(moments));
        let other = other.clone();
        let storage = Reads {
            inner: Arc::new(Local::open_with_disk(disk.clone())),
            left: Arc::clone(&left),
            act: Arc::new(move || {
                Repository::open(other.clone(), &world::secret(1)).unwrap().append(|_, _| Ok(())).unwrap();
            }),
        };
        let repository = Repository::open(access(Arc::new(storage)), &world::secret(1));
        let repository = repository.unwrap_or_else(|error| panic!("after {moments} reads: {error}"));
        if left.load(Ordering::SeqCst) >= 0 {
            break;
        }
        repository.refresh().unwrap();
        moments += 1;
    }
    assert!(moments > 3, "{moments} moments");
    println!("{moments} of {moments} moments of opening: no false alarm");
}
