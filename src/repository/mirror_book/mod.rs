//! What this machine knows of a repository's mirrors: where they lie, which head each was left with, and how the sending of
//! each object stands. SQLite is used here and nowhere else.
//!
//! One file a repository, `<state folder>/mirrors/<repository id>.sqlite`, in write-ahead mode: `mirror status` reads while `sync`
//! writes. It holds no secret. Nothing that guards data rests on it but the memory of the newest head seen on each mirror (promise
//! P5); losing it loses that memory and the list of mirrors.

mod damage;
mod drill;
mod finding;
mod superseded;
mod uploads;
mod verified;

pub use damage::Damage;
pub use drill::{Drill, DrillOutcome};
pub use finding::{DamagedObject, Finding, FoundBy};
pub use superseded::Superseded;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};
use rustix::fs::{CWD, OFlags};

use crate::base::command::suggest;
use crate::base::id::{ObjectId, RepositoryId};
use crate::base::private;
use crate::base::regular;
use crate::base::shortage::is_shortage;
use crate::base::time::Time;
use crate::codec::head::HeadRef;
use crate::storage::ObjectName;

/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(30);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS mirror (
        name TEXT PRIMARY KEY,
        address TEXT NOT NULL,
        credentials_command TEXT,
        added INTEGER NOT NULL,
        head_generation INTEGER,
        head_id TEXT,
        synced INTEGER,
        listed INTEGER,
        verified INTEGER,
        objects INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE IF NOT EXISTS machine (
        tag TEXT PRIMARY KEY
    ) STRICT;
    CREATE TABLE IF NOT EXISTS object (
        mirror TEXT NOT NULL REFERENCES mirror(name) ON DELETE CASCADE,
        name TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'in progress', 'done', 'failed')),
        transient INTEGER NOT NULL DEFAULT 0,
        tries INTEGER NOT NULL DEFAULT 0,
        reason TEXT,
        changed INTEGER NOT NULL,
        PRIMARY KEY (mirror, name)
    ) STRICT, WITHOUT ROWID;
";

/// The book could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// SQLite says so.
    #[error("the list of mirrors: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file system says so.
    #[error("the list of mirrors: {0}")]
    Io(#[from] std::io::Error),
    /// A mirror of that name is there.
    #[error("there is a mirror {0} already. To take it off the list and leave its files: {next}", next = suggest!("mirror remove {}", .0))]
    Exists(String),
    /// None of that name is.
    #[error("there is no mirror {0}. To see them: {next}", next = suggest!("mirror list"))]
    Unknown(String),
}

impl BookError {
    /// True when the file is not what was written, or the disk fails under it: SQLite calls both corrupt (`SQLITE_IOERR_CORRUPTFS`). Anything else
    /// says nothing of its bytes: a limit of this process, a right.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let Self::Database(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
    }
}

/// Result of looking into the book.
pub type Result<T> = std::result::Result<T, BookError>;

/// A mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// What it is called here.
    pub name: String,
    /// Where it lies.
    pub address: String,
    /// Prints `key=value` lines with the secrets of its service.
    pub credentials_command: Option<String>,
    /// The newest head that was seen or left there.
    pub head: Option<HeadRef>,
    /// When the last sync made it whole.
    pub synced: Option<Time>,
    /// When it was last listed.
    pub listed: Option<Time>,
    /// Since when all of it has been read back: when the object that was read back longest ago was.
    pub verified: Option<Time>,
    /// What it held then: objects that its head needs, and their bytes.
    pub objects: u64,
    /// See `objects`.
    pub bytes: u64,
}

/// How the sending of an object stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendState {
    /// It waits.
    Pending,
    /// It is on its way.
    InProgress,
    /// It arrived.
    Done,
    /// It did not.
    Failed {
        /// Another try may succeed.
        transient: bool,
        /// Why.
        reason: String,
    },
}

/// How many objects stand how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendCounts {
    /// Waiting or on their way.
    pub pending: u64,
    /// Their bytes.
    pub pending_bytes: u64,
    /// Failed.
    pub failed: u64,
}

/// See the module.
#[derive(Debug)]
pub struct MirrorBook {
    database: Connection,
}

/// True for what a mirror may be called: letters, digits, - and _. Nothing else that a person types for a mirror's place is one.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(fits)
}

/// Files that SQLite has open for one database: itself, its log, the memory that is shared, the folder, temporary ones.
const FILES_OF_SQLITE: usize = 8;

