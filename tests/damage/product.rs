//! Every victim times every harm times everything that a user may do next.

use packstone::base::id::ObjectId;
use packstone::ops::repair_index;
use packstone::ops::{self, Silent};
use packstone::repository::{Error, Repository};
use packstone::storage::ObjectName;

use super::harm::{HARMS, Harm, Part, Victim, victims};
use super::world::{Copy, Template, back_up, check_all, check_structure, read_all};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Restore,
    Check,
    Backup,
    RepairIndex,
    CopyBack,
}

const NEXTS: [Next; 5] = [Next::Restore, Next::Check, Next::Backup, Next::RepairIndex, Next::CopyBack];

#[test]
fn nothing_wrong_is_ever_believed() {
    let template = Template::new();
    let (mut done, mut all) = (0, 0);
    for victim in victims() {
        for harm in HARMS {
            for next in NEXTS {
                let copy = template.copy();
                if !victim.harm(harm, &template, &copy) {
                    continue;
                }
                all += 1;
                let case = Case { template: &template, copy: &copy, victim, harm };
                case.run(next);
                done += 1;
            }
        }
    }
    println!("{done} of {all} cases of damage: noticed, nothing wrong restored, the rest restorable");
    assert_eq!(done, all);
    assert!(all > 300, "{all}");
}

struct Case<'a> {
    template: &'a Template,
    copy: &'a Copy,
    victim: Victim,
    harm: Harm,
}

