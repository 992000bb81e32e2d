//! Command against command, with real processes: the first is stopped in the middle, the second is run to its end, and then
//! the first goes on. What is expected is read from the table in `format-spec/together.md`, cell by cell.
//!
//! Who publishes is stopped when he has done everything but publish: the test holds `lock/append` until the process has it open
//! and waits. Who only reads is stopped when he has his pin and has read nothing but the newest head: the passphrase takes
//! a tenth of a second to stretch. `init` is stopped while it makes its first key.
//!
//! The short form takes one pair of commands for each cell, `PACKSTONE_FULL=1` every pair.

use std::fs;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};

use super::Ran;
use super::forget::ids;
use super::prune::noise;
use super::reading::objects;
use super::support::{World, files_beneath};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/format-spec/together.md");
const PASSPHRASE: &str = "a passphrase that is not the key file";

/// The commands of each row and column, by the name on the page. `@n` is the n-th snapshot, `@key` the id of the passphrase's
/// key.
const COMMANDS: [(&str, &[&str]); 15] = [
    ("backup", &["backup tree"]),
    ("forget", &["forget @2"]),
    ("tag", &["tag --add x @2", "hold @2"]),
    ("undelete", &["undelete @1"]),
    ("prune", &["prune --instant --max-unused 0"]),
    ("prune, marking", &["prune"]),
    ("prune, rewriting", &["prune --max-unused 0"]),
    ("repair index", &["repair index --read-all-packs"]),
    ("key add", &["key add --new-password-file new-password"]),
    ("key passwd", &["key passwd --new-password-file new-password"]),
    ("key remove", &["key remove @key"]),
    ("restore", &["restore @2 --target out --verify"]),
    ("check", &["check", "check --read-data"]),
    ("read", &["dump @2 /tree/two", "ls @2", "find two", "diff @2 @3", "stats", "snapshots", "show @2"]),
    ("init", &["init --password-file password"]),
];

pub(super) fn commands(name: &str) -> &'static [&'static str] {
    COMMANDS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("the page has {name}")).1
}

fn reads_only(name: &str) -> bool {
    ["restore", "check", "read"].contains(&name)
}

/// The table: rows of name and cells, the columns' names first.
pub(super) fn table() -> (Vec<String>, Vec<(String, Vec<String>)>) {
    let page = fs::read_to_string(PAGE).unwrap();
    let mut rows = page.lines().filter(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        (cells[0].clone(), cells[1..].to_vec())
    });
    let (_, columns) = rows.by_ref().find(|(first, _)| first.starts_with("first")).unwrap();
    let rows = rows.skip(1).take_while(|(_, cells)| cells.len() == columns.len()).collect();
    (columns, rows)
}

pub(super) struct Template {
    pub(super) world: World,
    snapshots: [String; 3],
    key: String,
}

/// Of what the first snapshot holds three quarters are in no other; the fourth was forgotten too, and nothing else needs what
/// came with it. So a prune has packs to mark, packs to rewrite, and something to sweep.
pub(super) static TEMPLATE: LazyLock<Template> = LazyLock::new(|| {
    let world = World::with_repository();
    for number in 0..16 {
        world.write(&format!("{number}"), noise(number, 30_000));
    }
    let first = world.backup();
    for number in (0..16).filter(|number| number % 4 != 0) {
        fs::remove_file(world.tree().join(number.to_string())).unwrap();
    }
    let mut more = ["two", "three", "four"].into_iter().map(|name| {
        world.write(name, noise(name.len() as u64 + 100, 60_000));
        let id = world.backup();
        fs::remove_file(world.tree().join(name)).unwrap();
        id
    });
    let (second, third, fourth) = (more.next().unwrap(), more.next().unwrap(), more.next().unwrap());
    world.ok(&["forget", &first, &fourth]);
    fs::write(world.path("password"), PASSPHRASE).unwrap();
    fs::write(world.path("new-password"), "another passphrase").unwrap();
    let added = world.ok(&["key", "add", "--new-password-file", "password", "--json"]);
    let added: serde_json::Value = serde_json::from_str(&added.out).unwrap();
    let key = added["id"].as_str().unwrap().to_owned();
    // The next backup has something to store.
    world.write("new", noise(7, 80_000));
    Template { world, snapshots: [first, second, third], key }
});

