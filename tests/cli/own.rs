//! What is packstone's own: never part of a backup, never a target, never removed; and what is another's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::Ran;
use super::reading::{json, lines};
use super::support::{World, files_beneath};

/// Everything below one home, as people have it: the default repository, its cache and memory, and a mirror on a disk that is
/// mounted there.
struct Home {
    world: World,
}

impl Home {
    fn new() -> Self {
        let home = Self { world: World::new() };
        fs::create_dir_all(home.path("Documents")).unwrap();
        fs::create_dir_all(home.path("disk")).unwrap();
        fs::write(home.path("Documents/letter"), "dear reader\n".repeat(5_000)).unwrap();
        home.ok(&["init", "--new-key-file", home.world.text(&home.world.key())]);
        home.ok(&["mirror", "add", "offsite", home.text("disk/mirror").as_str()]);
        home
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.world.path("home").join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn run(&self, words: &[&str]) -> Ran {
        let mut command = self.world.bare(words);
        command.env_remove("PACKSTONE_REPOSITORY").env("PACKSTONE_KEY_FILE", self.world.key());
        command.current_dir(self.path("")).output().unwrap().into()
    }

    fn ok(&self, words: &[&str]) -> Ran {
        let ran = self.run(words);
        assert_eq!(ran.code, Some(0), "{words:?}\n{}\n{}", ran.out, ran.err);
        ran
    }

    fn refused(&self, words: &[&str], with: &str) {
        let ran = self.run(words);
        assert_eq!(ran.code, Some(1), "{words:?}\n{}\n{}", ran.out, ran.err);
        assert!(ran.err.contains(with), "{words:?}\n{}", ran.err);
    }
}

const REPOSITORY: &str = ".local/share/packstone/main";

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// What lies in a place: names and bytes.
fn content(place: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    files_beneath(place).into_iter().map(|file| (file.clone(), fs::read(&file).unwrap())).collect()
}

/// Story: the README's own commands, again and again. The mirror was backed up into the repository, and the repository copied to the
/// mirror: 7, 12, 17, 22 MB. Promised now: what is own is left out, and nothing grows.
#[test]
fn a_home_with_its_mirror_does_not_grow() {
    let home = Home::new();
    // Copies that other tools made grow in the same way.
    let place = home.text("");
    let mut sizes = Vec::new();
    for round in 0..3 {
        let ran = home.ok(&["backup", "--json", &place]);
        let summary = lines(&ran.out).pop().unwrap();
        let copies = if round == 0 { 0 } else { 2 };
        assert!(summary["own_count"].as_u64().unwrap() >= 3 + copies, "{summary}");
        let own = summary["own"].as_array().unwrap();
        assert!(own.iter().any(|path| path.as_str().unwrap().ends_with("disk/mirror")), "{summary}");
        home.ok(&["sync"]);
        if round == 0 {
            copy(&home.path(REPOSITORY), &home.path("Documents/copied"));
            copy(&home.path("disk/mirror"), &home.path("disk/mirror-2"));
        }
        let listed = home.ok(&["ls", "latest", "--recursive"]).out;
        assert!(!listed.contains("/packs/") && listed.contains("Documents/letter"), "{listed}");
        sizes.push(files_beneath(&home.path(REPOSITORY).join("packs")).len());
    }
    let bytes: u64 =
        files_beneath(&home.path(REPOSITORY).join("packs")).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(bytes < 1 << 20, "{bytes} bytes in {sizes:?} packs");
    let ran = home.ok(&["backup", &place]);
    assert!(ran.out.contains("Left out, packstone's own: "), "{}", ran.out);
    assert!(ran.out.contains(&home.text("Documents/copied")), "{}", ran.out);
    // Nor does a comparison with live files show them.
    let ran = home.ok(&["diff", &format!("latest:{}", place.trim_end_matches('/')), &place]);
    assert!(!ran.out.contains("/packs/") && !ran.out.contains("mirror"), "{}", ran.out);
}

#[test]
fn sources_that_are_own_are_left_out_aloud() {
    let home = Home::new();
    symlink(home.path(REPOSITORY), home.path("link")).unwrap();
    let keys = home.text(&format!("{REPOSITORY}/keys"));
    for sources in [
        &[home.text(REPOSITORY)][..],
        std::slice::from_ref(&keys),
        &[home.text("link/keys")],
        &[home.text("disk/mirror"), home.text(".local/state/packstone/mirrors")],
        &[format!("{REPOSITORY}/heads")],
    ] {
        let words: Vec<&str> = ["backup"].into_iter().chain(sources.iter().map(String::as_str)).collect();
        home.refused(&words, "nothing to back up");
        assert_eq!(json(&home.ok(&["snapshots", "--json"])), serde_json::json!([]), "{sources:?}");
    }
    let ran = home.ok(&["backup", &keys, &home.text("Documents")]);
    assert!(ran.err.contains("! ") && ran.err.contains("it is left out"), "{}", ran.err);
    let listed = home.ok(&["ls", "latest", "--recursive"]).out;
    assert!(listed.contains("/letter") && !listed.lines().skip(1).any(|line| line.contains("keys")), "{listed}");
    // A link to it is a link.
    home.ok(&["backup", &home.text("link")]);
    assert!(home.ok(&["ls", "latest", "--recursive"]).out.contains("link"));
}

/// Story: `restore --target repository/keys --delete` said "1 deleted" and exit 0, and nothing opened any more.
#[test]
fn nothing_is_written_into_what_is_own() {
    let home = Home::new();
    home.ok(&["backup", &home.text("Documents")]);
    home.ok(&["sync"]);
    symlink(home.path(REPOSITORY).join("keys"), home.path("link")).unwrap();
    let places = [REPOSITORY, "disk/mirror", ".local/state/packstone", ".cache/packstone"];
    let before: Vec<_> = places[..2].iter().map(|place| content(&home.path(place))).collect();
    let part = format!("latest:{}", home.text("Documents"));
    let mut targets = vec!["link".to_owned(), "link/new".to_owned(), ".config/packstone/new".to_owned()];
    for place in places {
        targets.extend(["", "/keys", "/packs/new", "/a/b/c"].map(|inner| format!("{place}{inner}")));
    }
    fs::create_dir_all(home.path(".config/packstone")).unwrap();
    for target in &targets {
        let to = home.text(target);
        for more in [&[][..], &["--delete"], &["--delete", "--dry-run"]] {
            let words: Vec<&str> =
                ["restore", &part, "--target", &to].into_iter().chain(more.iter().copied()).collect();
            home.refused(&words, "packstone's own");
        }
        let file = format!("{to}/file");
        home.refused(&["dump", "latest", &home.text("Documents/letter"), "--target", &file], "packstone's own");
        home.refused(&["drill", "--to", &to], "packstone's own");
        if !target.starts_with(".config") {
            home.refused(&["key", "add", "--new-key-file", &file], "packstone's own");
            home.refused(&["key", "kit", "--output", &file], "packstone's own");
        }
        let inner = format!("{to}/within");
        home.refused(&["recover", &home.text("disk/mirror"), "--to", &inner], "packstone's own");
        // To a command on another repository this one is another's.
        home.refused(&["--repo", &inner, "init"], "nothing of yours is written into it");
        if !target.starts_with(REPOSITORY) && !target.starts_with("link") {
            home.refused(&["mirror", "add", "second", &inner], "packstone's own");
        }
    }
    // A target that is named by way of something that does not exist yet.
    home.refused(&["restore", &part, "--target", &home.text(&format!("none/../{REPOSITORY}/keys"))], "packstone's own");
    fs::remove_dir(home.path("none")).ok();
    let after: Vec<_> = places[..2].iter().map(|place| content(&home.path(place))).collect();
    assert!(before == after);
    home.ok(&["check", "--read-data"]);
    // Where a key may lie, and a mirror that is added again.
    home.ok(&["key", "add", "--new-key-file", &home.text(".config/packstone/key")]);
    home.ok(&["mirror", "remove", "offsite"]);
    home.ok(&["mirror", "add", "again", &home.text("disk/mirror")]);
}

/// In place, with `--delete`, over everything of ours and of somebody else's.
#[test]
fn delete_leaves_what_is_own_and_what_is_anothers() {
    let home = Home::new();
    home.ok(&["backup", &home.text("Documents")]);
    home.ok(&["sync"]);
    let other = home.text("Documents/extra/other");
    let key = home.world.text(&home.world.path("other-key")).to_owned();
    home.ok(&["--repo", &other, "--key-file", &key, "init", "--new-key-file", &key]);
    copy(&home.path(REPOSITORY), &home.path("Documents/copied"));
    fs::rename(home.path("disk/mirror"), home.path("Documents/moved")).unwrap();
    symlink(home.path("Documents/moved"), home.path("disk/mirror")).unwrap();
    fs::create_dir_all(home.path("Documents/more/and/more")).unwrap();
    fs::write(home.path("Documents/extra/file"), "beside a repository").unwrap();
    let before = content(&home.path("Documents"));
    let part = format!("latest:{}", home.text("Documents"));
    let words = ["restore", &part, "--target", &home.text("Documents"), "--delete"];
    let dry = home.ok(&[&words[..], &["--dry-run"]].concat());
    let named: Vec<&str> = dry.out.lines().filter(|line| line.starts_with("deleted ")).collect();
    assert_eq!(named, ["deleted   /more", "deleted   /more/and", "deleted   /more/and/more"], "{}", dry.out);
    let ran = home.ok(&[&words[..], &["-v"]].concat());
    assert!(ran.out.contains("3 deleted"), "{}", ran.out);
    assert!(ran.err.contains("/copied is not removed: it is, or holds, packstone's own"), "{}", ran.err);
    assert!(ran.err.contains("/extra is not removed: it is, or holds, the packstone repository "), "{}", ran.err);
    assert!(content(&home.path("Documents")) == before);
    assert!(!home.path("Documents/more").exists());
    home.ok(&["--repo", &other, "--key-file", &key, "check"]);
    // It is data: a backup takes it, without what it is beside it.
    home.ok(&["backup", &home.text("Documents")]);
    let listed = home.ok(&["ls", "latest", "--recursive"]).out;
    assert!(
        listed.contains("extra/other/config") && !listed.contains("copied") && !listed.contains("moved"),
        "{listed}"
    );
    // And nothing of it comes back over a repository that is there.
    let ran = home.run(&words);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("/extra/other: is the packstone repository "), "{}", ran.err);
    home.ok(&["restore", &part, "--target", &home.text("elsewhere")]);
    assert!(home.path("elsewhere/extra/other/config").exists());
}

