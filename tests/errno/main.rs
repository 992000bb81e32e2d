//! Every system call below the repository, the state, the cache and a mirror's directory fails once, with one error of each
//! class, under every command: the exit code and the sentence belong to the class, and nothing is remembered that is not so.
//!
//! A command is run once under `strace` to see which of its calls touch what is packstone's. Then it is run again for each of
//! them, and strace makes that call fail. strace counts calls thread by thread, so that the n-th call of several threads may
//! fail in one run. Afterwards, without any failure, `sync` and `check` must end with 0: what passed has left nothing behind.
//!
//! The short form takes a sample of the cases, `PACKSTONE_FULL=1` all of them: on a file system in memory (`TMPDIR=/dev/shm`) that ends within
//! three hours. "N of N" is printed, and how many cases there are; `PACKSTONE_ERRNO_COMMAND` names one command of which all are tried.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls that open, look, read, list, make, write, rename, link, lock and remove.
const CALLS: [&str; 20] = [
    "openat",
    "newfstatat",
    "statx",
    "fstat",
    "fstatfs",
    "read",
    "pread64",
    "getdents64",
    "flock",
    "fcntl",
    "mkdirat",
    "write",
    "pwrite64",
    "fchmod",
    "fsync",
    "ftruncate",
    "renameat2",
    "rename",
    "linkat",
    "unlinkat",
];

/// One error of each class, what it is called, and the exit codes that belong to it beside those of the command itself.
struct Class {
    errno: &'static str,
    /// The system's word for it. A failure says it.
    word: &'static str,
    codes: &'static [i32],
    /// It says something of the object: that is not there, or something else. Then it may be called missing or damaged.
    is_about_object: bool,
}

const CLASSES: [Class; 7] = [
    Class { errno: "EMFILE", word: "Too many open files", codes: &[1], is_about_object: false },
    Class { errno: "ENOMEM", word: "annot allocate memory", codes: &[1], is_about_object: false },
    Class { errno: "EACCES", word: "Permission denied", codes: &[1], is_about_object: false },
    Class { errno: "EIO", word: "Input/output error", codes: &[1], is_about_object: false },
    Class { errno: "EINTR", word: "Interrupted system call", codes: &[1], is_about_object: false },
    Class { errno: "ENOENT", word: "", codes: &[1, 10, 13, 14, 17, 18], is_about_object: true },
    Class { errno: "ELOOP", word: "", codes: &[1, 10, 13, 14, 17, 18], is_about_object: true },
];

/// Commands by name. Each begins with the world as it was made. `@name` is a path in it.
const COMMANDS: [(&str, &[&str]); 30] = [
    ("check", &["check"]),
    ("check data", &["check", "--read-data"]),
    ("check mirror", &["check", "--mirror", "m"]),
    ("restore", &["restore", "latest", "--target", "out"]),
    ("restore again", &["restore", "latest", "--target", "there", "--delete", "--verify"]),
    ("restore from mirror", &["restore", "latest", "--target", "out", "--from", "m"]),
    ("dump", &["dump", "latest", "tree/noise"]),
    ("ls", &["ls", "latest"]),
    ("find", &["find", "file"]),
    ("snapshots", &["snapshots"]),
    ("show", &["show", "latest"]),
    ("diff", &["diff", "latest~1", "latest"]),
    ("stats", &["stats"]),
    ("status", &["status"]),
    ("backup", &["backup", "tree"]),
    ("tag", &["tag", "--add", "x", "latest"]),
    ("forget", &["forget", "--keep-last", "1"]),
    ("prune", &["prune", "--instant", "--max-unused", "0"]),
    ("undelete", &["undelete"]),
    ("rewrite", &["rewrite", "--exclude", "noise"]),
    ("key list", &["key", "list"]),
    ("key add", &["key", "add", "--new-key-file", "another"]),
    ("mirror list", &["mirror", "list"]),
    ("mirror add", &["mirror", "add", "n", "@other"]),
    ("sync", &["sync"]),
    ("drill", &["drill", "m"]),
    ("recover", &["recover", "@mirror", "--to", "recovered"]),
    ("repair index", &["repair", "index", "--read-all-packs"]),
    ("repair objects", &["repair", "objects"]),
    ("repair packs", &["repair", "packs"]),
];

/// Cases of the short form.
const SAMPLE: usize = 120;

struct World {
    root: tempfile::TempDir,
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn set(&self, command: &mut Command) {
        command
            .env_clear()
            .env("HOME", self.path("home"))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("PACKSTONE_REPOSITORY", self.path("repository"))
            .env("PACKSTONE_KEY_FILE", self.path("key"))
            .env("TZ", "UTC")
            .current_dir(self.root.path());
    }

