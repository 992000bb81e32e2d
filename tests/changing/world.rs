//! A tree in a place, its writers, a repository, and the program run by the right user.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::told::Snapshot;

/// Where the tree lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where temporary files are.
    Default,
    Tmpfs,
    /// A rename over a name gives it another place in the listing of its directory.
    Btrfs,
}

impl Place {
    pub fn word(self) -> &'static str {
        match self {
            Self::Default => "the default file system",
            Self::Tmpfs => "tmpfs",
            Self::Btrfs => "btrfs",
        }
    }
}

/// What a run said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Whether the long form is wanted.
pub fn full() -> bool {
    std::env::var_os("PACKSTONE_FULL").is_some_and(|value| value == "1")
}

/// The seed of the writers' random numbers, printed.
pub fn seed() -> u64 {
    let seed = std::env::var("PACKSTONE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos())
    });
    println!("PACKSTONE_SEED={seed}");
    seed
}

fn system(words: &[&str]) -> Result<String, String> {
    let output = Command::new(words[0]).args(&words[1..]).output().map_err(|error| format!("{}: {error}", words[0]))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A file system in a file, unmounted in the end; its loop device goes with the mount.
struct Disk(PathBuf);

impl Disk {
    fn mount(folder: &Path) -> Result<Self, String> {
        let (image, at) = (folder.join("image"), folder.join("disk"));
        fs::File::create(&image).and_then(|file| file.set_len(512 << 20)).map_err(|error| error.to_string())?;
        fs::create_dir(&at).unwrap();
        let (image, place) = (image.to_str().unwrap(), at.to_str().unwrap());
        system(&["mkfs.btrfs", "-q", image])
            .and_then(|_| system(&["mount", "-t", "btrfs", "-o", "loop", image, place]))
            .map_err(|why| format!("it needs root, mkfs.btrfs, a loop device and btrfs in the kernel ({why})"))?;
        Ok(Self(at))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = system(&["umount", "--lazy", self.0.to_str().unwrap()]);
    }
}

/// A process that changes the tree until this is dropped.
pub struct Writer(Child);

impl Writer {
    /// A trial without writers proves nothing.
    pub fn expect_alive(&mut self) {
        let ended = self.0.try_wait().unwrap();
        assert!(ended.is_none(), "a writer has ended: {ended:?}");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // With what it has started: git is a process of its own.
        let group = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

pub struct World {
    // In this order: what lies in the folder goes before it.
    _disk: Option<Disk>,
    _memory: Option<tempfile::TempDir>,
    folder: tempfile::TempDir,
    tree: PathBuf,
    user: Option<u32>,
}

impl World {
    /// A repository, and an empty tree in its place.
    ///
    /// # Errors
    /// Why there is no such place here.
    pub fn new(place: Place, user: Option<u32>) -> Result<Self, String> {
        system(&["python3", "--version"]).map_err(|why| format!("it needs python3 ({why})"))?;
        let folder = tempfile::tempdir().unwrap();
        // The folder's top is everybody's to pass, whoever runs the program.
        system(&["chmod", "755", folder.path().to_str().unwrap()]).unwrap();
        let (mut disk, mut memory) = (None, None);
        let outer = match place {
            Place::Default => folder.path().to_owned(),
            Place::Tmpfs => {
                let made = tempfile::tempdir_in("/dev/shm").map_err(|error| format!("it needs /dev/shm ({error})"))?;
                system(&["chmod", "755", made.path().to_str().unwrap()]).unwrap();
                memory.insert(made).path().to_owned()
            }
            Place::Btrfs => disk.insert(Disk::mount(folder.path())?).0.clone(),
        };
        fs::copy(env!("CARGO_BIN_EXE_packstone"), folder.path().join("packstone")).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/changing/");
        for name in ["writer.py", "committer.sh"] {
            fs::copy(Path::new(script).join(name), folder.path().join(name)).unwrap();
        }
        let world = Self { _disk: disk, _memory: memory, tree: outer.join("tree"), folder, user };
        for path in [world.tree.clone(), world.path("home")] {
            fs::create_dir(&path).unwrap();
            if let Some(user) = user {
                std::os::unix::fs::chown(&path, Some(user), Some(user)).unwrap();
            }
        }
        let made = world.run(&["init", "--new-key-file", "key", "--chunk-size", "64k"]);
        assert_eq!(made.code, Some(0), "{made:?}");
        Ok(world)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn tree(&self) -> PathBuf {
        self.tree.clone()
    }

    /// Where a snapshot is restored to.
    pub fn restored(&self) -> PathBuf {
        self.path("home/restored")
    }

    pub fn text<'a>(&self, path: &'a Path) -> &'a str {
        path.to_str().unwrap()
    }

    /// A command of the trial's user, with nothing of the environment but where programs are.
    pub fn command(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(words).env_clear().current_dir(self.path("home")).env("HOME", self.path("home")).env("TZ", "UTC");
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    pub fn python(&self, words: &[&str]) {
        let script = self.path("writer.py");
        let mut all = vec!["-B", script.to_str().unwrap()];
        all.extend(words);
        let output = self.command(Path::new("python3"), &all).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    pub fn writer(&self, words: &[&str]) -> Writer {
        let script = self.path("writer.py");
        let mut all = vec!["-B", script.to_str().unwrap()];
        all.extend(words);
        Writer(self.command(Path::new("python3"), &all).process_group(0).spawn().unwrap())
    }

    /// `committer.sh`, beginning in the tree; it ends with whoever started it.
    pub fn committer(&self) -> Writer {
        let script = self.path("committer.sh");
        let words = ["--pdeathsig", "KILL", "bash", script.to_str().unwrap(), "work"];
        let mut command = self.command(Path::new("setpriv"), &words);
        Writer(command.current_dir(&self.tree).process_group(0).spawn().unwrap())
    }

    /// The repository that `committer.sh` makes in the tree.
    pub fn make_history(&self) {
        let script = self.path("committer.sh");
        let mut command = self.command(Path::new("bash"), &[script.to_str().unwrap(), "make"]);
        let output = command.current_dir(&self.tree).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    pub fn run(&self, words: &[&str]) -> Ran {
        let mut command = self.command(&self.path("packstone"), words);
        command.env("PACKSTONE_REPOSITORY", self.path("home/repository"));
        if words[0] != "init" {
            command.env("PACKSTONE_KEY_FILE", self.path("home/key"));
        }
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    pub fn backup(&self) -> Ran {
        self.run(&["backup", "--json", self.text(&self.tree)])
    }

    /// Lists and restores the snapshot of a backup.
    ///
    /// # Errors
    /// What did not work.
    pub fn snapshot(&self, ran: &Ran) -> Result<Snapshot, String> {
        let lines = |text: &str| -> Vec<serde_json::Value> {
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
        };
        let all = lines(&ran.out);
        let summary = all.iter().rfind(|line| line["message_type"] == "summary");
        let summary =
            summary.ok_or_else(|| format!("exit code {:?} and no snapshot: {} {}", ran.code, ran.out, ran.err))?;
        let id = summary["snapshot_id"].as_str().unwrap();
        let mut snapshot = Snapshot {
            exit: ran.code.unwrap_or(-1),
            outcome: summary["outcome"].as_str().unwrap().to_owned(),
            ..Snapshot::default()
        };
        let beneath = |path: &str| {
            let path = Path::new("/").join(path);
            path.strip_prefix(&self.tree).ok().map(|path| path.to_str().unwrap().to_owned())
        };
        let ls = self.run(&["ls", "--json", id]);
        let show = self.run(&["show", "--json", id]);
        for (what, ran) in [("ls", &ls), ("show", &show)] {
            if ran.code != Some(0) {
                return Err(format!("{what}: {:?} {}", ran.code, ran.err));
            }
        }
        for line in lines(&ls.out).iter().filter(|line| line["message_type"] == "node") {
            if let Some(path) = beneath(line["path"].as_str().unwrap()) {
                snapshot.entries.insert(path, line["type"].as_str().unwrap().to_owned());
            }
        }
        for line in lines(&show.out).iter().filter(|line| line["message_type"] == "note") {
            if let Some(path) = beneath(line["path"].as_str().unwrap()) {
                snapshot.notes.insert(path, line["kind"].as_str().unwrap().to_owned());
            }
        }
        let source = format!("{id}:{}", self.text(&self.tree));
        let restore = self.run(&["restore", &source, "--target", self.text(&self.restored())]);
        if restore.code != Some(0) {
            return Err(format!("restore: {:?} {} {}", restore.code, restore.out, restore.err));
        }
        let mut open = vec![self.restored()];
        while let Some(at) = open.pop() {
            for entry in fs::read_dir(&at).unwrap() {
                let entry = entry.unwrap();
                let kind = entry.file_type().unwrap();
                let path = entry.path();
                if kind.is_dir() {
                    open.push(path);
                } else if kind.is_file() {
                    let name = path.strip_prefix(self.restored()).unwrap().to_str().unwrap().to_owned();
                    snapshot.contents.insert(name, fs::read(&path).unwrap());
                }
            }
        }
        Ok(snapshot)
    }

    /// Removes what was restored.
    pub fn clear(&self) {
        if self.restored().exists() {
            fs::remove_dir_all(self.restored()).unwrap();
        }
    }
}
