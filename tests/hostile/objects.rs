//! Something else in the place of an object: a link to the object itself, a link that leads nowhere, a pipe, a directory, a socket, a device.
//! None is followed or waited for, and each is what wrong bytes of that object are.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::is_full;
use super::watched::{self, Ended};
use super::world::World;

/// Nothing here takes a second. Who is not done by then waits for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// What takes an object's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thing {
    /// Other bytes, as many as there were: what the others are compared with.
    Noise,
    Pipe,
    Link,
    Dangling,
    Directory,
    Socket,
    Device,
}

const THINGS: [Thing; 6] = [Thing::Pipe, Thing::Link, Thing::Dangling, Thing::Directory, Thing::Socket, Thing::Device];

impl Thing {
    /// False where this process may not make it.
    fn put(self, path: &Path, aside: &Path) -> bool {
        let bytes = fs::read(path).unwrap();
        fs::rename(path, aside).unwrap();
        match self {
            Self::Noise => fs::write(path, vec![0x55; bytes.len()]).unwrap(),
            Self::Pipe => mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap(),
            Self::Link => symlink(aside, path).unwrap(),
            Self::Dangling => symlink("nowhere", path).unwrap(),
            Self::Directory => fs::create_dir(path).unwrap(),
            Self::Socket => {
                // The path of a socket is short; its name in the directory need not be.
                let short = aside.with_file_name("s");
                drop(UnixListener::bind(&short).unwrap());
                fs::rename(&short, path).unwrap();
            }
            // /dev/zero: it never ends.
            Self::Device => {
                let device = rustix::fs::makedev(1, 5);
                if mknodat(CWD, path, FileType::CharacterDevice, Mode::RWXU, device).is_err() {
                    println!("SKIPPED hostile objects: a device, which this user may not make");
                    return false;
                }
            }
        }
        true
    }
}

/// Which object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Object {
    Config,
    Key,
    Head,
    Segment,
    Snapshot,
    Pack,
}

const OBJECTS: [Object; 6] =
    [Object::Config, Object::Key, Object::Head, Object::Segment, Object::Snapshot, Object::Pack];

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

impl Object {
    /// One of the repository, always the same; of heads the newest.
    fn path(self, repository: &Path) -> PathBuf {
        let last = |folder: &str| files(&repository.join(folder)).pop().unwrap();
        match self {
            Self::Config => repository.join("config"),
            Self::Key => last("keys"),
            Self::Head => last("heads"),
            Self::Segment => last("index"),
            Self::Snapshot => last("snapshots"),
            Self::Pack => files(&repository.join("packs")).iter().rev().find_map(|folder| files(folder).pop()).unwrap(),
        }
    }
}

const COPY: [&str; 9] =
    ["--repo", "other", "--key-file", "other-key", "copy", "--from-repo", "repository", "--from-key-file", "key"];
const COPY_FROM: [&str; 9] =
    ["--repo", "other", "--key-file", "other-key", "copy", "--from", "offsite", "--from-key-file", "key"];

/// Ways into a repository. Every one opens and reads; some write.
const COMMANDS: [&[&str]; 17] = [
    &["snapshots"],
    &["restore", "latest", "--target", "out"],
    &["check", "--read-data"],
    &["status"],
    &["backup", "tree"],
    &["prune", "--dry-run"],
    &["key", "list"],
    &["stats"],
    &COPY,
    &["sync"],
    &["mirror", "list"],
    &["repair", "heads", "--dry-run"],
    &["repair", "index", "--dry-run"],
    &["repair", "packs", "--dry-run"],
    &["forget", "--keep-last", "1", "--dry-run"],
    &["tag", "--add", "x", "latest"],
    &["init", "--new-key-file", "new-key"],
];

/// Ways into a mirror.
const AT_MIRROR: [&[&str]; 8] = [
    &["--from", "offsite", "snapshots"],
    &["--from", "offsite", "restore", "latest", "--target", "out"],
    &["recover", "offsite", "--to", "back"],
    &["drill", "offsite", "--to", "drills"],
    &COPY_FROM,
    &["mirror", "check", "offsite", "--read-data"],
    &["sync"],
    &["repair", "mirror", "offsite"],
];

fn run(world: &World, words: &[&str]) -> Ended {
    let ended = watched::run(world.command(words), PATIENCE);
    assert!(!ended.was_stopped, "it did not end by itself\n{}", ended.shown());
    assert!(ended.fault.is_none(), "{}", ended.shown());
    ended
}

