//! Objects in a cloud, on a server: whatever OpenDAL reaches. OpenDAL is used here and nowhere else.
//!
//! # What a store is trusted with
//!
//! Nothing. Whatever is read is hashed by whoever reads it, a listing is a claim, and no safety rests on conditional writes
//! (many stores ignore them silently) or on its clock.
//!
//! # Writing
//!
//! Nothing is under its name before all of it has arrived: it goes in one request, or in parts that are put together at the end (`upload`); where a
//! store cannot promise that (SFTP, WebDAV), to a name under `tmp/` first, and then renamed. S3 checks a checksum of what arrives. What failed for
//! good leaves nothing under the name, or nothing that has its length.
//!
//! # Trying again
//!
//! Failures that may pass (`failure`: no answer, "slow down", a body that differs from its checksum) are tried again after 1, 2, 4, ... seconds,
//! each up to a half longer by chance, five times in all. Anything else is final at once. An attempt goes on while bytes flow: `flow`.
//!
//! # An end before the end
//!
//! Every operation ends within a tick when the user wants an end ([`Remote::ended_by`]), and none begins any more, but for those that clean up
//! behind what was interrupted (`Remote::for_cleaning`). Programs that OpenDAL starts end with this one: [`ssh`].
//!
//! # Reading
//!
//! One request an object. An answer is read as it comes, and ends the attempt when it is longer than what was asked for: `transport`.

mod answer;
mod authority;
mod aws_credentials;
mod connector;
mod failure;
mod flow;
mod listing;
mod said;
pub mod ssh;
#[cfg(test)]
mod strange;
#[cfg(test)]
mod tests;
mod transport;
mod unfinished;
mod upload;

use crate::base::lock::lock;
use crate::base::stop::StopSignal;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::TryStreamExt;
use opendal::services::S3Config;
use opendal::{Configurator, HttpTransporter, OperationContext, Operator, options};
use reqsign_core::ProvideCredentialChain;
use tokio::runtime::{Handle, Runtime};

use self::answer::{Answers, caught};
use self::aws_credentials::{AwsCredentials, region_of};
use self::failure::{all_words, reading_of};
use self::flow::Flow;
use self::listing::{Incomplete, Listing};
use self::said::Said;
use self::transport::Transport;
use self::unfinished::Calls;
use self::unfinished::watch::Watched;
use super::address::{Address, Service};
use super::aws_profile::Roles;
use super::body::Body;
use super::cause::{Cause, Keeping};
use super::patience::Patience;
use super::{
    EndedUploads, Error, ErrorKind, Folder, Leftovers, Listed, MirrorStore, ObjectName, Repeated, Result, Storage,
    Stored, UnfinishedUpload, Uplink, Upload,
};

/// Bytes of a page of a listing, or of any other answer that is no object, at most.
const PAGE_BYTES_MAX: u64 = 32 << 20;
/// How often whoever sends hears what has left, and is asked whether it shall go on.
const TICK: Duration = Duration::from_millis(100);
/// How long a store is waited for when something is cleaned up behind what the user interrupted: he waits too.
const CLEANING: Duration = Duration::from_secs(1);
/// How long connections may take to close at the end.
const CLOSING: Duration = Duration::from_secs(1);
/// A place under a store's root where incomplete objects are.
const TEMPORARY: &str = "tmp";
/// Where damaged objects are put.
const QUARANTINE: &str = "quarantine";

/// An incomplete object of another machine is removed when it is older than this by the store's clock. Should somebody still write it, that write
/// fails, and the next sync sends the object again.
const NOBODYS_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// A store that gives a greater age than this has no clock.
const NO_AGE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// See the module.
#[derive(Clone)]
pub struct Remote {
    operator: Operator,
    runtime: Handle,
    /// Behind everything that it runs.
    _engine: Arc<Engine>,
    service: &'static Service,
    /// The key file of SFTP, where one is named.
    key: Option<std::path::PathBuf>,
    requests: Arc<AtomicU64>,
    /// Objects that got a temporary name: no two have the same.
    writes: Arc<AtomicU64>,
    /// Incomplete objects that the last listing of everything showed.
    incomplete: Arc<Mutex<Vec<Incomplete>>>,
    /// Names that a listing may have.
    names_max: Arc<AtomicU64>,
    /// Tells this process's temporary names from those of others.
    random: u64,
    patience: Patience,
    /// What finds and ends unfinished uploads, where the service has them.
    calls: Option<Arc<Calls>>,
    /// Set when the user wants an end.
    stop: StopSignal,
}

