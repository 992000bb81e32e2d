//! Unfinished uploads: the parts of an object whose upload nobody finished. A killed sync leaves them at the store, where they cost money and are
//! under no name. OpenDAL neither lists nor aborts uploads of another process, so these calls are our own: [`xml`] for S3 and GCS, [`b2`] for B2.
//! Azure has no uploads to find: it throws uncommitted blocks away itself, a week after the last one.
//!
//! # The rule, and why it is safe
//!
//! **Nobody's live upload is aborted, as far as that can be known.** A store does not say who began an upload: `Initiator` names an account, which
//! all machines may share. Two machines may sync one repository to one mirror, and then both may be sending the same object under the same key. So
//! neither the key nor the account proves anything.
//!
//! - An upload is **ours** when this machine has noted its id ([`Uplink::begun`](crate::storage::Uplink::begun)). The note is written before
//!   anything of the first part leaves ([`watch`]), and is struck out when the upload was finished or aborted. Whoever reads a note holds the
//!   mirror's lock on this machine, so the process that wrote it is gone. Such an upload is aborted at once.
//! - **Any other** is aborted when it is older than [`NOBODYS_AFTER`] by the store's own clock: the time at which it says that the upload began,
//!   against the `Date` of the same answer. Without either, in the future, or beyond [`NO_AGE`] it has no age, and stays.
//! - Nothing is touched but what is under this mirror's root and has the name of an object, or of something that we would write there. The
//!   request is built from the parsed name, and only the id is the store's.
//!
//! Where this errs (a machine that slept for a week, a state folder that was copied to another machine) the other side's next part is answered
//! with "no such upload", and it begins that object again: `upload::UPLOADS_MAX`. The cost is a resend, never a loss: an abort takes away parts
//! only, and nothing that has a name.
//!
//! # When a store is asked
//!
//! For other machines' uploads only by a sync that has something to send, once: a sync that has nothing to send is one listing, and stays that.
//! For ours whenever something is noted, which is after a kill. Each request is made once and waited for [`ANSWER`], all together [`ALL`], and no longer than the user wants. Whatever
//! goes wrong ends the search and is no failure of the sync: many stores refuse these calls (501, 405, 403). The next sync looks again.

mod b2;
mod keeping;
#[cfg(test)]
mod tests;
pub(super) mod watch;
mod xml;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::header::DATE;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use opendal::HttpTransporter;

use self::b2::B2;
use self::xml::Xml;
use super::answer::caught;
use super::aws_credentials::AwsCredentials;
use super::flow::Flow;
use super::listing::is_temporary;
use super::{NO_AGE, NOBODYS_AFTER, QUARANTINE, Remote, TICK};
use crate::base::id::ObjectId;
use crate::storage::cause::Keeping;
use crate::storage::{EndedUploads, Leftovers, ObjectName, UnfinishedUpload};

/// How long one answer is waited for, at most.
const ANSWER: Duration = Duration::from_secs(10);
/// How long all of them are.
const ALL: Duration = Duration::from_secs(30);
/// Bytes of a page, at most: a thousand uploads with the longest keys that S3 has.
const PAGE_BYTES: u64 = 8 << 20;
/// Pages that are asked for, at most.
const PAGES_MAX: usize = 100;
/// Uploads that are remembered, at most.
const FOUND_MAX: usize = 10_000;
/// Bytes of a store's name for an upload, at most. They have some hundred.
const ID_BYTES_MAX: usize = 4 << 10;

/// The calls of a service.
#[derive(Debug)]
pub(super) struct Calls(Protocol);

#[derive(Debug)]
enum Protocol {
    Xml(Xml),
    B2(B2),
}

/// An upload as a page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    /// Its whole key in the bucket, as the store says it.
    key: String,
    id: String,
    begun: Option<Timestamp>,
}

/// A page of a listing.
#[derive(Debug, Default)]
struct Page {
    found: Vec<Found>,
    /// Where the next one begins: the last key, and the last id of it.
    next: Option<(String, String)>,
    /// The store's time.
    now: Option<Timestamp>,
}

/// What became of an abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aborted {
    /// It is gone now.
    Now,
    /// The store knows no such upload.
    Before,
    /// The store does not do it, or not for us.
    Refused,
}

