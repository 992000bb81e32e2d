//! Every command that the program suggests runs as it is printed, and acts on the repository that was meant.
//!
//! The repository's path has blanks, quotes and a dollar sign, and another repository lies where commands go that name none. In many states
//! many commands are run; from all that they print a script takes what they suggest, types it into a shell in another directory, and looks which
//! repository the program was given, how it ended, and whether the other repository is as it was.
//!
//! How the script takes them: a command begins with the word `packstone`, followed by an option or by the name of a command, and ends at the end
//! of its line or before two blanks that stand in no quotes. Of JSON every string is a text of its own. A line that begins with `Usage:` is
//! clap's. Words in capitals are the user's to fill in.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Ran;
use super::check::damage;
use super::support::{files_beneath, snapshot_id};

/// Where the repository lies, beneath the world.
const REPOSITORY: &str = "it's  a \"repo\" $HOME";
/// What opens both repositories.
const KEY_FILE: (&str, &str) = ("PACKSTONE_KEY_FILE", "key");
/// Commands of the program; what follows `packstone` in prose is none of them.
const COMMANDS: [&str; 31] = [
    "init",
    "backup",
    "restore",
    "snapshots",
    "ls",
    "find",
    "deleted",
    "diff",
    "dump",
    "forget",
    "undelete",
    "tag",
    "hold",
    "release",
    "rewrite",
    "prune",
    "copy",
    "check",
    "stats",
    "status",
    "mirror",
    "sync",
    "recover",
    "drill",
    "key",
    "repair",
    "show",
    "cat",
    "completions",
    "man",
    "version",
];
/// So many different commands are met, ids and places apart.
const MET_LEAST: usize = 65;

/// The commands in one text, as they are to be typed.
fn suggested(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("Usage:")) {
        let mut from = 0;
        while let Some(at) = line[from..].find("packstone ").map(|at| at + from) {
            from = at + "packstone ".len();
            let next = line[from..].split(' ').next().unwrap();
            let begins = line[..at].chars().next_back().is_none_or(|before| before == ' ');
            if begins && (next.starts_with('-') || COMMANDS.contains(&next)) {
                let end = at + end_of(&line[at..]);
                found.push(line[at..end].to_owned());
                from = end;
            }
        }
    }
    found
}

/// Where a command ends that begins the line.
fn end_of(line: &str) -> usize {
    let (mut quote, mut is_escaped) = (None, false);
    for (at, character) in line.char_indices() {
        match (quote, character) {
            _ if std::mem::take(&mut is_escaped) => {}
            (None, '\\') => is_escaped = true,
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            (None, ' ') if line[at..].starts_with("  ") => return at,
            _ => {}
        }
    }
    line.len()
}

/// The strings of a value of JSON.
fn strings(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => found.push(text.clone()),
        serde_json::Value::Array(all) => all.iter().for_each(|value| strings(value, found)),
        serde_json::Value::Object(all) => all.values().for_each(|value| strings(value, found)),
        _ => {}
    }
}

#[test]
fn the_script_takes_commands_as_they_are_typed() {
    let line = r"Next: packstone -r 'it'\''s  b' check  Then: packstone prune --instant";
    assert_eq!(suggested(line), [r"packstone -r 'it'\''s  b' check", "packstone prune --instant"]);
    assert_eq!(suggested("Usage: packstone check\nthe packstone repository, packstone's own"), [""; 0]);
}

