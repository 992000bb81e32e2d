//! What is damage: every class of failure under every kind of object. The table of cases for the whole program, because
//! what a check calls damage is remembered and stops every sync.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::{Data, Options, Report, run};
use crate::base::id::ObjectId;
use crate::codec::chunker::Parameters;
use crate::codec::key_file::KeyFile;
use crate::codec::key_slot::Secret;
use crate::files::exclude::Excludes;
use crate::files::source::Sources;
use crate::files::walk::Rules;
use crate::ops::backup::{self, Labels};
use crate::ops::{Error, Result, Silent};
use crate::repository::pack_writer::PackOptions;
use crate::repository::{Access, Repository, fixture};
use crate::storage::memory::Memory;
use crate::storage::{self, ErrorKind, Folder, Listed, ObjectName, Storage, Upload};

/// A storage that fails at the objects of one folder. Its rule says how often.
#[derive(Debug)]
struct Failing {
    inner: Memory,
    rule: Mutex<Option<Rule>>,
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    folder: Folder,
    kind: ErrorKind,
    /// How often each object fails; none for always.
    times: Option<u32>,
    /// Which objects of the folder.
    only: fn(&ObjectName, &[Listed]) -> bool,
}

impl Failing {
    fn look(&self, name: &ObjectName, counts: &Mutex<BTreeMap<String, u32>>) -> storage::Result<()> {
        let Some(rule) = *self.rule.lock().unwrap() else { return Ok(()) };
        let listed = self.inner.list(rule.folder).unwrap();
        if !listed.iter().any(|found| found.name == *name) || !(rule.only)(name, &listed) {
            return Ok(());
        }
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(name.to_string()).or_default();
        *count += 1;
        if rule.times.is_some_and(|times| *count > times) {
            return Ok(());
        }
        let source = io::Error::other("as the test wants it");
        Err(storage::Error::new("read", name, source).with_kind(rule.kind))
    }
}

/// The storage as a check sees it.
#[derive(Debug)]
struct Seen {
    failing: Arc<Failing>,
    counts: Mutex<BTreeMap<String, u32>>,
}

impl Storage for Seen {
    fn create(&self) -> storage::Result<Box<dyn Upload>> {
        self.failing.inner.create()
    }

    fn read(&self, name: &ObjectName, limit: u64) -> storage::Result<Vec<u8>> {
        self.failing.look(name, &self.counts)?;
        self.failing.inner.read(name, limit)
    }

    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> storage::Result<Vec<u8>> {
        self.failing.look(name, &self.counts)?;
        self.failing.inner.read_range(name, offset, length)
    }

    fn length(&self, name: &ObjectName) -> storage::Result<u64> {
        self.failing.inner.length(name)
    }

    fn list(&self, folder: Folder) -> storage::Result<Vec<Listed>> {
        self.failing.inner.list(folder)
    }

    fn strays(&self, folder: Folder) -> storage::Result<Vec<String>> {
        self.failing.inner.strays(folder)
    }

    fn remove(&self, name: &ObjectName) -> storage::Result<()> {
        self.failing.inner.remove(name)
    }

    fn set_aside(&self, name: &ObjectName) -> storage::Result<String> {
        self.failing.inner.set_aside(name)
    }

    fn clean_temporary(&self) -> storage::Result<u64> {
        self.failing.inner.clean_temporary()
    }
}

/// A repository with two heads more than its last checkpoint, which is the fourth, two snapshots, and packs of each kind.
fn world() -> (Arc<Failing>, Repository) {
    let inner = Memory::new();
    drop(fixture::repository(&inner, 7, Parameters::FILES));
    let failing = Arc::new(Failing { inner: inner.clone(), rule: Mutex::new(None) });
    let seen = Arc::new(Seen { failing: Arc::clone(&failing), counts: Mutex::default() });
    let access = Access::bare(seen, "/memory/7".into());
    let repository = Repository::open(access, &Secret::KeyFile(KeyFile::generate(&[7; 32]))).unwrap();
    assert_eq!(fixture::fill(&repository), 4);
    let source = tempfile::tempdir().unwrap();
    for number in 0..2 {
        std::fs::write(source.path().join("file"), format!("content {number}")).unwrap();
        let sources = Sources::new(&[source.path().to_path_buf()], &Excludes::new()).unwrap();
        let labels = Labels {
            time: None,
            host: "h".to_owned(),
            user: String::new(),
            label: String::new(),
            tags: Vec::new(),
            paths: sources.paths.clone(),
            options: Vec::new(),
        };
        let options = backup::Options {
            parent: None,
            unchanged: backup::scan::Unchanged::default(),
            skip_if_unchanged: false,
            allow_empty: false,
            readers: 1,
            packs: PackOptions::default(),
        };
        backup::run(&repository, sources, Rules::default(), &labels, &options, &Silent).unwrap();
    }
    (failing, repository)
}

fn check(failing: &Failing, repository: &Repository, rule: Rule) -> Result<Report> {
    *failing.rule.lock().unwrap() = Some(rule);
    let report = run(repository, &Options { data: Data::All, ..Options::default() }, &Silent);
    *failing.rule.lock().unwrap() = None;
    report
}

const fn any(_: &ObjectName, _: &[Listed]) -> bool {
    true
}

