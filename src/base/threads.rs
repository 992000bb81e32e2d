//! Threads, as many as the system gives: where a limit of processes gives fewer than are wanted, fewer do the work.

use crate::base::lock::lock;
use std::io;
use std::sync::{Condvar, Mutex};
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// Threads that are left to everything but the pool: readers, the walk, the writer of packs, progress.
const LEFT_BESIDE_POOL: usize = 8;

/// Does `work` on up to `wanted` threads at the same time, and waits for all of them. Where none can be started, this one
/// does it.
pub fn share(wanted: usize, work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        if spawn(scope, wanted, || &work).is_err() {
            work();
        }
    });
}

/// Starts up to `wanted` threads, each with work of its own that `make` gives; fewer when the system gives no more.
///
/// # Errors
/// Not one could be started ([`super::shortage::describe`] says why).
pub fn spawn<'scope, F>(scope: &'scope Scope<'scope, '_>, wanted: usize, mut make: impl FnMut() -> F) -> io::Result<()>
where
    F: FnOnce() + Send + 'scope,
{
    for started in 0..wanted.max(1) {
        match Builder::new().spawn_scoped(scope, make()) {
            Ok(_) => {}
            Err(error) if started == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(())
}

/// Starts one thread.
///
/// # Errors
/// The system gives none.
pub fn spawn_one<'scope, T, F>(scope: &'scope Scope<'scope, '_>, work: F) -> io::Result<ScopedJoinHandle<'scope, T>>
where
    F: FnOnce() -> T + Send + 'scope,
    T: Send + 'scope,
{
    Builder::new().spawn_scoped(scope, work)
}

/// Makes the pool that blocks are compressed, opened and hashed in: a thread a processor, or what the system gives when
/// some are left for everything else. The pool would panic where it could not be made later.
///
/// # Errors
/// Not one thread can be started.
pub fn start_pool() -> io::Result<()> {
    let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let given = count_startable(processors + LEFT_BESIDE_POOL)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(given.saturating_sub(LEFT_BESIDE_POOL).max(1));
    pool.build_global().map_err(io::Error::other)
}

/// How many threads of `wanted` can be alive at the same time.
fn count_startable(wanted: usize) -> io::Result<usize> {
    let (ended, bell) = (Mutex::new(false), Condvar::new());
    let wait = || {
        let ended = lock(&ended);
        drop(bell.wait_while(ended, |ended| !*ended));
    };
    std::thread::scope(|scope| {
        let mut failure = None;
        let mut started = 0;
        while started < wanted && failure.is_none() {
            match Builder::new().stack_size(64 << 10).spawn_scoped(scope, wait) {
                Ok(_) => started += 1,
                Err(error) => failure = Some(error),
            }
        }
        *lock(&ended) = true;
        bell.notify_all();
        match failure {
            Some(error) if started == 0 => Err(error),
            _ => Ok(started),
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn all_of_the_work_is_done_however_many_do_it() {
        for wanted in [0, 1, 7] {
            let left = Mutex::new(100);
            let done = AtomicUsize::new(0);
            share(wanted, || {
                while let Some(()) = {
                    let mut left = left.lock().unwrap();
                    (*left > 0).then(|| *left -= 1)
                } {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert_eq!(done.into_inner(), 100);
        }
    }

    #[test]
    fn threads_that_can_be_started_are_counted() {
        assert_eq!(count_startable(5).unwrap(), 5);
    }
}
