//! The secret that opens a repository: where it may come from, and reading it, as often as it is needed.
//!
//! No option takes the secret itself: a command line is shown to every user of the machine by `ps`, and kept by the
//! shell's history. The variables are taken and cleared ([`Variables::take`]) before any thread or child starts.
//!
//! Order, as in restic: what stands on the command line (`--key-file`, `--password-command`, `--password-file`,
//! `--password-fd`; one of them), else `PACKSTONE_KEY_FILE`, `PACKSTONE_PASSWORD_COMMAND` or
//! `PACKSTONE_PASSWORD_FILE` (one of them), else `PACKSTONE_PASSWORD`, else the answer of a
//! person ([`Prompt`]). For a second repository that is read from (`copy`) the same with `--from-` and
//! `PACKSTONE_FROM_` before each name.

use super::descriptors::{self, Descriptors};
use super::passphrase::Passphrase;
use super::prompt::Prompt;
use super::secret_variables::{FROM_VARIABLES, MIRROR_PREFIX, VARIABLES};
use super::user_command::user_command;
use crate::base::child;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::lock::lock;
use crate::base::polled::Polled;
use crate::base::stop::StopSignal;
use crate::base::sys::remove_environment_variable;
use crate::tasks::failure::Failure;
use crate::text::shell_words;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use zeroize::Zeroizing;

/// Longest secret, in bytes, read from a file, a command or a pipe: a longer one is a wrong file (a disk image, an
/// endless device), not a passphrase.
pub const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// What the variables of the process said about secrets.
#[derive(Default, Clone)]
pub struct Variables {
    own: Given,
    from: Given,
    /// Secrets of mirrors' services, by what stands behind [`MIRROR_PREFIX`], in lower case.
    mirrors: BTreeMap<String, Zeroizing<String>>,
}

/// What they said about one repository's.
#[derive(Default, Clone)]
struct Given {
    password: Option<Zeroizing<Vec<u8>>>,
    command: Option<String>,
    file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    left_behind: bool,
}

impl Variables {
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
        let [own, from] = [VARIABLES, FROM_VARIABLES].map(|names| Given::take_with(names, &read, &remove));
        Self { own, from, mirrors: BTreeMap::new() }
    }

    /// True when a variable could not be removed, so that children inherit it.
    #[must_use]
    pub const fn is_left_behind(&self) -> bool {
        self.own.left_behind || self.from.left_behind
    }
}

impl Given {
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

/// Where somebody said that a secret is; at most one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SecretPlaces {
    /// A file that holds the passphrase.
    pub file: Option<PathBuf>,
    /// A command that prints it.
    pub command: Option<String>,
    /// An open file descriptor.
    pub descriptor: Option<u32>,
    /// A key file.
    pub key_file: Option<PathBuf>,
}

/// The secrets that an environment has.
#[derive(Default)]
pub struct Secrets {
    /// Where the repository's is.
    pub places: SecretPlaces,
    /// What the variables said.
    variables: Mutex<Variables>,
    /// Each secret is needed once: what the variables and descriptors held is wiped when it was read.
    pub once: bool,
    /// The standard input holds something else than a passphrase.
    pub stdin_taken: bool,
    /// Descriptors that secrets come from.
    descriptors: Descriptors,
    /// What was read from them: they can be read once.
    read: Mutex<BTreeMap<u32, Zeroizing<Vec<u8>>>>,
}

impl Secrets {
    /// Those that are named.
    #[must_use]
    pub fn new(places: SecretPlaces, variables: Variables) -> Self {
        let this = Self { places, variables: Mutex::new(variables), ..Self::default() };
        this.take_descriptors(&this.places);
        let given = {
            let variables = lock(&this.variables);
            [&variables.own, &variables.from].map(|Given { file, key_file, .. }| SecretPlaces {
                file: file.clone(),
                key_file: key_file.clone(),
                ..SecretPlaces::default()
            })
        };
        given.iter().for_each(|places| this.take_descriptors(places));
        this
    }

    /// Takes what this process was given for a secret, before it starts any command. What no secret is read from stays open until the
    /// process ends, and is not inherited.
    pub fn take_descriptors(&self, places: &SecretPlaces) {
        let paths = [&places.file, &places.key_file].into_iter().flatten();
        let named = paths.filter_map(|path| descriptors::named_by(path));
        places.descriptor.into_iter().chain(named).for_each(|number| self.descriptors.take(number));
    }

