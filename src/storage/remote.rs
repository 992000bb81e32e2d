//! Objects in a cloud, on a server: whatever OpenDAL reaches. OpenDAL is used here and nowhere else.
//!
//! # What a store is trusted with
//!
//! Nothing. Whatever is read is hashed by whoever reads it, a listing is a claim, and no safety rests on conditional writes
//! (many stores ignore them silently) or on its clock.
//!
//! # Writing
//!
//! One request an object, so nothing is under its name before all of it has arrived; where a store cannot promise that
//! (SFTP, WebDAV), to a name under `tmp/` first, and then renamed. S3 checks a checksum of what arrives. A write that fails is
//! tried again from its beginning; what failed for good leaves nothing under the name, or nothing that has its length.
//!
//! # Trying again
//!
//! Failures that may pass (no answer, "slow down", a body that differs from its checksum) are tried again after 1, 2, 4, ... seconds,
//! each up to a half longer by chance, five times in all. Anything else is final at once. An attempt ends when it takes longer than
//! a minute and its bytes at 32 KiB a second: [`Patience`].
//!
//! # Listings
//!
//! A store may say a name twice, when a page comes again: it is one object. One that says the same over and over is not waited for.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use opendal::{Operator, options};
use tokio::runtime::Runtime;

use super::address::{Address, Service};
use super::patience::Patience;
use super::{Error, ErrorKind, Folder, Listed, MirrorStore, ObjectName, Result, Storage, Stored, Upload};
use crate::base::escape::escape;

/// How long a whole listing may take; each step of it has its own patience.
const LISTING: Duration = Duration::from_secs(24 * 3600);
/// Names that a listing may say again before it is given up, those apart that it has said once.
const REPEATED_MAX: usize = 10_000;

/// Stores refuse a request whose time differs from theirs by more than this.
const SKEW_MAX: Duration = Duration::from_secs(15 * 60);
const WRONG_CLOCK: &str = "the clock of this machine is wrong: it differs by more than a quarter of an hour from the store's, which \
    refuses what is signed with such a time; set the clock, and run the command again";

/// A place under a store's root where incomplete objects are.
const TEMPORARY: &str = "tmp";
/// Where damaged objects are put.
const QUARANTINE: &str = "quarantine";

/// See the module.
#[derive(Clone)]
pub struct Remote {
    operator: Operator,
    runtime: Arc<Runtime>,
    service: &'static Service,
    requests: Arc<AtomicU64>,
    /// Objects that got a temporary name: no two have the same.
    writes: Arc<AtomicU64>,
    /// Tells this process's temporary names from those of others.
    random: u64,
    patience: Patience,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("service", &self.service.scheme).finish_non_exhaustive()
    }
}

/// Everything that an error and its causes say, each once: OpenDAL keeps "connection refused" four levels down.
fn all_words(error: &opendal::Error) -> String {
    let mut text = format!("{}: {}", error.kind(), error.message());
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    escape(text.as_bytes())
}

fn kind_of(error: &opendal::Error) -> ErrorKind {
    match error.kind() {
        opendal::ErrorKind::NotFound => ErrorKind::Absent,
        opendal::ErrorKind::PermissionDenied | opendal::ErrorKind::ConfigInvalid => ErrorKind::Denied,
        opendal::ErrorKind::RangeNotSatisfied => ErrorKind::Length,
        opendal::ErrorKind::IsADirectory => ErrorKind::NoFile,
        opendal::ErrorKind::RateLimited => ErrorKind::Unavailable,
        _ if may_pass(error) => ErrorKind::Unavailable,
        _ => ErrorKind::Refused,
    }
}

/// What kind of failure it is, and what is said about it.
fn reading_of(error: &opendal::Error) -> (ErrorKind, String) {
    if error.kind() == opendal::ErrorKind::PermissionDenied && is_about_the_clock(error) {
        return (ErrorKind::Refused, WRONG_CLOCK.to_owned());
    }
    (kind_of(error), all_words(error))
}

/// A refusal because of the time of a request. S3 names it so; where the answer has no body (to HEAD), the store's own time tells.
fn is_about_the_clock(error: &opendal::Error) -> bool {
    if !error.message().is_empty() {
        return error.message().contains("RequestTimeTooSkewed");
    }
    // OpenDAL shows the headers of an answer, and gives them no other way.
    let shown = error.to_string();
    let date = shown.split_once("\"date\": \"").and_then(|(_, rest)| rest.split_once('"')).map(|(date, _)| date);
    let theirs = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
    theirs.is_some_and(|theirs| jiff::Timestamp::now().duration_since(theirs).unsigned_abs() > SKEW_MAX)
}

/// A certificate does not become valid by waiting; a body that arrived with another checksum may arrive whole next time.
fn may_pass(error: &opendal::Error) -> bool {
    let words = all_words(error);
    let digest = ["BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"].iter().any(|word| words.contains(word));
    (error.is_temporary() && !words.contains("certificate")) || digest
}

