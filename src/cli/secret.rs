//! The secret that opens a repository: where it may come from, and reading it once.
//!
//! No option takes the secret itself: a command line is shown to every user of the machine by `ps`, and kept by the
//! shell's history. The environment is taken and cleared ([`Environment::take`]) before any thread or child starts.
//!
//! Order, as in restic: what stands on the command line (`--key-file`, `--password-command`, `--password-file`,
//! `--password-fd`; one of them), else `PACKSTONE_KEY_FILE`, `PACKSTONE_PASSWORD_COMMAND` or
//! `PACKSTONE_PASSWORD_FILE` (one of them), else `PACKSTONE_PASSWORD`, else a question on the terminal, else the first
//! line of the standard input. For a second repository that is read from (`copy`) the same with `--from-` and
//! `PACKSTONE_FROM_` before each name, and the next line.

use super::passphrase::Passphrase;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::sys::remove_environment_variable;
use crate::codec::head_code::HeadCode;
use crate::repository::expected::{Expected, IdBeginning};
use crate::storage::remote::ssh;
use crate::tasks::failure::{Failure, Kind};
use crate::text::shell_words;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// Longest secret, in bytes, read from a file, a command or a pipe: a longer one is a wrong file (a disk image, an
/// endless device), not a passphrase.
pub const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// The variables that may hold or lead to a secret, and are removed from the environment.
const VARIABLES: [&str; 4] =
    ["PACKSTONE_PASSWORD", "PACKSTONE_PASSWORD_COMMAND", "PACKSTONE_PASSWORD_FILE", "PACKSTONE_KEY_FILE"];
/// The same for a repository that is copied from.
const FROM_VARIABLES: [&str; 4] = [
    "PACKSTONE_FROM_PASSWORD",
    "PACKSTONE_FROM_PASSWORD_COMMAND",
    "PACKSTONE_FROM_PASSWORD_FILE",
    "PACKSTONE_FROM_KEY_FILE",
];

/// What the environment said about secrets.
#[derive(Default)]
pub struct Environment {
    own: Variables,
    from: Variables,
    /// Secrets of mirrors' services, by what stands behind [`MIRROR_PREFIX`], in lower case.
    mirrors: BTreeMap<String, Zeroizing<String>>,
}

/// What it said about one repository's.
#[derive(Default)]
struct Variables {
    password: Option<Zeroizing<Vec<u8>>>,
    command: Option<String>,
    file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    left_behind: bool,
}

/// What the variables begin with that hold secrets of mirrors' services.
const MIRROR_PREFIX: &str = "PACKSTONE_MIRROR_";

impl Environment {
    /// Reads the variables and removes them. Must run before any thread or child starts.
    #[must_use]
    pub fn take() -> Self {
        let mut this =
            Self::take_with(|name| std::env::var_os(name), |name| remove_environment_variable(OsStr::new(name)));
        let given = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let given: Vec<(String, OsString)> = given.filter(|(name, _)| name.starts_with(MIRROR_PREFIX)).collect();
        for (name, value) in given {
            this.own.left_behind |= !remove_environment_variable(OsStr::new(&name));
            if let (Some(key), Ok(value)) = (name.strip_prefix(MIRROR_PREFIX), value.into_string()) {
                this.mirrors.insert(key.to_lowercase(), Zeroizing::new(value));
            }
        }
        this
    }

    /// A secret of a mirror's service, such as `secret_access_key`: the mirror's own (`PACKSTONE_MIRROR_<NAME>_<KEY>`), or that of all
    /// mirrors (`PACKSTONE_MIRROR_<KEY>`).
    #[must_use]
    pub fn mirror_secret(&self, mirror: Option<&str>, key: &str) -> Option<String> {
        let own =
            mirror.and_then(|mirror| self.mirrors.get(&format!("{}_{key}", mirror.to_lowercase().replace('-', "_"))));
        own.or_else(|| self.mirrors.get(key)).map(|value| value.to_string())
    }

    fn take_with(read: impl Fn(&str) -> Option<OsString>, remove: impl Fn(&str) -> bool) -> Self {
        let [own, from] = [VARIABLES, FROM_VARIABLES].map(|names| Variables::take_with(names, &read, &remove));
        Self { own, from, mirrors: BTreeMap::new() }
    }

    /// True when a variable could not be removed, so that children inherit it.
    #[must_use]
    pub const fn is_left_behind(&self) -> bool {
        self.own.left_behind || self.from.left_behind
    }
}

