//! `key` as a person and a script see it. Passphrases cost a tenth of a second each, so there are few.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::Ran;
use super::plain;
use super::support::World;
use super::terminal::{self, Answer};

fn ids(world: &World) -> Vec<(String, String, bool)> {
    let ran = world.ok(&["key", "list", "--json"]);
    let keys: Vec<serde_json::Value> = serde_json::from_str(&ran.out).unwrap();
    let text = |key: &serde_json::Value, name: &str| key[name].as_str().unwrap().to_owned();
    keys.iter().map(|key| (text(key, "id"), text(key, "type"), key["current"].as_bool().unwrap())).collect()
}

fn with(world: &World, key: &str, words: &[&str]) -> Ran {
    world.bare(words).env("PACKSTONE_KEY_FILE", world.path(key)).output().unwrap().into()
}

#[test]
fn key_files_are_added_listed_and_removed() {
    let world = World::with_repository();
    world.ok(&["key", "add", "--new-key-file", "second", "--label", "the safe", "--dry-run"]);
    assert!(!world.path("second").exists());
    let ran = world.ok(&["key", "add", "--new-key-file", "second", "--label", "the safe"]);
    assert!(ran.out.starts_with("Added a key file in second: key "), "{}", ran.out);
    assert_eq!(fs::metadata(world.path("second")).unwrap().permissions().mode() & 0o777, 0o600);
    let list = world.ok(&["key", "list"]);
    assert!(list.out.contains("\n*") && list.out.contains("the safe"), "{}", list.out);
    assert_eq!(with(&world, "second", &["snapshots"]).code, world.run(&["snapshots"]).code);

    let made = fs::read(world.path("second")).unwrap();
    let ran = world.ok(&["key", "add", "--new-key-file", "second"]);
    assert!(ran.out.contains("second opens the repository already"), "{}", ran.out);
    assert_eq!(fs::read(world.path("second")).unwrap(), made, "an existing file is never written over");
    let [first, second] = &ids(&world)[..] else { panic!("two keys") };
    assert!(first.2 != second.2 && first.1 == "key file");
    let current = if first.2 { first } else { second };
    let other = if first.2 { second } else { first };
    let ran = world.run(&["key", "remove", &current.0[..8]]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("is the one in use"), "{}", ran.err);
    world.ok(&["key", "remove", &other.0[..8], "-n"]);
    let ran = world.ok(&["key", "remove", &other.0[..8]]);
    assert!(ran.out.contains("from now on it opens nothing"), "{}", ran.out);
    assert!(ran.out.contains("real revocation is a copy of the snapshots into a new repository"), "{}", ran.out);
    assert_eq!(with(&world, "second", &["check"]).code, Some(12));
    assert_eq!(world.run(&["key", "remove", "zz"]).code, Some(2));
    world.ok(&["check"]);
}