/// A list of mirrors that cannot be read names none; what it named must not go for that.
#[test]
fn nothing_is_deleted_while_a_place_is_unknown() {
    let home = Home::new();
    home.ok(&["backup", &home.text("Documents")]);
    let books = home.path(".local/state/packstone/mirrors");
    let book =
        files_beneath(&books).into_iter().find(|file| file.extension().is_some_and(|end| end == "sqlite")).unwrap();
    for file in files_beneath(&books) {
        fs::write(file, "no list of mirrors".repeat(100)).unwrap();
    }
    let part = format!("latest:{}", home.text("Documents"));
    home.refused(&["restore", &part, "--target", &home.text("Documents"), "--delete"], "nothing is removed");
    let ran = home.ok(&["restore", &part, "--target", &home.text("Documents")]);
    assert!(ran.err.contains("where the mirrors lie cannot be determined"), "{}", ran.err);
    let ran = home.ok(&["backup", &home.text("Documents")]);
    assert!(ran.err.contains("may become part of this backup"), "{}", ran.err);
    fs::remove_file(book).unwrap();
    for file in files_beneath(&books) {
        fs::remove_file(file).unwrap();
    }
    home.ok(&["mirror", "add", "usb", &home.text("disk/usb")]);
    fs::rename(home.path("disk/usb"), home.path("unplugged")).unwrap();
    let ran = home.ok(&["restore", &part, "--target", &home.text("Documents"), "--delete"]);
    assert!(ran.out.contains("mirror usb at ") && ran.out.contains("is not there now"), "{}", ran.out);
}

/// A directory that was named for caches may be anybody's; the folders of repositories in it are ours.
#[test]
fn a_directory_that_holds_caches_is_not_lost_from_a_backup() {
    let home = Home::new();
    let cache = home.text("Documents");
    home.ok(&["backup", "--cache-dir", &cache, &cache]);
    let ran = home.ok(&["backup", "--cache-dir", &cache, &cache]);
    assert!(ran.out.contains("Left out, packstone's own: "), "{}", ran.out);
    let listed = home.ok(&["ls", "latest", "--recursive"]).out;
    assert!(listed.contains("Documents/letter") && !listed.contains("index.redb"), "{listed}");
    let part = format!("latest:{cache}");
    home.ok(&["restore", &part, "--target", &cache, "--delete", "--cache-dir", &cache]);
    assert!(files_beneath(&home.path("Documents")).iter().any(|file| file.ends_with("index.redb")));
}
