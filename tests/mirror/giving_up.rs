//! After ten failures no object is begun, whoever waits.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use packstone::ops::mirror_error::MirrorError;
use packstone::ops::sync::pass::Pass;
use packstone::ops::sync::{self, Options};
use packstone::ops::{Error, Silent};
use packstone::storage::body::Body;
use packstone::storage::memory::Memory;
use packstone::storage::{self, ErrorKind, Folder, Listed, MirrorStore, ObjectName, Result, Storage, Uplink};

use crate::Home;
use crate::world::{self, Noise};

/// An object of so many bytes waits for a connection.
const LARGE_BYTES: u64 = 1 << 20;

/// Takes everything but large objects, and refuses each of those after a while.
#[derive(Debug, Default)]
struct Refusing {
    inner: Memory,
    begun: Mutex<Vec<ObjectName>>,
}

impl Storage for Refusing {
    all_but_list_of_inner!();

    fn list(&self, folder: Folder) -> Result<Vec<Listed>> {
        self.inner.list(folder)
    }
}

impl MirrorStore for Refusing {
    fn list_all(&self) -> Result<(Vec<Listed>, Vec<String>)> {
        self.inner.list_all()
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        self.inner.replace(name, bytes)
    }

    fn send(&self, name: &ObjectName, body: &dyn Body, uplink: &Uplink<'_>) -> Result<()> {
        if body.length() < LARGE_BYTES {
            return self.inner.send(name, body, uplink);
        }
        self.begun.lock().unwrap().push(*name);
        std::thread::sleep(Duration::from_millis(30));
        let error = storage::Error::new("write", name, io::Error::other("by script"));
        Err(error.with_kind(ErrorKind::Denied))
    }
}

#[test]
fn who_waits_for_a_connection_begins_nothing_after_ten_failures() {
    let home = Home::new();
    home.source.write("noise", &Noise(7).bytes(24 << 20));
    world::backup_with(&home.open(), home.source.path(), world::packs(3 << 19), &Silent).unwrap();
    let view = home.view();
    for parallel in [1, 4, 16] {
        let mirror = Refusing::default();
        let plan = sync::plan(&view, &mirror, None, None, &Silent).unwrap();
        let large = plan.send.iter().filter(|needed| needed.length.unwrap() >= LARGE_BYTES);
        assert!(large.count() > 12, "too few objects wait");
        let pass = Pass::new(&view, Arc::default());
        let options = Options { parallel, ..Options::default() };
        let error = sync::execute(&pass.reader(&plan), &mirror, &plan, &options, None, &Silent).unwrap_err();
        assert!(matches!(error, Error::Mirror(MirrorError::Incomplete { .. })), "{error}");
        assert_eq!(mirror.begun.into_inner().unwrap().len(), 10, "with {parallel}");
    }
}
