//! The end that the user wants: SIGINT, SIGTERM and SIGHUP set a flag that long work polls; a second one ends the
//! process at once. Nothing is lost by that: whatever was not published yet is swept up by the next run.
//!
//! A signal that is ignored when the program starts stays ignored: `nohup` wants it to outlive its terminal, and a shell keeps
//! Ctrl-C from what it runs in the background.

use super::exit::Exit;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The flag. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// A flag that only [`Interrupt::set`] sets.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag that the signals set. Call it once, at the start of the program.
    ///
    /// # Errors
    /// When the operating system does not let us handle a signal.
    pub fn install() -> io::Result<Self> {
        let this = Self::new();
        let ignored = ignored();
        for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_in(ignored, *signal)) {
            // Handlers run in the order of registration: the exit only sees a flag that an earlier signal has set.
            let code = i32::from(Exit::Interrupted.code());
            signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&this.0))?;
            signal_hook::flag::register(signal, Arc::clone(&this.0))?;
        }
        Ok(this)
    }

    /// True once the user wants an end.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag itself, for what knows nothing of this floor.
    #[must_use]
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Sets the flag as a signal would.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets a write beyond the limit of file sizes (`ulimit -f`) fail with an error that can be said, instead of ending the
/// program without a word (SIGXFSZ, setrlimit(2)).
///
/// # Errors
/// When the operating system does not let us handle the signal.
pub fn bear_file_size_limit() -> io::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()).map(drop)
}

/// The signals that this process ignores, as the kernel shows them: bit n - 1 is signal n. None where `/proc` is not there: asking
/// in another way would need `unsafe`.
fn ignored() -> u64 {
    std::fs::read_to_string("/proc/self/status").map_or(0, |status| mask(&status, "SigIgn:"))
}

fn mask(status: &str, name: &str) -> u64 {
    let digits = status.lines().find_map(|line| line.strip_prefix(name));
    digits.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0)
}

const fn is_in(mask: u64, signal: i32) -> bool {
    signal > 0 && signal <= 64 && mask >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = "Name:\tx\nSigBlk:\t0000000000000003\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000004002\n";
        let found = mask(status, "SigIgn:");
        assert!(is_in(found, SIGHUP) && is_in(found, 13));
        assert!(!is_in(found, SIGINT) && !is_in(found, SIGTERM) && !is_in(found, 0) && !is_in(found, 65));
        assert_eq!((mask("", "SigIgn:"), mask("SigIgn:\tx", "SigIgn:")), (0, 0));
    }

    #[test]
    fn clones_share_the_flag() {
        let flag = Interrupt::new();
        let other = flag.clone();
        assert!(!other.is_set());
        flag.set();
        assert!(other.is_set());
    }
}
