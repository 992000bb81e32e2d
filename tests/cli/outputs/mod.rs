//! Everything that every command prints, as it is: one page a command, with its usual and its failing forms. A changed word is seen as
//! a change.

mod forgetting;
mod keys;
mod looking;
mod mirrors;
mod redaction;
mod repairing;
mod restoring;
mod storing;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, Timespec, Timestamps};

use super::Ran;
use super::support::{World, snapshot_id};
use redaction::Redaction;

/// What one command prints, form after form.
struct Page {
    name: &'static str,
    text: String,
    redaction: Redaction,
}

impl Page {
    fn new(name: &'static str) -> Self {
        Self { name, text: String::new(), redaction: Redaction::new() }
    }

    /// Says what has happened before the forms that follow.
    fn title(&mut self, text: &str) {
        self.text.push_str(&format!("######## {text}\n\n"));
    }

    /// Runs the program with the world's key file, and adds what it did.
    fn run(&mut self, world: &World, words: &[&str]) -> Ran {
        self.add(world, &mut world.command(words))
    }

    /// The same without a secret.
    fn bare(&mut self, world: &World, words: &[&str]) -> Ran {
        self.add(world, &mut world.bare(words))
    }

    /// The same with lines that begin so, and come in another order each time: ordered by what they say without any id.
    fn unordered(&mut self, world: &World, words: &[&str], start: &str) -> Ran {
        let ran: Ran = fixed(world, &mut world.command(words)).output().unwrap().into();
        let [out, err] = [&ran.out, &ran.err].map(|text| self.ordered(world, text, start));
        let ordered = Ran { code: ran.code, out, err };
        self.show(world, words, &ordered);
        ran
    }

