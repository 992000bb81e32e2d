//! The world in which commands are suggested and tried.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::script::{kind, strings, suggested};
use crate::Ran;
use crate::check::damage;
use crate::prune::noise;
use crate::support::{files_beneath, snapshot_id};

/// Where the repository lies, beneath the world.
pub(super) const REPOSITORY: &str = "it's  a \"repo\" $HOME";
/// What opens both repositories.
pub(super) const KEY_FILE: (&str, &str) = ("PACKSTONE_KEY_FILE", "key");

/// The world, and what was met in it.
pub(super) struct Stage {
    pub(super) root: PathBuf,
    _directory: tempfile::TempDir,
    /// Tried commands, by what they are when ids and places are left out.
    pub(super) met: BTreeMap<String, String>,
    others: BTreeMap<PathBuf, Vec<u8>>,
    pub(super) failed: Vec<String>,
    /// The variable that names the secret, and the file.
    pub(super) secret: (&'static str, &'static str),
}

impl Stage {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("world");
        for name in ["home", "tree/sub", "elsewhere", "bin"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("tree/sub/a file"), noise(1, 30_000)).unwrap();
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

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(super) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(super) fn repository(&self) -> PathBuf {
        self.path(REPOSITORY)
    }

    /// The files of the repository that is used when none is named.
    pub(super) fn other(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = files_beneath(&self.path("home/.local/share/packstone/main"));
        files.into_iter().map(|file| (file.clone(), fs::read(&file).unwrap())).collect()
    }

    pub(super) fn surrounded(&self, command: &mut Command) {
        command
            .env_clear()
            .env("HOME", self.path("home"))
            .env("TZ", "UTC")
            .env(self.secret.0, self.path(self.secret.1))
            .stdin(Stdio::null());
    }

    pub(super) fn program(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packstone"));
        self.surrounded(&mut command);
        command.args(words).current_dir(&self.root);
        command
    }

    /// Runs a command on the repository, and tries what it suggests.
    pub(super) fn say(&mut self, words: &[&str]) -> Ran {
        let words = [&["-r", REPOSITORY], words].concat();
        self.hear(self.program(&words), &self.repository(), &format!("{words:?}"))
    }

    /// The same where a variable names the repository.
    pub(super) fn say_by_variable(&mut self, words: &[&str]) -> Ran {
        let mut command = self.program(words);
        command.env("PACKSTONE_REPOSITORY", REPOSITORY);
        self.hear(command, &self.repository(), &format!("{words:?}"))
    }

    pub(super) fn ok(&mut self, words: &[&str]) -> Ran {
        let ran = self.say(words);
        assert_eq!(ran.code, Some(0), "{words:?}\n{}{}", ran.out, ran.err);
        ran
    }

    pub(super) fn hear(&mut self, mut command: Command, about: &Path, from: &str) -> Ran {
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
    pub(super) fn follow(&mut self, command: &str, about: &Path, from: &str) {
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
    pub(super) fn fill(&self, command: &str) -> String {
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

    pub(super) fn backup(&mut self) -> String {
        let ran = self.ok(&["backup", "--json", "tree"]);
        snapshot_id(&ran)
    }

    pub(super) fn files(&self, folder: &str) -> Vec<PathBuf> {
        files_beneath(&self.path(folder))
    }

    /// Runs `act` on a world that is put back then.
    pub(super) fn aside(&mut self, act: impl FnOnce(&mut Self)) {
        let kept =
            (1..).map(|depth| self.root.with_file_name(format!("aside {depth}"))).find(|kept| !kept.exists()).unwrap();
        assert!(Command::new("cp").arg("-a").arg(&self.root).arg(&kept).status().unwrap().success());
        act(self);
        fs::remove_dir_all(&self.root).unwrap();
        fs::rename(&kept, &self.root).unwrap();
    }

    /// The same with one byte of the files of a folder of the repository changed.
    pub(super) fn spoilt(&mut self, folder: &str, act: impl FnOnce(&mut Self)) {
        self.aside(|stage| {
            for file in files_beneath(&stage.repository().join(folder)) {
                damage(&file, |bytes| spoil(bytes));
            }
            act(stage);
        });
    }
}

pub(super) fn spoil(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
}
