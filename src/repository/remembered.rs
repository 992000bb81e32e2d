//! What this machine remembers of a repository, outside of it: where it lay and its newest head. Promise P5.
//!
//! A repository cannot prove by itself that it is not an old copy of itself: whoever holds the disk can put yesterday's
//! files back. The memory of one number and one hash finds it out. It also knows that a repository lay at a path, so
//! that an unmounted disk does not become a new, empty repository.
//!
//! One small JSON file a repository, `<state folder>/<repository id>.json`, replaced by rename; and one for each copy that was brought back beside
//! it in another state, with the beginning of the BLAKE3 hash of its place behind a hyphen. Losing it loses the
//! memory only; a file that does not parse counts as lost.

use std::cmp::Ordering;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use crate::base::id::{ObjectId, RepositoryId};
use crate::base::private;
use crate::codec::head::HeadRef;
use crate::codec::live_state::LiveState;

/// The file's content. Ids are hex; the path is stored as text where it is UTF-8 and as hex of its bytes besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    repository: String,
    place: String,
    place_bytes: String,
    generation: u64,
    head: String,
}

/// The folder with this machine's memories.
#[derive(Debug, Clone)]
pub struct Remembered {
    folder: PathBuf,
    /// What is added to the file name of a copy that is remembered apart.
    place: Option<String>,
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
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Remembered {
    /// Memories in `folder`, which need not exist yet.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder, place: None }
    }

    /// For the copy at this place. An older state, or another history, that was brought back beside the repository has a memory apart: neither
    /// is then a rollback of the other.
    #[must_use]
    pub fn of(self, place: &Path) -> Self {
        let hash = blake3::hash(place.as_os_str().as_encoded_bytes()).to_hex();
        Self { place: Some(hash.chars().take(16).collect()), ..self }
    }

    fn apart(&self, repository: RepositoryId) -> Option<PathBuf> {
        let place = self.place.as_ref()?;
        Some(self.folder.join(format!("{repository}-{place}.json")))
    }

    fn file(&self, repository: RepositoryId) -> PathBuf {
        let apart = self.apart(repository).filter(|file| file.exists());
        apart.unwrap_or_else(|| self.folder.join(format!("{repository}.json")))
    }

    /// Where the repository was seen last.
    #[must_use]
    pub fn place(&self, repository: RepositoryId) -> Option<PathBuf> {
        let text = Self::read(&self.file(repository))?.place_bytes;
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

    /// The copy at this place is the repository itself again, or a new one.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn unset_apart(&self, repository: RepositoryId) -> io::Result<()> {
        match self.apart(repository).map(fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn read(path: &Path) -> Option<Memory> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// The newest head of this repository that was seen here.
    #[must_use]
    pub fn head(&self, repository: RepositoryId) -> Option<HeadRef> {
        let memory = Self::read(&self.file(repository))?;
        if memory.repository != repository.to_string() {
            return None;
        }
        Some(HeadRef { generation: memory.generation, id: memory.head.parse::<ObjectId>().ok()? })
    }

    /// The repository that was last seen at this path, if any was.
    #[must_use]
    pub fn at(&self, place: &Path) -> Option<RepositoryId> {
        let wanted = hex(place.as_os_str().as_encoded_bytes());
        let memories = fs::read_dir(&self.folder).ok()?.flatten();
        memories
            .filter_map(|entry| Self::read(&entry.path()))
            .find(|memory| memory.place_bytes == wanted)
            .and_then(|memory| memory.repository.parse().ok())
    }

    /// Forgets what was seen of a repository, because its user takes an older state for the right one.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn forget(&self, repository: RepositoryId) -> io::Result<()> {
        match fs::remove_file(self.file(repository)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Remembers a head. Never backwards: of two processes the newer memory stays.
    ///
    /// # Errors
    /// The file cannot be written; the caller says so and goes on, because the backup itself is safe.
    pub fn store(&self, repository: RepositoryId, place: &Path, head: HeadRef) -> io::Result<()> {
        if self.head(repository).is_some_and(|known| known.generation > head.generation) {
            return Ok(());
        }
        let (memory, file) = (Memory::of(repository, place, head), self.file(repository));
        if Self::read(&file).as_ref() == Some(&memory) { Ok(()) } else { self.write(&file, &memory) }
    }

    /// Remembers a head in place of whatever was remembered, because the user takes an older state for the right one.
    ///
    /// # Errors
    /// The file cannot be written: what was remembered still is.
    pub fn set(&self, repository: RepositoryId, place: &Path, head: HeadRef) -> io::Result<()> {
        self.write(&self.file(repository), &Memory::of(repository, place, head))
    }

    fn write(&self, place: &Path, memory: &Memory) -> io::Result<()> {
        private::make_directories(&self.folder)?;
        let temporary = self.folder.join(format!("{}.{}.tmp", memory.repository, std::process::id()));
        let mut file = private::open(&temporary)?;
        file.set_len(0)?;
        file.write_all(&serde_json::to_vec_pretty(memory)?)?;
        file.sync_all()?;
        fs::rename(&temporary, place)
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
    #![allow(clippy::unwrap_used)]
    use super::*;

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
        assert_eq!(memory.at(place), Some(id));
        assert_eq!(memory.at(Path::new("/backup")), None);
    }

    #[test]
    fn a_damaged_memory_counts_as_lost() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Remembered::new(folder.path().to_path_buf());
        let id = RepositoryId([7; 32]);
        memory.store(id, Path::new("/x"), head(5, "e")).unwrap();
        fs::write(folder.path().join(format!("{id}.json")), b"{\"repository\": 3").unwrap();
        assert_eq!(memory.head(id), None);
        memory.store(id, Path::new("/x"), head(6, "f")).unwrap();
        assert_eq!(memory.head(id), Some(head(6, "f")));
    }
}
