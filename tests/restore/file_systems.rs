//! Restoring to file systems that keep less: other owners than were set, times that end, inode numbers that change.
//!
//! Each needs root and a program of the system; what is missing is said, and the test passes.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, UNIX_EPOCH};

use packstone::files::apply::Severity;
use packstone::ops::restore::Report;

use super::world::{World, is_root, names};

/// Something mounted, for as long as this lives.
struct Mounted {
    at: PathBuf,
    device: Option<String>,
}

fn run(program: &str, words: &[&str]) -> Option<String> {
    let ran = Command::new(program).args(words).output().ok()?;
    ran.status.success().then(|| String::from_utf8_lossy(&ran.stdout).trim().to_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

impl Mounted {
    /// An image of 64 MiB, formatted by the first program and mounted by the second, through a loop device.
    fn image(world: &World, make: &[&str], mount: &[&str]) -> Option<Self> {
        let (image, at) = (world.path("image"), world.path("mnt"));
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        fs::create_dir(&at).unwrap();
        run(make[0], &[&make[1..], &[text(&image)]].concat())?;
        let device = run("losetup", &["-f", "--show", text(&image)])?;
        let mounted = Self { at: at.clone(), device: Some(device.clone()) };
        run(mount[0], &[&mount[1..], &[&device, text(&at)]].concat())?;
        Some(mounted)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.at).output().is_ok_and(|ran| ran.status.success());
        if !unmounted {
            let _ = Command::new("umount").arg("-l").arg(&self.at).output();
        }
        if let Some(device) = &self.device {
            let _ = Command::new("losetup").args(["-d", device]).output();
        }
    }
}

fn skipped(name: &str, reason: &str) {
    println!("SKIPPED file_systems::{name}: {reason}");
}

/// The causes of one part of metadata: severity, reason, count.
fn causes(report: &Report, what: &str) -> Vec<(Severity, String, u64)> {
    let of = report.unset.iter().filter(|(cause, _)| cause.what == what);
    of.map(|(cause, unset)| (cause.severity, cause.reason.clone(), unset.count)).collect()
}

#[test]
fn a_file_system_that_shows_every_file_as_somebody_elses() {
    const NAME: &str = "a_file_system_that_shows_every_file_as_somebody_elses";
    let world = World::new();
    let (below, mnt) = (world.path("below"), world.path("mnt"));
    fs::create_dir(&below).unwrap();
    fs::create_dir(&mnt).unwrap();
    if !is_root() || run("bindfs", &["--force-user=nobody", text(&below), text(&mnt)]).is_none() {
        return skipped(NAME, "root, bindfs and /dev/fuse");
    }
    let _mounted = Mounted { at: mnt, device: None };
    for n in 0..40 {
        let path = world.write(&format!("d{}/f{n}", n % 4), format!("{n}"));
        File::open(path).unwrap().set_modified(UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789)).unwrap();
    }
    symlink("right", world.tree().join("link")).unwrap();
    fs::hard_link(world.tree().join("d0/f0"), world.tree().join("twin")).unwrap();
    let program = world.write("program", "x");
    fs::set_permissions(program, fs::Permissions::from_mode(0o4755)).unwrap();
    let snapshot = world.backup();
    let mut options = world.options("mnt/out");
    options.verify = true;
    for round in 0..3 {
        if round > 0 {
            fs::remove_file(world.path("mnt/out/link")).unwrap();
            symlink("wrong", world.path("mnt/out/link")).unwrap();
        }
        let report = world.restore_with(snapshot, &options, &packstone::ops::Silent).unwrap();
        assert_eq!(report.problem_count, 0, "{report:?}");
        // Everything is right but the owner, which is said once.
        let [(severity, reason, count)] = &causes(&report, "owner")[..] else { panic!("{report:?}") };
        assert_eq!(*severity, Severity::Failed);
        assert!(reason.starts_with("fuse") && reason.contains("shows another"), "{reason}");
        assert!(*count >= 5, "{report:?}");
        assert_eq!(report.unset.len(), 1, "{report:?}");
        assert!(!report.is_complete());
        assert_eq!(fs::read_link(below.join("out/link")).unwrap(), Path::new("right"), "round {round}");
        assert!(names(&below).iter().all(|name| !name.contains(".packstone-restore-")), "{:?}", names(&below));
        assert!(round == 0 || report.unchanged >= 39, "what is right is kept: {report:?}");
        assert_eq!(fs::metadata(below.join("out/twin")).unwrap().nlink(), 2);
        let lines = super::tree::differences(&world.tree(), &below.join("out"));
        assert!(lines.iter().all(|line| line.contains("owner")), "{lines:?}");
    }
}