    /// Reads the one that opens the repository.
    ///
    /// # Errors
    /// As [`Source::choose`] and [`Secrets::read`].
    pub fn read_own(&self, question: Question<'_>, prompt: &dyn Prompt, stop: &StopSignal) -> Result<Secret, Failure> {
        let source = {
            let mut variables = lock(&self.variables);
            let source = Source::choose(&self.places, &variables)?;
            variables.own.password.take_if(|_| self.once);
            source
        };
        self.read(source, question, prompt, stop)
    }

    /// Reads the one that opens the repository that is copied from.
    ///
    /// # Errors
    /// As [`Secrets::read_own`].
    pub fn read_from(
        &self,
        places: &SecretPlaces,
        question: Question<'_>,
        prompt: &dyn Prompt,
        stop: &StopSignal,
    ) -> Result<Secret, Failure> {
        let source = {
            let mut variables = lock(&self.variables);
            let source = Source::choose_from(places, &variables)?;
            variables.from.password.take_if(|_| self.once);
            source
        };
        self.read(source, question, prompt, stop)
    }

    /// A secret of a mirror's service, such as `secret_access_key`.
    #[must_use]
    pub fn of_mirror(&self, mirror: Option<&str>, key: &str) -> Option<String> {
        lock(&self.variables).mirror_secret(mirror, key)
    }

    /// Reads a secret.
    ///
    /// # Errors
    /// When the source cannot be read, is empty, or there is nobody to ask; [`Kind::Interrupted`](crate::tasks::failure::Kind::Interrupted)
    /// when whoever was asked wants an end.
    pub fn read(
        &self,
        source: Source,
        question: Question<'_>,
        prompt: &dyn Prompt,
        stop: &StopSignal,
    ) -> Result<Secret, Failure> {
        let passphrase = match source {
            Source::KeyFile(path) => {
                let content = match descriptors::named_by(&path) {
                    Some(number) => self.descriptor(number)?,
                    None => read_file(&path, "key file")?,
                };
                return Ok(Secret::KeyFile(content));
            }
            Source::Command(command) => from_command(&command, stop)?,
            Source::File(path) => {
                let source = format!("the password file {}", escape(path.as_os_str().as_bytes()));
                Passphrase::in_text(read_file(&path, "password file")?, &source)
            }
            Source::Descriptor(0) if self.stdin_taken => {
                return Err(Failure::usage("--password-fd 0 and --stdin both want the standard input"));
            }
            Source::Descriptor(number) => {
                Passphrase::in_text(self.descriptor(number)?, &format!("the password file descriptor {number}"))
            }
            Source::Given(passphrase) => Passphrase::exact(passphrase),
            Source::Ask => prompt.passphrase(question, self.stdin_taken)?,
        };
        if passphrase.is_empty() {
            return Err(Failure::failed("the passphrase is empty").remedy(concat!(
                "an empty passphrase protects nothing. For unattended use make a key file: ",
                suggest!("key add --new-key-file FILE")
            )));
        }
        Ok(Secret::Passphrase(passphrase))
    }

    fn descriptor(&self, number: u32) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut known = lock(&self.read);
        if let Some(content) = known.get(&number) {
            return Ok(content.clone());
        }
        let shown = number.to_string();
        let what = "password file descriptor";
        let opened = self.descriptors.open(number);
        let file =
            opened.map_err(|error| Failure::failed(format!("cannot read the {what} {shown}")).caused_by(error))?;
        let content = read_open(file, what, &shown)?;
        if !self.once {
            known.insert(number, content.clone());
        }
        Ok(content)
    }
}

impl Source {
    /// The source that places and variables name.
    ///
    /// # Errors
    /// A usage error when two of the same rank are named.
    pub fn choose(places: &SecretPlaces, variables: &Variables) -> Result<Self, Failure> {
        Self::choose_of(places, &variables.own, ("--", "PACKSTONE_"))
    }

    /// The same for the repository that is copied from.
    ///
    /// # Errors
    /// As [`Source::choose`].
    pub fn choose_from(places: &SecretPlaces, variables: &Variables) -> Result<Self, Failure> {
        Self::choose_of(places, &variables.from, ("--from-", "PACKSTONE_FROM_"))
    }

