//! What is this program's own: known by inode, by its parts, by what lies above, and by what lies in it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use packstone::base::id::RepositoryId;
use packstone::base::time::Time;
use packstone::codec::chunker::Parameters;
use packstone::codec::config::Config;
use packstone::codec::key_tree::MasterKey;
use packstone::files::directory::Directory;
use packstone::files::exclude::Excludes;
use packstone::files::own::{Found, OwnPlaces, Owner, What};
use packstone::files::source::Sources;
use packstone::files::walk::{Rules, Step, Walk};

/// Something that looks like a repository, and its id.
fn make_repository(place: &Path, number: u8) -> RepositoryId {
    for folder in ["keys", "packs/ab", "index", "snapshots", "heads", "lock", "tmp"] {
        fs::create_dir_all(place.join(folder)).unwrap();
    }
    fs::write(place.join("packs/ab/pack"), "pack").unwrap();
    let config = config(number);
    fs::write(place.join("config"), &config).unwrap();
    Config::id(&config)
}

fn config(number: u8) -> Vec<u8> {
    let key = MasterKey::new([number; 32]).signing_key().verifying_key().to_bytes();
    Config::new(Parameters::FILES, key, Time::default()).encode().to_vec()
}

fn found(own: &OwnPlaces, path: &Path) -> Option<(Owner, bool)> {
    own.find_path(path).unwrap().map(|Found { owner, itself }| (owner, itself))
}

fn walked(own: &Arc<OwnPlaces>, top: &Path) -> Vec<String> {
    let sources = Sources::new_in(top, &["s".into()], &Excludes::new()).unwrap();
    let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let steps = Walk::new(sources, Rules { own: own.clone(), ..Rules::default() });
    let line = |step| match step {
        Step::Enter(enter) => Some(format!("> {}", text(&enter.path))),
        Step::Entry(entry) => Some(format!("- {}", text(&entry.path))),
        Step::Own(path) => Some(format!("= {}", text(&path))),
        Step::Leave => None,
        Step::Problem(problem) => panic!("{problem:?}"),
    };
    steps.filter_map(line).collect()
}

#[test]
fn a_place_its_parts_and_everything_beneath_are_own() {
    let top = tempfile::tempdir().unwrap();
    let place = top.path().join("s/repository");
    let id = make_repository(&place, 1);
    fs::create_dir_all(top.path().join("s/state/mirrors")).unwrap();
    fs::create_dir_all(place.join("index/deep/deeper")).unwrap();
    symlink(place.join("index/deep"), top.path().join("link")).unwrap();
    let mut own = OwnPlaces::new(Some(id));
    own.add(What::Repository, &place);
    own.add(What::State, &top.path().join("s/state"));
    own.add(What::Configuration, &top.path().join("s/settings"));
    assert_eq!((own.unknown(), own.absent_mirrors()), (&[][..], Vec::new()));
    let repository = || Owner::Place(What::Repository);
    for (path, expected) in [
        ("", None),
        ("s", None),
        ("s/other", None),
        ("s/repository", Some((repository(), true))),
        ("s/repository/keys", Some((repository(), true))),
        ("s/repository/packs/ab", Some((repository(), true))),
        ("s/repository/packs/ab/new/er", Some((repository(), false))),
        ("s/repository/index/deep/deeper", Some((repository(), false))),
        ("link/deeper", Some((repository(), false))),
        ("link/../deep/nothing", Some((repository(), false))),
        ("s/state/mirrors", Some((Owner::Place(What::State), true))),
        ("s/state/mirrors/x", Some((Owner::Place(What::State), false))),
        ("s/settings", None),
    ] {
        assert_eq!(found(&own, &top.path().join(path)), expected, "{path}");
        assert_eq!(own.refuse_within(&top.path().join(path)).is_err(), expected.is_some(), "{path}");
    }
    // One that was not there when the set was made counts as soon as it is.
    let own = Arc::new(own);
    assert_eq!(walked(&own, top.path()), ["> s", "= s/repository", "= s/state"]);
    fs::create_dir_all(top.path().join("s/settings/new")).unwrap();
    fs::create_dir_all(top.path().join("s/a/settings")).unwrap();
    let expected = ["> s", "> s/a", "> s/a/settings", "= s/repository", "= s/settings", "= s/state"];
    assert_eq!(walked(&own, top.path()), expected);
    let settings = Owner::Place(What::Configuration);
    assert_eq!(found(&own, &top.path().join("s/settings/new")), Some((settings, false)));
}

