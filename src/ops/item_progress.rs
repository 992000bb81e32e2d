//! The progress of one thing that was expected: its bytes as they are read, and that it is done, whatever became of it.

use super::Monitor;

/// Reports to a monitor. When it ends, or is dropped, the thing counts as done; the expected bytes that were not read (holes, the rest of
/// what is damaged, what is there already) are reported as skipped.
pub(super) struct ItemProgress<'a> {
    /// None when it was counted before.
    monitor: Option<&'a dyn Monitor>,
    items: u64,
    left: u64,
}

impl<'a> ItemProgress<'a> {
    /// Of so many items, which have so many bytes together.
    pub fn new(monitor: &'a dyn Monitor, items: u64, bytes: u64) -> Self {
        Self { monitor: Some(monitor), items, left: bytes }
    }

    /// Of something that was counted before: nothing of it is reported.
    pub const fn counted_before() -> Self {
        Self { monitor: None, items: 0, left: 0 }
    }

    /// Reports that so many bytes of it were read.
    pub fn read(&mut self, bytes: u64) {
        self.count_read(bytes);
        if let Some(monitor) = self.monitor {
            monitor.advance(0, bytes);
        }
    }

    /// Counts so many bytes that were read and reported by somebody else.
    pub const fn count_read(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// It is done.
    pub fn finish(self) {}
}

impl Drop for ItemProgress<'_> {
    fn drop(&mut self) {
        if let Some(monitor) = self.monitor {
            monitor.skip(self.items, self.left);
        }
    }
}