impl Case<'_> {
    fn run(&self, next: Next) {
        if next == Next::CopyBack {
            return self.copy_back();
        }
        let repository = match self.copy.open() {
            Ok(repository) => repository,
            Err(error) => return self.refused(&error),
        };
        match next {
            Next::Restore => {
                self.restore(&repository);
            }
            Next::Check => self.check(&repository),
            Next::Backup => self.backup(&repository),
            Next::RepairIndex => self.repair(&repository),
            Next::CopyBack => {}
        }
    }

    fn tell(&self, what: impl std::fmt::Debug) -> String {
        format!("{:?} {:?}: {what:?}", self.victim, self.harm)
    }

    /// Opening may only fail where the way in is harmed, and says so.
    fn refused(&self, error: &Error) {
        let expected = match self.victim {
            Victim::Config => error.is_damage() || matches!(error, Error::NoRepository { .. }),
            // One that is gone looks as if it had never been there.
            Victim::NewestHead if self.harm == Harm::Deleted => matches!(error, Error::Rollback { .. }),
            Victim::NewestHead => matches!(error, Error::UnreadableHead { .. }),
            Victim::CheckpointHead => error.is_damage(),
            _ => false,
        };
        assert!(expected, "{}", self.tell(error));
    }

    /// Reads everything; what fails must be what this harm may cost. Returns how many paths failed.
    fn restore(&self, repository: &Repository) -> usize {
        let mut failed = 0;
        for (id, snapshot) in repository.snapshots().unwrap() {
            let run = self.template.runs.iter().find(|run| run.snapshot == id);
            // A snapshot that a test has made holds what the second one holds.
            let expected = &run.unwrap_or(&self.template.runs[1]).contents;
            let snapshot = match snapshot {
                Ok(snapshot) => snapshot,
                Err(error) => {
                    assert!(error.is_damage() && self.victim == Victim::Snapshot, "{}", self.tell(error));
                    failed += 1;
                    continue;
                }
            };
            let mut whole = 0;
            for (path, bytes) in read_all(repository, &self.template.source, snapshot.root) {
                match bytes {
                    Ok(bytes) => {
                        assert_eq!(Some(&bytes), expected.get(&path), "{}", self.tell(&path));
                        whole += 1;
                    }
                    Err(error) => {
                        assert!(error.is_damage(), "{}", self.tell(error));
                        let known = run.map_or(self.template.runs[1].snapshot, |run| run.snapshot);
                        assert!(self.victim.may_cost(self.template, known, &path), "{}", self.tell((path, error)));
                        failed += 1;
                    }
                }
            }
            assert!(failed > 0 || whole == expected.len(), "{}", self.tell("files are left out without a word"));
        }
        failed
    }

    const fn is_cache(&self) -> bool {
        matches!(self.victim, Victim::Cache | Victim::CacheSeal)
    }

    /// A head that was never seen cannot be missed; everything else can.
    fn is_unknowable(&self) -> bool {
        self.victim == Victim::NewestHeadUnseen && self.harm == Harm::Deleted
    }

    /// Nothing that is live depends on an older head, and a mirror has the newest ones only: that it is not there is noted.
    fn is_noted_only(&self) -> bool {
        self.victim == Victim::MiddleHead && self.harm == Harm::Deleted
    }

    /// Damage inside a data pack shows when it is read; structure alone does not read it.
    fn shows_in_structure(&self) -> Option<bool> {
        let inside = matches!(self.harm, Harm::Flipped | Harm::Noise);
        match self.victim {
            Victim::DataPack(_) => Some(!inside),
            // One bit of a whole pack may lie in a block or elsewhere.
            Victim::TreePack(Part::Whole) if self.harm == Harm::Flipped => None,
            Victim::TreePack(part) => Some(!inside || matches!(part, Part::Whole | Part::Block)),
            _ => Some(true),
        }
    }

    fn check(&self, repository: &Repository) {
        let structure = check_structure(repository);
        let data = check_all(repository);
        let failed = self.restore(repository);
        if self.is_cache() || self.is_unknowable() {
            assert!(data.findings.is_empty() && failed == 0, "{}", self.tell(&data.findings));
            assert_eq!(data.notes.is_empty(), self.is_cache(), "{}", self.tell(&data.notes));
            let noted = structure.notes.iter().any(|note| note.contains("cache was wrong"));
            let disposable = matches!(self.harm, Harm::Deleted) || !self.is_cache();
            assert!(noted || disposable, "{}", self.tell(&structure.notes));
            return;
        }
        if self.is_noted_only() {
            assert!(data.findings.is_empty() && failed == 0, "{}", self.tell(&data.findings));
            assert!(data.notes.iter().any(|note| note.contains("an older one")), "{}", self.tell(&data.notes));
            return;
        }
        assert!(!data.findings.is_empty(), "{}", self.tell("not noticed"));
        if let Some(shows) = self.shows_in_structure() {
            assert_eq!(!structure.findings.is_empty(), shows, "{}", self.tell(&structure.findings));
        }
        let affected: u64 = data.findings.iter().filter_map(|finding| finding.affected.as_ref()).map(|a| a.paths).sum();
        let named = self.victim == Victim::Snapshot || affected > 0;
        assert_eq!(failed > 0, named, "{}", self.tell(&data.findings));
        if let Some(name) = self.victim.name(self.template).filter(|_| self.harm != Harm::Deleted || failed > 0) {
            let name = name.to_string();
            let said = data.findings.iter().any(|finding| finding.message.contains(&name));
            assert!(said, "{}", self.tell(&data.findings));
        }
        assert!(data.findings.iter().all(|finding| !finding.next.sentence().is_empty()));
    }

    fn backup(&self, repository: &Repository) {
        let before = repository.snapshots().unwrap().len();
        match back_up(repository, &self.template.source) {
            Ok(_) => assert_eq!(repository.snapshots().unwrap().len(), before + 1),
            Err(ops::Error::Repository(error)) => {
                assert!(error.is_damage(), "{}", self.tell(error));
                assert!(!self.is_cache(), "{}", self.tell("the cache is disposable"));
                assert_eq!(repository.snapshots().unwrap().len(), before);
            }
            Err(error) => panic!("{}", self.tell(error)),
        }
        self.restore(repository);
    }

    fn repair(&self, repository: &Repository) {
        let plan = match repair_index::plan(repository, repair_index::Options::default(), &Silent) {
            Ok(plan) => plan,
            Err(ops::Error::Repository(error)) => {
                // Nobody writes on top of a head that cannot be read.
                assert!(matches!(error, Error::UnreadableHead { .. }), "{}", self.tell(error));
                return;
            }
            Err(error) => panic!("{}", self.tell(error)),
        };
        repair_index::execute(repository, plan).unwrap();
        drop_and(self.copy, |repository| {
            let report = check_all(&repository);
            let failed = self.restore(&repository);
            if self.is_cache() || self.is_unknowable() || self.is_noted_only() || self.victim == Victim::Segment {
                assert!(report.findings.is_empty(), "{}", self.tell(&report.findings));
                assert_eq!(failed, 0, "{}", self.tell("a whole pack was given up"));
            } else {
                assert!(!report.findings.is_empty(), "{}", self.tell("repaired away without a word"));
            }
            let gone = matches!(self.victim, Victim::DataPack(_) | Victim::TreePack(_)) && self.harm == Harm::Deleted;
            if gone {
                // The files are still on this machine: the next backup stores again what was lost.
                let id = back_up(&repository, &self.template.source).unwrap();
                let root = repository.snapshot(id).unwrap().root;
                let files = read_all(&repository, &self.template.source, root);
                assert_eq!(files.len(), self.template.runs[1].contents.len());
                assert!(files.iter().all(|(_, bytes)| bytes.is_ok()), "{}", self.tell(files));
                // Listings hold times of directories that have changed since, so only contents come back by themselves.
                let report = check_all(&repository);
                let healed = matches!(self.victim, Victim::DataPack(_));
                assert_eq!(report.findings.is_empty(), healed, "{}", self.tell(&report.findings));
            }
        });
    }

    /// What every finding proposes: the object comes back from another copy.
    fn copy_back(&self) {
        self.victim.heal(self.template, self.copy);
        drop_and(self.copy, |repository| {
            let report = check_all(&repository);
            assert!(report.findings.is_empty(), "{}", self.tell(&report.findings));
            assert_eq!(self.restore(&repository), 0);
            assert_eq!(repository.snapshots().unwrap().len(), 2);
        });
    }
}

