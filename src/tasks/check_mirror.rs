//! Check a mirror: is everything there that its own head promises? Needs no secret of the repository.

use super::check::{Subset, chance, data};
use super::environment::freshness::{About, report_freshness};
use super::environment::mirrors::MirrorLocation;
use super::environment::{Environment, mirrors, repositories};
use super::failure::{Failure, Kind};
use super::mirror_findings;
use crate::base::command::suggest;
use crate::base::lock::lock;
use crate::base::time::Time;
use crate::ops::check::Data;
use crate::ops::check_mirror::{self, Options, Which};
use crate::ops::{Monitor, Problem, Subject};
use crate::repository::Access;
use crate::repository::mirror_book::{Finding, FoundBy, MirrorBook};
use crate::repository::public_view::PublicView;
use crate::storage::ObjectName;
use crate::storage::read_only::ReadOnly;
use crate::text::size;
use serde::Deserialize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Objects that are read at the same time.
const CONNECTIONS: usize = 4;

/// Which mirror, and how much of it is read back.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Its name or address.
    pub mirror: String,
    /// Read all of it.
    pub read_data: bool,
    /// Read a part of it.
    #[serde(deserialize_with = "super::text_form::option")]
    pub read_data_subset: Option<Subset>,
    /// Choose the same objects again as a check with this number.
    pub read_data_seed: Option<u64>,
    /// Read what was not read back for so long, the oldest first.
    #[serde(deserialize_with = "super::text_form::days")]
    pub max_age: Option<Duration>,
    /// Read at most so many bytes of it; the next check goes on from there.
    #[serde(deserialize_with = "super::text_form::size")]
    pub budget: Option<u64>,
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// The check's own report.
    pub report: check_mirror::Report,
    /// What was read.
    pub which: Which,
}

impl Report {
    /// How it ends.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        match (self.report.damaged.is_empty(), self.report.is_whole()) {
            (_, true) => None,
            (false, _) => Some(Kind::Damage),
            (true, false) => Some(Kind::MirrorIncomplete),
        }
    }
}

/// Checks the mirror, and remembers what was read back and what was found.
///
/// # Errors
/// When there is none, or what its head needs cannot be known. What is missing or damaged is no failure but in the report.
pub fn run(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    check(request, environment, monitor).map_err(|error| error.reading_from(&request.mirror))
}

fn check(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    let (mirror, which) = (&request.mirror, request.which());
    let place = mirrors::find_mirror(environment, monitor, mirror)?;
    let store = mirrors::open_store(environment, &place, false)?;
    // Whether it is whole is asked of it, and not whose history it has.
    let memory = repositories::memory_of_mirror(environment, monitor, &place, true)?;
    let memory = memory.expecting(environment.expected.clone());
    let bare = Access::of_mirror(Arc::new(ReadOnly::new(Arc::clone(&store))), place.path());
    let access = Access { remembered: Some(memory), ..bare };
    // What was seen there before must be what is there now, or be followed by it.
    let view = match PublicView::open(access.clone()) {
        Ok(view) => view,
        Err(error) => {
            let failure = mirrors::explain_refusal(error, &place, &access);
            note_refusal(&failure, &place, environment, monitor);
            return Err(failure);
        }
    };
    report_freshness(view.freshness(), view.tip().reference(), About::new(&access.place), monitor);
    // By its address a mirror is checked on any machine, whatever that one remembers.
    let book = mirrors::open_book(environment, view.id()).ok().map(Mutex::new);
    let known = book.as_ref().and_then(|book| lock(book).get(mirror).ok());
    if known.is_none() && matches!(which, Which::Older { .. }) {
        return Err(Failure::usage("when something was last read back is known of mirrors with a name only")
            .remedy(concat!("to see them: ", suggest!("mirror list"))));
    }
    let seed = request.read_data_seed.unwrap_or_else(chance);
    let options = Options { which, seed, parallel: CONNECTIONS, now: Time::now() };
    let named = book.as_ref().zip(known.as_ref().map(|mirror| mirror.name.as_str()));
    let checked = check_mirror::run(&view, &*store, &options, named, monitor).map_err(Failure::from);
    if let Some((book, name)) = named {
        note_outcome(&lock(book), name, checked.as_ref(), &which, monitor);
    }
    let report = checked?;
    if let Some((book, name)) = named
        && let Err(error) = lock(book).set_verified(name, report.verified)
    {
        let message = format!("when it was read back is not remembered: {error}");
        monitor.problem(&Problem::warning(Subject::Machine, &message));
    }
    Ok(Report { report, which })
}

/// Remembers why a mirror of the list could not even be opened.
fn note_refusal(failure: &Failure, place: &MirrorLocation, environment: &Environment, monitor: &dyn Monitor) {
    let Some(name) = &place.name else { return };
    let Some(id) = repositories::find_id(environment) else { return };
    if let Ok(Some(book)) = mirrors::open_book_if_any(environment, monitor, id) {
        mirror_findings::note_failure(&book, name, FoundBy::Check, (failure, true), monitor);
    }
}

/// Remembers what a check found of the whole mirror, and forgets what it disproves. Damaged objects were remembered one by one.
fn note_outcome(
    book: &MirrorBook,
    name: &str,
    checked: Result<&check_mirror::Report, &Failure>,
    which: &Which,
    monitor: &dyn Monitor,
) {
    let report = match checked {
        Ok(report) => report,
        Err(failure) => return mirror_findings::note_failure(book, name, FoundBy::Check, (failure, true), monitor),
    };
    match incomplete(report) {
        Some(failure) => {
            let failure = failure.remedy(format!("to send them: {}", suggest!("sync {}", name)));
            mirror_findings::note_failure(book, name, FoundBy::Check, (&failure, true), monitor);
        }
        None => mirror_findings::clear(book, name, FoundBy::Check, monitor),
    }
    if !report.is_whole() {
        return;
    }
    let has_read_all = matches!(which, Which::Share(Data::All));
    // It answers, it stands where it was last seen, and its bytes are right. What else a sync was refused for only another sync can find out.
    let is_disproved = |finding: &Finding| {
        finding.transient
            || finding.kind == Kind::Rollback.word()
            || (has_read_all && finding.kind == Kind::Damage.word())
    };
    mirror_findings::forget(book, name, is_disproved, monitor);
}

/// What a listing shows of a mirror that is not whole.
fn incomplete(report: &check_mirror::Report) -> Option<Failure> {
    let lacking: Vec<ObjectName> = report.missing.iter().chain(&report.wrong_length).copied().collect();
    let first = lacking.first()?;
    let count = size::counted(lacking.len() as u64, "object is", "objects are");
    let of = size::count(report.objects);
    let message = format!("{count} missing or cut short, of {of} that its newest state needs; {first} is one of them");
    Some(Failure::new(Kind::MirrorIncomplete, message))
}

impl Request {
    fn which(&self) -> Which {
        if self.max_age.is_some() || self.budget.is_some() {
            return Which::Older { than: self.max_age.unwrap_or_default(), budget: self.budget };
        }
        Which::Share(data(self.read_data, self.read_data_subset))
    }
}
