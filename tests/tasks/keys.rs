//! Keys, a recovery code and a kit, without a terminal: what is shown is what a face was handed.

use crate::world::World;
use packstone::codec::key_slot::SecretKind;
use packstone::codec::recovery_code::RecoveryCode;
use packstone::repository::keyring::SlotInfo;
use packstone::tasks::environment::secret::SecretPlaces;
use packstone::tasks::failure::Kind;
use packstone::tasks::key::{NewPassphrase, add, kit, list, passwd, recovery_code, remove};
use packstone::tasks::{cat, init, snapshots};
use std::os::unix::fs::PermissionsExt;

/// The least that a guess may cost.
const KDF_MEMORY: Option<u64> = Some(64 << 20);

fn by_file(world: &World, name: &str) -> SecretPlaces {
    SecretPlaces { file: Some(world.at(name)), ..SecretPlaces::default() }
}

#[test]
fn keys_are_added_changed_and_removed() {
    let world = World::new();
    let (environment, monitor) = (world.environment(), &world.listener);
    let request = add::Request { new_key_file: Some(world.at("second")), dry_run: true, ..add::Request::default() };
    let planned = add::run(&request, &environment, monitor).unwrap();
    assert_eq!((planned.key, planned.kind, world.at("second").exists()), (None, SecretKind::KeyFile, false));
    let request = add::Request { dry_run: false, ..request };
    let added = add::run(&request, &environment, monitor).unwrap();
    assert!(!added.is_from_before);
    let again = add::run(&request, &environment, monitor).unwrap();
    assert_eq!((again.key, again.is_from_before), (added.key, true));

    std::fs::write(world.at("first words"), "correct horse\n").unwrap();
    std::fs::write(world.at("other words"), "battery staple\n").unwrap();
    let words = |name: &str| NewPassphrase { file: Some(world.at(name)), command: None, kdf_memory: KDF_MEMORY };
    let request = add::Request { passphrase: words("first words"), ..add::Request::default() };
    let passphrase = add::run(&request, &environment, monitor).unwrap();
    assert_eq!(passphrase.kind, SecretKind::Passphrase);
    let both = add::Request { new_key_file: Some(world.at("third")), ..request };
    assert_eq!(add::run(&both, &environment, monitor).unwrap_err().kind(), Kind::Usage);

    // Only what was opened with a passphrase has one to be changed.
    let request = passwd::Request { passphrase: words("other words"), dry_run: false };
    assert_eq!(passwd::run(&request, &environment, monitor).unwrap_err().kind(), Kind::Usage);
    let typed = world.environment_with(by_file(&world, "first words"));
    let changed = passwd::run(&request, &typed, monitor).unwrap();
    assert_eq!(Some(changed.old), passphrase.key);
    let kind = |name: &str| list::run(&world.environment_with(by_file(&world, name)), monitor).map(|list| list.slots);
    assert_eq!(kind("first words").unwrap_err().kind(), Kind::WrongPassword);
    let slots = kind("other words").unwrap();
    assert_eq!((slots.len(), slots.iter().find(|slot| slot.current).map(|slot| slot.id)), (3, changed.new));

    let gone = added.key.unwrap();
    let removed = remove::Request { key: gone.short(), dry_run: false };
    assert_eq!(remove::run(&removed, &environment, monitor).unwrap().id, gone);
    assert_eq!(remove::run(&removed, &environment, monitor).unwrap_err().kind(), Kind::Usage);
    let own = list::run(&environment, monitor).unwrap().slots.into_iter().find(|slot| slot.current).unwrap();
    let in_use = remove::Request { key: own.id.to_string(), dry_run: false };
    assert_eq!(remove::run(&in_use, &environment, monitor).unwrap_err().kind(), Kind::Failed);
}

#[test]
fn a_recovery_code_counts_when_it_was_confirmed() {
    let world = World::new();
    let (environment, monitor) = (world.environment(), &world.listener);
    let request = recovery_code::Request { kdf_memory: KDF_MEMORY, ..recovery_code::Request::default() };
    let codes = || {
        let slots = list::run(&world.environment(), &world.listener).unwrap().slots;
        slots.into_iter().filter(|slot| slot.kind == SecretKind::RecoveryCode).count()
    };
    let nobody = recovery_code::run(&request, &environment, monitor, None).unwrap_err();
    assert!(nobody.chain().contains("on a terminal only"), "{nobody:?}");
    let mut refuse = |_: &RecoveryCode, _: Option<&SlotInfo>| Ok(false);
    let refused = recovery_code::run(&request, &environment, monitor, Some(&mut refuse)).unwrap_err();
    assert!(refused.chain().contains("not confirmed"), "{refused:?}");
    assert_eq!(codes(), 0);

    let mut shown = Vec::new();
    let mut show = |code: &RecoveryCode, _: Option<&SlotInfo>| {
        shown.push(code.text().to_string());
        Ok(true)
    };
    let first = recovery_code::run(&request, &environment, monitor, Some(&mut show)).unwrap();
    let replacing = recovery_code::Request { replace: first.key.map(|id| id.to_string()), ..request };
    let second = recovery_code::run(&replacing, &environment, monitor, Some(&mut show)).unwrap();
    assert_eq!((second.replaced.map(|slot| slot.id), second.others.len(), codes()), (first.key, 0, 1));
    for (code, opens) in shown.iter().zip([false, true]) {
        std::fs::write(world.at("typed"), code).unwrap();
        let listed = list::run(&world.environment_with(by_file(&world, "typed")), monitor);
        assert_eq!(listed.is_ok(), opens, "{:?}", listed.err());
    }
}

