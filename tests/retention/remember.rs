//! What a machine remembers of a repository, while another of its processes publishes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use packstone::repository::lock::Locks;
use packstone::repository::remembered::Remembered;
use packstone::repository::{Access, Repository};
use packstone::storage::Storage;
use packstone::storage::crash::CrashDisk;
use packstone::storage::local::Local;

use crate::moments::Moments;
use crate::world::{self, Machine};

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
        let storage = Moments {
            inner: Arc::new(Local::open_with_disk(disk.clone())),
            listing: None,
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
