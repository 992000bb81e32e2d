//! What speaks against a mirror, until a later sync or check disproves it: why the last sync or check of it failed, and the objects there that
//! were read and have not the bytes that their names say.

use rusqlite::{Row, params};

use super::{MirrorBook, Result};
use crate::base::time::Time;
use crate::storage::ObjectName;

pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS finding (
        mirror TEXT NOT NULL REFERENCES mirror(name) ON DELETE CASCADE,
        found_by TEXT NOT NULL CHECK (found_by IN ('sync', 'check')),
        kind TEXT NOT NULL,
        since INTEGER NOT NULL,
        seen INTEGER NOT NULL,
        transient INTEGER NOT NULL,
        of_mirror INTEGER NOT NULL,
        reason TEXT NOT NULL,
        remedies TEXT NOT NULL,
        PRIMARY KEY (mirror, found_by)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS damaged_object (
        mirror TEXT NOT NULL REFERENCES mirror(name) ON DELETE CASCADE,
        name TEXT NOT NULL,
        since INTEGER NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (mirror, name)
    ) STRICT, WITHOUT ROWID;
";

/// Who found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundBy {
    /// A sync.
    Sync,
    /// A check of the mirror.
    Check,
}

impl FoundBy {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Check => "check",
        }
    }
}

/// Why the last sync or check of a mirror failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which of them.
    pub found_by: FoundBy,
    /// The kind of failure, in the words of the floor above.
    pub kind: String,
    /// When it was found first. A later one of the same kind keeps this time.
    pub since: Time,
    /// When it was found last.
    pub seen: Time,
    /// It may pass by itself.
    pub transient: bool,
    /// It speaks against what lies there, and not against the repository here.
    pub of_mirror: bool,
    /// Why, for people.
    pub reason: String,
    /// What to do about it, with the marks of suggested commands.
    pub remedies: Vec<String>,
}

/// An object on a mirror that was read and is not what its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedObject {
    /// The object.
    pub name: ObjectName,
    /// When that was found first.
    pub since: Time,
    /// What is wrong with it.
    pub reason: String,
}

/// Between two remedies. No text that people read holds it.
const BETWEEN: char = '\u{1e}';

