//! A backup, a prune and a restore of the real program at the same time, each killed (SIGKILL), stopped for a while (SIGSTOP,
//! SIGCONT) or let be, at random moments, while snapshots are forgotten. Promise P6.
//!
//! After each round: every acknowledged snapshot that was not forgotten reads back byte for byte, `check` finds nothing, no
//! lock is left, and what was killed succeeds when it is run again. 10 rounds, `PACKSTONE_FULL=1` 200.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use packstone::base::id::ObjectId;
use packstone::repository::lock::Locks;
use rustix::process::{Pid, Signal, kill_process};

use super::{Contents, World, contents, empty, printed, seed};

/// What is done to a process, and after which time.
#[derive(Debug, Clone, Copy)]
struct Event {
    at: Duration,
    process: usize,
    signal: Signal,
}

/// One that runs.
struct Running {
    words: Vec<String>,
    child: Child,
    killed: bool,
    stopped: bool,
}

/// What came of one.
struct Ended {
    words: String,
    killed: bool,
    code: Option<i32>,
    out: String,
    err: String,
}

impl Running {
    fn start(world: &World, words: &[&str]) -> Self {
        let mut command = world.command(words);
        Self {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            child: spawn(&mut command, world, words[0]),
            killed: false,
            stopped: false,
        }
    }

    fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn signal(&mut self, signal: Signal) {
        if self.is_over() {
            return;
        }
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.killed |= signal == Signal::KILL;
        self.stopped |= signal == Signal::STOP;
    }

    fn end(mut self, world: &World) -> Ended {
        let status = self.child.wait().unwrap();
        let read = |what: &str| fs::read_to_string(world.path(&format!("{}.{what}", self.words[0]))).unwrap();
        let code = status.code();
        // Killed after it had ended well: it has ended well.
        let killed = self.killed && code.is_none();
        Ended { words: self.words.join(" "), killed, code, out: read("out"), err: read("err") }
    }
}

impl Drop for Running {
    /// A test that failed leaves no process behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Its output goes into files: a process that was stopped must not fill a pipe.
fn spawn(command: &mut Command, world: &World, name: &str) -> Child {
    let file = |what: &str| Stdio::from(fs::File::create(world.path(&format!("{name}.{what}"))).unwrap());
    command.stdout(file("out")).stderr(file("err")).spawn().unwrap()
}

impl Ended {
    fn expect(&self, codes: &[i32]) {
        let fits = self.killed || self.code.is_some_and(|code| codes.contains(&code));
        assert!(fits, "{}: {:?}\n{}\n{}", self.words, self.code, self.out, self.err);
    }
}

/// What lies in a folder on disk.
fn on_disk(folder: &Path) -> Contents {
    let mut found = Contents::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, blake3::hash(&fs::read(&path).unwrap()));
            }
        }
    }
    found
}

struct Overlap {
    world: World,
    live: BTreeMap<ObjectId, Contents>,
    /// About how long three of them take together: twice a backup.
    whole: Duration,
    kills: usize,
    stops: usize,
    restored: usize,
}

impl Overlap {
    fn draw(&mut self, below: usize) -> usize {
        (self.world.noise.next() % below as u64) as usize
    }

    /// One of the live ones.
    fn choose(&mut self) -> ObjectId {
        let number = self.draw(self.live.len());
        *self.live.keys().nth(number).unwrap()
    }

    fn run(&self, words: &[&str]) -> Ended {
        Running::start(&self.world, words).end(&self.world)
    }

    fn backup(&mut self) {
        let began = Instant::now();
        let ended = self.run(&["backup", "--json", "tree"]);
        self.whole = (self.whole + began.elapsed() * 2) / 2;
        ended.expect(&[0]);
        self.live.insert(printed(&ended.out).unwrap(), self.world.contents.clone());
    }

    fn forget(&mut self, id: ObjectId) {
        self.run(&["forget", &id.to_string()]).expect(&[0]);
        self.live.remove(&id);
    }

