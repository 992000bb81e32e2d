//! The trial can fail: a snapshot in order has no fault, and each harm to it is found.

use std::fs;

use super::told::{Generations, Judge, Snapshot, Tally};

fn content(name: &str, generation: u64, lines: usize) -> Vec<u8> {
    let size = (name.len() + 24) * lines;
    format!("{name} {generation:012} {size:09}\n").into_bytes().into_iter().cycle().take(size).collect()
}

/// A tree as `writer.py` makes it, and the snapshot of it that has everything.
fn sound() -> (Judge, Snapshot, Generations) {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, bytes: &[u8]| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for n in 0..320 {
        write(&format!("replaced/{}/r{n:03}", n % 4), &content(&format!("r{n:03}"), 3, 4));
    }
    write("linked/pool/p00", &content("p00", 3, 4));
    write("linked/l00", &content("p00", 3, 4));
    write("exchanged/e01/inside", &content("inside01", 0, 2));
    write("exchanged/spare/e02", &content("x02", 0, 2));
    for n in 0..40 {
        let at = ["moved/a", "moved/n/c", "moved/z"][n % 3];
        if n < 30 {
            write(&format!("{at}/x{n:02}"), &content(&format!("x{n:02}"), 0, 2));
        } else {
            write(&format!("{at}/d{n:02}/inside"), &content(&format!("inside{n:02}"), 0, 2));
        }
    }
    write("loose/t00", &content("t00", 3, 4));
    let judge = Judge::of(folder.path());
    let mut snapshot = Snapshot { outcome: "complete".to_owned(), ..Snapshot::default() };
    let mut open = vec![folder.path().to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
            snapshot.entries.insert(name.clone(), if path.is_dir() { "dir" } else { "file" }.to_owned());
            if path.is_dir() {
                open.push(path);
            } else {
                snapshot.contents.insert(name, fs::read(path).unwrap());
            }
        }
    }
    let generations = judge.generations(folder.path());
    (judge, snapshot, generations)
}

type Harm = (&'static str, fn(&mut Snapshot), &'static str);

const HARMS: [Harm; 12] = [
    ("a name is missing", |it| remove(it, "replaced/1/r001"), "no note names it"),
    (
        "a name is missing, and only noted",
        |it| {
            remove(it, "replaced/1/r001");
            it.notes.insert("replaced/1/r001".to_owned(), "changed".to_owned());
        },
        "counts as complete",
    ),
    (
        "a partial snapshot does not say what is missing",
        |it| {
            remove(it, "linked/l00");
            (it.outcome, it.exit) = ("partial".to_owned(), 3);
        },
        "no note names it",
    ),
    ("partial and exit code 0", |it| it.outcome = "partial".to_owned(), "exit code 0"),
    ("a directory without what is in it", |it| remove(it, "exchanged/e01/inside"), "no note names it"),
    ("what was moved is nowhere", |it| remove(it, "moved/a/x00"), "is in none"),
    ("a moved directory without what is in it", |it| remove(it, "moved/a/d30/inside"), "is missing"),
    (
        "two generations in one content",
        |it| {
            let mut mixed = content("r001", 3, 2);
            mixed.extend(content("r001", 4, 2));
            it.contents.insert("replaced/1/r001".to_owned(), mixed);
        },
        "of no single moment",
    ),
    (
        "the end is missing",
        |it| {
            it.contents.get_mut("replaced/1/r001").unwrap().truncate(60);
        },
        "of no single moment",
    ),
    (
        "the content of another name",
        |it| {
            it.contents.insert("replaced/1/r001".to_owned(), content("r002", 3, 4));
        },
        "the content of r002",
    ),
    (
        "an older generation",
        |it| {
            it.contents.insert("replaced/1/r001".to_owned(), content("r001", 2, 4));
        },
        "holds generation 2",
    ),
    (
        "it is listed and does not come back",
        |it| {
            it.contents.remove("replaced/1/r001");
        },
        "was not restored",
    ),
];

fn remove(snapshot: &mut Snapshot, path: &str) {
    assert!(snapshot.entries.remove(path).is_some());
    snapshot.contents.remove(path);
}

#[test]
fn every_harm_to_a_snapshot_is_found() {
    let (judge, snapshot, generations) = sound();
    let faults = |snapshot: &Snapshot| judge.faults(snapshot, &generations, &generations, &mut Tally::default());
    assert_eq!(faults(&snapshot), Vec::<String>::new());
    for (what, harm, says) in HARMS {
        let mut harmed = snapshot.clone();
        harm(&mut harmed);
        let found = faults(&harmed);
        assert!(found.len() == 1 && found[0].contains(says), "{what}: {found:?}");
    }
    // Missing, named and partial is what is promised.
    let mut named = snapshot.clone();
    remove(&mut named, "replaced/1/r001");
    named.notes.insert("replaced/1/r001".to_owned(), "changed".to_owned());
    (named.outcome, named.exit) = ("partial".to_owned(), 3);
    assert_eq!(faults(&named), Vec::<String>::new());
    println!("{} of {} harms to a snapshot are found", HARMS.len(), HARMS.len());
}
