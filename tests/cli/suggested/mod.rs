//! Every command that the program suggests runs as it is printed, and acts on the repository that was meant.
//!
//! The repository's path has blanks, quotes and a dollar sign, and another repository lies where commands go that name none. In many states
//! many commands are run; from all that they print a script takes what they suggest, types it into a shell in another directory, and looks which
//! repository the program was given, how it ended, and whether the other repository is as it was.
//!
//! Words in capitals are the user's to fill in.

mod by_hand;
mod script;
mod stage;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use self::stage::{KEY_FILE, REPOSITORY, Stage, spoil};
use super::check::damage;
use super::support::files_beneath;

/// So many different commands are met, ids and places apart.
const MET_LEAST: usize = 65;

#[test]
fn every_suggested_command_acts_on_the_repository_that_was_meant() {
    let mut stage = Stage::new();
    let stage = &mut stage;
    before_anything(stage);
    assert_eq!(stage.say(&["init"]).code, Some(0));
    stage.say(&["init"]);
    without_snapshots(stage);
    snapshots(stage);
    removing(stage);
    other_programs(stage);
    keys(stage);
    mirrors(stage);
    damaged(stage);
    damaged_with_mirror(stage);
    recovering(stage);
    let kinds: BTreeSet<&String> = stage.met.keys().collect();
    for kind in &kinds {
        println!("{kind}");
    }
    println!("{} suggested commands ran, and acted on the repository that was meant", kinds.len());
    assert!(stage.failed.is_empty(), "{}", stage.failed.join("\n\n"));
    assert!(kinds.len() >= MET_LEAST, "only {} different commands were suggested", kinds.len());
}

fn before_anything(stage: &mut Stage) {
    for words in [&["snapshots"][..], &["--json", "ls", "latest"], &["backup", "tree"], &["check"]] {
        assert_eq!(stage.say(words).code, Some(10), "{words:?}");
    }
    stage.say_by_variable(&["snapshots"]);
}

fn without_snapshots(stage: &mut Stage) {
    for words in [
        &["status"][..],
        &["status", "--json"],
        &["ls", "latest"],
        &["backup"],
        &["mirror", "list"],
        &["sync"],
        &["drill"],
        &["drill", "history"],
        &["backup", REPOSITORY],
        &["backup", "--stdin-from-command"],
        &["forget"],
    ] {
        stage.say(words);
    }
}

fn snapshots(stage: &mut Stage) {
    stage.ok(&["backup", "tree"]);
    fs::remove_file(stage.path("tree/gone")).unwrap();
    stage.backup();
    stage.say_by_variable(&["backup", "--force", "tree"]);
    fs::rename(stage.path("tree/sub"), stage.path("tree/it's other")).unwrap();
    stage.ok(&["backup", "tree"]);
    stage.ok(&["deleted"]);
    stage.ok(&["deleted", "--limit", "1"]);
    for words in [
        &["ls", "12345678"][..],
        &["ls", "latest~99"],
        &["snapshots", "12345678"],
        &["restore", "latest:/nothing", "--target", "back"],
        &["ls", "latest", "--host", "nobody"],
        &["check"],
        &["check", "--read-data"],
        &["status"],
        &["stats"],
        &["cat", "key", "000000000000"],
        &["cat", "chunk", "000000000000"],
        &["cat", "pack", "000000000000"],
        &["repair", "index"],
        &["repair", "packs"],
        &["repair", "packs", "000000000000"],
        &["repair", "heads"],
        &["repair", "objects"],
        &["repair", "snapshots"],
    ] {
        stage.say(words);
    }
    stage.aside(|stage| {
        stage.say(&["backup", "tree", "no such"]);
        for words in [&["snapshots"][..], &["restore", "latest", "--target", "back"], &["status"], &["show", "latest"]]
        {
            stage.say(words);
        }
    });
    stage.aside(|stage| {
        fs::rename(stage.path("tree"), stage.path("mounted")).unwrap();
        fs::create_dir(stage.path("tree")).unwrap();
        stage.say(&["backup", "tree"]);
        stage.say(&["status"]);
        stage.say(&["backup", "--allow-empty", "tree"]);
        stage.say(&["status"]);
    });
    stage.aside(|stage| {
        stage.ok(&["hold", "latest"]);
        stage.ok(&["show", "latest"]);
        stage.say(&["forget", "latest"]);
    });
    stage.say(&["status", "--max-age", "0"]);
    // What acts on a terminal is typed by printf.
    stage.aside(|stage| {
        let hostile = "line\nbreak  it's \u{1b}[31m%s $HOME";
        fs::create_dir(stage.path(hostile)).unwrap();
        fs::write(stage.path(hostile).join("file"), "content").unwrap();
        let ran = stage.ok(&["backup", hostile]);
        assert!(ran.out.contains("\"$(printf '"), "{}", ran.out);
        stage.say(&["status", "--max-age", "0"]);
        stage.say(&["--json", "status", "--max-age", "0"]);
    });
}

