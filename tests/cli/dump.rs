//! `dump` from outside: what it writes is read back with the system's tar and Python's zipfile.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::reading::spoil_packs;
use super::support::World;

/// What the program wrote to its standard output.
fn bytes(world: &World, words: &[&str]) -> Vec<u8> {
    let output = world.command(words).output().unwrap();
    assert!(output.status.success(), "{words:?} {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// True when a program is there; says so when it is not.
fn has(program: &str) -> bool {
    let found =
        Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if !found {
        eprintln!("SKIPPED: {program} is not installed, what it would check is not checked");
    }
    found
}

/// Unpacks an archive with the system's tar.
fn untar(archive: &[u8], options: &[&str], to: &Path) {
    fs::create_dir_all(to).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["-x", "-p", "-f", "-", "-C"]).arg(to).args(options).stdin(Stdio::piped());
    let mut child = tar.spawn().unwrap();
    child.stdin.take().unwrap().write_all(archive).unwrap();
    assert!(child.wait().unwrap().success());
}

fn long_name() -> PathBuf {
    (0..30).map(|number| format!("directory-{number:0200}")).collect()
}

fn world() -> World {
    let world = World::with_repository();
    world.write("plain.txt", "hello\n");
    world.write("many", (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    let odd = world.tree().join(OsStr::from_bytes(b"caf\xe9\nx"));
    fs::write(&odd, "odd").unwrap();
    fs::create_dir(world.tree().join("empty")).unwrap();
    fs::set_permissions(world.tree().join("empty"), fs::Permissions::from_mode(0o1750)).unwrap();
    symlink("x".repeat(300), world.tree().join("link")).unwrap();
    symlink(OsStr::from_bytes(b"\xff"), world.tree().join("link2")).unwrap();
    fs::hard_link(world.tree().join("plain.txt"), world.tree().join("second")).unwrap();
    let sparse = fs::File::create(world.tree().join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    sparse.write_all_at(b"middle", 1 << 20).unwrap();
    let fifo = Command::new("mkfifo").arg(world.tree().join("fifo")).status();
    assert!(fifo.unwrap().success());
    let before = std::time::UNIX_EPOCH - std::time::Duration::from_nanos(1_500_000_001);
    fs::File::open(world.tree().join("many")).unwrap().set_modified(before).unwrap();
    world
}

fn same_file(one: &Path, other: &Path) {
    let (a, b) = (one.symlink_metadata().unwrap(), other.symlink_metadata().unwrap());
    assert_eq!((a.mode(), a.mtime(), a.mtime_nsec()), (b.mode(), b.mtime(), b.mtime_nsec()), "{one:?}");
    if a.is_file() {
        assert!(fs::read(one).unwrap() == fs::read(other).unwrap(), "{one:?}");
    } else if a.is_symlink() {
        assert_eq!(fs::read_link(one).unwrap(), fs::read_link(other).unwrap());
    }
}

#[test]
fn a_file_is_written_as_it_was() {
    let world = world();
    world.backup();
    assert_eq!(bytes(&world, &["dump", "latest", "/tree/plain.txt"]), b"hello\n");
    assert_eq!(bytes(&world, &["dump", "latest:tree", "plain.txt"]), b"hello\n");
    assert_eq!(bytes(&world, &["dump", "latest:tree/plain.txt"]), b"hello\n");
    assert_eq!(bytes(&world, &["dump", "latest:many"]), fs::read(world.tree().join("many")).unwrap());
    assert_eq!(bytes(&world, &["dump", "latest:sparse"]), fs::read(world.tree().join("sparse")).unwrap());
    let target = world.path("out");
    let ran = world.ok(&["dump", "latest:sparse", "--target", world.text(&target)]);
    assert_eq!(ran.out, "");
    assert_eq!(fs::read(&target).unwrap(), fs::read(world.tree().join("sparse")).unwrap());
    // The hole is one again, where the file system has holes.
    assert!(target.metadata().unwrap().blocks() * 512 < 3 << 20);
    // An existing target is replaced, and a device is written to.
    world.ok(&["dump", "latest:plain.txt", "-t", world.text(&target)]);
    assert_eq!(fs::read(&target).unwrap(), b"hello\n");
    world.ok(&["dump", "latest:plain.txt", "-t", "/dev/null"]);
    assert!(Path::new("/dev/null").symlink_metadata().unwrap().file_type().is_char_device());
}

#[test]
fn a_directory_becomes_a_tar_that_tar_reads() {
    let world = world();
    world.backup();
    if !has("tar") {
        return;
    }
    let archive = bytes(&world, &["dump", "latest", "/tree"]);
    let back = world.path("back");
    untar(&archive, &[], &back);
    for name in ["plain.txt", "many", "empty", "link", "link2", "sparse", "fifo"] {
        same_file(&back.join("tree").join(name), &world.tree().join(name));
    }
    let odd = OsStr::from_bytes(b"caf\xe9\nx");
    same_file(&back.join("tree").join(odd), &world.tree().join(odd));
    let inode = |name: &str| back.join("tree").join(name).metadata().unwrap().ino();
    assert_eq!(inode("plain.txt"), inode("second"));
    assert!(back.join("tree/fifo").metadata().unwrap().file_type().is_fifo());
    // Beneath a part names begin there.
    let part = world.path("part");
    untar(&bytes(&world, &["dump", "latest:tree"]), &[], &part);
    same_file(&part.join("plain.txt"), &world.tree().join("plain.txt"));
}

/// A path of more than 4,096 bytes: no kernel takes it in one piece, so tar only lists it; Python's tarfile reads the content.
#[test]
fn names_have_no_limit_in_a_tar() {
    let world = World::with_repository();
    let down =
        "cd \"$1\" && shift && for name; do mkdir \"$name\" && cd -P \"./$name\" || exit 1; done; echo bottom > file";
    let names = long_name();
    let mut shell = Command::new("bash");
    shell.args(["-c", down, "bash"]).arg(world.tree()).args(names.iter());
    if !shell.status().is_ok_and(|status| status.success()) || !has("tar") || !has("python3") {
        eprintln!("SKIPPED: bash, tar and python3 are needed");
        return;
    }
    world.backup();
    let expected = format!("{}/file", names.display());
    assert!(expected.len() > 4_096);
    let target = world.path("deep.tar");
    world.ok(&["dump", "latest:tree", "-t", world.text(&target)]);
    let listed = Command::new("tar").arg("-tf").arg(&target).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.lines().last(), Some(expected.as_str()));
    let script = "import sys, tarfile; t = tarfile.open(sys.argv[1]); print(t.extractfile(sys.argv[2]).read())";
    let read = Command::new("python3").args(["-c", script]).arg(&target).arg(&expected).output().unwrap();
    assert_eq!(read.stdout, b"b'bottom\\n'\n", "{}", String::from_utf8_lossy(&read.stderr));
}

#[test]
fn attributes_travel_in_a_tar() {
    let world = World::with_repository();
    world.write("file", "1");
    let set =
        Command::new("setfattr").args(["-n", "user.note", "-v", "remember"]).arg(world.tree().join("file")).status();
    if !set.is_ok_and(|status| status.success()) || !has("tar") {
        eprintln!("SKIPPED: setfattr is not installed, or this file system has no attributes");
        return;
    }
    world.backup();
    let archive = bytes(&world, &["dump", "latest:tree"]);
    assert!(archive.windows(33).any(|window| *window == b"SCHILY.xattr.user.note=remember\n\0\0"[..33]));
    let back = world.path("back");
    untar(&archive, &["--xattrs"], &back);
    let got =
        Command::new("getfattr").args(["--only-values", "-n", "user.note"]).arg(back.join("file")).output().unwrap();
    assert_eq!(got.stdout, b"remember");
}

#[test]
fn compressed_archives_hold_the_same() {
    let world = world();
    world.backup();
    let plain = bytes(&world, &["dump", "latest:tree"]);
    let gzip = bytes(&world, &["dump", "latest:tree", "--archive", "tar.gz"]);
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&gzip[..]), &mut unpacked).unwrap();
    assert!(unpacked == plain);
    let zstd = bytes(&world, &["dump", "latest:tree", "-a", "tar.zst"]);
    assert!(zstd::decode_all(&zstd[..]).unwrap() == plain);
    let target = world.path("archive.tar.gz");
    world.ok(&["dump", "latest:tree", "-a", "tar.gz", "-t", world.text(&target)]);
    assert!(fs::read(target).unwrap() == gzip);
}

#[test]
fn a_zip_is_read_by_pythons_zipfile() {
    let world = world();
    world.backup();
    let target = world.path("tree.zip");
    let ran = world.ok(&["dump", "latest:tree", "-a", "zip", "-t", world.text(&target)]);
    assert!(ran.err.contains("! /tree/fifo is not in the archive: zip holds"), "{}", ran.err);
    if !has("python3") {
        return;
    }
    let script = "
import sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
assert z.testzip() is None
for i in z.infolist():
    print(i.filename.encode('unicode_escape').decode(), oct(i.external_attr >> 16), i.file_size)
print(z.read('plain.txt').decode(), end='')
print(z.read('link') == b'x' * 300)
print(len(z.read('many')), z.read('sparse')[1 << 20:][:6])
";
    let output = Command::new("python3").args(["-c", script]).arg(&target).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("\nempty/ 0o40750 0\n") || out.contains("\nempty/ 0o41750 0\n"), "{out}");
    assert!(out.contains("\nlink 0o120777 300\n"), "{out}");
    assert!(out.ends_with("hello\nTrue\n8000000 b'middle'\n"), "{out}");
}

