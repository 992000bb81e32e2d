//! What to do next, as data: sentences, and commands of this program between them.
//!
//! Whoever shows a remedy decides how its commands look: a shell types the program's name and the repository in front of the words, a
//! mail quotes them, a page makes a button of them. The notation in the code is `suggest!` of [`crate::base::command`].

use crate::base::command::{self, BEGIN, END, quote, render};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Commands that can read from a mirror (`--from`).
const READING: [&str; 10] = ["cat", "check", "deleted", "diff", "dump", "find", "ls", "restore", "show", "snapshots"];

/// One thing to do or to look at.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Remedy(String);

/// A part of a remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// A sentence, or the end of one.
    Text(&'a str),
    /// The words of a command behind the program's name, each quoted for a POSIX shell where it has to be.
    Command(&'a str),
}

impl Remedy {
    /// Its parts in order.
    #[must_use]
    pub fn parts(&self) -> Vec<Part<'_>> {
        let mut parts = self.0.split(BEGIN);
        let text = |text| Some(Part::Text(text)).filter(|_| !str::is_empty(text));
        let mut found: Vec<Part<'_>> = parts.next().and_then(text).into_iter().collect();
        for part in parts {
            match part.split_once(END) {
                Some((words, rest)) => found.extend([Some(Part::Command(words)), text(rest)].into_iter().flatten()),
                None => found.extend(text(part)),
            }
        }
        found
    }

    /// The commands in it.
    #[must_use]
    pub fn commands(&self) -> Vec<&str> {
        let words = |part| if let Part::Command(words) = part { Some(words) } else { None };
        self.parts().into_iter().filter_map(words).collect()
    }

    /// The text in which every command stands between its marks ([`crate::base::command`]).
    #[must_use]
    pub fn marked(&self) -> &str {
        &self.0
    }

    /// The same where it is about the repository at `place`.
    #[must_use]
    pub fn at(&self, place: &Path) -> Self {
        Self(of_repository(&self.0, place))
    }

    /// The same where it is about what was read from a mirror.
    #[must_use]
    pub fn reading_from(&self, mirror: &str) -> Self {
        Self(of_mirror(&self.0, mirror))
    }
}

impl<T: Into<String>> From<T> for Remedy {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

/// With the program's name in front of each command, for a record or a log.
impl fmt::Debug for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&command::stored(&self.0))
    }
}

/// `text` where it is about the repository at `place`, and not about the one that the environment names.
#[must_use]
pub fn of_repository(text: &str, place: &Path) -> String {
    let place = absolute(place);
    render(text, str::to_owned, |words| match words.starts_with('-') {
        true => format!("{BEGIN}{words}{END}"),
        false => format!("{BEGIN}-r {} {words}{END}", quote(place.as_os_str().as_bytes())),
    })
}

/// `text` where it is about what was read from a mirror.
#[must_use]
pub fn of_mirror(text: &str, mirror: &str) -> String {
    render(text, str::to_owned, |words| match reads(words) {
        true => format!("{BEGIN}{words} --from {}{END}", quote(source(mirror).as_os_str().as_bytes())),
        false => format!("{BEGIN}{words}{END}"),
    })
}

/// True when the command can read from a mirror, and names none.
#[must_use]
pub fn reads(words: &str) -> bool {
    let names_one = [" --from ", " --mirror "].iter().any(|option| words.contains(option));
    READING.contains(&words.split(' ').next().unwrap_or_default()) && !names_one
}

/// A mirror's name or address, for another directory.
#[must_use]
pub fn source(mirror: &str) -> PathBuf {
    let is_path = !mirror.contains("://") && mirror.contains('/');
    if is_path { absolute(Path::new(mirror)) } else { PathBuf::from(OsStr::new(mirror)) }
}

/// The path for another directory.
#[must_use]
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::command::suggest;

    #[test]
    fn commands_are_found_between_sentences() {
        let remedy = Remedy::from(concat!("first: ", suggest!("check"), "  then: ", suggest!("prune")));
        let parts = [Part::Text("first: "), Part::Command("check"), Part::Text("  then: "), Part::Command("prune")];
        assert_eq!(remedy.parts(), parts);
        assert_eq!(remedy.commands(), ["check", "prune"]);
        assert_eq!(format!("{remedy:?}"), "first: packstone check  then: packstone prune");
        assert_eq!(Remedy::from("look at the disk").parts(), [Part::Text("look at the disk")]);
        assert!(Remedy::from("").parts().is_empty());
    }

    #[test]
    fn one_may_be_about_another_repository_or_a_mirror() {
        let remedy = Remedy::from(suggest!("check"));
        assert_eq!(remedy.at(Path::new("/a b")).commands(), ["-r '/a b' check"]);
        assert_eq!(remedy.at(Path::new("/b")).at(Path::new("/c")).commands(), ["-r /b check"]);
        assert_eq!(remedy.reading_from("off").commands(), ["check --from off"]);
        assert_eq!(Remedy::from(suggest!("prune")).reading_from("off").commands(), ["prune"]);
    }
}
