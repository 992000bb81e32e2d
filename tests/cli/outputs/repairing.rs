//! Damage, and what is done about it.

use std::fs;
use std::path::PathBuf;

use super::super::reading::{flip, json, objects, spoil_packs, spoil_snapshot};
use super::super::support::{World, files_beneath};
use super::{Page, mirrored, one, two};

/// The one pack of its kind that the first snapshot needs.
fn pack(world: &World, kind: &str) -> PathBuf {
    let of_kind = |pack: &PathBuf| {
        let id = pack.file_name().unwrap().to_str().unwrap();
        let listed = world.ok(&["check", "--list", id]).out;
        json(&world.ok(&["cat", "pack", id, "--json"]))["kind"] == kind && listed.contains("two.txt")
    };
    objects(world, "packs").into_iter().find(of_kind).unwrap()
}

fn id(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn check() {
    let mut page = Page::new("check");
    let (world, first) = mirrored();
    page.forms(&world, &["check"]);
    page.forms(&world, &["check", "--read-data"]);
    page.run(&world, &["check", "--read-data-subset", "1/1", "--with-cache"]);
    page.run(&world, &["check", "--read-data-subset", "100%", "--read-data-seed", "7"]);
    page.forms(&world, &["check", "--mirror", "offsite"]);
    page.forms(&world, &["check", "--mirror", "offsite", "--read-data"]);
    page.run(&world, &["check", "--mirror", "offsite", "--max-age", "30d", "--budget", "1M"]);
    page.forms(&world, &["check", "--list", &id(&pack(&world, "data"))]);
    page.title("Failing");
    page.run(&world, &["check", "--read-data", "--read-data-subset", "1/2"]);
    page.run(&world, &["check", "--read-data-subset", "3/2"]);
    page.run(&world, &["check", "--list", "zz"]);
    page.run(&world, &["check", "--mirror", "nobody"]);
    page.run(&world, &["check", "--mirror", "nobody", "--json"]);
    page.run(&world, &["check", "--budget", "1M"]);
    page.refusals(&world, &["check"]);
    page.title("A stranger lies there");
    fs::write(world.repository().join("snapshots/notes.txt"), "x").unwrap();
    page.run(&world, &["check"]);
    page.title("A pack is damaged");
    let damaged = pack(&world, "data");
    flip(&damaged, &[60]);
    page.forms(&world, &["check", "--read-data"]);
    page.title("A pack is missing");
    fs::remove_file(&damaged).unwrap();
    page.forms(&world, &["check"]);
    page.title("A snapshot is damaged");
    spoil_snapshot(&world, &first);
    page.run(&world, &["check"]);
    page.run(&world, &["check", "--json"]);
    page.title("The mirror lacks something");
    fs::remove_file(files_beneath(&world.path("mirror/snapshots")).remove(0)).unwrap();
    page.forms(&world, &["check", "--mirror", "offsite"]);
    page.title("The config is lost");
    fs::remove_file(world.repository().join("config")).unwrap();
    page.run(&world, &["check"]);
    page.run(&world, &["check", "--json"]);
    page.end();
}

#[test]
fn repair_heads() {
    let mut page = Page::new("repair-heads");
    let (world, _) = mirrored();
    page.forms(&world, &["repair", "heads", "--dry-run"]);
    page.run(&world, &["repair", "heads"]);
    let newest = || files_beneath(&world.repository().join("heads")).pop().unwrap();
    flip(&newest(), &[200]);
    page.title("The newest is damaged");
    page.run(&world, &["snapshots"]);
    page.run(&world, &["snapshots", "--json"]);
    page.run(&world, &["repair", "heads", "nobody"]);
    page.forms(&world, &["repair", "heads", "--dry-run"]);
    page.forms(&world, &["repair", "heads", "--set-back", "--dry-run"]);
    page.bare(&world, &["repair", "heads"]);
    page.title("The newest is missing");
    fs::remove_file(newest()).unwrap();
    page.run(&world, &["repair", "heads", "--dry-run"]);
    page.run(&world, &["repair", "heads", "--json"]);
    fs::remove_file(newest()).unwrap();
    page.run(&world, &["repair", "heads", "--quiet"]);
    page.title("No mirror has it");
    let (world, _) = two();
    let newest = files_beneath(&world.repository().join("heads")).pop().unwrap();
    flip(&newest, &[200]);
    page.run(&world, &["repair", "heads"]);
    page.run(&world, &["repair", "heads", "--json"]);
    page.locked(&world, &["repair", "heads", "--set-back"]);
    page.run(&world, &["repair", "heads", "--set-back"]);
    page.run(&world, &["snapshots"]);
    page.no_repository(&world, &["repair", "heads"]);
    page.end();
}

#[test]
fn repair_index() {
    let mut page = Page::new("repair-index");
    let (world, _) = one();
    page.forms(&world, &["repair", "index", "--dry-run"]);
    page.run(&world, &["repair", "index"]);
    page.run(&world, &["repair", "index", "--json"]);
    page.run(&world, &["repair", "index", "--quiet"]);
    page.run(&world, &["repair", "index", "--read-all-packs", "--read-data"]);
    let lose = || {
        objects(&world, "index").iter().for_each(|segment| fs::remove_file(segment).unwrap());
        fs::remove_dir_all(world.path("home/.cache")).unwrap();
    };
    page.title("The segments are lost");
    lose();
    page.run(&world, &["snapshots"]);
    page.run(&world, &["repair", "index", "--dry-run"]);
    page.locked(&world, &["repair", "index"]);
    page.run(&world, &["repair", "index"]);
    lose();
    page.run(&world, &["repair", "index", "-v"]);
    page.title("A pack is lost");
    let lost = pack(&world, "data");
    fs::remove_file(lost).unwrap();
    page.run(&world, &["repair", "index", "--dry-run"]);
    page.run(&world, &["repair", "index", "--json"]);
    page.run(&world, &["repair", "index"]);
    page.title("Failing");
    page.run(&world, &["repair", "index", "more"]);
    page.run(&world, &["repair", "index", "--read-data"]);
    page.refusals(&world, &["repair", "index"]);
    page.end();
}

#[test]
fn repair_mirror() {
    let mut page = Page::new("repair-mirror");
    let (world, _) = mirrored();
    page.forms(&world, &["repair", "mirror", "offsite", "--dry-run"]);
    page.run(&world, &["repair", "mirror", "offsite"]);
    let damage = || {
        let id = id(&pack(&world, "data"));
        flip(&world.path("mirror/packs").join(&id[..2]).join(&id), &[60]);
    };
    page.title("A pack is damaged there");
    damage();
    page.run(&world, &["check", "--mirror", "offsite", "--read-data"]);
    page.forms(&world, &["repair", "mirror", "offsite", "--dry-run"]);
    page.run(&world, &["repair", "mirror", "offsite"]);
    damage();
    page.run(&world, &["repair", "mirror", "offsite", "--json"]);
    damage();
    page.run(&world, &["repair", "mirror", "offsite", "--quiet"]);
    page.title("A pack is missing there");
    let missing = id(&pack(&world, "data"));
    fs::remove_file(world.path("mirror/packs").join(&missing[..2]).join(&missing)).unwrap();
    page.run(&world, &["repair", "mirror", "offsite"]);
    page.title("The mirror is not there");
    fs::rename(world.path("mirror"), world.path("away")).unwrap();
    page.run(&world, &["repair", "mirror", "offsite"]);
    page.title("Failing");
    page.run(&world, &["repair", "mirror"]);
    page.run(&world, &["repair", "mirror", "nobody"]);
    page.run(&world, &["repair", "mirror", "nobody", "--json"]);
    page.no_repository(&world, &["repair", "mirror", "offsite"]);
    page.end();
}

#[test]
fn repair_objects() {
    let mut page = Page::new("repair-objects");
    let (world, _) = mirrored();
    page.forms(&world, &["repair", "objects", "--dry-run"]);
    page.run(&world, &["repair", "objects"]);
    let damaged = pack(&world, "data");
    page.title("A pack is damaged");
    flip(&damaged, &[60]);
    page.forms(&world, &["repair", "objects", "--dry-run"]);
    page.locked(&world, &["repair", "objects"]);
    page.run(&world, &["repair", "objects"]);
    flip(&damaged, &[60]);
    page.run(&world, &["repair", "objects", "--json"]);
    flip(&damaged, &[60]);
    page.run(&world, &["repair", "objects", "--quiet"]);
    page.title("A pack is missing, and the mirror lacks it");
    let id = id(&damaged);
    fs::remove_file(&damaged).unwrap();
    fs::remove_file(world.path("mirror/packs").join(&id[..2]).join(&id)).unwrap();
    page.run(&world, &["repair", "objects"]);
    page.run(&world, &["repair", "objects", "offsite", "--json"]);
    page.title("Failing");
    page.run(&world, &["repair", "objects", "nobody"]);
    page.run(&world, &["repair", "objects", "nobody", "--json"]);
    page.run(&world, &["repair", "objects", "-r", "other"]);
    page.no_repository(&world, &["repair", "objects"]);
    page.end();
}

#[test]
fn repair_packs() {
    let mut page = Page::new("repair-packs");
    let (world, _) = one();
    page.forms(&world, &["repair", "packs", "--dry-run"]);
    page.run(&world, &["repair", "packs"]);
    let damaged = pack(&world, "data");
    page.title("A pack is damaged");
    flip(&damaged, &[60]);
    page.forms(&world, &["repair", "packs", "--dry-run"]);
    page.run(&world, &["repair", "packs", &id(&damaged)[..8], "--dry-run"]);
    page.locked(&world, &["repair", "packs"]);
    page.run(&world, &["repair", "packs"]);
    page.run(&world, &["repair", "packs"]);
    let (world, _) = one();
    flip(&pack(&world, "data"), &[60]);
    page.run(&world, &["repair", "packs", "--json"]);
    page.title("Failing");
    page.run(&world, &["repair", "packs", "0000"]);
    page.run(&world, &["repair", "packs", "zz", "--json"]);
    page.refusals(&world, &["repair", "packs"]);
    page.end();
}

#[test]
fn repair_snapshots() {
    let mut page = Page::new("repair-snapshots");
    let (world, id) = one();
    page.forms(&world, &["repair", "snapshots", "--dry-run"]);
    page.run(&world, &["repair", "snapshots"]);
    flip(&pack(&world, "data"), &[60]);
    page.title("A pack is damaged");
    page.run(&world, &["repair", "snapshots"]);
    world.run(&["repair", "packs"]);
    page.title("It was put out of the way");
    page.forms(&world, &["repair", "snapshots", "--dry-run"]);
    page.locked(&world, &["repair", "snapshots"]);
    page.run(&world, &["repair", "snapshots", &id]);
    page.run(&world, &["repair", "snapshots", &id, "--json"]);
    page.run(&world, &["repair", "snapshots", "--forget", "--json"]);
    page.run(&world, &["repair", "snapshots", "--forget"]);
    page.run(&world, &["repair", "snapshots", "--forget", "--quiet"]);
    page.title("Failing");
    page.run(&world, &["repair", "snapshots", "0000"]);
    page.run(&world, &["repair", "snapshots", "--tag", "nobody"]);
    page.refusals(&world, &["repair", "snapshots"]);
    page.title("The listings are damaged");
    spoil_packs(&world, "tree");
    page.run(&world, &["repair", "snapshots", "--dry-run"]);
    page.end();
}
