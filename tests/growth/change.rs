//! Files that change at awkward moments.

use packstone::base::stop::Stop;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use packstone::codec::snapshot::{Outcome, ProblemKind};
use packstone::ops::{Action, Item, Monitor, Phase, Problem};

use crate::world::{World, skipped};

/// Writes a file right before the walk begins, and again as soon as it is stored.
struct Hasty<'a> {
    path: &'a Path,
    contents: [Vec<u8>; 2],
}

impl Hasty<'_> {
    fn write(&self, which: usize) {
        // In place: the same inode and the same length.
        let mut file = fs::OpenOptions::new().write(true).open(self.path).unwrap();
        file.write_all(&self.contents[which]).unwrap();
    }
}

type Times = (i64, i64, i64, i64, u64);

fn times(path: &Path) -> Times {
    let metadata = fs::metadata(path).unwrap();
    (metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec(), metadata.ino())
}

struct Watching<'a> {
    hasty: Hasty<'a>,
    times: Mutex<Vec<Times>>,
}

impl Monitor for Watching<'_> {
    fn phase(&self, phase: Phase) {
        if phase == Phase::Backup {
            self.hasty.write(0);
            self.times.lock().unwrap().push(times(self.hasty.path));
        }
    }
    fn expect(&self, _: u64, _: u64, _: bool) {}
    fn advance(&self, _: u64, _: u64) {}
    fn item(&self, item: &Item<'_>) {
        if !item.directory && matches!(item.action, Action::New | Action::Changed) {
            self.hasty.write(1);
            self.times.lock().unwrap().push(times(self.hasty.path));
        }
    }
    fn problem(&self, &Problem { path, message, .. }: &Problem<'_>) {
        panic!("{path:?}: {message}");
    }
    fn stop(&self) -> Option<Stop> {
        None
    }
}

/// Story: a file was written, saved, and written again within one tick of the clock, so that size and times were those of
/// the saved state, and the second writing was missed. Promised now: such a file is read again.
#[test]
fn a_change_within_the_tick_of_the_last_backup_is_noticed() {
    let world = World::in_memory();
    let path = world.tree.join("file");
    fs::write(&path, "        ").unwrap();
    let mut same = 0;
    for round in 0..60_u32 {
        let contents = [2 * round, 2 * round + 1].map(|number| format!("{number:08}").into_bytes());
        let hasty = Hasty { path: &path, contents: contents.clone() };
        let watching = Watching { hasty, times: Mutex::default() };
        let first = world.backup_of(&world.tree, &watching);
        let seen = watching.times.into_inner().unwrap();
        assert_eq!(seen.len(), 2);
        same += usize::from(seen[0] == seen[1]);
        let second = world.backup();
        assert_eq!(world.files(first.snapshot.unwrap())["/file"], contents[0]);
        assert_eq!(world.files(second.snapshot.unwrap())["/file"], contents[1], "round {round}");
    }
    println!("60 of 60 changes right after a backup were noticed; {same} of them left every timestamp as it was");
    if same == 0 {
        skipped("the tick of the clock", "this file system gave every change a time of its own");
    }
}

/// Backups of the growing log, at most: whether one reads while a line arrives is up to the system's scheduler.
const ROUNDS: u32 = 20;

#[test]
fn a_log_that_changes_under_every_read_is_stored_and_said_to_have_changed() {
    let world = World::new();
    // Reading it takes much longer than the time between two lines.
    let content: Vec<u8> = (0..24_u32 << 20).map(|at| (at >> 7) as u8).collect();
    world.write("log", &content);
    let log = world.tree.join("log");
    let (mut changed, mut rounds) = (0, 0);
    while changed == 0 && rounds < ROUNDS {
        let stop = AtomicBool::new(false);
        let report = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut log = fs::OpenOptions::new().append(true).open(&log).unwrap();
                while !stop.load(Ordering::SeqCst) {
                    log.write_all(b"one line more\n").unwrap();
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
            });
            let report = world.backup();
            stop.store(true, Ordering::SeqCst);
            report
        });
        assert!(report.outcome <= Outcome::Changed, "{:?}", report.problems);
        rounds += 1;
        changed += u32::from(report.outcome == Outcome::Changed);
        let stored = &world.files(report.snapshot.unwrap())["/log"];
        let now = fs::read(&log).unwrap();
        assert!(stored.len() >= content.len() && now.starts_with(stored), "what is stored was never there");
    }
    println!("a growing log: {changed} of {rounds} backups say that it changed while it was read");
    assert!(changed > 0);
}

