//! Every HTTP request of a sync, and every fault that a store, a proxy or a line can have, through the program's own client.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use packstone::base::id::ObjectId;
use packstone::base::time::Time;
use packstone::codec::head::HeadRef;
use packstone::ops::mirror_error::MirrorError;
use packstone::ops::{Error, Silent, sync as operation};
use packstone::repository::mirror_book::MirrorBook;
use packstone::storage::memory::Memory;
use packstone::storage::patience::Patience;
use packstone::storage::{ErrorKind, MirrorStore, Storage};

use crate::server::{FAULTS, Fault, Kind, Script, Server};
use crate::world::{Contents, is_full};
use crate::{Home, copy, root, send, sync, whole};

/// Names in a page of a listing: a listing is some requests.
const PAGE: usize = 7;
const NAME: &str = "cloud";

/// Quick to try again, slow to give up.
pub fn quick() -> Patience {
    Patience { attempts: 3, pause: Duration::from_millis(1), ..Patience::default() }
}

/// Less of it for a store that is silent, once or for good. The system hands a body to a server on this machine at once.
pub fn patience(script: Script) -> Patience {
    let little = Patience { answer: Duration::from_millis(300), bytes_per_second: 64 << 20, ..quick() };
    match script {
        Script::At(_, Fault::Silence) => Patience { attempts: 6, ..little },
        Script::From(_, Fault::Silence) => Patience { attempts: 1, ..little },
        _ => quick(),
    }
}

/// A folder in memory, where there is one: what is remembered of a mirror is written durably at every step.
fn memory_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A repository with a mirror that is behind, on a server.
struct Sweep {
    home: Home,
    server: Server,
    before: Memory,
    was: Option<HeadRef>,
    source: Vec<u8>,
    /// What is known of mirrors that were looked at: most runs end in one of a few states.
    looked_at: BTreeMap<ObjectId, Result<Option<HeadRef>, String>>,
    runs: u64,
    state: tempfile::TempDir,
}

impl Sweep {
    fn new(synced: usize, backups: usize) -> Self {
        let mut home = Home::new();
        let before = Memory::new();
        for number in 0..backups {
            home.backup();
            if number + 1 == synced {
                sync(&home.view(), &before, None).unwrap();
            }
        }
        let source = root(&home.source);
        let was = whole(&before, &home.snapshots, &source).unwrap();
        let server = Server::start(PAGE);
        Self { home, server, before, was, source, looked_at: BTreeMap::new(), runs: 0, state: memory_folder() }
    }

    /// The head that the mirror comes back as.
    fn is(&mut self) -> Result<Option<HeadRef>, String> {
        let mirror = self.server.mirror();
        let mut hasher = blake3::Hasher::new();
        for (name, bytes) in mirror.objects() {
            hasher.update(name.to_string().as_bytes()).update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
        }
        let key = ObjectId(*hasher.finalize().as_bytes());
        let snapshots: &BTreeMap<ObjectId, Arc<Contents>> = &self.home.snapshots;
        self.looked_at.entry(key).or_insert_with(|| whole(&mirror, snapshots, &self.source)).clone()
    }

    /// A machine's memory of its mirrors, with this one alone, which it has not synced to.
    fn book(&self) -> Mutex<MirrorBook> {
        let mut book = MirrorBook::open(self.state.path(), self.home.view().id()).unwrap();
        let _ = book.remove(NAME);
        book.add(NAME, &self.server.address(), None, Time::now()).unwrap();
        Mutex::new(book)
    }

    fn sync(&self, patience: Patience, book: &Mutex<MirrorBook>) -> packstone::ops::Result<()> {
        let (view, remote) = (self.home.view(), self.server.remote(patience));
        let plan = operation::plan(&view, &remote, self.was, Some((book, NAME)), &Silent)?;
        send(&view, &remote, &plan, Some((book, NAME))).map(drop)
    }

    /// The requests of a sync to which nothing happens.
    fn requests(&mut self) -> Vec<Kind> {
        self.server.set(&self.before);
        self.sync(quick(), &self.book()).unwrap();
        assert_eq!(self.is(), Ok(Some(self.home.view().tip().reference())));
        self.server.asked().into_iter().map(|asked| asked.kind).collect()
    }

