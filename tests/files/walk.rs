use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use packstone::codec::tree::DIRECTORY_DEPTH_MAX;
use packstone::files::exclude::Excludes;
use packstone::files::source::{SourceError, Sources};
use packstone::files::stat::Kind;
use packstone::files::walk::{ProblemKind, Rules, Step, Walk};

use super::root_of;

/// The steps as lines: `> path` enter, `< path` leave, `- path` entry, `! path kind`, `= path` our own.
fn lines(walk: Walk) -> Vec<String> {
    let show = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let mut open: Vec<String> = Vec::new();
    let mut lines = Vec::new();
    for step in walk {
        lines.push(match step {
            Step::Enter(enter) => {
                open.push(show(&enter.path));
                assert!(enter.path.ends_with(&enter.name));
                assert_eq!(enter.stat.kind, Kind::Directory);
                assert_eq!(enter.directory.stat_self().unwrap().key(), enter.stat.key());
                format!("> {}", show(&enter.path))
            }
            Step::Leave => format!("< {}", open.pop().expect("a Leave without an Enter")),
            Step::Entry(entry) => {
                assert_eq!(entry.parent.stat(&entry.name).unwrap().key(), entry.stat.key());
                format!("- {}", show(&entry.path))
            }
            Step::Problem(problem) => format!("! {} {:?}", show(&problem.path), problem.kind),
            Step::Own(path) => format!("= {}", show(&path)),
        });
    }
    assert!(open.is_empty(), "an Enter without a Leave");
    lines
}

fn walk_in(current: &Path, sources: &[&str], rules: Rules) -> Vec<String> {
    let sources: Vec<PathBuf> = sources.iter().map(PathBuf::from).collect();
    let sources = Sources::new_in(current, &sources, &rules.excludes).unwrap();
    lines(Walk::new(sources, rules))
}

/// A place and files in it; a name that ends in a slash is a directory.
fn place(names: &[&str]) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for name in names {
        let path = place.path().join(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
    }
    place
}

fn excluding(patterns: &[&str]) -> Rules {
    let mut excludes = Excludes::new();
    for pattern in patterns {
        excludes.add(pattern.as_bytes(), false).unwrap();
    }
    Rules { excludes, ..Rules::default() }
}

/// Each of these is handed from one thread to another during a backup or restore.
const _: () = {
    const fn goes_between_threads<T: Send>() {}
    const fn is_shared_by_threads<T: Send + Sync>() {}
    goes_between_threads::<Walk>();
    goes_between_threads::<packstone::files::read::Reader>();
    is_shared_by_threads::<packstone::files::directory::Directory>();
    is_shared_by_threads::<packstone::files::target::TargetDirectory>();
    is_shared_by_threads::<packstone::files::new_file::NewFile>();
    is_shared_by_threads::<packstone::files::apply::Applier>();
    is_shared_by_threads::<packstone::files::owner::Owners>();
};

#[test]
fn steps_come_in_the_order_of_name_bytes() {
    let place = place(&["d/b/x", "d/b.txt", "d/b-1", "d/empty/", "d/B"]);
    let base = place.path().join("d");
    for name in [&b"new\nline"[..], b"\xff\xfe", b"\x01"] {
        fs::write(base.join(OsStr::from_bytes(name)), "").unwrap();
    }
    let found = walk_in(place.path(), &["d"], Rules::default());
    let expected = [
        "> d",
        "- d/\x01",
        "- d/B",
        "> d/b",
        "- d/b/x",
        "< d/b",
        "- d/b-1",
        "- d/b.txt",
        "> d/empty",
        "< d/empty",
        "- d/new\nline",
        "- d/\u{fffd}\u{fffd}",
        "< d",
    ];
    assert_eq!(found, expected);
}

