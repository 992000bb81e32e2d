//! The end that the user wants: SIGINT, SIGTERM and SIGHUP set the stop signal; a second one ends the process at once. Nothing is lost by that: whatever was not published yet is swept up by the next run.
//!
//! A signal that is ignored when the program starts stays ignored: `nohup` wants it to outlive its terminal, and a shell keeps
//! Ctrl-C from what it runs in the background.

use super::exit::Exit;
use crate::base::stop::{Stop, StopSignal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A stop signal that the signals set. Call it once, at the start of the program.
///
/// # Errors
/// When the operating system does not let us handle a signal.
pub fn install() -> io::Result<StopSignal> {
    let (stop, again) = (StopSignal::new(), Arc::new(AtomicBool::new(false)));
    let ignored = ignored();
    let wanted = [(SIGINT, Stop::User), (SIGTERM, Stop::Shutdown), (SIGHUP, Stop::Shutdown)];
    for (signal, why) in wanted.into_iter().filter(|(signal, _)| !is_in(ignored, *signal)) {
        // Handlers run in the order of registration: the exit only sees a flag that an earlier signal has set.
        let code = i32::from(Exit::Interrupted.code());
        signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&again))?;
        signal_hook::flag::register(signal, Arc::clone(&again))?;
        signal_hook::flag::register_usize(signal, stop.flag(), why.number())?;
    }
    Ok(stop)
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
}
