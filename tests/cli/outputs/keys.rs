//! What opens the repository.

use std::fs;

use super::super::support::World;
use super::{Page, mirrored, two};

fn ids(world: &World) -> Vec<(String, bool)> {
    let ran = world.ok(&["key", "list", "--json"]);
    let keys: Vec<serde_json::Value> = serde_json::from_str(&ran.out).unwrap();
    keys.iter().map(|key| (key["id"].as_str().unwrap().to_owned(), key["current"].as_bool().unwrap())).collect()
}

/// The key that is in use, and the other one.
fn current_and_other(world: &World) -> (String, String) {
    let of = |is_current| ids(world).into_iter().find(|(_, current)| *current == is_current).unwrap().0;
    (of(true), of(false))
}

fn passphrases(world: &World) {
    fs::write(world.path("old"), "correct horse battery\n").unwrap();
    fs::write(world.path("new"), "staple of another kind\n").unwrap();
    fs::write(world.path("nothing"), "").unwrap();
}

#[test]
fn key_list() {
    let mut page = Page::new("key-list");
    let (world, _) = two();
    page.forms(&world, &["key", "list"]);
    world.ok(&["key", "add", "--new-key-file", "second", "--label", "the safe"]);
    page.unordered(&world, &["key", "list"], "<id");
    page.title("Failing");
    page.run(&world, &["key", "list", "more"]);
    page.refusals(&world, &["key", "list"]);
    page.title("A key slot is lost");
    let (_, other) = current_and_other(&world);
    fs::remove_file(world.repository().join("keys").join(other)).unwrap();
    page.unordered(&world, &["key", "list"], "<id");
    page.run(&world, &["key", "list", "--json"]);
    page.end();
}

#[test]
fn key_add() {
    let mut page = Page::new("key-add");
    let (world, _) = two();
    passphrases(&world);
    page.forms(&world, &["key", "add", "--new-key-file", "second", "--label", "the safe", "--dry-run"]);
    page.run(&world, &["key", "add", "--new-key-file", "second", "--label", "the safe"]);
    page.run(&world, &["key", "add", "--new-key-file", "second"]);
    page.run(&world, &["key", "add", "--new-key-file", "third", "--json"]);
    page.run(&world, &["key", "add", "--new-key-file", "fourth", "--quiet"]);
    page.run(&world, &["key", "add", "--new-password-file", "old"]);
    page.run(&world, &["key", "add", "--new-password-file", "new", "--json"]);
    page.title("Failing");
    page.run(&world, &["key", "add"]);
    page.run(&world, &["key", "add", "--new-password-file", "absent"]);
    page.run(&world, &["key", "add", "--new-password-file", "nothing"]);
    page.run(&world, &["key", "add", "--new-key-file", "old"]);
    page.run(&world, &["key", "add", "--new-key-file", "no/such/place"]);
    page.run(&world, &["key", "add", "--new-key-file", "fifth", "--new-password-file", "old"]);
    page.run(&world, &["key", "add", "--new-password-command", "false"]);
    page.run(&world, &["key", "add", "--new-password-file", "old", "--kdf-memory", "1M"]);
    page.refusals(&world, &["key", "add", "--new-key-file", "fifth"]);
    page.bare(&world, &["key", "add", "--new-key-file", "fifth", "-p", "nothing"]);
    page.bare(&world, &["key", "add", "--new-key-file", "fifth", "-p", "key"]);
    page.locked(&world, &["key", "add", "--new-key-file", "fifth"]);
    page.end();
}

#[test]
fn key_remove() {
    let mut page = Page::new("key-remove");
    let (world, _) = two();
    let add = || world.ok(&["key", "add", "--new-key-file", "second", "--label", "the safe"]);
    let other = || {
        let _ = fs::remove_file(world.path("second"));
        add();
        current_and_other(&world).1
    };
    let id = other();
    page.forms(&world, &["key", "remove", &id, "--dry-run"]);
    page.run(&world, &["key", "remove", &id[..8]]);
    page.run(&world, &["key", "remove", &other(), "--json"]);
    page.run(&world, &["key", "remove", &other(), "--quiet"]);
    let id = other();
    page.title("Failing");
    page.run(&world, &["key", "remove"]);
    page.run(&world, &["key", "remove", "zz"]);
    page.run(&world, &["key", "remove", "zz", "--json"]);
    page.run(&world, &["key", "remove", &current_and_other(&world).0]);
    page.run(&world, &["key", "remove", ""]);
    page.refusals(&world, &["key", "remove", &id]);
    page.locked(&world, &["key", "remove", &id]);
    page.end();
}