impl Remote {
    /// A store at `address`, with the secrets that its service needs. Nothing is asked of it yet.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] when OpenDAL refuses the settings.
    pub fn open(address: &Address, secrets: &BTreeMap<String, String>) -> Result<Self> {
        Self::open_with(address, secrets, Patience::default())
    }

    /// The same, with another patience than what fits most.
    ///
    /// # Errors
    /// As [`Remote::open`].
    pub fn open_with(address: &Address, secrets: &BTreeMap<String, String>, patience: Patience) -> Result<Self> {
        let refuse = |why: String| Error::new("open", address, io::Error::other(why)).with_kind(ErrorKind::Denied);
        let service = address.service();
        let mut settings = address.settings();
        settings.extend(secrets.iter().map(|(key, value)| (key.clone(), value.clone())));
        let operator = Operator::via_iter(service.scheme, settings).map_err(|error| refuse(all_words(&error)))?;
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().map_err(|error| refuse(error.to_string()))?;
        Ok(Self {
            operator,
            runtime: Arc::new(runtime),
            service,
            requests: Arc::default(),
            writes: Arc::default(),
            random: random(),
            patience,
        })
    }

    /// How many operations were begun, attempts counted.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Runs an operation that moves `bytes` bytes, and again when its failure may pass.
    fn run<T, F: Future<Output = opendal::Result<T>>>(
        &self,
        operation: &'static str,
        object: &dyn fmt::Display,
        bytes: u64,
        attempt: impl FnMut() -> F,
    ) -> Result<T> {
        self.run_for(operation, object, self.patience.attempt(bytes), attempt)
    }

    /// The same for an operation of which an attempt may take `limit`.
    fn run_for<T, F: Future<Output = opendal::Result<T>>>(
        &self,
        operation: &'static str,
        object: &dyn fmt::Display,
        limit: Duration,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T> {
        let mut number = 1;
        loop {
            self.requests.fetch_add(1, Ordering::Relaxed);
            let limited = async { tokio::time::timeout(limit, attempt()).await };
            let failed = match self.runtime.block_on(limited) {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => {
                    let (kind, words) = reading_of(&error);
                    Error::new(operation, object, io::Error::other(words)).with_kind(kind)
                }
                Err(_) => {
                    let why = format!("no end after {} s", limit.as_secs());
                    Error::new(operation, object, io::Error::other(why)).with_kind(ErrorKind::Unavailable)
                }
            };
            let pause = self.patience.pause_after(number).filter(|_| failed.kind == ErrorKind::Unavailable);
            let Some(pause) = pause else { return Err(failed) };
            std::thread::sleep(pause);
            number += 1;
        }
    }

    /// A name of its own for an object that is being written, whatever other threads write meanwhile.
    fn temporary(&self) -> String {
        // The number of a process is that of others on other machines.
        let count = self.writes.fetch_add(1, Ordering::Relaxed);
        format!("{TEMPORARY}/{}-{:016x}-{count}", std::process::id(), self.random)
    }

    fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let buffer = opendal::Buffer::from(bytes.to_vec());
        let length = bytes.len() as u64;
        self.run("write", &path, length, || {
            let (operator, buffer, path) = (self.operator.clone(), buffer.clone(), path.to_owned());
            async move { operator.write(&path, buffer).await.map(drop) }
        })
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.run("remove", &path, 0, || {
            let (operator, path) = (self.operator.clone(), path.to_owned());
            async move { operator.delete(&path).await }
        })
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.run("rename", &to, 0, || {
            let (operator, from, to) = (self.operator.clone(), from.to_owned(), to.to_owned());
            async move { operator.rename(&from, &to).await }
        })
    }

    fn length_of(&self, path: &str) -> Result<u64> {
        self.run("read", &path, 0, || {
            let (operator, path) = (self.operator.clone(), path.to_owned());
            async move { operator.stat(&path).await.map(|found| found.content_length()) }
        })
    }

    /// Every file below `path` once, with its length. Each step of the listing has its own patience: a store may need thousands.
    fn walk(&self, path: &str) -> Result<Vec<(String, u64)>> {
        let shown = if path.is_empty() { "." } else { path };
        let found = self.run_for("list", &shown, LISTING, || {
            let (operator, path, patience) = (self.operator.clone(), path.to_owned(), self.patience.answer);
            async move {
                let silent = |_| opendal::Error::new(opendal::ErrorKind::Unexpected, "no answer").set_temporary();
                let mut lister = operator.lister_with(&path).recursive(true).await?;
                let (mut files, mut repeated) = (BTreeMap::new(), 0);
                while let Some(entry) = tokio::time::timeout(patience, lister.try_next()).await.map_err(silent)?? {
                    if !entry.metadata().is_file() {
                        continue;
                    }
                    let length = entry.metadata().content_length();
                    if files.insert(entry.path().to_owned(), length).is_some() {
                        repeated += 1;
                    }
                    if repeated > files.len() + REPEATED_MAX {
                        let why = "the listing has no end: the store says the same names over and over";
                        return Err(opendal::Error::new(opendal::ErrorKind::Unexpected, why));
                    }
                }
                Ok(files)
            }
        });
        match found {
            Err(error) if error.kind == ErrorKind::Absent => Ok(Vec::new()),
            found => Ok(found?.into_iter().collect()),
        }
    }