impl Calls {
    /// Those of a service; none where it has none, or its settings are not understood.
    pub fn new(
        scheme: &str,
        settings: &BTreeMap<String, String>,
        http: HttpTransporter,
        credentials: Option<AwsCredentials>,
    ) -> Option<Self> {
        let protocol = match scheme {
            "s3" => Protocol::Xml(Xml::s3(settings, http, credentials)?),
            "gcs" => Protocol::Xml(Xml::gcs(settings, http)?),
            "b2" => Protocol::B2(B2::new(settings, http)?),
            _ => return None,
        };
        Some(Self(protocol))
    }

    /// What stands before an object's name in its key.
    fn prefix(&self) -> &str {
        match &self.0 {
            Protocol::Xml(xml) => &xml.prefix,
            Protocol::B2(b2) => &b2.prefix,
        }
    }

    async fn list(&self, from: Option<&(String, String)>) -> opendal::Result<Page> {
        match &self.0 {
            Protocol::Xml(xml) => xml.list(from).await,
            Protocol::B2(b2) => b2.list(from).await,
        }
    }

    /// What a bucket says of itself, where it is one of S3.
    async fn ask(&self, question: &str) -> opendal::Result<Option<String>> {
        match &self.0 {
            Protocol::Xml(xml) => xml.ask(question).await,
            Protocol::B2(_) => Ok(None),
        }
    }

    async fn abort(&self, upload: &UnfinishedUpload) -> opendal::Result<Aborted> {
        match &self.0 {
            Protocol::Xml(xml) => xml.abort(upload).await,
            Protocol::B2(b2) => b2.abort(upload).await,
        }
    }
}

/// A path below the root of a mirror that we would send to in parts: an object, one that is set aside, one that is incomplete.
fn is_path(path: &str) -> bool {
    let aside = path.strip_prefix(QUARANTINE).and_then(|rest| rest.strip_prefix('/'));
    // A head's name is the generation, and then the id.
    let is_aside = |file: &str| file.rsplit('-').next().is_some_and(|id| id.parse::<ObjectId>().is_ok());
    ObjectName::parse(path).is_ok()
        || is_temporary(path)
        || aside.is_some_and(|file| !file.contains('/') && is_aside(file))
}

/// The settings as an OpenDAL service reads them.
fn read_settings<C: opendal::Configurator>(settings: &BTreeMap<String, String>) -> Option<C> {
    C::from_iter(settings.clone()).ok()
}

/// The root as a part of keys: no slash before it, one behind it.
pub(super) fn prefix_of(root: Option<&String>) -> String {
    let parts = root.map(String::as_str).unwrap_or_default().split('/').filter(|part| !part.is_empty());
    parts.map(|part| format!("{part}/")).collect()
}

/// A text in a query, whatever it holds.
fn in_query(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// The store's time.
fn date_of(headers: &HeaderMap) -> Option<Timestamp> {
    let date = headers.get(DATE)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(date).ok().map(|date| date.timestamp())
}

/// What a store refuses is refused; anything else may be another matter the next time.
fn is_refusal(status: StatusCode) -> bool {
    let may_pass = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    status == StatusCode::NOT_IMPLEMENTED || (status.is_client_error() && !may_pass.contains(&status))
}

fn failed(status: StatusCode) -> opendal::Error {
    opendal::Error::new(opendal::ErrorKind::Unexpected, format!("the store answered {status}"))
}

/// An error of ours on the way to a request, or in an answer.
fn wrong(error: impl std::fmt::Display) -> opendal::Error {
    opendal::Error::new(opendal::ErrorKind::Unexpected, error.to_string())
}

/// One run through a store's unfinished uploads.
struct Search<'a> {
    remote: &'a Remote,
    calls: &'a Calls,
    until: Instant,
    /// Uploads of before that are gone now.
    removed: u64,
}

