//! The README is true: every command in it is run, in its order, as a reader would, and ends as it says.
//!
//! In each block of the kind `console`, lines that begin with `$ ` are commands. They run under bash in a home with some
//! documents, with `packstone` on the path and the passphrase in the environment. `cargo run --release -- X` is run as
//! `packstone X`; the other commands of cargo are run by `.ci/run`, which takes them from the README too. A command must end
//! with 0, or with what its comment says: `# exit code 12`. Comments of HTML before a block: `before: ...` is done first
//! and in silence; `terminal` runs the block on a terminal, where somebody types back the recovery code's last group.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

const README: &str = include_str!("../README.md");
const PASSPHRASE: &str = "correct horse battery staple";

/// A block of commands.
#[derive(Debug, Default)]
struct Block {
    line: usize,
    before: Option<&'static str>,
    terminal: bool,
    commands: Vec<&'static str>,
}

fn blocks() -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut next, mut inside) = (Block::default(), false);
    for (number, line) in README.lines().enumerate() {
        if inside {
            if line == "```" {
                inside = false;
                assert!(!next.commands.is_empty(), "README.md:{}: a console without commands", next.line);
                blocks.push(std::mem::take(&mut next));
            } else {
                let command = line.strip_prefix("$ ");
                next.commands.push(command.unwrap_or_else(|| panic!("README.md:{}: no command", number + 1)));
            }
        } else if line == "```console" {
            (inside, next.line) = (true, number + 1);
        } else if let Some(before) = line.strip_prefix("<!-- before: ") {
            next.before = before.strip_suffix(" -->");
        } else if line == "<!-- terminal -->" {
            next.terminal = true;
        } else {
            let other = line.strip_prefix("```").is_some_and(|kind| !kind.is_empty());
            assert!(!other, "README.md:{}: only blocks of the kind console are run", number + 1);
        }
    }
    blocks
}

/// The exit code that the command's comment announces.
fn announced(command: &str) -> i32 {
    command.split_once("# exit code ").map_or(0, |(_, code)| code.trim().parse().unwrap())
}

/// The command as it is run here; nothing for what only the gate runs.
fn here(command: &str) -> Option<String> {
    match command.strip_prefix("cargo ") {
        None => Some(command.to_owned()),
        Some(words) => words.strip_prefix("run --release -- ").map(|words| format!("packstone {words}")),
    }
}

fn bash(home: &Path, command: &str) -> Command {
    let mut bash = Command::new("bash");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", home.parent().unwrap().join("bin").display());
    bash.args(["-c", command])
        .env_clear()
        .env("PATH", path)
        .env("HOME", home)
        .env("LANG", "C.UTF-8")
        .env("TZ", "UTC")
        .env("TERM", "xterm")
        .env("PACKSTONE_PASSWORD", PASSPHRASE)
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    bash
}

/// Runs a block in one shell, so that what one line exports holds for the next; says how each command ended.
fn run(home: &Path, block: &Block) {
    let commands: Vec<(&str, String)> =
        block.commands.iter().filter_map(|command| Some((*command, here(command)?))).collect();
    let mut script = String::new();
    for (number, (_, command)) in commands.iter().enumerate() {
        script.push_str(&format!("{command}\necho $? > ../code.{number}\n"));
    }
    let ran = bash(home, &script).output().unwrap();
    for (number, (command, _)) in commands.iter().enumerate() {
        let file = home.parent().unwrap().join(format!("code.{number}"));
        let code = fs::read_to_string(&file).unwrap();
        fs::remove_file(file).unwrap();
        assert_eq!(
            code.trim().parse::<i32>().unwrap(),
            announced(command),
            "README.md:{}: {command}\n{}\n{}",
            block.line,
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr)
        );
    }
}

