//! Mirrors: a copy elsewhere is whole at every instant, and comes back. format-spec/mirror.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::new_without_default, missing_docs)]

/// The methods of a [`Storage`](packstone::storage::Storage) around `inner`, listings apart.
macro_rules! all_but_list_of_inner {
    () => {
        fn create(&self) -> packstone::storage::Result<Box<dyn packstone::storage::Upload>> {
            self.inner.create()
        }

        fn read(&self, name: &packstone::storage::ObjectName, limit: u64) -> packstone::storage::Result<Vec<u8>> {
            self.inner.read(name, limit)
        }

        fn read_range(
            &self,
            name: &packstone::storage::ObjectName,
            offset: u64,
            length: u64,
        ) -> packstone::storage::Result<Vec<u8>> {
            self.inner.read_range(name, offset, length)
        }

        fn length(&self, name: &packstone::storage::ObjectName) -> packstone::storage::Result<u64> {
            self.inner.length(name)
        }

        fn strays(&self, folder: packstone::storage::Folder) -> packstone::storage::Result<Vec<String>> {
            self.inner.strays(folder)
        }

        fn remove(&self, name: &packstone::storage::ObjectName) -> packstone::storage::Result<()> {
            self.inner.remove(name)
        }

        fn set_aside(&self, name: &packstone::storage::ObjectName) -> packstone::storage::Result<String> {
            self.inner.set_aside(name)
        }

        fn clean_temporary(&self) -> packstone::storage::Result<u64> {
            self.inner.clean_temporary()
        }
    };
}

mod catastrophe;
mod deletion;
mod giving_up;
mod ill;
mod interrupted;
mod interruption;
mod lagging;
mod meanwhile;
mod parts;
mod program;
mod reading;
mod requests;
mod roles;
mod server;
mod unfinished;
#[path = "../crash/world.rs"]
#[allow(dead_code, reason = "shared with the tests of crashes")]
mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use packstone::base::id::ObjectId;
use packstone::codec::head::HeadRef;
use packstone::codec::head_code::HeadCode;
use packstone::ops::recover;
use packstone::ops::sync::pass::{Pass, Reader};
use packstone::ops::sync::{self, Options, Plan, Report};
use packstone::ops::{self, Silent};
use packstone::repository::chain::Tip;
use packstone::repository::mirror_book::MirrorBook;
use packstone::repository::public_view::{self, PublicView};
use packstone::repository::{self, Repository};
use packstone::storage::memory::Memory;
use packstone::storage::read_only::ReadOnly;
use packstone::storage::{MirrorStore, ObjectName};

use crate::world::{Contents, Machine, Source};

/// A repository with its source, and what its snapshots hold.
pub struct Home {
    pub storage: Memory,
    pub source: Source,
    pub snapshots: BTreeMap<ObjectId, Arc<Contents>>,
}

impl Home {
    pub fn new() -> Self {
        let storage = Memory::new();
        drop(Machine::default().create(Arc::new(storage.clone()), 1).unwrap());
        Self { storage, source: Source::new(), snapshots: BTreeMap::new() }
    }

    pub fn open(&self) -> Repository {
        Machine::default().open(Arc::new(self.storage.clone()), 1).unwrap()
    }

    pub fn backup(&mut self) -> ObjectId {
        let report = world::backup(&self.open(), self.source.path()).unwrap();
        let id = report.snapshot.unwrap();
        self.snapshots.insert(id, Arc::new(self.source.contents()));
        self.source.change();
        id
    }

    pub fn view(&self) -> PublicView {
        view(&self.storage).unwrap()
    }
}

pub fn view(storage: &Memory) -> repository::Result<PublicView> {
    PublicView::open(Machine::default().access(Arc::new(storage.clone())))
}

/// The mirror as of the head with this code, which is whole.
pub fn as_of(mirror: &Memory, code: &HeadCode) -> (PublicView, Tip) {
    let storage = ReadOnly::new(Arc::new(mirror.clone()));
    let head = recover::named(&storage, code).unwrap();
    let storage = Arc::new(storage.as_of(head.generation, head.id));
    let view = PublicView::open(Machine::default().access(storage)).unwrap();
    let tip = recover::older(&view, head).unwrap();
    (view, tip)
}

/// Another storage with the same objects.
pub fn copy(storage: &Memory) -> Memory {
    let copy = Memory::new();
    for (name, bytes) in storage.objects() {
        copy.replace(&name, &bytes).unwrap();
    }
    copy
}

/// Everything is read back.
pub fn options() -> Options {
    Options { parallel: 1, sample_percent: 100.0, ..Options::default() }
}

pub fn sync(view: &PublicView, mirror: &dyn MirrorStore, seen: Option<HeadRef>) -> ops::Result<(Plan, Report)> {
    let plan = sync::plan(view, mirror, seen, None, &Silent)?;
    let report = send(view, mirror, &plan, None)?;
    Ok((plan, report))
}

/// Carries out a plan.
pub fn send(
    view: &PublicView,
    mirror: &dyn MirrorStore,
    plan: &Plan,
    book: Option<(&Mutex<MirrorBook>, &str)>,
) -> ops::Result<Report> {
    let pass = Pass::new(view, Arc::default());
    sync::execute(&pass.reader(plan), mirror, plan, &options(), book, &Silent)
}

