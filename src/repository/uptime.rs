//! How long this machine has been running: time that no change of its calendar clock reaches.

use std::time::Duration;

/// The time since the machine was started, asleep or not, and which start that was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uptime {
    /// Linux's name of this start (`/proc/sys/kernel/random/boot_id`); empty where it cannot be read.
    pub boot: String,
    /// Since then, `CLOCK_BOOTTIME`.
    pub running: Duration,
}

impl Uptime {
    /// Now. The clock is asked without the C library, so that what shifts that library's clocks does not shift this one.
    #[must_use]
    pub fn now() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self { boot: boot.trim().to_owned(), running: Duration::from_secs(now.tv_sec.unsigned_abs()) }
    }
}
