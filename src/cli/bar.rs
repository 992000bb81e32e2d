//! The bar on a terminal and the text beside it.

use crate::base::escape::escape;
use crate::ops::Phase;
use crate::text::rate::Rate;
use crate::text::size;
use crate::text::span;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// So many bytes have to be done before what was lost of them says half of what will be.
const SMOOTHING_BYTES: u64 = 32 << 20;

/// One look at the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Items known so far.
    pub items_expected: u64,
    /// Bytes known so far.
    pub bytes_expected: u64,
    /// The expected numbers are final.
    pub complete: bool,
    /// Items done.
    pub items_done: u64,
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes of them that have to be done again.
    pub bytes_lost: u64,
    /// Bytes of those that have been.
    pub bytes_again: u64,
}

impl Counts {
    /// Share that is done, 0 to 1: of bytes where there are any, else of items.
    #[must_use]
    pub fn share(&self) -> f64 {
        let (done, expected) = self.measure();
        if expected == 0 { 0.0 } else { (done as f64 / expected as f64).min(1.0) }
    }

    /// What is done, and of what: of bytes where there are any, else of items.
    #[must_use]
    pub const fn measure(&self) -> (u64, u64) {
        if self.bytes_expected > 0 {
            (self.bytes_done, self.bytes_expected)
        } else {
            (self.items_done, self.items_expected)
        }
    }

    /// What the rate is taken of: all that was done, also in vain.
    #[must_use]
    pub const fn moved(&self) -> u64 {
        self.measure().0.saturating_add(self.bytes_again)
    }

    /// True when there is something to do and the total is final.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.complete && self.measure().1 > 0
    }

    /// How long the rest will take, once the total is final. What was lost has to be done again, and of the rest as much will be lost as of what was
    /// done, as far as that says anything yet.
    #[must_use]
    pub fn left(&self, rate: &Rate) -> Option<Duration> {
        let (done, expected) = self.measure();
        let again = self.bytes_lost.saturating_sub(self.bytes_again);
        let left = expected.saturating_sub(done).saturating_add(again);
        let useful = done.saturating_sub(again).saturating_add(SMOOTHING_BYTES);
        let losses = self.moved().saturating_add(SMOOTHING_BYTES) as f64 / useful as f64;
        if self.complete { rate.time_for((left as f64 * losses) as u64) } else { None }
    }
}

/// What a phase is called, and what its items are.
const fn words(phase: Phase) -> (&'static str, &'static str) {
    match phase {
        Phase::LoadIndex => ("loading the index", "segments"),
        Phase::Scan => ("scanning", "files"),
        Phase::Backup => ("storing", "files"),
        Phase::Copy => ("copying", "files"),
        Phase::Publish => ("publishing", "objects"),
        Phase::Compare => ("comparing", "entries"),
        Phase::Plan => ("planning", "entries"),
        Phase::Restore => ("restoring", "files"),
        Phase::Verify => ("verifying", "files"),
        Phase::CheckStructure => ("checking structure", "objects"),
        Phase::CheckTrees => ("checking trees", "snapshots"),
        Phase::CheckData => ("reading packs", "packs"),
        Phase::RebuildIndex => ("rebuilding the index", "packs"),
        Phase::Count => ("counting", "snapshots"),
        Phase::Mark => ("looking for what is needed", "directories"),
        Phase::Repack => ("rewriting", "packs"),
        Phase::Rewrite => ("rewriting", "entries"),
        Phase::ListMirror => ("listing the mirror", ""),
        Phase::Send => ("sending", "objects"),
        Phase::DeleteOnMirror => ("deleting on the mirror", "objects"),
        Phase::Fetch => ("fetching", "objects"),
    }
}

/// Steps of the bar: indicatif's position and length are set to these, so that phases without a length draw one too.
const BAR_STEPS: u64 = 1000;