    fn choose_of(places: &SecretPlaces, given: &Given, (dash, variable): (&str, &str)) -> Result<Self, Failure> {
        // A path may name a descriptor too.
        let of_file = |path: PathBuf| match descriptors::named_by(&path) {
            Some(number) => Self::Descriptor(number),
            None => Self::File(path),
        };
        let typed = [
            places.key_file.clone().map(Self::KeyFile),
            places.command.clone().map(Self::Command),
            places.file.clone().map(of_file),
            places.descriptor.map(Self::Descriptor),
        ];
        let names =
            ["key-file", "password-command", "password-file", "password-fd"].map(|name| format!("{dash}{name}"));
        if let Some(source) = only(typed, &names)? {
            return Ok(source);
        }
        let variables = [
            given.key_file.clone().map(Self::KeyFile),
            given.command.clone().map(Self::Command),
            given.file.clone().map(of_file),
        ];
        let names = ["KEY_FILE", "PASSWORD_COMMAND", "PASSWORD_FILE"].map(|name| format!("{variable}{name}"));
        if let Some(source) = only(variables, &names)? {
            return Ok(source);
        }
        Ok(given.password.clone().map_or(Self::Ask, Self::Given))
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
    read_open(File::open(path).map_err(failed)?, what, &shown)
}

fn read_open(file: File, what: &str, shown: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("cannot read the {what} {shown}")).caused_by(error);
    limited(file, &|| false).map_err(failed)?.ok_or_else(|| {
        Failure::failed(format!(
            "the {what} {shown} is longer than {} KiB: is it the right file?",
            SECRET_BYTES_MAX / 1024
        ))
    })
}

/// Reads to the end, or `None` when there is more than a secret may have. The buffer never moves, so no copy of a
/// part stays behind in freed memory. A read that was interrupted begins again, unless somebody wants an end.
fn limited(mut reader: impl Read, wants_end: &dyn Fn() -> bool) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut buffer = Zeroizing::new(vec![0; SECRET_BYTES_MAX as usize + 1]);
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted && !wants_end() => {}
            Err(error) => return Err(error),
        }
    }
    Ok((length as u64 <= SECRET_BYTES_MAX).then(|| Zeroizing::new(buffer[..length].to_vec())))
}

fn from_command(command: &str, stop: &StopSignal) -> Result<Passphrase, Failure> {
    let output = command_output(command, "password command", stop)?;
    // The rest of the command line may hold a secret.
    let program = shell_words::split(command).ok().and_then(|words| words.into_iter().next()).unwrap_or_default();
    Ok(Passphrase::in_text(output, &format!("what the password command {program} printed")))
}

