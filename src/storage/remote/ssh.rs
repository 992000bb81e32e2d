//! The `ssh` processes of an SFTP mirror end with this process, however it ends.
//!
//! For each connection OpenDAL (its crate `openssh`) makes a directory `.ssh-connection*` and starts `ssh -M -f -N`, which goes into the background
//! with a control socket in it. When the session is dropped, ssh is asked to exit and the directory is removed. A process that is killed drops
//! nothing, and one that is interrupted while it connects forgets the ssh that does.
//!
//! # Invariant
//!
//! **Before the first ssh is started, a guard runs that outlives this process, ends every ssh of this process when it is gone, and then removes
//! the directory in which all its control directories are.** Within about a second of the end nothing is left; after five nothing that can be killed.
//!
//! - *All control directories are in one directory of this process alone*, whose name has 64 bits of chance: [`Place`]. OpenDAL passes on no options,
//!   and `openssh` makes them in `XDG_STATE_HOME`. So the program sets that at its very start, when it has one thread, and keeps what it was for
//!   itself and for the commands that it runs ([`Place::given`]). Only what ssh and the libraries of other services run (a `ProxyCommand`, a
//!   `credential_process`) sees that one.
//! - *The guard sees every kind of end.* Its standard input is a pipe whose other end only this process has (it is closed in every child), so
//!   the kernel closes it with the process: at a normal end, at `exit`, at SIGKILL. The guard is in a process group of its own and ignores the signals
//!   of a terminal and of a service manager.
//! - *No other process is hit.* The guard looks for command lines that begin as ssh's do and have a control directory in that directory in the place
//!   where ssh has it, of processes of the same user. It reads the command line right before each signal and remembers no process by its number.
//! - *What the guard could not do the next one does.* The directory is locked (flock) for as long as this process lives. Who finds one that is not, of the
//!   same user, lets a guard remove it and what is left of its connections. The lock also keeps systemd-tmpfiles away from it.
//!
//! A program that uses the library and does not call [`Place::keep`] has no guard: then the sessions end as OpenDAL ends them. So it is where the system
//! has no `/proc`.

use crate::base::lock::lock;
use crate::storage::cause::Cause;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use rustix::fs::OFlags;
use rustix::process::geteuid;

/// Where `openssh` makes its control directories: in this directory, when it is an absolute path.
pub const VARIABLE: &str = "XDG_STATE_HOME";

/// What the names of the directories begin with.
const PREFIX: &str = "packstone-ssh-";
/// Longest directory: the address of a socket has 107 bytes, and `/.ssh-connectionXXXXXX/master.XXXXXXXXXXXXXXXX` has 46 of them.
const LENGTH_MAX: usize = 107 - 46;

/// The guard, with the directory in `D`. It first waits for the end of its standard input.
///
/// It signals until it has found nothing twice: an ssh that forks while it is looked for is seen the second time. After two seconds it asks no more.
const GUARD: &str = r#"
trap '' HUP INT QUIT TERM
# What this process was given by whoever started packstone is not to stay open because of it.
exec 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-
while read -r _; do :; done
signal() {
    found=1
    for process in /proc/[0-9]*; do
        [ -O "$process" ] || continue
        line=
        # The words of the command line come without what is between them.
        { IFS= read -r line <"$process/cmdline"; } 2>/dev/null
        case $line in
        "ssh-E$D/.ssh-connection"* | "ssh-S$D/.ssh-connection"* | "ssh: $D/.ssh-connection"*)
            kill -s "$1" "${process#/proc/}" 2>/dev/null
            found=0
            ;;
        esac
    done
    return "$found"
}
turn=0 none=0
while [ "$none" -lt 2 ] && [ "$turn" -lt 50 ]; do
    if [ "$turn" -lt 20 ]; then how=TERM; else how=KILL; fi
    if signal "$how"; then none=0; else none=$((none + 1)); fi
    turn=$((turn + 1))
    sleep 0.1 2>/dev/null || sleep 1
done
rm -rf "$D"
"#;

/// The directory for the control directories of this process, and what [`VARIABLE`] was before.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    given: Option<OsString>,
}

static PLACE: OnceLock<Place> = OnceLock::new();
static GUARDED: Mutex<Option<Guarded>> = Mutex::new(None);

impl Place {
    /// A name that no other process has, in the directory for temporary files. Nothing is made there yet.
    #[must_use]
    pub fn choose() -> Self {
        Self::within(&std::env::temp_dir(), std::env::var_os(VARIABLE))
    }