#[test]
fn sources_appear_where_restic_puts_them() {
    let place = place(&["a/b/c/file", "a/b/other", "a/top", "x"]);
    let inner = place.path().join("a");
    let whole = ["> b", "> b/c", "- b/c/file", "< b/c", "- b/other", "< b", "- top"];
    assert_eq!(walk_in(&inner, &["."], Rules::default()), whole);
    assert_eq!(walk_in(&inner, &["./"], Rules::default()), whole);
    assert_eq!(walk_in(&inner, &["b/c"], Rules::default()), ["> b", "> b/c", "- b/c/file", "< b/c", "< b"]);
    assert_eq!(walk_in(&inner, &["../x", "./top"], Rules::default()), ["- top", "- x"]);
    assert_eq!(walk_in(&inner, &["..//a/./b/../top"], Rules::default()), ["> a", "- a/top", "< a"]);
    // One inside the other, and one twice.
    assert_eq!(walk_in(&inner, &["b/c/file", "b", "b"], Rules::default()), whole[..6]);
    // An absolute one brings its ancestors, with their own metadata.
    let absolute = inner.join("top");
    let found = walk_in(&inner, &[absolute.to_str().unwrap()], Rules::default());
    let path = absolute.to_str().unwrap().trim_start_matches('/');
    assert_eq!(found.len(), 2 * path.matches('/').count() + 1);
    assert!(found.contains(&format!("- {path}")));
}

#[test]
fn ancestors_are_marked_and_hold_only_what_is_wanted() {
    let place = place(&["a/b/file", "a/other"]);
    let sources = Sources::new_in(place.path(), &["a/b".into()], &Excludes::new()).unwrap();
    assert_eq!(sources.paths, [place.path().join("a/b").as_os_str().as_bytes()]);
    let marks: Vec<_> = Walk::new(sources, Rules::default())
        .filter_map(|step| match step {
            Step::Enter(enter) => Some((enter.path, enter.ancestor)),
            _ => None,
        })
        .collect();
    assert_eq!(marks, [(b"a".to_vec(), true), (b"a/b".to_vec(), false)]);
}

#[test]
fn two_places_under_one_name_are_refused() {
    let place = place(&["a/docs/x", "docs/y"]);
    let error = Sources::new_in(&place.path().join("a"), &["docs".into(), "../docs".into()], &Excludes::new());
    let error = error.unwrap_err();
    assert!(matches!(&error, SourceError::Clash { name, .. } if name == b"docs"));
    assert!(error.to_string().contains("would both be \"docs\""));
}

#[test]
fn a_missing_source_is_a_problem_and_all_missing_an_error() {
    let place = place(&["here"]);
    let found = walk_in(place.path(), &["gone", "here", "far/gone", "here/below"], Rules::default());
    assert!(found.contains(&"! gone MissingSource".to_owned()), "{found:?}");
    assert!(found.contains(&"! far/gone MissingSource".to_owned()));
    assert!(found.contains(&"- here".to_owned()) && found.contains(&"! here/below MissingSource".to_owned()));
    assert_eq!(found.len(), 4);
    let none = Sources::new_in(place.path(), &["gone".into()], &Excludes::new());
    assert!(matches!(none, Err(SourceError::AllMissing(_))));
    assert!(matches!(Sources::new_in(place.path(), &[], &Excludes::new()), Err(SourceError::None)));
    let empty = Sources::new_in(place.path(), &["here".into(), "".into()], &Excludes::new());
    assert!(matches!(empty, Err(SourceError::Empty)));
}

#[test]
fn links_are_kept_except_on_the_way_to_a_source() {
    let place = place(&["real/dir/file"]);
    symlink("real", place.path().join("link")).unwrap();
    symlink("nowhere", place.path().join("real/dangling")).unwrap();
    assert_eq!(walk_in(place.path(), &["link"], Rules::default()), ["- link"]);
    assert_eq!(
        walk_in(place.path(), &["link/dir"], Rules::default()),
        ["> link", "> link/dir", "- link/dir/file", "< link/dir", "< link"]
    );
    let found = walk_in(place.path(), &["real"], Rules::default());
    assert_eq!(found, ["> real", "- real/dangling", "> real/dir", "- real/dir/file", "< real/dir", "< real"]);
}

