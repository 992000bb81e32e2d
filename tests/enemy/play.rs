//! One round: the enemy prepares, root restores, the enemy writes, the judge looks.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::judge::{self, Inodes, Tree};
use super::{ENEMY, Noise, source};

const PROTECTED: &str = "/proc/sys/fs/protected_hardlinks";
/// A restore that takes longer hangs: this is no measure of speed.
const PATIENCE: Duration = Duration::from_secs(120);

/// The system's setting, put back in the end.
pub struct Protected(String);

impl Protected {
    pub fn remember() -> Result<Self, String> {
        let now = fs::read_to_string(PROTECTED).map_err(|error| format!("{PROTECTED}: {error}"))?;
        fs::write(PROTECTED, now.trim()).map_err(|error| format!("{PROTECTED}: {error}"))?;
        Ok(Self(now.trim().to_owned()))
    }

    pub fn set(&self, on: bool) {
        fs::write(PROTECTED, if on { "1" } else { "0" }).unwrap();
    }
}

impl Drop for Protected {
    fn drop(&mut self) {
        let _ = fs::write(PROTECTED, &self.0);
    }
}

/// What is the same for all rounds.
pub struct Stage {
    folder: tempfile::TempDir,
    /// Directories of the enemy, directories of root: id and tree of each snapshot.
    snapshots: Vec<(String, Tree)>,
    canary: Tree,
    canaries: Inodes,
    fuse: bool,
}

