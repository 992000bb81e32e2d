//! What a command line is about, and how a suggested command is shown then.
//!
//! A hint is typed in another directory, or read in a cron mail on another day. So it always names the repository, by its absolute path,
//! unless none was named and the default one is meant; and the mirror that was read from, where the suggested command reads too.

use super::options::GlobalOptions;
use super::{Cli, Command};
use crate::base::command::{quote, render};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Commands that know no repository.
const WITHOUT: [&str; 4] = ["completions", "help", "man", "version"];
/// Commands that can read from a mirror (`--from`).
const READING: [&str; 10] = ["cat", "check", "deleted", "diff", "dump", "find", "ls", "restore", "show", "snapshots"];

/// The options that suggested commands repeat: `repository` holds where its state lies too. They stay until the process ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct About {
    repository: &'static str,
    mirror: &'static str,
}

fn option(name: &str, value: &OsStr) -> &'static str {
    String::leak(format!(" {name} {}", quote(value.as_bytes())))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

impl About {
    /// The default repository.
    pub const NONE: Self = Self { repository: "", mirror: "" };

    /// What `cli` is about: for `recover` the repository that it makes, for every other command the one that is named.
    #[must_use]
    pub fn of(cli: &Cli) -> Self {
        match &cli.command {
            Command::Recover(arguments) if arguments.to.is_some() => {
                let about = Self { repository: arguments.to.as_deref().map_or("", Self::place), mirror: "" };
                about.with_state(&cli.global)
            }
            Command::Recover(_) => Self { mirror: "", ..Self::of_options(&cli.global) },
            _ => Self::of_options(&cli.global),
        }
    }

    fn of_options(global: &GlobalOptions) -> Self {
        let repository = match (global.repository_is_default(), global.repository(), &global.repository_file) {
            (true, ..) => "",
            (_, Ok(place), _) => Self::place(&place),
            // It cannot be read now.
            (_, Err(_), Some(file)) => option("--repository-file", absolute(file).as_os_str()),
            (_, Err(_), None) => option("-r", global.repo.as_deref().unwrap_or(Path::new("")).as_os_str()),
        };
        let mirror = global.from_mirror.as_deref().map_or("", |mirror| {
            let is_path = !mirror.contains("://") && mirror.contains('/');
            let mirror = if is_path { absolute(Path::new(mirror)) } else { PathBuf::from(mirror) };
            option("--from", mirror.as_os_str())
        });
        Self { repository, mirror }.with_state(global)
    }

    /// The list of mirrors, and what this machine remembers, lie where they were said to lie.
    fn with_state(self, global: &GlobalOptions) -> Self {
        let state = global.state_dir.as_deref().filter(|directory| !directory.as_os_str().is_empty());
        let state = state.map_or("", |directory| option("--state-dir", absolute(directory).as_os_str()));
        let repository =
            if state.is_empty() { self.repository } else { String::leak(format!("{}{state}", self.repository)) };
        Self { repository, ..self }
    }

    /// What a command line is about that is none of ours, as far as its words show it.
    #[must_use]
    pub fn of_words(words: &[OsString]) -> Self {
        let value = |long: &[u8], short: Option<&[u8]>| {
            words.iter().enumerate().find_map(|(index, word)| {
                let word = word.as_bytes();
                if word == long || Some(word) == short {
                    return words.get(index + 1).cloned();
                }
                let glued = word.strip_prefix(long).and_then(|rest| rest.strip_prefix(b"="));
                let glued = glued.or_else(|| short.and_then(|short| word.strip_prefix(short)));
                glued.map(|value| OsStr::from_bytes(value).to_owned())
            })
        };
        let named = value(b"--repo", Some(b"-r")).or_else(|| value(b"--repository", None));
        let file = value(b"--repository-file", None);
        let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let repository = match (named, file) {
            (Some(place), _) => Self::place(Path::new(&place)),
            (None, Some(file)) => option("--repository-file", absolute(Path::new(&file)).as_os_str()),
            (None, None) => match (given("PACKSTONE_REPOSITORY"), given("PACKSTONE_REPOSITORY_FILE")) {
                (Some(place), _) => Self::place(Path::new(&place)),
                (None, Some(file)) => option("--repository-file", absolute(Path::new(&file)).as_os_str()),
                (None, None) => "",
            },
        };
        Self { repository, mirror: "" }
    }

    fn place(place: &Path) -> &'static str {
        option("-r", absolute(place).as_os_str())
    }

    /// `text` as it is printed: its commands as this user types them, and `other` of everything else.
    pub fn show(self, text: &str, other: impl Fn(&str) -> String) -> String {
        render(text, other, |words| self.command(words))
    }

    fn command(self, words: &str) -> String {
        let name = words.split(' ').next().unwrap_or_default();
        if name.starts_with('-') || WITHOUT.contains(&name) {
            return format!("packstone {words}");
        }
        let names_one = [" --from ", " --mirror "].iter().any(|option| words.contains(option));
        let mirror = if READING.contains(&name) && !names_one { self.mirror } else { "" };
        format!("packstone{}{mirror} {words}", self.repository)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::command::suggest;
    use clap::Parser;

    fn shown(words: &[&str], text: &str) -> String {
        About::of(&Cli::try_parse_from([&["packstone"], words].concat()).unwrap()).show(text, str::to_owned)
    }

    #[test]
    fn a_command_names_the_repository_that_the_command_line_is_about() {
        let check = suggest!("check");
        for (words, text, expected) in [
            (&["-r", "/srv/it's", "status"][..], check, r"packstone -r '/srv/it'\''s' check"),
            (&["status", "--repo", "local:/srv/$HOME"], check, "packstone -r '/srv/$HOME' check"),
            (&["-r", "s3://bucket", "status"], check, "packstone -r s3://bucket check"),
            (&["-r", "/a", "status"], suggest!("man --directory DIRECTORY"), "packstone man --directory DIRECTORY"),
            (&["-r", "/a", "status"], suggest!("-r /b check"), "packstone -r /b check"),
            (&["-r", "/a", "recover", "m", "--to", "/b c"], check, "packstone -r '/b c' check"),
            (&["-r", "/a", "recover", "m"], check, "packstone -r /a check"),
            (&["-r", "/a", "--state-dir", "/s t", "status"], check, "packstone -r /a --state-dir '/s t' check"),
            (&["-r", "/a", "--from", "off", "status"], suggest!("ls 1a"), "packstone -r /a --from off ls 1a"),
            (&["-r", "/a", "--from", "off", "status"], suggest!("prune"), "packstone -r /a prune"),
            (
                &["-r", "/a", "--from", "off", "status"],
                suggest!("check --mirror b"),
                "packstone -r /a check --mirror b",
            ),
            (
                &["-r", "/a", "--repository-file", "/no such", "status"],
                check,
                "packstone --repository-file '/no such' check",
            ),
        ] {
            assert_eq!(shown(words, text), expected, "{words:?}");
        }
        let here = std::env::current_dir().unwrap().join("relative");
        assert_eq!(shown(&["-r", "relative", "status"], check), format!("packstone -r {} check", here.display()));
    }

    #[test]
    fn so_does_the_answer_to_a_command_line_that_is_not_ours() {
        for words in
            [&["-r", "/a b", "mount"][..], &["mount", "--repo=/a b"], &["x", "-r/a b"], &["--repository", "/a b"]]
        {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            assert_eq!(About::of_words(&words).show(suggest!("prune"), str::to_owned), "packstone -r '/a b' prune");
        }
    }
}
