//! Restoring where something is already: overwrite rules, resuming, deleting, hard links of others.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use packstone::ops::restore::Overwrite;
use packstone::ops::{Error, Silent};

use super::world::{Hook, World, names, noise, only, ran_as_ordinary_user, without};

fn set_mtime(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn seconds(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Four files in the snapshot, and in the target: the same; same size and time but other content; older; newer.
fn target_of_each_kind(world: &World) {
    for name in ["same", "flipped", "older", "newer", "new"] {
        set_mtime(&world.write(name, format!("{name} in the snapshot")), seconds(1_000_000));
    }
    let out = world.path("out");
    fs::create_dir(&out).unwrap();
    for (name, content, time) in [
        ("same", "same in the snapshot", 1_000_000),
        ("flipped", "FLIPPED in the snapshot", 1_000_000),
        ("older", "older", 999_999),
        ("newer", "newer", 1_000_001),
    ] {
        fs::write(out.join(name), content).unwrap();
        set_mtime(&out.join(name), seconds(time));
    }
}

#[test]
fn overwrite_rules() {
    for (rule, written) in [
        (Overwrite::Always, &["flipped", "older", "newer", "new"][..]),
        (Overwrite::IfChanged, &["older", "newer", "new"]),
        (Overwrite::IfNewer, &["older", "new"]),
        (Overwrite::Never, &["new"]),
    ] {
        let world = World::new();
        target_of_each_kind(&world);
        let snapshot = world.backup();
        let mut options = world.options("out");
        options.overwrite = rule;
        options.verify = true;
        let before: Vec<(String, u64)> = ["same", "flipped", "older", "newer"]
            .map(|name| (name.to_owned(), fs::metadata(world.path("out").join(name)).unwrap().ino()))
            .to_vec();
        let report = world.restore_with(snapshot, &options, &Silent).unwrap();
        assert_eq!(report.files, written.len() as u64, "{rule:?} {report:?}");
        for (name, inode) in before {
            let path = world.path("out").join(&name);
            let is_new = fs::metadata(&path).unwrap().ino() != inode;
            assert_eq!(is_new, written.contains(&name.as_str()), "{rule:?} {name}");
        }
        // Verification says what the rule that trusts size and time has left wrong.
        let wrong: Vec<_> = report.problems.iter().map(|problem| problem.path.clone()).collect();
        if rule == Overwrite::IfChanged {
            assert_eq!(wrong, [b"/flipped"]);
        } else {
            assert!(wrong.is_empty(), "{rule:?} {report:?}");
        }
        if rule == Overwrite::Always {
            world.assert_same("out");
        }
    }
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_would_happen() {
    let world = World::new();
    target_of_each_kind(&world);
    let snapshot = world.backup();
    let before = super::tree::differences(&world.tree(), &world.path("out"));
    let plan = world.plan(snapshot, &world.options("out"), &Silent).unwrap();
    let lines: Vec<String> = plan.lines().map(|line| String::from_utf8(line.path).unwrap()).collect();
    for name in ["/flipped", "/older", "/newer", "/new"] {
        assert!(lines.iter().any(|line| line == name), "{lines:?}");
    }
    assert!(lines.iter().all(|line| line != "/same"), "what is as it should be is no line: {lines:?}");
    assert_eq!(plan.totals().files, 4);
    assert_eq!(plan.totals().unchanged, 1);
    drop(plan);
    assert_eq!(super::tree::differences(&world.tree(), &world.path("out")), before);
    world.plan(snapshot, &world.options("nowhere"), &Silent).unwrap();
    assert!(!world.path("nowhere").exists());
}

#[test]
fn an_interrupted_restore_leaves_whole_files_only_and_goes_on() {
    let world = World::new();
    for n in 0..40 {
        world.write(&format!("{}/{n}", n % 3), noise(n, 200_000 + n as usize));
    }
    world.write("large", noise(99, 24 << 20));
    let snapshot = world.backup();
    let options = world.options("out");
    let mut rounds = 0;
    for budget in [1_u64 << 20, 9 << 20, 20 << 20, 30 << 20] {
        let hook = Hook { call: |_: &_| {}, bytes_left: AtomicU64::new(budget) };
        let result = world.restore_with(snapshot, &options, &hook);
        assert!(matches!(result, Err(Error::Interrupted)) || budget > 24 << 20, "{result:?}");
        rounds += u64::from(result.is_err());
        for name in names(&world.path("out")) {
            let path = world.path("out").join(&name);
            if path.is_file() {
                let expected = fs::read(world.tree().join(&name)).unwrap_or_else(|_| panic!("{name} is left over"));
                assert!(fs::read(&path).unwrap() == expected, "{name} is half a file");
            }
        }
    }
    assert!(rounds >= 3);
    let report = world.restore(snapshot, &options);
    assert!(report.unchanged > 0, "{report:?}");
    world.assert_same("out");
}

#[test]
fn other_names_of_a_file_that_is_replaced_do_not_change() {
    let world = World::new();
    world.write("a", "new content");
    world.write("b", "the same");
    let snapshot = world.backup();
    let out = world.path("out");
    fs::create_dir(&out).unwrap();
    for (name, content) in [("a", "old content"), ("b", "the same")] {
        fs::write(out.join(name), content).unwrap();
        fs::hard_link(out.join(name), world.path(&format!("outside {name}"))).unwrap();
    }
    let outside = |name: &str| {
        let stat = fs::metadata(world.path(&format!("outside {name}"))).unwrap();
        (stat.mode(), stat.mtime(), stat.mtime_nsec(), stat.size())
    };
    let before = (outside("a"), outside("b"));
    world.restore(snapshot, &world.options("out"));
    assert_eq!(fs::read(world.path("outside a")).unwrap(), b"old content");
    assert_eq!((outside("a"), outside("b")), before);
    world.assert_same("out");
}

#[test]
fn hard_links_are_joined_and_parted_as_in_the_snapshot() {
    let world = World::new();
    world.write("a", "one");
    fs::hard_link(world.tree().join("a"), world.tree().join("b")).unwrap();
    world.write("c", "one");
    let snapshot = world.backup();
    let out = world.path("out");
    fs::create_dir(&out).unwrap();
    // In the target all three are one file, with the right content.
    fs::write(out.join("a"), "one").unwrap();
    for name in ["b", "c"] {
        fs::hard_link(out.join("a"), out.join(name)).unwrap();
    }
    world.restore(snapshot, &world.options("out"));
    world.assert_same("out");
    // And now nothing needs to be done.
    let plan = world.plan(snapshot, &world.options("out"), &Silent).unwrap();
    assert_eq!((plan.totals().files, plan.totals().others), (0, 0));
}

#[test]
fn delete_removes_what_the_snapshot_lacks_and_nothing_else() {
    let world = World::new();
    world.write("kept/file", "1");
    world.write("keep.log", "2");
    let snapshot = world.backup();
    let out = world.path("out");
    world.restore(snapshot, &world.options("out"));
    fs::create_dir_all(out.join("extra/deep")).unwrap();
    for name in ["extra/deep/file", "kept/extra", "a.log", "kept/b.log", "z"] {
        fs::write(out.join(name), "x").unwrap();
    }
    fs::write(world.path("outside"), "not to be touched").unwrap();
    symlink(world.path("outside"), out.join("link to outside")).unwrap();
    symlink(world.tree(), out.join("kept/link to the tree")).unwrap();
    let mut options = world.options("out");
    options.delete = true;
    options.selection = without(&["*.log"]);
    let report = world.restore(snapshot, &options);
    assert_eq!(names(&out), ["a.log", "keep.log", "kept", "kept/b.log", "kept/file"]);
    // With what is in the extra directory.
    assert_eq!(report.deleted, 7, "{report:?}");
    options.selection = without(&[]);
    world.restore(snapshot, &options);
    world.assert_same("out");
    assert_eq!(fs::read(world.path("outside")).unwrap(), b"not to be touched");
    assert!(world.tree().join("kept/file").exists());
}

fn deleted_lines(plan: &packstone::ops::restore::Plan) -> Vec<String> {
    let lines = plan.lines().filter(|line| line.action == packstone::ops::Action::Deleted);
    let text = |line: packstone::ops::restore::Line| {
        let slash = if line.directory { "/" } else { "" };
        format!("{}{slash}", String::from_utf8(line.path).unwrap())
    };
    lines.map(text).collect()
}

#[test]
fn a_plan_names_everything_that_goes_and_nothing_else_goes() {
    let world = World::new();
    world.write("file", "1");
    world.write("kept/file", "2");
    world.write("was/file", "3");
    let snapshot = world.backup();
    let out = world.path("out");
    fs::create_dir_all(out.join("extra/deep/er")).unwrap();
    fs::create_dir_all(out.join("file/full")).unwrap();
    fs::create_dir_all(out.join("kept")).unwrap();
    for name in ["extra/a", "extra/deep/er/b", "file/full/c", "kept/d", "was"] {
        fs::write(out.join(name), "x").unwrap();
    }
    let mut options = world.options("out");
    options.delete = true;
    let plan = world.plan(snapshot, &options, &Silent).unwrap();
    let expected = [
        "/file/",
        "/file/full/",
        "/file/full/c",
        "/kept/d",
        "/extra/",
        "/extra/a",
        "/extra/deep/",
        "/extra/deep/er/",
        "/extra/deep/er/b",
        "/was",
    ];
    let mut lines = deleted_lines(&plan);
    assert_eq!(plan.totals().deleted, expected.len() as u64);
    // What appears after the plan was never named: it stays, with what it lies in.
    fs::write(out.join("extra/deep/late"), "late").unwrap();
    let report = packstone::ops::restore::execute(&world.repository, plan, &Silent).unwrap();
    lines.sort();
    let mut wanted = expected.map(str::to_owned);
    wanted.sort();
    assert_eq!(lines, wanted);
    // "a", "deep/er/b" and "deep/er" went before "late" was met.
    assert_eq!((report.deleted, report.problem_count), (expected.len() as u64 - 2, 1), "{report:?}");
    assert!(report.problems[0].message.contains("appeared while the restore ran"), "{report:?}");
    assert_eq!(names(&out), ["extra", "extra/deep", "extra/deep/late", "file", "kept", "kept/file", "was", "was/file"]);
    world.restore(snapshot, &options);
    world.assert_same("out");
}

/// What is somebody's stays with everything around it, and nothing is restored into it.
#[test]
fn delete_keeps_repositories_whoever_has_them() {
    let world = World::new();
    world.write("file", "1");
    world.write("name/of/a/repository", "2");
    let snapshot = world.backup();
    let copy = |to: &str| {
        fs::create_dir_all(world.path(to).parent().unwrap()).unwrap();
        let from = world.path("repository");
        assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(world.path(to)).status().unwrap().success());
    };
    copy("out/extra/around/copy");
    copy("out/name/of");
    let mut options = world.options("out");
    options.delete = true;
    let report = world.restore_with(snapshot, &options, &Silent).unwrap();
    // It is not known which repository is ours here, so both are another's: the rule for deletions is the same.
    assert_eq!((report.deleted, report.problem_count), (0, 1), "{report:?}");
    assert!(report.problems[0].message.contains("nothing is restored into it"), "{report:?}");
    assert!(world.path("out/extra/around/copy/config").exists() && !world.path("out/name/of/a").exists());
    for (target, fits) in
        [("out/name/of", false), ("out/name/of/keys", false), ("out/name/of/keys/new", false), ("new", true)]
    {
        options.target = world.path(target);
        assert_eq!(world.plan(snapshot, &options, &Silent).is_ok(), fits, "{target}");
    }
}

#[test]
fn delete_keeps_an_extra_directory_that_holds_something_left_out() {
    let world = World::new();
    world.write("file", "1");
    let snapshot = world.backup();
    let out = world.path("out");
    fs::create_dir_all(out.join("extra/cache")).unwrap();
    fs::write(out.join("extra/cache/kept"), "x").unwrap();
    let mut options = world.options("out");
    options.delete = true;
    options.selection = without(&["cache"]);
    world.restore(snapshot, &options);
    assert!(out.join("extra/cache/kept").exists());
}

/// A snapshot of one deep directory holds the way to it. In place, with `--delete`, nothing beside that way is removed.
#[test]
fn delete_does_not_clear_the_way_to_the_source() {
    let world = World::new();
    world.write("file", "1");
    let snapshot = world.backup();
    let mut options = world.options("out");
    let out = world.path("out");
    let inside = out.join(world.tree().strip_prefix("/").unwrap());
    fs::create_dir_all(&inside).unwrap();
    fs::write(inside.join("extra"), "x").unwrap();
    fs::write(inside.parent().unwrap().join("beside the way"), "x").unwrap();
    fs::write(out.join("at the top"), "x").unwrap();
    options.delete = true;
    let plan = world.plan_part(snapshot, b"/", &options, &Silent).unwrap();
    packstone::ops::restore::execute(&world.repository, plan, &Silent).unwrap();
    assert!(!inside.join("extra").exists());
    assert!(inside.join("file").exists());
    assert!(inside.parent().unwrap().join("beside the way").exists());
    assert!(out.join("at the top").exists());
}

#[test]
fn what_is_of_another_kind_is_replaced() {
    let world = World::new();
    world.write("directory/file", "1");
    world.write("file", "2");
    symlink("file", world.tree().join("link")).unwrap();
    let snapshot = world.backup();
    let out = world.path("out");
    let elsewhere = world.path("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    fs::create_dir(&out).unwrap();
    symlink(&elsewhere, out.join("directory")).unwrap();
    fs::create_dir(out.join("file")).unwrap();
    fs::write(out.join("link"), "a file").unwrap();
    world.restore(snapshot, &world.options("out"));
    world.assert_same("out");
    assert_eq!(names(&elsewhere).len(), 0, "nothing is written through a symbolic link");
    // A directory that holds something is removed only when that was asked for.
    fs::remove_file(out.join("file")).unwrap();
    fs::create_dir(out.join("file")).unwrap();
    fs::write(out.join("file/mine"), "x").unwrap();
    let report = world.restore_with(snapshot, &world.options("out"), &Silent).unwrap();
    assert_eq!(report.problem_count, 1, "{report:?}");
    assert!(out.join("file/mine").exists());
    let mut options = world.options("out");
    options.delete = true;
    world.restore(snapshot, &options);
    world.assert_same("out");
}

#[test]
fn includes_make_only_the_directories_that_lead_to_something() {
    let world = World::new();
    world.write("a/b/wanted.txt", "1");
    world.write("a/c/other", "2");
    world.write("d/other", "3");
    let snapshot = world.backup();
    let mut options = world.options("out");
    options.selection = only(&["*.txt"]);
    options.verify = true;
    let report = world.restore(snapshot, &options);
    assert_eq!(names(&world.path("out")), ["a", "a/b", "a/b/wanted.txt"]);
    assert_eq!(report.verified, 1);
    let mode = |place: &str| fs::metadata(world.path(place).join("a/b")).unwrap();
    assert_eq!((mode("out").mtime(), mode("out").mode()), (mode("tree").mtime(), mode("tree").mode()));
}

#[test]
fn delete_stays_on_the_file_system_of_the_target() {
    // As a backup with --one-file-system has it: a mount point is an empty directory.
    let world = World::new();
    fs::create_dir(world.tree().join("proc")).unwrap();
    let snapshot = world.backup();
    let mut options = world.options("out");
    options.delete = true;
    options.selection = only(&["/proc"]);
    options.target = "/".into();
    // Planned, and never carried out.
    let plan = world.plan(snapshot, &options, &Silent).unwrap();
    assert_eq!(plan.totals().deleted, 0, "everything that is mounted there would go");
}

#[test]
fn delete_leaves_what_the_backup_could_not_read() {
    if ran_as_ordinary_user("existing::delete_leaves_what_the_backup_could_not_read") {
        return;
    }
    let world = World::new();
    world.write("closed/only copy", "x");
    world.write("unreadable", "x");
    let modes = |closed: u32, unreadable: u32| {
        let set = |name: &str, mode| {
            fs::set_permissions(world.tree().join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        set("closed", closed);
        set("unreadable", unreadable);
    };
    modes(0, 0);
    let snapshot = world.backup();
    modes(0o700, 0o600);
    world.write("extra", "x");
    let mut options = world.options("tree");
    options.delete = true;
    let report = world.restore(snapshot, &options);
    assert_eq!(report.deleted, 1);
    modes(0o700, 0o600);
    assert_eq!(names(&world.tree()), ["closed", "closed/only copy", "unreadable"]);
}

#[test]
fn delete_only_touches_the_directory_that_was_looked_at() {
    let world = World::new();
    world.write("sub/file", "x");
    let snapshot = world.backup();
    let out = world.path("out");
    for name in ["out/sub", "elsewhere"] {
        fs::create_dir_all(world.path(name)).unwrap();
        fs::write(world.path(name).join("extra"), name).unwrap();
    }
    let mut options = world.options("out");
    options.delete = true;
    let plan = world.plan(snapshot, &options, &Silent).unwrap();
    assert_eq!(plan.totals().deleted, 1);
    // Another directory is moved there, with the same name in it.
    fs::rename(out.join("sub"), world.path("moved")).unwrap();
    fs::rename(world.path("elsewhere"), out.join("sub")).unwrap();
    let report = packstone::ops::restore::execute(&world.repository, plan, &Silent).unwrap();
    assert_eq!((report.deleted, report.problem_count), (0, 1), "{report:?}");
    assert_eq!(names(&out), ["sub", "sub/extra", "sub/file"]);
    assert!(world.path("moved/extra").exists());
}
