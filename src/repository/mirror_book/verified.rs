//! When each object of a mirror was last read back and found right.

use std::collections::BTreeMap;

use rusqlite::{Row, params};

use super::{MirrorBook, Result};
use crate::base::time::Time;
use crate::storage::ObjectName;

pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS verified (
        mirror TEXT NOT NULL REFERENCES mirror(name) ON DELETE CASCADE,
        name TEXT NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (mirror, name)
    ) STRICT, WITHOUT ROWID;
";

impl MirrorBook {
    /// When objects of a mirror were last read back and found right, for all of which that is known.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn verified(&self, mirror: &str) -> Result<BTreeMap<ObjectName, Time>> {
        let mut statement = self.database.prepare("SELECT name, at FROM verified WHERE mirror = ?1")?;
        let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?));
        let mut found = BTreeMap::new();
        for row in statement.query_map(params![mirror], row)? {
            let (name, at) = row?;
            if let Ok(name) = ObjectName::parse(&name) {
                found.insert(name, Time::from_seconds(at));
            }
        }
        Ok(found)
    }

    /// Remembers that objects were read back and are right.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn add_verified(&mut self, mirror: &str, names: &[ObjectName], now: Time) -> Result<()> {
        let sql = "INSERT INTO verified (mirror, name, at) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET at = ?3";
        let transaction = self.database.transaction()?;
        {
            let mut insert = transaction.prepare(sql)?;
            for name in names {
                insert.execute(params![mirror, name.to_string(), now.seconds])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Forgets that objects were right: they are not, they are sent again, or nothing needs them any more.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn remove_verified(&mut self, mirror: &str, names: &[ObjectName]) -> Result<()> {
        let transaction = self.database.transaction()?;
        {
            let mut delete = transaction.prepare("DELETE FROM verified WHERE mirror = ?1 AND name = ?2")?;
            for name in names {
                delete.execute(params![mirror, name.to_string()])?;
            }
        }
        Ok(transaction.commit()?)
    }
}
