//! Directories that do not tell all names apart: upper and lower case, mostly, on exFAT, vfat, NTFS and where ext4 and F2FS were told to.
//!
//! There a name of the snapshot may lead to what stands under another spelling. What a name leads to and what the directory lists are
//! compared, so that no table of file systems is needed.
//!
//! - The first entry of the snapshot that a name of the target belongs to has it. Another one that leads there is a conflict, named each
//!   time, and nothing is done for it.
//! - A name of the target that any entry leads to is not extra. When it cannot be determined which one an entry leads to, nothing is
//!   extra in that directory.

use std::collections::{HashMap, HashSet};

use super::planner::{Planner, There};
use super::report::ProblemKind;
use crate::base::escape::Escaped;
use crate::files::target::TargetDirectory;

/// The names in a directory of the target, in order, and which of them an entry of the snapshot has.
#[derive(Default)]
pub(super) struct Spellings {
    names: Vec<(Vec<u8>, bool)>,
    others: Option<Others>,
}

/// What is asked about names that lead somewhere and are not listed. Made for the first of them: most directories have none.
struct Others {
    /// Rows by what is the same for all spellings that differ in case only.
    folded: HashMap<String, Vec<usize>>,
    /// Rows by inode.
    inodes: HashMap<(u64, u64), Vec<usize>>,
    /// Names that have come since.
    since: HashSet<Vec<u8>>,
}

/// What a name of the snapshot leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leads {
    /// To nothing, or to what is listed under that very name, or under a spelling that no other entry has.
    Freely,
    /// To what another entry has, which is listed under this name.
    Taken(Vec<u8>),
    /// To something that is listed under no name that could be it.
    Unlisted,
}

/// The same for all spellings that differ in case only.
fn folded(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_lowercase()
}

impl Spellings {
    /// Of what is in a directory that is there.
    pub fn of(there: &There) -> Self {
        let names = match there {
            There::Directory(directory) => directory.names().unwrap_or_default(),
            There::Nothing => Vec::new(),
        };
        Self { names: names.into_iter().map(|name| (name, false)).collect(), others: None }
    }

    /// Whether an entry of the snapshot has this name of the target.
    pub fn is_taken(&self, name: &[u8]) -> bool {
        self.position(name).is_some_and(|at| self.names.get(at).is_some_and(|(_, taken)| *taken))
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        self.names.binary_search_by(|(listed, _)| listed.as_slice().cmp(name)).ok()
    }

    /// Takes the name in the target that an entry leads to.
    pub fn take(&mut self, name: &[u8], directory: &TargetDirectory) -> Leads {
        if let Some(at) = self.position(name) {
            return self.take_all(&[at]);
        }
        // An entry that cannot be looked at is named when it is decided about.
        let Ok(Some(stat)) = directory.stat(name) else { return Leads::Freely };
        let names = &self.names;
        let others = self.others.get_or_insert_with(|| Others::of(names, directory));
        if others.since.contains(name) {
            return Leads::Freely;
        }
        let found = others.folded.get(&folded(name)).or_else(|| others.inodes.get(&stat.key()));
        match found.cloned() {
            Some(found) => self.take_all(&found),
            None => Leads::Unlisted,
        }
    }

    fn take_all(&mut self, found: &[usize]) -> Leads {
        let mut leads = Leads::Freely;
        for at in found {
            if let Some((name, taken)) = self.names.get_mut(*at) {
                if *taken {
                    leads = Leads::Taken(name.clone());
                }
                *taken = true;
            }
        }
        leads
    }
}

impl Others {
    fn of(names: &[(Vec<u8>, bool)], directory: &TargetDirectory) -> Self {
        let (mut by_case, mut inodes) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (row, (name, _)) in names.iter().enumerate() {
            by_case.entry(folded(name)).or_default().push(row);
            if let Ok(Some(stat)) = directory.stat(name) {
                inodes.entry(stat.key()).or_default().push(row);
            }
        }
        let is_known = |name: &Vec<u8>| names.binary_search_by(|(listed, _)| listed.cmp(name)).is_ok();
        let since = directory.names().unwrap_or_default().into_iter().filter(|name| !is_known(name)).collect();
        Self { folded: by_case, inodes, since }
    }
}

impl Planner<'_> {
    /// Takes the name in the target that an entry leads to; false when another entry has it. What is `wanted` is named then.
    pub(super) fn take_name(&mut self, path: &[u8], name: &[u8], wanted: bool) -> bool {
        let There::Directory(directory) = self.there() else { return true };
        let Some(frame) = self.frames.last_mut() else { return true };
        match frame.spellings.take(name, &directory) {
            Leads::Freely => true,
            Leads::Taken(other) => {
                if wanted {
                    let message = format!(
                        "{} does not tell this name from \"{}\", which is restored there; to have both, restore to another file system",
                        directory.system().name(),
                        Escaped(&other)
                    );
                    self.problem(path, ProblemKind::Target, message);
                }
                false
            }
            Leads::Unlisted => {
                frame.removes = false;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::files::target::Target;

    /// Who is asked about a name stands for a directory that leads there: what is there is what the test puts there afterwards.
    #[test]
    fn the_first_entry_has_a_name_of_the_target() {
        let place = tempfile::tempdir().unwrap();
        for name in ["README", "other"] {
            std::fs::write(place.path().join(name), "").unwrap();
        }
        let directory = Target::open(place.path(), false).unwrap().root();
        let mut spellings = Spellings::of(&There::Directory(directory.clone()));
        assert_eq!(spellings.take(b"README", &directory), Leads::Freely);
        assert!(spellings.is_taken(b"README") && !spellings.is_taken(b"other"));
        // Here case counts: the name leads nowhere.
        assert_eq!(spellings.take(b"readme", &directory), Leads::Freely);
        // Where it does not, it leads to what is listed otherwise.
        let others = Others::of(&spellings.names, &directory);
        std::fs::hard_link(place.path().join("README"), place.path().join("readme")).unwrap();
        std::fs::hard_link(place.path().join("other"), place.path().join("normalized")).unwrap();
        std::fs::write(place.path().join("new"), "").unwrap();
        spellings.others = Some(others);
        assert_eq!(spellings.take(b"readme", &directory), Leads::Taken(b"README".to_vec()));
        assert_eq!(spellings.take(b"normalized", &directory), Leads::Freely);
        assert!(spellings.is_taken(b"other"));
        assert_eq!(spellings.take(b"other", &directory), Leads::Taken(b"other".to_vec()));
        assert_eq!(spellings.take(b"new", &directory), Leads::Unlisted);
        // What has come since is no other spelling.
        spellings.others = None;
        assert_eq!(spellings.take(b"new", &directory), Leads::Freely);
    }
}
