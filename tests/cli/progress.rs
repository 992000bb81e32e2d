//! A first backup on a terminal, in a pipe and with `--json`: what it says of itself while it runs is true.
//!
//! The short form makes one of each and looks at totals and rates. `PACKSTONE_FULL=1` makes twenty of each, of a source that is read at a
//! known speed (`bindfs --read-rate`), and compares the time that is left at half-way with the time that it then takes.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::World;
use super::terminal;

/// Files in the source, all of one length, as large as they were when the total was lost.
const FILES: u64 = 41;

/// Something to back up, and how long its files are.
fn source(at: &Path, file_bytes: usize) -> u64 {
    fs::create_dir(at).unwrap();
    for number in 0..FILES {
        let mut bytes = vec![0; file_bytes];
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
        fs::write(at.join(format!("file {number:02}")), bytes).unwrap();
    }
    FILES * file_bytes as u64
}

/// A fresh repository, so that the backup is a first one.
fn anew(world: &World) {
    for gone in ["repository", "key", "home"] {
        let path = world.path(gone);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
    fs::create_dir(world.path("home")).unwrap();
    world.make_repository();
}

/// Something that was said, and when.
struct Said {
    at: Duration,
    text: String,
}

/// Runs a first backup and returns what it says, piece by piece, and how long it took.
fn listen(world: &World, form: Form, paths: &str) -> (Vec<Said>, Duration) {
    let words = match form {
        Form::Terminal | Form::Pipe => vec!["backup", paths],
        Form::Json => vec!["backup", "--json", paths],
    };
    let mut command = world.command(&words);
    if form == Form::Terminal {
        let line = format!("stty cols 120 rows 40; {} backup '{paths}'", env!("CARGO_BIN_EXE_packstone"));
        command = {
            let mut script = Command::new("script");
            script.args(["-qefc", &line, "/dev/null"]).env_clear().current_dir(world.path("."));
            script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
            script.env("PATH", std::env::var_os("PATH").unwrap_or_default());
            script
        };
    }
    command.env("PACKSTONE_PROGRESS_FPS", "30");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let begun = Instant::now();
    let mut child = command.spawn().unwrap();
    let (mut out, mut piece, mut rest) = (child.stdout.take().unwrap(), [0; 65_536], Vec::new());
    let mut said = Vec::new();
    loop {
        let length = out.read(&mut piece).unwrap();
        rest.extend_from_slice(&piece[..length]);
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let text = String::from_utf8_lossy(&rest[..end]).into_owned();
            rest.drain(..=end);
            said.push(Said { at: begun.elapsed(), text });
        }
        if length == 0 {
            break;
        }
    }
    assert!(child.wait().unwrap().success(), "{:?}", said.iter().map(|said| &said.text).collect::<Vec<_>>());
    (said, begun.elapsed())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Terminal,
    Pipe,
    Json,
}

/// What one line of progress says: bytes done, and how long it will take.
#[derive(Debug, Clone, Copy)]
struct Line {
    at: Duration,
    left: Option<Duration>,
}

fn number(status: &Value, name: &str) -> u64 {
    status[name].as_u64().unwrap_or_default()
}

/// Every line says the whole total from the first one on that knows it, counts only up, and ends with all of it.
fn check_json(said: &[Said], bytes: u64) -> Vec<Line> {
    let parsed = said.iter().filter_map(|said| Some((said.at, serde_json::from_str::<Value>(&said.text).ok()?)));
    let lines: Vec<(Duration, Value)> = parsed.filter(|(_, line)| line["message_type"] == "status").collect();
    let known = lines.iter().position(|(_, line)| number(line, "total_bytes") == bytes).expect("the total is known");
    let (mut done, mut steps) = (0, 0);
    for (_, line) in &lines[known..] {
        assert_eq!((number(line, "total_files"), number(line, "total_bytes")), (FILES, bytes), "{line}");
        let now = number(line, "bytes_done");
        assert!(now >= done && now <= bytes && number(line, "files_done") <= FILES, "{line}");
        steps += usize::from(now > done);
        done = now;
        let share = line["percent_done"].as_f64().unwrap();
        assert!((share - now as f64 / bytes as f64).abs() < 1e-9, "{line}");
        // Of 41 files nobody stores so few bytes a second.
        assert!(number(line, "bytes_per_second") > 10_000 || now == 0 || now == bytes, "{line}");
    }
    assert!(steps > 2, "{steps} different numbers of bytes");
    let left = |line: &Value| line["seconds_remaining"].as_u64().map(Duration::from_secs);
    lines.iter().map(|(at, line)| Line { at: *at, left: left(line) }).collect()
}

