//! Runs the program, and holds what it does against what it may: time, memory, the way it ends.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The most memory that a command may take, in KiB: 200 MiB.
pub const MEMORY_KIB_MAX: u64 = 200 << 10;
/// How long a command may go on after one SIGTERM. It is promised within two seconds; this machine may be busy.
const STOP_MAX: Duration = Duration::from_secs(4);
/// How often the command is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How much is printed of an output.
const SHOWN: usize = 1_500;

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub words: String,
    pub code: Option<i32>,
    /// It did not end by itself, and was sent a SIGTERM.
    pub was_stopped: bool,
    /// The most memory that it had, in KiB.
    pub memory_kib: u64,
    /// What no command may do, whatever the repository holds.
    pub fault: Option<String>,
    pub out: String,
    pub err: String,
}

/// The line of `/proc/<pid>/status` that counts, in KiB.
fn peak(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn wait(child: &mut Child, limit: Duration, memory_kib: &mut u64, most: u64) -> Option<ExitStatus> {
    let begun = Instant::now();
    loop {
        *memory_kib = peak(child).unwrap_or_default().max(*memory_kib);
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        // The machine is not to suffer from it.
        if begun.elapsed() > limit || *memory_kib > 2 * most {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

fn text(mut file: File) -> String {
    let mut text = Vec::new();
    file.rewind().unwrap();
    file.take(8 << 20).read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// Runs `command`; after `patience` it is sent one SIGTERM.
pub fn run(command: Command, patience: Duration) -> Ended {
    run_up_to(command, patience, MEMORY_KIB_MAX)
}

/// The same where it may take `most` KiB of memory.
pub fn run_up_to(mut command: Command, patience: Duration, most: u64) -> Ended {
    let words: Vec<String> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let words = words.join(" ");
    let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    let mut memory_kib = 0;
    let mut status = wait(&mut child, patience, &mut memory_kib, most);
    let was_stopped = status.is_none();
    let begun = Instant::now();
    if was_stopped {
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        status = wait(&mut child, STOP_MAX, &mut memory_kib, most);
    }
    let mut fault = None;
    let status = status.unwrap_or_else(|| {
        fault = Some(format!("it still ran {:?} after a SIGTERM", begun.elapsed()));
        child.kill().unwrap();
        child.wait().unwrap()
    });
    let (out, err) = (text(out), text(err));
    if memory_kib > most {
        fault = Some("it took too much memory".to_owned());
    } else if fault.is_none() && status.signal().is_some() {
        fault = Some(format!("it was ended by a signal: {status}"));
    } else if err.contains("panicked") {
        fault = Some("it panicked".to_owned());
    }
    Ended { words, code: status.code(), was_stopped, memory_kib, fault, out, err }
}

pub fn shown(text: &str) -> &str {
    text.get(..SHOWN).unwrap_or(text)
}

impl Ended {
    /// What both streams say, in short.
    pub fn shown(&self) -> String {
        let Self { words, code, was_stopped, memory_kib, fault, .. } = self;
        let fault = fault.as_deref().unwrap_or("no fault");
        format!(
            "{words}: {fault}; code {code:?}, stopped {was_stopped}, {memory_kib} KiB\n{}\n{}",
            shown(&self.out),
            shown(&self.err)
        )
    }
}
