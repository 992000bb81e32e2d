//! What must not reach a mirror. After each: every live object of the mirror is as it was.

use packstone::codec::head_code::HeadCode;
use packstone::ops::mirror_error::MirrorError;
use packstone::ops::recover::{self};
use packstone::ops::sync::pass::Pass;
use packstone::ops::{Error, Silent, sync as operation};
use packstone::repository;
use packstone::repository::expected::Expected;
use packstone::storage::memory::Memory;
use packstone::storage::several::Several;
use packstone::storage::{MirrorStore, ObjectName};
use std::sync::Arc;

use crate::ill::Ill;
use crate::meanwhile::Meanwhile;
use crate::world::Machine;
use crate::{Home, copy, live, root, sync, view, whole};

/// A repository of two backups with its mirror.
fn home() -> (Home, Memory) {
    let mut home = Home::new();
    let mirror = Memory::new();
    home.backup();
    home.backup();
    sync(&home.view(), &mirror, None).unwrap();
    (home, mirror)
}

/// Syncs `storage` to the mirror and expects a refusal that `is_it`; nothing on the mirror changes.
fn refused(storage: &Memory, mirror: &Memory, is_it: impl Fn(&Error) -> bool) {
    let before = mirror.objects();
    let seen = view(mirror).ok().map(|view| view.tip().reference());
    let error = match view(storage) {
        Ok(view) => sync(&view, &Ill::new(mirror.clone()), seen).expect_err("it was not refused"),
        Err(error) => error.into(),
    };
    assert!(is_it(&error), "{error}");
    assert!(mirror.objects() == before, "{error}, and something changed");
}

#[test]
fn an_empty_or_unmounted_source_is_no_repository() {
    let (_, mirror) = home();
    refused(&Memory::new(), &mirror, |error| {
        matches!(error, Error::Repository(repository::Error::NoRepository { .. }))
    });
}

#[test]
fn a_mirror_belongs_to_one_repository() {
    let (_, mirror) = home();
    let (other, _) = home();
    refused(&other.storage, &mirror, |error| matches!(error, Error::Mirror(MirrorError::OtherRepository)));
}

#[test]
fn something_else_there_is_left_alone() {
    let (home, _) = home();
    let place = Memory::new();
    let stranger = ObjectName::Pack(packstone::base::id::ObjectId([7; 32]));
    place.replace(&stranger, b"somebody's").unwrap();
    let error = sync(&home.view(), &Ill::new(place.clone()), None).err().unwrap();
    assert!(matches!(error, Error::Mirror(MirrorError::Foreign { .. })), "{error}");
    assert_eq!(place.objects().len(), 1);
}

#[test]
fn a_repository_that_was_set_back_is_behind_its_mirror() {
    let (mut home, mirror) = home();
    let old = copy(&home.storage);
    home.backup();
    sync(&home.view(), &mirror, None).unwrap();
    refused(&old, &mirror, |error| matches!(error, Error::Mirror(MirrorError::Ahead { .. })));
}

/// Two syncs of one repository, from two homes: at each request of the slower one the faster one publishes and syncs. Nothing was set back.
#[test]
fn who_is_overtaken_reads_the_newest_head_again() {
    let mut requests = 0;
    loop {
        let (mut home, mirror) = home();
        home.backup();
        let before = home.view();
        let other = home.storage.clone();
        let meanwhile = Meanwhile::at(mirror.clone(), requests, {
            let (mirror, mut home) = (mirror.clone(), home);
            move || {
                home.backup();
                sync(&home.view(), &mirror, None).unwrap();
                home
            }
        });
        let plan = operation::with_newest(&before, |view| {
            let plan = operation::plan(view, &meanwhile, None, None, &Silent)?;
            let pass = Pass::new(view, Arc::default());
            operation::execute(&pass.reader(&plan), &meanwhile, &plan, &crate::options(), None, &Silent)?;
            Ok(plan)
        });
        let plan = plan.unwrap_or_else(|error| panic!("overtaken at request {requests}: {error}"));
        let Some(home) = meanwhile.done() else {
            assert!(requests > 6, "{requests}");
            println!("overtaken at {requests} of {requests} requests");
            return;
        };
        let newest = view(&other).unwrap().tip().reference();
        assert_eq!(whole(&mirror, &home.snapshots, &root(&home.source)).unwrap(), Some(newest), "request {requests}");
        assert!(plan.head == newest || plan.head.generation + 1 == newest.generation);
        requests += 1;
    }
}

