//! The mirrors that a repository comes back from: found, connected, and compared with each other and with what this machine remembers. Each is only
//! read.
//!
//! What one mirror lacks another may have, also what is needed to open anything at all: the config (of which every checkpoint carries a copy), the
//! newest head, its checkpoint, a key slot. Of mirrors that answer, none may hold another repository or another history.

use super::Request;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::id::RepositoryId;
use crate::codec::config::{CONFIG_BYTES, Config};
use crate::codec::head::{Head, HeadRef};
use crate::codec::head_code::HeadCode;
use crate::ops::{Monitor, Problem, Subject, recover};
use crate::repository::chain::{self, HEAD_BYTES_MAX};
use crate::repository::expected::Expected;
use crate::repository::freshness::{Freshness, Grade};
use crate::repository::public_view::PublicView;
use crate::repository::remembered::Remembered;
use crate::repository::{self, Access, mirror_book};
use crate::storage::address::Address;
use crate::storage::read_only::ReadOnly;
use crate::storage::several::{Copy, Several};
use crate::storage::{Folder, ObjectName, Storage};
use crate::tasks::environment::mirrors::{self, MirrorLocation};
use crate::tasks::environment::{Environment, repositories};
use crate::tasks::failure::{Failure, Kind};
use std::sync::Arc;

/// One mirror.
struct Source {
    place: MirrorLocation,
    /// What this machine remembers of it.
    memory: Remembered,
}

/// See the module.
pub struct Sources {
    all: Vec<Source>,
    copies: Arc<Several>,
    /// The head that was asked for by its code.
    wanted: Option<HeadRef>,
    /// Mirrors that could not even be connected to, and why.
    unconnected: Vec<(String, String)>,
}

/// What they show together.
pub struct Shown {
    /// The newest state of all.
    pub view: PublicView,
    /// How new it is, by what is known of each.
    pub freshness: Freshness,
    /// A mirror that shows it, with nothing to be remembered.
    pub access: Access,
}

