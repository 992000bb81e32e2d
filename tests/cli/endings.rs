//! Whatever way the program ends: no ssh that it started is left, and no directory for one.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::packstone;
use super::support::World;

/// An SSH server of this user, on a port of 127.0.0.1.
struct Server {
    folder: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // ssh notes its key, and OpenDAL has no option for where.
        let expression = format!("/^\\[127.0.0.1\\]:{} /d", self.port);
        let home = Command::new("sh").args(["-c", "cd ~ && pwd"]).output().unwrap();
        let known = Path::new(String::from_utf8(home.stdout).unwrap().trim()).join(".ssh/known_hosts");
        let _ = Command::new("sed").args(["-i", &expression]).arg(known).stderr(Stdio::null()).status();
    }
}

impl Server {
    /// None, and why, where there can be none.
    fn start() -> Result<Self, String> {
        let sshd = ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let sshd = sshd.ok_or("needs openssh-server")?;
        let folder = tempfile::tempdir().unwrap();
        for name in ["host", "id"] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.path().join(name));
            if !command.status().is_ok_and(|status| status.success()) {
                return Err("needs ssh-keygen".to_owned());
            }
        }
        if rustix::process::geteuid().is_root() {
            // It asks for it.
            let _ = fs::create_dir("/run/sshd");
        }
        fs::create_dir(folder.path().join("store")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = folder.path().display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nAuthorizedKeysFile {at}/id.pub\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nPermitRootLogin prohibit-password\nMaxSessions 100\nMaxStartups 100\nPidFile none\n\
             Subsystem sftp internal-sftp\n"
        );
        let file = folder.path().join("config");
        fs::write(&file, config).unwrap();
        let mut command = Command::new(sshd);
        command.arg("-De").arg("-f").arg(&file).stderr(fs::File::create(folder.path().join("log")).unwrap());
        let process = command.spawn().map_err(|error| format!("{sshd}: {error}"))?;
        let server = Self { folder, port, process };
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > until {
                let log = fs::read_to_string(server.folder.path().join("log")).unwrap_or_default();
                return Err(format!("sshd does not listen: {log}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn address(&self) -> String {
        let user = Command::new("id").arg("-un").output().unwrap();
        let (user, at) = (String::from_utf8(user.stdout).unwrap(), self.folder.path().display());
        format!("sftp://{}@127.0.0.1:{}{at}/store?key={at}/id&known_hosts_strategy=Accept", user.trim(), self.port)
    }
}

/// A directory for temporary files, short enough for the address of a socket, in which only one program makes any.
fn temporary() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("ps").tempdir_in("/tmp").unwrap()
}

/// Processes that have the directory in their command lines.
fn processes(directory: &Path) -> Vec<(i32, String)> {
    let needle = directory.to_str().unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(needle) {
            found.push((number, line));
        }
    }
    found
}