/// SQLite does not hand on what the system said: where this process may not open as many files more, an attempt of its own tells.
fn explain(error: BookError, file: &Path) -> BookError {
    let opened: std::io::Result<Vec<_>> =
        (0..FILES_OF_SQLITE).map(|_| Ok(regular::open_at(CWD, file, OFlags::RDONLY)?.0)).collect();
    match opened {
        Err(shortage) if !error.is_damage() && is_shortage(&shortage) => BookError::Io(shortage),
        _ => error,
    }
}

fn time(seconds: Option<i64>) -> Option<Time> {
    seconds.map(|seconds| Time { seconds, ..Time::default() })
}

fn mirror(row: &Row<'_>) -> rusqlite::Result<Mirror> {
    let generation: Option<i64> = row.get("head_generation")?;
    let id: Option<String> = row.get("head_id")?;
    let head = generation.zip(id.and_then(|id| id.parse::<ObjectId>().ok()));
    let count = |name: &str| row.get::<_, i64>(name).map(i64::unsigned_abs);
    Ok(Mirror {
        name: row.get("name")?,
        address: row.get("address")?,
        credentials_command: row.get("credentials_command")?,
        head: head.map(|(generation, id)| HeadRef { generation: generation.unsigned_abs(), id }),
        synced: time(row.get("synced")?),
        listed: time(row.get("listed")?),
        verified: time(row.get("verified")?),
        objects: count("objects")?,
        bytes: count("bytes")?,
    })
}

const fn signed(count: u64) -> i64 {
    if count > i64::MAX as u64 { i64::MAX } else { count as i64 }
}

impl MirrorBook {
    /// Opens the book of a repository in `folder`, and makes it when there is none.
    ///
    /// # Errors
    /// See [`BookError`].
    pub fn open(folder: &Path, repository: RepositoryId) -> Result<Self> {
        private::make_directories(folder)?;
        // SQLite gives the files that it makes beside the database the mode of that.
        let file = folder.join(format!("{repository}.sqlite"));
        // One that is there may be on a file system that cannot be written.
        if !file.exists() {
            drop(private::open(&file)?);
        }
        Self::open_file(&file).map_err(|error| explain(error, &file))
    }

    fn open_file(file: &Path) -> Result<Self> {
        let mut database = Connection::open(file)?;
        database.busy_timeout(BUSY)?;
        database.pragma_update(None, "journal_mode", "wal")?;
        database.pragma_update(None, "foreign_keys", true)?;
        database.execute_batch(SCHEMA)?;
        database.execute_batch(superseded::SCHEMA)?;
        database.execute_batch(damage::SCHEMA)?;
        drill::create(&mut database)?;
        database.execute_batch(finding::SCHEMA)?;
        database.execute_batch(verified::SCHEMA)?;
        database.execute_batch(uploads::SCHEMA)?;
        Ok(Self { database })
    }

    /// What tells the incomplete objects of this machine on mirrors from those of others: 16 digits, by chance.
    ///
    /// # Errors
    /// See [`BookError`].
    pub fn tag(&self) -> Result<String> {
        let sql = "INSERT INTO machine SELECT lower(hex(randomblob(8))) WHERE NOT EXISTS (SELECT 1 FROM machine)";
        self.database.execute(sql, [])?;
        Ok(self.database.query_row("SELECT tag FROM machine ORDER BY tag LIMIT 1", [], |row| row.get(0))?)
    }

    /// Adds a mirror.
    ///
    /// # Errors
    /// [`BookError::Exists`].
    pub fn add(&self, name: &str, address: &str, credentials_command: Option<&str>, now: Time) -> Result<()> {
        let sql = "INSERT INTO mirror (name, address, credentials_command, added) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT DO NOTHING";
        let added = self.database.execute(sql, params![name, address, credentials_command, now.seconds])?;
        if added == 0 { Err(BookError::Exists(name.to_owned())) } else { Ok(()) }
    }

    /// Takes a mirror off the list. Its drills go on under its address: another mirror of that name has proven nothing.
    ///
    /// # Errors
    /// [`BookError::Unknown`].
    pub fn remove(&mut self, name: &str) -> Result<()> {
        let transaction = self.database.transaction()?;
        let drills = "UPDATE drill SET mirror = (SELECT address FROM mirror WHERE name = ?1) \
                      WHERE mirror = ?1 AND EXISTS (SELECT 1 FROM mirror WHERE name = ?1)";
        transaction.execute(drills, params![name])?;
        let removed = transaction.execute("DELETE FROM mirror WHERE name = ?1", params![name])?;
        if removed == 0 {
            return Err(BookError::Unknown(name.to_owned()));
        }
        Ok(transaction.commit()?)
    }