/// One cell's world.
pub(super) struct Cell {
    pub(super) world: World,
    pub(super) row: String,
    pub(super) column: String,
}

impl Cell {
    /// The command line, opened with the passphrase where the key file is of no use or too quick.
    pub(super) fn command(&self, line: &str, slow: bool) -> Command {
        let words: Vec<String> = line
            .split(' ')
            .map(|word| match word.strip_prefix('@') {
                Some("key") => TEMPLATE.key.clone(),
                Some(number) => TEMPLATE.snapshots[number.parse::<usize>().unwrap() - 1].clone(),
                None => word.to_owned(),
            })
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if words[0] == "init" {
            return self.world.bare(&words);
        }
        if !slow && !line.starts_with("key passwd") {
            return self.world.command(&words);
        }
        let mut command = self.world.bare(&words);
        command.env("PACKSTONE_PASSWORD_FILE", self.world.path("password"));
        command
    }

    fn run(&self, line: &str) -> Ran {
        ended(&self.command(line, false).output().unwrap())
    }

    fn append_lock(&self) -> OwnedFd {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let path = self.world.repository().join("lock/append");
        let file = rustix::fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR).unwrap();
        rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
        file
    }

    /// Starts it and stops it in the middle.
    fn begin(&self, line: &str) -> Stopped {
        if self.row == "prune, rewriting" {
            self.world.ok(&["prune", "--max-unused", "unlimited"]);
        }
        let append = (!reads_only(&self.row) && self.row != "init").then(|| self.append_lock());
        let slow = append.is_none();
        let mut command = self.command(line, slow);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let what = match self.row.as_str() {
            "init" => "/lock/writer",
            _ if slow => "/lock/pins/",
            _ => "/lock/append",
        };
        let stopped = Stopped::at(child, what, slow);
        drop(append);
        stopped
    }
}

