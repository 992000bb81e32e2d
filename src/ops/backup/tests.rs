#![allow(clippy::unwrap_used)]
use crate::base::polled::Polled;
use crate::base::stop::Stop;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use super::*;
use crate::codec::chunker::Parameters;
use crate::codec::tree::Node;
use crate::files::exclude::Excludes;
use crate::ops::tree_walk::TreeWalk;
use crate::ops::{Item, Problem, Silent, content};
use crate::repository::fixture;
use crate::storage::memory::Memory;

fn repository() -> Repository {
    fixture::repository(&Memory::new(), 1, Parameters { min: 64, average: 256, max: 1024 })
}

fn labels(sources: &Sources) -> Labels {
    Labels {
        time: None,
        host: "h".to_owned(),
        user: String::new(),
        label: String::new(),
        tags: Vec::new(),
        paths: sources.paths.clone(),
        options: Vec::new(),
    }
}

fn options() -> Options {
    Options {
        parent: None,
        unchanged: scan::Unchanged::default(),
        skip_if_unchanged: false,
        allow_empty: false,
        readers: 2,
        packs: PackOptions::default(),
    }
}

/// Does something before the nth step of the walk, and listens to problems.
struct AtStep<'a> {
    main: ThreadId,
    step: usize,
    seen: AtomicUsize,
    act: &'a (dyn Fn() + Sync),
}

impl Monitor for AtStep<'_> {
    fn phase(&self, _: Phase) {}
    fn expect(&self, _: u64, _: u64, _: bool) {}
    fn advance(&self, _: u64, _: u64) {}
    fn item(&self, _: &Item<'_>) {}
    fn problem(&self, _: &Problem<'_>) {}
    fn stop(&self) -> Option<Stop> {
        // The walk asks before each of its steps, in a thread of its own.
        if std::thread::current().id() != self.main && self.seen.fetch_add(1, Relaxed) + 1 == self.step {
            (self.act)();
        }
        None
    }
}

/// What a snapshot holds: paths beneath the source, and the content of files, the target of links, a slash for directories.
type Held = BTreeMap<String, String>;

fn read_back(repository: &Repository, id: ObjectId, beneath: &Path) -> Held {
    let snapshot = repository.snapshot(id).unwrap();
    let mut held = Held::new();
    let mut counts = Counts::default();
    for visited in TreeWalk::new(repository, &snapshot, b"", snapshot.root.clone()) {
        let visited = visited.unwrap();
        let path = String::from_utf8(visited.path.clone()).unwrap();
        let shown = match &visited.entry.node {
            Node::Directory { .. } => {
                counts.directories += 1;
                "/".to_owned()
            }
            Node::File(stored) => {
                counts.files += 1;
                counts.bytes += stored.size;
                let mut bytes = Vec::new();
                let mut sink = |piece: content::Piece<'_>| -> Result<()> {
                    if let content::Piece::Data(data) = piece {
                        bytes.extend_from_slice(data);
                    }
                    Ok(())
                };
                content::read(repository, &visited.path, stored, &mut sink).unwrap();
                String::from_utf8(bytes).unwrap()
            }
            Node::Symlink { target } => {
                counts.others += 1;
                format!("-> {}", String::from_utf8_lossy(target))
            }
            _ => {
                counts.others += 1;
                "other".to_owned()
            }
        };
        if let Some(inner) = path.strip_prefix(beneath.to_str().unwrap()) {
            held.insert(inner.trim_start_matches('/').to_owned(), shown);
        }
    }
    assert_eq!(snapshot.counts, counts, "what the snapshot says it holds is what it holds");
    held
}