impl Sources {
    /// Finds them and connects to them. Of several, one that cannot be connected to is left out and said.
    ///
    /// # Errors
    /// No mirror is named, or what is named is none; not one can be connected to; no mirror has the head that is asked for.
    pub fn open(
        request: &Request,
        environment: &Environment,
        monitor: &dyn Monitor,
        expected: &Expected,
    ) -> Result<Self, Failure> {
        let has_several = request.mirrors.len() > 1;
        if request.mirrors.is_empty() {
            return Err(Failure::usage("no mirror is named: expected its address, a directory, or its name"));
        }
        if has_several && !(request.option.is_empty() && request.credentials_command.is_none()) {
            return Err(Failure::usage(
                "options and a credentials command are of one mirror, and several are named: write the options behind each address, as in \
                 s3://BUCKET/PATH?endpoint=https://HOST",
            ));
        }
        let mut places = Vec::with_capacity(request.mirrors.len());
        for text in &request.mirrors {
            let mut place = find(environment, monitor, text)?;
            if !request.option.is_empty() {
                place.address = Address::parse(&place.address.to_string(), &request.option)?;
            }
            place.credentials_command = request.credentials_command.clone().or(place.credentials_command);
            places.push(place);
        }
        let (mut stores, mut unconnected, mut first_failure) = (Vec::new(), Vec::new(), None);
        for place in places {
            match mirrors::open_store(environment, &place, false) {
                Ok(store) => stores.push((place, ReadOnly::new(store))),
                Err(error) if has_several && !matches!(error.kind(), Kind::Usage | Kind::Interrupted) => {
                    unconnected.push((name(&place), error.chain()));
                    first_failure.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        if let (true, Some(error)) = (stores.is_empty(), first_failure) {
            return Err(error);
        }
        let several = |stores: &[(MirrorLocation, ReadOnly)]| {
            let mut copies = Several::default();
            for (place, store) in stores {
                copies.add(&name(place), Arc::new(store.clone()));
            }
            copies
        };
        let mut copies = several(&stores);
        let wanted = request.head.map(|code| recover::named(&copies, &code)).transpose()?;
        if let Some(head) = wanted {
            for (_, store) in &mut stores {
                *store = store.clone().as_of(head.generation, head.id);
            }
            copies = several(&stores);
        }
        let copies = match find_config(&copies, monitor)? {
            Some(config) => copies.with_config(config),
            // Whoever opens it says what is wrong.
            None => copies,
        };
        let mut all = Vec::with_capacity(stores.len());
        for (place, _) in stores {
            let memory =
                repositories::memory_of_mirror(environment, monitor, &place, false)?.expecting(expected.clone());
            all.push(Source { place, memory });
        }
        Ok(Self { all, copies: Arc::new(copies), wanted, unconnected })
    }

    /// What they hold, read as one.
    #[must_use]
    pub fn copies(&self) -> &Several {
        &self.copies
    }

    /// The head that was asked for by its code.
    #[must_use]
    pub const fn wanted(&self) -> Option<HeadRef> {
        self.wanted
    }

    /// Those that were left out, and why.
    #[must_use]
    pub fn left_out(&self) -> Vec<(String, String)> {
        let silent = |copy: &Copy| Some((copy.name.clone(), copy.silent()?.to_owned()));
        self.unconnected.iter().cloned().chain(self.copies.copies().iter().filter_map(silent)).collect()
    }

    /// Reads the newest state that they show together, and compares it with what is remembered of each. A state that was asked for by its code may
    /// be older than what was seen.
    ///
    /// # Errors
    /// Nothing can be opened; a rollback; another repository, or another history, at one of them.
    pub fn look(&self) -> Result<Shown, Failure> {
        let storage: Arc<dyn Storage> = Arc::clone(&self.copies) as Arc<dyn Storage>;
        let access = |source: &Source| Access {
            remembered: self.wanted.is_none().then(|| source.memory.clone()),
            ..Access::of_mirror(Arc::clone(&storage), source.place.path())
        };
        let refused = |error, source: &Source| refused(error, &source.place, &access(source));
        let first = self.all.first().ok_or_else(|| Failure::usage("no mirror is named"))?;
        // What is remembered of one mirror it has to have shown itself.
        let is_one = self.all.len() == 1;
        let bare = Access { remembered: None, ..access(first) };
        let opened = PublicView::open(if is_one { access(first) } else { bare.clone() });
        let view = opened.map_err(|error| match &error {
            repository::Error::Fork { one, other } if !is_one => self.two_histories(*one, *other),
            _ => refused(error, first),
        })?;
        for source in &self.all {
            source.memory.require_identity(&source.place.path(), view.id())?;
        }
        if is_one {
            let freshness = view.freshness().clone();
            return Ok(Shown { view, freshness, access: access(first) });
        }
        if self.wanted.is_none() {
            recover::require_one_history(&view).map_err(|error| match error.repository() {
                Some(repository::Error::Fork { one, other }) => self.two_histories(*one, *other),
                _ => error.into(),
            })?;
        }
        let mut freshness = Freshness { grade: Grade::Unasked, unreadable: Vec::new() };
        let (newest, mut shows) = (chain::name_of(view.tip().reference()), None);
        for (source, copy) in self.all.iter().zip(self.copies.copies()) {
            let access = access(source);
            let known = view.judge(&access).map_err(|error| refused(error, source))?;
            freshness.grade = better(freshness.grade, known.grade);
            freshness.unreadable.extend(known.unreadable);
            let heads = if copy.silent().is_none() { copy.storage().list(Folder::Heads) } else { continue };
            if heads.is_ok_and(|heads| heads.iter().any(|found| found.name == newest)) {
                view.remember(&access);
                shows.get_or_insert(access);
            }
        }
        freshness.unreadable.dedup();
        Ok(Shown { view, freshness, access: shows.unwrap_or(bare) })
    }

    /// Which mirrors have which of two heads that are not of one history.
    fn two_histories(&self, one: HeadRef, other: HeadRef) -> Failure {
        let holders = |head: HeadRef| {
            let name = chain::name_of(head);
            let has = |copy: &&Copy| {
                copy.storage().list(Folder::Heads).is_ok_and(|heads| heads.iter().any(|found| found.name == name))
            };
            let names: Vec<&str> = self.copies.answering().filter(has).map(|copy| copy.name.as_str()).collect();
            format!("head {} ({}) is on {}", head.generation, HeadCode::of(&head), names.join(", "))
        };
        Failure::new(
            Kind::Fork,
            format!(
                "fork: the mirrors hold two histories of this repository: {}, and {}",
                holders(one),
                holders(other)
            ),
        )
        .remedy(format!(
            "two machines wrote to copies of it. Bring each back by itself, into a directory of its own: {}",
            suggest!("recover ADDRESS --to DIRECTORY")
        ))
    }
}

/// Grades of one state, by what is known at different places: that a newer one, or another history, was seen counts more than any proof.
fn better(one: Grade, other: Grade) -> Grade {
    const fn rank(grade: Grade) -> u8 {
        match grade {
            Grade::Behind(_) => 5,
            Grade::Forked(_) => 4,
            Grade::Proven => 3,
            Grade::Remembered => 2,
            Grade::NotProven => 1,
            Grade::Unasked => 0,
        }
    }
    if rank(other) > rank(one) { other } else { one }
}

/// What a mirror is called in messages.
fn name(place: &MirrorLocation) -> String {
    let called = place.name.clone();
    called.unwrap_or_else(|| match place.address.directory() {
        Some(directory) => escape(directory.as_os_str().as_encoded_bytes()),
        None => escape(place.address.to_string().as_bytes()),
    })
}

/// A mirror that a person named: by its name, by its address, or as `NAME=ADDRESS`. The name says which variables hold its credentials; of two mirrors
/// of one service each may need its own.
fn find(environment: &Environment, monitor: &dyn Monitor, text: &str) -> Result<MirrorLocation, Failure> {
    if let Some((name, address)) = text.split_once('=')
        && mirror_book::is_name(name)
        && (address.contains("://") || address.starts_with(['/', '.']))
    {
        let address = mirrors::parse_typed(address, &[])?;
        return Ok(MirrorLocation {
            name: Some(name.to_owned()),
            address,
            credentials_command: None,
            is_listed: false,
        });
    }
    mirrors::find_mirror(environment, monitor, text)
}

/// The config: from the first mirror that has it sound, or from a checkpoint, which carries a copy. None when nobody has one.
fn find_config(copies: &Several, monitor: &dyn Monitor) -> Result<Option<Vec<u8>>, Failure> {
    let mut found: Vec<(RepositoryId, &str, Vec<u8>)> = Vec::new();
    let mut damaged = Vec::new();
    for copy in copies.answering() {
        match copy.storage().read(&ObjectName::Config, CONFIG_BYTES as u64 + 1) {
            Ok(bytes) => match Config::parse(&bytes) {
                Ok(_) => found.push((Config::id(&bytes), &copy.name, bytes)),
                Err(error) if error.reason.needs_newer_program() => return Ok(None),
                Err(error) => damaged.push((&copy.name, error.to_string())),
            },
            Err(error) if error.kind.is_about_object() => damaged.push((&copy.name, error.to_string())),
            Err(error) if !copies.has_others() => return Err(repository::Error::from(error).into()),
            Err(error) if matches!(error.kind, crate::storage::ErrorKind::Interrupted) => {
                return Err(Failure::interrupted());
            }
            Err(error) => copy.give_up(&error.to_string()),
        }
    }
    if let Some((id, name, _)) = found.first()
        && let Some((other, elsewhere, _)) = found.iter().find(|(other, ..)| other != id)
    {
        return Err(Failure::new(
            Kind::Invalid,
            format!(
                "{name} holds repository {}, and {elsewhere} holds repository {}: they are no mirrors of one repository",
                id.short(),
                other.short()
            ),
        )
        .remedy(concat!("bring each back by itself: ", suggest!("recover ADDRESS --to DIRECTORY"))));
    }
    let config = match found.into_iter().next() {
        Some((.., config)) => Some(config),
        None if damaged.is_empty() => None,
        None => config_of_checkpoint(copies),
    };
    if config.is_some() {
        for (name, why) in damaged {
            let message = format!("{name}: the config cannot be used ({why}); it comes from another copy of it");
            monitor.problem(&Problem::warning(Subject::Mirror, &message));
        }
    }
    Ok(config)
}

/// The config that the newest sound checkpoint carries.
fn config_of_checkpoint(copies: &Several) -> Option<Vec<u8>> {
    let mut heads: Vec<(u64, ObjectName)> = Vec::new();
    for found in copies.list(Folder::Heads).ok()? {
        if let ObjectName::Head { generation, .. } = found.name {
            heads.push((generation, found.name));
        }
    }
    heads.sort_unstable_by(|one, other| other.cmp(one));
    heads.into_iter().find_map(|(_, name)| {
        let bytes = copies.read(&name, HEAD_BYTES_MAX).ok()?;
        Head::config_within(&bytes).map(|config| config.to_vec())
    })
}

/// Why it is refused, and how to take what is shown all the same.
fn refused(error: repository::Error, place: &MirrorLocation, access: &Access) -> Failure {
    let code = match &error {
        repository::Error::Rollback { found, .. } => Some(HeadCode::of(found)),
        _ => None,
    };
    let error = mirrors::explain_refusal(error, place, access);
    match code {
        Some(code) => error.remedy(format!("To take what it shows, this once: --head {code}")),
        None => error,
    }
}
