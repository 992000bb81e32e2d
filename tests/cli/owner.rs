//! Root at work in what is another user's: a repository stays usable by its owner.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::Ran;
use super::support::{World, files_beneath};

const USER: u32 = 65_534;
const GROUP: u32 = 54_321;

fn as_user(world: &World, words: &[&str]) -> Ran {
    world.command(words).uid(USER).gid(USER).output().unwrap().into()
}

/// As root, with a home of root's own.
fn as_root(world: &World, words: &[&str]) {
    let mut command = world.command(words);
    let ran: Ran = command.env("HOME", world.path("root")).output().unwrap().into();
    assert_eq!(ran.code, Some(0), "{words:?}\n{}\n{}", ran.out, ran.err);
}

fn owners(place: &Path, found: &mut Vec<(String, u32, u32)>) {
    let metadata = fs::symlink_metadata(place).unwrap();
    found.push((place.display().to_string(), metadata.uid(), metadata.gid()));
    if metadata.is_dir() {
        fs::read_dir(place).unwrap().flatten().for_each(|entry| owners(&entry.path(), found));
    }
}

/// Story: `sudo packstone prune`, once, and the user could neither back up nor read his repository.
#[test]
fn what_root_does_in_a_users_repository_locks_nobody_out() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED owner::what_root_does_in_a_users_repository_locks_nobody_out: needs root");
        return;
    }
    let world = World::new();
    world.write("a", "content".repeat(1000));
    fs::create_dir(world.path("root")).unwrap();
    chown(world.path(""), Some(USER), Some(USER)).unwrap();
    chown(world.path("home"), Some(USER), Some(USER)).unwrap();
    let (key, mirror) = (world.key(), world.path("mirror"));
    let ran: Ran =
        world.bare(&["init", "--new-key-file", world.text(&key)]).uid(USER).gid(USER).output().unwrap().into();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    // A group that he shares with others: the group bit of the directories makes new files theirs.
    for folder in ["", "packs", "heads"] {
        let folder = world.repository().join(folder);
        chown(&folder, None, Some(GROUP)).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o2700)).unwrap();
    }
    assert_eq!(as_user(&world, &["mirror", "add", "m", world.text(&mirror)]).code, Some(0));
    fs::write(world.path("roots-own"), "stays").unwrap();
    let before: Vec<_> = files_beneath(&world.repository());
    // Folders of the locks that are not there yet, as after a copy.
    fs::remove_dir_all(world.repository().join("lock")).unwrap();
    as_root(&world, &["backup", "tree"]);
    world.write("b", "more".repeat(100_000));
    as_root(&world, &["backup", "tree"]);
    as_root(&world, &["mirror", "add", "m", world.text(&mirror)]);
    as_root(&world, &["sync"]);
    as_root(&world, &["forget", "--keep-last", "1"]);
    as_root(&world, &["prune"]);
    as_root(&world, &["key", "add", "--new-key-file", world.text(&world.path("root/second"))]);
    // Some of them are marked, which no repair looks at; what came after the sync has no good copy.
    for pack in files_beneath(&world.repository().join("packs")) {
        if mirror.join(pack.strip_prefix(world.repository()).unwrap()).is_file() {
            let length = fs::metadata(&pack).unwrap().len();
            fs::write(&pack, vec![0; usize::try_from(length).unwrap()]).unwrap();
        }
    }
    as_root(&world, &["repair", "objects"]);
    let mut found = Vec::new();
    owners(&world.repository(), &mut found);
    owners(&mirror, &mut found);
    for (path, uid, gid) in &found {
        assert_eq!(*uid, USER, "{path}");
        let beneath = Path::new(path).strip_prefix(world.repository());
        if let Ok(beneath) = beneath
            && !before.contains(&world.repository().join(beneath))
            && Path::new(path).is_file()
        {
            assert_eq!(*gid, GROUP, "{path}");
        }
    }
    assert!(found.iter().any(|(path, ..)| path.contains("quarantine/")), "{found:?}");
    assert!(!found.iter().any(|(path, ..)| path.contains(".packstone-new-")), "{found:?}");
    // Root's own memory, cache and key are root's.
    let mut own = Vec::new();
    owners(&world.path("root"), &mut own);
    assert!(own.len() > 5 && own.iter().all(|(_, uid, _)| *uid == 0), "{own:?}");
    for words in [
        &["backup", "tree"][..],
        &["forget", "--keep-last", "1"],
        &["prune"],
        &["check", "--read-data"],
        &["sync"],
        &["restore", "latest", "--target", "back"],
    ] {
        let ran = as_user(&world, words);
        assert_eq!(ran.code, Some(0), "{words:?}\n{}\n{}", ran.out, ran.err);
    }
    assert_eq!(fs::metadata(world.path("roots-own")).unwrap().uid(), 0);
}

/// Root of a user namespace cannot give things to users that it does not know, and works all the same.
#[test]
fn root_of_a_user_namespace_works_in_what_it_cannot_give_away() {
    let world = World::with_repository();
    world.write("a", "content");
    let unshared = Command::new("unshare").args(["-Ur", "true"]).uid(USER).gid(USER).status();
    if !rustix::process::geteuid().is_root() || !unshared.is_ok_and(|status| status.success()) {
        println!(
            "SKIPPED owner::root_of_a_user_namespace_works_in_what_it_cannot_give_away: needs root and unshare -Ur"
        );
        return;
    }
    for place in ["", "home", "tree", "tree/a", "key"] {
        chown(world.path(place), Some(USER), Some(USER)).unwrap();
    }
    // Somebody else's, whom the namespace does not know, and who lets everybody in.
    assert!(Command::new("chown").args(["-R", "12345:12345"]).arg(world.repository()).status().unwrap().success());
    assert!(Command::new("chmod").args(["-R", "a+rwX"]).arg(world.repository()).status().unwrap().success());
    let program = world.command(&["backup", "tree"]);
    let mut command = Command::new("unshare");
    command.arg("-Ur").arg(program.get_program()).args(program.get_args()).uid(USER).gid(USER);
    command.env_clear().current_dir(world.path(""));
    for (name, value) in program.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        command.env(name, value);
    }
    let ran: Ran = command.output().unwrap().into();
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.out, ran.err);
}