fn make_tree(place: &Path) {
    for directory in ["a", "m", "z/d", "z/empty"] {
        fs::create_dir_all(place.join(directory)).unwrap();
    }
    for (path, text) in [
        ("a/first", "kept"),
        ("a/obj1", "one"),
        ("m/f", "old"),
        ("m/g", "beside"),
        ("m/was", "a file"),
        ("z/d/inner", "inner"),
        ("z/packed", "nothing"),
        ("z/ref", "obj1"),
        ("z/x", "moves"),
    ] {
        fs::write(place.join(path), text).unwrap();
    }
    fs::hard_link(place.join("a/first"), place.join("z/second")).unwrap();
    symlink("g", place.join("m/link")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(place.join("m/socket")).unwrap());
}

fn rename_over(place: &Path, path: &str, text: &str) {
    fs::write(place.join("new"), text).unwrap();
    fs::rename(place.join("new"), place.join(path)).unwrap();
}

fn exchange(place: &Path, one: &str, other: &str) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, place.join(one), CWD, place.join(other), RenameFlags::EXCHANGE).unwrap();
}

/// A name, what another program does, and whether what was stored is a state that a reader can do with.
type Case = (&'static str, fn(&Path), fn(&Held) -> bool);

/// Story: a file that another program replaced by a rename while the backup ran was left out and the snapshot called complete;
/// a repository of git that got a commit had a reference to objects that were not stored. Promised now: at whatever moment
/// it happens, every name that was there all the time is in the snapshot with a content that it had, and what was there when
/// something that refers to it was read is in it too.
#[test]
fn what_others_do_between_any_two_steps_loses_nothing() {
    let cases: [Case; 14] = [
        (
            "a file is replaced by a rename",
            |at| rename_over(at, "m/f", "newer"),
            |held| matches!(held["m/f"].as_str(), "old" | "newer"),
        ),
        (
            "a file becomes a link",
            |at| {
                symlink("g", at.join("new")).unwrap();
                fs::rename(at.join("new"), at.join("m/f")).unwrap();
            },
            |held| matches!(held["m/f"].as_str(), "old" | "-> g"),
        ),
        (
            "a file and a directory are exchanged",
            |at| exchange(at, "m/was", "z/d"),
            |held| {
                // Each name is there, as one of the two.
                let file = |path: &str| held[path] == "a file";
                let directory = |path: &str| held[path] == "/" && held.contains_key(&format!("{path}/inner"));
                (file("m/was") || directory("m/was")) && (file("z/d") || directory("z/d"))
            },
        ),
        (
            "a file moves to a directory that was listed before",
            |at| fs::rename(at.join("z/x"), at.join("a/x")).unwrap(),
            |held| held.get("z/x").or(held.get("a/x")).is_some_and(|text| text == "moves"),
        ),
        (
            "a directory moves to one that was listed before",
            |at| fs::rename(at.join("z/d"), at.join("a/d")).unwrap(),
            |held| held.get("z/d/inner").or(held.get("a/d/inner")).is_some_and(|text| text == "inner"),
        ),
        (
            "a commit",
            |at| {
                fs::write(at.join("a/obj2"), "two").unwrap();
                rename_over(at, "z/ref", "obj2");
            },
            |held| held.contains_key(&format!("a/{}", held["z/ref"])),
        ),
        (
            "a commit of an object in a new directory, and all is packed",
            |at| {
                fs::create_dir(at.join("a/b")).unwrap();
                fs::write(at.join("a/b/obj2"), "two").unwrap();
                rename_over(at, "z/ref", "b/obj2");
                rename_over(at, "a/pack", "obj1 b/obj2");
                fs::remove_file(at.join("a/obj1")).unwrap();
                fs::remove_dir_all(at.join("a/b")).unwrap();
            },
            |held| {
                let object = &held["z/ref"];
                held.contains_key(&format!("a/{object}"))
                    || held.get("a/pack").is_some_and(|pack| pack.split(' ').any(|part| part == object))
            },
        ),
        (
            "references are packed",
            |at| {
                rename_over(at, "z/packed", "obj1");
                fs::remove_file(at.join("z/ref")).unwrap();
            },
            |held| {
                held.get("z/ref").is_some_and(|text| text == "obj1")
                    || held.get("z/packed").is_some_and(|text| text == "obj1")
            },
        ),
        (
            "one of two names of a file is replaced",
            |at| rename_over(at, "a/first", "other"),
            |held| {
                let is = |path: &str, text: &str| held.get(path).is_some_and(|held| held == text);
                (is("a/first", "kept") || is("a/first", "other")) && is("z/second", "kept")
            },
        ),
        (
            "a link and a socket vanish",
            |at| ["m/link", "m/socket"].iter().for_each(|path| fs::remove_file(at.join(path)).unwrap()),
            // A note at most: nothing that exists is missing.
            |held| held.contains_key("m/g"),
        ),
        (
            "a file takes the place of a directory",
            |at| {
                fs::rename(at.join("z/d"), at.join("a/d")).unwrap();
                fs::rename(at.join("m/g"), at.join("z/d")).unwrap();
            },
            |held| {
                let is = |path: &str, text: &str| held.get(path).is_some_and(|held| held == text);
                (is("m/g", "beside") || is("z/d", "beside")) && (is("z/d/inner", "inner") || is("a/d/inner", "inner"))
            },
        ),
        (
            "two directories are exchanged",
            |at| exchange(at, "z/d", "z/empty"),
            |held| held.contains_key("z/d/inner") || held.contains_key("z/empty/inner"),
        ),
        (
            "a directory with others in it takes the place of one",
            |at| {
                fs::create_dir_all(at.join("new/d/deep")).unwrap();
                fs::rename(at.join("z/x"), at.join("new/d/deep/x")).unwrap();
                exchange(at, "new", "z");
            },
            |held| {
                ["z/x", "z/d/deep/x", "new/x"].iter().any(|path| held.get(*path).is_some_and(|text| text == "moves"))
            },
        ),
        (
            "an empty directory is filled",
            |at| fs::rename(at.join("m/g"), at.join("z/empty/g")).unwrap(),
            |held| held.get("m/g").or(held.get("z/empty/g")).is_some_and(|text| text == "beside"),
        ),
    ];
    for (name, act, is_right) in cases {
        let mut step = 0;
        loop {
            step += 1;
            let folder = tempfile::tempdir().unwrap();
            let place = folder.path().canonicalize().unwrap().join("s");
            make_tree(&place);
            let repository = repository();
            let sources = Sources::new(std::slice::from_ref(&place), &Excludes::new()).unwrap();
            let act = || act(&place);
            let monitor = AtStep { main: std::thread::current().id(), step, seen: AtomicUsize::new(0), act: &act };
            let labels = labels(&sources);
            let report = run(&repository, sources, Rules::default(), &labels, &options(), &monitor).unwrap();
            let held = read_back(&repository, report.snapshot.unwrap(), &place);
            assert!(is_right(&held), "{name}, before step {step}: {held:?} {:?}", report.problems);
            assert!(report.outcome < Outcome::Partial, "{name}, before step {step}: {:?}", report.problems);
            if monitor.seen.load(Relaxed) < step {
                break;
            }
        }
        assert!(step > 20, "{name}: the walk has {step} steps");
    }
}

fn backup(repository: &Repository, given: &[PathBuf], excludes: &Excludes, options: &Options) -> Report {
    let sources = Sources::new(given, excludes).unwrap();
    let labels = labels(&sources);
    let rules = Rules { excludes: excludes.clone(), ..Rules::default() };
    run(repository, sources, rules, &labels, options, &Silent).unwrap()
}

/// Story: an empty mount point, or a pattern that matches everything, gave a complete snapshot of nothing, and a rule that
/// keeps the last one let the full ones go.
#[test]
fn a_source_that_is_empty_and_was_not_is_partial() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    let (one, other) = (place.join("one"), place.join("other"));
    for source in [&one, &other] {
        fs::create_dir_all(source.join("inner")).unwrap();
        fs::write(source.join("inner/file"), "text").unwrap();
    }
    let repository = repository();
    let given = [one.clone(), other.clone()];
    let (none, defaults) = (Excludes::new(), options());
    let full = backup(&repository, &given, &none, &defaults);
    assert_eq!((full.outcome, full.warnings.len()), (Outcome::Complete, 0), "{:?}", full.warnings);
    let everything = {
        let mut excludes = Excludes::new();
        excludes.add(b"inner", false).unwrap();
        excludes
    };
    for parent in [full.snapshot, None] {
        let options = Options { parent, ..options() };
        let matched = backup(&repository, &given, &everything, &options);
        assert_eq!(
            (matched.outcome, matched.emptied.len()),
            (Outcome::Partial, 2),
            "a pattern that matches everything"
        );
        fs::rename(&one, place.join("unmounted")).unwrap();
        fs::create_dir(&one).unwrap();
        // Twice: the first of these is no witness that nothing was there.
        for _ in 0..2 {
            let empty = backup(&repository, &given, &none, &options);
            assert_eq!(empty.outcome, Outcome::Partial);
            assert_eq!(empty.emptied, [one.as_os_str().as_encoded_bytes()]);
            assert_eq!(empty.deletions, 0, "what is not mounted was not deleted");
        }
        fs::remove_dir(&one).unwrap();
        fs::rename(place.join("unmounted"), &one).unwrap();
        assert_eq!(backup(&repository, &given, &none, &options).outcome, Outcome::Complete);
    }
    fs::remove_dir_all(one.join("inner")).unwrap();
    let meant = backup(&repository, &given, &none, &Options { allow_empty: true, parent: full.snapshot, ..options() });
    assert_eq!((meant.outcome, meant.emptied.len()), (Outcome::Complete, 0));
    assert_eq!(meant.deletions, 2, "what was meant is a deletion");
    // Empty since the last complete one: said, and complete.
    let still = backup(&repository, &given, &none, &defaults);
    assert_eq!((still.outcome, still.warnings.len()), (Outcome::Complete, 1), "{:?}", still.warnings);
}