impl Stage {
    pub fn new() -> Result<Self, String> {
        if !rustix::process::getuid().is_root() {
            return Err("it needs root".to_owned());
        }
        for (program, word) in [("python3", "--version"), ("setfacl", "--version")] {
            let ran = ordinary(program).arg(word).stdout(Stdio::null()).stderr(Stdio::null()).status();
            ran.map_err(|error| format!("it needs {program} ({error})"))?;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/enemy/enemy.py"), folder.path().join("enemy.py")).unwrap();
        let mut stage =
            Self { folder, snapshots: Vec::new(), canary: Tree::new(), canaries: Inodes::new(), fuse: false };
        fs::create_dir(stage.path("home")).unwrap();
        fs::set_permissions(stage.path("home"), fs::Permissions::from_mode(0o700)).unwrap();
        let (code, text) = stage.run(&["init", "--new-key-file", "key"]);
        assert_eq!(code, "exit code 0", "{text}");
        for (name, owner) in [("his", ENEMY), ("of-root", 0)] {
            let tree = stage.path(name);
            source::make(&tree, owner);
            let (code, text) = stage.run(&["backup", "--json", tree.to_str().unwrap()]);
            assert_eq!(code, "exit code 0", "{text}");
            let summary = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let summary = summary.into_iter().rfind(|line| line["message_type"] == "summary").unwrap();
            let id = format!("{}:{}", summary["snapshot_id"].as_str().unwrap(), tree.display());
            stage.copies(&tree, &stage.path("copies").join(name));
            stage.snapshots.push((id, judge::look(&tree)));
        }
        source::canaries(&stage.path("canary"));
        stage.canary = judge::look(&stage.path("canary"));
        stage.canaries = judge::inodes(&stage.path("canary"));
        let opened = ordinary("python3")
            .args(["-c", "import os; os.open('/dev/fuse', os.O_RDWR)"])
            .stderr(Stdio::null())
            .status();
        let bindfs = ordinary("bindfs").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        stage.fuse = opened.is_ok_and(|status| status.success()) && bindfs.is_ok_and(|status| status.success());
        if !stage.fuse {
            println!(
                "SKIPPED an enemy who mounts in the target: it needs bindfs, and a /dev/fuse that user {ENEMY} may open"
            );
        }
        Ok(stage)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the enemy knows of the snapshot: the bytes.
    fn copies(&self, tree: &Path, to: &Path) {
        for (path, facts) in judge::look(tree).iter().filter(|(_, facts)| facts.kind == "file") {
            let to = to.join(path);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(&to, &facts.content).unwrap();
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packstone"));
        command.args(words).env_clear().current_dir(self.path("home")).env("HOME", self.path("home")).env("TZ", "UTC");
        command.env("PACKSTONE_REPOSITORY", self.path("home/repository")).stdin(Stdio::null());
        if words[0] != "init" {
            command.env("PACKSTONE_KEY_FILE", self.path("home/key"));
        }
        command
    }

    /// How it ended, and all that it said.
    fn run(&self, words: &[&str]) -> (String, String) {
        let log = self.path("home/log");
        let file = fs::File::create(&log).unwrap();
        let mut child = self.command(words).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let begun = Instant::now();
        let code = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status.code().map_or_else(|| format!("{status}"), |code| format!("exit code {code}"));
            }
            if begun.elapsed() > PATIENCE {
                child.kill().unwrap();
                child.wait().unwrap();
                break "it hangs".to_owned();
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        (code, String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned())
    }
}

/// A program run by the enemy.
fn ordinary(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").uid(ENEMY).gid(ENEMY);
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// What is played.
#[derive(Debug)]
pub struct Round {
    seed: u64,
    pub protected: bool,
    /// Whose the directories of the snapshot are: the enemy's, or root's.
    snapshot: usize,
    /// Whose the target is, and its mode.
    target: Option<(u32, u32)>,
    overwrite: &'static str,
    delete: bool,
    verify: bool,
    /// What the enemy does during the restore: nothing, when he waits for its end.
    parts: Vec<&'static str>,
    /// What he puts there before it.
    kinds: Vec<&'static str>,
    mount: bool,
    /// The same restore again, over what the enemy has made of the first.
    again: bool,
}

const KINDS: [&str; 12] = [
    "right",
    "right, other time",
    "wrong, right time and size",
    "right, linked",
    "right, with rights for the enemy",
    "right, elsewhere",
    "link out",
    "hard link out",
    "pipe",
    "twice in the target",
    "half",
    "right, and nobody else may open it",
];

impl Round {
    pub fn choose(number: usize, noise: &mut Noise) -> Self {
        let overwrite = ["always", "if-changed", "always", "if-newer", "if-changed", "never"][number % 6];
        let parts = match number % 3 {
            0 => Vec::new(),
            _ => ["swap", "grab", "temporary", "tear", "trap"].into_iter().filter(|_| noise.chance(55)).collect(),
        };
        // Where he waits there are mostly files whose bytes are right; otherwise everything.
        let mut kinds: Vec<&str> = KINDS[..5].to_vec();
        if noise.chance(60) {
            kinds.extend(&KINDS[5..]);
        }
        let delete = noise.chance(50);
        if delete && noise.chance(50) {
            kinds.push("directory");
        }
        Self {
            seed: noise.next(),
            protected: (number / 6).is_multiple_of(2),
            snapshot: noise.next() as usize % 2,
            target: *noise.choose(&[
                Some((ENEMY, 0o755)),
                Some((ENEMY, 0o777)),
                Some((0, 0o777)),
                Some((0, 0o1777)),
                None,
            ]),
            overwrite,
            delete,
            verify: noise.chance(30),
            parts,
            kinds,
            mount: noise.chance(15),
            again: noise.chance(30),
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = ["the enemy's", "root's"][self.snapshot];
        write!(f, "--overwrite {}", self.overwrite)?;
        if self.delete {
            f.write_str(" --delete")?;
        }
        if self.verify {
            f.write_str(" --verify")?;
        }
        write!(
            f,
            "; directories are {whose}, target {}, protected_hardlinks {}",
            self.target.map_or_else(|| "missing".to_owned(), |(owner, mode)| format!("{mode:o} of {owner}")),
            u8::from(self.protected)
        )?;
        write!(f, "; during it: {}", if self.parts.is_empty() { "nothing".to_owned() } else { self.parts.join(", ") })?;
        if self.mount { f.write_str("; he mounts") } else { Ok(()) }
    }
}

/// What came of it.
pub struct Told {
    pub exits: Vec<String>,
    pub faults: Vec<String>,
    /// Restores that were compared with the snapshot.
    pub compared: usize,
    pub temporary: usize,
}

struct Enemy {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Enemy {
    fn start(script: &Path, plan: &Path) -> Self {
        let mut command = ordinary("python3");
        command.arg("-B").arg(script).arg(plan).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from }
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.to, "{word}").unwrap();
        let mut answer = String::new();
        self.from.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n", "the enemy is broken");
    }
}

impl Drop for Enemy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn play(stage: &Stage, round: &Round) -> Told {
    let arena = stage.path("arena");
    let (target, stash) = (arena.join("target"), arena.join("stash"));
    fs::create_dir(&arena).unwrap();
    chown(&arena, Some(ENEMY), Some(ENEMY)).unwrap();
    if let Some((owner, mode)) = round.target {
        fs::create_dir(&target).unwrap();
        chown(&target, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(mode)).unwrap();
    }
    let (_, snapshot) = &stage.snapshots[round.snapshot];
    let plan = stage.path("plan");
    fs::write(&plan, describe(stage, round, snapshot, &target, &stash)).unwrap();
    let mut enemy = Enemy::start(&stage.path("enemy.py"), &plan);
    enemy.tell("prepare");
    let mut told = Told { exits: Vec::new(), faults: Vec::new(), compared: 0, temporary: 0 };
    for turn in 0..=usize::from(round.again) {
        restore(stage, round, &mut enemy, turn, &mut told);
    }
    drop(enemy);
    fs::remove_dir_all(&arena).unwrap();
    told
}

/// Root restores, the enemy writes, the judge looks.
fn restore(stage: &Stage, round: &Round, enemy: &mut Enemy, turn: usize, told: &mut Told) {
    let arena = stage.path("arena");
    let target = arena.join("target");
    let (id, snapshot) = &stage.snapshots[round.snapshot];
    let before = judge::look(&target);
    let still = round.parts.is_empty();
    enemy.tell("lease");
    if !still {
        enemy.tell("race");
    }
    let mut words = vec!["restore", id, "--target", target.to_str().unwrap(), "--overwrite", round.overwrite];
    words.extend(round.delete.then_some("--delete"));
    words.extend(round.verify.then_some("--verify"));
    let (exit, text) = stage.run(&words);
    enemy.tell("release");
    let after = judge::look(&target);
    let is_mounted = fs::read_to_string("/proc/self/mounts").unwrap().contains(arena.to_str().unwrap());
    for word in ["stop", "late", "away"] {
        enemy.tell(word);
    }
    unmount(&arena);
    let success = exit == "exit code 0";
    let mut faults = Vec::new();
    if !success && exit != "exit code 1" {
        faults.push(format!("{exit}: {}", tail(&text)));
    }
    faults.extend(judge::guarded(&arena, snapshot, &stage.canaries, turn));
    let outside = judge::differences(&stage.canary, &judge::look(&stage.path("canary")), true, |_| true);
    if !outside.is_empty() {
        remake(stage);
    }
    faults.extend(outside.into_iter().map(|fault| format!("OUTSIDE the target: {fault}")));
    let temporary = judge::temporary(&after).saturating_sub(judge::temporary(&before));
    if still && temporary > 0 && !is_mounted {
        faults.push(format!("{temporary} temporary names are left, and nobody was in the way"));
    } else {
        told.temporary += temporary;
    }
    if still && success && !is_mounted {
        told.compared += 1;
        faults.extend(compare(round, snapshot, &before, &after));
    }
    let name = ["", "again, "][turn];
    told.faults.extend(faults.into_iter().map(|fault| format!("{name}{exit}: {fault}")));
    told.exits.push(exit);
}

/// What the enemy has mounted and could not unmount any more.
fn unmount(arena: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    for at in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|at| Path::new(at).starts_with(arena)) {
        let status = Command::new("umount").args(["--lazy", at]).status().unwrap();
        assert!(status.success(), "{at} cannot be unmounted");
    }
}

/// Exit code 0 and nobody in the way: the target is the snapshot, but for what the mode leaves.
fn compare(round: &Round, snapshot: &Tree, before: &Tree, after: &Tree) -> Vec<String> {
    let is_left = |path: &Path| match round.overwrite {
        "never" | "if-newer" => before.contains_key(path),
        // The enemy's own file, with the size and the time that the snapshot has, is his affair.
        "if-changed" => snapshot.get(path).is_some_and(|facts| facts.kind == "file" && facts.uid == ENEMY),
        _ => false,
    };
    // The target keeps its own metadata in most cases, and a directory's time is the last thing that is set.
    let matters = |path: &Path| !path.as_os_str().is_empty() && !path.ancestors().any(is_left);
    judge::differences(snapshot, after, round.delete, matters)
}

fn outside_intact(stage: &Stage) -> bool {
    judge::differences(&stage.canary, &judge::look(&stage.path("canary")), true, |_| true).is_empty()
}

/// One round's harm is not the next one's.
fn remake(stage: &Stage) {
    let canary = stage.path("canary");
    fs::rename(&canary, stage.path("canary-harmed")).unwrap();
    fs::remove_dir_all(stage.path("canary-harmed")).unwrap();
    source::canaries(&canary);
    let times: Vec<_> = stage.canary.iter().map(|(path, facts)| (path.clone(), facts.mtime)).collect();
    for (path, (seconds, nanoseconds)) in times.iter().rev() {
        let time = rustix::fs::Timespec { tv_sec: *seconds, tv_nsec: *nanoseconds };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, canary.join(path), &times, flags).unwrap();
    }
    assert!(outside_intact(stage));
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(4)..].join(" | ").chars().take(600).collect()
}

fn describe(stage: &Stage, round: &Round, snapshot: &Tree, target: &Path, stash: &Path) -> String {
    let copies = stage.path("copies").join(["his", "of-root"][round.snapshot]);
    let files: Vec<serde_json::Value> = snapshot
        .iter()
        .filter(|(_, facts)| facts.kind == "file")
        .map(|(path, facts)| {
            let mtime = i128::from(facts.mtime.0) * 1_000_000_000 + i128::from(facts.mtime.1);
            serde_json::json!({
                "path": path.to_str().unwrap(),
                "copy": copies.join(path).to_str().unwrap(),
                "mtime": mtime as i64,
                "size": facts.content.len(),
            })
        })
        .collect();
    serde_json::json!({
        "seed": round.seed,
        "target": target.to_str().unwrap(),
        "stash": stash.to_str().unwrap(),
        "canary": stage.path("canary").to_str().unwrap(),
        "canaries": source::CANARIES,
        "twins": source::TWINS.map(|twin| twin.0),
        "files": files,
        "directories": source::DIRECTORIES,
        "kinds": round.kinds,
        "parts": round.parts,
        "density": 0.7,
        "mount": round.mount && stage.fuse,
    })
    .to_string()
}
