//! What is left of mirrors comes back: whatever is sound on any of them; the rest is named, stays known, and is fetched later.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::check::damage;
use super::support::{World, files_beneath};
use super::{Ran, plain};

/// Backups, each with a file of its own. Every one makes a pack of contents and one of listings.
const BACKUPS: usize = 10;

/// The machine is gone. Two mirrors, `one` and `two`, have the same.
struct Lost {
    world: World,
    snapshots: Vec<String>,
    /// The state code that the syncs printed.
    code: String,
    /// What was backed up, as it was called then.
    source: String,
}

impl Lost {
    fn new() -> Self {
        let world = World::with_repository();
        world.lengthen_state();
        world.ok(&["mirror", "add", "one", "one"]);
        world.ok(&["mirror", "add", "two", "two"]);
        let (mut snapshots, mut code) = (Vec::new(), String::new());
        for number in 0..BACKUPS {
            world.write(&format!("file-{number}"), format!("content {number}\n").repeat(2_000));
            snapshots.push(world.backup());
            if number % 3 == 2 || number + 1 == BACKUPS {
                let ran = world.ok(&["sync", "--json"]);
                code = json_lines(&ran)[0]["state_code"].as_str().unwrap().to_owned();
            }
        }
        fs::remove_dir_all(world.repository()).unwrap();
        let source = world.text(&world.tree()).to_owned();
        Self { world, snapshots, code, source }
    }

    fn copy(&self) -> Self {
        let (snapshots, code, source) = (self.snapshots.clone(), self.code.clone(), self.source.clone());
        Self { world: World::copy(&self.world), snapshots, code, source }
    }

    /// On a machine that knows nothing.
    fn blank(&self, words: &[&str]) -> Ran {
        let mut command = self.world.command(words);
        self.on_blank(&mut command)
    }

    fn on_blank(&self, command: &mut Command) -> Ran {
        let home = self.world.path("new-home");
        fs::create_dir_all(&home).unwrap();
        command.env("HOME", home).env("PACKSTONE_REPOSITORY", self.world.path("back")).output().unwrap().into()
    }

    /// What `restore` of every snapshot brings, beside the original.
    fn assert_whole(&self, when: &str) {
        let ran = self.blank(&["check", "--read-data"]);
        assert_eq!(ran.code, Some(0), "{when}: {}{}", ran.out, ran.err);
        for id in [&self.snapshots[0], self.snapshots.last().unwrap()] {
            let to = self.world.path("restored");
            let ran = self.blank(&["restore", &format!("{id}:{}", self.source), "--target", "restored", "--verify"]);
            assert_eq!(ran.code, Some(0), "{when}: {}", ran.err);
            for file in files_beneath(&to) {
                let original = self.world.tree().join(file.file_name().unwrap());
                assert_eq!(fs::read(file).unwrap(), fs::read(original).unwrap(), "{when}");
            }
            fs::remove_dir_all(to).unwrap();
        }
    }

    /// The newest file in a folder of a mirror, by name.
    fn last(&self, mirror: &str, folder: &str) -> PathBuf {
        files_beneath(&self.world.path(mirror).join(folder)).pop().unwrap()
    }

    /// Packs of contents and packs of listings on a mirror.
    fn packs(&self, mirror: &str) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let mut kinds: std::collections::BTreeMap<u8, Vec<PathBuf>> = std::collections::BTreeMap::new();
        for pack in files_beneath(&self.world.path(mirror).join("packs")) {
            let bytes = fs::read(&pack).unwrap();
            kinds.entry(bytes[KIND]).or_default().push(pack);
        }
        let mut kinds = kinds.into_values();
        (kinds.next().unwrap(), kinds.next().unwrap())
    }
}