    /// One sync with this script, and what must hold after it.
    fn run(&mut self, script: Script) {
        self.runs += 1;
        let head = self.home.view().tip().reference();
        self.server.set(&self.before);
        self.server.script(script);
        let book = self.book();
        let told = self.sync(patience(script), &book);
        let requests = self.server.asked().len();
        let say = |why: String| {
            let told = told.as_ref().map_err(ToString::to_string);
            format!("{script:?}, {requests} requests: {why} (it said {told:?})")
        };
        let is = self.is();
        // A store that says wrong lengths, and keeps other bytes than it is sent then, spoils what it has: that it is told is all.
        if matches!(script, Script::From(_, Fault::Wrong)) && told.is_err() {
            return;
        }
        match &is {
            Ok(is) if *is == self.was || *is == Some(head) => {}
            is => panic!("{}", say(format!("the mirror is {is:?}"))),
        }
        if told.is_ok() && is != Ok(Some(head)) {
            panic!("{}", say(format!("it is {is:?} and said to be whole")));
        }
        // What passes is not the end of a sync.
        let passes = [Fault::Error, Fault::SlowDown, Fault::Silence, Fault::Reset, Fault::Short, Fault::Repeated];
        if let Script::At(_, fault) = script
            && passes.contains(&fault)
        {
            assert!(told.is_ok(), "{}", say("one more attempt would have done".to_owned()));
        }
        self.server.script(Script::Well);
        if let Err(error) = self.sync(quick(), &book) {
            panic!("{}", say(format!("the next sync: {error}")));
        }
        let is = self.is();
        assert_eq!(is, Ok(Some(head)), "{}", say("the next sync does not mend it".to_owned()));
    }

    /// The numbers of the requests that are tried: all, or every `step`-th, another one first for every fault, and the last two.
    fn chosen(requests: &[Kind], fault: Fault, step: usize) -> impl Iterator<Item = u64> {
        let first = FAULTS.iter().position(|other| *other == fault).unwrap_or_default() % step;
        (0..requests.len())
            .filter(move |number| number % step == first || number + 2 >= requests.len())
            .filter(move |number| fault.befalls(requests[*number]))
            .map(|number| number as u64)
    }
}

/// Sweeps that go on beside each other, each with a server of its own: most of their time is spent waiting.
const BESIDE: usize = 5;

/// Syncs with each script that `chosen` makes of the requests of an undisturbed sync and a fault, to a mirror that is new and to one that is
/// behind. Returns how many that were.
fn sweep_faults(chosen: impl Fn(&[Kind], Fault) -> Vec<Script> + Sync) -> u64 {
    let sweep_kind = |synced: usize, backups: usize| {
        let mut first = Sweep::new(synced, backups);
        let requests = first.requests();
        println!("from {:?}: {} requests", first.was.map(|head| head.generation), requests.len());
        let scripts: Vec<Script> = FAULTS.into_iter().flat_map(|fault| chosen(&requests, fault)).collect();
        let queue = Mutex::new(scripts.into_iter());
        let work = |mut sweep: Sweep| {
            loop {
                let next = queue.lock().unwrap().next();
                let Some(script) = next else { return sweep.runs };
                sweep.run(script);
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..BESIDE).map(|_| scope.spawn(|| work(Sweep::new(synced, backups)))).collect();
            work(first) + others.into_iter().map(|other| other.join().unwrap()).sum::<u64>()
        })
    };
    std::thread::scope(|scope| {
        let new = scope.spawn(|| sweep_kind(0, 1));
        sweep_kind(1, 3) + new.join().unwrap()
    })
}

#[test]
fn every_fault_of_every_request_leaves_a_mirror_whole_and_is_told() {
    let begun = Instant::now();
    let step = if is_full() { 1 } else { 9 };
    let runs = sweep_faults(|requests, fault| {
        Sweep::chosen(requests, fault, step).map(|number| Script::At(number, fault)).collect()
    });
    println!("sync: {runs} of {runs} requests and faults, {} s", begun.elapsed().as_secs());
    assert!(runs > 60);
}

#[test]
fn a_sync_that_is_cut_at_any_request_leaves_a_mirror_whole() {
    let begun = Instant::now();
    let runs = sweep_faults(|requests, fault| {
        // A listing without end has its own test.
        let step = match fault {
            Fault::Repeated => return Vec::new(),
            _ if is_full() => 1,
            Fault::Reset => 4,
            _ => 19,
        };
        Sweep::chosen(requests, fault, step).map(|number| Script::From(number, fault)).collect()
    });
    println!("sync: {runs} of {runs} requests from which on nothing works, {} s", begun.elapsed().as_secs());
    assert!(runs > 40);
}