/// Draws the bar, or a spinner while the total is not known.
pub fn draw(bar: &ProgressBar, phase: Option<Phase>, counts: &Counts, rate: &Rate, item: &[u8]) {
    let Some(phase) = phase else { return };
    let known = counts.is_known();
    let template = if known { "{bar:20}  {wide_msg}" } else { "{spinner}  {wide_msg}" };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("## "));
    }
    if known {
        bar.set_length(BAR_STEPS);
        bar.set_position((counts.share() * BAR_STEPS as f64) as u64);
    }
    bar.set_message(message(phase, counts, rate, item));
    if !known {
        bar.tick(); // turns the spinner
    }
}

/// The text beside the bar: "storing  81 %  14.1 GB/17.4 GB  60,214 files  11.0 MB/s  5 min left  /home/a/b".
fn message(phase: Phase, counts: &Counts, rate: &Rate, item: &[u8]) -> String {
    let (label, noun) = words(phase);
    let mut parts = vec![label.to_owned()];
    let known = counts.is_known();
    // A scan only finds out what there is; everything else gets something done.
    let (items, bytes) = match phase {
        Phase::Scan => (counts.items_expected.max(counts.items_done), counts.bytes_expected.max(counts.bytes_done)),
        _ => (counts.items_done, counts.bytes_done),
    };
    if known {
        parts.push(format!("{:.0} %", (counts.share() * 100.0).floor()));
    }
    if counts.bytes_expected > 0 || counts.bytes_done > 0 {
        let done = size::show(bytes);
        parts.push(if known { format!("{done}/{}", size::show(counts.bytes_expected)) } else { done });
    }
    if counts.items_expected > 0 || counts.items_done > 0 {
        let done = size::count(items);
        let of = if known { format!("/{}", size::count(counts.items_expected)) } else { String::new() };
        parts.push(format!("{done}{of} {noun}"));
    }
    if counts.bytes_done > 0
        && let Some(rate) = rate.per_second()
    {
        parts.push(format!("{}/s", size::show(rate as u64)));
    }
    if let Some(left) = counts.left(rate) {
        parts.push(span::show_left(left));
    }
    if !item.is_empty() {
        parts.push(escape(item));
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_what_is_known_and_no_more() {
        let mut rate = Rate::default();
        rate.update(Duration::from_secs(1), 11_000_000);
        let scanning = Counts { items_expected: 1200, bytes_expected: 5000, ..Counts::default() };
        assert_eq!(message(Phase::Scan, &scanning, &rate, b""), "scanning  5.00 kB  1,200 files");
        let counts = Counts {
            items_expected: 4,
            bytes_expected: 77_000_000,
            complete: true,
            items_done: 1,
            bytes_done: 11_000_000,
            ..Counts::default()
        };
        assert_eq!(
            message(Phase::Backup, &counts, &rate, b"/a\n"),
            "storing  14 %  11.0 MB/77.0 MB  1/4 files  11.0 MB/s  6 s left  /a\\n"
        );
        let growing = Counts { complete: false, ..counts };
        assert_eq!(message(Phase::Backup, &growing, &rate, b""), "storing  11.0 MB  1 files  11.0 MB/s");
    }

    /// 5 MB of the 11 MB were lost on the way, and 1 MB of them has left again.
    #[test]
    fn what_is_done_in_vain_takes_time_and_is_no_progress() {
        let counts = Counts {
            bytes_expected: 77_000_000,
            complete: true,
            bytes_done: 11_000_000,
            bytes_lost: 5_000_000,
            bytes_again: 1_000_000,
            ..Counts::default()
        };
        let mut rate = Rate::default();
        rate.update(Duration::from_secs(1), counts.moved());
        assert_eq!(counts.moved(), 12_000_000);
        assert_eq!(counts.left(&rate).map(|left| left.as_secs_f64().round()), Some(7.0));
        assert!((counts.share() - 11.0 / 77.0).abs() < 1e-9);
    }
}