#[test]
fn times_that_a_file_system_does_not_keep_are_named_once() {
    const NAME: &str = "times_that_a_file_system_does_not_keep_are_named_once";
    let world = World::new();
    if !is_root() || run("mount", &["-t", "tmpfs", "tmpfs", text(&world.tree())]).is_none() {
        return skipped(NAME, "root, to mount a tmpfs");
    }
    let source = Mounted { at: world.tree(), device: None };
    for (name, seconds) in [("a", 15_999_206_400), ("b", 15_999_206_401), ("c", 1_000_000)] {
        let path = world.write(name, name);
        File::open(&path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }
    fs::create_dir(world.tree().join("d")).unwrap();
    File::open(world.tree().join("d")).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(15_999_206_400)).unwrap();
    let snapshot = world.backup();
    drop(source);
    let Some(_mounted) = Mounted::image(&world, &["mkfs.ext4", "-q", "-I", "256"], &["mount"]) else {
        return skipped(NAME, "mkfs.ext4, losetup and a free loop device");
    };
    for (verify, overwritten) in [(false, 3), (true, 0)] {
        let mut options = world.options("mnt/out");
        options.verify = verify;
        let report = world.restore_with(snapshot, &options, &packstone::ops::Silent).unwrap();
        assert_eq!(report.files, overwritten, "{report:?}");
        let expected = (Severity::Failed, "ext4 keeps none after 2446-05-10".to_owned(), 3);
        assert_eq!(causes(&report, "times"), [expected], "{report:?}");
        assert_eq!((report.problem_count, report.unset.len()), (0, 1), "{report:?}");
        assert!(!report.is_complete());
    }
}

#[test]
fn inode_numbers_that_change_cost_no_file() {
    const NAME: &str = "inode_numbers_that_change_cost_no_file";
    if !is_root() {
        return skipped(NAME, "root");
    }
    let world = World::new();
    let mounted = Mounted::image(&world, &["mkfs.exfat"], &["mount.exfat-fuse"]);
    if mounted.is_none() || run("mountpoint", &["-q", text(&world.path("mnt"))]).is_none() {
        return skipped(NAME, "mkfs.exfat, exfat-fuse, losetup and a free loop device");
    }
    // More directories than are kept open, and a kernel that forgets them all the time.
    for n in 0..1_500 {
        world.write(&format!("d{n:04}/f"), format!("{n}"));
    }
    let snapshot = world.backup();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                let _ = fs::write("/proc/sys/vm/drop_caches", "2");
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let options = world.options("mnt/out");
        let results: Vec<_> = (0..2).map(|_| world.restore_with(snapshot, &options, &packstone::ops::Silent)).collect();
        stop.store(true, SeqCst);
        for (result, files) in results.into_iter().zip([1_500, 0]) {
            let report = result.unwrap();
            assert_eq!((report.problem_count, report.files), (0, files), "{report:?}");
            // FAT keeps neither modes nor nanoseconds; that is said, once each.
            assert!(report.unset.len() <= 3, "{report:?}");
        }
    });
    for n in 0..1_500 {
        assert_eq!(fs::read(world.path(&format!("mnt/out/d{n:04}/f"))).unwrap(), n.to_string().as_bytes());
    }
}