/// What runs the requests. When it ends, connections are closed; what cannot be ended, such as the question for a host's address, is not waited for.
struct Engine(Option<Runtime>);

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(CLOSING);
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("service", &self.service.scheme).finish_non_exhaustive()
    }
}

impl Remote {
    /// A store at `address`, with the secrets that its service needs, and the roles that AWS lends for one of S3. Nothing is asked of it yet.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] when OpenDAL refuses the settings.
    pub fn open(address: &Address, secrets: &BTreeMap<String, String>, roles: &Roles) -> Result<Self> {
        Self::open_as(address, secrets, roles, Patience::default())
    }

    /// The same without roles, with another patience than what fits most.
    ///
    /// # Errors
    /// As [`Remote::open`].
    pub fn open_with(address: &Address, secrets: &BTreeMap<String, String>, patience: Patience) -> Result<Self> {
        Self::open_as(address, secrets, &Roles::default(), patience)
    }

    fn open_as(
        address: &Address,
        secrets: &BTreeMap<String, String>,
        roles: &Roles,
        patience: Patience,
    ) -> Result<Self> {
        let refuse = |why: String| {
            let error = Error::new("open", address, io::Error::other(why)).with_kind(ErrorKind::Denied);
            error.with_cause(Some(Cause::Settings))
        };
        let service = address.service();
        let mut settings = address.settings();
        settings.extend(secrets.iter().map(|(key, value)| (key.clone(), value.clone())));
        if service.scheme == "sftp" {
            ssh::end_with_us().map_err(|error| Error::new("open", address, error))?;
        }
        let key = settings.get("key").filter(|_| service.scheme == "sftp").map(std::path::PathBuf::from);
        let given = address.ca_file().map(authority::read).transpose().map_err(refuse)?;
        let answers = Answers::of(service.scheme, &settings);
        let transport = HttpTransporter::new(Watched(Transport::new(&patience, answers, given)));
        let lent = match service.scheme {
            "s3" => aws_credentials(&settings, roles, &patience),
            _ => None,
        };
        let calls = Calls::new(service.scheme, &settings, transport.clone(), lent.clone()).map(Arc::new);
        let operator = match lent {
            Some(lent) => S3Config::from_iter(settings).and_then(|config| {
                let chain = ProvideCredentialChain::new().push(lent);
                Operator::new(config.into_builder().credential_provider_chain(chain))
            }),
            None => Operator::via_iter(service.scheme, settings),
        };
        let operator = operator.map_err(|error| refuse(all_words(&error)))?;
        let context = OperationContext::new().with_http_transport(transport);
        let operator = operator.with_context(context);
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().map_err(|error| refuse(error.to_string()))?;
        Ok(Self {
            operator,
            runtime: runtime.handle().clone(),
            _engine: Arc::new(Engine(Some(runtime))),
            service,
            key,
            requests: Arc::default(),
            writes: Arc::default(),
            incomplete: Arc::default(),
            names_max: Arc::default(),
            random: random(),
            patience,
            calls,
            stop: StopSignal::new(),
        })
    }

    /// The same store, of which every operation fails with [`ErrorKind::Interrupted`] from when `stop` is set.
    #[must_use]
    pub fn ended_by(self, stop: StopSignal) -> Self {
        Self { stop, ..self }
    }

    /// The same store for what cleans up behind an interruption: it is asked once, and not waited for.
    fn for_cleaning(&self) -> Self {
        let patience = Patience { attempts: 1, answer: self.patience.answer.min(CLEANING), ..self.patience };
        Self { stop: StopSignal::new(), patience, ..self.clone() }
    }

