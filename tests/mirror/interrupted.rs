//! Every request of a sync and of a recover, and every fault.

use std::sync::Arc;

use packstone::ops::{Silent, recover};
use packstone::repository::public_view::PublicView;
use packstone::storage::memory::Memory;
use packstone::storage::several::Several;
use packstone::storage::{MirrorStore, ObjectName, Storage};

use crate::ill::{FAULTS, Fault, Ill};
use crate::world::{Machine, is_full};
use crate::{Home, copy, root, sync, view, whole};

/// The repository after some backups, and a mirror as it was after the first `synced` of them.
fn home(synced: usize, backups: usize) -> (Home, Memory) {
    let mut home = Home::new();
    let mirror = Memory::new();
    for number in 0..backups {
        home.backup();
        if number + 1 == synced {
            sync(&home.view(), &mirror, None).unwrap();
        }
    }
    (home, mirror)
}

#[test]
fn every_fault_of_every_request_leaves_a_mirror_whole_and_is_told() {
    let mut tried = 0;
    for (synced, backups) in [(0, 1), (1, 3)] {
        let (home, before) = home(synced, backups);
        let (source, view) = (root(&home.source), home.view());
        let was = whole(&before, &home.snapshots, &source).unwrap();
        let head = view.tip().reference();
        for fault in FAULTS {
            let step = if is_full() || fault == Fault::Dead { 1 } else { 3 };
            for index in (0..).step_by(step) {
                let mirror = Ill::with(copy(&before), index, fault);
                let told = sync(&view, &mirror, was);
                tried += 1;
                let say = |why: String| {
                    format!(
                        "{fault:?} at request {index}, from {was:?}: {why} (it said {:?})",
                        told.as_ref().err().map(ToString::to_string)
                    )
                };
                let mut is = whole(&mirror.inner, &home.snapshots, &source);
                if is.is_err() && fault == Fault::Dead {
                    panic!("{}", say(format!("{is:?}")));
                }
                if told.is_ok() && is != Ok(Some(head)) {
                    panic!("{}", say(format!("it is {is:?} and said to be whole")));
                }
                // A head that arrived damaged and was not mended stands above the one of before, which is still there.
                if is.as_ref().is_ok_and(|is| *is != was && *is != Some(head)) || is.is_err() {
                    panic!("{}", say(format!("{is:?}")));
                }
                sync(&view, &mirror.inner, was)
                    .unwrap_or_else(|error| panic!("{}", say(format!("the next sync: {error}"))));
                is = whole(&mirror.inner, &home.snapshots, &source);
                assert_eq!(is, Ok(Some(head)), "{}", say("the next sync does not mend it".to_owned()));
                if mirror.requests() <= index {
                    break;
                }
            }
        }
    }
    println!("sync: {tried} of {tried} requests and faults");
    assert!(tried > 50);
}

/// Reads from a mirror that dies at request `index`.
fn recover_from(mirror: Arc<dyn Storage>, target: &Memory) -> packstone::ops::Result<usize> {
    let view = PublicView::open(Machine::default().access(mirror))?;
    let plan = recover::plan(&view, &recover::newest(&view)?, target)?;
    recover::execute(&Several::one("mirror", view.shared_storage()), target, &plan, 1, &Silent)?.require_whole()?;
    Ok(plan.fetch.len())
}

#[test]
fn an_interrupted_recover_is_no_repository_and_goes_on() {
    let (home, mirror) = home(2, 2);
    let source = root(&home.source);
    let head = view(&mirror).unwrap().tip().reference();
    let mut runs = 0;
    for index in 0.. {
        let target = Memory::new();
        let ill = Ill::with(copy(&mirror), index, Fault::Dead);
        let done = recover_from(Arc::new(ill), &target);
        runs += 1;
        if done.is_ok() {
            assert_eq!(whole(&target, &home.snapshots, &source), Ok(Some(head)));
            break;
        }
        assert_eq!(whole(&target, &home.snapshots, &source), Ok(None), "cut after {index} requests");
        let had = target.objects().len();
        let fetched = recover_from(Arc::new(mirror.clone()), &target).unwrap();
        assert_eq!(had + fetched, target.objects().len(), "nothing is fetched twice");
        assert_eq!(whole(&target, &home.snapshots, &source), Ok(Some(head)));
    }
    println!("recover: {runs} of {runs} requests");
    assert!(runs > 10);
}

/// The mirror moves on between two attempts.
#[test]
fn a_recover_goes_on_when_the_mirror_has_moved_on() {
    let (mut home, mirror) = home(1, 1);
    let target = Memory::new();
    for index in [8, 12] {
        assert!(recover_from(Arc::new(Ill::with(copy(&mirror), index, Fault::Dead)), &target).is_err());
        home.backup();
        sync(&home.view(), &mirror, None).unwrap();
    }
    recover_from(Arc::new(mirror.clone()), &target).unwrap();
    assert_eq!(whole(&target, &home.snapshots, &root(&home.source)), Ok(Some(home.view().tip().reference())));
}

/// What comes back is believed only after it was hashed.
#[test]
fn wrong_bytes_of_a_mirror_never_get_a_name() {
    let (home, mirror) = home(1, 1);
    let needs = home.view().needs().unwrap();
    for needed in &needs {
        let damaged = copy(&mirror);
        damaged.corrupt(&needed.name, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        let target = Memory::new();
        let result = recover_from(Arc::new(damaged.clone()), &target);
        assert!(result.is_err(), "{}", needed.name);
        let good = mirror.objects();
        for (name, bytes) in target.objects() {
            assert_eq!(good.get(&name), Some(&bytes), "{name}, with {} damaged", needed.name);
        }
    }
}

/// What is left of a damaged repository at the target is read before it is taken for what is wanted.
#[test]
fn what_lies_at_the_target_is_not_trusted_by_its_length() {
    let (home, mirror) = home(2, 2);
    let source = root(&home.source);
    let target = copy(&home.storage);
    target.remove(&ObjectName::Config).unwrap();
    let mut damaged = 0;
    for name in target.objects().into_keys().filter(|name| !matches!(name, ObjectName::Head { .. })) {
        target.corrupt(&name, |bytes| bytes[50] ^= 1);
        damaged += 1;
    }
    let fetched = recover_from(Arc::new(mirror.clone()), &target).unwrap();
    assert!(fetched >= damaged, "{fetched} of {damaged} and the config");
    assert_eq!(whole(&target, &home.snapshots, &source), Ok(Some(home.view().tip().reference())));
}

/// An older state is asked for where an attempt at the newest has left its head.
#[test]
fn an_older_state_does_not_become_the_newer_one() {
    let (home, mirror) = home(2, 2);
    let first = Memory::new();
    for (name, bytes) in home.storage.objects() {
        if matches!(name, ObjectName::Head { .. }) {
            first.replace(&name, &bytes).unwrap();
        }
    }
    let view = view(&mirror).unwrap();
    let older = view.tip().head.checkpoint();
    let tip = packstone::repository::chain::at(&mirror, view.verifying_key(), view.id(), older).unwrap();
    let plan = recover::plan(&view, &tip, &first).unwrap();
    recover::execute(&Several::one("mirror", view.shared_storage()), &first, &plan, 1, &Silent)
        .unwrap()
        .require_whole()
        .unwrap();
    assert_eq!(whole(&first, &home.snapshots, &root(&home.source)), Ok(Some(older)));
}
