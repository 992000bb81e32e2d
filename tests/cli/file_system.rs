//! Repositories and mirrors on file systems that promise little: no hard links, no rename that never replaces, no modes.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use super::reading::json;
use super::support::{World, files_beneath};

/// A disk with exFAT, mounted by FUSE, for as long as this lives.
struct Disk {
    at: PathBuf,
    device: String,
}

impl Disk {
    fn mount(world: &World) -> Option<Self> {
        let (image, at) = (world.path("image"), world.path("disk"));
        File::create(&image).unwrap().set_len(128 << 20).unwrap();
        fs::create_dir(&at).unwrap();
        let run = |program: &str, words: &[&str]| {
            let ran = Command::new(program).args(words).output().ok()?;
            ran.status.success().then(|| String::from_utf8_lossy(&ran.stdout).trim().to_owned())
        };
        run("mkfs.exfat", &[world.text(&image)])?;
        let device = run("losetup", &["-f", "--show", world.text(&image)])?;
        let disk = Self { at, device };
        run("mount.exfat-fuse", &[&disk.device, world.text(&disk.at)])?;
        Some(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
        let _ = Command::new("losetup").args(["-d", &self.device]).output();
    }
}

/// Story: `init` on a stick with exFAT said "check who owns the repository's directory".
#[test]
fn a_repository_and_a_mirror_on_exfat() {
    const NAME: &str = "a_repository_and_a_mirror_on_exfat";
    let world = World::new();
    if !rustix::process::geteuid().is_root() {
        return println!("SKIPPED file_system::{NAME}: needs root, to mount");
    }
    let Some(disk) = Disk::mount(&world) else {
        return println!(
            "SKIPPED file_system::{NAME}: needs mkfs.exfat, mount.exfat-fuse, losetup and a free loop device"
        );
    };
    world.write("a", "content".repeat(10_000));
    world.write("below/b", "other");
    let (repository, mirror) = (disk.at.join("repository"), disk.at.join("mirror"));
    let (repository, mirror, key) = (world.text(&repository), world.text(&mirror), world.key());
    let ran = world.bare(&["--repo", repository, "init", "--new-key-file", world.text(&key)]).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("let one machine at a time write"), "{said}");
    let on_disk = |words: &[&str]| world.ok(&[&["--repo", repository], words].concat());
    on_disk(&["backup", "tree"]);
    world.write("a", "changed".repeat(10_000));
    // Two at once: one waits for the other, and both are there.
    let mut other = world.command(&["--repo", repository, "--retry-lock", "1m", "backup", "tree/below"]);
    let other = other.spawn().unwrap();
    on_disk(&["--retry-lock", "1m", "backup", "tree"]);
    assert!(other.wait_with_output().unwrap().status.success());
    on_disk(&["mirror", "add", "m", mirror]);
    on_disk(&["sync"]);
    on_disk(&["check", "--mirror", "m", "--read-data"]);
    on_disk(&["forget", "--keep-last", "1"]);
    on_disk(&["prune"]);
    on_disk(&["backup", "tree"]);
    on_disk(&["sync"]);
    on_disk(&["check", "--read-data"]);
    // The damaged one goes into quarantine.
    let pack = files_beneath(&disk.at.join("repository/packs")).remove(0);
    let length = fs::metadata(&pack).unwrap().len();
    fs::write(&pack, vec![0; usize::try_from(length).unwrap()]).unwrap();
    on_disk(&["repair", "objects"]);
    on_disk(&["check", "--read-data"]);
    assert_eq!(json(&on_disk(&["snapshots", "--json"])).as_array().unwrap().len(), 3);
    // A second repository is not made over the first.
    assert_eq!(world.run(&["--repo", repository, "init"]).code, Some(1));
    let recovered = disk.at.join("recovered");
    world.ok(&["recover", mirror, "--to", world.text(&recovered)]);
    let ran = world.ok(&["--repo", world.text(&recovered), "restore", "latest", "--target", "back"]);
    assert_eq!(fs::read_to_string(world.path("back/tree/a")).unwrap(), "changed".repeat(10_000), "{}", ran.err);
    assert_eq!(fs::read_dir(disk.at.join("repository/tmp")).unwrap().count(), 0);
}
