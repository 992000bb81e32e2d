//! What this machine remembers of repositories, outside of them: which one lies where, and the newest head of each. Promise P5.
//!
//! A repository cannot prove by itself that it is not an old copy of itself, or another one: whoever holds the disk can put yesterday's
//! files back, or exchange two directories. The memory of one number and one hash finds it out. It also knows that a repository lay at a
//! place, so that an unmounted disk does not become a new, empty repository.
//!
//! | file | says |
//! |---|---|
//! | `<id>.json` | the newest head of the repository, and where it was seen last |
//! | `<id>-<hash>.json` | the newest head of a copy that is remembered apart: it was brought back beside the repository in another state |
//! | `<id>-copy-<hash>.json` | the newest head that was read from a mirror, or from the source of a copy |
//! | `places/<hash>.json` | which repository was seen at a place |
//!
//! `<hash>` is the beginning of the BLAKE3 hash of the place. A place has two names: as it was typed, made absolute, and with every link resolved. Both
//! are remembered, and both are compared: a link that leads elsewhere since is as much of an exchange as a directory that was moved.
//!
//! # Invariants
//!
//! - A file is there as it was or as it is to be: it is written under another name, synchronised, renamed, and its folder synchronised.
//! - What cannot be read is never taken for what is not there ([`Recalled`]).
//! - One broken file takes one answer away: places and heads are in files of their own.
//! - A place is only forgotten for another repository that was meant (`init`, `recover`, `--repo-id`), and a head only for a newer one, or one that
//!   was asked for.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::expected::Expected;
pub use super::memory_file::{Recalled, Unreadable};
use super::memory_file::{make, read, remove, write};
use crate::base::escape::escape;
use crate::base::hex::hex;
use crate::base::id::{ObjectId, RepositoryId};
use crate::base::private;
use crate::codec::head::HeadRef;
use crate::codec::live_state::LiveState;

/// So long another process that remembers something is waited for, and so long between two looks.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

/// What is remembered of a head. Ids are hex; the path is stored as text where it is UTF-8 and as hex of its bytes besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    repository: String,
    place: String,
    place_bytes: String,
    generation: u64,
    head: String,
}

/// What is remembered of a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lies {
    place: String,
    place_bytes: String,
    repository: String,
}

/// What the memory is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// The repository, wherever it lies.
    Repository,
    /// The repository at this place, which may be a copy that is remembered apart.
    At(PathBuf),
    /// A copy that is only read: a mirror, or the source of a copy.
    Copy {
        place: PathBuf,
        /// The repositories that have a mirror there by the lists of mirrors, and the newest head that was seen of each.
        listed: Vec<(RepositoryId, Option<HeadRef>)>,
        /// It may have another history than what was seen of the repository itself.
        any_history: bool,
    },
}

/// The folder with this machine's memories, and what they are to be compared with.
#[derive(Debug, Clone)]
pub struct Remembered {
    folder: PathBuf,
    /// There is no place for a memory: nothing was remembered and nothing will be.
    is_nowhere: bool,
    pub(super) subject: Subject,
    pub(super) expected: Expected,
}

impl Memory {
    fn of(repository: RepositoryId, place: &Path, head: HeadRef) -> Self {
        Self {
            repository: repository.to_string(),
            place: place.display().to_string(),
            place_bytes: hex(place.as_os_str().as_encoded_bytes()),
            generation: head.generation,
            head: head.id.to_string(),
        }
    }

    fn head(&self) -> Option<HeadRef> {
        Some(HeadRef { generation: self.generation, id: self.head.parse::<ObjectId>().ok()? })
    }
}