/// Story: a directory of the name `..\\..\\evil` went into a zip as it was, and is a way up where a backslash is a slash.
#[test]
fn names_in_a_zip_mean_the_same_everywhere() {
    let world = World::with_repository();
    for name in ["..\\..\\evil/file", "C:/x", "nul.txt", "Makefile", "makefile", "ends.", "plain", "a\nb"] {
        world.write(name, name);
    }
    let odd = world.tree().join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("in it"), "odd").unwrap();
    world.backup();
    let target = world.path("tree.zip");
    let ran = world.ok(&["dump", "latest:tree", "-a", "zip", "-t", world.text(&target)]);
    let said: Vec<&str> = ran.err.lines().collect();
    for line in [
        "! /tree/..\\\\..\\\\evil is called ..%5C..%5Cevil in the archive: other systems take its name for something else",
        "! /tree/makefile is called %6Dakefile in the archive: other systems do not tell its name from another one's",
    ] {
        assert!(said.contains(&line), "{line}\n{}", ran.err);
    }
    // Of what lies in a directory with another name nothing is said.
    assert_eq!(said.len(), 7, "{}", ran.err);
    let (_, listed) = ran_python(&target);
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    let expected = [
        "%6Dakefile",
        "%6Eul.txt",
        "..%5C..%5Cevil/",
        "..%5C..%5Cevil/file",
        "C%3A/",
        "C%3A/x",
        "Makefile",
        "a%0Ab",
        "caf%E9/",
        "caf%E9/in it",
        "ends%2E",
        "plain",
    ];
    if has("python3") {
        assert_eq!(listed, expected);
    }
    // A tar is unpacked where names are bytes.
    let ran = world.ok(&["dump", "latest:tree", "-t", world.text(&world.path("tree.tar"))]);
    assert_eq!(ran.err, "");
}