/// The head here has not moved: what is ahead is ahead.
#[test]
fn who_is_not_overtaken_is_still_told() {
    let (mut home, mirror) = home();
    let old = copy(&home.storage);
    home.backup();
    sync(&home.view(), &mirror, None).unwrap();
    let mut tries = 0;
    let error = operation::with_newest(&view(&old).unwrap(), |view| {
        tries += 1;
        operation::plan(view, &mirror, None, None, &Silent)
    });
    assert!(matches!(error, Err(Error::Mirror(MirrorError::Ahead { .. }))) && tries == 1, "{tries}");
}

#[test]
fn two_histories_do_not_meet() {
    let (mut home, mirror) = home();
    let other = copy(&home.storage);
    home.backup();
    sync(&home.view(), &mirror, None).unwrap();
    // A copy was written to as well: once, which makes a head of the same generation, and twice.
    let mut fork = Home { storage: other, source: crate::world::Source::new(), snapshots: Default::default() };
    for _ in 0..2 {
        fork.backup();
        refused(&fork.storage, &mirror, |error| matches!(error, Error::Repository(repository::Error::Fork { .. })));
    }
}

/// While we send, another machine publishes what it wrote to a copy: at the first or at the last moment.
#[test]
fn another_history_that_is_published_meanwhile_is_seen() {
    let (mut home, mirror) = home();
    let mut fork =
        Home { storage: copy(&home.storage), source: crate::world::Source::new(), snapshots: Default::default() };
    fork.backup();
    home.backup();
    let plan = operation::plan(&home.view(), &mirror, None, None, &Silent).unwrap();
    // Everything but the heads is there: the plan has nothing else to send.
    let late = copy(&mirror);
    for needed in &plan.send {
        late.replace(&needed.name, &home.storage.objects()[&needed.name]).unwrap();
    }
    for mirror in [mirror, late] {
        let plan = operation::plan(&home.view(), &mirror, None, None, &Silent).unwrap();
        sync(&fork.view(), &mirror, None).unwrap();
        let before = live(&mirror);
        let error = crate::send(&home.view(), &mirror, &plan, None).err().unwrap();
        assert!(matches!(error, Error::Repository(repository::Error::Fork { .. })), "{error}");
        assert!(live(&mirror) == before, "its head is the only one of its generation");
    }
}

/// Its head lay there cut off when we listed, and nobody could know it.
#[test]
fn another_history_of_which_the_head_is_finished_meanwhile_is_seen() {
    let (mut home, mirror) = home();
    let mut fork =
        Home { storage: copy(&home.storage), source: crate::world::Source::new(), snapshots: Default::default() };
    fork.backup();
    home.backup();
    let theirs = repository::chain::name_of(fork.view().tip().reference());
    let whole_head = fork.storage.objects()[&theirs].clone();
    mirror.replace(&theirs, &whole_head[..whole_head.len() / 2]).unwrap();
    let plan = operation::plan(&home.view(), &mirror, None, None, &Silent).unwrap();
    assert_eq!(plan.notes.len(), 1, "{:?}", plan.notes);
    for (name, bytes) in fork.storage.objects() {
        mirror.replace(&name, &bytes).unwrap();
    }
    let before = live(&mirror);
    let error = crate::send(&home.view(), &mirror, &plan, None).err().unwrap();
    assert!(matches!(error, Error::Repository(repository::Error::Fork { .. })), "{error}");
    assert!(live(&mirror) == before);
}

#[test]
fn a_ransomed_repository_full_of_noise_sends_nothing() {
    let (home, mirror) = home();
    let before = live(&mirror);
    // What has a name already is not sent again; what is new, and is noise, is not sent either.
    let mut home = home;
    home.backup();
    let names: Vec<ObjectName> = home.storage.objects().into_keys().collect();
    for name in names.iter().filter(|name| matches!(name, ObjectName::Pack(_))) {
        home.storage.corrupt(name, |bytes| bytes.fill(0x5a));
    }
    let error = sync(&home.view(), &Ill::new(mirror.clone()), None).err().unwrap();
    assert!(error.is_damage(), "{error}");
    assert!(live(&mirror) == before, "the mirror's head and all that it needs are as they were");
    // With everything else noise too, there is no repository to be sent.
    for name in &names {
        home.storage.corrupt(name, |bytes| bytes.fill(0x5a));
    }
    assert!(view(&home.storage).is_err());
}

