//! Sending objects, several at a time, each hashed when it is read.

use crate::base::lock::{into_inner, lock};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::connections::{Connection, Connections, LARGE_BYTES};
use super::pass::Reader;
use super::{NAMES_SHOWN, Options, Plan};
use crate::base::threads;
use crate::base::time::Time;
use crate::ops::mirror_error::MirrorError;
use crate::ops::sample::Sample;
use crate::ops::{Error, Monitor, Problem, Result, Severity};
use crate::repository;
use crate::repository::mirror_book::{MirrorBook, SendState};
use crate::repository::public_view::{Needed, verify};
use crate::storage::cause::Behind;
use crate::storage::{ErrorKind, Leftovers, MirrorStore, ObjectName, Repeated, UnfinishedUpload, Uplink};

/// After so many objects have failed the rest is not tried: the store is ill.
const FAILURES_MAX: usize = 10;
const WRONG_TWICE: &str = "reads back with other bytes than were sent, twice";

/// The book, and the name of the mirror in it. A book that cannot be written stops no sync.
pub(super) struct Book<'a>(Option<(&'a Mutex<MirrorBook>, &'a str)>);

/// Whose incomplete objects this machine's are; nobody's without a book.
pub(super) fn owner(book: Option<(&Mutex<MirrorBook>, &str)>) -> String {
    book.and_then(|(book, _)| lock(book).tag().ok()).unwrap_or_default()
}

impl<'a> Book<'a> {
    pub fn new(book: Option<(&'a Mutex<MirrorBook>, &'a str)>, plan: &Plan) -> Self {
        if let Some((book, name)) = book {
            let all = plan.send.iter().chain(&plan.heads);
            let objects: Vec<_> = all.map(|needed| (needed.name, needed.length.unwrap_or_default())).collect();
            let _ = lock(book).plan(name, &objects, Time::now());
        }
        Self(book)
    }

    fn note(&self, name: &ObjectName, state: &SendState) {
        if let Some((book, mirror)) = self.0 {
            let _ = lock(book).set_state(mirror, name, state, Time::now());
        }
    }

    /// What was read back is right, whatever was found there before.
    fn mended(&self, name: &ObjectName) {
        if let Some((book, mirror)) = self.0 {
            let _ = lock(book).remove_damaged_objects(mirror, &[*name]);
        }
    }

    fn begun(&self, upload: &UnfinishedUpload) {
        if let Some((book, mirror)) = self.0 {
            let _ = lock(book).note_upload(mirror, upload);
        }
    }

    fn ended(&self, upload: &UnfinishedUpload) {
        if let Some((book, mirror)) = self.0 {
            let _ = lock(book).forget_upload(mirror, upload);
        }
    }
}

/// What an earlier sync saw arrive with other bytes, or a check read so, whatever its length.
pub(super) fn doubtful(book: Option<(&Mutex<MirrorBook>, &str)>) -> BTreeSet<ObjectName> {
    let Some((book, name)) = book else { return BTreeSet::new() };
    lock(book).doubtful(name).unwrap_or_default().into_iter().collect()
}

/// Ends the uploads that a killed sync of this machine left unfinished, whose lock on the mirror this one has; and when something is to be sent,
/// those of others that are old. A sync that has nothing to send asks nothing more than its listing.
pub(super) fn end_unfinished(
    book: Option<(&Mutex<MirrorBook>, &str)>,
    mirror: &dyn MirrorStore,
    look: bool,
) -> Leftovers {
    let noted = |(book, name): (&Mutex<MirrorBook>, &str)| lock(book).uploads(name).unwrap_or_default();
    let ours = book.map(noted).unwrap_or_default();
    if ours.is_empty() && !look {
        return Leftovers::default();
    }
    let ended = mirror.end_unfinished(&ours, look);
    if let Some((book, name)) = book {
        for upload in &ended.gone {
            let _ = lock(book).forget_upload(name, upload);
        }
    }
    ended.leftovers
}

/// What it takes to send.
pub(super) struct Sender<'a> {
    pub reader: &'a Reader<'a>,
    pub mirror: &'a dyn MirrorStore,
    pub options: &'a Options,
    pub book: &'a Book<'a>,
    pub monitor: &'a dyn Monitor,
    pub connections: &'a Connections,
    /// Whose incomplete objects they are on the way.
    pub owner: &'a str,
    /// What had other bytes there before: it is always read back.
    pub doubtful: &'a BTreeSet<ObjectName>,
}