    /// All mirrors, by name.
    ///
    /// # Errors
    /// See [`BookError`].
    pub fn all(&self) -> Result<Vec<Mirror>> {
        let mut statement = self.database.prepare("SELECT * FROM mirror ORDER BY name")?;
        let found = statement.query_map([], mirror)?.collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(found)
    }

    /// One mirror.
    ///
    /// # Errors
    /// [`BookError::Unknown`].
    pub fn get(&self, name: &str) -> Result<Mirror> {
        let found =
            self.database.query_row("SELECT * FROM mirror WHERE name = ?1", params![name], mirror).optional()?;
        found.ok_or_else(|| BookError::Unknown(name.to_owned()))
    }

    /// Remembers the newest head that was seen on a mirror, or that it has none.
    ///
    /// # Errors
    /// See [`BookError`].
    pub fn set_head(&self, name: &str, head: Option<HeadRef>) -> Result<()> {
        let (generation, id) = (head.map(|head| signed(head.generation)), head.map(|head| head.id.to_string()));
        let sql = "UPDATE mirror SET head_generation = ?2, head_id = ?3 WHERE name = ?1";
        self.database.execute(sql, params![name, generation, id])?;
        Ok(())
    }

    /// Remembers that a sync left a mirror whole.
    ///
    /// # Errors
    /// See [`BookError`].
    pub fn set_whole(&self, name: &str, head: HeadRef, (objects, bytes): (u64, u64), now: Time) -> Result<()> {
        self.set_head(name, Some(head))?;
        let sql = "UPDATE mirror SET synced = ?2, listed = ?2, objects = ?3, bytes = ?4 WHERE name = ?1";
        self.database.execute(sql, params![name, now.seconds, signed(objects), signed(bytes)])?;
        let sql = "DELETE FROM object WHERE mirror = ?1";
        self.database.execute(sql, params![name])?;
        Ok(())
    }

    /// Remembers since when all of a mirror has been read back, or that not all of it has.
    ///
    /// # Errors
    /// See [`BookError`].
    pub fn set_verified(&self, name: &str, since: Option<Time>) -> Result<()> {
        let since = since.map(|since| since.seconds);
        self.database.execute("UPDATE mirror SET verified = ?2 WHERE name = ?1", params![name, since])?;
        Ok(())
    }

    /// Notes what is to be sent, in place of what was noted before; failures of before keep their count of tries.
    ///
    /// # Errors
    /// See [`BookError`].
    pub fn plan(&mut self, mirror: &str, objects: &[(ObjectName, u64)], now: Time) -> Result<()> {
        let transaction = self.database.transaction()?;
        transaction.execute("UPDATE object SET state = 'done' WHERE mirror = ?1", params![mirror])?;
        {
            let sql = "INSERT INTO object (mirror, name, bytes, state, changed) VALUES (?1, ?2, ?3, 'pending', ?4) \
                       ON CONFLICT DO UPDATE SET state = 'pending', changed = ?4";
            let mut insert = transaction.prepare(sql)?;
            // Whatever was read back there under this name is about to be replaced.
            let mut unverified = transaction.prepare("DELETE FROM verified WHERE mirror = ?1 AND name = ?2")?;
            for (name, bytes) in objects {
                insert.execute(params![mirror, name.to_string(), signed(*bytes), now.seconds])?;
                unverified.execute(params![mirror, name.to_string()])?;
            }
        }
        transaction.execute("DELETE FROM object WHERE mirror = ?1 AND state = 'done'", params![mirror])?;
        transaction.commit()?;
        Ok(())
    }

    /// Notes how one object stands.
    ///
    /// # Errors
    /// See [`BookError`].
    pub fn set_state(&self, mirror: &str, name: &ObjectName, state: &SendState, now: Time) -> Result<()> {
        let (word, transient, reason, tried) = match state {
            SendState::Pending => ("pending", false, None, 0),
            SendState::InProgress => ("in progress", false, None, 1),
            SendState::Done => ("done", false, None, 0),
            SendState::Failed { transient, reason } => ("failed", *transient, Some(reason.as_str()), 0),
        };
        let sql = "UPDATE object SET state = ?3, transient = ?4, reason = ?5, tries = tries + ?6, changed = ?7 \
                   WHERE mirror = ?1 AND name = ?2";
        let mut statement = self.database.prepare(sql)?;
        statement.execute(params![mirror, name.to_string(), word, transient, reason, tried, now.seconds])?;
        Ok(())
    }