fn removing(stage: &mut Stage) {
    stage.aside(|stage| {
        for number in 0..100 {
            fs::write(stage.path(&format!("tree/{number}")), "here").unwrap();
        }
        stage.backup();
        for number in 0..100 {
            fs::remove_file(stage.path(&format!("tree/{number}"))).unwrap();
        }
        stage.backup();
        stage.say(&["status"]);
    });
    stage.aside(|stage| {
        stage.ok(&["rewrite", "--exclude", "a file"]);
        stage.say(&["rewrite", "--exclude", "sub", "--forget"]);
    });
    let id = stage.backup();
    stage.ok(&["forget", &id]);
    stage.say(&["undelete"]);
    stage.say(&["undelete", "12345678"]);
    stage.say(&["forget", "--keep-last", "1", "--dry-run", "--prune"]);
    stage.say(&["forget", "--keep-last", "1"]);
    stage.say(&["prune"]);
    stage.say(&["prune", "--max-unused", "0"]);
}

fn other_programs(stage: &mut Stage) {
    for name in [
        "create",
        "extract",
        "export-tar",
        "list",
        "log",
        "info",
        "cache",
        "generate",
        "rebuild-index",
        "delete",
        "compact",
        "mount",
    ] {
        stage.say(&[name]);
        stage.say_by_variable(&[name, "x"]);
    }
    stage.say(&["snapshots", "--insecure-no-password"]);
    stage.say(&["cat", "--pack", "000000000000"]);
}

fn keys(stage: &mut Stage) {
    for words in
        [&["key", "remove", "000000000000"][..], &["key", "recovery-code"], &["key", "kit"], &["key", "passwd"]]
    {
        stage.say(words);
    }
    fs::write(stage.path("empty"), "\n").unwrap();
    fs::write(stage.path("passphrase"), "correct horse\n").unwrap();
    for (variable, file) in [
        ("PACKSTONE_KEY_FILE", "empty"),
        ("PACKSTONE_PASSWORD_FILE", "empty"),
        ("PACKSTONE_PASSWORD_FILE", "passphrase"),
    ] {
        let mut command = stage.program(&["-r", REPOSITORY, "snapshots"]);
        command.env_remove("PACKSTONE_KEY_FILE").env(variable, file);
        stage.hear(command, &stage.repository(), &format!("{variable}={file}"));
    }
    stage.aside(|stage| {
        let own = stage.say(&["--json", "key", "list"]);
        let own: Vec<serde_json::Value> = serde_json::from_str(&own.out).unwrap();
        stage.say(&["key", "remove", own[0]["id"].as_str().unwrap()]);
        stage.ok(&["key", "add", "--new-password-file", "passphrase", "--kdf-memory", "64M"]);
        let all = stage.say(&["--json", "key", "list"]);
        let all: Vec<serde_json::Value> = serde_json::from_str(&all.out).unwrap();
        let other =
            all.iter().map(|key| key["id"].as_str().unwrap()).find(|id| Some(*id) != own[0]["id"].as_str()).unwrap();
        stage.secret = ("PACKSTONE_PASSWORD_FILE", "passphrase");
        stage.say(&["key", "remove", other]);
        stage.secret = KEY_FILE;
        let file =
            files_beneath(&stage.repository().join("keys")).into_iter().find(|file| file.ends_with(other)).unwrap();
        damage(&file, |bytes| bytes[60] ^= 1);
        stage.say(&["check"]);
        stage.say(&["status"]);
    });
    stage.aside(|stage| {
        stage.ok(&["key", "kit", "--output", "kit.html"]);
        stage.say(&["mirror", "add", "offsite", "mirror"]);
        stage.ok(&["key", "kit", "--output", "kit.txt"]);
    });
}