/// The listing shows the right length of what reads back wrongly: it is remembered that it is not what was sent.
#[test]
fn what_was_seen_to_be_wrong_is_sent_again() {
    for begin in ["packs/", "index/", "snapshots/", "heads/"] {
        let mut sweep = Sweep::new(1, 3);
        let (book, head) = (sweep.book(), sweep.home.view().tip().reference());
        sweep.server.set(&sweep.before);
        sweep.server.script(Script::Writes(begin, Fault::Wrong));
        let error = sweep.sync(quick(), &book).expect_err(begin);
        assert!(matches!(error, Error::Mirror(MirrorError::Incomplete { .. })), "{begin}: {error}");
        assert_eq!(sweep.is(), Ok(sweep.was), "{begin}");
        sweep.server.script(Script::Well);
        sweep.sync(quick(), &book).unwrap();
        assert_eq!(sweep.is(), Ok(Some(head)), "{begin}");
    }
}

#[test]
fn an_idle_sync_is_one_listing_on_the_wire() {
    let mut home = Home::new();
    let server = Server::start(1_000);
    home.backup();
    let (plan, _) = sync(&home.view(), &server.remote(Patience::default()), None).unwrap();
    assert!(server.asked().iter().all(|asked| asked.kind != Kind::Other), "{:?}", server.asked());
    server.script(Script::Well);
    let (idle, report) = sync(&home.view(), &server.remote(Patience::default()), Some(plan.head)).unwrap();
    assert!(idle.is_empty() && report.sent == 0);
    let asked: Vec<Kind> = server.asked().into_iter().map(|asked| asked.kind).collect();
    assert_eq!(asked, [Kind::List], "one listing, and nothing else");
}

#[test]
fn who_has_another_secret_is_refused() {
    let server = Server::start(PAGE);
    let error = server.remote_with("another", quick()).list_all().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    assert_eq!(server.asked().len(), 1, "and it is not tried again");
}

/// What a person reads whose clock is wrong: on every kind of request, and at once.
#[test]
fn a_wrong_clock_is_said_in_one_sentence() {
    let mut sweep = Sweep::new(1, 2);
    let requests = sweep.requests();
    let mut kinds = 0;
    for kind in [Kind::List, Kind::Put, Kind::Get] {
        let number = requests.iter().position(|asked| *asked == kind).unwrap() as u64;
        sweep.server.set(&sweep.before);
        sweep.server.script(Script::From(number, Fault::Skew));
        let error = sync(&sweep.home.view(), &sweep.server.remote(quick()), sweep.was).err().unwrap().to_string();
        let sentence =
            "the clock of this machine is wrong: it differs by more than a quarter of an hour from the store's";
        assert!(error.contains(sentence), "{kind:?}: {error}");
        assert!(!error.contains("RequestTimeTooSkewed") && !error.contains("S3Error"), "{kind:?}: {error}");
        kinds += 1;
    }
    assert_eq!(kinds, 3);
}

#[test]
fn a_store_that_asks_for_less_is_asked_later() {
    let server = Server::start(PAGE);
    let patience = Patience { attempts: 4, pause: Duration::from_millis(40), ..Patience::default() };
    server.script(Script::From(0, Fault::SlowDown));
    let begun = Instant::now();
    let error = server.remote(patience).list_all().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert_eq!(server.asked().len(), 4);
    assert!(begun.elapsed() >= Duration::from_millis(40 + 80 + 160), "{:?}", begun.elapsed());
}

/// A token that leads back to where it came from: the sync ends, and says why.
#[test]
fn a_listing_without_end_is_given_up() {
    let mut sweep = Sweep::new(1, 2);
    sweep.server.set(&sweep.before);
    sweep.server.script(Script::From(0, Fault::Repeated));
    let view = sweep.home.view();
    let error = operation::plan(&view, &sweep.server.remote(quick()), sweep.was, None, &Silent).unwrap_err();
    assert!(error.to_string().contains("the same names over and over"), "{error}");
    assert!(matches!(error, Error::Repository(_)), "{error:?}");
    assert_eq!(sweep.is(), Ok(sweep.was));
}

/// A page that comes twice is no second head.
#[test]
fn a_name_that_is_listed_twice_is_one_object() {
    let mut sweep = Sweep::new(2, 2);
    let remote = sweep.server.remote(quick());
    sweep.server.set(&sweep.before);
    for folder in packstone::storage::Folder::ALL {
        sweep.server.script(Script::Well);
        let listed = remote.list(folder).unwrap();
        let pages = sweep.server.asked().len() as u64;
        for page in 0..pages {
            sweep.server.script(Script::At(page, Fault::Repeated));
            assert_eq!(remote.list(folder).unwrap(), listed, "{folder:?}, page {page}");
        }
    }
    assert_eq!(copy(&sweep.before).objects(), sweep.server.mirror().objects());
    assert_eq!(sweep.is(), Ok(sweep.was));
}
