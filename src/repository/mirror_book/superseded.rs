//! What no state of a mirror needs any more, since when, and what of it was deleted.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{MirrorBook, Result, signed};
use crate::base::time::Time;
use crate::repository::uptime::Uptime;
use crate::storage::ObjectName;

pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS clock (
        mirror TEXT PRIMARY KEY REFERENCES mirror(name) ON DELETE CASCADE,
        seconds INTEGER NOT NULL,
        boot TEXT NOT NULL,
        running INTEGER NOT NULL,
        calendar INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS superseded (
        mirror TEXT NOT NULL REFERENCES mirror(name) ON DELETE CASCADE,
        name TEXT NOT NULL,
        generation INTEGER NOT NULL,
        seen INTEGER NOT NULL,
        PRIMARY KEY (mirror, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS deleted (
        mirror TEXT NOT NULL REFERENCES mirror(name) ON DELETE CASCADE,
        name TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (mirror, name)
    ) STRICT, WITHOUT ROWID;
";

/// Between two starts of the machine the calendar clock is believed for at most so much.
const CALENDAR_STEP_MAX: u64 = 24 * 60 * 60;

/// An object on a mirror that no state needs any more: its name, and since when this machine has known that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superseded {
    /// Its name.
    pub name: ObjectName,
    /// The generation of the mirror's own head that said so first.
    pub generation: u64,
    /// On the mirror's clock ([`MirrorBook::clock`]), in seconds.
    pub seen: u64,
}

/// The rows of the table, with what they say as far as they can be read.
fn superseded(database: &Connection, mirror: &str) -> Result<Vec<(String, Option<Superseded>)>> {
    let mut statement = database.prepare("SELECT name, generation, seen FROM superseded WHERE mirror = ?1")?;
    let row = |row: &Row<'_>| {
        let name: String = row.get(0)?;
        let count = |index| row.get::<_, i64>(index).map(i64::unsigned_abs);
        let (generation, seen) = (count(1)?, count(2)?);
        let known = ObjectName::parse(&name).ok().map(|name| Superseded { name, generation, seen });
        Ok((name, known))
    };
    let found = statement.query_map(params![mirror], row)?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(found)
}

impl MirrorBook {
    /// Seconds that this machine has counted for a mirror, up to now: what graces are measured with. While the machine runs it counts
    /// itself; a calendar clock that was put forward ten years while it was off adds a day, and one that was put back nothing.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn clock(&self, mirror: &str, uptime: &Uptime, calendar: Time) -> Result<u64> {
        let running = uptime.running.as_secs();
        let sql = "SELECT seconds, boot, running, calendar FROM clock WHERE mirror = ?1";
        let row = |row: &Row<'_>| {
            let count = |index| row.get::<_, i64>(index).map(i64::unsigned_abs);
            Ok((count(0)?, row.get::<_, String>(1)?, count(2)?, row.get::<_, i64>(3)?))
        };
        let before = self.database.query_row(sql, params![mirror], row).optional()?;
        let seconds = before.map_or(0, |(seconds, boot, then, calendar_then)| {
            let passed = if boot == uptime.boot && !boot.is_empty() {
                running.saturating_sub(then)
            } else {
                let calendar = u64::try_from(calendar.seconds.saturating_sub(calendar_then)).unwrap_or(0);
                calendar.min(CALENDAR_STEP_MAX)
            };
            seconds.saturating_add(passed)
        });
        let sql = "INSERT INTO clock (mirror, seconds, boot, running, calendar) VALUES (?1, ?2, ?3, ?4, ?5) \
                   ON CONFLICT DO UPDATE SET seconds = ?2, boot = ?3, running = ?4, calendar = ?5";
        self.database.execute(sql, params![mirror, signed(seconds), uptime.boot, signed(running), calendar.seconds])?;
        Ok(seconds)
    }

    /// Notes what the mirror's own head, of `generation`, does not need any more. What is known already keeps its time, and what is not
    /// among `names` is forgotten.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn set_superseded(&mut self, mirror: &str, generation: u64, names: &[ObjectName], clock: u64) -> Result<()> {
        let transaction = self.database.transaction()?;
        let known = superseded(&transaction, mirror)?;
        let wanted: BTreeSet<ObjectName> = names.iter().copied().collect();
        {
            let mut delete = transaction.prepare("DELETE FROM superseded WHERE mirror = ?1 AND name = ?2")?;
            for (text, name) in &known {
                if name.is_none_or(|known| !wanted.contains(&known.name)) {
                    delete.execute(params![mirror, text])?;
                }
            }
            let sql = "INSERT INTO superseded (mirror, name, generation, seen) VALUES (?1, ?2, ?3, ?4) \
                       ON CONFLICT DO NOTHING";
            let mut insert = transaction.prepare(sql)?;
            for name in &wanted {
                insert.execute(params![mirror, name.to_string(), signed(generation), signed(clock)])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// What was noted as superseded.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn superseded(&self, mirror: &str) -> Result<Vec<Superseded>> {
        Ok(superseded(&self.database, mirror)?.into_iter().filter_map(|(_, known)| known).collect())
    }

    /// Notes what is about to be deleted from a mirror, and when.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn add_deleted(&mut self, mirror: &str, objects: &[(ObjectName, u64)], clock: u64) -> Result<()> {
        let transaction = self.database.transaction()?;
        {
            let sql = "INSERT INTO deleted (mirror, name, bytes, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
            let mut insert = transaction.prepare(sql)?;
            for (name, bytes) in objects {
                insert.execute(params![mirror, name.to_string(), signed(*bytes), signed(clock)])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// What was deleted from a mirror since a time of its clock, with its bytes. What was deleted before that is forgotten.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn deleted_since(&self, mirror: &str, clock: u64) -> Result<Vec<(ObjectName, u64)>> {
        self.database.execute("DELETE FROM deleted WHERE mirror = ?1 AND at < ?2", params![mirror, signed(clock)])?;
        let mut statement = self.database.prepare("SELECT name, bytes FROM deleted WHERE mirror = ?1")?;
        let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.unsigned_abs()));
        let found = statement.query_map(params![mirror], row)?.collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(found.into_iter().filter_map(|(name, bytes)| Some((ObjectName::parse(&name).ok()?, bytes))).collect())
    }
}
