//! Copies elsewhere, and what comes back from them.

use std::fs;

use super::super::reading::{flip, json, objects};
use super::super::support::{World, files_beneath};
use super::{Page, backup, hold, mirrored, two};

/// The state code of the mirror.
fn code(world: &World) -> String {
    json(&world.ok(&["sync", "--json"]))["state_code"].as_str().unwrap().to_owned()
}

/// The mirror shows what it showed before its newest state.
fn set_back(world: &World) {
    super::set_back(world, "mirror", || {
        backup(world, 3, &[]);
        world.ok(&["sync"]);
    });
}

#[test]
fn mirror_add() {
    let mut page = Page::new("mirror-add");
    let (world, _) = two();
    let add = |more: &[&'static str]| -> Vec<&'static str> { [&["mirror", "add"], more].concat() };
    page.forms(&world, &add(&["offsite", "mirror", "--dry-run"]));
    page.run(&world, &add(&["offsite", "mirror"]));
    page.run(&world, &add(&["second", "mirror-2", "--json"]));
    page.run(&world, &add(&["third", "mirror-3", "--quiet"]));
    page.run(&world, &add(&["fourth", "mirror-4", "-v"]));
    page.run(&world, &add(&["fifth", "mirror-5", "--no-probe"]));
    page.title("Failing");
    page.run(&world, &add(&[]));
    page.run(&world, &add(&["offsite", "elsewhere"]));
    page.run(&world, &add(&["offsite", "elsewhere", "--json"]));
    page.run(&world, &add(&["twice", "mirror"]));
    page.run(&world, &add(&["no name", "elsewhere"]));
    page.run(&world, &add(&["x", "nfs://host/x"]));
    page.run(&world, &add(&["x", "s3://bucket", "-o", "regoin=x"]));
    page.run(&world, &add(&["x", "s3://bucket?secret_access_key=x"]));
    page.run(&world, &add(&["x", "no/such/place"]));
    page.run(&world, &add(&["x", "repository"]));
    page.run(&world, &add(&["x", "key"]));
    page.no_repository(&world, &add(&["x", "elsewhere"]));
    page.end();
}

#[test]
fn mirror_list() {
    let mut page = Page::new("mirror-list");
    let (world, _) = two();
    page.forms(&world, &["mirror", "list"]);
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    page.forms(&world, &["mirror", "list"]);
    world.ok(&["sync"]);
    world.ok(&["mirror", "add", "second", "mirror-2"]);
    page.forms(&world, &["mirror", "list"]);
    page.run(&world, &["mirror", "status"]);
    backup(&world, 3, &[]);
    page.forms(&world, &["mirror", "list"]);
    world.ok(&["sync", "offsite"]);
    world.ok(&["check", "--mirror", "offsite", "--read-data"]);
    page.forms(&world, &["mirror", "list"]);
    page.title("Failing");
    page.run(&world, &["mirror", "list", "more"]);
    page.no_repository(&world, &["mirror", "list"]);
    page.end();
}

#[test]
fn mirror_remove() {
    let mut page = Page::new("mirror-remove");
    let (world, _) = mirrored();
    page.forms(&world, &["mirror", "remove", "offsite", "--dry-run"]);
    page.run(&world, &["mirror", "remove", "offsite"]);
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    page.run(&world, &["mirror", "remove", "offsite", "--json"]);
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    page.run(&world, &["mirror", "remove", "offsite", "--quiet"]);
    page.title("Failing");
    page.run(&world, &["mirror", "remove"]);
    page.run(&world, &["mirror", "remove", "offsite"]);
    page.run(&world, &["mirror", "remove", "offsite", "--json"]);
    page.no_repository(&world, &["mirror", "remove", "offsite"]);
    page.end();
}

#[test]
fn mirror_accept() {
    let mut page = Page::new("mirror-accept");
    let (world, _) = mirrored();
    let now = code(&world);
    page.run(&world, &["mirror", "accept", "offsite", "--head", &now]);
    set_back(&world);
    page.run(&world, &["sync"]);
    page.forms(&world, &["mirror", "accept", "offsite", "--head", &now, "--dry-run"]);
    page.run(&world, &["mirror", "accept", "offsite", "--head", "none"]);
    page.run(&world, &["mirror", "accept", "offsite", "--head", "nonsense"]);
    page.run(&world, &["mirror", "accept", "offsite", "--head", &now]);
    page.run(&world, &["mirror", "accept", "offsite"]);
    page.run(&world, &["mirror", "accept", "nobody", "--head", &now]);
    page.run(&world, &["sync"]);
    set_back(&world);
    page.run(&world, &["mirror", "accept", "offsite", "--head", &now, "--json"]);
    page.no_repository(&world, &["mirror", "accept", "offsite", "--head", &now]);
    page.end();
}

#[test]
fn sync() {
    let mut page = Page::new("sync");
    let (world, [first, _]) = two();
    page.run(&world, &["sync"]);
    page.run(&world, &["sync", "--json"]);
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    page.forms(&world, &["sync", "--dry-run"]);
    page.run(&world, &["sync"]);
    page.forms(&world, &["sync", "offsite"]);
    backup(&world, 3, &[]);
    page.run(&world, &["sync", "--json", "--sample", "100"]);
    backup(&world, 4, &[]);
    page.run(&world, &["sync", "-v"]);
    backup(&world, 5, &[]);
    page.run(&world, &["sync", "--quiet"]);
    page.title("What was pruned is deleted");
    world.ok(&["forget", &first, "--prune", "--instant", "--max-unused", "0"]);
    page.run(&world, &["sync", "--no-delete"]);
    page.run(&world, &["sync"]);
    page.run(&world, &["sync", "--grace", "0", "--max-delete", "1"]);
    page.run(&world, &["sync", "--grace", "0", "--max-delete", "1", "--json"]);
    page.run(&world, &["sync", "--grace", "0", "--max-delete", "100", "--dry-run"]);
    page.run(&world, &["sync", "--grace", "0", "--max-delete", "100"]);
    page.title("Two of them, one of which is not there");
    world.ok(&["mirror", "add", "second", "mirror-2"]);
    page.run(&world, &["sync", "second"]);
    backup(&world, 6, &[]);
    fs::rename(world.path("mirror-2"), world.path("away")).unwrap();
    page.run(&world, &["sync"]);
    page.run(&world, &["sync", "--json"]);
    fs::rename(world.path("away"), world.path("mirror-2")).unwrap();
    world.ok(&["sync"]);
    world.ok(&["mirror", "remove", "second"]);
    page.title("Failing");
    page.run(&world, &["sync", "nobody"]);
    page.run(&world, &["sync", "nobody", "--json"]);
    page.run(&world, &["sync", "--max-delete", "101"]);
    page.run(&world, &["sync", "--limit-upload", "fast"]);
    page.run(&world, &["sync", "--no-delete", "--grace", "0"]);
    page.run(&world, &["sync", "--connections", "0"]);
    page.no_repository(&world, &["sync"]);
    let locks = files_beneath(&world.path("home/.local/state"));
    let held = hold(locks.iter().find(|lock| lock.to_str().unwrap().ends_with("-offsite.lock")).unwrap());
    page.run(&world, &["sync"]);
    page.run(&world, &["sync", "--json"]);
    drop(held);
    page.title("The mirror is older than it was");
    set_back(&world);
    page.run(&world, &["sync"]);
    page.run(&world, &["sync", "--json"]);
    page.title("The repository is older than the mirror, and this machine knows nothing of it");
    let (world, _) = mirrored();
    super::set_back(&world, "repository", || {
        backup(&world, 3, &[]);
        world.ok(&["sync"]);
    });
    fs::remove_dir_all(world.path("home")).unwrap();
    fs::create_dir(world.path("home")).unwrap();
    world.run(&["mirror", "add", "offsite", "mirror"]);
    page.run(&world, &["sync"]);
    page.run(&world, &["sync", "--json"]);
    page.title("Now both have gone on, each by itself");
    backup(&world, 4, &[]);
    page.run(&world, &["sync"]);
    page.run(&world, &["sync", "--json"]);
    page.run(&world, &["status"]);
    page.title("A check has found damage");
    let (world, _) = mirrored();
    let pack = objects(&world, "packs").remove(0);
    flip(&pack, &[60]);
    world.run(&["check", "--read-data"]);
    page.run(&world, &["sync"]);
    page.run(&world, &["sync", "--json"]);
    page.run(&world, &["sync", "--force"]);
    page.run(&world, &["sync", "--force", "--json"]);
    page.title("Something else lies there");
    let (world, _) = two();
    fs::create_dir(world.path("photos")).unwrap();
    fs::write(world.path("photos/beach.jpg"), "sea").unwrap();
    world.ok(&["mirror", "add", "--no-probe", "photos", "photos"]);
    page.run(&world, &["sync", "photos"]);
    page.run(&world, &["sync", "photos", "--json"]);
    page.end();
}

#[test]
fn recover() {
    let mut page = Page::new("recover");
    let (world, _) = mirrored();
    let code = code(&world);
    page.run(&world, &["recover", "./mirror"]);
    page.forms(&world, &["recover", "./mirror", "--to", "back", "--dry-run"]);
    page.run(&world, &["recover", "./mirror", "--to", "back"]);
    page.run(&world, &["recover", "./mirror", "--to", "back"]);
    page.run(&world, &["recover", "./mirror", "--to", "back-2", "--json"]);
    page.run(&world, &["recover", "./mirror", "--to", "back-3", "--quiet"]);
    page.run(&world, &["recover", "./mirror", "--to", "back-4", "--expect-head", &code]);
    page.run(&world, &["recover", "offsite", "--to", "back-5", "--head", &code]);
    page.title("Nothing is left of the machine");
    fs::rename(world.path("repository"), world.path("lost")).unwrap();
    fs::rename(world.path("home"), world.path("home-lost")).unwrap();
    fs::create_dir(world.path("home")).unwrap();
    page.run(&world, &["recover", "./mirror", "-v"]);
    fs::remove_dir_all(world.path("home")).unwrap();
    fs::remove_dir_all(world.path("repository")).unwrap();
    fs::rename(world.path("home-lost"), world.path("home")).unwrap();
    fs::rename(world.path("lost"), world.path("repository")).unwrap();
    page.title("Failing");
    fs::create_dir(world.path("full")).unwrap();
    fs::write(world.path("full/beach.jpg"), "sea").unwrap();
    page.run(&world, &["recover"]);
    page.run(&world, &["recover", "mirror"]);
    page.run(&world, &["recover", "nobody", "--to", "no"]);
    page.run(&world, &["recover", "nobody", "--to", "no", "--json"]);
    page.run(&world, &["recover", "./absent", "--to", "no"]);
    page.run(&world, &["recover", "./mirror", "--to", "full"]);
    page.run(&world, &["recover", "./mirror", "--to", "other"]);
    page.run(&world, &["recover", "./mirror", "--to", "no", "--head", "nonsense"]);
    page.run(&world, &["recover", "./mirror", "--to", "no", "--key-file", "other-key"]);
    page.run(&world, &["recover", "./mirror", "--to", "no", "--key-file", "other-key", "--json"]);
    page.bare(&world, &["recover", "./mirror", "--to", "no"]);
    page.title("The mirror lacks something");
    let (data, _) = packs(&world, "mirror");
    fs::remove_file(data).unwrap();
    page.run(&world, &["recover", "./mirror", "--to", "part"]);
    page.run(&world, &["recover", "./mirror", "--to", "part-2", "--json"]);
    page.title("The mirror is older than it was");
    let (world, _) = mirrored();
    set_back(&world);
    page.run(&world, &["recover", "offsite", "--to", "old"]);
    page.run(&world, &["recover", "./mirror", "--to", "old-2", "--json"]);
    page.end();
}

/// A pack of contents, and one of listings.
fn packs(world: &World, of: &str) -> (std::path::PathBuf, std::path::PathBuf) {
    let all = files_beneath(&world.path(of).join("packs"));
    let kind = |pack: &std::path::PathBuf, kind: &str| {
        let id = pack.file_name().unwrap().to_str().unwrap();
        json(&world.ok(&["cat", "pack", id, "--json"]))["kind"] == kind
    };
    let of_kind = |name: &str| all.iter().find(|pack| kind(pack, name)).unwrap().clone();
    (of_kind("data"), of_kind("tree"))
}

#[test]
fn drill() {
    let mut page = Page::new("drill");
    let (world, _) = mirrored();
    page.run(&world, &["drill", "--to", "drills"]);
    page.run(&world, &["drill", "--to", "drills", "--json"]);
    page.run(&world, &["drill", "offsite", "--to", "drills", "--quiet"]);
    page.run(&world, &["drill", "offsite", "--to", "drills", "-v"]);
    page.run(&world, &["drill", "offsite", "--to", "drills", "--sample", "50", "--seed", "7"]);
    page.run(&world, &["drill", "offsite", "--to", "drills", "--path", "tree/letters", "--json"]);
    page.run(&world, &["drill", "offsite", "--to", "drills", "--check-command", "true"]);
    page.run(&world, &["drill", "offsite", "--to", "drills", "--check-command", "false"]);
    page.run(&world, &["drill", "offsite", "--to", "drills", "--check-command", "false", "--json"]);
    page.title("Failing");
    page.run(&world, &["drill", "nobody", "--to", "drills"]);
    page.run(&world, &["drill", "nobody", "--to", "drills", "--json"]);
    page.run(&world, &["drill", "--all", "offsite", "--to", "drills"]);
    page.run(&world, &["drill", "--snapshot", "0000", "--to", "drills"]);
    page.run(&world, &["drill", "--path", "absent", "--to", "drills"]);
    page.run(&world, &["drill", "--sample", "0", "--to", "drills"]);
    page.run(&world, &["drill", "--to", "drills", "--key-file", "other-key"]);
    page.run(&world, &["drill", "--to", "drills", "--key-file", "other-key", "--json"]);
    page.bare(&world, &["drill", "--to", "drills"]);
    page.run(&world, &["drill", "-r", "other", "--key-file", "other-key", "--to", "drills"]);
    page.no_repository(&world, &["drill", "--to", "drills"]);
    page.title("The mirror lacks something");
    let (data, _) = packs(&world, "mirror");
    fs::remove_file(data).unwrap();
    page.run(&world, &["drill", "--to", "drills"]);
    page.run(&world, &["drill", "--to", "drills", "--json"]);
    page.title("The mirror is older than it was");
    let (world, _) = mirrored();
    set_back(&world);
    page.run(&world, &["drill", "--to", "drills"]);
    page.run(&world, &["drill", "--to", "drills", "--json"]);
    page.end();
}

#[test]
fn drill_history() {
    let mut page = Page::new("drill-history");
    let (world, _) = mirrored();
    page.forms(&world, &["drill", "history"]);
    world.ok(&["drill", "--to", "drills"]);
    world.ok(&["drill", "--to", "drills", "--sample", "50", "--seed", "7"]);
    assert_eq!(world.run(&["drill", "--to", "drills", "--check-command", "false"]).code, Some(19));
    page.forms(&world, &["drill", "history"]);
    page.forms(&world, &["drill", "history", "offsite", "--last", "1"]);
    page.title("Failing");
    page.run(&world, &["drill", "history", "nobody"]);
    page.run(&world, &["drill", "history", "nobody", "--json"]);
    page.run(&world, &["drill", "history", "--last", "none"]);
    page.no_repository(&world, &["drill", "history"]);
    page.end();
}