#[test]
fn patterns_apply_to_the_absolute_path() {
    let place = place(&["s/keep", "s/x.log", "s/cache/y", "s/cache/keep", "s/deep/cache"]);
    let root = place.path().to_str().unwrap();
    assert_eq!(
        walk_in(place.path(), &["s"], excluding(&["*.log", "cache"])),
        ["> s", "> s/deep", "< s/deep", "- s/keep", "< s"]
    );
    let rooted = format!("{root}/s/cache");
    let found = walk_in(place.path(), &["s"], excluding(&[&rooted]));
    assert!(found.contains(&"- s/deep/cache".to_owned()) && !found.contains(&"> s/cache".to_owned()));
    let found = walk_in(place.path(), &["s"], excluding(&["s/cache/*", "!keep"]));
    assert!(found.contains(&"- s/cache/keep".to_owned()) && !found.contains(&"- s/cache/y".to_owned()));
    // A source inside what is left out stays, and so does one that a pattern means.
    for patterns in [&["deep"][..], &["cache"], &["*"], &["/**/deep", "!s/deep/cache"]] {
        let found = walk_in(place.path(), &["s", "s/deep/cache"], excluding(patterns));
        assert!(found.contains(&"- s/deep/cache".to_owned()), "{patterns:?}: {found:?}");
    }
    // What lies in a source is left out by a pattern for an ancestor of it.
    assert_eq!(walk_in(place.path(), &["s"], excluding(&["s"])), ["> s", "< s"]);
}

