//! Command lines that are wrong, or right for another program.

use super::{Ran, packstone, run};
use std::os::unix::process::ExitStatusExt;

#[test]
fn habits_from_elsewhere_get_a_hint() {
    let unlock = run(&["unlock", "--remove-all"]);
    assert_eq!(unlock.code, Some(0));
    assert_eq!(unlock.out, "Nothing to do: locks here end with the process that holds them.\n");
    for (words, says) in [
        (&["mount", "/mnt"][..], "packstone"),
        (&["compact"], "packstone prune"),
        (&["delete", "::name"], "packstone forget ID"),
        (&["create", "::name", "/home"], "packstone backup PATH"),
        (&["-r", "/x", "list", "locks"], "packstone -r /x snapshots  or: packstone -r /x ls latest"),
    ] {
        let ran = run(words);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{words:?}");
        assert!(ran.err.starts_with("Error: ") || says == "packstone", "{}", ran.err);
        assert!(!ran.err.contains("unrecognized"), "{}", ran.err);
        if says != "packstone" {
            assert!(ran.err.contains(says), "{}", ran.err);
        }
    }
}

#[test]
fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
    for words in [&["--password", "hunter2", "snapshots"][..], &["snapshots", "--password=hunter2"]] {
        let ran = run(words);
        assert_eq!(ran.code, Some(2), "{words:?}");
        assert!(ran.err.contains("--password-file, --password-command, --password-fd"), "{}", ran.err);
        assert!(!ran.err.contains("hunter2"), "{}", ran.err);
    }
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for words in [
        &["bakup"][..],
        &[],
        &["snapshots", "--latest", "0"],
        &["restore", "latest"],
        &["restore", "nothex", "--target", "x"],
        &["backup", "--exclude-larger-than", "1.5G", "x"],
        &["check", "--read-data-subset", "6/5"],
        &["init", "--compression", "lots"],
        &["--retry-lock", "5d", "init"],
        &["cat", "snapshot"],
        &["find"],
    ] {
        let ran = run(words);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{words:?}");
        assert!(!ran.err.is_empty(), "{words:?}");
    }
}

#[test]
fn the_version_is_told_in_both_forms() {
    let text = run(&["version"]);
    assert_eq!(text.code, Some(0));
    assert!(text.out.starts_with(concat!("packstone ", env!("CARGO_PKG_VERSION"), " on ")), "{}", text.out);
    let json = run(&["version", "--json"]).out;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["message_type"], "version");
    assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn completions_and_manual_pages_are_made() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(&["completions", shell]);
        assert_eq!(script.code, Some(0), "{shell}");
        assert!(script.out.contains("exclude-larger-than") && !script.out.contains("unlock"), "{shell}");
    }
    let page = run(&["man"]);
    assert!(page.out.contains(".TH packstone 1") && page.out.contains("wrong passphrase"), "{}", page.out);
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    let ran = run(&["man", "--directory", pages.to_str().unwrap()]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    for name in ["packstone.1", "packstone-backup.1", "packstone-key-recovery-code.1"] {
        assert!(pages.join(name).is_file(), "{name}");
    }
    std::fs::write(dir.path().join("file"), "").unwrap();
    let refused = run(&["man", "--directory", dir.path().join("file").to_str().unwrap()]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("cannot write manual pages to "), "{}", refused.err);
}

/// `packstone man | head -1` must neither complain nor look like a success.
#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = packstone(&["man"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.signal(), Some(13), "{:?}", output.status);
    assert_eq!(Ran::from(output).err, "");
}

#[test]
fn a_full_disk_under_the_output_is_said() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ran = Ran::from(packstone(&["man"]).stdout(full).output().unwrap());
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.starts_with("Error: cannot write the output: No space left"), "{}", ran.err);
}
