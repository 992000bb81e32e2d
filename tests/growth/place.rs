//! Where files lie: the same file system under another device number.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::{World, skipped};

fn run(words: &[&str]) -> Result<String, String> {
    let output = Command::new(words[0]).args(&words[1..]).output().map_err(|error| format!("{}: {error}", words[0]))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Mounted and attached things, given back in the end.
struct Mounted {
    at: PathBuf,
    devices: Vec<String>,
    mounted: bool,
}

impl Mounted {
    fn mount(&mut self, image: &Path) -> Result<u64, String> {
        let device = run(&["losetup", "--find", "--show", image.to_str().unwrap()])?;
        self.devices.push(device.clone());
        run(&["mount", &device, self.at.to_str().unwrap()])?;
        self.mounted = true;
        Ok(fs::metadata(&self.at).unwrap().dev())
    }

    fn unmount(&mut self) -> Result<(), String> {
        self.mounted = false;
        run(&["umount", self.at.to_str().unwrap()]).map(drop)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.mounted {
            let _ = self.unmount();
        }
        for device in &self.devices {
            let _ = run(&["losetup", "--detach", device]);
        }
    }
}

#[test]
fn another_device_number_after_a_reboot_stores_nothing_again() {
    let test = "another device number";
    let folder = tempfile::tempdir().unwrap();
    let (image, other) = (folder.path().join("image"), folder.path().join("other"));
    for path in [&image, &other] {
        fs::File::create(path).unwrap().set_len(24 << 20).unwrap();
    }
    let at = folder.path().join("disk");
    fs::create_dir(&at).unwrap();
    let mut mounted = Mounted { at: at.clone(), devices: Vec::new(), mounted: false };
    let first = run(&["mkfs.ext4", "-q", image.to_str().unwrap()]).and_then(|_| mounted.mount(&image));
    let first = match first {
        Ok(device) => device,
        Err(why) => return skipped(test, &format!("it needs root, mkfs.ext4 and a loop device ({why})")),
    };
    for number in 0..2_000 {
        fs::write(at.join(format!("file-{number}")), vec![number as u8; 500]).unwrap();
    }
    fs::hard_link(at.join("file-1"), at.join("link")).unwrap();
    fs::File::open(&at).unwrap().sync_all().unwrap();
    // Longer than a page stays dirty would be a minute; old modification times say as much.
    for entry in fs::read_dir(&at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
            fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    let world = World::new();
    let report = world.backup_of(&at, &packstone::ops::Silent);
    assert_eq!(report.counts.files, 2_001);
    mounted.unmount().unwrap();
    // The first loop device stays taken by another file, so that the next mount is another device.
    let taken = mounted.devices[0].clone();
    run(&["losetup", "--detach", &taken]).unwrap();
    run(&["losetup", &taken, other.to_str().unwrap()]).unwrap();
    let second = mounted.mount(&image).unwrap();
    if first == second {
        return skipped(test, "the second mount has the same device number");
    }
    let before = world.stored();
    let report = world.backup_of(&at, &packstone::ops::Silent);
    println!(
        "device {first:#x}, then {second:#x}: {} bytes stored, {} files taken over unread",
        world.stored() - before,
        report.summary.files_unmodified
    );
    assert_eq!((report.written.data_chunks, report.written.tree_chunks), (0, 0));
    assert_eq!((report.summary.files_unmodified, report.summary.bytes_read), (2_001, 0));
}
