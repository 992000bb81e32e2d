//! The bar on a terminal and the text beside it.

use crate::base::escape::escape;
use crate::ops::Phase;
use crate::ops::tally::{Look, Pace};
use crate::text::size;
use crate::text::span;
use indicatif::{ProgressBar, ProgressStyle};

/// What a phase is called, and what one of its items is and several are.
const fn words(phase: Phase) -> (&'static str, (&'static str, &'static str)) {
    const FILES: (&str, &str) = ("file", "files");
    const OBJECTS: (&str, &str) = ("object", "objects");
    const PACKS: (&str, &str) = ("pack", "packs");
    const ENTRIES: (&str, &str) = ("entry", "entries");
    const SNAPSHOTS: (&str, &str) = ("snapshot", "snapshots");
    const DIRECTORIES: (&str, &str) = ("directory", "directories");
    match phase {
        Phase::LoadIndex => ("loading the index", ("segment", "segments")),
        Phase::Backup => ("storing", FILES),
        Phase::Copy => ("copying", FILES),
        Phase::Publish => ("publishing", OBJECTS),
        Phase::Compare => ("comparing", ENTRIES),
        Phase::Plan => ("planning", ENTRIES),
        Phase::Restore => ("restoring", FILES),
        Phase::Verify => ("verifying", FILES),
        Phase::CheckStructure => ("checking structure", OBJECTS),
        Phase::CheckTrees => ("checking trees", DIRECTORIES),
        Phase::CheckData => ("reading packs", PACKS),
        Phase::RebuildIndex => ("rebuilding the index", PACKS),
        Phase::Count => ("counting", SNAPSHOTS),
        Phase::Mark => ("looking for what is needed", DIRECTORIES),
        Phase::Repack => ("rewriting", PACKS),
        Phase::Rewrite => ("rewriting", ENTRIES),
        Phase::ListMirror => ("listing the mirror", OBJECTS),
        Phase::Send => ("sending", OBJECTS),
        Phase::DeleteOnMirror => ("deleting on the mirror", OBJECTS),
        Phase::Fetch => ("fetching", OBJECTS),
    }
}

/// Steps of the bar: indicatif's position and length are set to these, so that phases without a length draw one too.
const BAR_STEPS: u64 = 1000;

/// From so many columns on, the bar is a long one. On less the time that is left must be seen, and it stands behind the bar.
const WIDE_COLUMNS: u16 = 100;

/// Draws the bar, or a spinner while the total is not known.
pub fn draw(bar: &ProgressBar, look: &Look, pace: &Pace, item: &[u8]) {
    let known = look.counts.is_known();
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    // One without rows is not known, and then indicatif takes it for 80 columns.
    let columns = size.map_or(0, |size| if size.ws_row == 0 { 0 } else { size.ws_col });
    let template = match (known, columns) {
        (false, _) => "{spinner}  {wide_msg}",
        (true, WIDE_COLUMNS..) => "{bar:20}  {wide_msg}",
        (true, _) => "{bar:8}  {wide_msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("## "));
    }
    if known {
        bar.set_length(BAR_STEPS);
        bar.set_position((look.counts.share() * BAR_STEPS as f64) as u64);
    }
    bar.set_message(message(look, pace, item));
    if !known {
        bar.tick(); // turns the spinner
    }
}

/// The text beside the bar: "storing  81 %  14.1 GB/17.4 GB  11.0 MB/s  5 min left  60,214/74,112 files  /home/a/b". What does not fit into
/// a narrow window stands last.
fn message(look: &Look, pace: &Pace, item: &[u8]) -> String {
    let counts = &look.counts;
    let (label, (one, many)) = words(look.phase);
    let mut parts = vec![label.to_owned()];
    let known = counts.is_known();
    if known {
        parts.push(format!("{:.0} %", (counts.share() * 100.0).floor()));
    }
    if counts.has_bytes() {
        let done = size::show(counts.bytes_done);
        parts.push(if known { format!("{done}/{}", size::show(counts.bytes_expected)) } else { done });
    }
    if let Some(rate) = pace.bytes_per_second(look) {
        parts.push(format!("{}/s", size::show(rate)));
    }
    if let Some(left) = pace.left(look) {
        parts.push(span::show_left(left));
    }
    if counts.items_expected > 0 {
        parts.push(match known {
            true => format!("{}/{}", size::count(counts.items_done), size::counted(counts.items_expected, one, many)),
            false => size::counted(counts.items_done, one, many),
        });
    }
    if !item.is_empty() {
        parts.push(escape(item));
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tally::Tally;

    fn text(tally: &Tally, item: &[u8]) -> String {
        let Some(look) = tally.look() else { return String::new() };
        // Of a rate nothing is known yet.
        message(&look, &Pace::default(), item)
    }

    #[test]
    fn the_text_says_what_is_known_and_no_more() {
        let tally = Tally::default();
        tally.phase(Phase::Backup);
        assert_eq!(text(&tally, b""), "storing");
        tally.advance(1, 11_000_000);
        assert_eq!(text(&tally, b""), "storing  11.0 MB  1 file");
        tally.total(Phase::Backup, 4, 77_000_000, false);
        assert_eq!(text(&tally, b""), "storing  11.0 MB  1 file", "a total that grows is none");
        tally.total(Phase::Backup, 4, 77_000_000, true);
        assert_eq!(text(&tally, b"/a\n"), "storing  14 %  11.0 MB/77.0 MB  1/4 files  /a\\n");
        tally.phase(Phase::CheckTrees);
        tally.expect(1_200, 0, true);
        tally.advance(600, 0);
        assert_eq!(text(&tally, b""), "checking trees  50 %  600/1,200 directories");
    }

    /// A first backup on a terminal of 80 columns: the time that is left is seen.
    #[test]
    fn the_time_that_is_left_stands_before_what_may_be_cut() {
        let tally = Tally::default();
        tally.phase(Phase::Backup);
        tally.total(Phase::Backup, 74_112, 17_400_000_000, true);
        let mut pace = Pace::default();
        tally.advance(3_000, 525_000_000);
        std::thread::sleep(std::time::Duration::from_millis(1_100));
        let Some(look) = tally.look() else { return };
        pace.update(&look);
        let text = message(&look, &pace, b"/home/a/b");
        let (before, _) = text.split_once(" left  3,000/74,112 files  /home/a/b").unwrap_or_default();
        assert!(!before.is_empty() && before.len() + " left".len() + "########  ".len() <= 80, "{text}");
        assert!(before.contains(" MB/s  "), "{text}");
    }
}