/// What each command says to noise is what it says to every thing.
fn compare(
    whole: &World,
    place: &str,
    object: Object,
    commands: &[&[&str]],
    things: &[Thing],
    wrong: &mut Vec<String>,
) -> usize {
    let changed = |thing: Thing| {
        let world = whole.copy();
        thing.put(&object.path(&world.path(place)), &world.path("aside")).then_some(world)
    };
    let mut count = 0;
    for words in commands {
        let noise = run(&changed(Thing::Noise).unwrap(), words);
        for thing in things {
            let Some(world) = changed(*thing) else { continue };
            let ended = run(&world, words);
            let heals = place == "mirror" && (*words == ["sync"] || words.starts_with(&["repair"]));
            // Noise of the right length is noticed by whoever reads it only.
            let is_stricter = noise.code == Some(0) && ended.code == Some(17);
            if ended.code != noise.code && !(heals && ended.code == Some(0)) && !is_stricter {
                wrong.push(format!("{object:?} {thing:?}\n{}\nand with noise\n{}", ended.shown(), noise.shown()));
            }
            assert_eq!(
                fs::symlink_metadata(world.path("aside")).unwrap().len(),
                fs::symlink_metadata(object.path(&whole.path(place))).unwrap().len(),
                "what a link leads to was changed"
            );
            count += 1;
        }
    }
    count
}

#[test]
fn another_thing_in_the_place_of_an_object_is_damage() {
    let whole = World::new();
    let (mut count, mut of, mut wrong) = (0, 0, Vec::new());
    for (row, object) in OBJECTS.into_iter().enumerate() {
        for (place, commands) in [("repository", &COMMANDS[..]), ("mirror", &AT_MIRROR[..])] {
            of += commands.len() * THINGS.len();
            if is_full() {
                count += compare(&whole, place, object, commands, &THINGS, &mut wrong);
                continue;
            }
            // One command for each object and place, the next for the next, and two things.
            let (command, thing) = (row * 5 % commands.len(), row % THINGS.len());
            let things = [THINGS[thing], THINGS[(thing + 3) % THINGS.len()]];
            count += compare(&whole, place, object, &commands[command..=command], &things, &mut wrong);
        }
    }
    println!("{count} of {of}: another thing in the place of an object");
    assert!(wrong.is_empty(), "{} differ from noise:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// Files of this machine beside the objects: where, what reads or writes them, and the exit codes that are right when another thing has the
/// name. A lock that is no file is none: who must hold it stops. A cache is made again.
const OWN: [(&str, &[&str], &[i32]); 9] = [
    ("repository/lock/writer", &["backup", "tree"], &[1]),
    ("repository/lock/writer", &["snapshots"], &[0]),
    ("repository/lock/append", &["tag", "--add", "x", "latest"], &[1]),
    ("repository/lock/ballast", &["backup", "tree"], &[0]),
    ("cache/index.redb", &["restore", "latest", "--target", "out"], &[0]),
    ("cache/index.lock", &["backup", "tree"], &[0]),
    ("cache/index.seal", &["snapshots"], &[0]),
    ("state/mirrors", &["mirror", "list"], &[1]),
    ("state/repositories", &["snapshots"], &[0, 1]),
];

/// The file: of folders that are named by the repository, what lies in them.
fn own_path(world: &World, name: &str) -> PathBuf {
    let one = |folder: PathBuf, end: &str| {
        let mut found = files(&folder);
        found.retain(|path| path.is_dir() != path.to_str().unwrap().ends_with(end));
        found.into_iter().find(|path| end.is_empty() || path.to_str().unwrap().ends_with(end)).unwrap()
    };
    match name.split_once('/').unwrap() {
        ("cache", file) => {
            let id = world.ok(&["cat", "config", "--json"]);
            let folder = files(&world.path("home/.cache/packstone"));
            folder.into_iter().find(|path| id.contains(path.file_name().unwrap().to_str().unwrap())).unwrap().join(file)
        }
        ("state", "mirrors") => one(world.path("home/.local/state/packstone/mirrors"), ".sqlite"),
        ("state", folder) => one(world.path("home/.local/state/packstone").join(folder), ""),
        _ => world.path(name),
    }
}

#[test]
fn another_thing_in_the_place_of_a_file_of_this_machine_is_not_followed() {
    let whole = World::new();
    let (mut count, mut wrong) = (0, Vec::new());
    for (row, (name, words, codes)) in OWN.into_iter().enumerate() {
        for (number, thing) in THINGS.into_iter().enumerate() {
            // A file of the memory may be a link of the user's.
            if !is_full() && number % 3 != row % 3 || name.starts_with("state") && thing == Thing::Link {
                continue;
            }
            let world = whole.copy();
            let path = own_path(&world, name);
            if !thing.put(&path, &world.path("aside")) {
                continue;
            }
            let before = fs::read(world.path("aside")).unwrap();
            let ended = run(&world, words);
            count += 1;
            if !ended.code.is_some_and(|code| codes.contains(&code)) || fs::read(world.path("aside")).unwrap() != before
            {
                wrong.push(format!("{name} {thing:?}\n{}", ended.shown()));
            }
        }
    }
    println!("{count} of {}: another thing in the place of a file of this machine", OWN.len() * THINGS.len() - 2);
    assert!(wrong.is_empty(), "{} went wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
}