/// The world, and what was met in it.
struct Stage {
    root: PathBuf,
    _directory: tempfile::TempDir,
    /// Tried commands, by what they are when ids and places are left out.
    met: BTreeMap<String, String>,
    others: BTreeMap<PathBuf, Vec<u8>>,
    failed: Vec<String>,
    /// The variable that names the secret, and the file.
    secret: (&'static str, &'static str),
}

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("world");
        for name in ["home", "tree/sub", "elsewhere", "bin"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("tree/sub/a file"), super::prune::noise(1, 30_000)).unwrap();
        fs::write(root.join("tree/gone"), "soon").unwrap();
        let script =
            "#!/bin/sh\nprintf '%s\\0' \"$@\" > \"$RECORD\"\n[ -n \"$ONLY_RECORD\" ] || exec \"$PROGRAM\" \"$@\"\n";
        let shim = root.join("bin/packstone");
        fs::write(&shim, script).unwrap();
        fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
        let mut stage = Self {
            root,
            _directory: directory,
            met: BTreeMap::new(),
            others: BTreeMap::new(),
            failed: Vec::new(),
            secret: KEY_FILE,
        };
        let made = stage.program(&["init", "--new-key-file", "key"]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        stage.others = stage.other();
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn repository(&self) -> PathBuf {
        self.path(REPOSITORY)
    }

    /// The files of the repository that is used when none is named.
    fn other(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = files_beneath(&self.path("home/.local/share/packstone/main"));
        files.into_iter().map(|file| (file.clone(), fs::read(&file).unwrap())).collect()
    }

    fn surrounded(&self, command: &mut Command) {
        command
            .env_clear()
            .env("HOME", self.path("home"))
            .env("TZ", "UTC")
            .env(self.secret.0, self.path(self.secret.1))
            .stdin(Stdio::null());
    }

    fn program(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packstone"));
        self.surrounded(&mut command);
        command.args(words).current_dir(&self.root);
        command
    }

    /// Runs a command on the repository, and tries what it suggests.
    fn say(&mut self, words: &[&str]) -> Ran {
        let words = [&["-r", REPOSITORY], words].concat();
        self.hear(self.program(&words), &self.repository(), &format!("{words:?}"))
    }

    /// The same where a variable names the repository.
    fn say_by_variable(&mut self, words: &[&str]) -> Ran {
        let mut command = self.program(words);
        command.env("PACKSTONE_REPOSITORY", REPOSITORY);
        self.hear(command, &self.repository(), &format!("{words:?}"))
    }

    fn ok(&mut self, words: &[&str]) -> Ran {
        let ran = self.say(words);
        assert_eq!(ran.code, Some(0), "{words:?}\n{}{}", ran.out, ran.err);
        ran
    }

    fn hear(&mut self, mut command: Command, about: &Path, from: &str) -> Ran {
        let ran: Ran = command.output().unwrap().into();
        for text in [&ran.out, &ran.err] {
            assert!(!text.contains(['\u{91}', '\u{92}']) && !text.contains("\\u{9"), "a mark is shown: {from}\n{text}");
            let mut commands = Vec::new();
            for line in text.lines() {
                match serde_json::from_str(line) {
                    Ok(value) => {
                        let mut texts = Vec::new();
                        strings(&value, &mut texts);
                        commands.extend(texts.iter().flat_map(|text| suggested(text)));
                    }
                    Err(_) => commands.extend(suggested(line)),
                }
            }
            for command in commands {
                self.follow(&command, about, from);
            }
        }
        ran
    }

    /// Types it in another directory. The first of its kind is run on a world that is put back then; of the others it is seen what they name.
    fn follow(&mut self, command: &str, about: &Path, from: &str) {
        let filled = self.fill(command);
        let is_first = self.met.insert(kind(command), format!("{from}: {command}")).is_none();
        let kept = self.root.with_file_name("kept");
        if is_first {
            assert!(Command::new("cp").arg("-a").arg(&self.root).arg(&kept).status().unwrap().success());
        }
        let mut shell = Command::new("sh");
        self.surrounded(&mut shell);
        let search = format!("{}:/usr/bin:/bin", self.text("bin"));
        shell.args(["-c", &filled]).current_dir(self.path("elsewhere")).env("PATH", search);
        shell.env("PROGRAM", env!("CARGO_BIN_EXE_packstone")).env("RECORD", self.path("elsewhere/argv"));
        if !is_first {
            shell.env("ONLY_RECORD", "yes");
        }
        // It may be the content of a file.
        let ran = shell.output().unwrap();
        let code = ran.status.code();
        let says =
            || format!("from {from}\n{command}\nas {filled}\nended {code:?}\n{}", String::from_utf8_lossy(&ran.stderr));
        let argv = fs::read(self.path("elsewhere/argv")).unwrap_or_default();
        let words: Vec<OsString> =
            argv.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect();
        let named = words.iter().position(|word| word == "-r").map(|at| PathBuf::from(&words[at + 1]));
        let needs_none = ["completions", "man"].iter().any(|name| words[0] == *name);
        if named.as_deref() != (!needs_none).then_some(about) {
            self.failed.push(format!("it names {named:?}: {}", says()));
        }
        if matches!(code, Some(2 | 10 | 126 | 127) | None) {
            self.failed.push(format!("it does not run: {}", says()));
        }
        if self.other() != self.others {
            self.failed.push(format!("it acts on another repository: {}", says()));
        }
        if is_first {
            fs::remove_dir_all(&self.root).unwrap();
            fs::rename(&kept, &self.root).unwrap();
        }
    }

    /// Puts something in the place of words in capitals.
    fn fill(&self, command: &str) -> String {
        let first = |folder: &str| {
            let files = files_beneath(&self.repository().join(folder));
            let name = files.first().and_then(|file| file.file_name()).map(|name| name.to_str().unwrap().to_owned());
            name.unwrap_or_else(|| "00000000".to_owned())
        };
        let id = match command {
            _ if command.contains(" key remove ") => "keys",
            _ if command.contains(" cat segment ") => "index",
            _ if command.contains(" cat pack ") || command.contains(" repair packs ") => "packs",
            _ => "snapshots",
        };
        let tree = self.text("tree");
        let filled = [
            ("s3://BUCKET/PATH", self.text("another mirror").replace(' ', "\\ ")),
            ("SNAPSHOT:PATH", format!("latest:{tree}")),
            ("latest:PATH", format!("latest:{tree}")),
            (" add NAME", " add another".to_owned()),
            (" NAME", " offsite".to_owned()),
            (" MIRROR", " offsite".to_owned()),
            (" ADDRESS", format!(" {}", self.text("elsewhere/address"))),
            (" DIRECTORY", " directory".to_owned()),
            (" FILE", " file".to_owned()),
            (" PATH", format!(" {tree}")),
            (" SHELL", " bash".to_owned()),
            (" PACK", format!(" {}", first("packs"))),
            (" ID", format!(" {}", first(id))),
        ];
        filled.iter().fold(command.to_owned(), |command, (word, value)| command.replace(word, value))
    }

    fn backup(&mut self) -> String {
        let ran = self.ok(&["backup", "--json", "tree"]);
        snapshot_id(&ran)
    }

    fn files(&self, folder: &str) -> Vec<PathBuf> {
        files_beneath(&self.path(folder))
    }

    /// Runs `act` on a world that is put back then.
    fn aside(&mut self, act: impl FnOnce(&mut Self)) {
        let kept =
            (1..).map(|depth| self.root.with_file_name(format!("aside {depth}"))).find(|kept| !kept.exists()).unwrap();
        assert!(Command::new("cp").arg("-a").arg(&self.root).arg(&kept).status().unwrap().success());
        act(self);
        fs::remove_dir_all(&self.root).unwrap();
        fs::rename(&kept, &self.root).unwrap();
    }

    /// The same with one byte of the files of a folder of the repository changed.
    fn spoilt(&mut self, folder: &str, act: impl FnOnce(&mut Self)) {
        self.aside(|stage| {
            for file in files_beneath(&stage.repository().join(folder)) {
                damage(&file, |bytes| spoil(bytes));
            }
            act(stage);
        });
    }
}