    fn word(&self, word: &str) -> String {
        word.strip_prefix('@').map_or_else(|| word.to_owned(), |name| self.path(name).to_str().unwrap().to_owned())
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packstone"));
        self.set(command.args(words.iter().map(|word| self.word(word))));
        command.output().unwrap()
    }

    fn ok(&self, words: &[&str]) {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}\n{}", text(&output));
    }

    /// Under strace with these options of its own.
    fn traced(&self, options: &[&str], words: &[&str]) -> Output {
        let mut command = Command::new("strace");
        command.arg("-f").args(options).arg(env!("CARGO_BIN_EXE_packstone"));
        command.args(words.iter().map(|word| self.word(word)));
        self.set(&mut command);
        command.output().unwrap()
    }

    /// Two snapshots and one that was forgotten, a mirror that is whole, and a target with what the first one holds.
    fn new() -> Self {
        let world = Self { root: tempfile::tempdir().unwrap() };
        for name in ["home", "tree", "tree/inner"] {
            fs::create_dir(world.path(name)).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_packstone"));
        world.set(command.args(["init", "--new-key-file", "key"]));
        let output = command.env_remove("PACKSTONE_KEY_FILE").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        for number in 0..4 {
            fs::write(world.path("tree/inner").join(format!("file{number}")), format!("{number}").repeat(999)).unwrap();
        }
        let mut noise = vec![0; 300_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        fs::write(world.path("tree/noise"), &noise).unwrap();
        world.ok(&["backup", "tree"]);
        world.ok(&["restore", "latest", "--target", "there"]);
        fs::write(world.path("tree/inner/file9"), "nine").unwrap();
        world.ok(&["backup", "tree"]);
        world.ok(&["mirror", "add", "m", world.path("mirror").to_str().unwrap()]);
        world.ok(&["sync"]);
        fs::write(world.path("tree/inner/file8"), "eight").unwrap();
        world.ok(&["backup", "tree"]);
        world.ok(&["forget", "latest~1"]);
        world.ok(&["sync"]);
        fs::write(world.path("tree/inner/file7"), "seven").unwrap();
        world
    }

    /// Another one with the same in it, under the same path.
    fn put_back(&self, template: &Path) {
        for entry in fs::read_dir(self.root.path()).unwrap().flatten() {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        }
        let from = template.join(".");
        assert!(Command::new("cp").arg("-a").arg(from).arg(self.root.path()).status().unwrap().success());
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Which calls of a command touch what is packstone's: by call, its number in its thread.
fn calls(world: &World, words: &[&str]) -> (i32, BTreeMap<&'static str, BTreeSet<u32>>) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let filter = format!("trace={}", CALLS.join(","));
    let output = world.traced(&["-y", "-o", log.path().to_str().unwrap(), "-e", &filter], words);
    let ours = world.root.path().to_str().unwrap();
    let (mut counts, mut found) = (BTreeMap::new(), BTreeMap::new());
    for line in String::from_utf8_lossy(&fs::read(log.path()).unwrap()).lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let name = rest.trim_start().split('(').next().unwrap_or_default();
        let Some(call) = CALLS.iter().find(|call| **call == name) else { continue };
        let count: &mut u32 = counts.entry((thread.to_owned(), *call)).or_default();
        *count += 1;
        // What a source or a target does is another matter.
        let is_beside = ["tree", "out", "there"].iter().any(|name| rest.contains(&format!("{ours}/{name}")));
        if rest.contains(ours) && !is_beside {
            found.entry(*call).or_insert_with(BTreeSet::new).insert(*count);
        }
    }
    (output.status.code().unwrap(), found)
}

struct Case {
    command: usize,
    call: &'static str,
    number: u32,
    class: usize,
}

/// What is wrong with how a command ended, if anything; none when the failure hit the start of the process.
fn judge(world: &World, case: &Case, base: i32) -> Option<Vec<String>> {
    let (name, words) = COMMANDS[case.command];
    let class = &CLASSES[case.class];
    let rule = format!("inject={}:error={}:when={}", case.call, class.errno, case.number);
    // Only this call stops the process, and not every other one too.
    let filter = format!("trace={}", case.call);
    let output = world.traced(&["--seccomp-bpf", "-o", "/dev/null", "-e", &filter, "-e", &rule], words);
    let said = text(&output);
    if said.contains("error while loading shared libraries") {
        return None;
    }
    let mut wrong = Vec::new();
    let code = output.status.code();
    let is_source = name == "backup" && code == Some(3);
    // It brought nothing back, or could not be held, and says why.
    let is_proof =
        name == "drill" && matches!(code, Some(19 | 21)) && said.to_lowercase().contains(&class.word.to_lowercase());
    // It says what is wrong, and goes on.
    let is_status = name == "status" && code == Some(18) && said.contains(class.word);
    // What its newest state needs is not there, so the mirror shows the state before; this machine knows of the newer one, and says so.
    let is_older = name == "recover" && code == Some(15) && class.is_about_object && said.contains("is not whole");
    let is_expected = code.is_some_and(|code| code == 0 || code == base || class.codes.contains(&code));
    if !is_expected && !is_source && !is_proof && !is_status && !is_older {
        wrong.push(format!("exit code {code:?}"));
    }
    for word in ["panicked", "wrong passphrase"] {
        if said.contains(word) {
            wrong.push(format!("says \"{word}\""));
        }
    }
    if !class.is_about_object {
        for word in ["damaged: ", "missing: ", "the mirror was set back", "no repository at"] {
            if said.contains(word) {
                wrong.push(format!("says \"{word}\""));
            }
        }
        // SQLite does not hand on what the system said: it has words of its own.
        let is_of_list = said.contains("the list of mirrors");
        // Each thread counts its own calls: what the command wrote failed, and so did the message about it.
        let is_unheard = case.call == "write" && !said.contains("Error: ");
        if code == Some(1) && !is_unheard && !said.to_lowercase().contains(&class.word.to_lowercase()) && !is_of_list {
            wrong.push("does not say why".to_owned());
        }
    }
    for after in [["sync"].as_slice(), &["check"]] {
        let output = world.run(after);
        if output.status.code() != Some(0) {
            wrong.push(format!("{after:?} afterwards: {}", text(&output)));
        }
    }
    if !wrong.is_empty() {
        wrong.push(format!("it said: {}", said.trim()));
    }
    Some(wrong)
}

/// A world and its copy, for one thread.
struct Bench {
    world: World,
    template: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let world = World::new();
        let template = tempfile::tempdir().unwrap();
        let from = world.root.path().join(".");
        assert!(Command::new("cp").arg("-a").arg(from).arg(template.path()).status().unwrap().success());
        Self { world, template }
    }
}

#[test]
fn a_failing_call_is_what_it_is_and_leaves_nothing_behind() {
    let probe = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED errno: strace is missing, or nothing may be traced here");
        return;
    }
    let first = Bench::new();
    let only = std::env::var("PACKSTONE_ERRNO_COMMAND").ok();
    let (mut cases, mut bases) = (Vec::new(), Vec::new());
    for (command, (name, words)) in COMMANDS.iter().enumerate() {
        first.world.put_back(first.template.path());
        let (base, calls) = calls(&first.world, words);
        bases.push(base);
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        assert!(base == 0 || base == 18, "{name} ends with {base}");
        for (call, numbers) in calls {
            for number in numbers {
                cases.extend((0..CLASSES.len()).map(|class| Case { command, call, number, class }));
            }
        }
    }
    let all = cases.len();
    let is_full = std::env::var_os("PACKSTONE_FULL").is_some();
    let wanted = if is_full { all } else { SAMPLE };
    let step = all.div_ceil(wanted).max(1);
    // Not a multiple of the number of classes: each comes to every call in its turn.
    let step = if step > 1 && step % CLASSES.len() == 0 { step + 1 } else { step };
    let chosen: Vec<&Case> = cases.iter().step_by(step).collect();
    let queue = Mutex::new(chosen.iter());
    let (tried, hit_the_start, faults) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let work = |bench: Bench| {
        loop {
            let Some(case) = queue.lock().unwrap().next() else { return };
            bench.world.put_back(bench.template.path());
            if tried.fetch_add(1, Ordering::Relaxed) % 1_000 == 999 {
                println!("errno: {tried:?} of {} so far, {faults:?} faults", chosen.len());
            }
            match judge(&bench.world, case, bases[case.command]) {
                None => drop(hit_the_start.fetch_add(1, Ordering::Relaxed)),
                Some(wrong) if wrong.is_empty() => {}
                Some(wrong) => {
                    let Case { command, call, number, class } = case;
                    println!("{}, {call} {number}, {}: {wrong:#?}", COMMANDS[*command].0, CLASSES[*class].errno);
                    faults.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let work = &work;
        scope.spawn(move || work(first));
        scope.spawn(|| work(Bench::new()));
    });
    let [tried, hit_the_start, faults] = [tried, hit_the_start, faults].map(AtomicUsize::into_inner);
    let right = tried - faults;
    println!("errno: {right} of {tried} cases ({all} there are; {hit_the_start} before the program began)");
    assert_eq!(faults, 0);
}
