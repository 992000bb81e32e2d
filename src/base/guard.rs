//! A panic inside a library that reads what others wrote is a failure of that call, not a crash of the program.
//!
//! redb checks its own invariants with assertions, and a damaged file can break any of them; OpenDAL takes for granted that a store answers as
//! stores do. Calls into them run here: the panic is caught, and its message is not printed, because the caller goes on or says what happened.
//! Panics of other threads, and of this thread outside a guarded call, are printed as always.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// How many guarded calls this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

static HOOK: Once = Once::new();

fn install() {
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if DEPTH.try_with(Cell::get).unwrap_or(0) == 0 {
                others(info);
            }
        }));
    });
}

/// Counts this thread in, and out again whatever happens.
struct Quiet;

impl Quiet {
    fn new() -> Self {
        DEPTH.set(DEPTH.get().saturating_add(1));
        Self
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get().saturating_sub(1));
    }
}

/// Runs `call`; `None` when it panicked. Whatever it was changing must not be used again after that.
pub fn guard<T>(call: impl FnOnce() -> T) -> Option<T> {
    guarded(call).ok()
}

/// The same with the words of the panic.
///
/// # Errors
/// When it panicked: what it said, in the library's words.
pub fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    // A hook cannot be exchanged by a thread that is panicking (guarded drops run there too).
    if !std::thread::panicking() {
        install();
    }
    let _quiet = Quiet::new();
    panic::catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no reason is given".to_owned())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    #[test]
    fn a_panic_is_caught_and_the_next_call_works() {
        assert_eq!(guard(|| 1), Some(1));
        assert_eq!(guard(|| -> u8 { panic!("a broken invariant") }), None);
        assert_eq!(guarded(|| -> u8 { panic!("broken {}", 7) }), Err("broken 7".to_owned()));
        assert_eq!(DEPTH.get(), 0);
        assert_eq!(guard(|| guard(|| DEPTH.get())), Some(Some(2)));
    }
}