/// Upper and lower case are the same on exFAT, a file has one name, and a pipe becomes a file: what can be held is there after every
/// restore, what cannot is named each time, and nothing is left behind.
#[test]
fn what_a_file_system_cannot_hold_is_named_and_what_it_can_is_there() {
    const NAME: &str = "what_a_file_system_cannot_hold_is_named_and_what_it_can_is_there";
    if !is_root() {
        return skipped(NAME, "root");
    }
    let world = World::new();
    let mounted = Mounted::image(&world, &["mkfs.exfat"], &["mount.exfat-fuse"]);
    if mounted.is_none() || run("mountpoint", &["-q", text(&world.path("mnt"))]).is_none() {
        return skipped(NAME, "mkfs.exfat, exfat-fuse, losetup and a free loop device");
    }
    world.write("README", "upper");
    world.write("readme", "lower, and longer");
    world.write("Dir/in-upper", "u");
    world.write("dir/in-lower", "l");
    world.write("later", "x");
    let content = "linked".repeat(500_000);
    world.write("links/first", &content);
    for name in ["links/second", "third"] {
        fs::hard_link(world.tree().join("links/first"), world.tree().join(name)).unwrap();
    }
    let pipe = world.tree().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .unwrap();
    let snapshot = world.backup();
    let out = world.path("mnt/out");
    for (round, files) in [("first", None), ("again", Some(0)), ("renamed", Some(0)), ("other content", Some(1))] {
        match round {
            // The same file under another spelling, which the snapshot does not have.
            "renamed" => fs::rename(out.join("later"), out.join("LATER")).unwrap(),
            "other content" => fs::write(out.join("LATER"), "y, and longer").unwrap(),
            _ => {}
        }
        // The kernel has what it read under either name.
        rustix::fs::sync();
        fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
        let mut options = world.options("mnt/out");
        (options.delete, options.verify) = (true, true);
        let report = world.restore_with(snapshot, &options, &packstone::ops::Silent).unwrap();
        assert!(!report.is_complete());
        if let Some(files) = files {
            assert_eq!((report.files, report.deleted), (files, 0), "{round}: {report:?}");
        }
        let mut named: Vec<_> = report.problems.iter().map(|problem| text_of(&problem.path)).collect();
        named.sort();
        // The first restore finds nothing there and meets the other directory when it makes it; what is in it is named too.
        named.retain(|path| path != "/dir/in-lower");
        assert_eq!(named, ["/dir", "/pipe", "/readme"], "{round}: {report:?}");
        let links = causes(&report, "hard links");
        assert!(matches!(links.as_slice(), [(Severity::Failed, _, 2)]), "{round}: {links:?}");
        let mut there: Vec<_> = names(&out).into_iter().map(|name| name.replace("LATER", "later")).collect();
        there.sort();
        let expected = ["Dir", "Dir/in-upper", "README", "later", "links", "links/first", "links/second", "third"];
        assert_eq!(there, expected, "{round}");
        for (name, expected) in [("README", "upper"), ("later", "x"), ("third", &content), ("links/second", &content)] {
            assert!(fs::read_to_string(out.join(name)).unwrap() == expected, "{round}: {name}");
        }
    }
}

fn text_of(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// What reads back otherwise without anything having gone wrong: somebody changes it, and `--verify` finds it, on every kind.
#[test]
fn verify_compares_the_metadata_of_every_kind() {
    use packstone::ops::Phase;
    if !is_root() {
        return skipped("verify_compares_the_metadata_of_every_kind", "root, to give files away");
    }
    let world = World::new();
    world.write("d/file", "x");
    world.write("kept", "x");
    symlink("x", world.tree().join("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        world.tree().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let snapshot = world.backup();
    world.restore(snapshot, &world.options("out"));
    fs::remove_file(world.path("out/d/file")).unwrap();
    let out = world.path("out");
    let hook = super::world::Hook::new(|event: &super::world::Event<'_>| {
        if matches!(event, super::world::Event::Phase(Phase::Verify)) {
            for name in ["d", "d/file", "kept", "link", "pipe"] {
                std::os::unix::fs::lchown(out.join(name), Some(7), Some(7)).unwrap();
            }
            fs::set_permissions(out.join("d"), fs::Permissions::from_mode(0o711)).unwrap();
            chown(&out, Some(7), None).unwrap();
        }
    });
    let mut options = world.options("out");
    options.verify = true;
    let report = world.restore_with(snapshot, &options, &hook).unwrap();
    let found = |what| causes(&report, what).into_iter().map(|(_, _, count)| count).sum::<u64>();
    // The target held something, so that it keeps what it is, and is not compared.
    assert_eq!((found("owner"), found("mode"), report.problem_count), (5, 1, 0), "{report:?}");
    assert!(!report.is_complete());
}
