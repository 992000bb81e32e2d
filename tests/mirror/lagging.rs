//! A store whose listings lag behind its writes: nothing is called missing or set back that is there, and what is missing still is.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use packstone::ops::Error;
use packstone::ops::mirror_error::MirrorError;
use packstone::storage::memory::Memory;
use packstone::storage::{Folder, Listed, MirrorStore, ObjectName, Result, Storage};

use crate::{Home, root, sync, whole};

/// How far behind.
const LAG: Duration = Duration::from_millis(1_200);

/// What was there when.
type Shown = Vec<(Instant, Vec<Listed>)>;

#[derive(Debug, Clone)]
struct Lagging {
    inner: Memory,
    shown: Arc<Mutex<Shown>>,
}

impl Lagging {
    fn new() -> Self {
        Self { inner: Memory::new(), shown: Arc::new(Mutex::new(vec![(Instant::now(), Vec::new())])) }
    }

    fn listed(&self) -> Vec<Listed> {
        let shown = self.shown.lock().unwrap();
        shown.iter().rev().find(|(at, _)| at.elapsed() >= LAG).map(|(_, listed)| listed.clone()).unwrap_or_default()
    }

    /// So much later.
    fn wait(&self) {
        std::thread::sleep(LAG);
    }
}

impl Storage for Lagging {
    all_but_list_of_inner!();

    fn list(&self, folder: Folder) -> Result<Vec<Listed>> {
        Ok(self.listed().into_iter().filter(|found| found.name.folder() == Some(folder)).collect())
    }
}

impl MirrorStore for Lagging {
    fn list_all(&self) -> Result<(Vec<Listed>, Vec<String>)> {
        Ok((self.listed(), Vec::new()))
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        self.inner.replace(name, bytes)?;
        self.shown.lock().unwrap().push((Instant::now(), self.inner.list_all()?.0));
        Ok(())
    }
}

#[test]
fn a_listing_that_lags_is_looked_at_again() {
    let mut home = Home::new();
    let mirror = Lagging::new();
    home.backup();
    let (first, _) = sync(&home.view(), &mirror, None).unwrap();
    home.backup();
    // At once: the listing does not show the head of before.
    let (second, _) = sync(&home.view(), &mirror, Some(first.head)).unwrap();
    assert_eq!(whole(&mirror.inner, &home.snapshots, &root(&home.source)).unwrap(), Some(second.head));
    mirror.wait();
    assert!(sync(&home.view(), &mirror, Some(second.head)).unwrap().0.is_empty());
}

#[test]
fn what_is_not_there_is_still_told() {
    let mut home = Home::new();
    let mirror = Memory::new();
    home.backup();
    let (plan, _) = sync(&home.view(), &mirror, None).unwrap();
    mirror.remove(&packstone::repository::chain::name_of(plan.head)).unwrap();
    let error = sync(&home.view(), &mirror, Some(plan.head)).unwrap_err();
    assert!(matches!(error, Error::Mirror(MirrorError::Rollback { .. })), "{error}");
}