impl Sender<'_> {
    /// Reads, hashes and sends one object.
    pub fn send_one(&self, needed: &Needed) -> Result<()> {
        self.send_unless(needed, &Failures::default())
    }

    /// The same, which is not begun any more once there were too many failures: it ends as one that was interrupted.
    fn send_unless(&self, needed: &Needed, failures: &Failures) -> Result<()> {
        let stop = || failures.are_too_many() || self.monitor.interrupted();
        let length = needed.length.unwrap_or_default();
        let connection = self.connections.begin(length, stop).ok_or(Error::Interrupted)?;
        // None of those that are counted waits for one that waits here: it has no bytes yet.
        let _room = self.reader.budget().take(self.mirror.room(length), stop).ok_or(Error::Interrupted)?;
        // What it waited for was given back by one that failed, maybe.
        if stop() {
            return Err(Error::Interrupted);
        }
        let sent = self.send_on(&connection, needed);
        match &sent {
            Ok(()) => connection.end(),
            // Before the next one gets the connection.
            Err(error) => failures.count(error),
        }
        sent
    }

    fn send_on(&self, connection: &Connection<'_>, needed: &Needed) -> Result<()> {
        let stop = || self.monitor.interrupted();
        let body = self.reader.body(needed)?;
        if stop() {
            return Err(Error::Interrupted);
        }
        self.book.note(&needed.name, &SendState::InProgress);
        let moved = |bytes| {
            self.monitor.advance(0, bytes);
            connection.moved(bytes);
        };
        let repeated = |bytes| match bytes {
            Repeated::Lost(lost) => self.monitor.repeat(lost, 0),
            Repeated::Sent(again) => {
                self.monitor.repeat(0, again);
                connection.moved(again);
            }
        };
        let (begun, ended) = (|upload: &_| self.book.begun(upload), |upload: &_| self.book.ended(upload));
        let uplink = Uplink {
            limit: self.reader.limit(),
            moved: &moved,
            repeated: &repeated,
            stop: &stop,
            owner: self.owner,
            begun: &begun,
            ended: &ended,
        };
        match self.mirror.send(&needed.name, &body, &uplink) {
            Ok(()) => {
                self.book.note(&needed.name, &SendState::Done);
                self.monitor.advance(1, 0);
                Ok(())
            }
            Err(_) if stop() => Err(Error::Interrupted),
            Err(error) => {
                if let Some(here) = body.failure() {
                    return Err(self.reader.explain(needed, here).into());
                }
                let transient = error.kind == ErrorKind::Unavailable;
                self.book.note(&needed.name, &SendState::Failed { transient, reason: error.to_string() });
                Err(repository::Error::from(error).into())
            }
        }
    }

    /// Sends everything, one kind of object after the other, and returns what arrived.
    ///
    /// # Errors
    /// [`MirrorError::Incomplete`] when something did not; damage in the repository; [`Error::Interrupted`].
    pub fn send_all(&self, all: &[Needed]) -> Result<Vec<Needed>> {
        let mut sent = Vec::new();
        for kind in all.chunk_by(|one, other| class(&one.name) == class(&other.name)) {
            sent.extend(self.send_kind(kind)?);
        }
        Ok(sent)
    }

    fn send_kind(&self, objects: &[Needed]) -> Result<Vec<Needed>> {
        let (large, small): (VecDeque<Needed>, VecDeque<Needed>) =
            objects.iter().copied().partition(|needed| needed.length.is_none_or(|length| length >= LARGE_BYTES));
        // As many as there is memory for. The others leave them alone: each thread keeps some of the memory that it once had.
        let rooms = large.iter().map(|needed| self.mirror.room(needed.length.unwrap_or_default()));
        let of_large = self.reader.budget().parts(rooms.max().unwrap_or_default());
        let (large, small, begun) = (Mutex::new(large), Mutex::new(small), AtomicUsize::new(0));
        let pop = |queue: &Mutex<VecDeque<Needed>>| lock(queue).pop_front();
        let (sent, failed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let failures = Failures::default();
        let work = || {
            let number = begun.fetch_add(1, Ordering::Relaxed);
            while !failures.are_too_many() && !self.monitor.interrupted() {
                let next = match number {
                    // While large ones wait for the line small ones go.
                    1 if of_large > 1 => pop(&small).or_else(|| pop(&large)),
                    number if number < of_large => pop(&large).or_else(|| pop(&small)),
                    _ => pop(&small),
                };
                let Some(needed) = next else { return };
                match self.send_unless(&needed, &failures) {
                    Ok(()) => lock(&sent).push(needed),
                    Err(Error::Interrupted) => return,
                    Err(error) => {
                        if !is_shortage(&error) {
                            self.monitor.problem(&Problem::new(Severity::Error, b"", &error.to_string()));
                        }
                        lock(&failed).push((needed, error));
                    }
                }
            }
        };
        threads::share(self.options.parallel.clamp(1, objects.len().max(1)), work);
        if self.monitor.interrupted() {
            return Err(Error::Interrupted);
        }
        let mut failed = into_inner(failed);
        // Neither is a matter of the mirror.
        let damage = failed.iter().position(|(_, error)| error.is_damage() || is_shortage(error));
        if let Some(damage) = damage {
            return Err(failed.swap_remove(damage).1);
        }
        let sent = into_inner(sent);
        if failed.is_empty() {
            return Ok(sent);
        }
        failed.sort_by_key(|(needed, _)| needed.name);
        let first: Vec<String> = failed.iter().take(NAMES_SHOWN).map(|(_, error)| error.to_string()).collect();
        Err(MirrorError::Incomplete {
            generation: self.reader.view().tip().reference().generation,
            missing: objects.len() - sent.len(),
            of: objects.len(),
            first: first.join("; "),
            behind: failed.iter().find_map(|(_, error)| behind(error)),
        }
        .into())
    }

    /// Reads back what everything hangs on, and some of the rest, and sends again what differs. Returns how many were read.
    ///
    /// # Errors
    /// [`MirrorError::Incomplete`] when objects differ a second time; storage errors.
    pub fn read_back(&self, sent: &[Needed]) -> Result<u64> {
        let is_always = |needed: &&Needed| {
            matches!(needed.name, ObjectName::Config | ObjectName::Key(_) | ObjectName::Head { .. })
                || self.doubtful.contains(&needed.name)
        };
        let (always, rest): (Vec<&Needed>, Vec<&Needed>) = sent.iter().partition(is_always);
        let sample = Sample { percent: self.options.sample_percent, seed: self.options.seed };
        let chosen = [always, sample.of(rest, |needed| needed.name.to_string())].concat();
        let (count, mut wrong) = (chosen.len(), Vec::new());
        for needed in &chosen {
            if self.monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            if self.is_right(needed)? {
                self.book.mended(&needed.name);
                continue;
            }
            self.send_one(needed)?;
            if self.is_right(needed)? {
                self.book.mended(&needed.name);
            } else {
                // It has the right length: without this the next sync would take it for what was sent.
                let reason = WRONG_TWICE.to_owned();
                self.book.note(&needed.name, &SendState::Failed { transient: false, reason });
                wrong.push(needed.name.to_string());
            }
        }
        if !wrong.is_empty() {
            let generation = self.reader.view().tip().reference().generation;
            let first = wrong.get(..NAMES_SHOWN).unwrap_or(&wrong).join(", ");
            let first = format!("{first}: {WRONG_TWICE}");
            return Err(
                MirrorError::Incomplete { generation, missing: wrong.len(), of: count, first, behind: None }.into()
            );
        }
        Ok(chosen.len() as u64)
    }

    fn is_right(&self, needed: &Needed) -> Result<bool> {
        match verify(self.mirror, needed, self.reader.view().config_bytes(), &mut |_| ()) {
            Ok(()) => Ok(true),
            Err(repository::Error::Damaged { .. }) => Ok(false),
            Err(repository::Error::Storage(error)) if matches!(error.kind, ErrorKind::Absent | ErrorKind::Length) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// How many objects of a run have failed.
#[derive(Default)]
struct Failures(AtomicUsize);

impl Failures {
    fn count(&self, error: &Error) {
        let more = match error {
            Error::Interrupted => 0,
            error if is_shortage(error) => FAILURES_MAX,
            _ => 1,
        };
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// True when nothing more is to be begun.
    fn are_too_many(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= FAILURES_MAX
    }
}

/// What is behind a failure at the mirror.
fn behind(error: &Error) -> Option<Box<Behind>> {
    let Some(repository::Error::Storage(error)) = error.repository() else { return None };
    error.behind().map(Box::new)
}

/// This process has run out of something: the next object would fare no better.
fn is_shortage(error: &Error) -> bool {
    let Some(repository::Error::Storage(error)) = error.repository() else { return false };
    error.kind == ErrorKind::Shortage
}

/// Kinds are sent one after the other.
const fn class(name: &ObjectName) -> u8 {
    match name {
        ObjectName::Config => 0,
        ObjectName::Key(_) => 1,
        ObjectName::Pack(_) => 2,
        ObjectName::Segment(_) => 3,
        ObjectName::Snapshot(_) => 4,
        ObjectName::Head { .. } => 5,
    }
}
