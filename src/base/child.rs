//! Waiting for a command that the user named, no longer than somebody wants to wait.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// How often a waiting process asks whether somebody wants an end.
const LOOK: Duration = Duration::from_millis(100);
/// How long a command that was asked to end may take, before it is killed.
const PATIENCE: Duration = Duration::from_millis(500);

/// Waits until `child` has ended. None when somebody wants an end first: then it was asked to end (SIGTERM), killed when it did not within half
/// a second, and is gone. What it has started itself is not ours to end.
///
/// # Errors
/// When the system cannot wait for it.
pub fn wait(child: &mut Child, wants_end: &dyn Fn() -> bool) -> io::Result<Option<ExitStatus>> {
    let process = Pid::from_child(child);
    // Kernels before 5.3 have none.
    let handle = pidfd_open(process, PidfdFlags::empty()).ok();
    let mut asked: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status).filter(|_| asked.is_none()));
        }
        match asked {
            None if wants_end() => {
                let _ = kill_process(process, Signal::TERM);
                asked = Some(Instant::now());
            }
            Some(since) if since.elapsed() >= PATIENCE => {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            _ => {}
        }
        pause(handle.as_ref());
    }
}

/// Until the process has ended, and a tenth of a second at most.
fn pause(handle: Option<&OwnedFd>) {
    let Some(handle) = handle else { return std::thread::sleep(LOOK / 10) };
    // Whatever it says, the process is asked next.
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(LOOK.subsec_nanos()) };
    if poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&timeout)).is_err() {
        std::thread::sleep(LOOK / 10);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    fn shell(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).spawn().unwrap()
    }

    #[test]
    fn a_command_ends_by_itself_or_because_somebody_wants_it() {
        let ended = wait(&mut shell("exit 3"), &|| false).unwrap();
        assert_eq!(ended.and_then(|status| status.code()), Some(3));
        for script in ["exec sleep 60", "trap '' TERM; while :; do sleep 0.05; done"] {
            let begun = Instant::now();
            let mut child = shell(script);
            let wants_end = || begun.elapsed() > Duration::from_millis(300);
            assert_eq!(wait(&mut child, &wants_end).unwrap(), None, "{script}");
            assert!(begun.elapsed() < Duration::from_secs(30), "{script}");
            assert!(child.try_wait().unwrap().is_some(), "nothing is left behind");
        }
    }

    #[test]
    fn one_that_had_ended_before_is_no_longer_there() {
        let mut child = shell("exit 0");
        std::thread::sleep(Duration::from_millis(100));
        assert!(wait(&mut child, &|| false).unwrap().is_some_and(|status| status.success()));
    }
}
