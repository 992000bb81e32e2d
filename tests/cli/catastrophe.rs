//! What befalls people's repositories and mirrors, followed by a sync. After each, every object that the mirror held is there with the bytes
//! that it had, the mirror still comes back (unless it is itself what was spoiled), and what is said names the trouble.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Ran;
use super::plain;
use super::prune::noise;
use super::support::{World, files_beneath};

/// A catastrophe, and what the sync after it ends with.
struct Catastrophe {
    name: &'static str,
    happens: fn(&World),
    exit: i32,
    says: &'static str,
    /// What was spoiled is the mirror: it need not come back.
    of_mirror: bool,
}

const fn home(name: &'static str, happens: fn(&World), exit: i32, says: &'static str) -> Catastrophe {
    Catastrophe { name, happens, exit, says, of_mirror: false }
}

const fn mirror(name: &'static str, happens: fn(&World), exit: i32, says: &'static str) -> Catastrophe {
    Catastrophe { name, happens, exit, says, of_mirror: true }
}

const CATASTROPHES: &[Catastrophe] = &[
    // The repository is not there, or is not it.
    home("the repository's disk is not mounted", |world| remove(&world.repository()), 10, "is its disk mounted?"),
    home("its mount point is empty", |world| empty(&world.repository()), 10, "is its disk mounted?"),
    home("a folder of photographs is in its place", photographs, 10, "is not there now"),
    home("another repository is in its place", |world| replaced(world, "repository"), 14, "--repo-id"),
    home("its config is of another repository", |world| other_config(world, "repository"), 14, "--repo-id"),
    home("the repository's path leads to the mirror", path_to_mirror, 14, "rollback"),
    // Part of it is.
    home("half of it was restored: no packs", |world| empty(&world.repository().join("packs")), 17, "missing: packs/"),
    home("half of it was restored: no index", |world| empty(&world.repository().join("index")), 17, "missing: index/"),
    home(
        "half of it was restored: no snapshots",
        |world| empty(&world.repository().join("snapshots")),
        17,
        "missing: snapshots/",
    ),
    home("half of it was restored: no heads", |world| empty(&world.repository().join("heads")), 17, "no valid head"),
    home("half of it was restored: no keys", |world| empty(&world.repository().join("keys")), 0, "whole at generation"),
    home("its newest head is gone", |world| remove(&newest(&world.repository().join("heads"))), 14, "rollback"),
    home(
        "a bit of its newest head has flipped",
        |world| flip(&newest(&world.repository().join("heads"))),
        17,
        "is newer than the newest head that can be verified",
    ),
    home(
        "a bit of every pack has flipped",
        |world| each(&world.repository().join("packs"), flip),
        17,
        "its bytes have another hash",
    ),
    // Somebody wants money.
    home(
        "ransom: the packs are noise",
        |world| each(&world.repository().join("packs"), scramble),
        17,
        "its bytes have another hash",
    ),
    home("ransom: everything is noise", |world| each(&world.repository(), scramble), 17, "damaged: config"),
    home(
        "ransom: everything has another name",
        |world| each(&world.repository(), rename),
        17,
        "the config file of the repository",
    ),
    home("ransom: everything is empty", |world| each(&world.repository(), truncate), 17, "256 bytes expected, 0 found"),
    home("all snapshots but one are forgotten and pruned at once", all_forgotten, 0, "will be deleted there"),
    home("the same, and twenty states in a second", many_states, 0, "will be deleted there"),
    home(
        "the same, and its owner wants everything gone from the mirror",
        all_to_be_deleted,
        20,
        "nothing was deleted there",
    ),
    home("a key is removed by mistake", key_removed, 0, "nothing to send"),
    // An older state comes back.
    home("the repository was set back, this machine knows better", |world| set_back(world, false), 14, "rollback"),
    home("a machine was set back with all that it knew", |world| set_back(world, true), 15, "the mirror is ahead"),
    home(
        "a machine was set back with all that it knew, and backed up",
        set_back_and_backed_up,
        16,
        "copy --from-mirror offsite",
    ),
    home("a copy of the repository syncs to the same mirror", forked, 16, "copy --from-mirror offsite"),
    home("what this machine knew is lost", |world| remove(&state(world)), 1, "there is no mirror yet"),
    home(
        "the list of mirrors is noise",
        |world| each(&state(world), scramble),
        1,
        "move the file away and add the mirrors again",
    ),
    home("the cache is noise", |world| each(&world.path("home/.cache"), scramble), 0, "whole at generation"),
    home("a sync was killed", killed_sync, 0, "that interrupted syncs left on the mirror"),
    home("another sync is at work", another_sync, 11, "another process is at work on mirror offsite"),
    home("two machines sync at once", two_machines, 0, "nothing to send"),
    // The mirror.
    mirror("the mirror's disk is not mounted", |world| remove(&world.path("mirror")), 1, "is its disk mounted?"),
    mirror("the mirror's mount point is empty", |world| empty(&world.path("mirror")), 14, "is its disk mounted?"),
    mirror(
        "another repository's mirror is in its place",
        |world| replaced(world, "mirror"),
        1,
        "a mirror of another repository",
    ),
    mirror("a folder of photographs is in the mirror's place", photographs_there, 1, "something else is at this place"),
    mirror("the mirror was set back", mirror_set_back, 14, "now shows generation 9"),
    mirror("the mirror's heads are gone", |world| empty(&world.path("mirror/heads")), 14, "now has no head of it"),
    mirror("the mirror's config is gone", |world| remove(&world.path("mirror/config")), 0, "whole at generation"),
    mirror("the mirror's config is noise", |world| scramble(&world.path("mirror/config")), 17, "repair mirror"),
    mirror("the mirror's config is of another repository", |world| other_config(world, "mirror"), 17, "repair mirror"),
    mirror("the mirror's config is cut off", |world| shorten(&world.path("mirror/config"), 100), 0, "whole at"),
    mirror("the mirror's config is empty", |world| truncate(&world.path("mirror/config")), 0, "whole at"),
    mirror("the mirror's config is too long", |world| lengthen(&world.path("mirror/config")), 0, "whole at"),
    mirror("the mirror's keys are gone", |world| empty(&world.path("mirror/keys")), 0, "whole at generation"),
    mirror("the mirror's packs are gone", |world| empty(&world.path("mirror/packs")), 0, "whole at generation"),
    mirror(
        "the mirror's newest head is noise",
        |world| scramble(&newest(&world.path("mirror/heads"))),
        0,
        "whole at generation",
    ),
    mirror("twenty heads of nobody lie on the mirror", heads_of_nobody, 0, "20 files under heads/"),
    mirror("a file of nobody among the heads is enormous", enormous, 0, "until it is taken out of heads/ there"),
    mirror("somebody's files lie between the mirror's", strangers, 0, "4 files on the mirror are not part"),
    mirror("the mirror's folders are files", folders_are_files, 1, "Not a directory"),
];

