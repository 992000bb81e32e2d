//! `repair heads`: the newest head, or a checkpoint, is damaged or gone.

use std::fs;
use std::path::{Path, PathBuf};

use packstone::base::id::ObjectId;

use super::check::damage;
use super::forget::ids;
use super::plain;
use super::support::{World, files_beneath};

/// Three backups, of which each adds a file; returns their ids. Each head stands alone.
fn world() -> (World, Vec<String>) {
    backed_up(World::with_repository())
}

/// The same, and their heads build on a checkpoint, the fourth.
fn world_with_checkpoint() -> (World, Vec<String>) {
    let world = World::with_repository();
    world.lengthen_state();
    backed_up(world)
}

fn backed_up(world: World) -> (World, Vec<String>) {
    let ids = (1..=3).map(|number| {
        world.write(&format!("file-{number}.txt"), format!("line {number}\n").repeat(1_000 * number));
        world.backup()
    });
    let ids = ids.collect();
    (world, ids)
}

/// The heads, oldest first.
fn heads(world: &World) -> Vec<PathBuf> {
    files_beneath(&world.repository().join("heads"))
}

fn name(head: &Path) -> String {
    format!("heads/{}", head.file_name().unwrap().to_str().unwrap())
}

fn flip(head: &Path) {
    damage(head, |bytes| bytes[200] ^= 1);
}

fn mirrored() -> (World, Vec<String>) {
    with_mirror(world())
}

fn with_mirror((world, ids): (World, Vec<String>)) -> (World, Vec<String>) {
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    world.ok(&["sync"]);
    (world, ids)
}

fn snapshots(world: &World) -> usize {
    ids(world).len()
}

/// All of it: contents of the newest snapshot, structure and data.
fn all_is_well(world: &World, newest: &str) {
    world.ok(&["check", "--read-data"]);
    world.ok(&["restore", newest, "--target", "back"]);
    for number in 1..=3 {
        let file = format!("tree/file-{number}.txt");
        assert_eq!(fs::read(world.path("back").join(&file)).unwrap(), fs::read(world.path(&file)).unwrap());
    }
    fs::remove_dir_all(world.path("back")).unwrap();
}

#[test]
fn a_damaged_head_comes_back_from_a_mirror() {
    let (world, ids) = mirrored();
    let newest = heads(&world).pop().unwrap();
    let good = fs::read(&newest).unwrap();
    flip(&newest);
    for words in [&["snapshots"][..], &["backup", "tree"], &["check"], &["prune"], &["status"], &["sync"]] {
        let ran = world.run(words);
        assert_eq!(ran.code, Some(17), "{words:?}: {}", ran.err);
        assert!(plain(&ran.err).contains("packstone repair heads"), "{words:?}: {}", ran.err);
    }
    let ran = world.run(&["repair", "heads", "--dry-run"]);
    assert_eq!(ran.code, Some(17));
    assert!(ran.out.contains(&format!("damaged: {}", name(&newest))), "{}", ran.out);
    assert_ne!(fs::read(&newest).unwrap(), good, "a dry run changes nothing");

    let ran = world.bare(&["repair", "heads"]).output().unwrap();
    assert!(ran.status.success(), "without a secret: {}", String::from_utf8_lossy(&ran.stderr));
    assert!(String::from_utf8_lossy(&ran.stdout).contains("from offsite"));
    assert_eq!(fs::read(&newest).unwrap(), good);
    assert_eq!(files_beneath(&world.repository().join("quarantine")).len(), 1);
    all_is_well(&world, &ids[2]);
    world.backup();
    world.ok(&["sync"]);
    let ran = world.ok(&["repair", "heads", "--set-back"]);
    assert!(ran.out.contains("The newest head that can be read"), "{}", ran.out);
    assert_eq!(snapshots(&world), 4, "where nothing is wrong nothing is set back");
}

#[test]
fn a_head_that_is_gone_comes_back_from_a_mirror() {
    let (world, ids) = mirrored();
    let newest = heads(&world).pop().unwrap();
    fs::remove_file(&newest).unwrap();
    let ran = world.run(&["snapshots"]);
    assert_eq!(ran.code, Some(14), "{}", ran.err);
    let ran = world.ok(&["repair", "heads"]);
    assert!(ran.out.contains(&format!("missing: {}", name(&newest))), "{}", ran.out);
    all_is_well(&world, &ids[2]);
}

