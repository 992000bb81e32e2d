//! What long work looks like: a bar with rate and remaining time on a terminal, status lines with `--json`, nothing in
//! a pipe. Problems are said as they come, in every form.
//!
//! Workers only add to the [`Tally`]; one thread looks at it a few times a second and draws. `PACKSTONE_PROGRESS_FPS` sets
//! how often (1 to 60 times a second).

use super::bar;
use super::json::{
    BackupMessage, BackupStatus, BackupVerbose, CheckMessage, ItemError, Raw, RestoreCounts, RestoreMessage,
    RestoreStatus, RestoreVerbose, Text, Warning,
};
use super::output::Output;
use crate::base::escape::escape;
use crate::base::lock::lock;
use crate::base::stop::{Stop, StopSignal};
use crate::ops::tally::{Look, Pace, Tally};
use crate::ops::{Action, Item, Monitor, Phase, Problem, Severity};
use crate::text::size;
use indicatif::{ProgressBar, ProgressDrawTarget};
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Which kind of work is watched: it decides the shape of the JSON lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// restic's lines of `backup`.
    Backup,
    /// restic's lines of `restore`.
    Restore,
    /// Status lines as those of `backup`; problems concern the repository.
    Copy,
    /// No status lines.
    Other,
}

impl Work {
    /// The phase of which the status lines speak.
    const fn phase(self) -> Option<Phase> {
        match self {
            Self::Backup => Some(Phase::Backup),
            Self::Restore => Some(Phase::Restore),
            Self::Copy => Some(Phase::Copy),
            Self::Other => None,
        }
    }
}

#[derive(Debug)]
struct Shared {
    work: Work,
    output: Output,
    started: OnceLock<Instant>,
    tally: Tally,
    item: Mutex<Vec<u8>>,
    bar: Option<ProgressBar>,
    errors: AtomicU64,
    restored: AtomicU64,
    skipped: AtomicU64,
    skipped_bytes: AtomicU64,
    deleted: AtomicU64,
}

/// The [`Monitor`] of every command. Ends with [`Progress::finish`], or when dropped.
#[derive(Debug)]
pub struct Progress {
    shared: Arc<Shared>,
    interrupt: StopSignal,
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Watches `work`, shown as `output` says.
    #[must_use]
    pub fn new(work: Work, output: Output, interrupt: StopSignal) -> Self {
        let draw = output.terminal && !output.quiet && !output.json;
        let bar = draw.then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        let shared = Arc::new(Shared {
            work,
            output,
            started: OnceLock::new(),
            tally: Tally::default(),
            item: Mutex::default(),
            bar,
            errors: AtomicU64::new(0),
            restored: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            skipped_bytes: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
        });
        let lines = output.json && !output.quiet && work != Work::Other;
        let ticker = (draw || lines).then(|| {
            let (stop, stopped) = mpsc::channel();
            let shared = Arc::clone(&shared);
            let interval = interval(std::env::var("PACKSTONE_PROGRESS_FPS").ok().as_deref(), draw);
            // Without a thread there is no progress to be seen, and the work is done all the same.
            let thread = std::thread::Builder::new().spawn(move || {
                let mut pace = Pace::default();
                while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    shared.tick(&mut pace);
                }
            });
            Some((stop, thread.ok()?))
        });
        let ticker = ticker.flatten();
        Self { shared, interrupt, ticker }
    }

    /// Problems so far.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.shared.errors.load(Relaxed)
    }

    /// Time since the first phase began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.elapsed()
    }

    /// Prints something between two steps of the work, with the bar out of the way.
    pub fn between<T>(&self, print: impl FnOnce() -> T) -> T {
        self.shared.above_bar(print)
    }

    /// Removes the bar until the next phase begins, so that what one step of several has found can be printed.
    pub fn pause(&self) {
        if self.shared.tally.idle()
            && let Some(bar) = &self.shared.bar
        {
            bar.finish_and_clear();
        }
    }

    /// Names an entry and what becomes of it, however little is said otherwise.
    pub fn name(&self, item: &Item<'_>) {
        self.shared.verbose(item);
    }

    /// Removes the bar, so that the summary can be printed.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some((stop, thread)) = self.ticker.take() {
            drop(stop);
            let _ = thread.join();
        }
        if let Some(bar) = &self.shared.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

/// Time between two looks: 100 ms on a terminal, 250 ms for JSON, unless `frames` (a second) says otherwise.
fn interval(frames: Option<&str>, terminal: bool) -> Duration {
    let default = Duration::from_millis(if terminal { 100 } else { 250 });
    match frames.and_then(|text| text.parse::<f64>().ok()) {
        Some(frames) if frames > 0.0 => Duration::from_secs_f64(1.0 / frames.clamp(1.0, 60.0)),
        _ => default,
    }
}