    fn ordered(&self, world: &World, text: &str, start: &str) -> String {
        let nameless = |line: &str| {
            let mut redaction = self.redaction.clone();
            redaction.forget_names();
            redaction.redact(world, line)
        };
        let mut lines: Vec<&str> = text.lines().collect();
        let is_row = |line: &&str| nameless(line).trim_start_matches([' ', '*']).starts_with(start);
        for rows in lines.chunk_by_mut(|one, other| is_row(one) && is_row(other)) {
            rows.sort_by_cached_key(|line| nameless(line));
        }
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// A form that only looks: as it is, as JSON, with less and with more words. What says the same as the first is only said to.
    fn forms(&mut self, world: &World, words: &[&str]) {
        let plain = self.run(world, words);
        for option in ["--json", "--quiet", "-v"] {
            let words = [words, &[option]].concat();
            let ran: Ran = fixed(world, &mut world.command(&words)).output().unwrap().into();
            let same = {
                let shown = |ran: &Ran| {
                    let mut redaction = self.redaction.clone();
                    (ran.code, redaction.redact(world, &ran.out), redaction.redact(world, &ran.err))
                };
                shown(&ran) == shown(&plain)
            };
            if same {
                let line = self.typed(world, &words);
                self.text.push_str(&format!("$ {line}\nthe same\n\n"));
            } else {
                self.show(world, &words, &ran);
            }
        }
    }

    /// What every command does that needs a repository and its key: none is there, the key is another one, there is no key. `words` would
    /// succeed.
    fn refusals(&mut self, world: &World, words: &[&str]) {
        self.no_repository(world, words);
        self.run(world, &[words, &["--json", "--key-file", "other-key"]].concat());
        self.run(world, &[words, &["--key-file", "other-key"]].concat());
        self.run(world, &[words, &["--key-file", "no-key"]].concat());
        self.bare(world, words);
    }

    /// What every command does that needs a repository.
    fn no_repository(&mut self, world: &World, words: &[&str]) {
        self.run(world, &[words, &["-r", "nowhere"]].concat());
        self.run(world, &[words, &["-r", "nowhere", "--json"]].concat());
    }

    /// What a command does that must wait for another process.
    fn locked(&mut self, world: &World, words: &[&str]) {
        let held = hold(&world.repository().join("lock/writer"));
        self.run(world, &[words, &["--retry-lock", "0"]].concat());
        self.run(world, &[words, &["--retry-lock", "0", "--json"]].concat());
        drop(held);
    }

    fn add(&mut self, world: &World, command: &mut Command) -> Ran {
        let ran: Ran = fixed(world, command).output().unwrap().into();
        let words: Vec<String> = command.get_args().map(|word| word.to_str().unwrap().to_owned()).collect();
        self.show(world, &words.iter().map(String::as_str).collect::<Vec<_>>(), &ran);
        ran
    }

    fn typed(&mut self, world: &World, words: &[&str]) -> String {
        let quoted = words.iter().map(|word| {
            let is_plain = !word.is_empty() && !word.contains([' ', '*', '\'', '"', '\\', '\n', '#', '$', '?']);
            if is_plain { format!(" {word}") } else { format!(" '{word}'") }
        });
        let line = format!("packstone{}", quoted.collect::<String>());
        self.redaction.redact(world, &line)
    }

    fn show(&mut self, world: &World, words: &[&str], ran: &Ran) {
        let line = self.typed(world, words);
        let code = ran.code.map_or("by a signal".to_owned(), |code| code.to_string());
        self.text.push_str(&format!("$ {line}\nexit {code}\n"));
        for (name, text) in [("standard output", &ran.out), ("standard error", &ran.err)] {
            if text.is_empty() {
                continue;
            }
            let shown = self.redaction.redact(world, text);
            let end = if shown.ends_with('\n') { "" } else { "<no line end>\n" };
            self.text.push_str(&format!("-- {name}\n{shown}{end}"));
        }
        self.text.push('\n');
    }

    /// Adds a file that the program has written.
    fn file(&mut self, world: &World, name: &str) {
        let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
        // An address goes over several lines when it is as long as the worlds' are.
        let text = fs::read_to_string(world.path(name)).unwrap().replace("'\n       M1=$M1'", "");
        let text = text.replace(&format!(", on {host}, by"), ", on <this machine>, by");
        let text = text.replace(concat!("version ", env!("CARGO_PKG_VERSION"), " or"), "version <version> or");
        let shown = self.redaction.redact(world, &text);
        let is_picture = |line: &str| line.contains(['█', '▀', '▄']);
        let shown: String = shown
            .lines()
            .map(|line| format!("{}\n", if is_picture(line) { "<a line of the picture>" } else { line }))
            .collect();
        self.text.push_str(&format!("-- the file {name}\n{shown}\n"));
    }

    /// Runs the program, and adds a digest of a long output that is made from the reference, which is a page of its own.
    fn long(&mut self, world: &World, words: &[&str]) {
        let ran: Ran = fixed(world, &mut world.bare(words)).output().unwrap().into();
        let line = self.typed(world, words);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{line}");
        self.digest(&format!("$ {line}"), ran.out.as_bytes());
    }

    fn digest(&mut self, name: &str, text: &[u8]) {
        let text = String::from_utf8_lossy(text).replace(env!("CARGO_PKG_VERSION"), "<version>");
        let lines = text.lines().count();
        let digest = blake3::hash(text.as_bytes()).to_hex();
        self.text.push_str(&format!("{name}\n<{lines} lines, BLAKE3 {digest}>\n\n"));
    }

    /// Compares the page with the one of before.
    fn end(self) {
        Redaction::assert_no_path_of_this_machine(&self.text);
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(self.name, self.text);
        });
    }
}

/// Sets what could differ between two machines.
fn fixed<'a>(world: &World, command: &'a mut Command) -> &'a mut Command {
    command.env("LANG", "C.UTF-8").env("TMPDIR", world.path("."))
}