impl Variables {
    fn take_with(names: [&str; 4], read: &impl Fn(&str) -> Option<OsString>, remove: &impl Fn(&str) -> bool) -> Self {
        let mut left_behind = false;
        let [password, command, file, key_file] = names.map(|name| {
            let value = read(name)?;
            left_behind |= !remove(name);
            Some(value).filter(|value| !value.is_empty())
        });
        Self {
            left_behind,
            password: password.map(|value| Zeroizing::new(value.into_vec())),
            command: command.map(|value| value.to_string_lossy().into_owned()),
            file: file.map(PathBuf::from),
            key_file: key_file.map(PathBuf::from),
        }
    }
}

/// The options that say where the secret is.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct SecretOptions {
    /// Read the passphrase from this file, which holds one line [env: PACKSTONE_PASSWORD_FILE]
    #[arg(short = 'p', long, value_name = "FILE", global = true)]
    pub password_file: Option<PathBuf>,
    /// Run this command, without a shell, and take its output as the passphrase [env: PACKSTONE_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND", global = true)]
    pub password_command: Option<String>,
    /// Read the passphrase from this open file descriptor
    #[arg(long, value_name = "N", global = true)]
    pub password_fd: Option<u32>,
    /// Open the repository with this key file instead of a passphrase [env: PACKSTONE_KEY_FILE]
    #[arg(long, value_name = "FILE", global = true)]
    pub key_file: Option<PathBuf>,
}

/// The options that say which repository is copied from, and where its secret is.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Source")]
pub struct FromOptions {
    /// The repository to copy from: a directory
    #[arg(long, value_name = "PATH", env = "PACKSTONE_FROM_REPOSITORY")]
    pub from_repo: Option<PathBuf>,
    /// Read the place of the repository to copy from in this file
    #[arg(long, value_name = "FILE", env = "PACKSTONE_FROM_REPOSITORY_FILE")]
    pub from_repository_file: Option<PathBuf>,
    /// Copy from a mirror instead, by name or address: of another repository, or of this one with another history. Wins over --from-repo
    // The global --from has the name that this field would have.
    #[arg(id = "from_which_mirror", long = "from-mirror", value_name = "MIRROR")]
    pub mirror: Option<String>,
    /// Refuse to copy from any other repository than the one with this id, as --repo-id
    #[arg(long, value_name = "ID")]
    pub from_repo_id: Vec<IdBeginning>,
    /// Refuse to copy from a state that is older than the one with this state code, as --expect-head
    #[arg(long, value_name = "CODE", value_parser = super::options::parse_head_code)]
    pub from_expect_head: Option<HeadCode>,
    /// Read its passphrase from this file [env: PACKSTONE_FROM_PASSWORD_FILE]
    #[arg(long, value_name = "FILE")]
    pub from_password_file: Option<PathBuf>,
    /// Run this command and take its output as its passphrase [env: PACKSTONE_FROM_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND")]
    pub from_password_command: Option<String>,
    /// Read its passphrase from this open file descriptor
    #[arg(long, value_name = "N")]
    pub from_password_fd: Option<u32>,
    /// Open it with this key file instead of a passphrase [env: PACKSTONE_FROM_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    pub from_key_file: Option<PathBuf>,
}

impl FromOptions {
    /// What is said of the source before it is opened.
    #[must_use]
    pub fn expected(&self) -> Expected {
        Expected { ids: self.from_repo_id.clone(), head: self.from_expect_head }
    }
}

/// A secret, wiped from memory when dropped.
#[derive(Clone)]
pub enum Secret {
    /// A passphrase (or a recovery code typed in its place), never empty.
    Passphrase(Passphrase),
    /// The content of a key file, not checked yet.
    KeyFile(Zeroizing<Vec<u8>>),
}

/// Where the secret comes from.
pub enum Source {
    /// A key file.
    KeyFile(PathBuf),
    /// The output of a command.
    Command(String),
    /// A file.
    File(PathBuf),
    /// An open file descriptor.
    Descriptor(u32),
    /// The environment.
    Given(Zeroizing<Vec<u8>>),
    /// The terminal or the standard input.
    Ask,
}

