//! A place is left as it was found, whatever these credentials may do there and whenever it ends.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::codec::chunker::Parameters;
use crate::ops::mirror_error::MirrorError;
use crate::repository::{Access, fixture::repository};
use crate::storage::memory::Memory;
use crate::storage::{Folder, Listed, Storage, Upload};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A store that refuses what it is asked.
#[derive(Debug, Clone, Default)]
struct Strict {
    inner: Memory,
    /// What is not allowed: "list", "read", "write", "again" (a second write of a name), "remove".
    forbidden: Vec<&'static str>,
    /// What it says that it does with what is removed.
    keeping: Option<Keeping>,
    writes: Arc<AtomicU64>,
    /// It gives up, or the user does, with request number so and so.
    end: Option<(u64, ErrorKind)>,
    requests: Arc<AtomicU64>,
}

impl Strict {
    fn without(forbidden: &[&'static str]) -> Self {
        Self { forbidden: forbidden.to_vec(), ..Self::default() }
    }

    fn ask(&self, operation: &'static str) -> storage::Result<()> {
        let error = |kind| storage::Error::new(operation, "x", io::Error::other("no")).with_kind(kind);
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        match self.end {
            // What cleans up is asked also when somebody wants an end.
            Some((at, kind)) if number >= at && (operation != "remove" || kind != ErrorKind::Interrupted) => {
                Err(error(kind))
            }
            _ if self.forbidden.contains(&operation) => Err(error(ErrorKind::Denied)),
            _ => Ok(()),
        }
    }

    fn names(&self) -> Vec<String> {
        self.inner.list_all().unwrap().0.into_iter().map(|found| found.name.to_string()).collect()
    }
}

impl Storage for Strict {
    fn create(&self) -> storage::Result<Box<dyn Upload>> {
        self.inner.create()
    }
    fn read(&self, name: &ObjectName, limit: u64) -> storage::Result<Vec<u8>> {
        self.ask("read")?;
        self.inner.read(name, limit)
    }
    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> storage::Result<Vec<u8>> {
        self.ask("read")?;
        self.inner.read_range(name, offset, length)
    }
    fn length(&self, name: &ObjectName) -> storage::Result<u64> {
        self.ask("read")?;
        self.inner.length(name)
    }
    fn list(&self, folder: Folder) -> storage::Result<Vec<Listed>> {
        self.inner.list(folder)
    }
    fn strays(&self, folder: Folder) -> storage::Result<Vec<String>> {
        self.inner.strays(folder)
    }
    fn remove(&self, name: &ObjectName) -> storage::Result<()> {
        self.ask("remove")?;
        self.inner.remove(name)
    }
    fn set_aside(&self, name: &ObjectName) -> storage::Result<String> {
        self.inner.set_aside(name)
    }
    fn clean_temporary(&self) -> storage::Result<u64> {
        Ok(0)
    }
}

impl MirrorStore for Strict {
    fn list_all(&self) -> storage::Result<(Vec<Listed>, Vec<String>)> {
        self.ask("list")?;
        self.inner.list_all()
    }
    fn keeping(&self) -> Option<Keeping> {
        self.keeping
    }
    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> storage::Result<()> {
        self.ask("write")?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        if self.inner.length(name).is_ok() {
            self.ask("again")?;
        }
        self.inner.replace(name, bytes)
    }
}

/// The view of a repository.
fn view(number: u8) -> (Memory, PublicView) {
    let storage = Memory::new();
    drop(repository(&storage, number, Parameters::FILES));
    let access = Access::bare(Arc::new(storage.clone()), format!("/memory/{number}").into());
    (storage, PublicView::open(access).unwrap())
}

#[test]
fn an_empty_place_is_empty_again() {
    let (_, view) = view(1);
    let store = Strict::default();
    let found = run(&store, &view).unwrap();
    let expected = Findings { lists: true, reads_ranges: true, removing: Removing::Works, left: None, keeping: None };
    assert_eq!((found.lines().len(), found), (4, expected));
    assert_eq!(store.names(), Vec::<String>::new());
}

#[test]
fn what_a_bucket_keeps_is_explained() {
    let lock = |for_everybody, days| Keeping { versions: true, lock: Some(Lock { for_everybody, days }) };
    for (keeping, words) in [
        (Keeping { versions: true, lock: None }, "versioning: "),
        (lock(true, Some(30)), "30 days from when it was stored, and nobody can"),
        (lock(false, Some(30)), "without a special right"),
        (lock(false, None), "has no default"),
    ] {
        let text = explain(keeping);
        assert!(text.contains(words) && text.contains("frees no space"), "{text}");
    }
}

#[test]
fn probes_do_not_pile_up_where_everything_is_kept() {
    let (_, view) = view(1);
    let lock = Some(Lock { for_everybody: true, days: Some(1) });
    let store = Strict { keeping: Some(Keeping { versions: true, lock }), ..Strict::without(&["remove"]) };
    for _ in 0..3 {
        let found = run(&store, &view).unwrap();
        let lines = found.lines().join("\n");
        assert!(found.removing == Removing::NotTried && lines.contains("stays 1 day from"), "{lines}");
        assert!(lines.contains("stays there: packs/"), "{lines}");
    }
    assert_eq!((store.names().len(), store.writes.load(Ordering::Relaxed)), (1, 1));
}

#[test]
fn whatever_is_not_allowed_nothing_stays_that_could_go() {
    let (_, view) = view(1);
    for forbidden in ["list", "write", "read"] {
        let store = Strict::without(&[forbidden]);
        let error = run(&store, &view).unwrap_err();
        assert!(matches!(error, Error::Repository(repository::Error::Storage(_))), "{forbidden}: {error}");
        assert_eq!(store.names(), Vec::<String>::new(), "{forbidden}");
    }
    // Credentials that may not delete: each attempt says what that means, and the place can be used.
    let store = Strict::without(&["remove", "again"]);
    for number in 1..=usize::from(LEFT_MAX) {
        let found = run(&store, &view).unwrap();
        assert_eq!((found.removing.clone(), found.lists), (Removing::NotAllowed, true));
        let lines = found.lines().join("\n");
        assert!(lines.contains("--no-delete") && lines.contains("stays there: packs/"), "{lines}");
        assert_eq!(store.names().len(), number);
    }
    // When he may, all of it goes.
    let store = Strict { forbidden: Vec::new(), ..store };
    for _ in 0..2 * LEFT_MAX {
        assert!(run(&store, &view).unwrap().left.is_none());
    }
    assert!(store.names().len() < usize::from(LEFT_MAX), "{:?}", store.names());
}

#[test]
fn whenever_it_ends_the_next_one_finds_its_way() {
    let (_, view) = view(1);
    for kind in [ErrorKind::Interrupted, ErrorKind::Unavailable, ErrorKind::Refused] {
        for at in 0..8 {
            let store = Strict { end: Some((at, kind)), ..Strict::default() };
            let ended = run(&store, &view);
            if kind == ErrorKind::Interrupted {
                assert!(matches!(ended, Ok(_) | Err(Error::Interrupted)), "{at}: {ended:?}");
                assert_eq!(store.names(), Vec::<String>::new(), "{at}");
            }
            assert!(store.names().len() <= 1, "{at}");
            let again = Strict { end: None, ..store };
            assert_eq!(run(&again, &view).unwrap().removing, Removing::Works, "{kind:?} {at}");
            assert_eq!(again.names(), Vec::<String>::new(), "{kind:?} {at}");
        }
    }
}

#[test]
fn nothing_is_written_where_something_else_lies() {
    let (ours, view) = view(1);
    let (others, _) = self::view(2);
    let pack = ObjectName::Pack(ObjectId([7; 32]));
    let photos = Memory::new();
    photos.replace(&pack, b"a photograph").unwrap();
    for (place, is_ours) in [(others, false), (photos, false), (ours.clone(), true), (Memory::new(), true)] {
        let store = Strict { inner: place, ..Strict::default() };
        let before = store.names();
        let tried = run(&store, &view);
        assert_eq!(tried.is_ok(), is_ours, "{tried:?}");
        if let Err(error) = tried {
            let is_said = matches!(error, Error::Mirror(MirrorError::Foreign { .. } | MirrorError::OtherRepository));
            assert!(is_said, "{error}");
            assert!(store.requests.load(Ordering::Relaxed) <= 2, "it is listed, and its config is read");
        }
        assert_eq!(store.names(), before);
    }
    // A mirror of ours that has lost its config is one.
    ours.remove(&ObjectName::Config).unwrap();
    assert!(run(&Strict { inner: ours, ..Strict::default() }, &view).is_ok());
    // Probes as they were once named.
    let store = Strict::default();
    for number in 0..50_u8 {
        let bytes = vec![number; PROBE_BYTES];
        store.inner.replace(&ObjectName::Pack(ObjectId::of(&bytes)), &bytes).unwrap();
    }
    assert!(run(&store, &view).is_ok());
}