#[test]
fn a_source_that_lost_nearly_all_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    let (large, small) = (place.join("large"), place.join("small"));
    for (source, files) in [(&large, 200), (&small, 60)] {
        fs::create_dir(source).unwrap();
        (0..files).for_each(|number| fs::write(source.join(format!("f{number}")), "x").unwrap());
    }
    let repository = repository();
    let given = [large.clone(), small.clone()];
    let warnings = || backup(&repository, &given, &Excludes::new(), &options()).warnings;
    assert_eq!(warnings(), [""; 0]);
    (10..60).for_each(|number| fs::remove_file(small.join(format!("f{number}"))).unwrap());
    assert_eq!(warnings(), [""; 0], "a sixth is left");
    (0..40).for_each(|number| fs::write(small.join(format!("g{number}")), "x").unwrap());
    assert_eq!(warnings(), [""; 0]);
    (0..40).for_each(|number| fs::remove_file(small.join(format!("g{number}"))).unwrap());
    (5..10).for_each(|number| fs::remove_file(small.join(format!("f{number}"))).unwrap());
    assert_eq!(warnings(), [""; 0], "a tenth is left");
    (0..55).for_each(|number| fs::write(small.join(format!("g{number}")), "x").unwrap());
    assert_eq!(warnings(), [""; 0]);
    (0..55).for_each(|number| fs::remove_file(small.join(format!("g{number}"))).unwrap());
    let said = warnings();
    assert!(said.len() == 1 && said[0].contains("small: 5 files were stored"), "{said:?}");
}