    fn incomplete(&self) -> MutexGuard<'_, Vec<Incomplete>> {
        lock(&self.incomplete)
    }

    /// How many operations were begun, attempts counted.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Runs an operation whose answer has at most `expected` bytes, and again when its failure may pass.
    fn run<T, F: Future<Output = opendal::Result<T>>>(
        &self,
        operation: &'static str,
        object: &dyn fmt::Display,
        expected: u64,
        attempt: impl FnMut() -> F,
    ) -> Result<T> {
        self.run_with(operation, object, expected, &Uplink::default(), attempt)
    }

    /// The same for one that sends what [`Uplink`] paces and watches.
    fn run_with<T, F: Future<Output = opendal::Result<T>>>(
        &self,
        operation: &'static str,
        object: &dyn fmt::Display,
        expected: u64,
        uplink: &Uplink<'_>,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T> {
        let failed = |kind, why: String| Error::new(operation, object, io::Error::other(why)).with_kind(kind);
        let interrupted = || failed(ErrorKind::Interrupted, "interrupted".to_owned());
        let stop = || self.stop.is_set() || (uplink.stop)();
        // What another attempt has sent already is not told again as new.
        let (told, of_attempt) = (Cell::new(0), Cell::new(0));
        let tell = |flow: &Flow| {
            let sent = flow.sent_bytes();
            let again = sent.min(told.get()).saturating_sub(of_attempt.replace(sent));
            if again > 0 {
                (uplink.repeated)(Repeated::Sent(again));
            }
            if sent > told.get() {
                (uplink.moved)(sent - told.replace(sent));
            }
        };
        let mut number = 1;
        loop {
            if stop() {
                return Err(interrupted());
            }
            self.requests.fetch_add(1, Ordering::Relaxed);
            let flow = Arc::new(Flow::new(expected, Arc::clone(&uplink.limit)));
            let tick = TICK.min(self.patience.answer / 4);
            let ended = self.runtime.block_on(Arc::clone(&flow).scope(async {
                let mut attempt = std::pin::pin!(caught(attempt()));
                loop {
                    match tokio::time::timeout(tick, &mut attempt).await {
                        Ok(ended) => return Some(ended),
                        Err(_) if flow.is_over(&self.patience) || stop() => return None,
                        Err(_) => tell(&flow),
                    }
                }
            }));
            tell(&flow);
            let error = match ended {
                Some(Ok(done)) => return Ok(done),
                Some(Err(error)) => {
                    let (kind, cause, words) = match flow.take_not_lent() {
                        Some(why) => why.reading(),
                        None => self.reading_of(operation, &error, flow.take_said().as_ref()),
                    };
                    // What is no object has no length that could be wrong.
                    let kind = if kind == ErrorKind::Length && operation != "read" { ErrorKind::Refused } else { kind };
                    failed(kind, words).with_cause(cause)
                }
                None if stop() => return Err(interrupted()),
                None => {
                    let words = format!("nothing moved for {} s", self.patience.answer.as_secs());
                    failed(ErrorKind::Unavailable, words).with_cause(Some(Cause::Silent))
                }
            };
            let pause = self.patience.pause_after(number).filter(|_| error.kind == ErrorKind::Unavailable);
            let Some(pause) = pause else { return Err(error) };
            (uplink.repeated)(Repeated::Lost(of_attempt.replace(0)));
            let until = Instant::now() + pause;
            while Instant::now() < until && !stop() {
                std::thread::sleep(TICK.min(until.saturating_duration_since(Instant::now())));
            }
            number += 1;
        }
    }

    /// What kind of failure it is, what is behind it, and what is said about it.
    fn reading_of(
        &self,
        operation: &'static str,
        error: &opendal::Error,
        said: Option<&Said>,
    ) -> (ErrorKind, Option<Cause>, String) {
        let (kind, cause, words) = reading_of(self.service.scheme, operation, error, said);
        // ssh reports only that no key was accepted.
        let cause =
            cause.map(|cause| if cause == Cause::KeyRefused { ssh::why_refused(self.key.as_deref()) } else { cause });
        (kind, cause, words)
    }

    /// A name of its own for an object that is being written, whatever other threads and other machines write meanwhile.
    fn temporary(&self, owner: &str) -> String {
        let count = self.writes.fetch_add(1, Ordering::Relaxed);
        format!("{TEMPORARY}/{owner}-{:016x}-{count}", self.random)
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.run("remove", &path, PAGE_BYTES_MAX, || {
            let (operator, path) = (self.operator.clone(), path.to_owned());
            async move { operator.delete(&path).await }
        })
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.run("rename", &to, PAGE_BYTES_MAX, || {
            let (operator, from, to) = (self.operator.clone(), from.to_owned(), to.to_owned());
            async move { operator.rename(&from, &to).await }
        })
    }

    fn length_of(&self, path: &str) -> Result<u64> {
        self.run("read", &path, PAGE_BYTES_MAX, || {
            let (operator, path) = (self.operator.clone(), path.to_owned());
            async move { operator.stat(&path).await.map(|found| found.content_length()) }
        })
    }

    /// What lies below `path`. A store may need thousands of steps; each is a sign of life.
    fn walk(&self, path: &str) -> Result<Listing> {
        let shown = if path.is_empty() { "." } else { path };
        let most = self.names_max.load(Ordering::Relaxed);
        let found = self.run("list", &shown, PAGE_BYTES_MAX, || {
            let (operator, path) = (self.operator.clone(), path.to_owned());
            async move {
                let (flow, now, mut listing) = (Flow::current(), SystemTime::now(), Listing::new(most));
                flow.iter().for_each(|flow| flow.set_lists());
                let mut lister = operator.lister_with(&path).recursive(true).await?;
                while let Some(entry) = lister.try_next().await? {
                    if let Some(flow) = &flow {
                        flow.found();
                    }
                    let failed = |why| opendal::Error::new(opendal::ErrorKind::Unexpected, why);
                    if !entry.metadata().is_file() {
                        listing.pass_over().map_err(failed)?;
                        continue;
                    }
                    let written = entry.metadata().last_modified().map(SystemTime::from);
                    let age = written.and_then(|written| now.duration_since(written).ok());
                    listing.add(entry.path(), entry.metadata().content_length(), age).map_err(failed)?;
                }
                Ok(listing)
            }
        });
        match found {
            // Where there are folders one may be absent. Elsewhere it is the bucket that is, or no such store.
            Err(error) if error.kind == ErrorKind::Absent && self.service.has_folders() => Ok(Listing::new(0)),
            Err(error) if error.kind == ErrorKind::Absent => Err(error.with_kind(ErrorKind::Refused)),
            found => found,
        }
    }

    /// Reads an object of at most `limit` bytes, and hands over each byte once: what breaks off goes on where it was. None when it is longer.
    fn read_through(&self, path: &str, limit: u64, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<Option<u64>> {
        let (at, sink, wrong) = (Cell::new(0), RefCell::new(sink), RefCell::new(None));
        let read = self.run("read", &path, limit.saturating_add(1), || async {
            let flow = Flow::current().filter(|_| !self.service.is_http());
            let mut stream = self.operator.reader(path).await?.into_stream(at.get()..).await?;
            while let Some(more) = stream.try_next().await? {
                if at.get() + more.len() as u64 > limit {
                    return Ok(false);
                }
                if let Some(flow) = &flow {
                    flow.received(more.len() as u64);
                }
                for part in more {
                    if let Err(error) = (sink.borrow_mut())(&part) {
                        *wrong.borrow_mut() = Some(error);
                        return Ok(true);
                    }
                    at.set(at.get() + part.len() as u64);
                }
            }
            Ok(true)
        });
        match (wrong.into_inner(), read) {
            (Some(error), _) => Err(error),
            (None, Ok(is_all)) => Ok(is_all.then_some(at.get())),
            // It broke off at its very end, or it is another one by now.
            (None, Err(error)) if error.kind == ErrorKind::Length && at.get() > 0 => {
                Err(error.with_kind(ErrorKind::Unavailable))
            }
            (None, Err(error)) => Err(error),
        }
    }

    /// All of an object of at most `limit` bytes: none when it is longer.
    fn whole(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let read = self.read_through(path, limit, &mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        Ok(read.map(|_| bytes))
    }

    /// True when this very body lies at `path`.
    fn holds(&self, path: &str, body: &dyn Body) -> Result<bool> {
        let (mut at, mut is_same) = (0, true);
        let read = self.read_through(path, body.length(), &mut |part| {
            is_same = is_same && body.piece(at, part.len() as u64)? == part;
            at += part.len() as u64;
            Ok(())
        })?;
        Ok(is_same && read == Some(body.length()))
    }
}

/// How many, and their bytes.
fn count(all: &[Incomplete]) -> (u64, u64) {
    (all.len() as u64, all.iter().map(|found| found.length).sum())
}

/// What a store of S3 with these settings is asked with. None without a region: then OpenDAL refuses the settings.
fn aws_credentials(settings: &BTreeMap<String, String>, roles: &Roles, patience: &Patience) -> Option<AwsCredentials> {
    let config = S3Config::from_iter(settings.clone()).ok()?;
    let region = region_of(&config)?;
    // Not with the mirror's certificates: it is another host.
    let http = HttpTransporter::new(Transport::new(patience, None, None));
    Some(AwsCredentials::new(&config, &region, roles, http, patience))
}

/// A number that no other process has, as good as surely.
fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without it the process and its count still tell the names of one machine apart.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

impl Storage for Remote {
    fn create(&self) -> Result<Box<dyn Upload>> {
        Ok(Box::new(RemoteUpload { remote: self.clone(), bytes: Vec::new() }))
    }

    fn read(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.whole(&name.to_string(), limit)?.ok_or_else(|| super::too_long(name, None, limit))
    }

    fn stream(&self, name: &ObjectName, limit: u64, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        self.read_through(&name.to_string(), limit, sink)?.ok_or_else(|| super::too_long(name, None, limit))
    }

    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Vec<u8>> {
        let early = || {
            let message = format!("it ends before {offset} and {length} more");
            Error::new("read", name, io::Error::new(io::ErrorKind::UnexpectedEof, message))
        };
        let end = offset.checked_add(length).ok_or_else(early)?;
        if length == 0 {
            return if self.length(name)? >= offset { Ok(Vec::new()) } else { Err(early()) };
        }
        let path = name.to_string();
        let bytes = self.run("read", name, length, || {
            let (operator, path) = (self.operator.clone(), path.clone());
            let range = options::ReadOptions { range: (offset..end).into(), ..options::ReadOptions::default() };
            async move { operator.read_options(&path, range).await.map(|buffer| buffer.to_vec()) }
        })?;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(early()) }
    }

    fn length(&self, name: &ObjectName) -> Result<u64> {
        self.length_of(&name.to_string())
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>> {
        Ok(self.walk(&format!("{}/", folder.as_str()))?.sort_out().0)
    }

    fn strays(&self, folder: Folder) -> Result<Vec<String>> {
        Ok(self.walk(&format!("{}/", folder.as_str()))?.sort_out().1)
    }

    fn remove(&self, name: &ObjectName) -> Result<()> {
        self.delete(&name.to_string())
    }

    fn set_aside(&self, name: &ObjectName) -> Result<String> {
        let path = name.to_string();
        let file = path.rsplit('/').next().unwrap_or(&path);
        let aside = format!("{QUARANTINE}/{file}");
        if self.service.renames {
            self.rename(&path, &aside)?;
            return Ok(aside);
        }
        let length = self.length(name)?;
        let bytes = self.whole(&path, length)?.ok_or_else(|| super::too_long(name, None, length))?;
        self.upload(&aside, &Bytes::from(bytes), &Uplink::default())?;
        self.delete(&path)?;
        Ok(aside)
    }

    fn clean_temporary(&self) -> Result<u64> {
        let (_, _, left) = self.walk(&format!("{TEMPORARY}/"))?.sort_out();
        left.iter().try_for_each(|found| self.delete(&found.path))?;
        Ok(left.len() as u64)
    }
}

impl MirrorStore for Remote {
    fn list_all(&self) -> Result<(Vec<Listed>, Vec<String>)> {
        let (objects, strays, incomplete) = self.walk("")?.sort_out();
        *self.incomplete() = incomplete;
        Ok((objects, strays))
    }

    fn discard(&self, name: &ObjectName) -> Result<()> {
        if self.stop.is_set() { self.for_cleaning().remove(name) } else { self.remove(name) }
    }

    fn expect_objects(&self, count: u64) {
        self.names_max.fetch_max(count.saturating_mul(4), Ordering::Relaxed);
    }

    fn clean_leftovers(&self, owner: &str) -> Result<Leftovers> {
        let ours = format!("{TEMPORARY}/{owner}-");
        let is_due = |found: &Incomplete| {
            let is_old = found.age.is_some_and(|age| (NOBODYS_AFTER..NO_AGE).contains(&age));
            is_old || (!owner.is_empty() && found.path.starts_with(&ours))
        };
        let found = std::mem::take(&mut *self.incomplete());
        let (removed, left) = found.into_iter().partition::<Vec<_>, _>(|found| {
            let gone = |error: &Error| error.kind == ErrorKind::Absent;
            is_due(found) && self.delete(&found.path).as_ref().err().is_none_or(gone)
        });
        *self.incomplete() = left;
        Ok(Leftovers { removed: count(&removed), ..self.leftovers() })
    }

    fn leftovers(&self) -> Leftovers {
        Leftovers { there: count(&self.incomplete()), ..Leftovers::default() }
    }

    fn end_unfinished(&self, ours: &[UnfinishedUpload], look: bool) -> EndedUploads {
        self.end_uploads(ours, look)
    }

    fn keeping(&self) -> Option<Keeping> {
        self.keeping_of_bucket()
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        self.send(name, &Bytes::copy_from_slice(bytes), &Uplink::default())
    }

    fn send(&self, name: &ObjectName, body: &dyn Body, uplink: &Uplink<'_>) -> Result<()> {
        let path = name.to_string();
        if !self.service.renames {
            return self.upload(&path, body, uplink);
        }
        let temporary = self.temporary(uplink.owner);
        self.send_by(&temporary, &path, body, uplink).inspect_err(|error| {
            if error.kind == ErrorKind::Interrupted {
                // What cannot be removed now the next sync removes.
                let _ = self.for_cleaning().delete(&temporary);
            }
        })
    }

    fn room(&self, length: u64) -> u64 {
        self.room_for(length)
    }
}

impl Remote {
    /// Stores an object under a temporary name, and renames it.
    fn send_by(&self, temporary: &str, path: &str, body: &dyn Body, uplink: &Uplink<'_>) -> Result<()> {
        self.upload(temporary, body, uplink)?;
        match self.rename(temporary, path) {
            // Some servers rename onto nothing only. What has the right bytes was stored by somebody else, and stays.
            Err(error) if error.kind != ErrorKind::Unavailable && self.length_of(path).is_ok() => {
                // Only what was read and found to be something else is taken away.
                if self.holds(path, body)? {
                    return self.delete(temporary);
                }
                self.delete(path)?;
                self.rename(temporary, path)
            }
            // Somebody took it for one that nobody writes any more.
            Err(error) if error.kind == ErrorKind::Absent => Err(error.with_kind(ErrorKind::Unavailable)),
            other => other,
        }
    }
}

/// An object on its way into a [`Remote`]: gathered, and sent at once.
struct RemoteUpload {
    remote: Remote,
    bytes: Vec<u8>,
}

impl Upload for RemoteUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> Result<Stored> {
        self.remote.replace(name, &self.bytes).map(|()| Stored::Created)
    }
}