/// The names in a zip, as Python reads them.
fn ran_python(zip: &Path) -> (bool, String) {
    let script = "import sys, zipfile; print('\\n'.join(zipfile.ZipFile(sys.argv[1]).namelist()))";
    match Command::new("python3").args(["-c", script]).arg(zip).output() {
        Ok(output) => (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(_) => (false, String::new()),
    }
}

/// Story: a target that only its owner could read was replaced by one that everybody could.
#[test]
fn a_target_keeps_its_permissions() {
    let world = World::with_repository();
    world.write("file", "secret");
    world.backup();
    let target = world.path("out");
    for bits in [0o600, 0o640] {
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(bits)).unwrap();
        world.ok(&["dump", "latest:tree/file", "-t", world.text(&target)]);
        assert_eq!(
            (fs::read(&target).unwrap(), target.metadata().unwrap().mode() & 0o7777),
            (b"secret".to_vec(), bits)
        );
    }
    // A link of somebody else's, where everybody may put one.
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED dump::a_target_keeps_its_permissions: a link of another user needs root");
        return;
    }
    let shared = world.path("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(&target, "somebody's").unwrap();
    let link = shared.join("out");
    symlink(&target, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(65_534), Some(65_534)).unwrap();
    let ran = world.run(&["dump", "latest:tree/file", "-t", world.text(&link)]);
    assert!(ran.code == Some(1) && ran.err.contains("another user has put"), "{}", ran.err);
    assert_eq!(fs::read(&target).unwrap(), b"somebody's");
}

#[test]
fn what_has_no_content_is_refused() {
    let world = world();
    world.backup();
    let ran = world.run(&["dump", "latest:tree/fifo"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.contains("/tree/fifo is no file and no directory"), "{}", ran.err);
    let ran = world.run(&["dump", "latest:tree/link2"]);
    assert!(ran.err.contains("a symbolic link to \\xff"), "{}", ran.err);
    let ran = world.run(&["dump", "latest", "/tree/absent"]);
    assert!(ran.err.contains("/tree holds no \"absent\""), "{}", ran.err);
    let ran = world.run(&["dump", "latest:plain.txt", "-t", world.text(&world.tree())]);
    assert!(ran.err.contains("is a directory: name a file in it"), "{}", ran.err);
}

#[test]
fn damage_stops_it_and_makes_no_target() {
    let world = world();
    world.backup();
    spoil_packs(&world, "data");
    for part in ["latest:tree/many", "latest:tree"] {
        let output = world.command(&["dump", part]).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(17), "{err}");
        assert!(err.contains("/tree/") && err.contains("damaged: packs/"), "{err}");
        assert!(err.contains("what was written until then is incomplete"), "{err}");
    }
    for form in ["tar", "zip"] {
        let ran = world.run(&["dump", "latest:tree", "-a", form, "-t", world.text(&world.path("out"))]);
        assert_eq!(ran.code, Some(17), "{}", ran.err);
        assert!(ran.err.contains("the target was not made"), "{}", ran.err);
    }
    let left: Vec<_> = fs::read_dir(world.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("out")), "{left:?}");
}
