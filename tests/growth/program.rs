//! Through the program: what depends on its own files and on exit codes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::world::bytes_beneath;

/// A home with a repository, cache and state in it.
struct Home {
    folder: tempfile::TempDir,
    program: PathBuf,
    /// Who runs the program, when it is not who runs the test.
    user: Option<u32>,
}

impl Home {
    fn new(user: Option<u32>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // Anybody must be able to run it.
        let program = folder.path().join("packstone");
        fs::copy(env!("CARGO_BIN_EXE_packstone"), &program).unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        let home = Self { folder, program, user };
        if let Some(user) = user {
            std::os::unix::fs::chown(home.path(""), Some(user), Some(user)).unwrap();
        }
        let made = home.run(&["init", "--new-key-file", "key"]);
        assert_eq!(made.status.code(), Some(0), "{made:?}");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("home").join(name)
    }

    fn write(&self, name: &str, content: &[u8], mode: u32) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        if let Some(user) = self.user {
            for path in [path.as_path(), path.parent().unwrap()] {
                std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
            }
        }
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.args(words).env_clear().current_dir(self.path("")).env("HOME", self.path(""));
        command.env("PACKSTONE_REPOSITORY", self.path("backup")).env("TZ", "UTC");
        if words[0] != "init" {
            command.env("PACKSTONE_KEY_FILE", self.path("key"));
        }
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command.output().unwrap()
    }
}

fn stored(repository: &Path) -> u64 {
    bytes_beneath(repository)
}

#[test]
fn a_home_with_its_own_repository_does_not_feed_on_itself() {
    let home = Home::new(None);
    home.write("letter", &[b'x'; 3_000], 0o600);
    assert_eq!(home.run(&["backup", "."]).status.code(), Some(0));
    let mut sizes = vec![stored(&home.path("backup"))];
    for _ in 0..6 {
        let ran = home.run(&["backup", "."]);
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
        sizes.push(stored(&home.path("backup")));
    }
    let growth: Vec<u64> = sizes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    println!("a home with repository, cache and state in it: {} bytes, then {growth:?} more", sizes[0]);
    // A tree pack, a segment, a snapshot and a head each: the folders' times move.
    assert!(growth.iter().all(|bytes| *bytes < 64 << 10), "{growth:?}");
    assert!(growth[5] <= growth[1] + 8_192, "it grows faster and faster: {growth:?}");
}

#[test]
fn an_unreadable_file_is_exit_code_3_for_an_ordinary_user() {
    let root = rustix::process::getuid().is_root();
    let home = Home::new(root.then_some(65_534));
    home.write("good/file", b"good", 0o600);
    home.write("good/secret", b"secret", 0o000);
    let ran = home.run(&["backup", "good"]);
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(3), "{ran:?}");
    assert!(errors.contains("good/secret"), "{errors}");
    fs::set_permissions(home.path("good/secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let ran = home.run(&["backup", "good"]);
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
}

#[test]
fn a_log_that_grows_all_the_time_is_exit_code_0() {
    let home = Home::new(None);
    home.write("log/log", &vec![b'x'; 20 << 20], 0o600);
    let log = home.path("log/log");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::OpenOptions::new().append(true).open(&log).unwrap();
            // No faster than anybody reads, and never longer than a test may take of the disk.
            for _ in 0..200_000 {
                if stop.load(std::sync::atomic::Ordering::SeqCst) {
                    break;
                }
                std::io::Write::write_all(&mut file, b"one line more\n").unwrap();
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
        });
        let ran = home.run(&["backup", "--json", "log"]);
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let text = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
        assert!(text.contains("\"outcome\":\"changed\""), "{text}");
    });
}