#[test]
fn a_kit_that_was_not_taken_opens_nothing() {
    let world = World::with_mirrors();
    let (environment, monitor) = (world.environment(), &world.listener);
    let keys = || list::run(&world.environment(), &world.listener).unwrap().slots.len();
    let request = kit::Request { kdf_memory: KDF_MEMORY, ..kit::Request::default() };
    assert_eq!(kit::run(&request, &environment, monitor, None).unwrap_err().kind(), Kind::Failed);
    let refused = kit::run(&request, &environment, monitor, Some(&mut |_| Ok(false))).unwrap_err();
    assert!(refused.chain().contains("no kit was made"), "{refused:?}");
    assert_eq!(keys(), 1);

    let file = kit::Request { output: Some(world.at("kit.html")), ..request };
    let made = kit::run(&file, &environment, monitor, None).unwrap();
    assert_eq!((made.has_mirrors, made.earlier_kits(), keys()), (true, 0, 2));
    let page = std::fs::read_to_string(world.at("kit.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains(&made.key.unwrap().short()), "{page}");
    assert_eq!(std::fs::metadata(world.at("kit.html")).unwrap().permissions().mode() & 0o777, 0o600);
    // What has the name is never written over, and no key is made for it.
    assert_eq!(kit::run(&file, &environment, monitor, None).unwrap_err().kind(), Kind::Failed);
    assert_eq!(keys(), 2);
}

#[test]
fn any_object_is_opened() {
    let world = World::new();
    let report = world.back_up().unwrap();
    let snapshot = report.report.snapshot.unwrap().to_string();
    let (environment, monitor) = (world.environment(), &world.listener);
    let mut names = Vec::new();
    let mut open = |text: &str| {
        let request: cat::Request = serde_json::from_str(text).unwrap();
        cat::run(&request, &environment, monitor, &mut |visited| {
            names.push(String::from_utf8(visited.entry.name).unwrap());
            Ok(())
        })
    };
    assert!(matches!(open(r#"{"kind": "config"}"#).unwrap(), cat::Opened::Config(..)));
    assert!(matches!(open(r#"{"kind": "head"}"#).unwrap(), cat::Opened::Head(_)));
    let by_id = open(&format!(r#"{{"kind": "snapshot", "id": "{snapshot}"}}"#)).unwrap();
    assert!(matches!(by_id, cat::Opened::Snapshot(chosen) if chosen.id.to_string() == snapshot));
    let files = world.at("files");
    assert!(matches!(
        open(&format!(r#"{{"kind": "tree", "id": "latest:{}"}}"#, files.display())).unwrap(),
        cat::Opened::Tree
    ));
    assert_eq!(open(r#"{"kind": "pack"}"#).unwrap_err().kind(), Kind::Usage);
    assert_eq!(open(r#"{"kind": "pack", "id": "../etc"}"#).unwrap_err().kind(), Kind::Invalid);
    names.sort();
    assert_eq!(names, ["large", "small"]);
}

#[test]
fn a_place_that_is_known_never_becomes_an_empty_repository() {
    let world = World::new();
    world.back_up().unwrap();
    let open = |dry_run: bool| {
        let request = init::Request { new_key_file: Some(world.at("new")), ..init::Request::default() };
        let (environment, monitor) = (world.environment(), &world.listener);
        init::open_or_create(&request, dry_run, "test", &environment, monitor, &mut init::Unattended)
    };
    assert!(matches!(open(true).unwrap(), init::OpenedOrCreated::Opened(_)));
    std::fs::rename(world.at("repository"), world.at("unmounted")).unwrap();
    assert_eq!(open(false).unwrap_err().kind(), Kind::NoRepository);
    assert!(!world.at("repository").exists() && !world.at("new").exists());
    std::fs::remove_dir_all(world.at("state")).unwrap();
    assert_eq!(open(true).unwrap_err().kind(), Kind::Usage);
    assert!(matches!(open(false).unwrap(), init::OpenedOrCreated::Created(_)));
    let new = world.environment_with(SecretPlaces { key_file: Some(world.at("new")), ..SecretPlaces::default() });
    let listed = snapshots::run(&snapshots::Request::default(), &new, &world.listener).unwrap();
    assert!(listed.report.groups.iter().all(|group| group.snapshots.is_empty()));
}