#[test]
fn a_checkpoint_comes_back_from_a_mirror() {
    for is_gone in [true, false] {
        let (world, ids) = with_mirror(world_with_checkpoint());
        let first = heads(&world).remove(3);
        if is_gone {
            fs::remove_file(&first).unwrap();
        } else {
            flip(&first);
        }
        for words in [&["snapshots"][..], &["check"], &["backup", "tree"]] {
            let ran = world.run(words);
            assert_eq!(ran.code, Some(17), "{}", ran.err);
            assert!(plain(&ran.err).contains("packstone repair heads"), "{words:?}: {}", ran.err);
        }
        world.ok(&["repair", "heads"]);
        all_is_well(&world, &ids[2]);
    }
}

#[test]
fn without_a_mirror_no_head_is_left_behind_unasked() {
    let (world, _) = world();
    let newest = heads(&world).pop().unwrap();
    flip(&newest);
    let before = files_beneath(&world.repository());
    let ran = world.run(&["repair", "heads"]);
    assert_eq!(ran.code, Some(17));
    assert!(ran.out.contains("there is none to ask"), "{}", ran.out);
    assert!(
        ran.err.contains("to go on from generation 3") && ran.err.contains(" repair heads --set-back\n"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("1 file under snapshots/"), "{}", ran.err);
    assert_eq!(files_beneath(&world.repository()), before);
}

#[test]
fn set_back_the_repository_goes_on_and_the_lost_snapshot_comes_back() {
    for is_gone in [false, true] {
        let (world, ids) = world();
        let newest = heads(&world).pop().unwrap();
        if is_gone {
            fs::remove_file(&newest).unwrap();
        } else {
            flip(&newest);
        }
        let ran = world.ok(&["repair", "heads", "--set-back"]);
        assert!(ran.out.contains("Set back to generation 3"), "{}", ran.out);
        assert!(!newest.exists());
        assert_eq!(snapshots(&world), 2);

        // Its packs lie in no list yet.
        let ran = world.run(&["undelete", &ids[2]]);
        assert_eq!(ran.code, Some(1), "{}", ran.err);
        assert!(plain(&ran.err).contains("packstone repair index"), "{}", ran.err);
        world.ok(&["repair", "index"]);
        let listed = world.ok(&["undelete"]);
        assert!(listed.out.contains("in no list") && listed.out.contains("1 snapshot can come back"), "{}", listed.out);
        let listed = world.ok(&["undelete", "--json"]);
        assert!(listed.out.contains(&ids[2]) && !listed.out.contains("since_generation"), "{}", listed.out);
        world.ok(&["undelete", &ids[2][..10]]);
        assert_eq!(snapshots(&world), 3);
        all_is_well(&world, &ids[2]);
        world.backup();
        world.ok(&["check", "--read-data"]);
        assert!(world.ok(&["undelete"]).out.contains("0 snapshots can come back"));
    }
}

/// A checkpoint without which no head says anything: there is nothing to go on from.
#[test]
fn where_no_head_can_be_read_nothing_is_moved() {
    let (world, _) = world();
    heads(&world).iter().for_each(|head| flip(head));
    let before = files_beneath(&world.repository());
    let ran = world.run(&["repair", "heads", "--set-back"]);
    assert_eq!(ran.code, Some(17));
    assert!(plain(&ran.err).contains("packstone recover"), "{}", ran.err);
    assert_eq!(files_beneath(&world.repository()), before);
}

/// What a newer program wrote is no damage.
#[test]
fn a_head_of_a_newer_program_is_not_set_aside() {
    let (world, _) = world();
    let newest = heads(&world).pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    // The version, behind the eight bytes of the magic.
    bytes[8] += 1;
    let next = format!("{:016x}-{}", 5, ObjectId::of(&bytes));
    fs::write(newest.with_file_name(next), &bytes).unwrap();
    let before = files_beneath(&world.repository());
    let ran = world.run(&["repair", "heads", "--set-back"]);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
    assert!(ran.err.contains("newer"), "{}", ran.err);
    assert_eq!(files_beneath(&world.repository()), before);
}

#[test]
fn it_waits_for_who_writes() {
    let (world, _) = world();
    flip(&heads(&world).pop().unwrap());
    let lock = fs::File::open(world.repository().join("lock/writer")).unwrap();
    lock.lock().unwrap();
    let ran = world.run(&["repair", "heads", "--set-back"]);
    assert_eq!(ran.code, Some(11), "{}", ran.err);
}

/// What a planted file next to the newest head hides from writers is put out of the way.
#[test]
fn a_planted_file_of_the_newest_generation_is_set_aside() {
    let (world, ids) = world();
    let newest = heads(&world).pop().unwrap();
    let planted = newest.with_file_name(format!("{:016x}-{}", 4, "f".repeat(64)));
    fs::write(&planted, b"junk").unwrap();
    assert_eq!(world.run(&["backup", "tree"]).code, Some(17));
    world.ok(&["repair", "heads", "--set-back"]);
    assert!(newest.exists() && !planted.exists());
    all_is_well(&world, &ids[2]);
    world.backup();
}

#[test]
fn while_a_mirror_does_not_answer_nothing_is_set_back() {
    let (world, ids) = mirrored();
    let newest = heads(&world).pop().unwrap();
    flip(&newest);
    fs::rename(world.path("mirror"), world.path("away")).unwrap();
    let ran = world.run(&["repair", "heads", "--set-back"]);
    assert_eq!(ran.code, Some(1), "{}\n{}", ran.out, ran.err);
    assert!(ran.err.contains("offsite did not answer") && newest.exists(), "{}", ran.err);
    fs::rename(world.path("away"), world.path("mirror")).unwrap();
    world.ok(&["repair", "heads", "--set-back"]);
    all_is_well(&world, &ids[2]);
}

/// Set back, and written to since: the head that a mirror has belongs to another history.
#[test]
fn a_head_of_another_history_is_not_put_over_what_is_here() {
    let (world, _) = mirrored();
    let newest = heads(&world).pop().unwrap();
    let saved = fs::read(&newest).unwrap();
    fs::remove_file(&newest).unwrap();
    // Another machine, which has seen nothing, writes to what was set back.
    let elsewhere = world.path("elsewhere");
    for _ in 0..2 {
        let mut command = world.command(&["backup", "--no-cache", "tree"]);
        let ran = command.env("HOME", &elsewhere).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }
    let here = heads(&world);
    assert_eq!(here.len(), 5, "generations 1 to 3, and another 4 and 5");
    for words in [&["repair", "heads"][..], &["repair", "heads", "--set-back"]] {
        let ran = world.run(words);
        assert_eq!(ran.code, Some(16), "{}\n{}", ran.out, ran.err);
        assert_eq!(heads(&world), here);
    }
    // Nor when the newest one here is damaged as well.
    let last = heads(&world).pop().unwrap();
    flip(&last);
    let ran = world.run(&["repair", "heads"]);
    assert_eq!(ran.code, Some(16), "{}\n{}", ran.out, ran.err);
    assert_ne!(fs::read(newest.parent().unwrap().join(newest.file_name().unwrap())).ok(), Some(saved));
}

/// A copy that was brought back beside the repository: the memory of the repository itself stays what it is.
#[test]
fn a_copy_beside_the_repository_is_set_back_without_its_memory() {
    let (world, _) = with_mirror(world_with_checkpoint());
    let copy = world.path("copy");
    world.ok(&["recover", "offsite", "--to", world.text(&copy)]);
    let there = files_beneath(&copy.join("heads"));
    fs::remove_file(there.last().unwrap()).unwrap();
    let of_copy = |words: &[&str]| {
        let mut command = world.command(words);
        command.env("PACKSTONE_REPOSITORY", &copy).output().unwrap()
    };
    fs::rename(world.path("mirror"), world.path("away")).unwrap();
    world.ok(&["mirror", "remove", "offsite"]);
    let ran = of_copy(&["repair", "heads", "--set-back"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(of_copy(&["snapshots"]).status.success());
    assert_eq!(ids(&world).len(), 3);
    let newest = heads(&world).pop().unwrap();
    fs::remove_file(newest).unwrap();
    assert_eq!(world.run(&["snapshots"]).code, Some(14), "what was seen of the repository is still known");
}

#[test]
fn where_nothing_was_ever_seen_and_no_head_is_there_nothing_is_called_well() {
    let (world, _) = world();
    fs::remove_dir_all(world.repository().join("heads")).unwrap();
    fs::create_dir(world.repository().join("heads")).unwrap();
    let mut command = world.command(&["repair", "heads"]);
    let ran = command.env("HOME", world.path("elsewhere")).output().unwrap();
    assert_eq!(ran.status.code(), Some(17));
}