    /// For each of three processes: killed, stopped once or twice, or let be.
    fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for process in 0..3 {
            let moment = |this: &mut Self| this.whole.mul_f64(this.draw(1_000) as f64 / 1_000.0);
            match self.draw(5) {
                0 | 1 => events.push(Event { at: moment(self), process, signal: Signal::KILL }),
                2 | 3 => {
                    let at = moment(self);
                    events.push(Event { at, process, signal: Signal::STOP });
                    events.push(Event { at: at + moment(self), process, signal: Signal::CONT });
                }
                _ => {}
            }
        }
        events.sort_by_key(|event| event.at);
        events
    }

    fn round(&mut self, number: usize) {
        self.world.change(number);
        while self.live.len() > 4 {
            let id = self.choose();
            self.forget(id);
        }
        let wanted = self.choose();
        let restored = self.world.path("out");
        let id = wanted.to_string();
        let mut order: Vec<Vec<&str>> = vec![
            vec!["backup", "--json", "tree", "--retry-lock", "5m"],
            vec!["prune", "--instant", "--max-unused", "0", "--retry-lock", "5m"],
            vec!["restore", &id, "--target", "out"],
        ];
        let first = self.draw(3);
        order.rotate_left(first);
        let events = self.events();
        // Forgotten while it is restored, some of the time.
        let forgets = (self.live.len() > 1 && self.draw(3) == 0).then(|| self.draw(events.len() + 1));
        let began = Instant::now();
        let mut running: Vec<Running> = order.iter().map(|words| Running::start(&self.world, words)).collect();
        // Not waited for here: it waits itself for one that was stopped while it publishes.
        let mut forgetting = None;
        for (place, event) in events.iter().enumerate() {
            let mut is_over = false;
            while !is_over && began.elapsed() < event.at {
                std::thread::sleep(Duration::from_millis(1));
                is_over = running.iter_mut().all(Running::is_over);
            }
            running[event.process].signal(event.signal);
            if forgets == Some(place) {
                forgetting = Some(Running::start(&self.world, &["forget", &id]));
            }
        }
        let is_forgotten = forgetting.is_some();
        if let Some(forgetting) = forgetting {
            forgetting.end(&self.world).expect(&[0]);
            self.live.remove(&wanted);
        }
        self.kills += running.iter().filter(|one| one.killed).count();
        self.stops += running.iter().filter(|one| one.stopped).count();
        let ended: Vec<Ended> = running.into_iter().map(|one| one.end(&self.world)).collect();
        let of = |name: &str| ended.iter().find(|one| one.words.starts_with(name)).unwrap();

        of("prune").expect(&[0]);
        of("backup").expect(&[0]);
        if let Some(id) = printed(&of("backup").out) {
            self.live.insert(id, self.world.contents.clone());
        }
        let contents_wanted = self.live.get(&wanted).cloned();
        let restore = of("restore");
        match contents_wanted {
            Some(contents) => {
                restore.expect(&[0]);
                if restore.killed {
                    self.run(&["restore", &id, "--target", "out"]).expect(&[0]);
                }
                assert!(on_disk(&restored) == contents, "round {number}: other bytes were restored");
                self.restored += 1;
            }
            // It had begun before the snapshot was forgotten, or it says that there is none.
            None => {
                assert!(is_forgotten);
                restore.expect(&[0, 1]);
                assert!(restore.code != Some(1) || restore.err.contains("no snapshot"), "{}", restore.err);
            }
        }
        if restored.exists() {
            fs::remove_dir_all(&restored).unwrap();
        }
        self.judge(number);
    }

    fn judge(&mut self, number: usize) {
        Locks::open(&self.world.path("repository")).writer_free().expect("a killed process left a lock");
        self.run(&["check"]).expect(&[0]);
        {
            let repository = self.world.open();
            let state = repository.tip().state;
            for (id, wanted) in &self.live {
                assert!(state.snapshots.contains_key(id), "round {number}: snapshot {} is gone", id.short());
                assert!(contents(&repository, *id) == *wanted, "round {number}: snapshot {}", id.short());
            }
            // A backup that was killed between its head and its last word.
            let more: Vec<ObjectId> =
                state.snapshots.keys().filter(|id| !self.live.contains_key(*id)).copied().collect();
            assert!(more.len() <= 1, "round {number}: {more:?} came from nowhere");
            for id in more {
                assert!(contents(&repository, id) == self.world.contents, "round {number}: snapshot {}", id.short());
                self.live.insert(id, self.world.contents.clone());
            }
        }
        if number % 3 == 2 {
            self.backup();
            assert!(empty(&self.world.path("repository/tmp")), "something is left in tmp/");
        }
    }
}

#[test]
fn a_backup_a_prune_and_a_restore_that_are_killed_and_stopped_lose_nothing() {
    let full = std::env::var_os("PACKSTONE_FULL").is_some_and(|value| value == "1");
    let rounds = if full { 200 } else { 10 };
    let mut overlap = Overlap {
        world: World::new(seed()),
        live: BTreeMap::new(),
        whole: Duration::from_millis(600),
        kills: 0,
        stops: 0,
        restored: 0,
    };
    for number in 0..3 {
        overlap.backup();
        overlap.world.change(number);
    }
    for number in 0..rounds {
        overlap.round(number);
    }
    overlap.run(&["prune", "--instant"]).expect(&[0]);
    overlap.run(&["check", "--read-data"]).expect(&[0]);
    let Overlap { kills, stops, restored, .. } = overlap;
    assert!(kills > rounds / 4 && stops > rounds / 4, "{kills} kills and {stops} stops: the moments come too late");
    println!(
        "{rounds} of {rounds} rounds: {kills} processes killed, {stops} stopped for a while, {restored} restores exact, \
         every live snapshot whole after each"
    );
}