/// What `dump` prints is no text.
pub(super) fn ended(output: &Output) -> Ran {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// A process that was stopped.
struct Stopped(Option<Child>);

fn has_open(pid: u32, what: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files.flatten().filter_map(|file| fs::read_link(file.path()).ok()).any(|path| path.to_string_lossy().contains(what))
}

/// The process stretches a passphrase, which takes 64 MiB.
fn stretches(pid: u32) -> bool {
    let Ok(statm) = fs::read_to_string(format!("/proc/{pid}/statm")) else { return false };
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size() as u64 > 50 << 20
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn wait_for(child: &mut Child, what: &str, stretching: bool) {
    let began = Instant::now();
    while !has_open(child.id(), what) || (stretching && !stretches(child.id())) {
        assert!(child.try_wait().unwrap().is_none(), "it has ended before it had {what} open");
        assert!(began.elapsed() < Duration::from_secs(60), "{what} is not opened");
        std::thread::sleep(Duration::from_micros(300));
    }
}

impl Stopped {
    fn at(mut child: Child, what: &str, stretching: bool) -> Self {
        wait_for(&mut child, what, stretching);
        signal(&child, Signal::STOP);
        Self(Some(child))
    }

    fn pid(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// Lets it go on to its end.
    fn end(mut self) -> Output {
        let child = self.0.take().unwrap();
        signal(&child, Signal::CONT);
        child.wait_with_output().unwrap()
    }
}

impl Drop for Stopped {
    /// A test that failed leaves no process behind.
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs one cell: what the two ended with, in the page's words.
fn cell(row: &str, column: &str, expected: &str, first: &str, second: &str) {
    let cell = Cell {
        world: if row == "init" { World::new() } else { World::copy(&TEMPLATE.world) },
        row: row.to_owned(),
        column: column.to_owned(),
    };
    if row == "init" {
        fs::write(cell.world.path("password"), PASSPHRASE).unwrap();
        fs::write(cell.world.key(), fs::read(TEMPLATE.world.key()).unwrap()).unwrap();
    }
    let said = |ran: &Ran| format!("{first}, then {second}: {expected}\nexit {:?}\n{}\n{}", ran.code, ran.out, ran.err);
    let stopped = cell.begin(first);
    let pid = format!("PID {}", stopped.pid());
    let expects = |word: &str| expected.split(", ").any(|found| found == word);
    if expects("later") && reads_only(row) {
        // Only what is marked after its pin has to wait for it.
        cell.world.ok(&["forget", &TEMPLATE.snapshots[1]]);
    }
    let packs = objects(&cell.world, "packs");
    let ran = cell.run(second);
    let code = match expected {
        "waits" => Some(11),
        "refused" => Some(1),
        "nothing there" => Some(10),
        _ => Some(0),
    };
    assert_eq!(ran.code, code, "{}", said(&ran));
    if expects("waits") {
        let word = if first.starts_with("repair") { "repair index" } else { first.split(' ').next().unwrap() };
        assert!(ran.err.contains(&format!("in use by another run: {word}, {pid}")), "{}", said(&ran));
    }
    let part = ran.err.contains("packs were not rewritten") && ran.err.contains(&pid);
    assert_eq!(part, expects("part"), "{}", said(&ran));
    let later = ran.out.contains("stay until this has ended") && ran.out.contains(&pid);
    assert_eq!(later, expects("later"), "{}", said(&ran));
    if later {
        assert!(packs.iter().any(|pack| pack.exists()), "{}", said(&ran));
    }
    // With --retry-lock it waits for the first, and then does what it does alone.
    let waiting = expects("waits").then(|| {
        let mut command = cell.command(second, false);
        command.args(["--retry-lock", "5m"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        wait_for(&mut child, "/lock/writer", false);
        child
    });
    let output = stopped.end();
    let loses = expects("loses");
    let gone_on = ended(&output);
    assert_eq!(gone_on.code, Some(i32::from(loses)), "the first: {}", said(&gone_on));
    if loses {
        let words = [
            "run the command again",
            "run it again",
            "meanwhile",
            "is not a live key",
            "it was not removed",
            "was swept",
        ];
        assert!(words.iter().any(|word| gone_on.err.contains(word)), "the first: {}", said(&gone_on));
    }
    if first.starts_with("dump") {
        assert!(output.stdout == noise(103, 60_000), "{first}, then {second}: other bytes");
    }
    if let Some(child) = waiting {
        let ran = ended(&child.wait_with_output().unwrap());
        // One repository has been made; the other init finds it.
        assert_eq!(ran.code, Some(i32::from(row == "init")), "having waited: {}", said(&ran));
    }
    cell.judge(&said);
}

impl Cell {
    /// Everything is whole, and both have had their effect.
    pub(super) fn judge(&self, said: &dyn Fn(&Ran) -> String) {
        let check =
            if self.row == "init" { self.command("check", true) } else { self.command("check --read-data", false) };
        let ran = ended(&{ check }.output().unwrap());
        assert_eq!(ran.code, Some(0), "{} {}: {}", self.row, self.column, said(&ran));
        if self.row == "init" {
            return;
        }
        for id in ids(&self.world) {
            let target = format!("judged/{id}");
            let ran = self.world.run(&["restore", &id, "--target", &target, "--verify"]);
            assert_eq!(ran.code, Some(0), "{} {}: {}", self.row, self.column, said(&ran));
        }
    }
}

/// Two homes sync one repository to one mirror. The slower one is stopped when it has read the newest head here and nothing of the mirror: its
/// list of mirrors is held by the test. Meanwhile the other one publishes and syncs.
#[test]
fn a_sync_that_was_overtaken_knows_the_newer_head() {
    let world = World::with_repository();
    world.write("one", noise(1, 50_000));
    world.backup();
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    world.ok(&["sync"]);
    let home = world.path("other home");
    fs::create_dir(&home).unwrap();
    let elsewhere = |words: &[&str]| {
        let ran: Ran = world.command(words).env("HOME", &home).output().unwrap().into();
        assert_eq!(ran.code, Some(0), "{words:?} {}", ran.err);
    };
    elsewhere(&["mirror", "add", "offsite", "mirror"]);
    world.write("two", noise(2, 50_000));
    world.backup();
    for words in [&["sync"][..], &["repair", "mirror", "offsite"]] {
        let book = files_beneath(&world.path("home/.local/state/packstone/mirrors"));
        let book = book.iter().find(|path| path.extension().is_some_and(|it| it == "sqlite")).unwrap();
        let held = rusqlite::Connection::open(book).unwrap();
        held.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
        let slower = Stopped::at(world.command(words).spawn().unwrap(), ".sqlite", false);
        held.execute_batch("COMMIT").unwrap();
        drop(held);
        world.write("three", noise(3, 50_000 + words.len()));
        elsewhere(&["backup", "tree"]);
        elsewhere(&["sync"]);
        let ran = ended(&slower.end());
        assert_eq!(ran.code, Some(0), "{words:?} {} {}", ran.out, ran.err);
    }
    let ran = world.ok(&["sync"]);
    assert!(ran.out.contains("whole at generation 5") && ran.out.contains("nothing to send"), "{}", ran.out);
    world.ok(&["check", "--mirror", "offsite", "--read-data"]);
}

pub fn is_full() -> bool {
    std::env::var_os("PACKSTONE_FULL").is_some_and(|value| value == "1")
}

fn row(name: &str) {
    let (columns, rows) = table();
    let place = rows.iter().position(|(row, _)| row == name).unwrap_or_else(|| panic!("the page lacks {name}"));
    let mut pairs = 0;
    for (number, (column, expected)) in columns.iter().zip(&rows[place].1).enumerate() {
        let (firsts, seconds) = (commands(name), commands(column));
        for (one, first) in firsts.iter().enumerate() {
            for (other, second) in seconds.iter().enumerate() {
                if is_full() || (one == number % firsts.len() && other == place % seconds.len()) {
                    cell(name, column, expected, first, second);
                    pairs += 1;
                }
            }
        }
    }
    println!("{name}: {pairs} of {pairs} pairs of commands do what the page says");
}

macro_rules! rows {
    ($($test:ident $name:literal,)*) => {
        $(#[test]
        fn $test() {
            row($name);
        })*

        /// Every row of the page is tested, and every command stands on the page.
        #[test]
        fn the_page_has_every_command() {
            let (columns, rows) = table();
            let found: Vec<&str> = rows.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(found, [$($name),*]);
            let known = |name: &&str| !found.contains(name) && !columns.iter().any(|column| column == name);
            assert_eq!(COMMANDS.iter().map(|(name, _)| *name).filter(known).collect::<Vec<_>>(), Vec::<&str>::new());
            assert_eq!(columns.len(), 13);
        }
    };
}

rows! {
    beside_a_backup "backup",
    beside_a_forget "forget",
    beside_a_tag "tag",
    beside_an_undelete "undelete",
    beside_a_prune_that_marks "prune, marking",
    beside_a_prune_that_rewrites "prune, rewriting",
    beside_a_repair_index "repair index",
    beside_a_key_add "key add",
    beside_a_key_passwd "key passwd",
    beside_a_key_remove "key remove",
    beside_a_restore "restore",
    beside_a_check "check",
    beside_a_reader "read",
    beside_an_init "init",
}

/// It was said at once that another process is at work, however long a command was told to wait for locks.
#[test]
fn a_sync_waits_for_the_lock_of_a_mirror() {
    let world = World::with_repository();
    world.backup();
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    world.ok(&["sync"]);
    let books = world.path("home/.local/state/packstone/mirrors");
    let locks = fs::read_dir(books).unwrap().map(|entry| entry.unwrap().path());
    let lock = locks.into_iter().find(|path| path.extension().is_some_and(|end| end == "lock")).unwrap();
    let held = fs::File::open(lock).unwrap();
    held.lock().unwrap();
    assert_eq!(world.run(&["sync"]).code, Some(11));
    assert_eq!(world.run(&["sync", "--retry-lock", "1s"]).code, Some(11));
    let mut waiting = world.command(&["sync", "--retry-lock", "60s"]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert!(waiting.try_wait().unwrap().is_none(), "it waits");
    drop(held);
    assert!(waiting.wait().unwrap().success());
}