    fn within(temporary: &Path, given: Option<OsString>) -> Self {
        let name = format!("{PREFIX}{:016x}", super::random());
        // The shell must be able to compare it, and a socket in it must have an address.
        let is_fit = |directory: &PathBuf| {
            let text = directory.as_os_str().as_encoded_bytes();
            directory.is_absolute() && text.len() <= LENGTH_MAX && text.iter().all(u8::is_ascii_graphic)
        };
        let directory = Some(temporary.join(&name)).filter(is_fit).unwrap_or_else(|| Path::new("/tmp").join(&name));
        Self { directory, given }
    }

    /// What [`VARIABLE`] is to be.
    #[must_use]
    pub fn directory(&self) -> &OsStr {
        self.directory.as_os_str()
    }

    /// To be called when [`VARIABLE`] has been set to it.
    pub fn keep(self) {
        let _ = PLACE.set(self);
    }

    /// What the user's [`VARIABLE`] is.
    #[must_use]
    pub fn given() -> Option<OsString> {
        PLACE.get().map_or_else(|| std::env::var_os(VARIABLE), |place| place.given.clone())
    }

    /// A command of the user's gets the environment that he has.
    pub fn hide_from(command: &mut Command) {
        match Self::given() {
            Some(value) => command.env(VARIABLE, value),
            None => command.env_remove(VARIABLE),
        };
    }
}

/// The directory, locked, and a guard over it.
#[derive(Debug)]
struct Guarded {
    guard: Child,
    /// Whose end the guard waits for. Nothing is ever written to it.
    _end: Option<ChildStdin>,
    _lock: File,
}

/// Why a server took no key: ssh is not told to ask for a passphrase, and says the same of a file that it cannot open.
pub(super) fn why_refused(key: Option<&Path>) -> Cause {
    let Some(key) = key else { return Cause::KeyRefused };
    match fs::read(key) {
        Err(_) => Cause::KeyFile,
        Ok(bytes) if is_protected(&bytes) => Cause::KeyLocked,
        Ok(_) => Cause::KeyRefused,
    }
}

/// True for a private key that is encrypted: the older forms say so, the newer one names its cipher behind a fixed beginning (PROTOCOL.key of
/// OpenSSH).
fn is_protected(key: &[u8]) -> bool {
    let text = String::from_utf8_lossy(key);
    if text.contains("ENCRYPTED") {
        return true;
    }
    // "openssh-key-v1", a zero, and the length of the name; then "none", or another name.
    const BEGINNING: &str = "b3BlbnNzaC1rZXktdjEAAAAA";
    const NONE: &str = "BG5vbmU";
    let body: String = text.lines().filter(|line| !line.starts_with('-')).map(str::trim).collect();
    body.strip_prefix(BEGINNING).is_some_and(|rest| !rest.starts_with(NONE))
}

/// Makes sure that whatever ssh is started from now on ends with this process.
///
/// # Errors
/// When the directory cannot be made, or no shell be started.
pub(super) fn end_with_us() -> io::Result<()> {
    let Some(Place { directory, .. }) = PLACE.get() else { return Ok(()) };
    let mut guarded = lock(&GUARDED);
    if let Some(there) = guarded.as_mut() {
        // Somebody may have ended it.
        if !matches!(there.guard.try_wait(), Ok(None)) {
            (there.guard, there._end) = start(directory, Stdio::piped())?;
        }
        return Ok(());
    }
    // It is not the store's, whatever it is.
    let failed = |error: io::Error| io::Error::other(format!("{} cannot be made: {error}", directory.display()));
    let lock = make(directory).map_err(failed)?;
    directory.parent().into_iter().for_each(end_those_of_others);
    *guarded = Some(watch(directory, lock)?);
    Ok(())
}

fn watch(directory: &Path, lock: File) -> io::Result<Guarded> {
    let (guard, end) = start(directory, Stdio::piped()).inspect_err(|_| drop(fs::remove_dir(directory)))?;
    Ok(Guarded { guard, _end: end, _lock: lock })
}

/// Makes the directory, and locks it before it has its name.
fn make(directory: &Path) -> io::Result<File> {
    let unnamed = directory.with_extension("new");
    fs::DirBuilder::new().mode(0o700).create(&unnamed)?;
    let made = || {
        let lock = open(&unnamed)?;
        lock.try_lock().map_err(io::Error::from)?;
        // Whatever the umask says.
        rustix::fs::fchmod(&lock, rustix::fs::Mode::RWXU)?;
        fs::rename(&unnamed, directory)?;
        Ok(lock)
    };
    made().inspect_err(|_| drop(fs::remove_dir(&unnamed)))
}