#[test]
fn half_a_repository_does_not_publish() {
    let (mut home, mirror) = home();
    let before = live(&mirror);
    home.backup();
    let newest = home.view();
    let lost: Vec<ObjectName> = newest.needs().unwrap().iter().map(|needed| needed.name).collect();
    let half = Memory::new();
    let there = mirror.objects();
    for (name, bytes) in home.storage.objects() {
        if !matches!(name, ObjectName::Pack(_)) || there.contains_key(&name) || !lost.contains(&name) {
            half.replace(&name, &bytes).unwrap();
        }
    }
    let error = sync(&view(&half).unwrap(), &Ill::new(mirror.clone()), None).err().unwrap();
    assert!(matches!(error, Error::Repository(repository::Error::Missing { .. })), "{error}");
    assert!(live(&mirror) == before);
}

#[test]
fn a_mirror_that_was_set_back_or_emptied_is_told() {
    let (mut home, mirror) = home();
    let old = copy(&mirror);
    home.backup();
    let (plan, _) = sync(&home.view(), &mirror, None).unwrap();
    for place in [old, Memory::new()] {
        let error = sync(&home.view(), &Ill::new(place.clone()), Some(plan.head)).err().unwrap();
        assert!(matches!(error, Error::Mirror(MirrorError::Rollback { .. })), "{error}");
    }
}

#[test]
fn junk_heads_are_noted_and_left_alone() {
    let (mut home, mirror) = home();
    for number in 0..20_u8 {
        let bytes = [number; 300];
        let id = packstone::base::id::ObjectId::of(&bytes);
        mirror.replace(&ObjectName::Head { generation: 1_000 + u64::from(number), id }, &bytes).unwrap();
    }
    home.backup();
    let (plan, _) = sync(&home.view(), &mirror, None).unwrap();
    assert!(plan.notes.iter().any(|note| note.starts_with("20 files under heads/")), "{:?}", plan.notes);
    assert_eq!(whole(&mirror, &home.snapshots, &root(&home.source)), Ok(Some(plan.head)));
}

/// A hostile or mistaken forget with an instant prune, synced: everything is there still, and the state of before comes back.
#[test]
fn what_was_swept_at_home_stays_and_an_older_state_comes_back() {
    use packstone::ops::prune::{self, Limits, MaxUnused};
    let (home, mirror) = home();
    let before = live(&mirror);
    let (old, code) = {
        let view = view(&mirror).unwrap();
        (view.tip().reference(), HeadCode::of(&view.tip().reference()))
    };
    let repository = home.open();
    let oldest = *home.snapshots.keys().next().unwrap();
    repository
        .append(|state, since| {
            let kind = packstone::codec::live_state::MarkedKind::Snapshot;
            state.mark(oldest, kind, since);
            Ok(())
        })
        .unwrap();
    let options = prune::Options {
        limits: Limits { max_unused: MaxUnused::Bytes(0), max_repack: None, pack_bytes: crate::world::PACK_BYTES },
        grace: std::time::Duration::ZERO,
        packs: crate::world::packs(crate::world::PACK_BYTES),
        now: packstone::base::time::Time::now(),
    };
    prune::run(&repository, &options, &Silent).unwrap();
    drop(repository);
    sync(&home.view(), &mirror, Some(old)).unwrap();
    let objects = mirror.objects();
    assert!(before.iter().all(|(name, bytes)| objects.get(name) == Some(bytes)), "nothing has left the mirror");
    let view = view(&mirror).unwrap();
    let expect = |code| Expected { ids: Vec::new(), head: Some(code) }.require_head(view.tip());
    assert!(matches!(expect(code), Ok(true)));
    let (before, tip) = crate::as_of(&mirror, &code);
    let target = Memory::new();
    let plan = recover::plan(&before, &tip, &target).unwrap();
    recover::execute(&Several::one("mirror", before.shared_storage()), &target, &plan, 2, &Silent)
        .unwrap()
        .require_whole()
        .unwrap();
    assert_eq!(whole(&target, &home.snapshots, &root(&home.source)), Ok(Some(old)));
    let newer = HeadCode::of(&packstone::codec::head::HeadRef { generation: 1_000, id: old.id });
    assert!(matches!(expect(newer), Err(repository::Error::BehindCode { .. })));
}