fn json_lines(ran: &Ran) -> Vec<serde_json::Value> {
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Offset of the kind in an object's clear header. format-spec/README.md.
const KIND: usize = 9;

fn flip(path: &Path) {
    damage(path, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
}

fn gone(path: &Path) {
    fs::remove_file(path).unwrap();
}

type Harm = fn(&Lost);

/// What is harmed on mirror `one`; a word that must be said; whether the newest state is lost with it there; what mends it.
const HARMS: &[(&str, Harm, &str, bool, &[&str])] = &[
    ("a data pack is gone", |lost| gone(&lost.packs("one").0[2]), "cannot be restored in full", false, &["objects"]),
    ("a data pack is damaged", |lost| flip(&lost.packs("one").0[2]), "another hash", false, &["objects"]),
    (
        "one pack in twenty is damaged, and one gone",
        |lost| {
            let (data, _) = lost.packs("one");
            flip(&data[0]);
            gone(&data[5]);
        },
        "2 paths of",
        false,
        &["objects"],
    ),
    ("a tree pack is gone", |lost| gone(&lost.packs("one").1[4]), "not brought back: packs/", false, &["objects"]),
    ("a segment is gone", |lost| gone(&lost.last("one", "index")), "repair index", false, &["objects"]),
    ("a segment is damaged", |lost| flip(&lost.last("one", "index")), "repair index", false, &["objects"]),
    (
        "all segments are gone",
        |lost| files_beneath(&lost.world.path("one/index")).iter().for_each(|file| gone(file)),
        "repair index",
        false,
        &["objects"],
    ),
    (
        "a segment, and a pack of another one",
        |lost| {
            gone(&lost.last("one", "index"));
            flip(&lost.packs("one").0[1]);
        },
        "not brought back: index/",
        false,
        &["objects"],
    ),
    ("a snapshot is gone", |lost| gone(&lost.last("one", "snapshots")), "snapshots/", false, &["objects"]),
    (
        "the newest head is damaged",
        |lost| flip(&lost.last("one", "heads")),
        "cannot be read",
        true,
        &["heads", "objects"],
    ),
    (
        "the newest head has no bytes",
        |lost| fs::write(remade(&lost.last("one", "heads")), "").unwrap(),
        "cannot be read",
        true,
        &["heads", "objects"],
    ),
];

/// A file that may be written again.
fn remade(path: &Path) -> &Path {
    fs::remove_file(path).unwrap();
    path
}

/// Story: one rotten pack on the mirror meant no repository at all.
#[test]
fn everything_that_is_sound_comes_and_another_mirror_makes_it_whole() {
    let template = Lost::new();
    for (harm, how, word, is_older, repairs) in HARMS {
        let lost = template.copy();
        how(&lost);
        let ran = lost.blank(&["recover", "./one"]);
        let said = format!("{}{}", ran.out, ran.err);
        assert!(ran.code == Some(17) && said.contains(word), "{harm}: {said}");
        assert!(lost.world.path("back/config").exists(), "{harm}");
        // It opens, and knows that it is damaged; also a machine that has forgotten everything does.
        for forgets in [false, true] {
            if forgets {
                fs::remove_dir_all(lost.world.path("new-home")).unwrap();
            }
            for words in [&["check"][..], &["prune"], &["backup", "tree"]] {
                // What is backed up now is whole. Only what the lost snapshot said is lost.
                if words[0] == "backup" && harm.starts_with("a snapshot") {
                    continue;
                }
                let ran = lost.blank(words);
                let is_told = ran.code == Some(17) || (words[0] == "prune" && ran.code != Some(0));
                assert!(is_told, "{harm}, forgets {forgets}: {words:?}: {}{}", ran.out, ran.err);
            }
        }
        let heads = files_beneath(&lost.world.path("back/heads"));
        assert_eq!(lost.blank(&["mirror", "add", "one", "one"]).code, Some(0), "{harm}");
        let there = files_beneath(&lost.world.path("one"));
        assert_eq!(lost.blank(&["check"]).code, Some(17), "{harm}");
        let ran = lost.blank(&["sync", "one"]);
        assert_ne!(ran.code, Some(0), "{harm}: {}{}", ran.out, ran.err);
        assert_eq!(files_beneath(&lost.world.path("one")), there, "{harm}: nothing is deleted");
        assert_eq!(files_beneath(&lost.world.path("back/heads")), heads, "{harm}: nothing was published");
        // The same command changes nothing, and brings nothing more.
        let ran = lost.blank(&["recover", "./one"]);
        assert_eq!(ran.code, Some(17), "{harm}: {}{}", ran.out, ran.err);
        // The other mirror has it.
        assert_eq!(lost.blank(&["mirror", "add", "two", "two"]).code, Some(0), "{harm}");
        for repair in *repairs {
            let ran = lost.blank(&["repair", repair, "two"]);
            assert_eq!(ran.code, Some(0), "{harm}: repair {repair}: {}{}", ran.out, ran.err);
        }
        lost.assert_whole(harm);
        lost.world.write("later", "later");
        for words in [&["backup", "tree"][..], &["sync", "two"], &["status"]] {
            let ran = lost.blank(words);
            assert!(matches!(ran.code, Some(0 | 18)), "{harm}: {words:?}: {}{}", ran.out, ran.err);
        }
        // Both at once.
        let lost = template.copy();
        how(&lost);
        let both = ["recover", "./one", "./two", "--expect-head", &lost.code];
        if *is_older {
            let ran = lost.blank(&["recover", "./one", "--expect-head", &lost.code]);
            assert_eq!(ran.code, Some(14), "{harm}: an older state is refused: {}{}", ran.out, ran.err);
        }
        let ran = lost.blank(&both);
        assert!(ran.code == Some(0) && ran.out.contains("freshness PROVEN"), "{harm}: {}{}", ran.out, ran.err);
        lost.assert_whole(harm);
    }
}

/// What is harmed on mirror `one`, the exit code of a recover from it alone, and what it says.
type Opening<'a> = (&'a str, &'a dyn Fn(&Lost), i32, &'a str);

/// What is needed to open anything, and what another file or another mirror can give in its place.
#[test]
fn what_opens_it_comes_from_wherever_it_is() {
    let template = Lost::new();
    let newest = template.last("one", "heads");
    let config = |change: fn(&Path)| move |lost: &Lost| change(&lost.world.path("one/config"));
    let key = |change: fn(&Path)| move |lost: &Lost| change(&lost.last("one", "keys"));
    let heads = |lost: &Lost| files_beneath(&lost.world.path("one/heads")).iter().for_each(|file| gone(file));
    let cases: &[Opening<'_>] = &[
        // Every checkpoint has a copy.
        ("the config is gone", &config(gone), 0, "it comes from another copy"),
        ("the config is damaged", &config(flip), 0, "it comes from another copy"),
        ("the only key slot is gone", &key(gone), 17, "missing: keys/"),
        ("the only key slot is damaged", &key(flip), 17, "damaged: keys/"),
        ("all heads are gone", &heads, 17, "no valid head"),
    ];
    for (harm, how, exit, word) in cases {
        let lost = template.copy();
        how(&lost);
        let ran = lost.blank(&["recover", "./one"]);
        let said = format!("{}{}", ran.out, ran.err);
        assert!(ran.code == Some(*exit) && said.contains(word), "{harm}: {said}");
        assert_eq!(lost.world.path("back/config").exists(), *exit == 0, "{harm}");
        assert!(*exit == 0 || plain(&said).contains("packstone recover ./one ADDRESS"), "{harm}: {said}");
        if *exit == 0 {
            lost.assert_whole(harm);
        }
        let lost = template.copy();
        how(&lost);
        for order in [["./one", "./two"], ["./two", "./one"]] {
            let ran = lost.blank(&["recover", order[0], order[1]]);
            assert_eq!(ran.code, Some(0), "{harm}: {order:?}: {}{}", ran.out, ran.err);
            lost.assert_whole(harm);
            fs::remove_dir_all(lost.world.path("back")).unwrap();
        }
    }
    // The newest head's checkpoint: older ones that do not build on it can be read.
    let lost = template.copy();
    let first = files_beneath(&lost.world.path("one/heads")).remove(0);
    assert!(first.file_name() != newest.file_name());
    flip(&first);
    let ran = lost.blank(&["recover", "./one"]);
    assert!(ran.code == Some(17) && plain(&ran.err).contains("repair heads"), "{}{}", ran.out, ran.err);
    let ran = lost.blank(&["recover", "./one", "./two"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
}

/// Half of each of two mirrors, and together they are whole.
#[test]
fn several_mirrors_are_one_whole_where_none_is() {
    let lost = Lost::new();
    for (number, file) in files_beneath(&lost.world.path("one")).iter().enumerate() {
        let name = file.strip_prefix(lost.world.path("one")).unwrap();
        let victim = if number % 2 == 0 { "one" } else { "two" };
        let victim = lost.world.path(victim).join(name);
        if number % 3 == 0 { gone(&victim) } else { flip(&victim) }
    }
    for only in ["./one", "./two"] {
        let ran = lost.blank(&["recover", only, "--to", "part"]);
        assert!(matches!(ran.code, Some(12 | 17)), "{}{}", ran.out, ran.err);
    }
    let ran = lost.blank(&["recover", "./one", "./two", "--expect-head", &lost.code]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    lost.assert_whole("two halves");
}

/// One that does not answer does not stop the others, and what is lacking because of it is told.
#[test]
fn a_mirror_that_does_not_answer_is_left_out_and_said() {
    let template = Lost::new();
    let lost = template.copy();
    for order in [["./absent", "./one"], ["./one", "./absent"]] {
        let ran = lost.blank(&["recover", order[0], order[1]]);
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        assert!(ran.err.contains("absent is left out: "), "{}", ran.err);
        lost.assert_whole("one whole mirror");
        fs::remove_dir_all(lost.world.path("back")).unwrap();
    }
    // A port where nobody listens.
    let dead = "sftp://nobody@127.0.0.1:1/mirror";
    flip(&lost.packs("one").0[0]);
    let ran = lost.blank(&["recover", "./one", dead, "--json"]);
    assert_eq!(ran.code, Some(17), "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("is left out"), "{}", ran.err);
    let lines = json_lines(&ran);
    let summary = lines.iter().find(|line| line["message_type"] == "summary").unwrap();
    assert_eq!((&summary["lacking"], &summary["paths_affected"]), (&1.into(), &1.into()), "{}", ran.out);
    assert_eq!(summary["silent_mirrors"][0], dead);
    assert!(summary["affected"][0]["path"].as_str().unwrap().contains("/file-"), "{}", ran.out);
    // The same command goes on when it answers.
    let ran = lost.blank(&["recover", "./one", "./two"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    lost.assert_whole("gone on");
    // Not one of them.
    let ran = template.blank(&["recover", "./absent", dead]);
    assert!(ran.code == Some(1) && !template.world.path("back").exists(), "{}{}", ran.out, ran.err);
}

#[test]
fn mirrors_of_two_histories_or_repositories_are_refused() {
    let lost = Lost::new();
    // Two machines go on, each with a copy.
    for (mirror, count) in [("one", 1), ("two", 2)] {
        let home = lost.world.path(&format!("home-of-{mirror}"));
        fs::create_dir(&home).unwrap();
        let back = lost.world.path(&format!("back-of-{mirror}"));
        let run = |words: &[&str]| {
            let mut command = lost.world.command(words);
            let ran: Ran = command.env("HOME", &home).env("PACKSTONE_REPOSITORY", &back).output().unwrap().into();
            assert_eq!(ran.code, Some(0), "{words:?}: {}{}", ran.out, ran.err);
        };
        let place = format!("./{mirror}");
        run(&["recover", &place]);
        run(&["mirror", "add", mirror, &place]);
        for number in 0..count {
            lost.world.write(&format!("{mirror}-{number}"), mirror);
            run(&["backup", "tree"]);
        }
        run(&["sync"]);
    }
    for order in [["./one", "./two"], ["./two", "./one"]] {
        let ran = lost.blank(&["recover", order[0], order[1]]);
        assert_eq!(ran.code, Some(16), "{}{}", ran.out, ran.err);
        assert!(ran.err.contains("two histories") && ran.err.contains("/one"), "{}", ran.err);
        assert!(plain(&ran.err).contains("packstone"), "{}", ran.err);
        assert!(!lost.world.path("back").exists());
    }
    let other = World::with_repository();
    other.write("file", "text");
    other.backup();
    other.ok(&["mirror", "add", "there", "there"]);
    other.ok(&["sync"]);
    let there = other.path("there");
    let ran = lost.blank(&["recover", "./one", other.text(&there)]);
    assert!(ran.code == Some(1) && ran.err.contains("no mirrors of one repository"), "{}{}", ran.out, ran.err);
}

/// Each of two mirrors was seen by itself, and neither may be set back. A mirror that is behind the other one was never that new.
#[test]
fn each_of_several_mirrors_is_remembered_by_itself() {
    let lost = Lost::new();
    let newest = lost.last("one", "heads");
    gone(&lost.world.path("two/heads").join(newest.file_name().unwrap()));
    assert_eq!(lost.blank(&["recover", "./one", "./two"]).code, Some(0));
    // It has shown the state before, and shows it still.
    let ran = lost.blank(&["recover", "./two", "--to", "older"]);
    assert_eq!(ran.code, Some(15), "{}{}", ran.out, ran.err);
    // The first one has shown the newest.
    gone(&newest);
    let ran = lost.blank(&["recover", "./one", "./two", "--to", "set-back"]);
    assert_eq!(ran.code, Some(14), "{}{}", ran.out, ran.err);
}

#[test]
fn options_are_of_one_mirror_and_a_name_may_stand_before_an_address() {
    let lost = Lost::new();
    let one = format!("one={}", lost.world.text(&lost.world.path("one")));
    for more in [["-o", "endpoint=https://example.org"], ["--credentials-command", "true"]] {
        let ran = lost.blank(&["recover", &one, "./two", more[0], more[1]]);
        assert_eq!(ran.code, Some(2), "{}{}", ran.out, ran.err);
    }
    let ran = lost.blank(&["recover", &one, "b=./two"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
}