/// False only for what is known to be absent.
fn is_there(file: &Path) -> bool {
    !file.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn hash(place: &Path) -> String {
    blake3::hash(place.as_os_str().as_encoded_bytes()).to_hex().chars().take(16).collect()
}

/// The names of a place, the one without links first. What is not there yet, or not any more, has a parent that is.
fn names(place: &Path) -> Vec<PathBuf> {
    let real = || {
        let there = place.ancestors().find(|path| path.exists())?;
        let rest = place.strip_prefix(there).ok()?;
        let there = there.canonicalize().ok()?;
        Some(if rest.as_os_str().is_empty() { there } else { there.join(rest) })
    };
    let real = if place.is_absolute() { real() } else { None };
    let typed = Some(place.to_path_buf()).filter(|typed| real.as_ref() != Some(typed));
    real.into_iter().chain(typed).collect()
}

impl Remembered {
    /// Memories in `folder`, which need not exist yet.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, is_nowhere: false, subject: Subject::Repository, expected: Expected::default() }
    }

    /// No memory: nothing was seen, and nothing will be remembered. What the user says of what is opened counts all the same.
    #[must_use]
    pub fn nowhere() -> Self {
        // Nothing can lie below a device.
        Self { is_nowhere: true, ..Self::new(PathBuf::from("/dev/null/packstone")) }
    }

    /// True where there is no place for a memory.
    #[must_use]
    pub const fn is_nowhere(&self) -> bool {
        self.is_nowhere
    }

    fn write(&self, path: &Path, value: &impl Serialize) -> io::Result<()> {
        if self.is_nowhere { Ok(()) } else { write(path, value) }
    }

    /// For the repository at this place. An older state, or another history, that was brought back beside the repository has a memory apart: neither
    /// is then a rollback of the other.
    #[must_use]
    pub fn of(self, place: &Path) -> Self {
        Self { subject: Subject::At(place.to_path_buf()), ..self }
    }

    /// For a copy that is only read: a mirror, or the source of a copy. `listed` are the repositories that have a mirror there by the lists of mirrors,
    /// and the newest head that was seen of each. With `any_history` it may have another one than the repository itself.
    #[must_use]
    pub fn of_copy(self, place: &Path, listed: Vec<(RepositoryId, Option<HeadRef>)>, any_history: bool) -> Self {
        Self { subject: Subject::Copy { place: place.to_path_buf(), listed, any_history }, ..self }
    }

    /// What the user says of what is opened.
    #[must_use]
    pub fn expecting(self, expected: Expected) -> Self {
        Self { expected, ..self }
    }

    fn main(&self, repository: RepositoryId) -> PathBuf {
        self.folder.join(format!("{repository}.json"))
    }

    /// The file of the copy that is remembered apart: the one that is there, else the one that would be made.
    fn apart(&self, repository: RepositoryId) -> Option<PathBuf> {
        let (Subject::At(place) | Subject::Copy { place, .. }) = &self.subject else { return None };
        if self.is_nowhere {
            return None;
        }
        let kind = if matches!(self.subject, Subject::Copy { .. }) { "copy-" } else { "" };
        let file = |name: &PathBuf| self.folder.join(format!("{repository}-{kind}{}.json", hash(name)));
        let files: Vec<PathBuf> = names(place).iter().map(file).collect();
        files.iter().find(|file| is_there(file)).or(files.first()).cloned()
    }

    /// The file that says which head was newest.
    #[must_use]
    pub fn file(&self, repository: RepositoryId) -> PathBuf {
        let apart = self.apart(repository);
        let apart = match self.subject {
            Subject::Copy { .. } => apart,
            _ => apart.filter(|file| is_there(file)),
        };
        apart.unwrap_or_else(|| self.main(repository))
    }

    fn recall_from(file: &Path, repository: RepositoryId) -> Recalled<(Memory, HeadRef)> {
        let damaged = |why: &str| Recalled::Unreadable(Unreadable::wrong(file, why));
        match read::<Memory>(file) {
            Recalled::Known(memory) if memory.repository != repository.to_string() => {
                damaged("it is about another repository")
            }
            Recalled::Known(memory) => match memory.head() {
                Some(head) => Recalled::Known((memory, head)),
                None => damaged("its content is damaged"),
            },
            Recalled::Nothing => Recalled::Nothing,
            Recalled::Unreadable(why) => Recalled::Unreadable(why),
        }
    }

    /// The newest head that was seen here.
    #[must_use]
    pub fn recall(&self, repository: RepositoryId) -> Recalled<HeadRef> {
        if self.is_nowhere {
            return Recalled::Nothing;
        }
        Self::recall_from(&self.file(repository), repository).map(|(_, head)| head)
    }

    /// The newest head that was seen of the repository itself, where a copy of it is asked about.
    pub(super) fn recall_original(&self, repository: RepositoryId) -> Recalled<HeadRef> {
        match self.subject {
            Subject::Copy { .. } if !self.is_nowhere => {
                Self::recall_from(&self.main(repository), repository).map(|(_, head)| head)
            }
            _ => Recalled::Nothing,
        }
    }

    /// The newest head of this repository that was seen here, as far as that can be read.
    #[must_use]
    pub fn head(&self, repository: RepositoryId) -> Option<HeadRef> {
        self.recall(repository).known()
    }

    /// Where the repository was seen last.
    #[must_use]
    pub fn place(&self, repository: RepositoryId) -> Option<PathBuf> {
        let text = Self::recall_from(&self.file(repository), repository).known()?.0.place_bytes;
        let digits = text.as_bytes().chunks_exact(2).map(|pair| std::str::from_utf8(pair).ok());
        let bytes: Option<Vec<u8>> = digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
        Some(PathBuf::from(std::ffi::OsString::from_vec(bytes?)))
    }

    /// From now on the copy at this place is remembered apart, and `head` is its newest.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_apart(&self, repository: RepositoryId, place: &Path, head: HeadRef) -> io::Result<()> {
        let Some(file) = self.apart(repository) else { return Ok(()) };
        self.write(&file, &Memory::of(repository, place, head))
    }

    /// The copy at this place is the repository itself again, or a new one; or what was seen of a mirror does not count any more.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn unset_apart(&self, repository: RepositoryId) -> io::Result<()> {
        self.apart(repository).map_or(Ok(()), |file| remove(&file))
    }

    fn place_file(&self, name: &Path) -> PathBuf {
        self.folder.join("places").join(format!("{}.json", hash(name)))
    }

    /// The repositories that were last seen under the names of a place, and what cannot be read of that.
    fn at_names(&self, place: &Path) -> (BTreeSet<RepositoryId>, Option<Unreadable>) {
        let (mut ids, mut unreadable) = (BTreeSet::new(), None);
        if self.is_nowhere {
            return (ids, unreadable);
        }
        for name in names(place) {
            let file = self.place_file(&name);
            match read::<Lies>(&file) {
                Recalled::Known(lies) => match lies.repository.parse() {
                    Ok(id) if lies.place_bytes == hex(name.as_os_str().as_encoded_bytes()) => drop(ids.insert(id)),
                    _ => unreadable = Some(Unreadable::wrong(&file, "its content is damaged")),
                },
                Recalled::Unreadable(why) => unreadable = Some(why),
                Recalled::Nothing => {}
            }
        }
        (ids, unreadable)
    }

    /// The repositories that were seen at a place by a version that wrote this into the files of the repositories only. Of several the last one was
    /// there last, and nobody knows which that is.
    fn at_once(&self, place: &Path) -> BTreeSet<RepositoryId> {
        let wanted: Vec<String> = names(place).iter().map(|name| hex(name.as_os_str().as_encoded_bytes())).collect();
        let memories = self.all().into_iter().filter_map(|file| read::<Memory>(&file).known());
        let here = memories.filter(|memory| wanted.contains(&memory.place_bytes));
        here.filter_map(|memory| memory.repository.parse().ok()).collect()
    }

    fn all(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "json")).collect()
    }

    /// The repositories of which this machine remembers anything.
    #[must_use]
    pub fn known(&self) -> BTreeSet<RepositoryId> {
        let names = self.all().into_iter().filter_map(|path| path.file_stem()?.to_str().map(str::to_owned));
        names.filter_map(|name| name.split('-').next()?.parse().ok()).collect()
    }

    /// The repository that was last seen at this place. When a file of the memory cannot be read that may be about it, nobody knows.
    #[must_use]
    pub fn at(&self, place: &Path) -> Recalled<RepositoryId> {
        let (ids, unreadable) = self.at_names(place);
        if let Some(id) = ids.first().or(self.at_once(place).first()) {
            return Recalled::Known(*id);
        }
        if let Some(unreadable) = unreadable {
            return Recalled::Unreadable(unreadable);
        }
        if let Err(error) = fs::read_dir(&self.folder)
            && error.kind() != io::ErrorKind::NotFound
            && !self.is_nowhere
        {
            return Recalled::Unreadable(Unreadable::refused(&self.folder, &error));
        }
        // It may be where that repository was seen by a version that wrote the place down there only.
        let broken = self.all().into_iter().find_map(|file| match read::<Memory>(&file) {
            Recalled::Unreadable(why) => Some(why),
            _ => None,
        });
        broken.map_or(Recalled::Nothing, Recalled::Unreadable)
    }

    /// Whether what lies at `place` is what the user names, or what was seen there. What cannot be read of the place's memory comes back.
    ///
    /// # Errors
    /// [`Error::OtherRepository`], [`Error::Exchanged`].
    pub fn require_identity(&self, place: &Path, found: RepositoryId) -> Result<Option<Unreadable>> {
        let known = if self.expected.ids.is_empty() { BTreeSet::new() } else { self.known() };
        if self.expected.require_id(found, &known)? {
            return Ok(None);
        }
        let exchanged = |remembered| {
            let place = escape(place.as_os_str().as_encoded_bytes());
            Err(Error::Exchanged { place, remembered, found })
        };
        if let Subject::Copy { listed, .. } = &self.subject
            && let Some((remembered, _)) = listed.first()
            && !listed.iter().any(|(id, _)| *id == found)
        {
            return exchanged(*remembered);
        }
        // A mirror's place is its address, of which the lists of mirrors know.
        if !place.is_absolute() {
            return Ok(None);
        }
        let (mut ids, unreadable) = self.at_names(place);
        if ids.is_empty() {
            ids = self.at_once(place);
            if ids.contains(&found) {
                return Ok(unreadable);
            }
        }
        ids.into_iter().find(|id| *id != found).map_or(Ok(unreadable), exchanged)
    }

    /// Remembers which repository lies at a place, under all of its names.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn set_place(&self, repository: RepositoryId, place: &Path) -> io::Result<()> {
        if !place.is_absolute() {
            return Ok(());
        }
        for name in names(place) {
            let lies = Lies {
                place: name.display().to_string(),
                place_bytes: hex(name.as_os_str().as_encoded_bytes()),
                repository: repository.to_string(),
            };
            let file = self.place_file(&name);
            match read::<Lies>(&file) {
                Recalled::Known(known) if known == lies => {}
                Recalled::Unreadable(unreadable) if let Some(error) = unreadable.refusal() => return Err(error),
                _ => self.write(&file, &lies)?,
            }
        }
        Ok(())
    }

    /// Forgets what was seen of a repository, because its user takes an older state for the right one.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn forget(&self, repository: RepositoryId) -> io::Result<()> {
        if self.is_nowhere { Ok(()) } else { remove(&self.file(repository)) }
    }

    /// Remembers a head. Never backwards: of two processes the newer memory stays. Content that is wrong is replaced; content that the system
    /// did not give may be newer than this head, and stays.
    ///
    /// # Errors
    /// The file cannot be written; the caller says so and goes on, because the backup itself is safe.
    pub fn store(&self, repository: RepositoryId, place: &Path, head: HeadRef) -> io::Result<()> {
        let (memory, file) = (Memory::of(repository, place, head), self.file(repository));
        let is_news = || match Self::recall_from(&file, repository) {
            Recalled::Known((known, seen)) => Ok(seen.generation <= head.generation && known != memory),
            Recalled::Nothing => Ok(true),
            Recalled::Unreadable(unreadable) => unreadable.refusal().map_or(Ok(true), Err),
        };
        if self.is_nowhere || !is_news()? {
            return Ok(());
        }
        let _alone = self.alone();
        if is_news()? { self.write(&file, &memory) } else { Ok(()) }
    }

    /// Keeps other processes from remembering something newer between a look and a write. One that was stopped in between is not waited for: then
    /// the memory may be a head behind, until the next look.
    fn alone(&self) -> Option<fs::File> {
        make(&self.folder).ok()?;
        let lock = private::open(&self.folder.join("lock")).ok()?;
        for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
            if !matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        Some(lock)
    }

    /// Remembers a head in place of whatever was remembered, because the user takes an older state for the right one.
    ///
    /// # Errors
    /// The file cannot be written: what was remembered still is.
    pub fn set(&self, repository: RepositoryId, place: &Path, head: HeadRef) -> io::Result<()> {
        self.write(&self.file(repository), &Memory::of(repository, place, head))
    }
}

