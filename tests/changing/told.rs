//! What a snapshot of the changing tree must hold, and what its bytes may be.
//!
//! | part | promise |
//! |---|---|
//! | `replaced` | each name is there at every moment, and its content is of one generation: not older than before the backup, not newer than after it |
//! | `linked` | the same; the content is that of the file that it was a name of |
//! | `exchanged` | each name is there at every moment, as a file, a directory, a symbolic link or a pipe; a directory holds its file |
//! | `moved` | each name is at every moment in one of three directories |
//! | `loose` | made, removed, cut and grown in place: may be missing, may be of no single moment; no byte is made up |
//!
//! "There" means in the listing and in the restored tree. What is missing must be named by a note, and then the snapshot is
//! partial and the exit code 3. Of what was moved while the directories were listed, a note about it, or about one of
//! the directories, is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

/// Where things are moved between; `writer.py` says the same.
const PLACES: [&str; 3] = ["moved/a", "moved/n/c", "moved/z"];
/// Written into `inside` of every directory that is exchanged or moved.
const INSIDE: &str = "inside";

/// One snapshot as the program shows it and gives it back. Paths are those beneath the tree.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub exit: i32,
    pub outcome: String,
    /// Path and kind, from `ls`.
    pub entries: BTreeMap<String, String>,
    /// Path and kind, from `show`.
    pub notes: BTreeMap<String, String>,
    /// The files that were restored.
    pub contents: BTreeMap<String, Vec<u8>>,
}

/// Name, generation and size of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub name: String,
    pub generation: u64,
    size: usize,
}

/// The first line of a content, if it has one.
fn line(content: &[u8]) -> Option<Line> {
    let end = content.iter().position(|byte| *byte == b'\n')?;
    let text = std::str::from_utf8(&content[..end]).ok()?;
    let [name, generation, size] = text.split(' ').collect::<Vec<_>>().try_into().ok()?;
    Some(Line { name: name.to_owned(), generation: generation.parse().ok()?, size: size.parse().ok()? })
}

/// What a content says about itself when all of it is of one generation; `part` allows that its end is missing.
fn pure(content: &[u8], part: bool) -> Option<Line> {
    let line = line(content)?;
    let end = content.iter().position(|byte| *byte == b'\n')? + 1;
    let repeated = content.iter().zip(content[..end].iter().cycle()).all(|(one, other)| one == other);
    let length = if part { content.len() <= line.size } else { content.len() == line.size };
    (repeated && length).then_some(line)
}

/// What came of the snapshots.
#[derive(Debug, Default)]
pub struct Tally {
    pub snapshots: usize,
    names: usize,
    named: usize,
    partial: usize,
    contents: usize,
    mixed_noted: usize,
    mixed_unnoted: usize,
    moved: usize,
    moved_named: usize,
    moved_lost: usize,
}

impl Tally {
    /// How many snapshots have no fault.
    pub fn sound(&self, faults: &[String]) -> usize {
        let number = |fault: &String| fault.split(':').next().map(str::to_owned);
        let bad: BTreeSet<_> = faults.iter().filter(|fault| !fault.starts_with("at rest")).filter_map(number).collect();
        self.snapshots.saturating_sub(bad.len())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} snapshots ({} partial): {} names that are always there, {} of them missing and named; {} names that were moved, {} of \
             them missing and named, {} missing without a word; {} contents; of those written in place {} were mixed and noted, {} mixed without a note",
            self.snapshots,
            self.partial,
            self.names,
            self.named,
            self.moved,
            self.moved_named,
            self.moved_lost,
            self.contents,
            self.mixed_noted,
            self.mixed_unnoted
        )
    }
}

/// Content of every name that is only ever replaced.
pub type Generations = BTreeMap<String, Line>;

/// Knows which names there are. Taken before the writers begin.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    always: BTreeSet<String>,
    moved: BTreeSet<String>,
}