fn mirrors(stage: &mut Stage) {
    stage.say(&["sync", "nowhere"]);
    stage.say(&["mirror", "remove", "nowhere"]);
    stage.say(&["--from", "nowhere", "ls", "latest"]);
    stage.ok(&["mirror", "add", "offsite", "mirror"]);
    stage.say(&["mirror", "add", "offsite", "mirror"]);
    stage.say(&["check", "--mirror", &stage.text("mirror"), "--budget", "1G"]);
    stage.say(&["status"]);
    stage.ok(&["sync"]);
    stage.say(&["drill", "history"]);
    stage.ok(&["mirror", "list"]);
    for words in [&["ls", "12345678"][..], &["ls", "latest:/nothing"], &["check"]] {
        stage.say(&[&["--from", "offsite"], words].concat());
    }
    stage.aside(|stage| {
        fs::write(stage.path("tree/new"), "new").unwrap();
        stage.ok(&["backup", "tree"]);
        stage.say(&["status", "--max-behind", "0"]);
    });
    stage.aside(|stage| {
        for file in stage.files("mirror/packs") {
            fs::remove_file(file).unwrap();
        }
        stage.say(&["check", "--mirror", "offsite"]);
        stage.say(&["--from", "offsite", "restore", "latest", "--target", "back"]);
        stage.say(&["drill", "offsite"]);
        stage.say(&["drill", "history"]);
        stage.say(&["status"]);
    });
    stage.aside(|stage| {
        for file in stage.files("mirror/packs") {
            damage(&file, |bytes| bytes[100] ^= 1);
        }
        stage.say(&["check", "--mirror", "offsite", "--read-data"]);
        stage.say(&["repair", "mirror", "offsite"]);
    });
    stage.aside(|stage| {
        damage(&stage.path("mirror/config"), |bytes| bytes[40] ^= 1);
        stage.say(&["sync"]);
    });
    stage.aside(|stage| {
        fs::rename(stage.path("mirror"), stage.path("unplugged")).unwrap();
        stage.say(&["sync"]);
        fs::create_dir(stage.path("mirror")).unwrap();
        stage.say(&["sync"]);
    });
    stage.aside(|stage| {
        let older = stage.root.with_file_name("older");
        assert!(Command::new("cp").arg("-a").arg(stage.path("mirror")).arg(&older).status().unwrap().success());
        stage.ok(&["backup", "--force", "tree"]);
        stage.ok(&["sync"]);
        fs::remove_dir_all(stage.path("mirror")).unwrap();
        fs::rename(&older, stage.path("mirror")).unwrap();
        stage.say(&["sync"]);
    });
    stage.aside(|stage| {
        let older = stage.root.with_file_name("older");
        assert!(Command::new("cp").arg("-a").arg(stage.repository()).arg(&older).status().unwrap().success());
        fs::write(stage.path("tree/new"), "new").unwrap();
        stage.backup();
        stage.ok(&["sync"]);
        fs::remove_dir_all(stage.repository()).unwrap();
        fs::rename(&older, stage.repository()).unwrap();
        stage.say(&["snapshots"]);
        stage.say(&["sync"]);
        // This machine remembers nothing of the newer state.
        fs::remove_dir_all(stage.path("home/.local/state/packstone/repositories")).unwrap();
        stage.say(&["sync"]);
        stage.backup();
        stage.say(&["sync"]);
    });
    stage.aside(|stage| {
        stage.ok(&["forget", "--keep-last", "1", "--prune", "--instant", "--max-unused", "0"]);
        stage.ok(&["sync", "--grace", "0"]);
        stage.say(&["sync", "--grace", "0", "--max-delete", "0"]);
    });
}

fn damaged(stage: &mut Stage) {
    stage.aside(|stage| {
        stage.ok(&["mirror", "remove", "offsite"]);
        damaged_objects(stage);
    });
}

fn damaged_with_mirror(stage: &mut Stage) {
    damaged_objects(stage);
}

