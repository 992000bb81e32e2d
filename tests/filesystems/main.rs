//! Restores to every file system that can be mounted here: `run.sh` does it, and says what it shows; `trial.py` compares.
//!
//! The short form takes tmpfs, ext4, bindfs and exFAT over FUSE, `PACKSTONE_FULL=1` all that there are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

#[test]
fn a_restore_holds_what_the_file_system_can_hold_and_names_the_rest() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/filesystems/run.sh");
    let ran = Command::new("bash").arg(script).env("PACKSTONE", env!("CARGO_BIN_EXE_packstone")).output().unwrap();
    let out = String::from_utf8_lossy(&ran.stdout);
    print!("{out}");
    assert!(ran.status.success(), "{}\n{out}\n{}", ran.status, String::from_utf8_lossy(&ran.stderr));
    assert!(out.contains("file systems: ") || out.contains("SKIPPED file systems"), "{out}");
}