/// How to ask for a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question<'a> {
    /// For one that exists: asked once.
    Open(&'a str),
    /// For a new one: asked twice.
    Create(&'a str),
}

impl Source {
    /// The source that options and environment name.
    ///
    /// # Errors
    /// A usage error when two of the same rank are named.
    pub fn choose(options: &SecretOptions, environment: &mut Environment) -> Result<Self, Failure> {
        Self::choose_of(options, &mut environment.own, ("--", "PACKSTONE_"))
    }

    /// The same for the repository that is copied from.
    ///
    /// # Errors
    /// As [`Source::choose`].
    pub fn choose_from(options: &FromOptions, environment: &mut Environment) -> Result<Self, Failure> {
        let FromOptions { from_password_file, from_password_command, from_password_fd, from_key_file, .. } = options;
        let options = SecretOptions {
            password_file: from_password_file.clone(),
            password_command: from_password_command.clone(),
            password_fd: *from_password_fd,
            key_file: from_key_file.clone(),
        };
        Self::choose_of(&options, &mut environment.from, ("--from-", "PACKSTONE_FROM_"))
    }

    fn choose_of(
        options: &SecretOptions,
        environment: &mut Variables,
        (dash, variable): (&str, &str),
    ) -> Result<Self, Failure> {
        let typed = [
            options.key_file.clone().map(Self::KeyFile),
            options.password_command.clone().map(Self::Command),
            options.password_file.clone().map(Self::File),
            options.password_fd.map(Self::Descriptor),
        ];
        let names =
            ["key-file", "password-command", "password-file", "password-fd"].map(|name| format!("{dash}{name}"));
        if let Some(source) = only(typed, &names)? {
            return Ok(source);
        }
        let variables = [
            environment.key_file.take().map(Self::KeyFile),
            environment.command.take().map(Self::Command),
            environment.file.take().map(Self::File),
        ];
        let names = ["KEY_FILE", "PASSWORD_COMMAND", "PASSWORD_FILE"].map(|name| format!("{variable}{name}"));
        if let Some(source) = only(variables, &names)? {
            return Ok(source);
        }
        Ok(environment.password.take().map_or(Self::Ask, Self::Given))
    }

    /// Reads the secret. `stdin_taken` is true when the standard input holds something else (`backup --stdin`).
    ///
    /// # Errors
    /// When the source cannot be read, is empty, or there is nobody to ask; [`Exit::Interrupted`] when the user
    /// answered with Ctrl-C.
    pub fn read(self, question: Question<'_>, stdin_taken: bool) -> Result<Secret, Failure> {
        let passphrase = match self {
            Self::KeyFile(path) => {
                let content = read_file(&path, "key file")?;
                return Ok(Secret::KeyFile(content));
            }
            Self::Command(command) => from_command(&command)?,
            Self::File(path) => {
                let source = format!("the password file {}", escape(path.as_os_str().as_bytes()));
                Passphrase::in_text(read_file(&path, "password file")?, &source)
            }
            Self::Descriptor(0) if stdin_taken => {
                return Err(Failure::usage("--password-fd 0 and --stdin both want the standard input"));
            }
            Self::Descriptor(number) => {
                let path = format!("/dev/fd/{number}");
                let content = read_file(Path::new(&path), "password file descriptor")?;
                Passphrase::in_text(content, &format!("the password file descriptor {number}"))
            }
            Self::Given(passphrase) => Passphrase::exact(passphrase),
            Self::Ask => ask(question, stdin_taken)?,
        };
        if passphrase.is_empty() {
            return Err(Failure::failed("the passphrase is empty").remedy(concat!(
                "an empty passphrase protects nothing. For unattended use make a key file: ",
                suggest!("key add --new-key-file FILE")
            )));
        }
        Ok(Secret::Passphrase(passphrase))
    }
}

fn only<const N: usize>(sources: [Option<Source>; N], names: &[String; N]) -> Result<Option<Source>, Failure> {
    let mut found = sources.into_iter().flatten();
    let first = found.next();
    match found.next() {
        None => Ok(first),
        Some(_) => {
            let (last, before) = names.split_last().map_or(("", &names[..0]), |(last, before)| (last.as_str(), before));
            Err(Failure::usage(format!("only one of {} and {last} can be used", before.join(", "))))
        }
    }
}

/// Reads a secret from a file of at most [`SECRET_BYTES_MAX`] bytes; `what` names it in errors.
///
/// # Errors
/// When it cannot be read or is longer.
pub fn read_file(path: &Path, what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let shown = escape(path.as_os_str().as_bytes());
    let failed = |error: io::Error| Failure::failed(format!("cannot read the {what} {shown}")).caused_by(error);
    let file = File::open(path).map_err(failed)?;
    limited(file).map_err(failed)?.ok_or_else(|| {
        Failure::failed(format!(
            "the {what} {shown} is longer than {} KiB: is it the right file?",
            SECRET_BYTES_MAX / 1024
        ))
    })
}

/// Reads to the end, or `None` when there is more than a secret may have. The buffer never moves, so no copy of a
/// part stays behind in freed memory.
fn limited(mut reader: impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut buffer = Zeroizing::new(vec![0; SECRET_BYTES_MAX as usize + 1]);
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((length as u64 <= SECRET_BYTES_MAX).then(|| Zeroizing::new(buffer[..length].to_vec())))
}

fn from_command(command: &str) -> Result<Passphrase, Failure> {
    let output = command_output(command)?;
    // The rest of the command line may hold a secret.
    let program = shell_words::split(command).ok().and_then(|words| words.into_iter().next()).unwrap_or_default();
    Ok(Passphrase::in_text(output, &format!("what the password command {program} printed")))
}

/// Runs a command that prints secrets, without a shell, and returns what it prints.
///
/// # Errors
/// When it cannot be run, fails, or prints more than a secret can be.
pub fn command_output(command: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // The command line itself may hold a secret, so messages name the program only.
    let words = shell_words::split(command)
        .map_err(|why| Failure::usage(format!("the password command cannot be split into words: {why}")))?;
    let Some((program, arguments)) = words.split_first() else {
        return Err(Failure::usage("the password command is empty"));
    };
    let failed =
        |error: io::Error| Failure::failed(format!("cannot run the password command {program}")).caused_by(error);
    let mut command = Command::new(program);
    // They are gone already, unless the system could not say that this is the only thread.
    VARIABLES.iter().chain(&FROM_VARIABLES).for_each(|name| {
        command.env_remove(name);
    });
    ssh::Place::hide_from(&mut command);
    let mut child = command
        .args(arguments)
        .stdin(Stdio::inherit())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    let output = child.stdout.take().map(limited).transpose();
    let status = child.wait().map_err(failed)?;
    if !status.success() {
        return Err(Failure::failed(format!("the password command {program} failed: {status}")));
    }
    let output = output.map_err(failed)?.flatten();
    output.ok_or_else(|| {
        Failure::failed(format!("the password command {program} printed more than {} KiB", SECRET_BYTES_MAX / 1024))
    })
}

fn ask(question: Question<'_>, stdin_taken: bool) -> Result<Passphrase, Failure> {
    let ways = "use --password-file, --password-command, --password-fd, --key-file or PACKSTONE_PASSWORD";
    if !stdin_taken && !io::stdin().is_terminal() {
        let mut line = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX as usize + 1));
        io::stdin()
            .lock()
            .take(SECRET_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .map_err(|error| Failure::failed("cannot read the passphrase from the standard input").caused_by(error))?;
        if line.is_empty() {
            return Err(Failure::failed("no passphrase: the standard input is empty and no terminal").remedy(ways));
        }
        if line.len() as u64 == SECRET_BYTES_MAX {
            return Err(Failure::failed(format!(
                "the first line of the standard input is longer than {} KiB: no passphrase",
                SECRET_BYTES_MAX / 1024
            ))
            .remedy(ways));
        }
        return Ok(Passphrase::in_text(line, "the first line of the standard input"));
    }
    let (prompt, again) = match question {
        Question::Open(prompt) => (prompt, None),
        Question::Create(prompt) => (prompt, Some("again: ")),
    };
    let first = prompt_hidden(&format!("{prompt}: "), ways)?;
    if let Some(again) = again.filter(|_| !first.is_empty()) {
        let second = prompt_hidden(again, ways)?;
        if *first != *second {
            return Err(Failure::failed("the two passphrases differ").remedy("run the command again"));
        }
    }
    Ok(Passphrase::exact(first))
}