fn damaged_objects(stage: &mut Stage) {
    stage.spoilt("packs", |stage| {
        stage.say(&["--json", "restore", "latest", "--target", "other"]);
        stage.say(&["--json", "status"]);
        for words in [
            &["check", "--read-data"][..],
            &["--json", "check", "--read-data"],
            &["status"],
            &["sync"],
            &["restore", "latest", "--target", "back"],
            &["ls", "latest"],
            &["find", "a*"],
            &["stats"],
            &["repair", "index"],
            &["repair", "snapshots"],
            &["repair", "packs", "--dry-run"],
            &["backup", "tree"],
            &["repair", "objects"],
        ] {
            stage.say(words);
        }
        stage.say(&["repair", "packs"]);
        stage.say(&["repair", "snapshots"]);
        stage.say(&["check"]);
    });
    for folder in ["snapshots", "index", "keys", "heads"] {
        stage.spoilt(folder, |stage| {
            for words in [
                &["check"][..],
                &["snapshots"],
                &["ls", "latest"],
                &["status"],
                &["find", "a*"],
                &["deleted"],
                &["stats"],
                &["restore", "latest", "--target", "back"],
                &["backup", "tree"],
                &["forget", "--keep-last", "1"],
                &["repair", "snapshots"],
                &["repair", "packs"],
                &["sync"],
                &["repair", "heads"],
                &["repair", "index"],
                &["check"],
            ] {
                stage.say(words);
            }
        });
    }
    stage.aside(|stage| {
        fs::remove_dir_all(stage.repository().join("packs")).unwrap();
        fs::create_dir(stage.repository().join("packs")).unwrap();
        for words in [
            &["check"][..],
            &["repair", "index"],
            &["repair", "packs"],
            &["repair", "snapshots"],
            &["repair", "objects"],
            &["check"],
        ] {
            stage.say(words);
        }
    });
    stage.aside(|stage| {
        let newest = files_beneath(&stage.repository().join("heads")).pop().unwrap();
        damage(&newest, |bytes| bytes[200] ^= 1);
        stage.say(&["snapshots"]);
        stage.say(&["repair", "heads"]);
        stage.say(&["repair", "heads", "--set-back"]);
        stage.say(&["undelete"]);
    });
    stage.aside(|stage| {
        fs::remove_file(stage.repository().join("config")).unwrap();
        stage.say(&["snapshots"]);
        fs::remove_dir_all(stage.repository()).unwrap();
        stage.say(&["snapshots"]);
    });
}

/// Here the hints are about the repository that is made, or that is copied from.
fn recovering(stage: &mut Stage) {
    let to = stage.path("back $HOME");
    stage.aside(|stage| {
        let recover = ["recover", &stage.text("mirror"), "--to", "back $HOME"];
        for words in [&recover[..], &recover] {
            stage.hear(stage.program(words), &to, "recover --to");
        }
        let command = stage.program(&["-r", "back $HOME", "backup", "tree"]);
        stage.hear(command, &to, "a backup of what was recovered");
    });
    stage.say(&["recover", "nowhere", "--to", "new"]);
    let mut made = stage.program(&["-r", "destination", "init"]);
    assert!(made.output().unwrap().status.success());
    for folder in ["packs", "index", "heads"] {
        stage.spoilt(folder, |stage| {
            let mut copy = stage.program(&["-r", "destination", "copy", "--from-repo", REPOSITORY]);
            copy.env("PACKSTONE_FROM_KEY_FILE", stage.path("key"));
            stage.hear(copy, &stage.repository(), "copy");
        });
    }
    // And about the mirror that is read.
    for folder in ["packs", "index", "heads"] {
        stage.aside(|stage| {
            for file in stage.files(&format!("mirror/{folder}")) {
                damage(&file, |bytes| spoil(bytes));
            }
            let recover = ["recover", &stage.text("mirror"), "--to", "new"];
            match folder {
                "heads" => drop(stage.say(&recover)),
                // What came back lacks something: what is said is about that.
                _ => drop(stage.hear(stage.program(&recover), &stage.path("new"), "a part came back")),
            }
            for words in [
                &["check", "--mirror", "offsite"][..],
                &["drill", "offsite"],
                &["--from", "offsite", "ls", "latest"],
                &["--from", "offsite", "check"],
                &["sync"],
                &["mirror", "list"],
            ] {
                stage.say(words);
            }
            let destination = stage.path("destination");
            let copy = ["-r", "destination", "copy", "--from-mirror", &stage.text("mirror")];
            let mut copy = stage.program(&copy);
            copy.env("PACKSTONE_FROM_KEY_FILE", stage.path("key"));
            stage.hear(copy, &destination, "copy from a mirror");
        });
    }
}