#[test]
fn files_that_vanish_are_a_note_and_the_rest_is_stored() {
    let world = World::new();
    for number in 0..3_000 {
        world.write(&format!("{:02}/{number}", number % 40), format!("{number}").as_bytes());
        world.write(&format!("stays/{number}"), b"stays");
    }
    let stop = AtomicBool::new(false);
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in (0..3_000).rev() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let _ = fs::remove_file(world.tree.join(format!("{:02}/{number}", number % 40)));
            }
        });
        let report = world.backup();
        stop.store(true, Ordering::SeqCst);
        report
    });
    assert!(report.outcome <= Outcome::Changed, "{:?}", report.problems);
    for problem in &report.problems {
        assert!(matches!(problem.kind, ProblemKind::Vanished | ProblemKind::Changed), "{problem:?}");
    }
    let files = world.files(report.snapshot.unwrap());
    assert_eq!(files.keys().filter(|path| path.starts_with("/stays/")).count(), 3_000);
    for (path, content) in files.iter().filter(|(path, _)| !path.starts_with("/stays/")) {
        assert_eq!(path.rsplit('/').next().unwrap().as_bytes(), content.as_slice(), "half of a file");
    }
    println!("vanishing files: {} stored, {} named as problems", files.len(), report.problem_count);
}

/// Stores a letter through a shared mapping for each line that it reads, and says when it is done.
const MAPPER: &str = "
import mmap, sys
with open(sys.argv[1], 'r+b') as file:
    mapping = mmap.mmap(file.fileno(), 0)
    for line in sys.stdin:
        mapping[100] = ord(line[0])
        print('stored', flush=True)
";

fn second_store_is_in_the_next_backup(name: &str, folder: &Path, length: usize) {
    let world = World::within(folder);
    world.write("mapped", &vec![b'.'; length]);
    let mut child = match Command::new("python3")
        .args(["-c", MAPPER])
        .arg(world.tree.join("mapped"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(error) => return skipped(name, &format!("no python3 to store through a mapping: {error}")),
    };
    let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut store = |letter: char| {
        writeln!(input, "{letter}").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "stored\n");
    };
    let letter = |report: &packstone::ops::backup::Report| world.files(report.snapshot.unwrap())["/mapped"][100];
    store('1');
    assert_eq!(letter(&world.backup()), b'1');
    let was = fs::metadata(world.tree.join("mapped")).unwrap();
    for wanted in [b'2', b'3', b'4'] {
        store(wanted as char);
        let is = fs::metadata(world.tree.join("mapped")).unwrap();
        let silent = (was.mtime(), was.mtime_nsec()) == (is.mtime(), is.mtime_nsec());
        assert_eq!(letter(&world.backup()), wanted, "{name}: a store through a mapping was missed");
        println!("{name}: noticed{}", if silent { ", though no timestamp had moved" } else { "" });
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

/// Story: see `files::read`: a store into a page that is dirty already moves no timestamp.
#[test]
fn a_store_through_a_mapping_into_a_dirty_page_is_in_the_next_backup() {
    for length in [8_192, 3 << 20] {
        second_store_is_in_the_next_backup(&format!("temporary folder, {length} bytes"), &std::env::temp_dir(), length);
        let shm = Path::new("/dev/shm");
        if shm.is_dir() {
            second_store_is_in_the_next_backup(&format!("tmpfs, {length} bytes"), shm, length);
        } else {
            skipped("tmpfs", "there is no /dev/shm");
        }
    }
}
