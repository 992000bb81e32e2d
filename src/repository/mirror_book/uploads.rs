//! Uploads in parts that this machine has begun and not ended: what a kill leaves of them is known by it as our own.
//!
//! Losing these notes costs nothing but time: what is not noted is removed when it is old.

use rusqlite::params;

use super::{MirrorBook, Result};
use crate::storage::UnfinishedUpload;

pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS upload (
        mirror TEXT NOT NULL REFERENCES mirror(name) ON DELETE CASCADE,
        path TEXT NOT NULL,
        id TEXT NOT NULL,
        PRIMARY KEY (mirror, path, id)
    ) STRICT, WITHOUT ROWID;
";
/// Uploads that are read at once, at most: a sync has far fewer on their way, and the next one reads the rest.
const UPLOADS_MAX: u32 = 1_000;

impl MirrorBook {
    /// Notes an upload to a mirror that has begun.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn note_upload(&self, mirror: &str, upload: &UnfinishedUpload) -> Result<()> {
        let sql = "INSERT INTO upload (mirror, path, id) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        self.database.execute(sql, params![mirror, upload.path, upload.id])?;
        Ok(())
    }

    /// Strikes it out: it was finished, or is gone.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn forget_upload(&self, mirror: &str, upload: &UnfinishedUpload) -> Result<()> {
        let sql = "DELETE FROM upload WHERE mirror = ?1 AND path = ?2 AND id = ?3";
        self.database.execute(sql, params![mirror, upload.path, upload.id])?;
        Ok(())
    }

    /// Those that are noted. Whoever holds the lock on the mirror knows that no process of this machine goes on with them.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn uploads(&self, mirror: &str) -> Result<Vec<UnfinishedUpload>> {
        let sql = "SELECT path, id FROM upload WHERE mirror = ?1 ORDER BY path, id LIMIT ?2";
        let mut statement = self.database.prepare(sql)?;
        let found = statement.query_map(params![mirror, UPLOADS_MAX], |row| {
            Ok(UnfinishedUpload { path: row.get(0)?, id: row.get(1)? })
        })?;
        Ok(found.collect::<rusqlite::Result<Vec<_>>>()?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::id::RepositoryId;
    use crate::base::time::Time;

    #[test]
    fn an_upload_is_noted_until_it_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = MirrorBook::open(folder.path(), RepositoryId([7; 32])).unwrap();
        for name in ["one", "two"] {
            book.add(name, "s3://bucket", None, Time::from_seconds(1)).unwrap();
        }
        let [first, second] = ["a", "b"].map(|id| UnfinishedUpload { path: "packs/x".to_owned(), id: id.to_owned() });
        for upload in [&first, &second, &first] {
            book.note_upload("one", upload).unwrap();
        }
        // Another process that the first one left behind.
        let book_again = MirrorBook::open(folder.path(), RepositoryId([7; 32])).unwrap();
        assert_eq!(book_again.uploads("one").unwrap(), [first.clone(), second.clone()]);
        assert_eq!(book_again.uploads("two").unwrap(), []);
        book.forget_upload("one", &first).unwrap();
        assert_eq!(book.uploads("one").unwrap(), [second]);
        // No mirror of that name has begun anything.
        assert!(book.note_upload("three", &first).is_err());
        book.remove("one").unwrap();
        assert_eq!(book.uploads("one").unwrap(), []);
    }
}
