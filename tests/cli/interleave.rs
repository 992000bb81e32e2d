//! Command inside command: the first is stopped at each of its calls that touch the repository, the second is run, and the
//! first goes on. What the table of `format-spec/together.md` says of the two holds wherever the first stands: strace stops
//! it (SIGSTOP) when it enters the n-th call of a kind.
//!
//! The table is about a first command that has done everything but publish. Earlier than that it may not hold its lock yet,
//! and later it has published: so where the page says that the second waits, or that the first loses, the other way round
//! is right too. Nothing is ever called damaged, and what is there in the end is whole.
//!
//! The short form takes a sample, `PACKSTONE_FULL=1` as many as end in an hour. How many there are is printed. `PACKSTONE_INTERLEAVE_FIRST=undelete`
//! takes the cases in which that row of the table comes first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::Ran;
use super::support::World;
use super::together::{Cell, TEMPLATE, commands, ended, is_full, table};

/// Calls that open, list, read, rename, link, lock and remove.
const CALLS: [&str; 9] =
    ["openat", "getdents64", "pread64", "renameat2", "linkat", "flock", "unlinkat", "mkdirat", "ftruncate"];
/// Cases of the short form.
const SAMPLE: usize = 40;
/// Cases of the full form, at most: what a machine of two cores does in an hour.
const FULL: usize = 12_000;
/// So many cases run at once.
const WORKERS: usize = 4;
/// So long the second may take while the first is stopped; longer it only waits for a lock that the first holds.
const PATIENCE: Duration = Duration::from_secs(4);

/// The same command under strace.
fn traced(command: &Command, options: &[&str]) -> Command {
    let mut traced = Command::new("strace");
    traced.arg("-f").args(options).arg(command.get_program()).args(command.get_args());
    traced.env_clear();
    for (name, value) in command.get_envs() {
        traced.env(name, value.unwrap_or_default());
    }
    if let Some(directory) = command.get_current_dir() {
        traced.current_dir(directory);
    }
    traced.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    traced
}

fn cell(row: &str, column: &str) -> Cell {
    let cell = Cell { world: World::copy(&TEMPLATE.world), row: row.to_owned(), column: column.to_owned() };
    if row == "prune, rewriting" {
        cell.world.ok(&["prune", "--max-unused", "unlimited"]);
    }
    cell
}

/// Which calls of a command touch the repository: by kind, their numbers in their threads.
fn calls(row: &str, first: &str) -> BTreeMap<&'static str, BTreeSet<u32>> {
    let cell = cell(row, "");
    let log = cell.world.path("trace");
    let filter = format!("trace={}", CALLS.join(","));
    let options = ["-y", "-o", log.to_str().unwrap(), "-e", &filter];
    traced(&cell.command(first, false), &options).output().unwrap();
    let ours = cell.world.repository();
    let (mut counts, mut found) = (BTreeMap::new(), BTreeMap::new());
    for line in String::from_utf8_lossy(&fs::read(&log).unwrap()).lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let name = rest.trim_start().split('(').next().unwrap_or_default();
        let Some(call) = CALLS.iter().find(|call| **call == name) else { continue };
        let count: &mut u32 = counts.entry((thread.to_owned(), *call)).or_default();
        *count += 1;
        if rest.contains(ours.to_str().unwrap()) {
            found.entry(*call).or_insert_with(BTreeSet::new).insert(*count);
        }
    }
    found
}

/// Ends what is left of a process and its children, when a test fails.
struct Group(Option<Child>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
            let _ = child.wait();
        }
    }
}

