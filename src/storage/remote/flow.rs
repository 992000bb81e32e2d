//! What moves in one attempt at an operation: whether bytes flow, and how many have left.
//!
//! An attempt in which bytes flow is never given up, however slow the line is. One in which nothing has moved for longer than
//! [`Patience::answer`] has failed. What was handed to the system is not on the wire yet: before an answer can come, that much has to leave first
//! ([`Patience::silence`]). When the other side does not even acknowledge it, the system ends the connection (`TCP_USER_TIMEOUT`, RFC 5482).

use crate::base::lock::lock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;

use super::aws_credentials::NotLent;
use super::said::Said;
use crate::storage::patience::Patience;
use crate::storage::rate_limit::RateLimit;

/// So many bytes are a sign of life; fewer in the time of [`Patience::answer`] are none.
const SIGN_BYTES: u64 = 1 << 10;

/// So many answers may come without a name in them.
const FRUITLESS_MAX: u64 = 10_000;

tokio::task_local! {
    static CURRENT: Arc<Flow>;
}

/// See the module.
#[derive(Debug)]
pub(super) struct Flow {
    begun: Instant,
    /// Milliseconds from `begun` to the last sign of life.
    last: AtomicU64,
    /// Bytes since that.
    since: AtomicU64,
    /// Bytes of the object that were handed to the system.
    sent: AtomicU64,
    /// All of a body has been handed over: an answer is waited for.
    answer_due: AtomicBool,
    /// The longest body of an answer that is expected, in bytes.
    pub expected: u64,
    pub limit: Arc<RateLimit>,
    /// Answers since the last name of a listing.
    fruitless: AtomicU64,
    /// It asks for names.
    lists: AtomicBool,
    /// What the store said to the last request, when that was no success.
    said: Mutex<Option<Said>>,
    /// Why there are no credentials for it.
    not_lent: Mutex<Option<NotLent>>,
    /// What the next request that stores something has for a body, and its length.
    body: Mutex<Option<(u64, Receiver<Bytes>)>>,
}

impl Flow {
    pub fn new(expected: u64, limit: Arc<RateLimit>) -> Self {
        Self {
            begun: Instant::now(),
            last: AtomicU64::new(0),
            since: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            answer_due: AtomicBool::new(false),
            expected,
            limit,
            fruitless: AtomicU64::new(0),
            lists: AtomicBool::new(false),
            said: Mutex::default(),
            not_lent: Mutex::default(),
            body: Mutex::default(),
        }
    }

    /// From now on it asks for names.
    pub fn set_lists(&self) {
        self.lists.store(true, Ordering::Relaxed);
    }

    /// True when it asks for names.
    pub fn lists(&self) -> bool {
        self.lists.load(Ordering::Relaxed)
    }

    /// This was said to the last request.
    pub fn say(&self, said: Option<Said>) {
        *lock(&self.said) = said;
    }

    /// What was said to the last request, when it was refused.
    pub fn take_said(&self) -> Option<Said> {
        lock(&self.said).take()
    }

    /// There are no credentials for it.
    pub fn fail_unlent(&self, why: NotLent) {
        *lock(&self.not_lent) = Some(why);
    }

    /// Why it got no credentials, where it got none.
    pub fn take_not_lent(&self) -> Option<NotLent> {
        lock(&self.not_lent).take()
    }

    /// The body of the request that stores the object comes piece by piece from here, whatever the request says itself.
    pub fn give_body(&self, length: u64, pieces: Receiver<Bytes>) {
        *lock(&self.body) = Some((length, pieces));
    }

    /// Takes what was given.
    pub fn take_body(&self) -> Option<(u64, Receiver<Bytes>)> {
        lock(&self.body).take()
    }

    /// One answer more: true when there were too many in which nothing was found.
    pub fn is_fruitless(&self) -> bool {
        self.fruitless.fetch_add(1, Ordering::Relaxed) >= FRUITLESS_MAX
    }

    /// A name was found.
    pub fn found(&self) {
        self.fruitless.store(0, Ordering::Relaxed);
        self.touch();
    }

    /// That of the attempt in which this is called.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Runs an attempt as this one.
    pub async fn scope<F: Future>(self: Arc<Self>, attempt: F) -> F::Output {
        CURRENT.scope(self, attempt).await
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Something began, ended, or was answered.
    pub fn touch(&self) {
        self.since.store(0, Ordering::Relaxed);
        self.last.store(self.elapsed(), Ordering::Relaxed);
    }

    /// Bytes of an answer have come.
    pub fn received(&self, bytes: u64) {
        if self.since.fetch_add(bytes, Ordering::Relaxed) + bytes >= SIGN_BYTES {
            self.touch();
        }
    }

    /// Bytes of a body were handed over, the last ones when `is_all`.
    pub fn sent(&self, bytes: u64, is_all: bool) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.answer_due.store(is_all, Ordering::Relaxed);
        self.touch();
    }

    /// Bytes that were handed over.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// How long nothing has moved.
    fn silent_for(&self) -> Duration {
        Duration::from_millis(self.elapsed().saturating_sub(self.last.load(Ordering::Relaxed)))
    }

    /// True when it is to be given up.
    pub fn is_over(&self, patience: &Patience) -> bool {
        let on_the_way = if self.answer_due.load(Ordering::Relaxed) { self.sent_bytes() } else { 0 };
        self.silent_for() > patience.silence(on_the_way)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_when_nothing_moves_and_not_before() {
        let patience = Patience { answer: Duration::from_millis(40), bytes_per_second: 1 << 30, ..Patience::default() };
        let flow = Flow::new(0, Arc::default());
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(20));
            flow.received(SIGN_BYTES);
            assert!(!flow.is_over(&patience));
        }
        // A drop now and then is no flow.
        for _ in 0..6 {
            std::thread::sleep(Duration::from_millis(10));
            flow.received(1);
        }
        assert!(flow.is_over(&patience));
        flow.sent(1, false);
        assert!(!flow.is_over(&patience) && flow.sent_bytes() == 1);
    }
}