impl Judge {
    pub fn of(tree: &Path) -> Self {
        let names = |at: &str| -> Vec<String> {
            let entries = fs::read_dir(tree.join(at)).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        let mut judge = Self::default();
        for at in ["replaced", "linked", "exchanged", "moved", "loose"] {
            judge.always.insert(at.to_owned());
        }
        for at in [
            "replaced/0",
            "replaced/1",
            "replaced/2",
            "replaced/3",
            "linked",
            "linked/pool",
            "exchanged",
            "exchanged/spare",
        ] {
            judge.always.insert(at.to_owned());
            judge.always.extend(names(at).into_iter().map(|name| format!("{at}/{name}")));
        }
        for at in PLACES {
            judge.always.insert(at.to_owned());
            judge.moved.extend(names(at));
        }
        assert!(judge.always.len() > 300 && judge.moved.len() == 40, "{judge:?}");
        judge
    }

    /// What is under the names of `replaced` and `linked` now.
    pub fn generations(&self, tree: &Path) -> Generations {
        let mut found = Generations::new();
        let ours = self.always.iter().filter(|path| path.starts_with("replaced/") || path.starts_with("linked/"));
        // A name that is linked anew between two looks has a generation of the second one, or a later one: so files come before their further names.
        let (pool, rest): (Vec<_>, Vec<_>) = ours.partition(|path| path.starts_with("linked/pool/"));
        for path in pool.into_iter().chain(rest) {
            if tree.join(path).is_file() {
                let content = fs::read(tree.join(path)).unwrap();
                let line = line(&content).unwrap_or_else(|| panic!("{path}: the writers are broken"));
                found.insert(path.clone(), line);
            }
        }
        found
    }

    /// Everything that is wrong with a snapshot, a sentence each.
    pub fn faults(
        &self,
        snapshot: &Snapshot,
        before: &Generations,
        after: &Generations,
        tally: &mut Tally,
    ) -> Vec<String> {
        let mut faults = Vec::new();
        let partial = snapshot.outcome == "partial";
        tally.partial += usize::from(partial);
        if snapshot.exit != if partial { 3 } else { 0 } {
            faults.push(format!("outcome {} and exit code {}", snapshot.outcome, snapshot.exit));
        }
        for path in &self.always {
            tally.names += 1;
            self.present(snapshot, path, tally, &mut faults);
            let is_directory = snapshot.entries.get(path).is_some_and(|kind| kind == "dir");
            let name = path.rsplit('/').next().unwrap_or_default();
            if is_directory && path.starts_with("exchanged/") && name != "spare" {
                self.present(snapshot, &format!("{path}/{INSIDE}"), tally, &mut faults);
            }
        }
        for name in &self.moved {
            tally.moved += 1;
            self.one_of(snapshot, name, tally, &mut faults);
        }
        for (path, content) in &snapshot.contents {
            tally.contents += 1;
            if let Err(why) = judge_content(snapshot, path, content, before, after, tally) {
                faults.push(format!("{path}: {why}"));
            }
        }
        for (path, kind) in snapshot.entries.iter().filter(|(_, kind)| *kind == "file") {
            if !snapshot.contents.contains_key(path) {
                faults.push(format!("{path}: the listing has it as a {kind}, and it was not restored"));
            }
        }
        faults
    }

    fn present(&self, snapshot: &Snapshot, path: &str, tally: &mut Tally, faults: &mut Vec<String>) {
        if snapshot.entries.contains_key(path) {
            return;
        }
        match noted(snapshot, path) {
            Some(_) if snapshot.outcome == "partial" => tally.named += 1,
            Some(kind) => faults.push(format!(
                "{path}: was there at every moment, is missing, and the snapshot counts as {} (it has a note: {kind})",
                snapshot.outcome
            )),
            None => faults.push(format!("{path}: was there at every moment, is missing, and no note names it")),
        }
    }

    fn one_of(&self, snapshot: &Snapshot, name: &str, tally: &mut Tally, faults: &mut Vec<String>) {
        let paths = PLACES.map(|place| format!("{place}/{name}"));
        let there: Vec<&String> = paths.iter().filter(|path| snapshot.entries.contains_key(*path)).collect();
        let is_named = || {
            paths.iter().any(|path| noted(snapshot, path).is_some())
                || PLACES.iter().any(|place| snapshot.notes.contains_key(*place))
        };
        if there.is_empty() {
            if is_named() {
                tally.moved_named += 1;
            } else {
                tally.moved_lost += 1;
                faults.push(format!(
                    "{name}: was in one of {PLACES:?} at every moment, is in none, and no note names it"
                ));
            }
        } else if name.starts_with('d')
            && !there.iter().any(|path| snapshot.entries.contains_key(&format!("{path}/{INSIDE}")))
        {
            if is_named() || there.iter().any(|path| noted(snapshot, &format!("{path}/{INSIDE}")).is_some()) {
                tally.moved_named += 1;
            } else {
                faults.push(format!("{name}/{INSIDE}: was there at every moment, is missing, and no note names it"));
            }
        }
    }
}

/// The note on a path, or on a directory that it lies in and that could not be read.
fn noted<'a>(snapshot: &'a Snapshot, path: &str) -> Option<&'a String> {
    let mut above = path;
    loop {
        match snapshot.notes.get(above) {
            Some(kind) if above == path || kind == "unreadable" => return Some(kind),
            _ => above = &above[..above.rfind('/')?],
        }
    }
}