#[test]
fn key_passwd() {
    let mut page = Page::new("key-passwd");
    let (world, _) = two();
    passphrases(&world);
    world.ok(&["key", "add", "--new-password-file", "old"]);
    page.bare(&world, &["key", "passwd", "-p", "old", "--new-password-file", "new", "--dry-run"]);
    page.bare(&world, &["key", "passwd", "-p", "old", "--new-password-file", "new", "--dry-run", "--json"]);
    page.bare(&world, &["key", "passwd", "-p", "old", "--new-password-file", "new"]);
    page.bare(&world, &["key", "passwd", "-p", "new", "--new-password-file", "old", "--json"]);
    page.bare(&world, &["key", "passwd", "-p", "old", "--new-password-file", "new", "--quiet"]);
    page.title("Failing");
    page.bare(&world, &["key", "passwd", "-p", "old", "--new-password-file", "new"]);
    page.bare(&world, &["key", "passwd", "-p", "old", "--new-password-file", "new", "--json"]);
    page.bare(&world, &["key", "passwd", "-p", "new"]);
    page.bare(&world, &["key", "passwd", "-p", "new", "--new-password-file", "nothing"]);
    page.bare(&world, &["key", "passwd", "-p", "absent", "--new-password-file", "new"]);
    page.bare(&world, &["key", "passwd", "-p", "nothing", "--new-password-file", "new"]);
    page.run(&world, &["key", "passwd", "--new-password-file", "new"]);
    page.bare(&world, &["key", "passwd", "-p", "new", "--key-file", "key", "--new-password-file", "new"]);
    page.bare(&world, &["key", "passwd", "-p", "new", "--new-password-file", "new", "--new-password-command", "true"]);
    page.bare(&world, &["key", "passwd", "--password-command", "false", "--new-password-file", "new"]);
    page.no_repository(&world, &["key", "passwd", "--new-password-file", "new"]);
    page.bare(&world, &["key", "passwd", "--new-password-file", "new"]);
    page.locked(&world, &["key", "passwd", "--new-password-file", "new"]);
    page.end();
}

/// A code is shown on a terminal only; `key` tests that form.
#[test]
fn key_recovery_code() {
    let mut page = Page::new("key-recovery-code");
    let (world, _) = two();
    page.forms(&world, &["key", "recovery-code", "--dry-run"]);
    page.run(&world, &["key", "recovery-code", "--dry-run", "--label", "in the wallet"]);
    page.run(&world, &["key", "recovery-code", "--replace", "zz", "--dry-run"]);
    let (current, _) = ids(&world).remove(0);
    page.run(&world, &["key", "recovery-code", "--replace", &current, "--dry-run"]);
    page.title("Failing");
    page.run(&world, &["key", "recovery-code"]);
    page.run(&world, &["key", "recovery-code", "--json"]);
    page.run(&world, &["key", "recovery-code", "--kdf-memory", "1M"]);
    page.refusals(&world, &["key", "recovery-code", "--dry-run"]);
    page.end();
}

#[test]
fn key_kit() {
    let mut page = Page::new("key-kit");
    let (world, _) = mirrored();
    page.forms(&world, &["key", "kit", "--output", "kit.txt", "--dry-run"]);
    page.run(&world, &["key", "kit", "--output", "kit.txt"]);
    page.file(&world, "kit.txt");
    page.run(&world, &["key", "kit", "--output", "kit-2.txt", "--json"]);
    page.run(&world, &["key", "kit", "--output", "kit-3.html", "--quiet"]);
    page.title("Failing");
    page.run(&world, &["key", "kit"]);
    page.run(&world, &["key", "kit", "--json"]);
    page.run(&world, &["key", "kit", "--output", "kit.txt"]);
    page.run(&world, &["key", "kit", "--output", "no/such/place"]);
    page.refusals(&world, &["key", "kit", "--output", "kit-4.txt"]);
    page.title("Without a mirror");
    let (world, _) = two();
    page.run(&world, &["key", "kit", "--output", "kit.txt", "--dry-run"]);
    page.run(&world, &["key", "kit", "--output", "kit.txt"]);
    page.file(&world, "kit.txt");
    // Of more than one earlier kit the order is that of their random ids.
    page.title("There is an earlier one, and the repository is in use");
    page.locked(&world, &["key", "kit", "--output", "kit-2.txt"]);
    page.end();
}