fn open(directory: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    File::options().read(true).custom_flags(flags).open(directory)
}

/// Lets a guard end what processes of this user have left that are gone, and whose guard was ended too.
fn end_those_of_others(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let chance = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let is_one = chance.is_some_and(|chance| chance.len() == 16 && chance.bytes().all(|c| c.is_ascii_hexdigit()));
        if !is_one {
            continue;
        }
        let path = entry.path();
        let Ok(directory) = open(&path) else { continue };
        let is_ours = directory.metadata().is_ok_and(|metadata| metadata.uid() == geteuid().as_raw());
        if is_ours && directory.try_lock().is_ok() {
            // It has nothing to wait for. What it cannot do now is done another time.
            let _ = start(&path, Stdio::null());
        }
    }
}

/// Starts a guard over a directory.
fn start(directory: &Path, stdin: Stdio) -> io::Result<(Child, Option<ChildStdin>)> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", GUARD, "packstone-ssh-guard"]).env_clear().env("D", directory);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin")));
    command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null());
    // It must not keep a file system from being unmounted, nor end with the terminal.
    let mut guard = command.current_dir("/").process_group(0).spawn()?;
    let end = guard.stdin.take();
    Ok((guard, end))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::{Duration, Instant};

    /// A process with a command line like that of another program. It ends when its input does.
    fn imitate(name: &str, words: &[&str]) -> Child {
        let mut command = Command::new("cat");
        command.arg0(name).args(words).arg("-").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    fn wait_until(what: &str, is_so: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < until, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn the_directory_is_short_enough_for_a_socket() {
        let tail = "/.ssh-connectionXXXXXX/master.XXXXXXXXXXXXXXXX";
        for (temporary, parent) in [
            ("/var/tmp", "/var/tmp"),
            ("relative", "/tmp"),
            ("/with blank", "/tmp"),
            (&format!("/{}", "x".repeat(60)), "/tmp"),
        ] {
            let place = Place::within(Path::new(temporary), None);
            assert_eq!(place.directory.parent(), Some(Path::new(parent)));
            assert!(place.directory().len() + tail.len() <= 107);
        }
    }

    /// A shell whose `read` and `case` do as they must is all it takes: here processes only look like ssh.
    #[test]
    fn the_guard_ends_what_has_our_directory_where_ssh_has_it_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::within(folder.path(), None);
        // The folder's own path may be too long.
        let directory = folder.path().join(place.directory.file_name().unwrap());
        let guarded = watch(&directory, make(&directory).unwrap()).unwrap();
        let control = format!("{}/.ssh-connectionAbCdEf/master", directory.display());
        let other = control.replace(PREFIX, "packstone-ssh-other-");
        // As ssh is started, and as it calls itself then.
        let mut ours = [imitate("ssh", &["-E", &control]), imitate(&format!("ssh: {control} [mux]"), &[])];
        let mut others = [
            imitate("ssh", &["-E", &other]),
            imitate(&format!("ssh: {other} [mux]"), &[]),
            imitate("cat", &["-E", &control]),
            imitate("ssh", &[&control]),
        ];
        fs::create_dir(directory.join(".ssh-connectionAbCdEf")).unwrap();
        let Guarded { mut guard, _end: end, _lock: lock } = guarded;
        // While the pipe is open it waits, and while the lock is held nobody else touches it.
        end_those_of_others(folder.path());
        std::thread::sleep(Duration::from_millis(600));
        assert!(directory.exists() && guard.try_wait().unwrap().is_none());
        assert!(ours.iter_mut().all(|child| child.try_wait().unwrap().is_none()));
        drop(end);
        guard.wait().unwrap();
        assert!(!directory.exists());
        for child in &mut ours {
            assert!(child.try_wait().unwrap().is_some());
        }
        for child in &mut others {
            assert!(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
        }
        drop(lock);
    }

    #[test]
    fn what_a_killed_process_left_goes_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let named = |number: u32| folder.path().join(format!("{PREFIX}{number:016x}"));
        let lock = make(&named(1)).unwrap();
        drop(make(&named(2)).unwrap());
        fs::create_dir(folder.path().join(format!("{PREFIX}of-somebody-else"))).unwrap();
        fs::create_dir(named(2).join(".ssh-connectionAbCdEf")).unwrap();
        end_those_of_others(folder.path());
        wait_until("it is there", || !named(2).exists());
        std::thread::sleep(Duration::from_millis(300));
        assert!(named(1).exists() && folder.path().read_dir().unwrap().count() == 2);
        drop(lock);
        end_those_of_others(folder.path());
        wait_until("it is there", || !named(1).exists());
    }
}
