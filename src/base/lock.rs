//! The one way to take a mutex.
//!
//! A thread that panics while it holds one ends the whole operation: its panic is passed on where it is joined. What the mutex
//! guards is a counter, a queue or a cache that is whole between two statements, so whoever comes first after a panic may go on
//! with it until then.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Takes the mutex, whatever became of the thread that had it before.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the mutex guarded, once nobody shares it any more.
pub fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the mutex back until somebody notifies `changed`, or `longest` has passed.
pub fn wait_timeout<'a, T>(changed: &Condvar, guard: MutexGuard<'a, T>, longest: Duration) -> MutexGuard<'a, T> {
    changed.wait_timeout(guard, longest).unwrap_or_else(PoisonError::into_inner).0
}