/// A synced repository of two backups, which has another one since that shares nothing with them.
fn world() -> World {
    let world = World::with_repository();
    fs::write(world.path("password"), "a passphrase").unwrap();
    world.write("a", noise(1, 300_000));
    world.backup();
    world.write("b", noise(2, 300_000));
    world.backup();
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    world.ok(&["sync"]);
    // What the mirror's own head does not need any more is due there from now on: what a sync deletes is that, if it is sure.
    world.write("forgotten", noise(4, 300_000));
    let forgotten = world.backup();
    fs::remove_file(world.tree().join("forgotten")).unwrap();
    world.ok(&["sync"]);
    world.ok(&["forget", &forgotten, "--prune", "--instant", "--max-unused", "0"]);
    world.backup();
    world.ok(&["sync", "--grace", "0"]);
    // What is set back later comes back from here.
    copy(&world, ".", "before");
    for name in ["a", "b"] {
        fs::remove_file(world.tree().join(name)).unwrap();
    }
    world.write("c", noise(3, 300_000));
    world.backup();
    world
}

fn copy(world: &World, from: &str, to: &str) {
    let (from, to) = (world.path(from), world.path(to));
    let list: Vec<PathBuf> = ["repository", "mirror", "home"].iter().map(|name| from.join(name)).collect();
    fs::create_dir(&to).unwrap();
    assert!(Command::new("cp").arg("-a").args(list).arg(to).status().unwrap().success());
}