/// Neither the newest head, which is the sixth, nor its checkpoint.
const fn is_older_head(name: &ObjectName, _: &[Listed]) -> bool {
    matches!(name, ObjectName::Head { generation: 5, .. })
}

const fn is_checkpoint(name: &ObjectName, _: &[Listed]) -> bool {
    matches!(name, ObjectName::Head { generation: 4, .. })
}

const fn is_newest_head(name: &ObjectName, _: &[Listed]) -> bool {
    matches!(name, ObjectName::Head { generation: 6, .. })
}

/// What a check makes of it.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Nothing,
    Unread,
    Damage,
    /// It ends, because nothing more can be read.
    End,
}

fn verdict(report: Result<Report>) -> Verdict {
    match report {
        Err(Error::Repository(error)) if error.is_unavailable() => Verdict::End,
        Err(error) => panic!("{error}"),
        Ok(report) if report.damage().is_some() => Verdict::Damage,
        Ok(report) if !report.is_complete() => Verdict::Unread,
        Ok(report) => {
            assert!(report.findings.is_empty(), "{:?}", report.findings);
            Verdict::Nothing
        }
    }
}

#[test]
fn each_class_of_failure_is_what_it_is_and_no_more() {
    use ErrorKind as E;
    let (failing, repository) = world();
    let folders = [Folder::Keys, Folder::Index, Folder::Snapshots, Folder::Packs];
    let classes = [
        (E::Shortage, Verdict::End),
        (E::Unavailable, Verdict::End),
        (E::Denied, Verdict::Unread),
        (E::Device, Verdict::Unread),
        (E::Other, Verdict::Unread),
        (E::Absent, Verdict::Damage),
        (E::NoFile, Verdict::Damage),
        (E::Length, Verdict::Damage),
    ];
    for (kind, expected) in classes {
        for folder in folders {
            let rule = Rule { folder, kind, times: None, only: any };
            assert_eq!(verdict(check(&failing, &repository, rule)), expected, "{kind:?} under {}", folder.as_str());
        }
    }
    // An old head that was listed and is gone a moment later was removed by a prune; nothing needs it.
    for (kind, expected) in [
        (E::Shortage, Verdict::End),
        (E::Denied, Verdict::Unread),
        (E::Device, Verdict::Unread),
        (E::Absent, Verdict::Nothing),
        (E::Length, Verdict::Damage),
    ] {
        let rule = Rule { folder: Folder::Heads, kind, times: None, only: is_older_head };
        assert_eq!(verdict(check(&failing, &repository, rule)), expected, "{kind:?} of an older head");
    }
    // What is live depends on the checkpoint.
    let rule = Rule { folder: Folder::Heads, kind: E::Absent, times: None, only: is_checkpoint };
    assert_eq!(verdict(check(&failing, &repository, rule)), Verdict::Damage);
    assert_eq!(verdict(run(&repository, &Options::default(), &Silent)), Verdict::Nothing);
}

/// Whoever opens the repository is refused either way, and hears of damage only where the bytes are wrong or gone.
#[test]
fn the_newest_head_is_damaged_only_when_something_is_known_of_it() {
    use ErrorKind as E;
    let (failing, repository) = world();
    let kinds = [(E::Device, false), (E::Other, false), (E::Absent, true), (E::NoFile, true), (E::Length, true)];
    for (kind, expected) in kinds {
        let rule = Rule { folder: Folder::Heads, kind, times: None, only: is_newest_head };
        *failing.rule.lock().unwrap() = Some(rule);
        let error = repository.refresh().and_then(|()| repository.require_newest()).unwrap_err();
        *failing.rule.lock().unwrap() = None;
        assert_eq!(error.is_damage(), expected, "{kind:?}");
        assert_eq!(error.to_string().starts_with("damaged: heads/"), expected, "{error}");
    }
}

/// Beside the newest head a file of its generation that is wrong is nobody's. One that cannot be read may be a fork.
#[test]
fn a_second_newest_head_that_cannot_be_read_is_not_passed_over() {
    const fn is_other(name: &ObjectName, _: &[Listed]) -> bool {
        matches!(name, ObjectName::Head { id: ObjectId([0, 0, 0, 0, 0, 0, 0, 0, ..]), .. })
    }
    let (failing, repository) = world();
    failing.inner.put(&ObjectName::Head { generation: 6, id: ObjectId([0; 32]) }, b"junk").unwrap();
    repository.refresh().unwrap();
    repository.require_newest().unwrap();
    *failing.rule.lock().unwrap() =
        Some(Rule { folder: Folder::Heads, kind: ErrorKind::Device, times: None, only: is_other });
    repository.refresh().unwrap();
    assert!(!repository.require_newest().unwrap_err().is_damage());
}

#[test]
fn what_is_right_the_second_time_is_no_damage() {
    for kind in [ErrorKind::Absent, ErrorKind::Length, ErrorKind::Device] {
        for folder in [Folder::Keys, Folder::Index, Folder::Snapshots, Folder::Packs, Folder::Heads] {
            // A world of its own: objects fail once each.
            let (failing, repository) = world();
            let rule = Rule { folder, kind, times: Some(1), only: any };
            let found = verdict(check(&failing, &repository, rule));
            assert_eq!(found, Verdict::Nothing, "{kind:?} under {}", folder.as_str());
        }
    }
}