impl Shared {
    fn elapsed(&self) -> Duration {
        self.started.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Before the first phase there is nothing to be seen: a repository is opened, and somebody may be asked for a passphrase.
    fn tick(&self, pace: &mut Pace) {
        let Some(look) = self.tally.look() else { return };
        pace.update(&look);
        let item = lock(&self.item).clone();
        match &self.bar {
            Some(bar) => bar::draw(bar, &look, pace, &item),
            None => self.status(&look, pace, &item),
        }
    }

    /// Writes one status line. A reader that went away does not end the work: the summary will find out.
    /// The counts are those of the command's own phase, also while another one runs.
    fn status(&self, look: &Look, pace: &Pace, item: &[u8]) {
        let Some(own) = self.work.phase() else { return };
        let counts = self.tally.counts_of(own);
        let share = if look.counts.is_known() { look.counts.share() } else { counts.share() };
        let seconds_elapsed = self.elapsed().as_secs();
        let seconds_remaining = pace.left(look).map_or(0, |left| left.as_secs());
        let bytes_per_second = pace.bytes_per_second(look).unwrap_or_default();
        let _ = match self.work {
            Work::Backup | Work::Copy => self.output.json(&BackupMessage::Status(BackupStatus {
                seconds_elapsed,
                seconds_remaining,
                bytes_per_second,
                percent_done: share,
                total_files: counts.items_expected,
                files_done: counts.items_done,
                total_bytes: counts.bytes_expected,
                bytes_done: counts.bytes_done,
                error_count: self.errors.load(Relaxed),
                current_files: if item.is_empty() { Vec::new() } else { vec![Text(item)] },
            })),
            Work::Restore => self.output.json(&RestoreMessage::Status(RestoreStatus {
                seconds_elapsed,
                seconds_remaining,
                bytes_per_second,
                percent_done: share,
                counts: RestoreCounts {
                    total_files: counts.items_expected,
                    files_restored: self.restored.load(Relaxed),
                    files_skipped: self.skipped.load(Relaxed),
                    files_deleted: self.deleted.load(Relaxed),
                    total_bytes: counts.bytes_expected,
                    bytes_restored: counts.bytes_done,
                    bytes_skipped: self.skipped_bytes.load(Relaxed),
                },
            })),
            Work::Other => Ok(()),
        };
    }

    /// Runs `print` with the bar out of the way.
    /// A bar that was never drawn would be by a suspension, in no style of ours and beside a prompt.
    fn above_bar<T>(&self, print: impl FnOnce() -> T) -> T {
        match self.bar.as_ref().filter(|_| self.tally.look().is_some()) {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// The path of an entry from the snapshot's root, as `ls` shows it. A backup's own paths begin with a name.
    fn shown_path<'p>(&self, item: &Item<'p>) -> Cow<'p, [u8]> {
        match self.work {
            Work::Backup => Cow::Owned([b"/", item.path].concat()),
            Work::Restore | Work::Copy | Work::Other => Cow::Borrowed(item.path),
        }
    }

    fn verbose(&self, item: &Item<'_>) {
        let path = self.shown_path(item);
        let item = &Item { path: &path, ..*item };
        if self.output.json {
            let _ = match self.work {
                Work::Backup => self.output.json(&BackupMessage::VerboseStatus(BackupVerbose {
                    action: backup_action(item.action),
                    item: Text(item.path),
                    item_raw: Raw::of(item.path),
                    duration: item.took.as_secs_f64(),
                    data_size: if item.directory { 0 } else { item.added },
                    data_size_in_repo: if item.directory { 0 } else { item.stored },
                    metadata_size: if item.directory { item.added } else { 0 },
                    metadata_size_in_repo: if item.directory { item.stored } else { 0 },
                    total_files: 0,
                })),
                Work::Restore => self.output.json(&RestoreMessage::VerboseStatus(RestoreVerbose {
                    action: restore_action(item.action),
                    item: Text(item.path),
                    item_raw: Raw::of(item.path),
                    size: item.size,
                })),
                Work::Copy | Work::Other => Ok(()),
            };
            return;
        }
        let line = verbose_line(self.work, item);
        self.above_bar(|| {
            let _ = self.output.line(line);
        });
    }
}

const fn backup_action(action: Action) -> &'static str {
    match action {
        Action::New | Action::Started => "new",
        Action::Changed => "modified",
        Action::Unchanged => "unchanged",
        Action::Skipped => "excluded",
        Action::Deleted => "deleted",
    }
}

const fn restore_action(action: Action) -> &'static str {
    match action {
        Action::New | Action::Started => "restored",
        Action::Changed => "updated",
        Action::Unchanged | Action::Skipped => "unchanged",
        Action::Deleted => "deleted",
    }
}

fn verbose_line(work: Work, item: &Item<'_>) -> String {
    let path = escape(item.path);
    match (work, item.action) {
        (Work::Restore, Action::Deleted) => format!("{:<9} {path}", "deleted"),
        (Work::Restore, action) => format!("{:<9} {path}  {}", restore_action(action), size::show(item.size)),
        (_, action @ (Action::New | Action::Changed)) => {
            format!("{:<9} {path}  {} added", backup_action(action), size::show(item.added))
        }
        (_, action) => format!("{:<9} {path}", backup_action(action)),
    }
}