    /// How many objects of a mirror wait or have failed.
    ///
    /// # Errors
    /// See [`BookError`].
    pub fn counts(&self, mirror: &str) -> Result<SendCounts> {
        let sql = "SELECT count(*) FILTER (WHERE state IN ('pending', 'in progress')), \
                   coalesce(sum(bytes) FILTER (WHERE state IN ('pending', 'in progress')), 0), \
                   count(*) FILTER (WHERE state = 'failed') FROM object WHERE mirror = ?1";
        let count = |row: &Row<'_>, index: usize| row.get::<_, i64>(index).map(i64::unsigned_abs);
        let counts = self.database.query_row(sql, params![mirror], |row| {
            Ok(SendCounts { pending: count(row, 0)?, pending_bytes: count(row, 1)?, failed: count(row, 2)? })
        })?;
        Ok(counts)
    }

    /// The objects of a mirror that have failed, with how often they were tried and why they failed.
    ///
    /// # Errors
    /// See [`BookError`].
    pub fn failures(&self, mirror: &str) -> Result<Vec<(String, u64, bool, String)>> {
        let sql = "SELECT name, tries, transient, coalesce(reason, '') FROM object \
                   WHERE mirror = ?1 AND state = 'failed' ORDER BY name";
        let mut statement = self.database.prepare(sql)?;
        let row = |row: &Row<'_>| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs(), row.get::<_, bool>(2)?, row.get(3)?))
        };
        let found = statement.query_map(params![mirror], row)?.collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(found)
    }

    /// The objects of a mirror that failed for another reason than that the store did not answer: what lies there under their
    /// names is not what was sent, whatever length it has.
    ///
    /// # Errors
    /// See [`BookError`].
    pub fn doubtful(&self, mirror: &str) -> Result<Vec<ObjectName>> {
        let failures = self.failures(mirror)?.into_iter().filter(|(_, _, transient, _)| !transient);
        let mut found: Vec<ObjectName> = failures.filter_map(|(name, ..)| ObjectName::parse(&name).ok()).collect();
        found.extend(self.damaged_objects(mirror)?.into_iter().map(|damaged| damaged.name));
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn now(seconds: i64) -> Time {
        Time { seconds, ..Time::default() }
    }

    #[test]
    fn mirrors_and_the_states_of_objects_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let id = RepositoryId([7; 32]);
        let mut book = MirrorBook::open(folder.path(), id).unwrap();
        book.add("one", "file:///srv", None, now(1)).unwrap();
        assert!(matches!(book.add("one", "file:///x", None, now(1)), Err(BookError::Exists(_))));
        assert!(matches!(book.get("two"), Err(BookError::Unknown(_))));
        let (a, b) = (ObjectName::Pack(ObjectId([1; 32])), ObjectName::Pack(ObjectId([2; 32])));
        book.plan("one", &[(a, 10), (b, 20)], now(2)).unwrap();
        book.set_state("one", &a, &SendState::InProgress, now(3)).unwrap();
        let failed = SendState::Failed { transient: true, reason: "no answer".to_owned() };
        book.set_state("one", &a, &failed, now(3)).unwrap();
        // Another process sees it while this one has the book open.
        let other = MirrorBook::open(folder.path(), id).unwrap();
        assert_eq!(other.counts("one").unwrap(), SendCounts { pending: 1, pending_bytes: 20, failed: 1 });
        assert_eq!(other.failures("one").unwrap(), [(a.to_string(), 1, true, "no answer".to_owned())]);
        book.plan("one", &[(a, 10)], now(4)).unwrap();
        assert_eq!(book.counts("one").unwrap(), SendCounts { pending: 1, pending_bytes: 10, failed: 0 });
        let head = HeadRef { generation: 3, id: ObjectId([9; 32]) };
        book.set_whole("one", head, (5, 600), now(5)).unwrap();
        let found = other.get("one").unwrap();
        assert_eq!((found.head, found.objects, found.synced), (Some(head), 5, Some(now(5))));
        assert_eq!(book.counts("one").unwrap(), SendCounts::default());
        let drill = book.begin_drill("one", None, now(6)).unwrap();
        book.remove("one").unwrap();
        assert_eq!(book.drills(Some("one")).unwrap(), []);
        assert_eq!(book.drills(Some("file:///srv")).unwrap()[0].number, drill);
        assert_eq!(other.all().unwrap(), []);
    }
}