/// Whether the head `found`, which says `state`, is `seen` or has it among the heads that it follows. What was seen is asked for
/// before the repository is read: another process of this machine may publish, and remember that, in between.
///
/// # Errors
/// [`Error::Rollback`] for an older generation; [`Error::Fork`] for another head of the same one, and for a newer one that
/// follows others than what was seen: a copy was set back and then written to.
pub fn follows(seen: HeadRef, found: HeadRef, state: &LiveState) -> Result<()> {
    let is_known = match found.generation.cmp(&seen.generation) {
        Ordering::Less => return Err(Error::Rollback { remembered: seen, found }),
        Ordering::Equal => seen.id == found.id,
        Ordering::Greater => state.is_ancestor(seen.generation, &seen.id),
    };
    if is_known { Ok(()) } else { Err(Error::Fork { one: seen, other: found }) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::repository::memory_file::BYTES_MAX;

    fn head(generation: u64, text: &str) -> HeadRef {
        HeadRef { generation, id: ObjectId::of(text.as_bytes()) }
    }

    #[test]
    fn an_older_head_is_a_rollback_and_one_of_another_history_a_fork() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Remembered::new(folder.path().join("state"));
        let id = RepositoryId([7; 32]);
        let place = Path::new("/backup\n");
        // The state of a head whose earlier ones are a to e.
        let names = ["a", "b", "c", "d", "e"];
        let ancestors = names.map(|name| *ObjectId::of(name.as_bytes()).0.first_chunk().unwrap()).to_vec();
        let state = LiveState { ancestors, ..LiveState::default() };
        let check =
            |generation, text| memory.head(id).map_or(Ok(()), |seen| follows(seen, head(generation, text), &state));
        assert!(check(1, "a").is_ok());
        memory.store(id, place, head(5, "e")).unwrap();
        assert!(check(5, "e").is_ok());
        assert!(check(6, "f").is_ok());
        assert!(matches!(check(4, "d"), Err(Error::Rollback { .. })));
        assert!(matches!(check(5, "x"), Err(Error::Fork { .. })));
        memory.store(id, place, head(3, "c")).unwrap();
        assert_eq!(memory.head(id), Some(head(5, "e")));
        // Set back to before the fifth head, and written to since: newer, and another history.
        memory.store(id, place, head(5, "x")).unwrap();
        assert!(matches!(check(6, "f"), Err(Error::Fork { .. })));
        memory.store(id, place, head(5, "e")).unwrap();
        memory.set_place(id, place).unwrap();
        assert_eq!(memory.at(place), Recalled::Known(id));
        assert_eq!(memory.at(Path::new("/backup")), Recalled::Nothing);
    }

    #[test]
    fn what_cannot_be_read_is_not_what_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Remembered::new(folder.path().join("state"));
        let id = RepositoryId([7; 32]);
        let file = folder.path().join("state").join(format!("{id}.json"));
        assert_eq!(memory.recall(id), Recalled::Nothing);
        let place = Path::new("/x");
        memory.store(id, place, head(5, "e")).unwrap();
        let good = fs::read(&file).unwrap();
        let other = String::from_utf8(good.clone()).unwrap().replace(&id.to_string(), &"1".repeat(64));
        for (what, bytes) in [
            ("empty", Vec::new()),
            ("noise", vec![0xff; 300]),
            ("cut off", good[..good.len() - 1].to_vec()),
            ("too long", [&good[..], &vec![b' '; BYTES_MAX as usize], b"}"].concat()),
            ("a field is missing", b"{\"repository\": 3}".to_vec()),
            ("of another repository", other.into_bytes()),
            (
                "no id",
                String::from_utf8(good.clone()).unwrap().replace(&head(5, "e").id.to_string(), "ee").into_bytes(),
            ),
        ] {
            fs::write(&file, bytes).unwrap();
            let Recalled::Unreadable(unreadable) = memory.recall(id) else { panic!("{what}") };
            assert_eq!(unreadable.file, file, "{what}");
            assert_eq!(memory.head(id), None, "{what}");
            if what != "of another repository" && what != "no id" {
                assert!(
                    matches!(memory.at(Path::new("/unknown")), Recalled::Unreadable(_)),
                    "{what}: it may be about it"
                );
            }
            // Replaced by what is seen next, and never by something older after that.
            memory.store(id, place, head(6, "f")).unwrap();
            memory.store(id, place, head(5, "e")).unwrap();
            assert_eq!(memory.recall(id), Recalled::Known(head(6, "f")), "{what}");
        }
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(matches!(memory.recall(id), Recalled::Unreadable(_)));
        memory.store(id, place, head(6, "f")).unwrap();
        fs::remove_file(&file).unwrap();
        fs::create_dir_all(file.join("somebody's")).unwrap();
        assert!(memory.store(id, place, head(6, "f")).is_err(), "what may be of use to somebody stays");
        let left: Vec<_> =
            fs::read_dir(file.parent().unwrap()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{left:?}");
    }

    #[test]
    fn a_place_is_known_by_each_of_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let memory = |place: &str| Remembered::new(path("state")).of(&path(place));
        let (one, two) = (RepositoryId([1; 32]), RepositoryId([2; 32]));
        fs::create_dir(path("disk")).unwrap();
        std::os::unix::fs::symlink("disk", path("link")).unwrap();
        let place = path("link/repository");
        memory("link/repository").set_place(one, &place).unwrap();
        let require = |place: &str, found| memory(place).require_identity(&path(place), found);
        for (name, found, is_it) in [
            ("link/repository", one, true),
            ("link/repository", two, false),
            ("disk/repository", one, true),
            ("disk/repository", two, false),
            ("disk/other", two, true),
        ] {
            assert_eq!(require(name, found).is_ok(), is_it, "{name}");
        }
        // The link leads elsewhere, or nowhere: its own name is known still.
        fs::remove_file(path("link")).unwrap();
        assert!(require("link/repository", two).is_err());
        fs::create_dir(path("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", path("link")).unwrap();
        assert!(require("link/repository", two).is_err());
        assert!(require("link/repository", one).is_ok(), "moved, and the link with it");
        // Another one took the place, on purpose.
        memory("disk/repository").set_place(two, &path("disk/repository")).unwrap();
        assert!(require("disk/repository", two).is_ok() && require("disk/repository", one).is_err());
        // A copy beside it is found by either name.
        let apart = |name: &str| memory(name).head(one);
        memory("elsewhere/repository").set_apart(one, &path("elsewhere/repository"), head(3, "c")).unwrap();
        assert_eq!((apart("link/repository"), apart("elsewhere/repository")), (Some(head(3, "c")), Some(head(3, "c"))));
        assert_eq!(apart("disk/repository"), None);
    }

    #[test]
    fn of_many_at_once_the_newest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Remembered::new(folder.path().join("state"));
        let id = RepositoryId([7; 32]);
        for round in 0..20 {
            std::thread::scope(|scope| {
                for generation in 1..=8 {
                    let memory = memory.clone();
                    let head = head(round * 8 + generation, "x");
                    scope.spawn(move || memory.store(id, Path::new("/x"), head).unwrap());
                }
            });
            assert_eq!(memory.head(id).unwrap().generation, round * 8 + 8);
        }
        // One that was stopped in the middle stops nobody.
        let stopped = memory.alone();
        memory.store(id, Path::new("/x"), head(1_000, "x")).unwrap();
        drop(stopped);
        assert_eq!(memory.head(id), Some(head(1_000, "x")));
    }

    /// A version that knew places by the files of the repositories only, and a place where one was made after another.
    #[test]
    fn of_two_that_were_once_there_either_may_be_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Remembered::new(folder.path().to_path_buf());
        let [one, two, three] = [1, 2, 3].map(|number| RepositoryId([number; 32]));
        let place = Path::new("/x");
        for id in [one, two] {
            memory.store(id, place, head(3, "c")).unwrap();
            assert!(matches!(memory.at(place), Recalled::Known(_)));
        }
        for (found, is_it) in [(one, true), (two, true), (three, false)] {
            assert_eq!(memory.require_identity(place, found).is_ok(), is_it);
        }
        memory.set_place(two, place).unwrap();
        for (found, is_it) in [(one, false), (two, true), (three, false)] {
            assert_eq!(memory.require_identity(place, found).is_ok(), is_it, "known from the first use on");
        }
    }

    #[test]
    fn a_mirror_is_remembered_for_itself() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Remembered::new(folder.path().to_path_buf());
        let (one, two) = (RepositoryId([1; 32]), RepositoryId([2; 32]));
        let place = Path::new("s3://bucket/path");
        let copy = |listed| memory.clone().of_copy(place, listed, false);
        let mirror = copy(Vec::new());
        mirror.store(one, place, head(3, "c")).unwrap();
        mirror.set_place(one, place).unwrap();
        assert_eq!((mirror.head(one), memory.head(one)), (Some(head(3, "c")), None));
        assert_eq!(memory.known().into_iter().collect::<Vec<_>>(), [one]);
        assert!(mirror.require_identity(place, two).is_ok(), "an address without a list");
        assert!(copy(vec![(one, None)]).require_identity(place, one).is_ok());
        assert!(copy(vec![(one, None)]).require_identity(place, two).is_err());
        mirror.unset_apart(one).unwrap();
        assert_eq!(mirror.recall(one), Recalled::Nothing);
    }

    /// A disk that does not answer, a stick that is pulled out: what was remembered may be right, and must not be replaced.
    #[test]
    fn what_the_system_does_not_give_is_neither_absent_nor_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let (id, place) = (RepositoryId([7; 32]), folder.path().join("repository"));
        let memory = Remembered::new(folder.path().join("state/repositories")).of(&place);
        memory.set_place(id, &place).unwrap();
        memory.store(id, &place, head(3, "c")).unwrap();
        let file = memory.file(id);
        fs::rename(&file, folder.path().join("kept")).unwrap();
        std::os::unix::fs::symlink(&file, &file).unwrap();
        let refused = |recalled| matches!(recalled, Recalled::Unreadable(why) if why.refusal().is_some());
        assert!(refused(memory.recall(id)), "a link to itself");
        assert!(memory.store(id, &place, head(2, "b")).is_err());
        assert!(file.is_symlink(), "it was written over");
        fs::rename(folder.path().join("kept"), &file).unwrap();
        assert_eq!(memory.head(id), Some(head(3, "c")));
        // The whole directory lies on a stick.
        fs::rename(folder.path().join("state"), folder.path().join("stick")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("away"), folder.path().join("state")).unwrap();
        assert!(refused(memory.recall(id)));
        assert!(matches!(memory.at(&place), Recalled::Unreadable(_)));
        assert!(memory.store(id, &place, head(2, "b")).is_err() && memory.set_place(id, &place).is_err());
        fs::rename(folder.path().join("stick"), folder.path().join("away")).unwrap();
        assert_eq!((memory.head(id), memory.at(&place)), (Some(head(3, "c")), Recalled::Known(id)));
    }
}