fn state(world: &World) -> PathBuf {
    world.path("home/.local/state")
}

fn remove(path: &Path) {
    if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
}

fn empty(folder: &Path) {
    assert!(fs::read_dir(folder).unwrap().count() > 0, "{folder:?} is empty already");
    remove(folder);
    fs::create_dir(folder).unwrap();
}

fn each(folder: &Path, what: fn(&Path)) {
    let files = files_beneath(folder);
    assert!(!files.is_empty(), "there is nothing in {folder:?}");
    files.iter().for_each(|file| what(file));
}

fn rewrite(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

fn flip(path: &Path) {
    rewrite(path, |bytes| {
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
    });
}

fn scramble(path: &Path) {
    rewrite(path, |bytes| *bytes = noise(99, bytes.len()));
}

fn truncate(path: &Path) {
    rewrite(path, Vec::clear);
}

fn shorten(path: &Path, length: usize) {
    rewrite(path, |bytes| bytes.truncate(length));
}

fn lengthen(path: &Path) {
    rewrite(path, |bytes| bytes.push(0));
}

fn rename(path: &Path) {
    let mut name = path.as_os_str().to_owned();
    name.push(".locked");
    fs::rename(path, name).unwrap();
}

fn newest(heads: &Path) -> PathBuf {
    files_beneath(heads).pop().unwrap()
}

/// Another repository with a mirror of its own is where ours was.
fn replaced(world: &World, what: &str) {
    let other = other(world);
    remove(&world.path(what));
    fs::rename(other.join(what), world.path(what)).unwrap();
}

fn other_config(world: &World, what: &str) {
    let other = other(world);
    fs::rename(other.join(what).join("config"), world.path(what).join("config")).unwrap();
}

fn other(world: &World) -> PathBuf {
    let other = World::with_repository();
    other.write("x", "x");
    other.backup();
    other.ok(&["mirror", "add", "offsite", "mirror"]);
    other.ok(&["sync"]);
    let to = world.path("other");
    fs::create_dir(&to).unwrap();
    for what in ["repository", "mirror"] {
        assert!(Command::new("cp").arg("-a").arg(other.path(what)).arg(&to).status().unwrap().success());
    }
    to
}

fn photographs(world: &World) {
    remove(&world.repository());
    fs::create_dir_all(world.repository().join("packs")).unwrap();
    fs::write(world.repository().join("packs/beach.jpg"), "sand").unwrap();
}

fn photographs_there(world: &World) {
    remove(&world.path("mirror"));
    fs::create_dir_all(world.path("mirror/summer")).unwrap();
    fs::write(world.path("mirror/summer/beach.jpg"), "sand").unwrap();
}

fn path_to_mirror(world: &World) {
    remove(&world.repository());
    symlink(world.path("mirror"), world.repository()).unwrap();
}

fn all_forgotten(world: &World) {
    world.ok(&["forget", "--keep-last", "1", "--prune", "--instant", "--max-unused", "0"]);
}

fn many_states(world: &World) {
    for number in 0..20 {
        world.ok(&["tag", "--add", &format!("t{number}"), "latest"]);
    }
    all_forgotten(world);
}

/// Every grace and cap of our own is switched off. The next sync sends what says so; the one after it deletes.
fn all_to_be_deleted(world: &World) {
    all_forgotten(world);
    world.ok(&["sync", "--grace", "0"]);
}

fn key_removed(world: &World) {
    world.ok(&["key", "add", "--new-password-file", "password"]);
    world.ok(&["sync"]);
    let keys = files_beneath(&world.repository().join("keys"));
    remove(&keys[0]);
}

fn set_back(world: &World, with_memory: bool) {
    world.ok(&["sync"]);
    for what in if with_memory { &["repository", "home"][..] } else { &["repository"] } {
        remove(&world.path(what));
        fs::rename(world.path("before").join(what), world.path(what)).unwrap();
    }
}

fn set_back_and_backed_up(world: &World) {
    set_back(world, true);
    world.write("d", "other");
    world.backup();
}

/// Another machine has a copy of before, and has backed up to it.
fn forked(world: &World) {
    world.ok(&["sync"]);
    remove(&world.repository());
    fs::rename(world.path("before/repository"), world.repository()).unwrap();
    fs::remove_dir_all(world.path("home")).unwrap();
    fs::create_dir(world.path("home")).unwrap();
    world.write("d", "other");
    world.backup();
    world.ok(&["mirror", "add", "offsite", "mirror"]);
}

fn killed_sync(world: &World) {
    let mut child = world.command(&["sync", "--limit-upload", "100k"]).stdout(Stdio::null()).spawn().unwrap();
    // One that takes a while: a small object is there before it can be killed.
    let temporary = world.path("mirror/tmp");
    let names = || -> BTreeSet<PathBuf> {
        fs::read_dir(&temporary).into_iter().flatten().flatten().map(|found| found.path()).collect()
    };
    let stays = (0..200).any(|_| {
        let before = names();
        std::thread::sleep(std::time::Duration::from_millis(100));
        names().intersection(&before).next().is_some()
    });
    assert!(stays, "the sync wrote nothing");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn another_sync(world: &World) {
    let lock = files_beneath(&state(world)).into_iter().find(|path| path.extension().is_some_and(|it| it == "lock"));
    let lock = fs::File::open(lock.expect("a lock")).unwrap();
    lock.lock().unwrap();
    // Until the test ends.
    std::mem::forget(lock);
}

fn two_machines(world: &World) {
    let mut others: Vec<_> = (0..3)
        .map(|number| {
            let home = world.path(&format!("home-{number}"));
            fs::create_dir(&home).unwrap();
            let added = world.command(&["mirror", "add", "offsite", "mirror"]).env("HOME", &home).output().unwrap();
            assert!(added.status.success());
            world.command(&["sync"]).env("HOME", &home).spawn().unwrap()
        })
        .collect();
    world.ok(&["sync"]);
    assert!(others.iter_mut().all(|other| other.wait().unwrap().success()));
}

fn mirror_set_back(world: &World) {
    world.ok(&["sync"]);
    remove(&world.path("mirror"));
    fs::rename(world.path("before/mirror"), world.path("mirror")).unwrap();
}

fn heads_of_nobody(world: &World) {
    for number in 0..20 {
        let bytes = noise(number, 300);
        let name = format!("{:016x}-{}", 1_000 + number, blake3::hash(&bytes).to_hex());
        fs::write(world.path("mirror/heads").join(name), bytes).unwrap();
    }
}

fn enormous(world: &World) {
    let name = format!("{:016x}-{}", 1_000, blake3::hash(b"nobody's").to_hex());
    fs::File::create(world.path("mirror/heads").join(name)).unwrap().set_len((64 << 20) + 1).unwrap();
}

fn strangers(world: &World) {
    for name in ["README.txt", "packs/beach.jpg", "heads/notes", "keys/id_rsa"] {
        fs::write(world.path("mirror").join(name), "somebody's").unwrap();
    }
}

fn folders_are_files(world: &World) {
    remove(&world.path("mirror/packs"));
    fs::write(world.path("mirror/packs"), "no folder").unwrap();
}

fn relative(folder: &Path) -> BTreeSet<PathBuf> {
    files_beneath(folder).into_iter().map(|path| path.strip_prefix(folder).unwrap().to_path_buf()).collect()
}

/// What the mirror holds.
fn contents(world: &World) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = files_beneath(&world.path("mirror")).into_iter();
    files.filter_map(|path| Some((path.clone(), fs::read(path).ok()?))).collect()
}

/// What is due leaves when nothing has happened: the others show something.
fn undisturbed() {
    let world = world();
    let (there, here) = (relative(&world.path("mirror")), relative(&world.repository()));
    let due: Vec<_> = there.difference(&here).collect();
    world.ok(&["sync", "--grace", "0"]);
    let left: Vec<_> = due.iter().filter(|path| world.path("mirror").join(path).exists()).collect();
    assert!(left.is_empty(), "{left:?} of {due:?} stayed");
}

fn befall(catastrophe: &Catastrophe) -> Result<Ran, String> {
    let world = world();
    // On the mirror, and not here any more.
    let here = relative(&world.repository());
    let due: BTreeSet<PathBuf> = relative(&world.path("mirror")).difference(&here).cloned().collect();
    assert!(due.iter().any(|path| path.starts_with("packs")), "nothing is due");
    (catastrophe.happens)(&world);
    let before = contents(&world);
    let ran = world.run(&["sync", "--grace", "0"]);
    let after = contents(&world);
    // What is at work now is over soon.
    if !matches!(ran.code, Some(0 | 11)) {
        let status = world.run(&["status"]);
        let is_said = status.code == Some(18) && status.out.contains(catastrophe.says);
        // Where the repository cannot be opened, or its mirrors are not known, status says that.
        let is_here = !catastrophe.of_mirror && !matches!(status.code, Some(0 | 18));
        let is_known = catastrophe.says != "there is no mirror yet";
        if is_known && !is_said && !is_here {
            return Err(format!("status says nothing of it: {:?} {}{}", status.code, status.out, status.err));
        }
    }
    // A sync that goes through deletes what is due; any other one deletes nothing.
    let may_go = |path: &Path| {
        let path = path.strip_prefix(world.path("mirror")).unwrap();
        // What a killed one left is no object yet.
        ran.code == Some(0) && (due.contains(path) || path.starts_with("tmp"))
    };
    // What was spoiled may be mended.
    let is_mended = |path: &Path| {
        let here = world.repository().join(path.strip_prefix(world.path("mirror")).unwrap());
        catastrophe.of_mirror && fs::read(here).is_ok_and(|bytes| after.get(path) == Some(&bytes))
    };
    let changed =
        before.iter().find(|(path, bytes)| after.get(*path) != Some(*bytes) && !may_go(path) && !is_mended(path));
    if let Some((path, _)) = changed {
        return Err(format!("{path:?} is not as it was"));
    }
    if ran.err.contains("until it is taken out") {
        remove(&newest(&world.path("mirror/heads")));
    }
    if plain(&ran.err).contains("packstone repair mirror") {
        world.run(&["repair", "mirror", "offsite"]);
        let again = world.run(&["sync"]);
        if again.code != Some(0) {
            return Err(format!("repaired, and still: {}{}", again.out, again.err));
        }
        let status = world.run(&["status"]);
        if status.code != Some(0) {
            return Err(format!("repaired, and status does not say so: {}", status.out));
        }
    }
    if !catastrophe.of_mirror || ran.code == Some(0) || plain(&ran.err).contains("packstone repair mirror") {
        let address = world.path("mirror");
        let checked = world.run(&["check", "--mirror", world.text(&address), "--read-data"]);
        if checked.code != Some(0) {
            return Err(format!("the mirror does not come back: {}{}", checked.out, checked.err));
        }
    }
    Ok(ran)
}

#[test]
fn no_catastrophe_takes_anything_from_a_mirror() {
    undisturbed();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(catastrophe) = CATASTROPHES.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = std::panic::catch_unwind(|| befall(catastrophe));
            let ran = match outcome {
                Ok(Ok(ran)) => ran,
                Ok(Err(why)) => {
                    failed.lock().unwrap().push(format!("{}: {why}", catastrophe.name));
                    continue;
                }
                Err(_) => {
                    failed.lock().unwrap().push(format!("{}: see above", catastrophe.name));
                    continue;
                }
            };
            println!("== {}\n{:?}\n{}{}", catastrophe.name, ran.code, ran.out, ran.err);
            let said = [ran.out.as_str(), &ran.err].concat();
            if ran.code != Some(catastrophe.exit) || !said.contains(catastrophe.says) {
                failed.lock().unwrap().push(format!("{}: {:?} {said}", catastrophe.name, ran.code));
            }
        }
    };
    std::thread::scope(|scope| {
        (0..4).for_each(|_| {
            scope.spawn(work);
        });
    });
    let failed = failed.into_inner().unwrap();
    println!("{} of {} catastrophes took nothing", CATASTROPHES.len() - failed.len(), CATASTROPHES.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