fn spoil(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
}

/// A suggestion without what differs from run to run: repository, ids, paths, state codes.
fn kind(command: &str) -> String {
    let words = command.split(' ').skip_while(|word| !COMMANDS.contains(word));
    let plain = |word: &str| match word {
        _ if word.contains('/') && !word.starts_with("s3:") => "PATH".to_owned(),
        _ if word.len() >= 8 && word.bytes().take(8).all(|byte| byte.is_ascii_hexdigit()) => "ID".to_owned(),
        _ if !word.starts_with('-')
            && word.matches('-').count() > 3
            && word.bytes().all(|byte| byte == b'-' || byte.is_ascii_alphanumeric()) =>
        {
            "CODE".to_owned()
        }
        _ => word.to_owned(),
    };
    words.map(plain).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_suggested_command_acts_on_the_repository_that_was_meant() {
    let mut stage = Stage::new();
    let stage = &mut stage;
    before_anything(stage);
    assert_eq!(stage.say(&["init"]).code, Some(0));
    stage.say(&["init"]);
    without_snapshots(stage);
    snapshots(stage);
    removing(stage);
    other_programs(stage);
    keys(stage);
    mirrors(stage);
    damaged(stage);
    damaged_with_mirror(stage);
    recovering(stage);
    let kinds: BTreeSet<&String> = stage.met.keys().collect();
    for kind in &kinds {
        println!("{kind}");
    }
    println!("{} suggested commands ran, and acted on the repository that was meant", kinds.len());
    assert!(stage.failed.is_empty(), "{}", stage.failed.join("\n\n"));
    assert!(kinds.len() >= MET_LEAST, "only {} different commands were suggested", kinds.len());
}

fn before_anything(stage: &mut Stage) {
    for words in [&["snapshots"][..], &["--json", "ls", "latest"], &["backup", "tree"], &["check"]] {
        assert_eq!(stage.say(words).code, Some(10), "{words:?}");
    }
    stage.say_by_variable(&["snapshots"]);
}

fn without_snapshots(stage: &mut Stage) {
    for words in [
        &["status"][..],
        &["status", "--json"],
        &["ls", "latest"],
        &["backup"],
        &["mirror", "list"],
        &["sync"],
        &["drill"],
        &["drill", "history"],
        &["backup", REPOSITORY],
        &["backup", "--stdin-from-command"],
        &["forget"],
    ] {
        stage.say(words);
    }
}

fn snapshots(stage: &mut Stage) {
    stage.ok(&["backup", "tree"]);
    fs::remove_file(stage.path("tree/gone")).unwrap();
    stage.backup();
    stage.say_by_variable(&["backup", "--force", "tree"]);
    fs::rename(stage.path("tree/sub"), stage.path("tree/it's other")).unwrap();
    stage.ok(&["backup", "tree"]);
    stage.ok(&["deleted"]);
    stage.ok(&["deleted", "--limit", "1"]);
    for words in [
        &["ls", "12345678"][..],
        &["ls", "latest~99"],
        &["snapshots", "12345678"],
        &["restore", "latest:/nothing", "--target", "back"],
        &["ls", "latest", "--host", "nobody"],
        &["check"],
        &["check", "--read-data"],
        &["status"],
        &["stats"],
        &["cat", "key", "00"],
        &["cat", "chunk", "00"],
        &["cat", "pack", "00"],
        &["repair", "index"],
        &["repair", "packs"],
        &["repair", "packs", "00"],
        &["repair", "heads"],
        &["repair", "objects"],
        &["repair", "snapshots"],
    ] {
        stage.say(words);
    }
    stage.aside(|stage| {
        stage.say(&["backup", "tree", "no such"]);
        for words in [&["snapshots"][..], &["restore", "latest", "--target", "back"], &["status"], &["show", "latest"]]
        {
            stage.say(words);
        }
    });
    stage.aside(|stage| {
        fs::rename(stage.path("tree"), stage.path("mounted")).unwrap();
        fs::create_dir(stage.path("tree")).unwrap();
        stage.say(&["backup", "tree"]);
        stage.say(&["status"]);
        stage.say(&["backup", "--allow-empty", "tree"]);
        stage.say(&["status"]);
    });
    stage.aside(|stage| {
        stage.ok(&["hold", "latest"]);
        stage.ok(&["show", "latest"]);
        stage.say(&["forget", "latest"]);
    });
    stage.say(&["status", "--max-age", "0"]);
    // What acts on a terminal is typed by printf.
    stage.aside(|stage| {
        let hostile = "line\nbreak  it's \u{1b}[31m%s $HOME";
        fs::create_dir(stage.path(hostile)).unwrap();
        fs::write(stage.path(hostile).join("file"), "content").unwrap();
        let ran = stage.ok(&["backup", hostile]);
        assert!(ran.out.contains("\"$(printf '"), "{}", ran.out);
        stage.say(&["status", "--max-age", "0"]);
        stage.say(&["--json", "status", "--max-age", "0"]);
    });
}

fn removing(stage: &mut Stage) {
    stage.aside(|stage| {
        for number in 0..100 {
            fs::write(stage.path(&format!("tree/{number}")), "here").unwrap();
        }
        stage.backup();
        for number in 0..100 {
            fs::remove_file(stage.path(&format!("tree/{number}"))).unwrap();
        }
        stage.backup();
        stage.say(&["status"]);
    });
    stage.aside(|stage| {
        stage.ok(&["rewrite", "--exclude", "a file"]);
        stage.say(&["rewrite", "--exclude", "sub", "--forget"]);
    });
    let id = stage.backup();
    stage.ok(&["forget", &id]);
    stage.say(&["undelete"]);
    stage.say(&["undelete", "12345678"]);
    stage.say(&["forget", "--keep-last", "1", "--dry-run", "--prune"]);
    stage.say(&["forget", "--keep-last", "1"]);
    stage.say(&["prune"]);
    stage.say(&["prune", "--max-unused", "0"]);
}

fn other_programs(stage: &mut Stage) {
    for name in [
        "create",
        "extract",
        "export-tar",
        "list",
        "log",
        "info",
        "cache",
        "generate",
        "rebuild-index",
        "delete",
        "compact",
        "mount",
    ] {
        stage.say(&[name]);
        stage.say_by_variable(&[name, "x"]);
    }
    stage.say(&["snapshots", "--insecure-no-password"]);
    stage.say(&["cat", "--pack", "00"]);
}

fn keys(stage: &mut Stage) {
    for words in [&["key", "remove", "00"][..], &["key", "recovery-code"], &["key", "kit"], &["key", "passwd"]] {
        stage.say(words);
    }
    fs::write(stage.path("empty"), "\n").unwrap();
    fs::write(stage.path("passphrase"), "correct horse\n").unwrap();
    for (variable, file) in [
        ("PACKSTONE_KEY_FILE", "empty"),
        ("PACKSTONE_PASSWORD_FILE", "empty"),
        ("PACKSTONE_PASSWORD_FILE", "passphrase"),
    ] {
        let mut command = stage.program(&["-r", REPOSITORY, "snapshots"]);
        command.env_remove("PACKSTONE_KEY_FILE").env(variable, file);
        stage.hear(command, &stage.repository(), &format!("{variable}={file}"));
    }
    stage.aside(|stage| {
        let own = stage.say(&["--json", "key", "list"]);
        let own: Vec<serde_json::Value> = serde_json::from_str(&own.out).unwrap();
        stage.say(&["key", "remove", own[0]["id"].as_str().unwrap()]);
        stage.ok(&["key", "add", "--new-password-file", "passphrase", "--kdf-memory", "64M"]);
        let all = stage.say(&["--json", "key", "list"]);
        let all: Vec<serde_json::Value> = serde_json::from_str(&all.out).unwrap();
        let other =
            all.iter().map(|key| key["id"].as_str().unwrap()).find(|id| Some(*id) != own[0]["id"].as_str()).unwrap();
        stage.secret = ("PACKSTONE_PASSWORD_FILE", "passphrase");
        stage.say(&["key", "remove", other]);
        stage.secret = KEY_FILE;
        let file =
            files_beneath(&stage.repository().join("keys")).into_iter().find(|file| file.ends_with(other)).unwrap();
        damage(&file, |bytes| bytes[60] ^= 1);
        stage.say(&["check"]);
        stage.say(&["status"]);
    });
    stage.aside(|stage| {
        stage.ok(&["key", "kit", "--output", "kit.html"]);
        stage.say(&["mirror", "add", "offsite", "mirror"]);
        stage.ok(&["key", "kit", "--output", "kit.txt"]);
    });
}

fn mirrors(stage: &mut Stage) {
    stage.say(&["sync", "nowhere"]);
    stage.say(&["mirror", "remove", "nowhere"]);
    stage.say(&["--from", "nowhere", "ls", "latest"]);
    stage.ok(&["mirror", "add", "offsite", "mirror"]);
    stage.say(&["mirror", "add", "offsite", "mirror"]);
    stage.say(&["check", "--mirror", &stage.text("mirror"), "--budget", "1G"]);
    stage.say(&["status"]);
    stage.ok(&["sync"]);
    stage.say(&["drill", "history"]);
    stage.ok(&["mirror", "list"]);
    for words in [&["ls", "12345678"][..], &["ls", "latest:/nothing"], &["check"]] {
        stage.say(&[&["--from", "offsite"], words].concat());
    }
    stage.aside(|stage| {
        fs::write(stage.path("tree/new"), "new").unwrap();
        stage.ok(&["backup", "tree"]);
        stage.say(&["status", "--max-behind", "0"]);
    });
    stage.aside(|stage| {
        for file in stage.files("mirror/packs") {
            fs::remove_file(file).unwrap();
        }
        stage.say(&["check", "--mirror", "offsite"]);
        stage.say(&["--from", "offsite", "restore", "latest", "--target", "back"]);
        stage.say(&["drill", "offsite"]);
        stage.say(&["drill", "history"]);
        stage.say(&["status"]);
    });
    stage.aside(|stage| {
        for file in stage.files("mirror/packs") {
            damage(&file, |bytes| bytes[100] ^= 1);
        }
        stage.say(&["check", "--mirror", "offsite", "--read-data"]);
        stage.say(&["repair", "mirror", "offsite"]);
    });
    stage.aside(|stage| {
        damage(&stage.path("mirror/config"), |bytes| bytes[40] ^= 1);
        stage.say(&["sync"]);
    });
    stage.aside(|stage| {
        fs::rename(stage.path("mirror"), stage.path("unplugged")).unwrap();
        stage.say(&["sync"]);
        fs::create_dir(stage.path("mirror")).unwrap();
        stage.say(&["sync"]);
    });
    stage.aside(|stage| {
        let older = stage.root.with_file_name("older");
        assert!(Command::new("cp").arg("-a").arg(stage.path("mirror")).arg(&older).status().unwrap().success());
        stage.ok(&["backup", "--force", "tree"]);
        stage.ok(&["sync"]);
        fs::remove_dir_all(stage.path("mirror")).unwrap();
        fs::rename(&older, stage.path("mirror")).unwrap();
        stage.say(&["sync"]);
    });
    stage.aside(|stage| {
        let older = stage.root.with_file_name("older");
        assert!(Command::new("cp").arg("-a").arg(stage.repository()).arg(&older).status().unwrap().success());
        fs::write(stage.path("tree/new"), "new").unwrap();
        stage.backup();
        stage.ok(&["sync"]);
        fs::remove_dir_all(stage.repository()).unwrap();
        fs::rename(&older, stage.repository()).unwrap();
        stage.say(&["snapshots"]);
        stage.say(&["sync"]);
        // This machine remembers nothing of the newer state.
        fs::remove_dir_all(stage.path("home/.local/state/packstone/repositories")).unwrap();
        stage.say(&["sync"]);
        stage.backup();
        stage.say(&["sync"]);
    });
    stage.aside(|stage| {
        stage.ok(&["forget", "--keep-last", "1", "--prune", "--instant", "--max-unused", "0"]);
        stage.ok(&["sync", "--grace", "0"]);
        stage.say(&["sync", "--grace", "0", "--max-delete", "0"]);
    });
}

fn damaged(stage: &mut Stage) {
    stage.aside(|stage| {
        stage.ok(&["mirror", "remove", "offsite"]);
        damaged_objects(stage);
    });
}

fn damaged_with_mirror(stage: &mut Stage) {
    damaged_objects(stage);
}

fn damaged_objects(stage: &mut Stage) {
    stage.spoilt("packs", |stage| {
        stage.say(&["--json", "restore", "latest", "--target", "other"]);
        stage.say(&["--json", "status"]);
        for words in [
            &["check", "--read-data"][..],
            &["--json", "check", "--read-data"],
            &["status"],
            &["sync"],
            &["restore", "latest", "--target", "back"],
            &["ls", "latest"],
            &["find", "a*"],
            &["stats"],
            &["repair", "index"],
            &["repair", "snapshots"],
            &["repair", "packs", "--dry-run"],
            &["backup", "tree"],
            &["repair", "objects"],
        ] {
            stage.say(words);
        }
        stage.say(&["repair", "packs"]);
        stage.say(&["repair", "snapshots"]);
        stage.say(&["check"]);
    });
    for folder in ["snapshots", "index", "keys", "heads"] {
        stage.spoilt(folder, |stage| {
            for words in [
                &["check"][..],
                &["snapshots"],
                &["ls", "latest"],
                &["status"],
                &["find", "a*"],
                &["deleted"],
                &["stats"],
                &["restore", "latest", "--target", "back"],
                &["backup", "tree"],
                &["forget", "--keep-last", "1"],
                &["repair", "snapshots"],
                &["repair", "packs"],
                &["sync"],
                &["repair", "heads"],
                &["repair", "index"],
                &["check"],
            ] {
                stage.say(words);
            }
        });
    }
    stage.aside(|stage| {
        fs::remove_dir_all(stage.repository().join("packs")).unwrap();
        fs::create_dir(stage.repository().join("packs")).unwrap();
        for words in [
            &["check"][..],
            &["repair", "index"],
            &["repair", "packs"],
            &["repair", "snapshots"],
            &["repair", "objects"],
            &["check"],
        ] {
            stage.say(words);
        }
    });
    stage.aside(|stage| {
        let newest = files_beneath(&stage.repository().join("heads")).pop().unwrap();
        damage(&newest, |bytes| bytes[200] ^= 1);
        stage.say(&["snapshots"]);
        stage.say(&["repair", "heads"]);
        stage.say(&["repair", "heads", "--set-back"]);
        stage.say(&["undelete"]);
    });
    stage.aside(|stage| {
        fs::remove_file(stage.repository().join("config")).unwrap();
        stage.say(&["snapshots"]);
        fs::remove_dir_all(stage.repository()).unwrap();
        stage.say(&["snapshots"]);
    });
}

/// Here the hints are about the repository that is made, or that is copied from.
fn recovering(stage: &mut Stage) {
    let to = stage.path("back $HOME");
    stage.aside(|stage| {
        let recover = ["recover", &stage.text("mirror"), "--to", "back $HOME"];
        for words in [&recover[..], &recover] {
            stage.hear(stage.program(words), &to, "recover --to");
        }
        let command = stage.program(&["-r", "back $HOME", "backup", "tree"]);
        stage.hear(command, &to, "a backup of what was recovered");
    });
    stage.say(&["recover", "nowhere", "--to", "new"]);
    let mut made = stage.program(&["-r", "destination", "init"]);
    assert!(made.output().unwrap().status.success());
    for folder in ["packs", "index", "heads"] {
        stage.spoilt(folder, |stage| {
            let mut copy = stage.program(&["-r", "destination", "copy", "--from-repo", REPOSITORY]);
            copy.env("PACKSTONE_FROM_KEY_FILE", stage.path("key"));
            stage.hear(copy, &stage.repository(), "copy");
        });
    }
    // And about the mirror that is read.
    for folder in ["packs", "index", "heads"] {
        stage.aside(|stage| {
            for file in stage.files(&format!("mirror/{folder}")) {
                damage(&file, |bytes| spoil(bytes));
            }
            for words in [
                &["recover", "offsite", "--to", "new"][..],
                &["check", "--mirror", "offsite"],
                &["drill", "offsite"],
                &["--from", "offsite", "ls", "latest"],
                &["--from", "offsite", "check"],
                &["sync"],
                &["mirror", "list"],
            ] {
                stage.say(words);
            }
            let destination = stage.path("destination");
            let copy = ["-r", "destination", "copy", "--from-mirror", &stage.text("mirror")];
            let mut copy = stage.program(&copy);
            copy.env("PACKSTONE_FROM_KEY_FILE", stage.path("key"));
            stage.hear(copy, &destination, "copy from a mirror");
        });
    }
}

/// Whatever names a command by hand drops the repository: only the module that renders them may.
#[test]
fn no_text_names_a_command_by_hand() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    // The module, its rendering, and the page that is read on a machine without a repository.
    let allowed = ["base/command.rs", "cli/about.rs", "cli/kit.rs"];
    let mut found = Vec::new();
    for file in files_beneath(&source) {
        let name = file.strip_prefix(&source).unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for (number, line) in by_hand(text) {
            if !allowed.contains(&name.as_str()) {
                found.push(format!("{name}:{number}: {line}"));
            }
        }
    }
    assert!(found.is_empty(), "write suggest!(\"...\") instead:\n{}", found.join("\n"));
    for line in [
        r#"x("run packstone check")"#,
        r#"format!("packstone{words} restore")"#,
        "\"packstone \\\n    repair heads\"",
        r#"suggest!("ls {id}")"#,
    ] {
        assert_eq!(by_hand(line).len(), 1, "{line}");
    }
    for line in ["/// Run packstone check", r#"suggest!("ls {}", id)"#, r#""the packstone repository""#] {
        assert_eq!(by_hand(line), []);
    }
}

/// Lines that name a command by hand, or suggest one with something in it that is not replaced.
fn by_hand(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
        let goes_on =
            line.strip_suffix('\\').map(|begun| format!("{begun}{}", lines.get(index + 1).unwrap_or(&"").trim_start()));
        let whole = goes_on.unwrap_or_else(|| (*line).to_owned());
        let names = whole.match_indices("packstone").filter(|(at, _)| *at < line.len()).any(|(at, word)| {
            let rest = &whole[at + word.len()..];
            let next =
                rest.strip_prefix(' ').and_then(|rest| rest.split([' ', '"', ',', ':', ';', '.', ')', '\\']).next());
            rest.starts_with('{') || rest.starts_with(" -") || next.is_some_and(|next| COMMANDS.contains(&next))
        });
        let literal = whole.split("suggest!(\"").skip(1).filter_map(|rest| rest.split_once('"'));
        let unfilled = literal.into_iter().any(|(words, rest)| {
            words.contains('{') && (words.replace("{}", "").contains('{') || !rest.starts_with(','))
        });
        if names || unfilled || whole.contains("u{91}") {
            found.push((index + 1, line.trim().to_owned()));
        }
    }
    found
}