#[test]
fn a_copy_is_known_by_what_lies_in_it() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join("s").join(name);
    let id = make_repository(&at("copy"), 1);
    let other = make_repository(&at("other"), 2);
    // No folders beside it: a saved config, not a repository.
    fs::create_dir_all(at("alone/heads-of-state")).unwrap();
    fs::write(at("alone/config"), config(1)).unwrap();
    for (name, content) in
        [("short", &config(1)[..255]), ("long", &[config(1), vec![0]].concat()), ("zeros", &[0; 256])]
    {
        fs::create_dir_all(at(name).join("packs")).unwrap();
        fs::write(at(name).join("config"), content).unwrap();
    }
    for name in ["link", "pipe", "directory"] {
        fs::create_dir_all(at(name).join("packs")).unwrap();
    }
    symlink(at("copy/config"), at("link/config")).unwrap();
    assert!(Command::new("mkfifo").arg(at("pipe/config")).status().unwrap().success());
    fs::create_dir(at("directory/config")).unwrap();
    let own = Arc::new(OwnPlaces::new(Some(id)));
    for name in ["alone", "short", "long", "zeros", "link", "pipe", "directory"] {
        assert_eq!(found(&own, &at(name)), None, "{name}");
    }
    assert_eq!(found(&own, &at("copy")), Some((Owner::Copy, true)));
    assert_eq!(found(&own, &at("copy/packs/ab")), Some((Owner::Copy, false)));
    assert_eq!(found(&own, &at("other/packs/ab")), Some((Owner::Other(other), false)));
    // Somebody else's repository is data; a copy of ours would grow with every backup.
    let steps = walked(&own, top.path());
    assert!(
        steps.contains(&"= s/copy".to_owned()) && steps.contains(&"- s/other/packs/ab/pack".to_owned()),
        "{steps:?}"
    );
    assert_eq!(steps.iter().filter(|step| step.starts_with('=')).count(), 1);
    // Within a copy of ours, another one is ours too.
    make_repository(&at("copy/tmp/other"), 2);
    assert_eq!(found(&own, &at("copy/tmp/other")), Some((Owner::Copy, false)));
}

#[test]
fn a_source_in_a_place_is_found_through_links_and_not_for_being_one() {
    let top = tempfile::tempdir().unwrap();
    let place = top.path().join("repository");
    let id = make_repository(&place, 1);
    symlink(&place, top.path().join("link")).unwrap();
    fs::create_dir(top.path().join("data")).unwrap();
    let mut own = OwnPlaces::new(Some(id));
    own.add(What::Repository, &place);
    let source = |name: &str| own.find_source(top.path().join(name).as_os_str().as_bytes());
    for (name, is_own) in [
        ("repository", true),
        ("repository/keys", true),
        ("repository/config", true),
        ("link/keys", true),
        ("link", false),
        ("data", false),
    ] {
        assert_eq!(source(name).unwrap().is_some(), is_own, "{name}");
    }
    assert_eq!(source("nothing").unwrap_err().kind(), std::io::ErrorKind::NotFound);
    // The walk goes through the link that was named, and stops there too.
    let sources = Sources::new_in(top.path(), &["link/keys".into(), "data".into()], &Excludes::new()).unwrap();
    let own = Arc::new(own);
    let steps: Vec<Step> = Walk::new(sources, Rules { own: own.clone(), ..Rules::default() }).collect();
    assert!(steps.iter().any(|step| matches!(step, Step::Own(path) if path == b"link")), "{steps:?}");
    // The current directory lies in it.
    let sources = Sources::new_in(&place.join("packs"), &[".".into()], &Excludes::new()).unwrap();
    let mut steps = Walk::new(sources, Rules { own, ..Rules::default() });
    assert!(steps.all(|step| matches!(step, Step::Own(_))));
}

#[test]
fn a_bind_mount_of_a_part_is_recognised() {
    let top = tempfile::tempdir().unwrap();
    let place = top.path().join("repository");
    let id = make_repository(&place, 1);
    fs::create_dir_all(top.path().join("s/mounted")).unwrap();
    let mut own = OwnPlaces::new(Some(id));
    own.add(What::Mirror("offsite".to_owned()), &place);
    let own = Arc::new(own);
    for part in ["", "keys", "packs", "packs/ab", "heads"] {
        let mounted = top.path().join("s/mounted");
        let mount = Command::new("mount").arg("--bind").arg(place.join(part)).arg(&mounted).output();
        if !mount.is_ok_and(|ran| ran.status.success()) {
            eprintln!("SKIPPED a_bind_mount_of_a_part_is_recognised: mounting is not allowed here");
            return;
        }
        let steps = std::panic::catch_unwind(|| (walked(&own, top.path()), found(&own, &mounted.join("new"))));
        assert!(Command::new("umount").arg(&mounted).status().unwrap().success());
        let (steps, found) = steps.unwrap();
        assert_eq!(steps, ["> s", "= s/mounted"], "{part}");
        assert_eq!(found, Some((Owner::Place(What::Mirror("offsite".to_owned())), false)), "{part}");
    }
}