    /// All of an object that is `length` bytes long: no more is asked for than that.
    fn whole(&self, path: &str, length: u64) -> Result<Vec<u8>> {
        if length == 0 {
            return Ok(Vec::new());
        }
        let bytes = self.run("read", &path, length, || {
            let (operator, path) = (self.operator.clone(), path.to_owned());
            let range = options::ReadOptions { range: (0..length).into(), ..options::ReadOptions::default() };
            async move { operator.read_options(&path, range).await.map(|buffer| buffer.to_vec()) }
        })?;
        if bytes.len() as u64 == length {
            return Ok(bytes);
        }
        let message = format!("{} bytes came, {length} were said to be there", bytes.len());
        Err(Error::new("read", path, io::Error::other(message)).with_kind(ErrorKind::Length))
    }
}

/// A number that no other process has, as good as surely.
fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without it the process and its count still tell the names of one machine apart.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

fn sort_out(found: Vec<(String, u64)>) -> (Vec<Listed>, Vec<String>) {
    let (mut objects, mut strays) = (Vec::new(), Vec::new());
    for (path, length) in found {
        match ObjectName::parse(&path) {
            Ok(name) => objects.push(Listed { name, length }),
            Err(_) => strays.push(escape(path.as_bytes())),
        }
    }
    (objects, strays)
}

impl Storage for Remote {
    fn create(&self) -> Result<Box<dyn Upload>> {
        Ok(Box::new(RemoteUpload { remote: self.clone(), bytes: Vec::new() }))
    }

    fn read(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        let length = self.length(name)?;
        if length > limit {
            return Err(super::too_long(name, length, limit));
        }
        self.whole(&name.to_string(), length)
    }

    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Vec<u8>> {
        let path = name.to_string();
        let early = || {
            let message = format!("it ends before {offset} and {length} more");
            Error::new("read", name, io::Error::new(io::ErrorKind::UnexpectedEof, message))
        };
        let end = offset.checked_add(length).ok_or_else(early)?;
        if length == 0 {
            return if self.length(name)? >= offset { Ok(Vec::new()) } else { Err(early()) };
        }
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
        Ok(sort_out(self.walk(&format!("{}/", folder.as_str()))?).0)
    }

    fn strays(&self, folder: Folder) -> Result<Vec<String>> {
        Ok(sort_out(self.walk(&format!("{}/", folder.as_str()))?).1)
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
        let bytes = self.whole(&path, self.length(name)?)?;
        self.write(&aside, &bytes)?;
        self.delete(&path)?;
        Ok(aside)
    }

    fn clean_temporary(&self) -> Result<u64> {
        let left = self.walk(&format!("{TEMPORARY}/"))?;
        left.iter().try_for_each(|(path, _)| self.delete(path))?;
        Ok(left.len() as u64)
    }
}

impl MirrorStore for Remote {
    fn list_all(&self) -> Result<(Vec<Listed>, Vec<String>)> {
        let mut found = self.walk("")?;
        // What interrupted writes left is ours, and is no object.
        let own = [TEMPORARY, QUARANTINE].map(|folder| format!("{folder}/"));
        found.retain(|(path, _)| !own.iter().any(|folder| path.starts_with(folder.as_str())));
        Ok(sort_out(found))
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        let path = name.to_string();
        if !self.service.renames {
            return self.write(&path, bytes);
        }
        let temporary = self.temporary();
        self.write(&temporary, bytes)?;
        match self.rename(&temporary, &path) {
            // Some servers rename onto nothing only. What has the right bytes was stored by somebody else, and stays.
            Err(error) if error.kind != ErrorKind::Unavailable && self.length_of(&path).is_ok() => {
                if self.whole(&path, bytes.len() as u64).is_ok_and(|there| there == bytes) {
                    return self.delete(&temporary);
                }
                self.delete(&path)?;
                self.rename(&temporary, &path)
            }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    fn remote(address: &str) -> Remote {
        Remote::open(&Address::parse(address, &[]).unwrap(), &BTreeMap::new()).unwrap()
    }

    #[test]
    fn objects_that_are_written_at_once_never_share_a_temporary_name() {
        let remote = remote("webdav://localhost/x");
        let names = std::sync::Mutex::new(BTreeSet::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| assert!(names.lock().unwrap().insert(remote.temporary()))));
            }
        });
        assert_eq!(names.into_inner().unwrap().len(), 400);
        assert_ne!(remote.clone().temporary(), remote.temporary());
    }

    #[test]
    fn http_is_spoken() {
        // Nobody listens there: without a transport the request would not even be tried.
        let mut remote = remote("webdav://localhost/x?endpoint=http://127.0.0.1:1");
        remote.patience.pause = Duration::ZERO;
        let error = remote.length_of("config").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    }
}