/// The head that a mirror comes back as; everything that it needs is there with the right bytes, and the snapshots among `wanted` that
/// it names read back. None when there is no repository on it yet.
pub fn whole(
    mirror: &Memory,
    wanted: &BTreeMap<ObjectId, Arc<Contents>>,
    root: &[u8],
) -> Result<Option<HeadRef>, String> {
    let say = |error: repository::Error| error.to_string();
    let view = match view(mirror) {
        Ok(view) => view,
        Err(repository::Error::NoRepository { .. } | repository::Error::NoHead { .. }) => return Ok(None),
        // The first head is there, and its checkpoint is not yet.
        Err(repository::Error::Missing { object: ObjectName::Head { .. }, .. }) => return Ok(None),
        Err(error) => return Err(say(error)),
    };
    for needed in view.needs().map_err(say)? {
        public_view::read_verified(view.storage(), &needed, view.config_bytes()).map_err(say)?;
    }
    let repository = Machine::default().open(Arc::new(mirror.clone()), 1).map_err(say)?;
    for id in repository.tip().state.snapshots.keys() {
        let wanted = wanted.get(id).ok_or_else(|| format!("{id} was never made"))?;
        if world::contents(&repository, *id, root)? != **wanted {
            return Err(format!("{id} reads back as something else"));
        }
    }
    Ok(Some(view.tip().reference()))
}

/// What a mirror must never lose: the objects of its newest head.
pub fn live(mirror: &Memory) -> BTreeMap<ObjectName, Vec<u8>> {
    let view = view(mirror).unwrap();
    let objects = mirror.objects();
    view.needs().unwrap().into_iter().map(|needed| (needed.name, objects[&needed.name].clone())).collect()
}

pub fn root(source: &Source) -> Vec<u8> {
    source.path().as_os_str().as_encoded_bytes()[1..].to_vec()
}

#[test]
fn a_mirror_follows_and_an_idle_sync_lists_once() {
    let mut home = Home::new();
    let mirror = ill::Ill::new(Memory::new());
    home.backup();
    let (plan, report) = sync(&home.view(), &mirror, None).unwrap();
    assert_eq!(report.sent as usize, plan.needs.len());
    assert_eq!(whole(&mirror.inner, &home.snapshots, &root(&home.source)).unwrap(), Some(plan.head));
    home.backup();
    let (plan, report) = sync(&home.view(), &mirror, Some(plan.head)).unwrap();
    assert!((report.sent as usize) < plan.needs.len(), "only what is new");
    assert_eq!(whole(&mirror.inner, &home.snapshots, &root(&home.source)).unwrap(), Some(plan.head));
    let before = mirror.requests();
    let (idle, report) = sync(&home.view(), &mirror, Some(plan.head)).unwrap();
    assert!(idle.is_empty() && report.sent == 0);
    assert_eq!(mirror.requests() - before, 1, "one listing, and nothing else");
}

/// One mirror is empty, one only behind, one dies on the way: small objects that several of them lack are read here once.
#[test]
fn several_mirrors_are_brought_up_from_one_pass() {
    let mut home = Home::new();
    let behind = Memory::new();
    home.backup();
    sync(&home.view(), &behind, None).unwrap();
    home.backup();
    let counted = ill::Ill::new(home.storage.clone());
    let requests = counted.clone();
    let view = PublicView::open(Machine::default().access(Arc::new(counted))).unwrap();
    let empty = Memory::new();
    let dying = ill::Ill::with(Memory::new(), 4, ill::Fault::Dead);
    let mirrors: [&dyn MirrorStore; 3] = [&empty, &behind, &dying];
    let plans = mirrors.map(|mirror| sync::plan(&view, mirror, None, None, &Silent).unwrap());
    let before = requests.requests();
    let pass = Pass::new(&view, Arc::default());
    let readers = plans.each_ref().map(|plan| pass.reader(plan));
    let done: Vec<bool> = std::thread::scope(|scope| {
        let work = |((mirror, plan), reader): ((&dyn MirrorStore, &Plan), Reader<'_>)| {
            sync::execute(&reader, mirror, plan, &options(), None, &Silent).is_ok()
        };
        let each = mirrors.into_iter().zip(&plans).zip(readers);
        let threads: Vec<_> = each.map(|one| scope.spawn(move || work(one))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(done, [true, true, false]);
    let all = plans[0].send.iter().chain(&plans[0].heads);
    let (large, small): (Vec<public_view::Needed>, Vec<_>) = all.partition(|needed| needed.length.unwrap() >= 1 << 20);
    let (large, small, read) = (large.len() as u64, small.len() as u64, requests.requests() - before);
    assert!(plans[1].send.len() < plans[0].send.len() && small > large);
    assert!((small + large..=small + 3 * large).contains(&read), "{read} for {small} and {large}");
    for mirror in [&empty, &behind] {
        assert_eq!(whole(mirror, &home.snapshots, &root(&home.source)).unwrap(), Some(plans[0].head));
    }
}