fn judge_content(
    snapshot: &Snapshot,
    path: &str,
    content: &[u8],
    before: &Generations,
    after: &Generations,
    tally: &mut Tally,
) -> Result<(), String> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let (part, _) = path.split_once('/').ok_or("lies in none of the parts")?;
    let begin = || cut(&String::from_utf8_lossy(&content[..content.len().min(120)]));
    if part == "loose" {
        return judge_loose(snapshot, path, name, content, tally).map_err(|why| format!("{why}: {}", begin()));
    }
    // What is written beside it and not finished is seen at any length.
    if name == ".t" {
        return if content.is_empty() || pure(content, true).is_some() { Ok(()) } else { Err("made-up bytes".into()) };
    }
    let line = pure(content, false)
        .ok_or_else(|| format!("{} bytes that are of no single moment: {}", content.len(), begin()))?;
    match part {
        "replaced" | "linked" => {
            let source = if part == "replaced" { path.to_owned() } else { format!("linked/pool/{}", line.name) };
            if part == "replaced" && line.name != name {
                return Err(format!("holds the content of {}", line.name));
            }
            let (Some(old), Some(new)) = (before.get(&source), after.get(&source)) else {
                return Err(format!("holds the content of {}", line.name));
            };
            let is_untouched = before.get(path).is_some_and(|old| *old == line);
            if !is_untouched && !(old.generation..=new.generation).contains(&line.generation) {
                return Err(format!(
                    "holds generation {}; it was {} before the backup and {} after it",
                    line.generation, old.generation, new.generation
                ));
            }
            Ok(())
        }
        // These never change; they only are somewhere else.
        _ if line.generation == 0 && (part == "exchanged" || line.name == name || name == INSIDE) => Ok(()),
        _ => Err(format!("holds the content of {}", line.name)),
    }
}

/// Written in place: any length, and when it is of several generations a note says so.
fn judge_loose(snapshot: &Snapshot, path: &str, name: &str, content: &[u8], tally: &mut Tally) -> Result<(), String> {
    let foreign = content.split(|byte| *byte == b'\n').find(|line| {
        // The first and the last may be cut off, and a hole is where nothing was written yet.
        let line: Vec<u8> = line.iter().copied().filter(|byte| *byte != 0).collect();
        line.len() > name.len() && !String::from_utf8_lossy(&line).contains(name) && line.len() > 30
    });
    if foreign.is_some() {
        return Err("holds a line of another file".to_owned());
    }
    let grows = format!("{name} grows\n");
    let is_log = name.starts_with('g') && content.iter().zip(grows.as_bytes().iter().cycle()).all(|(a, b)| a == b);
    if content.is_empty() || is_log || pure(content, true).is_some() {
        return Ok(());
    }
    if noted(snapshot, path).is_some() {
        tally.mixed_noted += 1;
    } else {
        // A write that was under way moved the times before the first of its bytes: nobody can see it. The next backup reads
        // the file again, which the one at rest proves. That is rare; where it is the rule, changes are not looked for.
        tally.mixed_unnoted += 1;
        if tally.mixed_unnoted > 5 + tally.mixed_noted {
            return Err("of no single moment, and as most of such files without a note".to_owned());
        }
    }
    Ok(())
}

/// A line that can be read.
pub fn cut(text: &str) -> String {
    let mut short: String = text.chars().take(300).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short.replace('\n', "\\n")
}
