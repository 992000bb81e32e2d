//! Damaged packs and damaged targets: what is lost is named, and everything else comes back.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;

use packstone::codec::pack::PackKind;
use packstone::ops::restore::{self, ProblemKind};
use packstone::ops::{Phase, Silent};
use packstone::storage::ObjectName;

use super::world::{Event, Hook, World, names, noise};

/// The data packs of a world, the largest first.
fn packs(world: &World) -> Vec<PathBuf> {
    let packs = world.path("repository/packs");
    let mut found: Vec<PathBuf> =
        names(&packs).into_iter().map(|name| packs.join(name)).filter(|path| path.is_file()).collect();
    found.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    found
}

fn flip(path: &std::path::Path, offset: u64) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn a_damaged_block_costs_its_files_and_no_others() {
    let world = World::new();
    for n in 0..40 {
        world.write(&format!("f{n:02}"), noise(n, 300_000));
    }
    // Parts of it lie in many blocks: it is lost as a whole, and nothing of it stays.
    world.write("large", noise(99, 12 << 20));
    fs::hard_link(world.tree().join("f00"), world.tree().join("other name of f00")).unwrap();
    let snapshot = world.backup();
    let pack = packs(&world)[0].clone();
    flip(&pack, 64 + 100_000);
    flip(&pack, fs::metadata(&pack).unwrap().len() / 2 + (4 << 20));
    let mut options = world.options("out");
    options.verify = true;
    let report = world.restore_with(snapshot, &options, &Silent).unwrap();
    assert!(report.damage_count >= 2, "{report:?}");
    assert_eq!(report.damaged_packs.len(), 1);
    let short = pack.file_name().unwrap().to_str().unwrap()[..8].to_owned();
    let damaged: Vec<String> = report
        .problems
        .iter()
        .filter(|problem| problem.kind == ProblemKind::Damage)
        .map(|problem| {
            assert!(problem.message.contains(&short), "{}", problem.message);
            String::from_utf8(problem.path[1..].to_vec()).unwrap()
        })
        .collect();
    assert!(damaged.contains(&"f00".to_owned()), "{damaged:?}");
    // The other name is named too, and everything that is not named is there and right.
    let named: Vec<String> =
        report.problems.iter().map(|problem| String::from_utf8(problem.path[1..].to_vec()).unwrap()).collect();
    assert!(named.contains(&"other name of f00".to_owned()));
    assert!(damaged.len() < 20, "{damaged:?}");
    for name in names(&world.tree()) {
        let restored = world.path("out").join(&name);
        if named.contains(&name) {
            assert!(!restored.exists(), "{name}");
        } else {
            assert!(fs::read(&restored).unwrap() == fs::read(world.tree().join(&name)).unwrap(), "{name}");
        }
    }
}

#[test]
fn a_damaged_block_leaves_what_is_there() {
    let world = World::new();
    world.write("file", noise(1, 300_000));
    let snapshot = world.backup();
    flip(&packs(&world)[0], 64 + 1000);
    fs::create_dir(world.path("out")).unwrap();
    fs::write(world.path("out/file"), "the only copy").unwrap();
    let report = world.restore_with(snapshot, &world.options("out"), &Silent).unwrap();
    assert_eq!(report.damage_count, 1);
    assert_eq!(fs::read(world.path("out/file")).unwrap(), b"the only copy");
    assert_eq!(names(&world.path("out")), ["file"], "no temporary file stays");
}

#[test]
fn a_missing_pack_is_named_with_its_files() {
    let world = World::new();
    world.write("file", noise(1, 300_000));
    world.write("empty", "");
    let snapshot = world.backup();
    fs::remove_file(&packs(&world)[0]).unwrap();
    let report = world.restore_with(snapshot, &world.options("out"), &Silent).unwrap();
    assert_eq!((report.damage_count, report.files), (1, 1), "{report:?}");
    assert_eq!(report.problems[0].path, b"/file");
}

#[test]
fn verify_finds_a_byte_that_changed_on_the_disk() {
    let world = World::new();
    world.write("right", noise(1, 3 << 20));
    world.write("wrong", noise(2, 3 << 20));
    let holes = world.write("in a hole", "begin");
    fs::File::options().write(true).open(&holes).unwrap().set_len(8 << 20).unwrap();
    let snapshot = world.backup();
    let mut options = world.options("out");
    options.verify = true;
    let out = world.path("out");
    let hook = Hook::new(|event: &Event<'_>| {
        if matches!(event, Event::Phase(Phase::Verify)) {
            flip(&out.join("wrong"), (2 << 20) + 12_345);
            flip(&out.join("in a hole"), 5 << 20);
        }
    });
    let report = world.restore_with(snapshot, &options, &hook).unwrap();
    let mut found: Vec<_> = report.problems.iter().map(|problem| problem.path.clone()).collect();
    found.sort();
    assert_eq!(found, [&b"/in a hole"[..], b"/wrong"], "{report:?}");
    assert!(report.problems.iter().all(|problem| problem.kind == ProblemKind::Verify));
    // The same command heals it: the content is compared, not only size and time.
    world.restore(snapshot, &options);
    world.assert_same("out");
}

#[test]
fn delete_removes_nothing_when_damage_hides_where_the_source_lay() {
    let mut world = World::new();
    world.write("file", "x");
    world.backup();
    let before = world.repository.open_index();
    // Another name beside the tree changes what its directory's own entry says, and so the listings above that.
    fs::write(world.path("beside"), "").unwrap();
    let snapshot = world.backup();
    let trees = before.packs().iter().filter(|(_, pack)| pack.kind == PackKind::Tree);
    for (id, _) in trees {
        flip(&world.path("repository").join(ObjectName::Pack(*id).to_string()), 64 + 20);
    }
    world.reopen();
    fs::create_dir(world.path("out")).unwrap();
    fs::write(world.path("out/of another"), "the only copy").unwrap();
    let mut options = world.options("out");
    options.delete = true;
    let plan = world.plan_part(snapshot, b"/", &options, &Silent).unwrap();
    assert!(plan.damage_count() > 0, "the listing above the tree is damaged");
    restore::execute(&world.repository, plan, &Silent).unwrap();
    assert!(world.path("out/of another").exists());
}