/// Waits for some seconds until there is no process, and nothing in the directory.
#[track_caller]
fn assert_nothing_is_left(directory: &Path, how: &str) {
    let until = Instant::now() + Duration::from_secs(8);
    loop {
        let left = processes(directory);
        let files: Vec<_> = fs::read_dir(directory).unwrap().flatten().map(|entry| entry.file_name()).collect();
        if left.is_empty() && files.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "{how}: {left:?} {files:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(process: &Child, signal: Signal) {
    kill_process(Pid::from_child(process), signal).unwrap();
}

/// Waits for its end.
#[track_caller]
fn code(process: &mut Child, within: Duration) -> Option<i32> {
    let until = Instant::now() + within;
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status.code();
        }
        assert!(Instant::now() < until, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The guard of a program: its only child that is a shell.
fn guard_of(process: &Child) -> Pid {
    let parent = format!("PPid:\t{}\n", process.id());
    let is_guard = |entry: &fs::DirEntry| {
        let read = |name| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        read("status").contains(&parent) && read("cmdline").starts_with("/bin/sh\0")
    };
    let found = fs::read_dir("/proc").unwrap().flatten().find(is_guard).unwrap();
    Pid::from_raw(found.file_name().to_str().unwrap().parse().unwrap()).unwrap()
}

/// The same command, whatever signals whoever runs the tests ignores: a signal that is ignored at the start stays so.
fn heeding(command: &Command) -> Command {
    let mut heeding = Command::new("/usr/bin/env");
    heeding.arg("--default-signal=INT,TERM").arg(command.get_program()).args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        heeding.env(name, value.unwrap_or_default());
    }
    if let Some(directory) = command.get_current_dir() {
        heeding.current_dir(directory);
    }
    heeding
}

#[test]
fn no_ssh_outlives_the_program_however_it_ends() {
    let server = match Server::start() {
        Ok(server) => server,
        Err(why) => return println!("SKIPPED no_ssh_outlives_the_program_however_it_ends: {why}"),
    };
    let world = World::with_repository();
    for number in 0..6_u32 {
        let seed = blake3::hash(&number.to_le_bytes());
        let mut noise = vec![0; 4 << 20];
        blake3::Hasher::new_keyed(seed.as_bytes()).finalize_xof().fill(&mut noise);
        world.write(&number.to_string(), noise);
    }
    world.backup();
    let place = temporary();
    let command = |words: &[&str]| {
        let mut command = heeding(&world.command(words));
        command.env("TMPDIR", place.path()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let status = command(&["mirror", "add", "far", &server.address()]).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_nothing_is_left(place.path(), "a normal end");
    let on_the_way = server.store().join("tmp");
    // A large object is on its way then, and no small one.
    let is_sending = || {
        let entries = fs::read_dir(&on_the_way).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).any(|metadata| metadata.len() > 256 << 10)
    };
    let begin = || {
        // A killed one leaves its object, and the next one takes it away first.
        let _ = fs::remove_dir_all(&on_the_way);
        let process = command(&["sync", "far", "--limit-upload", "200K"]).spawn().unwrap();
        wait_for("nothing is sent", is_sending);
        assert!(processes(place.path()).iter().any(|(_, line)| line.contains(" -M -f -N ")));
        process
    };

    let mut process = begin();
    process.kill().unwrap();
    process.wait().unwrap();
    assert_nothing_is_left(place.path(), "SIGKILL");

    for first in [Signal::INT, Signal::TERM] {
        let mut process = begin();
        signal(&process, first);
        assert_eq!(code(&mut process, Duration::from_secs(4)), Some(130));
        assert_nothing_is_left(place.path(), "one signal");
        let left = fs::read_dir(&on_the_way).map_or(0, Iterator::count);
        assert_eq!(left, 0, "what was on its way when the user wanted an end is removed");

        let mut process = begin();
        signal(&process, first);
        signal(&process, first);
        assert_eq!(code(&mut process, Duration::from_secs(4)), Some(130));
        assert_nothing_is_left(place.path(), "two signals");
    }

    // The guard goes first, and the program's ssh outlives both. The next start ends it.
    let mut process = begin();
    kill_process(guard_of(&process), Signal::KILL).unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    std::thread::sleep(Duration::from_millis(800));
    assert!(!processes(place.path()).is_empty(), "this test tries nothing");
    assert_eq!(command(&["sync", "far", "--dry-run"]).status().unwrap().code(), Some(0));
    assert_nothing_is_left(place.path(), "the next start");

    // One that runs is left alone by others that start and end.
    let mut process = begin();
    let before = processes(place.path()).len();
    assert_eq!(command(&["check", "--mirror", "far"]).status().unwrap().code().map(|code| code != 130), Some(true));
    std::thread::sleep(Duration::from_secs(1));
    assert!(processes(place.path()).len() >= before && process.try_wait().unwrap().is_none());
    process.kill().unwrap();
    process.wait().unwrap();
    assert_nothing_is_left(place.path(), "another one");

    let status = command(&["sync", "far"]).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_nothing_is_left(place.path(), "a whole sync");
}

/// Who waits for another run's lock, and who waits for a stream that gives nothing.
#[test]
fn who_waits_hears_a_signal() {
    let world = World::with_repository();
    world.write("a", "a");
    for first in [Signal::INT, Signal::TERM] {
        let begin = |words: &[&str], input: Stdio| {
            let mut command = heeding(&world.command(words));
            command.stdin(input).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let mut stream = begin(&["backup", "--retry-lock", "5m", "--stdin"], Stdio::piped());
        wait_for("the lock is not taken", || world.run(&["backup", "tree"]).code == Some(11));
        let mut waiting = begin(&["backup", "--retry-lock", "5m", "tree"], Stdio::null());
        // It opens the repository in less than that.
        std::thread::sleep(Duration::from_secs(1));
        assert!(waiting.try_wait().unwrap().is_none(), "it does not wait");
        for process in [&mut waiting, &mut stream] {
            signal(process, first);
            assert_eq!(code(process, Duration::from_secs(2)), Some(130));
        }
    }
    assert_eq!(world.run(&["backup", "tree"]).code, Some(0));
}

/// A server that takes the connection and says nothing: there is no control socket yet, and OpenDAL forgets the ssh after ten seconds.
#[test]
fn an_ssh_that_still_connects_ends_too() {
    if !Command::new("ssh").arg("-V").stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return println!("SKIPPED an_ssh_that_still_connects_ends_too: needs ssh");
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("sftp://nobody@127.0.0.1:{}/x", listener.local_addr().unwrap().port());
    let world = World::with_repository();
    let place = temporary();
    let command = |words: &[&str]| {
        let mut command = heeding(&world.command(words));
        command.env("TMPDIR", place.path()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    assert_eq!(command(&["mirror", "add", "far", &address, "--no-probe"]).status().unwrap().code(), Some(0));
    for (signals, kind) in [(1, Signal::KILL), (1, Signal::INT), (2, Signal::INT), (1, Signal::TERM)] {
        let mut process = command(&["sync", "far"]).spawn().unwrap();
        wait_for("no ssh", || !processes(place.path()).is_empty());
        let began = Instant::now();
        (0..signals).for_each(|_| signal(&process, kind));
        let expected = (kind != Signal::KILL).then_some(130);
        assert_eq!(code(&mut process, Duration::from_secs(2)), expected, "{:?}", began.elapsed());
        assert_nothing_is_left(place.path(), &format!("{kind:?}"));
    }
}

/// What is set for ssh is not seen by the commands that the user gives.
#[test]
fn commands_get_the_state_directory_that_the_user_has() {
    let world = World::new();
    let print = |given: Option<&str>| {
        let mut command = packstone(&["backup", "--init", "--password-command"]);
        command.arg("sh -c 'echo secret; echo \"state ${XDG_STATE_HOME-none}\" >&2'").arg("tree");
        command.env("HOME", world.path("home")).env("PATH", std::env::var_os("PATH").unwrap());
        command.env("PACKSTONE_REPOSITORY", world.repository()).current_dir(world.path(""));
        given.map(|given| command.env("XDG_STATE_HOME", given));
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    world.write("file", "content");
    let state = world.path("state");
    for (given, expected) in [(None, "state none\n"), (state.to_str(), state.to_str().unwrap())] {
        let said = print(given);
        assert!(said.contains(expected), "{said}");
    }
    assert!(state.join("packstone").is_dir() && world.path("home/.local/state/packstone").is_dir());
}
