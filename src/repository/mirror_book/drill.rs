//! What came of drills.

use std::time::Duration;

use rusqlite::{Connection, Row, TransactionBehavior, params};

use super::{MirrorBook, Result, signed};
use crate::base::time::Time;

/// Drills are listed beside the mirrors, and not under them: taking a mirror off the list does not undo what was proven.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS drill (
        number INTEGER PRIMARY KEY,
        mirror TEXT NOT NULL,
        began INTEGER NOT NULL,
        sample REAL,
        outcome TEXT NOT NULL CHECK (outcome IN ('begun', 'passed', 'failed', 'interrupted', 'not held')),
        reason TEXT,
        generation INTEGER,
        snapshots INTEGER NOT NULL DEFAULT 0,
        files INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        fetched INTEGER NOT NULL DEFAULT 0,
        first_file_ms INTEGER,
        complete_ms INTEGER,
        age INTEGER
    ) STRICT;
";

/// The columns of the table, in the order in which they were made first.
const COLUMNS: &str = "number, mirror, began, sample, outcome, reason, generation, snapshots, files, bytes, fetched, \
                       first_file_ms, complete_ms, age";

/// Makes the table, or brings one that an earlier version made to what it is now: SQLite cannot change what a column may hold.
pub(super) fn create(database: &mut Connection) -> rusqlite::Result<()> {
    database.execute_batch(SCHEMA)?;
    let is_old = |database: &Connection| -> rusqlite::Result<bool> {
        let sql = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'drill'";
        Ok(!database.query_row(sql, [], |row| row.get::<_, String>(0))?.contains(DrillOutcome::NotHeld.word()))
    };
    // What cannot be written can still be read.
    if !is_old(database)? || database.is_readonly("main")? {
        return Ok(());
    }
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have done it meanwhile.
    if is_old(&transaction)? {
        transaction.execute_batch("ALTER TABLE drill RENAME TO drill_before")?;
        transaction.execute_batch(SCHEMA)?;
        let copy = format!("INSERT INTO drill ({COLUMNS}) SELECT {COLUMNS} FROM drill_before; DROP TABLE drill_before");
        transaction.execute_batch(&copy)?;
    }
    transaction.commit()
}

/// How a drill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrillOutcome {
    /// It did not, or not yet: it was killed, or runs now.
    Begun,
    /// Everything that was tried came back as it was.
    Passed,
    /// It did not.
    Failed,
    /// Somebody wanted an end.
    Interrupted,
    /// It could not be held, for a reason that says nothing of the mirror: this machine's disk was full, what was asked for is not in the
    /// snapshots, or the store did not answer.
    NotHeld,
}

impl DrillOutcome {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::NotHeld => "not held",
        }
    }

    fn parse(word: &str) -> Self {
        [Self::Passed, Self::Failed, Self::Interrupted, Self::NotHeld]
            .into_iter()
            .find(|outcome| outcome.word() == word)
            .unwrap_or(Self::Begun)
    }
}

/// A drill and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Drill {
    /// Which one, counted from 1.
    pub number: i64,
    /// The mirror's name, or its address when it has none.
    pub mirror: String,
    /// When.
    pub began: Time,
    /// The share of the files, in percent; none for everything.
    pub sample: Option<f64>,
    /// How it ended.
    pub outcome: DrillOutcome,
    /// Why it failed.
    pub reason: Option<String>,
    /// The state that came back.
    pub generation: Option<u64>,
    /// Snapshots that were restored.
    pub snapshots: u64,
    /// Files that were restored and compared.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that the mirror sent.
    pub fetched: u64,
    /// Until the first file was there.
    pub first_file: Option<Duration>,
    /// Until everything was.
    pub complete: Option<Duration>,
    /// How old the data was.
    pub age: Option<Duration>,
}

impl MirrorBook {
    /// Notes that a drill begins, and returns its number.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn begin_drill(&self, mirror: &str, sample: Option<f64>, now: Time) -> Result<i64> {
        let sql = "INSERT INTO drill (mirror, began, sample, outcome) VALUES (?1, ?2, ?3, 'begun')";
        self.database.execute(sql, params![mirror, now.seconds, sample])?;
        Ok(self.database.last_insert_rowid())
    }

    /// Notes how a drill ended.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn end_drill(&self, drill: &Drill) -> Result<()> {
        let sql = "UPDATE drill SET outcome = ?2, reason = ?3, generation = ?4, snapshots = ?5, files = ?6, bytes = ?7, \
                   fetched = ?8, first_file_ms = ?9, complete_ms = ?10, age = ?11 WHERE number = ?1";
        let milliseconds =
            |span: Option<Duration>| span.map(|span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
        self.database.execute(
            sql,
            params![
                drill.number,
                drill.outcome.word(),
                drill.reason,
                drill.generation.map(signed),
                signed(drill.snapshots),
                signed(drill.files),
                signed(drill.bytes),
                signed(drill.fetched),
                milliseconds(drill.first_file),
                milliseconds(drill.complete),
                drill.age.map(|age| signed(age.as_secs())),
            ],
        )?;
        Ok(())
    }

    /// The drills of one mirror, or of all, the last one first.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn drills(&self, mirror: Option<&str>) -> Result<Vec<Drill>> {
        let sql = "SELECT * FROM drill WHERE ?1 IS NULL OR mirror = ?1 ORDER BY number DESC";
        let mut statement = self.database.prepare(sql)?;
        let row = |row: &Row<'_>| {
            let count = |name: &str| row.get::<_, i64>(name).map(i64::unsigned_abs);
            let maybe = |name: &str| row.get::<_, Option<i64>>(name).map(|value| value.map(i64::unsigned_abs));
            Ok(Drill {
                number: row.get("number")?,
                mirror: row.get("mirror")?,
                began: Time::from_seconds(row.get("began")?),
                sample: row.get("sample")?,
                outcome: DrillOutcome::parse(&row.get::<_, String>("outcome")?),
                reason: row.get("reason")?,
                generation: maybe("generation")?,
                snapshots: count("snapshots")?,
                files: count("files")?,
                bytes: count("bytes")?,
                fetched: count("fetched")?,
                first_file: maybe("first_file_ms")?.map(Duration::from_millis),
                complete: maybe("complete_ms")?.map(Duration::from_millis),
                age: maybe("age")?.map(Duration::from_secs),
            })
        };
        let found = statement.query_map(params![mirror], row)?.collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::id::RepositoryId;

    #[test]
    fn drills_of_an_earlier_version_stay() {
        let folder = tempfile::tempdir().unwrap();
        let id = RepositoryId([7; 32]);
        let file = folder.path().join(format!("{id}.sqlite"));
        let old = Connection::open(&file).unwrap();
        old.execute_batch(&SCHEMA.replace(", 'not held'", "")).unwrap();
        old.execute_batch("INSERT INTO drill (mirror, began, outcome, files) VALUES ('one', 5, 'passed', 9)").unwrap();
        drop(old);
        for round in 0..2 {
            let book = MirrorBook::open(folder.path(), id).unwrap();
            let number = book.begin_drill("one", None, Time::from_seconds(6)).unwrap();
            let begun = book.drills(None).unwrap().remove(0);
            assert_eq!(begun.number, number);
            book.end_drill(&Drill { outcome: DrillOutcome::NotHeld, ..begun }).unwrap();
            let drills = book.drills(Some("one")).unwrap();
            assert_eq!((drills.len(), drills[0].outcome), (2 + round, DrillOutcome::NotHeld));
            let first = drills.last().unwrap();
            assert_eq!((first.number, first.files, first.outcome), (1, 9, DrillOutcome::Passed));
        }
    }
}
