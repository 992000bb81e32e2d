//! Check the repository, and remember what was found: damage stops every later sync, because mirrors hold the good copies.

use super::environment::{Environment, mirrors, repositories};
use super::failure::{Failure, Kind};
use super::report_warnings;
use crate::base::command::stored;
use crate::base::id::ObjectId;
use crate::base::time::Time;
use crate::ops::check::{self, Data, Options};
use crate::ops::{Monitor, Problem, Subject};
use crate::repository::Repository;
use crate::repository::mirror_book::Damage;
use crate::text::size;
use serde::Deserialize;
use std::str::FromStr;

/// Which part of the packs to read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Subset {
    /// `n/t`: the n-th of t parts, which together are all packs. 1 <= n <= t <= 256.
    Part {
        /// Which one, from 1.
        part: u32,
        /// Of how many.
        parts: u32,
    },
    /// `x%`: packs chosen by chance, about this share of them; above 0, at most 100.
    Percent(f64),
    /// Packs chosen by chance, about this many bytes of them.
    Bytes(u64),
}

/// restic's limit for the parts of `n/t`.
const PARTS_MAX: u32 = 256;

impl FromStr for Subset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((part, parts)) = text.split_once('/') {
            let number = |text: &str| text.parse::<u32>().ok().filter(|number| (1..=PARTS_MAX).contains(number));
            return match (number(part), number(parts)) {
                (Some(part), Some(parts)) if part <= parts => Ok(Self::Part { part, parts }),
                _ => Err(format!("{text:?} is no part: expected n/t with 1 <= n <= t <= {PARTS_MAX}")),
            };
        }
        if let Some(percent) = text.strip_suffix('%') {
            return match percent.parse::<f64>() {
                Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self::Percent(percent)),
                _ => Err(format!("{text:?} is no share: expected more than 0 % and at most 100 %")),
            };
        }
        match size::parse(text) {
            Ok(0) | Err(_) => Err(format!("{text:?} is no part of the packs: expected n/t, x% or a size such as 500M")),
            Ok(bytes) => Ok(Self::Bytes(bytes)),
        }
    }
}

/// What to check.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Read every pack and check every chunk.
    pub read_data: bool,
    /// Read a part of the packs.
    #[serde(deserialize_with = "super::text_form::option")]
    pub read_data_subset: Option<Subset>,
    /// Choose the same packs again as a check that showed this number.
    pub read_data_seed: Option<u64>,
    /// Compare the whole cache with the segments, not only a sample of it.
    pub with_cache: bool,
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// The check's own report.
    pub report: check::Report,
    /// What was checked, with the seed that chose the packs.
    pub options: Options,
    /// The names of the repository's mirrors, which may have good copies.
    pub mirrors: Vec<String>,
}

impl Report {
    /// How it ends.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        kind(&self.report)
    }
}

/// How a check ends. What breaks a limit of the format and is as it was written is no damage.
#[must_use]
pub fn kind(report: &check::Report) -> Option<Kind> {
    match (report.damage(), report.findings.is_empty()) {
        (Some(_), _) => Some(Kind::Damage),
        (None, false) => Some(Kind::Failed),
        (None, true) => None,
    }
}

/// Checks the repository, and remembers whether it is damaged.
///
/// # Errors
/// When the repository cannot be opened or listed; damage is no failure but in the report.
pub fn run(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    let repository = repositories::open_repository(environment, monitor, "check")?;
    let options = request.options();
    let report = check::run(&repository, &options, monitor)?;
    report_warnings(&repository, monitor);
    // What is read from a mirror is the mirror's, and says nothing of the repository here.
    if environment.from_mirror.is_none() {
        remember(&report, options.data, &repository, environment, monitor);
    }
    let mirrors = mirrors::list_names(environment, repository.id());
    Ok(Report { report, options, mirrors })
}

/// A file that needs a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affected {
    /// The snapshot that it is in.
    pub snapshot: ObjectId,
    /// Its path there.
    pub path: Vec<u8>,
}

/// Every file of a live snapshot that needs this pack, and the pack's id.
///
/// # Errors
/// As [`run`]; when there is no such pack.
pub fn list_affected(
    pack: &str,
    environment: &Environment,
    monitor: &dyn Monitor,
) -> Result<(ObjectId, Vec<Affected>), Failure> {
    let repository = repositories::open_repository(environment, monitor, "check")?;
    let mut found = Vec::new();
    let pack = check::needs_pack(&repository, pack, monitor, &mut |snapshot, path| {
        found.push(Affected { snapshot, path: path.to_vec() });
    })?;
    Ok((pack, found))
}

impl Request {
    fn options(&self) -> Options {
        let data = data(self.read_data, self.read_data_subset);
        Options { data, seed: self.read_data_seed.unwrap_or_else(chance), whole_cache: self.with_cache }
    }
}

/// Which packs are read.
pub(super) fn data(all: bool, subset: Option<Subset>) -> Data {
    match subset {
        _ if all => Data::All,
        None => Data::None,
        Some(Subset::Part { part, parts }) => Data::Part { part, parts },
        Some(Subset::Percent(percent)) => Data::Percent(percent),
        Some(Subset::Bytes(bytes)) => Data::Bytes(bytes),
    }
}

/// Any number will do: it only has to differ from time to time, so that in the end every pack is read.
pub(super) fn chance() -> u64 {
    let now = Time::now();
    let chance = (now.seconds.unsigned_abs() << 16) ^ u64::from(now.nanoseconds);
    chance % 1_000_000_000
}

/// A later sync must know of damage: mirrors hold the good copies. What is refused and not damaged is the same on all of them, and does
/// not keep anything from being sent. When it cannot be written down, that is said.
pub(super) fn remember(
    report: &check::Report,
    data: Data,
    repository: &Repository,
    environment: &Environment,
    monitor: &dyn Monitor,
) {
    if let Err(error) = write_down(report, data, repository, environment, monitor) {
        let message = format!("what this check found could not be remembered: {}", error.chain());
        monitor.problem(&Problem::warning(Subject::Machine, &message));
    }
}

fn write_down(
    report: &check::Report,
    data: Data,
    repository: &Repository,
    environment: &Environment,
    monitor: &dyn Monitor,
) -> Result<(), Failure> {
    let place = mirrors::place_name(repository.place());
    match report.damage() {
        Some(finding) => {
            let (by_reading, what) = (data != Data::None, stored(&finding.message));
            if let Some(book) = mirrors::open_book_if_any(environment, monitor, repository.id())? {
                book.set_damage(&place, &Damage { found: Time::now(), by_reading, what })?;
            }
        }
        None => {
            if let Some(book) = mirrors::open_existing_book(environment, repository.id())? {
                book.clear_damage(&place, data == Data::All)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_are_parsed() {
        assert_eq!("1/5".parse(), Ok(Subset::Part { part: 1, parts: 5 }));
        assert_eq!("2.5%".parse(), Ok(Subset::Percent(2.5)));
        assert_eq!("100%".parse(), Ok(Subset::Percent(100.0)));
        assert_eq!("500M".parse(), Ok(Subset::Bytes(500 << 20)));
        for text in ["", "0/5", "6/5", "1/257", "1/", "/", "0%", "101%", "nan%", "%", "0", "x"] {
            assert!(text.parse::<Subset>().is_err(), "{text}");
        }
    }
}