impl MirrorBook {
    /// What the last sync and the last check found, unless it was disproved since. That of the sync comes first.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn findings(&self, mirror: &str) -> Result<Vec<Finding>> {
        let sql = "SELECT found_by, kind, since, seen, transient, of_mirror, reason, remedies FROM finding \
                   WHERE mirror = ?1 ORDER BY found_by DESC";
        let row = |row: &Row<'_>| {
            let found_by: String = row.get(0)?;
            let remedies: String = row.get(7)?;
            Ok(Finding {
                found_by: if found_by == FoundBy::Sync.word() { FoundBy::Sync } else { FoundBy::Check },
                kind: row.get(1)?,
                since: Time::from_seconds(row.get(2)?),
                seen: Time::from_seconds(row.get(3)?),
                transient: row.get(4)?,
                of_mirror: row.get(5)?,
                reason: row.get(6)?,
                remedies: remedies.split(BETWEEN).filter(|text| !text.is_empty()).map(str::to_owned).collect(),
            })
        };
        let mut statement = self.database.prepare(sql)?;
        let found = statement.query_map(params![mirror], row)?.collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(found)
    }

    /// Remembers why a sync or a check failed, in place of what the last one found.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn set_finding(&self, mirror: &str, finding: &Finding) -> Result<()> {
        let sql = "INSERT INTO finding (mirror, found_by, kind, since, seen, transient, of_mirror, reason, remedies) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO UPDATE SET \
                   since = CASE kind WHEN excluded.kind THEN since ELSE excluded.since END, kind = excluded.kind, \
                   seen = excluded.seen, transient = excluded.transient, of_mirror = excluded.of_mirror, \
                   reason = excluded.reason, remedies = excluded.remedies";
        let remedies = finding.remedies.join(&BETWEEN.to_string());
        self.database.execute(
            sql,
            params![
                mirror,
                finding.found_by.word(),
                finding.kind,
                finding.since.seconds,
                finding.seen.seconds,
                finding.transient,
                finding.of_mirror,
                finding.reason,
                remedies
            ],
        )?;
        Ok(())
    }

    /// What a sync or a check found is disproved.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn clear_finding(&self, mirror: &str, found_by: FoundBy) -> Result<()> {
        let sql = "DELETE FROM finding WHERE mirror = ?1 AND found_by = ?2";
        self.database.execute(sql, params![mirror, found_by.word()])?;
        Ok(())
    }

    /// Objects on a mirror that were read and are not what their names say, by name.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn damaged_objects(&self, mirror: &str) -> Result<Vec<DamagedObject>> {
        let sql = "SELECT name, since, reason FROM damaged_object WHERE mirror = ?1 ORDER BY name";
        let mut statement = self.database.prepare(sql)?;
        let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get(2)?));
        let mut found = Vec::new();
        for row in statement.query_map(params![mirror], row)? {
            let (name, since, reason) = row?;
            if let Ok(name) = ObjectName::parse(&name) {
                found.push(DamagedObject { name, since: Time::from_seconds(since), reason });
            }
        }
        Ok(found)
    }

    /// Remembers objects that were read there and are not what their names say, and why. One that is known keeps its time.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn add_damaged_objects(&mut self, mirror: &str, damaged: &[(ObjectName, String)], now: Time) -> Result<()> {
        let sql = "INSERT INTO damaged_object (mirror, name, since, reason) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT DO UPDATE SET reason = ?4";
        let transaction = self.database.transaction()?;
        {
            let mut insert = transaction.prepare(sql)?;
            for (name, reason) in damaged {
                insert.execute(params![mirror, name.to_string(), now.seconds, reason])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Forgets that objects there were damaged: they were read and are right, or were sent again.
    ///
    /// # Errors
    /// See [`BookError`](super::BookError).
    pub fn remove_damaged_objects(&mut self, mirror: &str, names: &[ObjectName]) -> Result<()> {
        let transaction = self.database.transaction()?;
        {
            let mut delete = transaction.prepare("DELETE FROM damaged_object WHERE mirror = ?1 AND name = ?2")?;
            for name in names {
                delete.execute(params![mirror, name.to_string()])?;
            }
        }
        Ok(transaction.commit()?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::id::{ObjectId, RepositoryId};

    #[test]
    fn findings_stay_until_they_are_disproved() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = MirrorBook::open(folder.path(), RepositoryId([7; 32])).unwrap();
        let at = Time::from_seconds;
        book.add("one", "file:///srv", None, at(1)).unwrap();
        let finding = |found_by, kind: &str, seen| Finding {
            found_by,
            kind: kind.to_owned(),
            since: at(seen),
            seen: at(seen),
            transient: false,
            of_mirror: true,
            reason: "gone".to_owned(),
            remedies: vec!["first".to_owned(), "second".to_owned()],
        };
        book.set_finding("one", &finding(FoundBy::Check, "damage", 2)).unwrap();
        book.set_finding("one", &finding(FoundBy::Sync, "rollback", 3)).unwrap();
        book.set_finding("one", &finding(FoundBy::Sync, "rollback", 9)).unwrap();
        let longer = Finding { since: at(3), ..finding(FoundBy::Sync, "rollback", 9) };
        assert_eq!(book.findings("one").unwrap(), [longer, finding(FoundBy::Check, "damage", 2)]);
        // Another kind is another finding.
        book.set_finding("one", &finding(FoundBy::Sync, "fork", 10)).unwrap();
        assert_eq!(book.findings("one").unwrap()[0], finding(FoundBy::Sync, "fork", 10));
        book.clear_finding("one", FoundBy::Sync).unwrap();
        assert_eq!(book.findings("one").unwrap().len(), 1);

        let [a, b] = [1, 2].map(|byte| ObjectName::Pack(ObjectId([byte; 32])));
        book.add_damaged_objects("one", &[(a, "noise".to_owned()), (b, "noise".to_owned())], at(5)).unwrap();
        book.add_damaged_objects("one", &[(a, "zeros".to_owned())], at(6)).unwrap();
        book.remove_damaged_objects("one", &[b]).unwrap();
        let left = [DamagedObject { name: a, since: at(5), reason: "zeros".to_owned() }];
        assert_eq!(book.damaged_objects("one").unwrap(), left);
        assert_eq!(book.doubtful("one").unwrap(), [a]);
        // What is said of a mirror goes with it.
        book.remove("one").unwrap();
        book.add("one", "file:///other", None, at(7)).unwrap();
        assert!(book.findings("one").unwrap().is_empty() && book.damaged_objects("one").unwrap().is_empty());
    }
}