/// Holds a lock as another process would.
fn hold(path: &Path) -> OwnedFd {
    let file = rustix::fs::openat(CWD, path, OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    let file = file.unwrap();
    rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
    file
}

/// 2024-03-01 12:00:00 UTC.
const MODIFIED: i64 = 1_709_294_400;

/// Gives everything beneath a path the same modes and times on every machine.
fn settle_all(path: &Path) {
    let kind = fs::symlink_metadata(path).unwrap().file_type();
    if kind.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            settle_all(&entry.unwrap().path());
        }
    }
    if !kind.is_symlink() {
        let mode = if kind.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let time = Timespec { tv_sec: MODIFIED, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// The same; and waits until a backup can tell that nothing has changed since: see `files::read`.
fn settle(path: &Path) {
    settle_all(path);
    std::thread::sleep(Duration::from_millis(100));
}

/// An empty world, whose path is as long as that of every other one: tables are as wide as the paths in them.
fn nothing() -> World {
    const LENGTH: usize = 100;
    const RANDOM: usize = 6;
    let beneath = std::env::temp_dir().canonicalize().unwrap();
    let left = LENGTH.checked_sub(beneath.as_os_str().len() + 1 + RANDOM).expect("TMPDIR is too long for these tests");
    let root = tempfile::Builder::new().prefix(&"w".repeat(left)).rand_bytes(RANDOM).tempdir_in(beneath).unwrap();
    World::at(root)
}

/// An empty repository with a key file, and a key file that does not open it.
fn empty() -> World {
    let world = nothing();
    world.make_repository();
    world.ok(&["-r", "other", "init", "--new-key-file", "other-key"]);
    world
}

/// A tree of a few files.
fn tree(world: &World) {
    world.write("letters/one.txt", "dear one\n".repeat(500));
    world.write("letters/two.txt", "dear two\n".repeat(300));
    world.write("notes.md", "note\n".repeat(100));
    world.write("empty", "");
    std::os::unix::fs::symlink("notes.md", world.tree().join("link")).unwrap();
    settle(&world.tree());
}

/// The same tree on the next day: one file changed, one new, one gone.
fn next_day(world: &World) {
    world.write("notes.md", "other note\n".repeat(120));
    world.write("letters/three.txt", "dear three\n".repeat(400));
    fs::remove_file(world.tree().join("letters/two.txt")).unwrap();
    settle(&world.tree());
}

/// Stores the tree as on a day of May 2024.
fn backup(world: &World, day: u8, more: &[&str]) -> String {
    backup_of("box", world, day, more)
}

/// The same on another machine.
fn backup_of(host: &str, world: &World, day: u8, more: &[&str]) -> String {
    let time = format!("2024-05-{day:02} 10:00:00");
    let words = [&["backup", "--json", "--host", host, "--time", &time, "tree"], more].concat();
    let ran: Ran = fixed(world, &mut world.command(&words)).output().unwrap().into();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    snapshot_id(&ran)
}

/// A repository with one snapshot.
fn one() -> (World, String) {
    let world = empty();
    tree(&world);
    let id = backup(&world, 1, &["--tag", "spring,home", "--label", "before the move"]);
    (world, id)
}

/// A repository with two snapshots.
fn two() -> (World, [String; 2]) {
    let (world, first) = one();
    next_day(&world);
    let second = backup(&world, 2, &[]);
    (world, [first, second])
}

/// A repository with one snapshot, and with a mirror in a directory that is up to date.
fn mirrored() -> (World, String) {
    let (world, id) = one();
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    world.ok(&["sync"]);
    (world, id)
}

/// A directory of the world becomes what it was before something was done.
fn set_back(world: &World, name: &str, done: impl FnOnce()) {
    let before = world.path("before");
    assert!(Command::new("cp").arg("-a").args([&world.path(name), &before]).status().unwrap().success());
    done();
    fs::remove_dir_all(world.path(name)).unwrap();
    fs::rename(before, world.path(name)).unwrap();
}
