//! Passphrases in files that editors and other systems made.

use std::fs;

use super::Ran;
use super::support::World;

fn run(world: &World, words: &[&str], file: &[u8]) -> Ran {
    fs::write(world.path("passphrase"), file).unwrap();
    let mut command = world.bare(words);
    command.env("PACKSTONE_PASSWORD_FILE", world.path("passphrase")).output().unwrap().into()
}

/// Story: a file with CRLF, a byte order mark or an empty line behind it made a repository that its passphrase did not open.
#[test]
fn what_an_editor_adds_is_no_part_of_the_passphrase() {
    let world = World::new();
    let ran = run(&world, &["init", "--kdf-memory", "64M"], b"\xef\xbb\xbfBl\xc3\xbcte 7\r\n\r\n");
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    // The same letter as one character and as two; as an editor of another system writes it.
    for file in [&b"Bl\xc3\xbcte 7"[..], b"Blu\xcc\x88te 7\n", b"\xff\xfeB\0l\0\xfc\0t\0e\0 \x007\0\r\0\n\0"] {
        let ran = run(&world, &["snapshots"], file);
        assert_eq!(ran.code, Some(0), "{file:?}\n{}", ran.err);
    }
    let mut typed = world.bare(&["snapshots"]);
    let ran: Ran = typed.env("PACKSTONE_PASSWORD", "Blu\u{308}te 7").output().unwrap().into();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    for file in [&b"Blute 7"[..], b" Bl\xc3\xbcte 7", b"Bl\xc3\xbcte 7 \n"] {
        assert_eq!(run(&world, &["snapshots"], file).code, Some(12), "{file:?}");
    }
    let shown = world.path("passphrase");
    let ran = run(&world, &["snapshots"], b"Bl\xc3\xbcte 7\nanother\n");
    assert_eq!(ran.code, Some(12), "{}", ran.err);
    assert!(ran.err.contains("a second line was found") && ran.err.contains(world.text(&shown)), "{}", ran.err);
    // What earlier versions made of such a file opens what they made.
    let mut old = world.bare(&["--repo", "old", "init"]);
    assert!(old.env("PACKSTONE_PASSWORD", "one\ntwo").output().unwrap().status.success());
    let ran = run(&world, &["--repo", "old", "snapshots"], b"one\ntwo\n");
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    for (file, word) in [(&b"one\ntwo\n"[..], "a second line was found"), (b"a\0b", "a NUL byte")] {
        let ran = run(&world, &["--repo", "other", "init"], file);
        assert_eq!(ran.code, Some(1), "{}", ran.err);
        assert!(ran.err.contains(word) && !world.path("other").exists(), "{}", ran.err);
    }
}