impl Monitor for Progress {
    fn phase(&self, phase: Phase) {
        let shared = &self.shared;
        shared.started.get_or_init(Instant::now);
        if let Some(bar) = shared.bar.as_ref().filter(|bar| bar.is_finished()) {
            bar.set_message("");
            bar.reset();
        }
        shared.tally.phase(phase);
        lock(&shared.item).clear();
    }

    fn idle(&self) {
        self.pause();
    }

    fn expect(&self, items: u64, bytes: u64, complete: bool) {
        self.shared.tally.expect(items, bytes, complete);
    }

    fn total(&self, phase: Phase, items: u64, bytes: u64, complete: bool) {
        self.shared.tally.total(phase, items, bytes, complete);
    }

    fn advance(&self, items: u64, bytes: u64) {
        self.shared.tally.advance(items, bytes);
    }

    fn skip(&self, items: u64, bytes: u64) {
        self.shared.tally.skip(items, bytes);
    }

    fn repeat(&self, lost: u64, again: u64) {
        self.shared.tally.repeat(lost, again);
    }

    fn item(&self, item: &Item<'_>) {
        let shared = &self.shared;
        match item.action {
            Action::Started => {
                // Which of many current files is shown does not matter, so nobody waits for it.
                if self.ticker.is_some()
                    && let Ok(mut current) = shared.item.try_lock()
                {
                    current.clear();
                    current.extend_from_slice(&shared.shown_path(item));
                }
                return;
            }
            Action::New | Action::Changed => {
                shared.restored.fetch_add(1, Relaxed);
            }
            Action::Unchanged | Action::Skipped => {
                shared.skipped.fetch_add(1, Relaxed);
                shared.skipped_bytes.fetch_add(item.size, Relaxed);
            }
            Action::Deleted => {
                shared.deleted.fetch_add(1, Relaxed);
            }
        }
        if shared.output.verbosity >= 2 {
            shared.verbose(item);
        }
    }

    fn problem(&self, &Problem { severity, path, message, .. }: &Problem<'_>) {
        let shared = &self.shared;
        match severity {
            Severity::Error => drop(shared.errors.fetch_add(1, Relaxed)),
            Severity::Warning => return shared.above_bar(|| shared.output.warn(message)),
            // Notes are kept in the result; one line there counts them.
            Severity::Note if shared.output.verbosity == 0 => return,
            Severity::Note => {}
        }
        let message = shared.output.shown(message);
        let line = if path.is_empty() { message.clone() } else { format!("{}: {message}", escape(path)) };
        shared.above_bar(|| match (shared.output.json, severity, shared.work) {
            (false, ..) => shared.output.warn(&line),
            (true, Severity::Note | Severity::Warning, _) => shared.output.json_to_stderr(&Warning::new(&line)),
            (true, Severity::Error, Work::Backup) => {
                let error = ItemError::new(&message, "archival", path);
                shared.output.json_to_stderr(&BackupMessage::Error(error));
            }
            (true, Severity::Error, Work::Restore) => {
                let error = ItemError::new(&message, "restore", path);
                shared.output.json_to_stderr(&RestoreMessage::Error(error));
            }
            (true, Severity::Error, Work::Copy | Work::Other) => {
                shared.output.json_to_stderr(&CheckMessage::Error { message: &line });
            }
        });
    }

    fn stop(&self) -> Option<Stop> {
        self.interrupt.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::about::About;

    const QUIET: Output = Output { json: false, quiet: true, verbosity: 0, terminal: false, about: About::NONE };

    #[test]
    fn a_pause_lasts_until_the_next_phase() {
        let progress = Progress::new(Work::Other, QUIET, StopSignal::new());
        progress.phase(Phase::CheckData);
        progress.pause();
        assert!(progress.shared.tally.look().is_none());
        progress.phase(Phase::Fetch);
        assert_eq!(progress.shared.tally.look().map(|look| look.phase), Some(Phase::Fetch));
    }

    #[test]
    fn an_interrupt_is_seen() {
        let interrupt = StopSignal::new();
        let progress = Progress::new(Work::Other, QUIET, interrupt.clone());
        assert!(!progress.interrupted());
        interrupt.request(Stop::User);
        assert!(progress.interrupted());
    }

    #[test]
    fn verbose_lines_name_what_became_of_a_file() {
        let item = Item { added: 2_000, size: 5, ..Item::new(b"/a\x1b", Action::Changed) };
        assert_eq!(verbose_line(Work::Backup, &item), "modified  /a\\x1b  2.00 kB added");
        assert_eq!(verbose_line(Work::Restore, &item), "updated   /a\\x1b  5 B");
    }

    #[test]
    fn how_often_is_bounded() {
        assert_eq!(interval(None, true), Duration::from_millis(100));
        assert_eq!(interval(None, false), Duration::from_millis(250));
        assert_eq!(interval(Some("2"), true), Duration::from_millis(500));
        assert_eq!(interval(Some("0.001"), true), Duration::from_secs(1));
        for text in ["0", "-1", "nan", "x", ""] {
            assert_eq!(interval(Some(text), true), Duration::from_millis(100), "{text}");
        }
    }
}