/// Asks on the terminal without showing the answer.
///
/// # Errors
/// When there is no terminal (with `ways` as the hint), or the user pressed Ctrl-C.
pub fn prompt_hidden(prompt: &str, ways: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match rpassword::prompt_password(prompt) {
        Ok(answer) => Ok(Zeroizing::new(answer.into_bytes())),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(Failure::interrupted()),
        Err(error) => {
            Err(Failure::new(Kind::Failed, "cannot ask for a passphrase: no terminal").caused_by(error).remedy(ways))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn passphrase(secret: Secret) -> Vec<u8> {
        match secret {
            Secret::Passphrase(passphrase) => passphrase.for_new().unwrap().to_vec(),
            Secret::KeyFile(_) => panic!("a key file"),
        }
    }

    fn read(source: Source) -> Result<Secret, Failure> {
        source.read(Question::Open("Passphrase"), true)
    }

    #[test]
    fn a_mirror_has_secrets_of_its_own() {
        let mut environment = Environment::take_with(|_| None, |_| true);
        for (name, value) in [("password", "everybody's"), ("my_box_password", "its own")] {
            environment.mirrors.insert(name.to_owned(), Zeroizing::new(value.to_owned()));
        }
        assert_eq!(environment.mirror_secret(Some("My-Box"), "password").unwrap(), "its own");
        assert_eq!(environment.mirror_secret(Some("box"), "password").unwrap(), "everybody's");
        assert_eq!(environment.mirror_secret(None, "password").unwrap(), "everybody's");
        assert_eq!(environment.mirror_secret(None, "token"), None);
    }

    #[test]
    fn files_lose_line_ends_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        for (content, expected) in [("s", "s"), ("s\n", "s"), ("s\r\n", "s"), (" s \n\n", " s ")] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(passphrase(read(Source::File(path.clone())).unwrap()), expected.as_bytes(), "{content:?}");
        }
        for empty in ["", "\n", "\r\n", "\r"] {
            std::fs::write(&path, empty).unwrap();
            let error = read(Source::File(path.clone())).err().unwrap();
            assert!(error.chain().contains("empty"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_no_secret_is_refused() {
        let error = read(Source::File("/dev/zero".into())).err().unwrap();
        assert!(error.chain().contains("/dev/zero is longer than 64 KiB"), "{}", error.chain());
        let error = read(Source::File("/nowhere/x".into())).err().unwrap();
        assert!(error.chain().starts_with("cannot read the password file /nowhere/x: "), "{}", error.chain());
    }

    #[test]
    fn a_command_is_run_without_a_shell() {
        let secret = read(Source::Command("printf '%s\\n' 'a  $b'".to_owned())).unwrap();
        assert_eq!(passphrase(secret), b"a  $b");
        let error = read(Source::Command("false".to_owned())).err().unwrap();
        assert!(error.chain().contains("false failed"), "{}", error.chain());
        assert_eq!(read(Source::Command("'x".to_owned())).err().unwrap().kind(), Kind::Usage);
    }

    #[test]
    fn a_descriptor_is_read() {
        use std::io::Write;
        use std::os::fd::AsRawFd;
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"secret\n").unwrap();
        drop(writer);
        let number = u32::try_from(reader.as_raw_fd()).unwrap();
        assert_eq!(passphrase(read(Source::Descriptor(number)).unwrap()), b"secret");
        assert_eq!(read(Source::Descriptor(0)).err().unwrap().kind(), Kind::Usage);
        assert!(read(Source::Descriptor(u32::MAX)).is_err());
    }

    #[test]
    fn the_environment_is_read_and_emptied() {
        let removed = std::cell::RefCell::new(Vec::new());
        let read = |name: &str| {
            (!name.ends_with("KEY_FILE")).then(|| OsString::from(if name.ends_with("FILE") { "" } else { "x" }))
        };
        let taken = Environment::take_with(read, |name| {
            removed.borrow_mut().push(name.to_owned());
            true
        });
        assert_eq!(*removed.borrow(), [&VARIABLES[..3], &FROM_VARIABLES[..3]].concat());
        for taken in [&taken.own, &taken.from] {
            assert!(taken.password.is_some() && taken.command.is_some() && taken.file.is_none());
        }
        assert!(!taken.is_left_behind());
        assert!(Environment::take_with(read, |_| false).is_left_behind());
        assert!(!Environment::take_with(|_| None, |_| false).is_left_behind());
    }

    #[test]
    fn the_command_line_comes_before_the_environment() {
        let own = || Variables {
            password: Some(Zeroizing::new(b"e".to_vec())),
            file: Some("/e".into()),
            ..Variables::default()
        };
        let environment = || Environment { own: own(), ..Environment::default() };
        let options = SecretOptions { password_fd: Some(7), ..SecretOptions::default() };
        assert!(matches!(Source::choose(&options, &mut environment()).ok(), Some(Source::Descriptor(7))));
        let none = SecretOptions::default();
        assert!(matches!(Source::choose(&none, &mut environment()).ok(), Some(Source::File(_))));
        let password_only = Variables { file: None, ..own() };
        let mut password_only = Environment { own: password_only, ..Environment::default() };
        assert!(matches!(Source::choose(&none, &mut password_only).ok(), Some(Source::Given(_))));
        assert!(matches!(Source::choose(&none, &mut Environment::default()).ok(), Some(Source::Ask)));
        let two = SecretOptions { password_file: Some("/a".into()), ..options };
        assert_eq!(Source::choose(&two, &mut Environment::default()).err().unwrap().kind(), Kind::Usage);
        // One repository's variables are not the other's.
        let from = FromOptions::default();
        assert!(matches!(Source::choose_from(&from, &mut environment()).ok(), Some(Source::Ask)));
    }
}