#[test]
fn tags_leave_their_siblings_out() {
    let place = place(&["s/c/data/x", "s/c/a", "s/fake/CACHEDIR.TAG", "s/fake/x", "s/nb/.nobackup", "s/nb/x"]);
    fs::write(place.path().join("s/c/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n# made by\n")
        .unwrap();
    let mut excludes = Excludes::new();
    excludes.add_caches();
    excludes.add_if_present(b".nobackup").unwrap();
    let found = walk_in(place.path(), &["s"], Rules { excludes, ..Rules::default() });
    let expected = [
        "> s",
        "> s/c",
        "- s/c/CACHEDIR.TAG",
        "< s/c",
        "> s/fake",
        "- s/fake/CACHEDIR.TAG",
        "- s/fake/x",
        "< s/fake",
        "> s/nb",
        "- s/nb/.nobackup",
        "< s/nb",
        "< s",
    ];
    assert_eq!(found, expected);
    let mut excludes = Excludes::new();
    excludes.add_if_present(b".nobackup:other").unwrap();
    let found = walk_in(place.path(), &["s/nb"], Rules { excludes, ..Rules::default() });
    assert!(found.contains(&"- s/nb/x".to_owned()));
    assert!(Excludes::new().add_if_present(b"a/b").is_err() && Excludes::new().add_if_present(b":x").is_err());
}

#[test]
fn the_top_directory_named_as_a_dot_has_its_tags_too() {
    let place = place(&["x", "d/y", ".nobackup"]);
    let mut excludes = Excludes::new();
    excludes.add_if_present(b".nobackup").unwrap();
    assert_eq!(walk_in(place.path(), &["."], Rules { excludes, ..Rules::default() }), ["- .nobackup"]);
}

#[test]
fn large_files_are_left_out_and_large_directories_not() {
    let place = place(&["s/small", "s/d/x"]);
    fs::write(place.path().join("s/large"), vec![0; 5_000]).unwrap();
    let mut excludes = Excludes::new();
    excludes.set_larger_than(1_000);
    let found = walk_in(place.path(), &["s"], Rules { excludes, ..Rules::default() });
    assert_eq!(found, ["> s", "> s/d", "- s/d/x", "< s/d", "- s/small", "< s"]);
}

#[test]
fn gitignore_files_are_obeyed_on_the_way() {
    let place = place(&["s/target/x", "s/a.o", "s/sub/a.o", "s/sub/keep.o", "s/sub/target", "s/src"]);
    fs::write(place.path().join("s/.gitignore"), "# built\n*.o\r\ntarget/\n").unwrap();
    fs::write(place.path().join("s/sub/.gitignore"), "!keep.o\n").unwrap();
    let mut excludes = Excludes::new();
    excludes.set_git_ignore(true);
    let expected = [
        "> s",
        "- s/.gitignore",
        "- s/src",
        "> s/sub",
        "- s/sub/.gitignore",
        "- s/sub/keep.o",
        "- s/sub/target",
        "< s/sub",
        "< s",
    ];
    assert_eq!(walk_in(place.path(), &["s"], Rules { excludes: excludes.clone(), ..Rules::default() }), expected);
    let top = walk_in(&place.path().join("s"), &["."], Rules { excludes, ..Rules::default() });
    assert_eq!(
        top,
        [".gitignore", "src", "", "sub/.gitignore", "sub/keep.o", "sub/target", ""]
            .iter()
            .zip(["- ", "- ", "> sub", "- ", "- ", "- ", "< sub"])
            .map(|(a, b)| format!("{b}{a}"))
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_mount_point_is_kept_empty_with_one_file_system() {
    // /proc is another file system than / on every Linux.
    let rules = || Rules { one_file_system: true, ..excluding(&["/*", "!/proc"]) };
    assert_eq!(walk_in(Path::new("/"), &["/"], rules()), ["> proc", "< proc"]);
    // Named itself, it is walked.
    let sources = Sources::new_in(Path::new("/"), &["/".into(), "/proc".into()], &Excludes::new()).unwrap();
    let mut walk = Walk::new(sources, rules());
    assert!(matches!(walk.next(), Some(Step::Enter(enter)) if enter.name == b"proc"));
    assert!(!matches!(walk.next(), Some(Step::Leave)));
}

#[test]
fn the_caller_can_skip_a_directory() {
    let place = place(&["s/a/x", "s/b"]);
    let sources = Sources::new_in(place.path(), &["s".into()], &Excludes::new()).unwrap();
    let mut walk = Walk::new(sources, Rules::default());
    let mut seen = Vec::new();
    while let Some(step) = walk.next() {
        match step {
            Step::Enter(enter) => {
                seen.push(enter.path.clone());
                assert_eq!(
                    walk.source_path(None),
                    place.path().join(OsStr::from_bytes(&enter.path)).as_os_str().as_bytes()
                );
                if enter.name == b"a" {
                    walk.skip_children();
                }
            }
            Step::Entry(entry) => {
                let expected = place.path().join(OsStr::from_bytes(&entry.path));
                assert_eq!(walk.source_path(Some(&entry.name)), expected.as_os_str().as_bytes());
                seen.push(entry.path);
            }
            Step::Leave => seen.push(b"<".to_vec()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [&b"s"[..], b"s/a", b"<", b"s/b", b"<"]);
}

#[test]
fn a_path_longer_than_the_kernel_takes_is_walked() {
    let place = tempfile::tempdir().unwrap();
    let mut directory = root_of(place.path());
    let name = [b'n'; 20];
    for _ in 0..300 {
        directory = directory.make_directory(&name).unwrap().0;
    }
    let file =
        packstone::files::new_file::NewFile::create(&directory, b"bottom", packstone::files::target::Existing::Refuse);
    file.unwrap().suspend().unwrap();
    let sources = Sources::new(&[place.path().join(OsStr::from_bytes(&name))], &Excludes::new()).unwrap();
    let mut deepest = 0;
    let mut bottom = false;
    for step in Walk::new(sources, Rules::default()) {
        match step {
            Step::Enter(enter) => deepest = deepest.max(enter.path.len()),
            Step::Entry(entry) => bottom |= entry.name == b"bottom" && entry.path.len() > 6_000,
            Step::Leave => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(deepest > 6_000 && bottom);
    // std removes by path and cannot; this is the remove of a restore.
    root_of(place.path()).remove(&name).unwrap();
    assert!(root_of(place.path()).names().unwrap().is_empty());
}

#[test]
fn what_is_deeper_than_a_tree_may_be_is_reported() {
    let place = tempfile::tempdir().unwrap();
    let mut directory = root_of(place.path());
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if limit.is_some_and(|limit| limit < DIRECTORY_DEPTH_MAX as u64 + 100) {
        // A walk holds a directory open for each level, and here it may not.
        return;
    }
    for _ in 0..=DIRECTORY_DEPTH_MAX {
        directory = directory.make_directory(b"d").unwrap().0;
    }
    let mut steps = (0, 0);
    let sources = Sources::new_in(place.path(), &["d".into()], &Excludes::new()).unwrap();
    for step in Walk::new(sources, Rules::default()) {
        match step {
            Step::Enter(_) => steps.0 += 1,
            Step::Leave => steps.1 += 1,
            Step::Problem(problem) => {
                assert_eq!((problem.kind, steps), (ProblemKind::TooDeep, (DIRECTORY_DEPTH_MAX, 0)));
                assert_eq!(problem.path.len(), 2 * DIRECTORY_DEPTH_MAX + 1);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(steps, (DIRECTORY_DEPTH_MAX, DIRECTORY_DEPTH_MAX));
    root_of(place.path()).remove(b"d").unwrap();
}

/// Names of 255 bytes, 4,096 one in the other: a file in the last has a longer path than any reader takes. It is named, under a path that
/// can be stored.
#[test]
fn what_has_a_longer_path_than_a_tree_may_have_is_reported() {
    let place = tempfile::tempdir().unwrap();
    let name = [b'n'; 255];
    let mut directory = root_of(place.path());
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    if limit.is_some_and(|limit| limit < DIRECTORY_DEPTH_MAX as u64 + 100) {
        println!("SKIPPED what_has_a_longer_path_than_a_tree_may_have_is_reported: too few files may be open");
        return;
    }
    for depth in 1..=DIRECTORY_DEPTH_MAX {
        directory = directory.make_directory(&name).unwrap().0;
        if depth >= DIRECTORY_DEPTH_MAX - 1 {
            let file = packstone::files::new_file::NewFile::create(
                &directory,
                b"f",
                packstone::files::target::Existing::Refuse,
            );
            file.unwrap().suspend().unwrap();
        }
    }
    let sources = Sources::new_in(place.path(), &[OsStr::from_bytes(&name).into()], &Excludes::new()).unwrap();
    let (mut files, mut problems) = (0, Vec::new());
    for step in Walk::new(sources, Rules::default()) {
        match step {
            Step::Entry(entry) => {
                assert!(entry.path.len() < packstone::codec::snapshot::PATH_MAX);
                files += 1;
            }
            Step::Problem(problem) => problems.push((problem.kind, problem.path.len())),
            _ => {}
        }
    }
    root_of(place.path()).remove(&name).unwrap();
    // A slash before each name: the deepest directory takes a whole path, and what is in it does not fit.
    assert_eq!((files, problems), (1, vec![(ProblemKind::TooDeep, DIRECTORY_DEPTH_MAX * 256 - 1)]));
}

#[test]
fn an_unreadable_directory_is_entered_and_reported() {
    if super::ran_as_ordinary_user("walk::an_unreadable_directory_is_entered_and_reported") {
        return;
    }
    let place = place(&["s/closed/x", "s/searchable/x", "s/z"]);
    let set = |name: &str, mode| {
        fs::set_permissions(place.path().join(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    set("s/closed", 0o000);
    set("s/searchable", 0o311);
    let found = walk_in(place.path(), &["s"], Rules::default());
    let named = walk_in(place.path(), &["s/searchable/x"], Rules::default());
    set("s/closed", 0o700);
    set("s/searchable", 0o700);
    let problem = |path| format!("! {path} {:?}", ProblemKind::Unreadable);
    let (closed, searchable) = (problem("s/closed"), problem("s/searchable"));
    let expected =
        ["> s", "> s/closed", &closed, "< s/closed", "> s/searchable", &searchable, "< s/searchable", "- s/z", "< s"];
    assert_eq!(found, expected);
    // An ancestor needs to be searched only.
    assert_eq!(named, ["> s", "> s/searchable", "- s/searchable/x", "< s/searchable", "< s"]);
}