/// A directory as its parent names it: with a slash behind it a link to one is followed, as everywhere in Unix.
#[test]
fn a_link_with_a_slash_behind_it_is_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    fs::create_dir(place.join("real")).unwrap();
    fs::write(place.join("real/file"), "text").unwrap();
    symlink("real", place.join("link")).unwrap();
    fs::write(place.join("plain"), "x").unwrap();
    let repository = repository();
    let held = |given: &str| {
        let report = backup(&repository, &[place.join(given)], &Excludes::new(), &options());
        (read_back(&repository, report.snapshot.unwrap(), &place), report.outcome)
    };
    let linked = |text: &str| BTreeMap::from([(String::new(), "/".to_owned()), ("link".to_owned(), text.to_owned())]);
    assert_eq!(held("link"), (linked("-> real"), Outcome::Complete));
    for given in ["link/", "link//", "link/.", "link/./", "./link/"] {
        let mut expected = linked("/");
        expected.insert("link/file".to_owned(), "text".to_owned());
        assert_eq!(held(given), (expected, Outcome::Complete), "{given}");
    }
    let both = backup(&repository, &[place.join("real"), place.join("plain/")], &Excludes::new(), &options());
    assert_eq!(both.outcome, Outcome::Partial, "a file with a slash behind it is not there");
}