/// Waits until strace says that the process is stopped; false when it has ended before.
fn wait_for_stop(strace: &mut Child, log: &Path) -> bool {
    loop {
        let has_ended = strace.try_wait().unwrap().is_some();
        let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
        if text.contains("stopped by SIGSTOP") || has_ended {
            return text.contains("stopped by SIGSTOP");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The snapshot, or the key, was there when the other one began.
fn names_what_is_gone(ran: &Ran) -> bool {
    ["no snapshot ", "is not a live key", "no removed snapshot"].iter().any(|word| ran.err.contains(word))
}

/// Lets a stopped process go on to its end: another of its threads may come to its own call of that number, and stop it again. The signal goes
/// to the whole group: the thread that was stopped first may have ended. To whoever runs it is nothing.
fn let_go(strace: &mut Child) {
    while strace.try_wait().unwrap().is_none() {
        let _ = kill_process_group(Pid::from_child(strace), Signal::CONT);
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Case<'a> {
    row: &'a str,
    column: &'a str,
    expected: String,
    first: &'a str,
    second: &'a str,
    call: &'static str,
    number: u32,
}

/// Runs one case; false when the first ended before it came to that call.
fn run(case: &Case<'_>) -> bool {
    let cell = cell(case.row, case.column);
    let log = cell.world.path("trace");
    let rule = format!("inject={}:signal=SIGSTOP:when={}", case.call, case.number);
    // What is not traced is not stopped either.
    let filter = format!("trace={}", case.call);
    let options = ["-o", log.to_str().unwrap(), "-e", &filter, "-e", "signal=SIGSTOP", "-e", &rule];
    let mut command = traced(&cell.command(case.first, false), &options);
    let mut first = Group(Some(command.process_group(0).spawn().unwrap()));
    let is_stopped = wait_for_stop(first.0.as_mut().unwrap(), &log);
    let mut second = cell.command(case.second, false).spawn().unwrap();
    let began = Instant::now();
    while is_stopped && began.elapsed() < PATIENCE && second.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    if is_stopped {
        let_go(first.0.as_mut().unwrap());
    }
    let second = ended(&second.wait_with_output().unwrap());
    let first = ended(&first.0.take().unwrap().wait_with_output().unwrap());
    let said = format!(
        "{}, stopped at {} {}, then {}: {}\nthe first: {:?}\n{}\n{}\nthe second: {:?}\n{}\n{}",
        case.first,
        case.call,
        case.number,
        case.second,
        case.expected,
        first.code,
        first.out,
        first.err,
        second.code,
        second.out,
        second.err
    );
    let expects = |word: &str| case.expected.split(", ").any(|found| found == word);
    for (ran, other) in [(&first, &second), (&second, &first)] {
        let is_right = match ran.code {
            Some(0) => true,
            Some(11) => expects("waits") && other.code != Some(11),
            // The key that is named is gone.
            Some(2) => expects("loses") && other.code == Some(0) && ran.err.contains("of no key's id"),
            // The passphrase is another one by now.
            Some(12) => expects("loses") && other.code == Some(0),
            // Of two that change the same thing one loses. And a snapshot that the other has just removed, or written anew with other tags, is
            // not found.
            Some(1) => other.code == Some(0) && (expects("loses") || names_what_is_gone(ran)),
            _ => false,
        };
        assert!(is_right, "{said}");
        for word in ["damaged", "missing: ", "panicked", "set back"] {
            let is_said = ran.err.contains(word) || ran.out.lines().any(|line| line.starts_with(word));
            assert!(!is_said, "says {word}: {said}");
        }
    }
    cell.judge(&|ran: &Ran| format!("{said}\nafterwards: {:?}\n{}\n{}", ran.code, ran.out, ran.err));
    is_stopped
}

#[test]
fn the_second_begins_at_every_call_of_the_first() {
    let probe = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED interleave: strace is missing, or nothing may be traced here");
        return;
    }
    let (columns, rows) = table();
    // A prune that marks goes on to rewrite.
    let rewriting = rows.iter().find(|(row, _)| row == "prune, rewriting").map(|(_, cells)| cells).unwrap();
    let mut cases = Vec::new();
    let only = std::env::var("PACKSTONE_INTERLEAVE_FIRST").ok();
    let is_chosen = |row: &str| row != "init" && only.as_ref().is_none_or(|only| row == only);
    for (row, cells) in rows.iter().filter(|(row, _)| is_chosen(row)) {
        for first in commands(row) {
            let calls = calls(row, first);
            let expected = |number: usize| match row == "prune, marking" {
                true => format!("{}, {}", cells[number], rewriting[number]),
                false => cells[number].clone(),
            };
            for (number, column) in columns.iter().enumerate().filter(|(_, column)| *column != "init") {
                let expected = expected(number);
                let reads = |name: &str| ["restore", "check", "read"].contains(&name);
                if reads(row) && reads(column) {
                    continue;
                }
                for second in commands(column) {
                    let all = calls.iter().flat_map(|(call, numbers)| numbers.iter().map(|number| (*call, *number)));
                    let expected = expected.clone();
                    let case = move |(call, number)| Case {
                        row,
                        column,
                        expected: expected.clone(),
                        first,
                        second,
                        call,
                        number,
                    };
                    cases.extend(all.map(case));
                }
            }
        }
    }
    let all = cases.len();
    let step = all.div_ceil(if is_full() { FULL } else { SAMPLE }).max(1);
    let chosen: Vec<&Case<'_>> = cases.iter().step_by(step).collect();
    let tried = chosen.len();
    let (next, right, stopped) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    // A case mostly waits: for a process that begins, or for a lock. One that fails has said why; the others are still run.
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Ok(is_stopped) = catch_unwind(AssertUnwindSafe(|| run(case))) else { continue };
                    right.fetch_add(1, Ordering::Relaxed);
                    stopped.fetch_add(usize::from(is_stopped), Ordering::Relaxed);
                }
            });
        }
    });
    let (right, stopped) = (right.into_inner(), stopped.into_inner());
    println!("interleave: {right} of {tried} cases are as the page says, {stopped} of them stopped ({all} there are)");
    assert_eq!(right, tried, "each that is not has said so above");
    assert!(stopped * 2 > tried, "most of them were stopped");
}
