//! `forget`: choose snapshots by rules or by name, and mark them in one head.
//!
//! Choosing reads only and takes no lock; [`policy`] says what the rules mean. [`execute`] publishes one head in which the
//! chosen snapshots are marked instead of live, so they can be brought back until `prune` has swept them. Between the two
//! the repository may change: new snapshots do no harm; but when one that this plan relied on as kept is live no more, the
//! plan is void, because two policies at once could otherwise remove everything between them.
//!
//! A snapshot that cannot be read is removed by its id only, never by a rule.

pub mod policy;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use self::policy::{Candidate, Moment, Rules, Verdict};
use super::order::Order;
use super::select::{self, Chosen, Filter, GroupBy, GroupKey, SnapshotRef};
use super::{Error, Result};
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::id::ObjectId;
use crate::codec::head::HeadRef;
use crate::codec::live_state::{LiveState, MarkedKind};
use crate::codec::snapshot::{Outcome, Snapshot};
use crate::repository::{self, Repository};
use crate::storage::ObjectName;

/// What is to be forgotten.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// These.
    Named {
        /// How they were typed.
        names: Vec<SnapshotRef>,
        /// What `latest` counts.
        filter: Filter,
    },
    /// Whatever the rules do not keep.
    ByRules {
        /// Which snapshots the rules are about.
        filter: Filter,
        /// What groups are made by.
        group_by: GroupBy,
        /// The rules.
        rules: Rules,
        /// Whether a group may lose all of its snapshots.
        allow_remove_all: bool,
    },
}

/// A snapshot, and why it stays or goes.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The snapshot.
    pub chosen: Chosen,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What becomes of one group.
#[derive(Debug)]
pub struct Group {
    /// What its snapshots have in common.
    pub key: GroupKey,
    /// Those that stay, newest first.
    pub keep: Vec<Judged>,
    /// Those that go, newest first.
    pub remove: Vec<Judged>,
}

/// What will be done, and why.
#[derive(Debug, Default)]
pub struct Plan {
    /// The groups, by key. Empty when snapshots were named.
    pub groups: Vec<Group>,
    /// What goes: snapshots and whether they could be read.
    pub remove: Vec<ObjectId>,
    /// What was named, as far as it could be read.
    pub named: Vec<Chosen>,
    /// Snapshots that cannot be read, and are named or spared.
    pub damaged: Vec<(ObjectId, repository::Error)>,
    /// The order of all that can be read.
    pub order: Order,
    /// What must still be live when it is carried out.
    relied_on: BTreeSet<ObjectId>,
}

impl Plan {
    /// How many stay.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.groups.iter().map(|group| group.keep.len()).sum()
    }
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The new head; none when there was nothing to remove.
    pub head: Option<HeadRef>,
    /// What was removed.
    pub removed: Vec<ObjectId>,
}

/// Works out what goes.
///
/// # Errors
/// [`Error::NotFound`] when a name stands for nothing, [`Error::Refused`] when it stands for a held snapshot, or when a group would lose all of its
/// snapshots.
pub fn plan(repository: &Repository, wanted: &Wanted, moment: &Moment) -> Result<Plan> {
    repository.require_newest()?;
    match wanted {
        Wanted::Named { names, filter } => named(repository, names, filter),
        Wanted::ByRules { filter, group_by, rules, allow_remove_all } => {
            by_rules(repository, filter, *group_by, (rules, *allow_remove_all), moment)
        }
    }
}

fn named(repository: &Repository, names: &[SnapshotRef], filter: &Filter) -> Result<Plan> {
    let selection = select::many(repository, names, filter)?;
    if let Some(held) = selection.chosen.iter().find(|chosen| chosen.snapshot.held) {
        let id = held.id.short();
        return Err(Error::Refused(format!(
            "snapshot {id} is held: nothing was removed. To let it go: {}",
            suggest!("release {}", id)
        )));
    }
    let remove = selection.chosen.iter().map(|chosen| chosen.id);
    let remove = remove.chain(selection.damaged.iter().map(|(id, _)| *id)).collect();
    let (named, damaged, order) = (selection.chosen, selection.damaged, selection.order);
    Ok(Plan { remove, named, damaged, order, ..Plan::default() })
}

