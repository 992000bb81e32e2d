//! What a command line is about, and how a suggested command is shown then.
//!
//! A hint is typed in another directory, or read in a cron mail on another day. So it always names the repository, by its absolute path,
//! unless none was named and the default one is meant; and the mirror that was read from, where the suggested command reads too.

use super::options::GlobalOptions;
use crate::base::command::{quote, render};
use crate::tasks::remedy::{absolute, reads, source};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Commands that know no repository.
const WITHOUT: [&str; 4] = ["completions", "help", "man", "version"];

/// The options that suggested commands repeat. They stay until the process ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct About {
    repository: &'static str,
    /// Where the lists of mirrors and what this machine remembers lie, when that was said.
    state: &'static str,
    mirror: &'static str,
}

fn option(name: &str, value: &OsStr) -> &'static str {
    String::leak(format!(" {name} {}", quote(value.as_bytes())))
}

impl About {
    /// The default repository.
    pub const NONE: Self = Self { repository: "", state: "", mirror: "" };

    /// What options and environment name.
    #[must_use]
    pub fn of(global: &GlobalOptions) -> Self {
        let repository =
            match (global.places().repository_is_default(), global.places().repository(), &global.repository_file) {
                (true, ..) => "",
                (_, Ok(place), _) => Self::place(&place),
                // It cannot be read now.
                (_, Err(_), Some(file)) => option("--repository-file", absolute(file).as_os_str()),
                (_, Err(_), None) => option("-r", global.repo.as_deref().unwrap_or(Path::new("")).as_os_str()),
            };
        let mirror = global.from_mirror.as_deref();
        let mirror = mirror.map_or("", |mirror| option("--from", source(mirror).as_os_str()));
        let state = global.state_dir.as_deref().filter(|directory| !directory.as_os_str().is_empty());
        let state = state.map_or("", |directory| option("--state-dir", absolute(directory).as_os_str()));
        Self { repository, state, mirror }
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
        Self { repository, ..Self::NONE }
    }

    /// The repository at another place, with the same state.
    #[must_use]
    pub fn at(self, place: &Path) -> Self {
        Self { repository: Self::place(place), mirror: "", ..self }
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
            let state = if name.starts_with('-') { self.state } else { "" };
            return format!("packstone{state} {words}");
        }
        let mirror = if reads(words) { self.mirror } else { "" };
        format!("packstone{}{}{mirror} {words}", self.repository, self.state)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::command::suggest;
    use crate::cli::Cli;
    use crate::tasks::remedy::{of_mirror, of_repository};
    use clap::Parser;

    fn shown(words: &[&str], text: &str) -> String {
        About::of(&Cli::try_parse_from([&["packstone"], words].concat()).unwrap().global).show(text, str::to_owned)
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
    fn a_text_may_be_about_another_one() {
        let words = &["-r", "/a", "status"];
        let text = concat!(suggest!("check"), "\n", suggest!("prune"));
        assert_eq!(
            shown(words, &of_repository(text, Path::new("/b c"))),
            "packstone -r '/b c' check\npackstone -r '/b c' prune"
        );
        assert_eq!(shown(words, &of_mirror(text, "off")), "packstone -r /a check --from off\npackstone -r /a prune");
        let twice = of_repository(&of_repository(text, Path::new("/b")), Path::new("/c"));
        assert_eq!(shown(words, &twice), "packstone -r /b check\npackstone -r /b prune");
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