/// The same of the frames of a bar.
fn check_terminal(said: &[Said], shown: &str) -> Vec<Line> {
    let frames: Vec<&Said> = said.iter().filter(|said| said.text.contains("storing")).collect();
    let known: Vec<&&Said> = frames.iter().filter(|said| said.text.contains(" %  ")).collect();
    assert!(!known.is_empty(), "{:?}", frames.iter().map(|said| &said.text).collect::<Vec<_>>());
    let first = frames.iter().position(|said| said.text.contains(" %  ")).unwrap();
    for frame in &frames[first..] {
        assert!(frame.text.contains(&format!("/{shown}  ")) && frame.text.contains("/41 files"), "{}", frame.text);
    }
    for frame in &frames {
        if let Some((before, _)) = frame.text.split_once("/s  ") {
            let unit = before.rsplit(' ').next().unwrap();
            assert!(unit != "B" || before.ends_with(" 0 B"), "{}", frame.text);
        }
    }
    frames.iter().map(|said| Line { at: said.at, left: left_in(&said.text) }).collect()
}

/// "12 s left", "2 min 20 s left".
fn left_in(text: &str) -> Option<Duration> {
    let before = text.split_once(" left")?.0.rsplit("  ").next()?;
    let words: Vec<&str> = before.split(' ').collect();
    let seconds = words.chunks(2).map(|pair| {
        let unit = match *pair.get(1)? {
            "s" => 1,
            "min" => 60,
            _ => return None,
        };
        Some(pair[0].parse::<u64>().ok()? * unit)
    });
    seconds.sum::<Option<u64>>().map(Duration::from_secs)
}

/// Bytes as the program shows them: three digits.
fn shown(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    if megabytes < 100.0 { format!("{megabytes:.1} MB") } else { format!("{megabytes:.0} MB") }
}

#[test]
fn a_first_backup_knows_its_total_and_its_rate() {
    let world = World::with_repository();
    let bytes = source(&world.path("source"), 1_300_000);
    let (said, _) = listen(&world, Form::Json, "source");
    check_json(&said, bytes);
    anew(&world);
    let (said, _) = listen(&world, Form::Pipe, "source");
    assert!(said.iter().all(|said| !said.text.contains("storing") && !said.text.contains("left")));
    assert!(said.iter().any(|said| said.text.starts_with("Snapshot ")));
    if terminal::is_there("progress::a_first_backup_knows_its_total_and_its_rate") {
        anew(&world);
        let (said, _) = listen(&world, Form::Terminal, "source");
        check_terminal(&said, &shown(bytes));
    }
}

/// A view of a directory that is read at a known speed.
struct Slow(PathBuf);

impl Slow {
    fn of(source: &Path, at: PathBuf, rate: &str) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let mounted = Command::new("bindfs").args(["-r", &format!("--read-rate={rate}")]).arg(source).arg(&at).status();
        if !mounted.is_ok_and(|status| status.success()) {
            println!("SKIPPED progress::the_time_that_is_left: needs bindfs and the right to mount");
            return None;
        }
        Some(Self(at))
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Half-way by time, the estimate of the moment is within a quarter of what it then takes.
#[test]
fn the_time_that_is_left_at_half_way_is_right() {
    if std::env::var_os("PACKSTONE_FULL").is_none_or(|value| value != "1") {
        println!("SKIPPED progress::the_time_that_is_left: only with PACKSTONE_FULL=1");
        return;
    }
    let world = World::with_repository();
    let bytes = source(&world.path("source"), 600_000);
    let Some(slow) = Slow::of(&world.path("source"), world.path("slow"), "2M") else { return };
    for form in [Form::Terminal, Form::Json, Form::Pipe] {
        let mut worst: f64 = 0.0;
        let mut took_all = Vec::new();
        for _ in 0..20 {
            anew(&world);
            // A pipe says nothing on the way, so that it need not last.
            let paths = if form == Form::Pipe { "source" } else { world.text(&slow.0) };
            let (said, took) = listen(&world, form, paths);
            took_all.push(took.as_secs_f64());
            let lines = match form {
                Form::Terminal => check_terminal(&said, &shown(bytes)),
                Form::Json => check_json(&said, bytes),
                Form::Pipe => {
                    assert!(said.iter().all(|said| !said.text.contains("storing")));
                    assert!(said.iter().any(|said| said.text.starts_with("Files: 41 new")));
                    continue;
                }
            };
            let half = lines.iter().find(|line| line.at >= took / 2).expect("something is said at half-way");
            let (said, right) = (half.left.expect("an estimate").as_secs_f64(), (took - half.at).as_secs_f64());
            let error = (said - right) / right;
            worst = if error.abs() > worst.abs() { error } else { worst };
            assert!(error.abs() <= 0.25, "{form:?}: {said} s left at half of {took:?}, and it took {right} s");
        }
        let mean = took_all.iter().sum::<f64>() / took_all.len() as f64;
        println!(
            "{form:?}: 20 of 20, {mean:.1} s each; at half-way the worst estimate was off by {:.0} %",
            worst * 100.0
        );
    }
}