/// Keys are changed, and the sync killed at every request: somebody who was told that a key works can open the mirror.
#[test]
fn a_change_of_keys_reaches_a_mirror_whole() {
    let (home, mirror) = home();
    let repository = home.open();
    let kept = repository.slot();
    let secret = crate::world::secret(2);
    let slot = repository::keyring::NewSlot {
        secret: &secret,
        kdf: packstone::codec::kdf::Params::DEFAULT,
        label: "second",
        created: packstone::base::time::Time::now(),
    };
    repository.add_slot(&slot, None).unwrap();
    drop(repository);
    let other = Machine::default().open(Arc::new(home.storage.clone()), 2).unwrap();
    other.remove_slot(kept).unwrap();
    let (view, mut runs) = (home.view(), 0);
    for index in 0.. {
        let ill = Ill::with(copy(&mirror), index, crate::ill::Fault::Dead);
        let done = sync(&view, &ill, None).is_ok();
        runs += 1;
        let opens = |key| Machine::default().open(Arc::new(ill.inner.clone()), key).is_ok();
        assert!(opens(1) || opens(2), "cut after {index} requests: no key opens the mirror");
        if done {
            assert!(opens(2) && !opens(1));
            break;
        }
    }
    println!("key change: {runs} of {runs} requests");
    assert!(operation::plan(&view, &mirror, None, None, &Silent).is_ok());
}

/// Two syncs at once: the second has sent what the first still means to send, and has published it.
#[test]
fn a_sync_with_an_older_plan_takes_nothing_away() {
    let (mut home, mirror) = home();
    home.backup();
    let view = home.view();
    let folder = tempfile::tempdir().unwrap();
    let local = packstone::storage::local::Local::create(folder.path()).unwrap();
    for (name, bytes) in mirror.objects() {
        local.replace(&name, &bytes).unwrap();
    }
    let late = operation::plan(&view, &local, None, None, &Silent).unwrap();
    sync(&view, &local, None).unwrap();
    // It replaces what its plan says, as if nothing were there. Without a moment in which it is not.
    let before: Vec<_> = late.send.iter().map(|needed| inode(folder.path(), &needed.name)).collect();
    crate::send(&view, &local, &late, None).unwrap();
    let after: Vec<_> = late.send.iter().map(|needed| inode(folder.path(), &needed.name)).collect();
    assert!(!before.is_empty() && before == after, "what was there was taken away and stored again");
}

fn inode(folder: &std::path::Path, name: &ObjectName) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(folder.join(name.to_string())).unwrap().ino()
}

/// The newest head here is damaged: an older one must not pass for the newest.
#[test]
fn a_damaged_newest_head_stops_a_sync() {
    let (mut home, mirror) = home();
    home.backup();
    let newest = repository::chain::name_of(home.view().tip().reference());
    home.storage.corrupt(&newest, |bytes| bytes[100] ^= 1);
    let before = mirror.objects();
    let view = view(&home.storage).unwrap();
    for place in [Memory::new(), mirror.clone()] {
        let error = sync(&view, &Ill::new(place), None).err().unwrap();
        assert!(matches!(error, Error::Repository(repository::Error::UnreadableHead { .. })), "{error}");
    }
    assert!(mirror.objects() == before);
}

/// A key slot that is lost at home is no slot that stays at home.
#[test]
fn a_lost_key_slot_is_missed() {
    let (home, _) = home();
    for name in home.storage.objects().into_keys().filter(|name| matches!(name, ObjectName::Key(_))) {
        packstone::storage::Storage::remove(&home.storage, &name).unwrap();
    }
    let error = sync(&home.view(), &Ill::new(Memory::new()), None).err().unwrap();
    assert!(matches!(error, Error::Repository(repository::Error::Missing { .. })), "{error}");
}
