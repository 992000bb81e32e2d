//! That the last check found damage here: nothing is sent to mirrors until another one has not.

use rusqlite::{OptionalExtension, Row, params};

use super::{MirrorBook, Result};
use crate::base::time::Time;

pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS damage (
        place TEXT PRIMARY KEY,
        found INTEGER NOT NULL,
        by_reading INTEGER NOT NULL,
        what TEXT NOT NULL
    ) STRICT;
";

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// When.
    pub found: Time,
    /// The check read packs: only one that reads them all can say that it is gone.
    pub by_reading: bool,
    /// The first finding, for people.
    pub what: String,
}

impl MirrorBook {
    /// What the last check of the copy at a place found, unless it was nothing.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn damage(&self, place: &str) -> Result<Option<Damage>> {
        let row = |row: &Row<'_>| {
            Ok(Damage { found: Time::from_seconds(row.get(0)?), by_reading: row.get(1)?, what: row.get(2)? })
        };
        let sql = "SELECT found, by_reading, what FROM damage WHERE place = ?1";
        Ok(self.database.query_row(sql, params![place], row).optional()?)
    }

    /// Remembers what a check found. Of two, what needs the more thorough check stays.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn set_damage(&self, place: &str, damage: &Damage) -> Result<()> {
        let sql = "INSERT INTO damage (place, found, by_reading, what) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT DO UPDATE SET found = ?2, by_reading = max(by_reading, ?3), what = ?4";
        self.database.execute(sql, params![place, damage.found.seconds, damage.by_reading, damage.what])?;
        Ok(())
    }

    /// A check found nothing; `read_all` when it read every pack.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn clear_damage(&self, place: &str, read_all: bool) -> Result<()> {
        self.database.execute("DELETE FROM damage WHERE place = ?1 AND by_reading <= ?2", params![place, read_all])?;
        Ok(())
    }
}