impl Search<'_> {
    /// One request. None when it failed: then nothing else is asked.
    fn ask<T>(&self, call: impl Future<Output = opendal::Result<T>>) -> Option<T> {
        let left = self.until.saturating_duration_since(Instant::now());
        let most = ANSWER.min(self.remote.patience.answer).min(left);
        self.remote.requests.fetch_add(1, Ordering::Relaxed);
        let flow = Arc::new(Flow::new(PAGE_BYTES, Arc::default()));
        let end = Instant::now() + most;
        let answer = flow.scope(async {
            let mut call = pin!(caught(call));
            loop {
                match tokio::time::timeout(TICK, &mut call).await {
                    Ok(answer) => return answer.ok(),
                    Err(_) if Instant::now() >= end || self.remote.stop.is_set() => return None,
                    Err(_) => {}
                }
            }
        });
        self.remote.runtime.block_on(answer)
    }

    fn abort(&mut self, upload: &UnfinishedUpload) -> Option<Aborted> {
        let aborted = self.ask(self.calls.abort(upload))?;
        self.removed += u64::from(aborted == Aborted::Now);
        Some(aborted)
    }

    /// Aborts those of other machines that are old, and counts the rest.
    fn look(&mut self, ours: &BTreeSet<&UnfinishedUpload>) -> u64 {
        let (mut seen, mut old, mut next) = (BTreeSet::new(), Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let Some(page) = self.ask(self.calls.list(next.as_ref())) else { break };
            for found in page.found {
                let path = found.key.strip_prefix(self.calls.prefix()).filter(|path| is_path(path));
                let Some(path) = path.filter(|_| found.id.len() <= ID_BYTES_MAX) else { continue };
                let upload = UnfinishedUpload { path: path.to_owned(), id: found.id };
                if seen.len() >= FOUND_MAX || ours.contains(&upload) || seen.contains(&upload) {
                    continue;
                }
                let age = page.now.zip(found.begun).map(|(now, begun)| now.duration_since(begun));
                let age = age.and_then(|age| Duration::try_from(age).ok());
                if age.is_some_and(|age| (NOBODYS_AFTER..NO_AGE).contains(&age)) {
                    old.push(upload.clone());
                }
                seen.insert(upload);
            }
            // One that leads back to where it began has no end.
            if page.next.is_none() || page.next == next || seen.len() >= FOUND_MAX {
                break;
            }
            next = page.next;
        }
        let mut gone = 0;
        for upload in &old {
            match self.abort(upload) {
                Some(Aborted::Now | Aborted::Before) => gone += 1,
                Some(Aborted::Refused) => {}
                None => break,
            }
        }
        seen.len() as u64 - gone
    }
}

impl Remote {
    /// See [`MirrorStore::keeping`](crate::storage::MirrorStore::keeping). Most stores do not know the questions, and many keys may not ask them.
    pub(super) fn keeping_of_bucket(&self) -> Option<Keeping> {
        let calls = self.calls.as_deref()?;
        let search = Search { remote: self, calls, until: Instant::now() + ALL, removed: 0 };
        let versions = search.ask(calls.ask("versioning"))?;
        let lock = search.ask(calls.ask("object-lock")).flatten();
        keeping::read(versions.as_deref(), lock.as_deref())
    }

    /// See [`MirrorStore::end_unfinished`](crate::storage::MirrorStore::end_unfinished).
    pub(super) fn end_uploads(&self, ours: &[UnfinishedUpload], look: bool) -> EndedUploads {
        // Nothing waits for what this store never has.
        let Some(calls) = self.calls.as_deref() else {
            return EndedUploads { gone: ours.to_vec(), ..EndedUploads::default() };
        };
        let mut search = Search { remote: self, calls, until: Instant::now() + ALL, removed: 0 };
        let (mut gone, mut goes_on) = (Vec::new(), true);
        for upload in ours {
            // Refused once, it would be refused with every sync. It is found again by its age, should the store ever show it.
            let done = if is_path(&upload.path) { search.abort(upload) } else { Some(Aborted::Refused) };
            match done {
                Some(_) => gone.push(upload.clone()),
                None => {
                    goes_on = false;
                    break;
                }
            }
        }
        let mut there = (ours.len() - gone.len()) as u64;
        if look && goes_on {
            there += search.look(&ours.iter().collect());
        }
        // A listing of uploads does not say how many bytes they have, and asking for each would be a request more.
        let leftovers = Leftovers { removed: (search.removed, 0), there: (there, 0) };
        EndedUploads { gone, leftovers }
    }
}