/// Runs one command on a terminal of its own and types back the last group of the recovery code.
fn run_on_terminal(home: &Path, block: &Block) {
    assert_eq!(block.commands.len(), 1, "README.md:{}: one command a terminal", block.line);
    let quoted = block.commands[0].replace('\'', "'\\''");
    let mut child =
        bash(home, &format!("exec script -qefc '{quoted}' /dev/null")).stdin(Stdio::piped()).spawn().unwrap();
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut seen, mut piece, mut typed) = (String::new(), [0; 256], false);
    loop {
        let length = screen.read(&mut piece).unwrap();
        if length == 0 {
            break;
        }
        seen.push_str(&String::from_utf8_lossy(&piece[..length]));
        if !typed && seen.contains("its last group: ") {
            let shown = seen.split("Recovery code (shown once): ").nth(1).unwrap();
            let group = shown.lines().next().unwrap().trim().rsplit([' ', '-']).next().unwrap();
            keyboard.write_all(format!("{group}\n").as_bytes()).unwrap();
            typed = true;
        }
    }
    let code = child.wait().unwrap().code();
    assert!(typed && code == Some(0), "README.md:{}: {:?} ended with {code:?}: {seen}", block.line, block.commands);
}

#[test]
fn every_command_does_what_the_readme_says() {
    let world = tempfile::tempdir().unwrap();
    let home = world.path().join("home");
    for folder in ["bin", "home/Documents/letters", "home/disk"] {
        fs::create_dir_all(world.path().join(folder)).unwrap();
    }
    symlink(env!("CARGO_BIN_EXE_packstone"), world.path().join("bin/packstone")).unwrap();
    fs::write(home.join("Documents/cv.odt"), "a life").unwrap();
    fs::write(home.join("Documents/letters/one.txt"), "dear reader").unwrap();
    fs::write(home.join("Documents/large"), vec![7; 3 << 20]).unwrap();
    let mut ran = 0;
    for block in blocks() {
        if let Some(before) = block.before {
            let before = bash(&home, before).output().unwrap();
            assert!(before.status.success(), "README.md:{}: {before:?}", block.line);
        }
        if block.terminal {
            run_on_terminal(&home, &block);
        } else {
            run(&home, &block);
        }
        ran += block.commands.len();
    }
    assert!(ran >= 40, "the README has {ran} commands: are its blocks still found?");
    // What the story claims to have brought back is back.
    let under_root = home.strip_prefix("/").unwrap();
    for (place, content) in [
        (home.join("back").join(under_root).join("Documents/cv.odt"), "a life"),
        (home.join("documents/letters/one.txt"), "dear reader"),
        (home.join("letters/cv.odt"), "a life"),
        (home.join("cv.odt"), "a life"),
        (home.join("Documents/cv.odt"), "a life"),
    ] {
        assert_eq!(fs::read_to_string(&place).unwrap(), content, "{}", place.display());
    }
    assert!(!home.join("letters/letters/one.txt").exists());
}

/// The set-up is two commands: the main job, and the tests.
#[test]
fn the_set_up_is_two_commands() {
    let first = blocks().into_iter().next().unwrap();
    assert_eq!(first.commands, ["cargo run --release -- backup --init ~/Documents", "cargo test"]);
}

#[test]
fn the_exit_codes_are_those_of_the_help() {
    let section = README.split("\n## Exit codes\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<String> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .filter(|(code, _)| *code != "code")
        .map(|(code, meaning)| format!("{code} {meaning}"))
        .collect();
    let codes: Vec<String> =
        packstone::cli::exit::Exit::ALL.iter().map(|exit| format!("{} {}", exit.code(), exit.meaning())).collect();
    assert_eq!(rows, codes);
}

/// Links to files of this repository lead somewhere.
#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = 0;
    for link in README.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        if let Some(heading) = link.strip_prefix('#') {
            let is = |line: &str| {
                line.strip_prefix("## ").is_some_and(|title| title.to_lowercase().replace(' ', "-") == heading)
            };
            assert!(README.lines().any(is), "no heading #{heading}");
        } else {
            assert!(root.join(link).exists(), "{link} is not there");
        }
        found += 1;
    }
    assert!(found > 8);
}