/// Wants an end from the first bytes on, or from a time on.
struct Ending {
    at: Instant,
    on_item: bool,
    seen: AtomicUsize,
}

impl Monitor for Ending {
    fn phase(&self, _: Phase) {}
    fn expect(&self, _: u64, _: u64, _: bool) {}
    fn advance(&self, _: u64, _: u64) {}
    fn item(&self, _: &Item<'_>) {
        self.seen.fetch_add(1, Relaxed);
    }
    fn problem(&self, _: &Problem<'_>) {}
    fn stop(&self) -> Option<Stop> {
        let is_over = Instant::now() >= self.at || self.on_item && self.seen.load(Relaxed) > 0;
        is_over.then_some(Stop::User)
    }
}

/// Story: a command that printed nothing for an hour could not be stopped for an hour.
#[test]
fn a_stream_that_gives_nothing_hears_a_stop() {
    let repository = repository();
    let (source, _open) = std::io::pipe().unwrap();
    let sources = Sources::new(&["/".into()], &Excludes::new()).unwrap();
    let begun = Instant::now();
    let monitor = Ending { at: begun + Duration::from_millis(300), on_item: false, seen: AtomicUsize::new(0) };
    let mut source = Polled::new(source);
    let ran = run_stream(&repository, &mut source, &mut || Ok(()), b"db.sql", &labels(&sources), &options(), &monitor);
    assert!(matches!(ran, Err(Error::Interrupted)), "{ran:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(repository.snapshots().unwrap().is_empty());
}

/// Story: a stop was heard between two groups of files only, and a large file is a group of its own.
#[test]
fn a_large_file_hears_a_stop() {
    let repository = repository();
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = vec![0; 16 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    fs::write(folder.path().join("large"), bytes).unwrap();
    let sources = Sources::new(&[folder.path().into()], &Excludes::new()).unwrap();
    let labels = labels(&sources);
    let later = Instant::now() + Duration::from_secs(3600);
    let monitor = Ending { at: later, on_item: true, seen: AtomicUsize::new(0) };
    let ran = run(&repository, sources, Rules::default(), &labels, &options(), &monitor);
    assert!(matches!(ran, Err(Error::Interrupted)), "{ran:?}");
    assert_eq!(monitor.seen.load(Relaxed), 1, "the file was begun, and not stored to its end");
}

#[test]
fn an_empty_stream_is_refused() {
    let repository = repository();
    let labels =
        Labels { paths: vec![b"/db.sql".to_vec()], ..labels(&Sources::new(&["/".into()], &Excludes::new()).unwrap()) };
    let store = |bytes: &[u8], allow_empty: bool| {
        let options = Options { allow_empty, ..options() };
        run_stream(&repository, &mut &*bytes, &mut || Ok(()), b"db.sql", &labels, &options, &Silent)
    };
    assert!(matches!(store(b"", false), Err(Error::EmptyStream)));
    assert!(repository.snapshots().unwrap().is_empty());
    store(b"x", false).unwrap();
    store(b"", true).unwrap();
    assert_eq!(repository.snapshots().unwrap().len(), 2);
}