/// Opens the copy again, as the next command does.
fn drop_and(copy: &Copy, then: impl FnOnce(Repository)) {
    then(copy.open().unwrap());
}

#[test]
fn every_segment_and_the_cache_come_back_from_the_packs() {
    let template = Template::new();
    let copy = template.copy();
    for name in ["index", "../cache"] {
        let folder = copy.repository().join(name);
        std::fs::remove_dir_all(&folder).unwrap();
        if name == "index" {
            std::fs::create_dir(&folder).unwrap();
        }
    }
    let repository = copy.open().unwrap();
    let broken = check_structure(&repository);
    assert!(broken.repair_index && broken.findings.len() > 2, "{:?}", broken.findings);
    let plan = repair_index::plan(&repository, repair_index::Options::default(), &Silent).unwrap();
    assert_eq!((plan.broken.len(), plan.packs(), plan.leaves_damage()), (2, 4, false));
    let report = repair_index::execute(&repository, plan).unwrap();
    assert!(report.head.is_some() && report.cache_failure.is_none());
    drop_and(&copy, |repository| {
        let report = check_all(&repository);
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        for (id, snapshot) in repository.snapshots().unwrap() {
            let expected = &template.runs.iter().find(|run| run.snapshot == id).unwrap().contents;
            let files = read_all(&repository, &template.source, snapshot.unwrap().root);
            assert_eq!(files.len(), expected.len());
            for (path, bytes) in files {
                assert_eq!(Some(&bytes.unwrap()), expected.get(&path));
            }
        }
    });
}

#[test]
fn a_pack_that_comes_back_is_brought_to_life() {
    let template = Template::new();
    let copy = template.copy();
    let victim = Victim::DataPack(Part::Whole);
    assert!(victim.harm(Harm::Deleted, &template, &copy));
    let options = repair_index::Options::default();
    drop_and(&copy, |repository| {
        let plan = repair_index::plan(&repository, options, &Silent).unwrap();
        assert_eq!(plan.gone, [template.runs[1].data.id]);
        repair_index::execute(&repository, plan).unwrap();
    });
    victim.heal(&template, &copy);
    drop_and(&copy, |repository| {
        assert_eq!(check_structure(&repository).findings.len(), 1, "its chunks are in no live pack");
        let all_packs = repair_index::Options { all_packs: true, ..options };
        let plan = repair_index::plan(&repository, all_packs, &Silent).unwrap();
        assert_eq!((plan.revived(), plan.replaced()), (1, 2));
        repair_index::execute(&repository, plan).unwrap();
        let report = check_all(&repository);
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    });
}

#[test]
fn what_was_lost_with_its_segment_is_not_taken_over_unread() {
    let template = Template::new();
    let copy = template.copy();
    let run = &template.runs[1];
    std::fs::remove_file(copy.file(&ObjectName::Segment(run.segment))).unwrap();
    std::fs::remove_file(copy.file(&ObjectName::Pack(run.data.id))).unwrap();
    std::fs::remove_dir_all(copy.repository().join("../cache")).unwrap();
    drop_and(&copy, |repository| {
        let plan = repair_index::plan(&repository, repair_index::Options::default(), &Silent).unwrap();
        assert!(plan.gone.is_empty(), "no segment is left that could tell");
        repair_index::execute(&repository, plan).unwrap();
    });
    drop_and(&copy, |repository| {
        let id = back_up(&repository, &template.source).unwrap();
        let files = read_all(&repository, &template.source, repository.snapshot(id).unwrap().root);
        assert_eq!(files.len(), run.contents.len());
        for (path, bytes) in files {
            assert_eq!(Some(&bytes.unwrap()), run.contents.get(&path), "{path}");
        }
    });
}

#[test]
fn a_newer_head_that_cannot_be_read_stops_a_run_that_was_open_before_it_came() {
    let template = Template::new();
    let copy = template.copy();
    let repository = copy.open().unwrap();
    let name = ObjectName::Head { generation: 9, id: ObjectId::of(b"what it was") };
    std::fs::write(copy.file(&name), b"what it is").unwrap();
    let error = back_up(&repository, &template.source).unwrap_err();
    assert!(matches!(error.repository(), Some(Error::UnreadableHead { object, .. }) if *object == name), "{error}");
}