#[test]
fn what_cannot_be_looked_at_is_said() {
    if super::ran_as_ordinary_user("own::what_cannot_be_looked_at_is_said") {
        return;
    }
    let top = tempfile::tempdir().unwrap();
    let closed = top.path().join("closed");
    make_repository(&closed.join("mirror"), 1);
    let mut own = OwnPlaces::new(None);
    own.add(What::Mirror("gone".to_owned()), &top.path().join("not mounted/mirror"));
    assert!(own.require_known().is_ok());
    assert_eq!(own.absent_mirrors().len(), 1);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    own.add(What::Mirror("shut".to_owned()), &closed.join("mirror"));
    let refused = own.require_known();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let sentence = refused.unwrap_err().to_string();
    assert!(sentence.contains("mirror shut at ") && sentence.contains("nothing is removed"), "{sentence}");
    own.add_unknown("the list is lost".to_owned());
    assert_eq!(own.unknown().len(), 2);
}

/// Of a directory of caches the folders of repositories are own. One that may not be listed is not taken for an empty one.
#[test]
fn a_directory_of_caches_that_cannot_be_listed_is_said() {
    if super::ran_as_ordinary_user("own::a_directory_of_caches_that_cannot_be_listed_is_said") {
        return;
    }
    let top = tempfile::tempdir().unwrap();
    let caches = top.path().join("caches");
    let folder = caches.join(Config::id(&config(1)).to_string());
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir(caches.join("other")).unwrap();
    let mut own = OwnPlaces::new(None);
    own.add_caches_in(&top.path().join("not there"));
    own.add_caches_in(&caches);
    assert!(own.require_known().is_ok());
    assert_eq!(found(&own, &folder), Some((Owner::Place(What::Cache), true)));
    assert_eq!((found(&own, &caches.join("other")), found(&own, &caches)), (None, None));
    for mode in [0o000, 0o300] {
        let mut own = OwnPlaces::new(None);
        fs::set_permissions(&caches, fs::Permissions::from_mode(mode)).unwrap();
        own.add_caches_in(&caches);
        fs::set_permissions(&caches, fs::Permissions::from_mode(0o700)).unwrap();
        let sentence = own.require_known().unwrap_err().to_string();
        assert!(sentence.contains("cache at ") && sentence.contains("nothing is removed"), "{mode:o}: {sentence}");
    }
}

/// A target deeper than any path may be named is climbed from its descriptor.
#[test]
fn what_lies_deep_beneath_is_found() {
    let top = tempfile::tempdir().unwrap();
    let place = top.path().join("repository");
    let id = make_repository(&place, 1);
    let mut directory = super::root_of(&place);
    for _ in 0..3_000 {
        directory = directory.make_directory(b"d").unwrap().0;
    }
    let own = OwnPlaces::new(Some(id));
    let found = own.find(directory.as_directory()).unwrap().unwrap();
    assert_eq!((found.owner, found.itself), (Owner::Copy, false));
    let free = Directory::open_root(top.path()).unwrap();
    assert_eq!(own.find(&free).unwrap(), None);
    super::root_of(&place).remove(b"d").unwrap();
    assert!(!place.join(OsStr::from_bytes(b"d")).exists());
}

/// Story: a cache was made again while a restore ran, its directory's number became that of the target, and the restore refused its
/// own target. A backup would have left a directory of the user's out.
#[test]
fn a_number_that_is_used_again_is_nobodys() {
    use std::os::unix::fs::MetadataExt;
    let top = tempfile::tempdir().unwrap();
    let cache = top.path().join("cache");
    let mut reused = 0;
    for round in 0..50 {
        fs::create_dir_all(cache.join("old")).unwrap();
        let number = fs::metadata(cache.join("old")).unwrap().ino();
        let mut own = OwnPlaces::new(None);
        own.add(What::Cache, &cache);
        assert!(found(&own, &cache.join("old")).is_some());
        fs::remove_dir(cache.join("old")).unwrap();
        let data = top.path().join(format!("data{round}"));
        fs::create_dir(&data).unwrap();
        reused += usize::from(fs::metadata(&data).unwrap().ino() == number);
        assert_eq!(found(&own, &data), None, "{round}");
    }
    println!("{reused} of 50 directories had the number of one that was gone");
}

/// Story: somebody's repository, of which the config could not be read, was removed by a restore with --delete.
#[test]
fn a_repository_whose_config_cannot_be_read_is_somebodys() {
    let top = tempfile::tempdir().unwrap();
    let place = top.path().join("damaged");
    let id = make_repository(&place, 1);
    let own = OwnPlaces::new(Some(id));
    for content in [vec![0; 256], config(1)[..100].to_vec(), [config(1), b"newer".to_vec()].concat(), Vec::new()] {
        fs::write(place.join("config"), &content).unwrap();
        assert_eq!(found(&own, &place), Some((Owner::Unknown, true)), "{}", content.len());
        assert!(!Owner::Unknown.is_own(), "it is data, and goes into a backup");
    }
    // A saved config and a folder that has the right name make no repository.
    fs::create_dir_all(top.path().join("project/packs")).unwrap();
    fs::write(top.path().join("project/config"), config(1)).unwrap();
    assert_eq!(found(&own, &top.path().join("project")), None);
}
