//! A terminal for the program, made by `script`, and somebody who types back what is shown once.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use super::Ran;
use super::support::World;

/// What comes before a recovery code that is shown once.
const SHOWN: &str = "Recovery code (shown once): ";
/// The question for its last group.
const QUESTION: &str = "its last group: ";

/// What a person does with the code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Types its last group back.
    Right,
    /// Types something else, as often as it is asked for.
    Wrong,
}

/// False, with a line that says so, where no terminal can be made.
pub fn is_there(test: &str) -> bool {
    let there = Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        println!("SKIPPED {test}: it needs the program script");
    }
    there
}

/// Runs the program with the world's key file on a terminal of its own. Both streams come as `out`, and the recovery code besides.
pub fn run(world: &World, words: &[&str], answer: Answer) -> (Ran, String) {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let line = format!("{} {}", env!("CARGO_BIN_EXE_packstone"), quoted.join(" "));
    let environment = world.command(&[]);
    let mut command = Command::new("script");
    command.args(["-qefc", &line, "/dev/null"]).env_clear().current_dir(world.path("."));
    for (name, value) in environment.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let mut child = command.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut seen, mut piece, mut asked) = (String::new(), [0; 256], 0);
    loop {
        let length = screen.read(&mut piece).unwrap();
        if length == 0 {
            break;
        }
        seen.push_str(&String::from_utf8_lossy(&piece[..length]));
        let questions = seen.matches(QUESTION).count();
        if questions > asked {
            asked = questions;
            let code = code(&seen);
            let group = if answer == Answer::Right { code.rsplit('-').next().unwrap() } else { "0000" };
            keyboard.write_all(format!("{group}\n").as_bytes()).unwrap();
        }
    }
    let status = child.wait().unwrap();
    let code = code(&seen).to_owned();
    (Ran { code: status.code(), out: seen.replace('\r', ""), err: String::new() }, code)
}

fn code(seen: &str) -> &str {
    let shown = seen.split(SHOWN).nth(1).unwrap_or_default();
    shown.lines().next().unwrap_or_default().trim()
}