/// Runs a command that prints secrets, without a shell, and returns what it prints. `what` it is called in a message.
///
/// # Errors
/// When it cannot be run, fails, or prints more than a secret can be; an interruption when somebody wants an end before it has ended.
pub fn command_output(command: &str, what: &str, stop: &StopSignal) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // The command line itself may hold a secret, so messages name the program only.
    let words = shell_words::split(command)
        .map_err(|why| Failure::usage(format!("the {what} cannot be split into words: {why}")))?;
    let Some((program, arguments)) = words.split_first() else {
        return Err(Failure::usage(format!("the {what} is empty")));
    };
    let failed = |error: io::Error| Failure::failed(format!("cannot run the {what} {program}")).caused_by(error);
    let mut child = user_command(program)
        .args(arguments)
        .stdin(Stdio::inherit())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    let wants_end = || stop.is_set();
    let output = child.stdout.take().map(|output| limited(Polled::new(output), &wants_end)).transpose();
    let status = child::wait(&mut child, &wants_end).map_err(failed)?;
    let Some(status) = status.filter(|_| !wants_end()) else { return Err(Failure::interrupted()) };
    if !status.success() {
        return Err(Failure::failed(format!("the {what} {program} failed: {status}")));
    }
    let output = output.map_err(failed)?.flatten();
    output.ok_or_else(|| {
        Failure::failed(format!("the {what} {program} printed more than {} KiB", SECRET_BYTES_MAX / 1024))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::tasks::environment::prompt::Nobody;
    use crate::tasks::failure::Kind;

    fn passphrase(secret: Secret) -> Vec<u8> {
        match secret {
            Secret::Passphrase(passphrase) => passphrase.for_new().unwrap().to_vec(),
            Secret::KeyFile(_) => panic!("a key file"),
        }
    }

    fn read(source: Source) -> Result<Secret, Failure> {
        Secrets { stdin_taken: true, ..Secrets::default() }.read(
            source,
            Question::Open("Passphrase"),
            &Nobody,
            &StopSignal::new(),
        )
    }

    #[test]
    fn a_mirror_has_secrets_of_its_own() {
        let mut environment = Variables::take_with(|_| None, |_| true);
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
    fn a_descriptor_is_read_once_and_given_again() {
        use std::io::Write;
        use std::os::fd::IntoRawFd;
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"secret\n").unwrap();
        drop(writer);
        // As another process would give it: without close-on-exec.
        let number = u32::try_from(rustix::io::dup(&reader).unwrap().into_raw_fd()).unwrap();
        let secrets = Secrets::default();
        for _ in 0..2 {
            let secret =
                secrets.read(Source::Descriptor(number), Question::Open("Passphrase"), &Nobody, &StopSignal::new());
            assert_eq!(passphrase(secret.unwrap()), b"secret");
        }
        assert_eq!(read(Source::Descriptor(0)).err().unwrap().kind(), Kind::Usage);
        assert!(read(Source::Descriptor(u32::MAX)).is_err());
    }

    #[test]
    fn a_secret_that_is_needed_once_is_not_kept() {
        let own = Given { password: Some(Zeroizing::new(b"s".to_vec())), ..Given::default() };
        let read = |secrets: &Secrets| secrets.read_own(Question::Open("Passphrase"), &Nobody, &StopSignal::new());
        let secrets = |once| Secrets {
            once,
            ..Secrets::new(SecretPlaces::default(), Variables { own: own.clone(), ..Variables::default() })
        };
        let (kept, wiped) = (secrets(false), secrets(true));
        for _ in 0..2 {
            assert_eq!(passphrase(read(&kept).unwrap()), b"s");
        }
        assert_eq!(passphrase(read(&wiped).unwrap()), b"s");
        assert!(read(&wiped).is_err());
    }

    #[test]
    fn the_environment_is_read_and_emptied() {
        let removed = std::cell::RefCell::new(Vec::new());
        let read = |name: &str| {
            (!name.ends_with("KEY_FILE")).then(|| OsString::from(if name.ends_with("FILE") { "" } else { "x" }))
        };
        let taken = Variables::take_with(read, |name| {
            removed.borrow_mut().push(name.to_owned());
            true
        });
        assert_eq!(*removed.borrow(), [&VARIABLES[..3], &FROM_VARIABLES[..3]].concat());
        for taken in [&taken.own, &taken.from] {
            assert!(taken.password.is_some() && taken.command.is_some() && taken.file.is_none());
        }
        assert!(!taken.is_left_behind());
        assert!(Variables::take_with(read, |_| false).is_left_behind());
        assert!(!Variables::take_with(|_| None, |_| false).is_left_behind());
    }

    #[test]
    fn the_command_line_comes_before_the_environment() {
        let own =
            || Given { password: Some(Zeroizing::new(b"e".to_vec())), file: Some("/e".into()), ..Given::default() };
        let environment = || Variables { own: own(), ..Variables::default() };
        let options = SecretPlaces { descriptor: Some(7), ..SecretPlaces::default() };
        assert!(matches!(Source::choose(&options, &environment()).ok(), Some(Source::Descriptor(7))));
        let none = SecretPlaces::default();
        assert!(matches!(Source::choose(&none, &environment()).ok(), Some(Source::File(_))));
        let password_only = Given { file: None, ..own() };
        let password_only = Variables { own: password_only, ..Variables::default() };
        assert!(matches!(Source::choose(&none, &password_only).ok(), Some(Source::Given(_))));
        assert!(matches!(Source::choose(&none, &Variables::default()).ok(), Some(Source::Ask)));
        let two = SecretPlaces { file: Some("/a".into()), ..options };
        assert_eq!(Source::choose(&two, &Variables::default()).err().unwrap().kind(), Kind::Usage);
        // One repository's variables are not the other's.
        let from = SecretPlaces::default();
        assert!(matches!(Source::choose_from(&from, &environment()).ok(), Some(Source::Ask)));
    }
}