/// What the policy is told of a snapshot.
fn candidate(state: &LiveState, id: ObjectId, snapshot: &Snapshot) -> Candidate {
    Candidate {
        id,
        arrival: state.snapshots.get(&id).map_or(u64::MAX, |entry| entry.arrival),
        time: snapshot.time,
        written: snapshot.written,
        tags: snapshot.tags.clone(),
        complete: snapshot.outcome == Outcome::Complete,
        held: snapshot.held,
        derived: snapshot.original.is_some(),
    }
}

fn by_rules(
    repository: &Repository,
    filter: &Filter,
    group_by: GroupBy,
    (rules, allow_remove_all): (&Rules, bool),
    moment: &Moment,
) -> Result<Plan> {
    let tip = repository.tip();
    let selection = select::all(repository, filter)?;
    let mut groups: BTreeMap<GroupKey, Vec<Chosen>> = BTreeMap::new();
    for chosen in selection.chosen {
        groups.entry(group_by.key(&chosen.snapshot)).or_default().push(chosen);
    }
    let mut plan = Plan { damaged: selection.damaged, order: selection.order, ..Plan::default() };
    for (key, snapshots) in groups {
        let candidates: Vec<Candidate> =
            snapshots.iter().map(|chosen| candidate(&tip.state, chosen.id, &chosen.snapshot)).collect();
        let decision = policy::apply(&candidates, rules, moment, !allow_remove_all);
        if decision.keeps_nothing && !allow_remove_all {
            return Err(Error::Refused(format!(
                "the rules keep none of the {} snapshots of {}: nothing was removed",
                snapshots.len(),
                describe(&key)
            )));
        }
        let mut group = Group { key, keep: Vec::new(), remove: Vec::new() };
        let mut left: Vec<Option<(Chosen, Verdict)>> = snapshots.into_iter().zip(decision.verdicts).map(Some).collect();
        for number in decision.order {
            let Some((chosen, verdict)) = left.get_mut(number).and_then(Option::take) else { continue };
            if verdict.keep {
                plan.relied_on.insert(chosen.id);
                group.keep.push(Judged { chosen, verdict });
            } else {
                plan.remove.push(chosen.id);
                group.remove.push(Judged { chosen, verdict });
            }
        }
        plan.groups.push(group);
    }
    Ok(plan)
}

/// restic's words for a group.
#[must_use]
pub fn describe(key: &GroupKey) -> String {
    let mut words = Vec::new();
    if let Some(host) = &key.host {
        words.push(format!("host [{}]", escape(host.as_bytes())));
    }
    if let Some(tags) = &key.tags {
        words.push(format!("tags [{}]", escape(tags.join(", ").as_bytes())));
    }
    if let Some(label) = &key.label {
        words.push(format!("label [{}]", escape(label.as_bytes())));
    }
    if let Some(paths) = &key.paths {
        let paths: Vec<String> = paths.iter().map(|path| escape(path)).collect();
        words.push(format!("paths [{}]", paths.join(", ")));
    }
    if words.is_empty() { "all snapshots".to_owned() } else { words.join(", ") }
}

/// Marks what the plan removes, in one head.
///
/// # Errors
/// [`repository::Error::Overtaken`] when something that the plan keeps is live no more; any error means that nothing was
/// removed.
pub fn execute(repository: &Repository, plan: &Plan) -> Result<Report> {
    if plan.remove.is_empty() {
        return Ok(Report::default());
    }
    let mut removed = Vec::new();
    let head = repository.append(|state, generation| {
        if let Some(gone) = plan.relied_on.iter().find(|id| !state.snapshots.contains_key(*id)) {
            return Err(repository::Error::Overtaken { what: ObjectName::Snapshot(*gone) });
        }
        for id in &plan.remove {
            if state.snapshots.contains_key(id) {
                state.mark(*id, MarkedKind::Snapshot, generation);
                removed.push(*id);
            }
        }
        match (removed.is_empty(), plan.remove.first()) {
            (true, Some(gone)) => Err(repository::Error::Overtaken { what: ObjectName::Snapshot(*gone) }),
            _ => Ok(()),
        }
    })?;
    Ok(Report { head: Some(head), removed })
}
