//! What is this program's own is its owner's alone, and usable by him, whatever the umask was when it was made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::Ran;
use super::support::{World, files_beneath};

/// A user that is not root.
const NOBODY: u32 = 65_534;

/// Gives everything in a world to him.
fn give(world: &World) {
    let owner = format!("{NOBODY}:{NOBODY}");
    assert!(Command::new("chown").args(["-R", &owner]).arg(world.path("")).status().unwrap().success());
}

fn run(world: &World, umask: &str, words: &[&str]) -> Ran {
    let program = world.command(words);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]).arg(program.get_program()).args(words);
    command.env_clear().current_dir(world.path("")).uid(NOBODY).gid(NOBODY);
    for (name, value) in program.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        command.env(name, value);
    }
    command.output().unwrap().into()
}

/// Every entry beneath a place, and the place itself, with its mode.
fn modes(place: &Path) -> Vec<(String, bool, u32)> {
    let metadata = fs::symlink_metadata(place).unwrap();
    let mut found = vec![(place.display().to_string(), metadata.is_dir(), metadata.permissions().mode() & 0o777)];
    if metadata.is_dir() {
        for entry in fs::read_dir(place).unwrap().flatten() {
            found.extend(modes(&entry.path()));
        }
    }
    found
}

fn live(umask: &str) {
    let world = World::new();
    world.write("a", "content".repeat(1000));
    world.write("below/b", "other");
    give(&world);
    let [key, second, mirror, recovered] =
        ["key", "second", "mirror", "up/above/recovered"].map(|name| world.path(name));
    let ok = |words: &[&str]| {
        let ran = run(&world, umask, words);
        assert_eq!(ran.code, Some(0), "umask {umask}: {words:?}\n{}\n{}", ran.out, ran.err);
        ran
    };
    let ran = run(&world, umask, &["--key-file", "none", "init", "--new-key-file", world.text(&key)]);
    assert_eq!(ran.code, Some(0), "umask {umask}: {}", ran.err);
    for words in [
        &["backup", "tree"][..],
        &["mirror", "add", "m", world.text(&mirror)],
        &["mirror", "list"],
        &["sync"],
        &["drill", "m", "--to", "drills/here"],
        &["restore", "latest", "--target", "to/be/made"],
        &["restore", "latest", "--target", "to/be/made", "--verify"],
        &["dump", "--archive", "tar", "latest", "/tree", "--target", "archive.tar"],
        &["key", "add", "--new-key-file", world.text(&second)],
        &["key", "kit", "--output", "kit.txt"],
        &["backup", "--force", "tree"],
        &["forget", "--keep-last", "1", "--prune"],
        &["prune"],
        &["sync"],
        &["status"],
        &["--key-file", world.text(&second), "check", "--read-data"],
        &["check", "--mirror", "m", "--read-data"],
        &["recover", world.text(&mirror), "--to", world.text(&recovered)],
        &["repair", "index"],
    ] {
        ok(words);
    }
    // A damaged object goes to quarantine and is healed from the mirror.
    let packs = files_beneath(&world.repository().join("packs"));
    fs::write(&packs[0], "damage").unwrap();
    ok(&["repair", "objects"]);
    assert!(world.repository().join("quarantine").is_dir());
    ok(&["check", "--read-data"]);
    ok(&["mirror", "list"]);

    let objects = ["keys", "packs", "index", "snapshots", "heads", "quarantine", "config"];
    for repository in [&world.repository(), &mirror, &recovered] {
        for (path, is_directory, mode) in modes(repository) {
            let beneath = Path::new(&path).strip_prefix(repository).unwrap();
            let is_object =
                beneath.components().next().is_some_and(|first| objects.iter().any(|name| first.as_os_str() == *name));
            let expected = if is_directory {
                0o700
            } else if is_object {
                0o400
            } else {
                0o600
            };
            assert_eq!(mode, expected, "umask {umask}: {path}");
        }
    }
    for place in ["home/.local", "home/.cache"] {
        for (path, is_directory, mode) in modes(&world.path(place)) {
            assert_eq!(mode, if is_directory { 0o700 } else { 0o600 }, "umask {umask}: {path}");
        }
    }
    for file in [&key, &second, &world.path("kit.txt")] {
        assert_eq!(
            fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600,
            "umask {umask}: {}",
            file.display()
        );
    }
    let expected = 0o755 & !u32::from_str_radix(umask, 8).unwrap() | 0o700;
    for made in ["to", "to/be", "drills", "drills/here"] {
        let mode = fs::metadata(world.path(made)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, expected, "umask {umask}: {made}");
    }
    assert_eq!(fs::read_to_string(world.path("to/be/made/tree/below/b")).unwrap(), "other");
}

/// Story: `umask 0177; packstone mirror add` made a directory of mirrors that nobody could enter.
#[test]
fn a_whole_life_under_each_umask() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED umask::a_whole_life_under_each_umask: needs root, to become an ordinary user");
        return;
    }
    for umask in ["0022", "0177", "0777", "0000"] {
        live(umask);
    }
}