#[test]
fn a_passphrase_is_changed_and_the_old_one_opens_nothing() {
    let world = World::with_repository();
    fs::write(world.path("old"), "correct horse\n").unwrap();
    fs::write(world.path("new"), "battery staple\n").unwrap();
    world.ok(&["key", "add", "--new-password-file", "old"]);
    let by = |file: &str, words: &[&str]| -> Ran {
        let words = [&["-p", file], words].concat();
        world.bare(&words).output().unwrap().into()
    };
    let ran = by("old", &["key", "passwd", "--new-password-file", "new"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("the old one opens nothing any more"), "{}", ran.out);
    assert_eq!(by("old", &["check"]).code, Some(12));
    assert_eq!(by("new", &["check"]).code, Some(0));
    assert_eq!(ids(&world).len(), 2);
    let ran = world.run(&["key", "passwd", "--new-password-file", "new"]);
    assert_eq!(ran.code, Some(2), "a key file has no passphrase to change");
    let ran = world.run(&["key", "add", "--new-password-file", "new", "--kdf-memory", "1M"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
}

#[test]
fn a_recovery_code_is_for_eyes_only() {
    let world = World::with_repository();
    for words in [&["key", "recovery-code"][..], &["key", "recovery-code", "--json"]] {
        let ran = world.run(words);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
        assert!(ran.err.contains("shown on a terminal only, never in JSON, a pipe or a file"), "{}", ran.err);
    }
    let ran = world.ok(&["key", "recovery-code", "--dry-run"]);
    assert!(ran.out.contains("would add a recovery code, beside all other keys"), "{}", ran.out);
    assert_eq!(ids(&world).len(), 1);
}

/// Labels of the live keys by id.
fn labels(world: &World) -> Vec<(String, String)> {
    let keys: Vec<serde_json::Value> = serde_json::from_str(&world.ok(&["key", "list", "--json"]).out).unwrap();
    let text = |key: &serde_json::Value, name: &str| key[name].as_str().unwrap().to_owned();
    keys.iter().map(|key| (text(key, "id"), text(key, "label"))).collect()
}

/// A printed kit, a code whose paper is lost, and new codes: what is not named stays, and wears its own label.
#[test]
fn a_new_recovery_code_takes_nothing_away_that_is_not_named() {
    if !terminal::is_there("a_new_recovery_code_takes_nothing_away_that_is_not_named") {
        return;
    }
    let world = World::with_repository();
    let opens = |code: &str| -> Option<i32> {
        let ran: Ran = world.bare(&["key", "list"]).env("PACKSTONE_PASSWORD", code).output().unwrap().into();
        ran.code
    };
    let short = |labels: &[(String, String)], label: &str| {
        labels.iter().find(|(_, it)| it == label).map(|(id, _)| id[..8].to_owned()).unwrap()
    };
    let (ran, lost) = terminal::run(&world, &["key", "recovery-code", "--label", "in the wallet"], Answer::Right);
    assert!(ran.code == Some(0) && !ran.out.contains("still opens"), "{}", ran.out);
    world.ok(&["key", "kit", "--output", "kit.txt"]);
    let page = fs::read_to_string(world.path("kit.txt")).unwrap();
    let kit = page.lines().skip_while(|line| *line != "Recovery code").nth(2).unwrap().trim().to_owned();
    let kit_label = labels(&world).into_iter().find(|(_, label)| label.starts_with("kit of ")).unwrap().1;

    // Not confirmed: nothing has changed.
    let before = labels(&world);
    let (ran, dead) = terminal::run(&world, &["key", "recovery-code"], Answer::Wrong);
    assert!(ran.code == Some(1) && ran.out.contains("what was shown opens nothing"), "{}", ran.out);
    assert_eq!((labels(&world), opens(&dead)), (before.clone(), Some(12)));

    // It only adds, and says what else opens and how to remove it.
    let dry = world.ok(&["key", "recovery-code", "--dry-run"]);
    let (ran, new) = terminal::run(&world, &["key", "recovery-code"], Answer::Right);
    assert_eq!(ran.code, Some(0), "{}", ran.out);
    for said in [&dry.out, &ran.out] {
        for label in ["in the wallet", &kit_label] {
            let line = format!(
                "Another recovery code still opens the repository: key {} (\"{label}\", made ",
                short(&before, label)
            );
            assert!(said.contains(&line), "{line}\n{said}");
        }
        assert!(plain(said).contains("packstone key remove ID"), "{said}");
    }
    let after = labels(&world);
    assert!(before.iter().all(|key| after.contains(key)) && after.len() == before.len() + 1, "{after:?}");
    assert_eq!(after.iter().filter(|(_, label)| *label == kit_label).count(), 1, "the kit's label is the kit's");
    for code in [&lost, &kit, &new] {
        assert_eq!(opens(code), Some(0));
    }

    // What is named goes, in one step, and its label with it.
    let key_file = after.iter().zip(ids(&world)).find(|(_, (_, kind, _))| kind == "key file").unwrap().0.0.clone();
    let count = |world: &World| fs::read_dir(world.repository().join("heads")).unwrap().count();
    let heads = count(&world);
    for (id, why) in [(key_file.as_str(), "is no recovery code"), ("zz", "is the beginning of no key's id")] {
        let ran = world.run(&["key", "recovery-code", "--replace", id, "--dry-run"]);
        assert!(ran.code == Some(2) && ran.err.contains(why), "{}", ran.err);
    }
    let wallet = short(&after, "in the wallet");
    let dry = world.ok(&["key", "recovery-code", "--replace", &wallet, "--dry-run"]);
    assert!(dry.out.contains(&format!("in place of that of key {wallet}")), "{}", dry.out);
    assert_eq!((labels(&world), count(&world)), (after.clone(), heads));
    let (ran, replacing) = terminal::run(&world, &["key", "recovery-code", "--replace", &wallet], Answer::Right);
    assert!(ran.code == Some(0) && ran.out.contains(&format!("Removed key {wallet}")), "{}", ran.out);
    assert_eq!(count(&world), heads + 1, "one head for both");
    for (code, expected) in [(&lost, 12), (&kit, 0), (&new, 0), (&replacing, 0)] {
        assert_eq!(opens(code), Some(expected));
    }
    assert!(labels(&world).iter().all(|(_, label)| label != "in the wallet"));
}

/// At the most keys there can be, nothing is shown that could not be stored.
#[test]
fn no_code_is_shown_for_which_there_is_no_room() {
    if !terminal::is_there("no_code_is_shown_for_which_there_is_no_room") {
        return;
    }
    let world = World::with_repository();
    for number in 1..16 {
        world.ok(&["key", "add", "--new-key-file", &format!("key-{number}")]);
    }
    let (ran, code) = terminal::run(&world, &["key", "recovery-code"], Answer::Right);
    assert!(ran.code == Some(1) && code.is_empty() && ran.out.contains("at most 16 keys"), "{}", ran.out);
    let ran = world.run(&["key", "kit", "--output", "kit.txt"]);
    assert!(ran.code == Some(1) && !world.path("kit.txt").exists(), "{}", ran.err);
}

/// The page alone, without the machine, brings everything back; a kit whose key was removed does not.
#[test]
fn a_kit_brings_everything_back() {
    let world = World::with_repository();
    world.write("letter", "dear");
    world.backup();
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    world.ok(&["sync"]);
    let ran = world.run(&["key", "kit"]);
    assert!(ran.code == Some(1) && plain(&ran.err).contains("packstone key kit --output kit.html"), "{}", ran.err);
    let ran = world.ok(&["key", "kit", "--output", "kit.txt"]);
    assert!(plain(&ran.out).contains("Next: packstone sync"), "{}", ran.out);
    let page = fs::read_to_string(world.path("kit.txt")).unwrap();
    assert_eq!(fs::metadata(world.path("kit.txt")).unwrap().permissions().mode() & 0o777, 0o600);
    let code = page.lines().skip_while(|line| *line != "Recovery code").nth(2).unwrap().trim().to_owned();
    assert!(!ran.out.contains(&code) && !ran.err.contains(&code));
    // Whatever is indented is typed, up to the recovery.
    let steps = page.lines().skip_while(|line| *line != "On a new machine");
    let typed = steps.filter_map(|line| line.strip_prefix("       ")).collect::<Vec<_>>();
    let end = typed.iter().position(|line| line.starts_with("packstone recover ")).unwrap();
    let script = typed[..=end].join("\n");
    assert!(script.contains(" --expect-head 2-"), "{script}");
    assert!(typed.iter().all(|line| line.chars().count() <= 88), "{script}");
    assert!(page.contains("/tree") && page.contains("State       3-"), "{page}");
    let html = world.ok(&["key", "kit", "--output", "kit.HTML", "--json"]);
    assert!(fs::read_to_string(world.path("kit.HTML")).unwrap().contains("<svg viewBox="));
    assert!(html.out.contains("\"earlier_kits\":1"), "{}", html.out);
    let ran = world.run(&["key", "kit", "--output", "kit.txt"]);
    assert!(ran.code == Some(1) && ran.err.contains("name a file that does not exist yet"), "{}", ran.err);
    assert_eq!(ids(&world).len(), 3, "a key for each kit, and none for a page that is not");
    // The mirror has to know it.
    world.ok(&["sync"]);
    let recover = |to: &str| -> Ran {
        let program = world.bare(&[]).get_program().to_owned();
        let script = script.replace("--to recovered", &format!("--to {to}"));
        let mut command = Command::new("sh");
        command.args(["-c", &format!("packstone() {{ {} \"$@\"; }}\n{script}", program.to_str().unwrap())]);
        command.env_clear().env("HOME", world.path("home")).env("PATH", "/usr/bin:/bin").current_dir(world.path("."));
        command.env("PACKSTONE_PASSWORD", &code).output().unwrap().into()
    };
    fs::rename(world.path("repository"), world.path("lost")).unwrap();
    let ran = recover("one");
    assert_eq!(ran.code, Some(0), "{} {}", ran.out, ran.err);
    assert!(ran.out.contains("freshness PROVEN"), "{}", ran.out);
    fs::rename(world.path("lost"), world.path("repository")).unwrap();
    let key = page.lines().find_map(|line| line.strip_prefix("Key         ")).unwrap()[..8].to_owned();
    world.ok(&["key", "remove", &key]);
    world.ok(&["sync"]);
    let ran = recover("two");
    assert_eq!(ran.code, Some(12), "{}", ran.err);
}
