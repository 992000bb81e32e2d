//! What a monitor is told of one thing that was expected: its bytes as they are read, and that it is done, whatever became of it.

use super::Monitor;

/// Tells once, and all of it: what was not read of the expected bytes (holes, the rest of what is damaged, all of what is there
/// already) is told as what needs no work, when this is dropped.
pub(super) struct Told<'a> {
    /// None when it was told before.
    monitor: Option<&'a dyn Monitor>,
    items: u64,
    left: u64,
}

impl<'a> Told<'a> {
    /// Of so many items, which have so many bytes.
    pub fn new(monitor: &'a dyn Monitor, items: u64, bytes: u64) -> Self {
        Self { monitor: Some(monitor), items, left: bytes }
    }

    /// Of what was told before.
    pub const fn before() -> Self {
        Self { monitor: None, items: 0, left: 0 }
    }

    /// So many bytes of it were read.
    pub fn read(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
        if let Some(monitor) = self.monitor {
            monitor.advance(0, bytes);
        }
    }
}

impl Told<'_> {
    /// So many bytes of it were read, of which the monitor has heard.
    pub const fn was_read(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if let Some(monitor) = self.monitor {
            monitor.skip(self.items, self.left);
        }
    }
}
