//! Looks at a listing that may be behind what was written: S3 shows every write at once since 2020, and not everything that speaks its protocol does.

use std::time::{Duration, Instant};

use crate::ops::Monitor;

/// Before each further look.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];
/// How often it is asked whether somebody wants an end.
const TICK: Duration = Duration::from_millis(100);

/// Waits each time that it is asked for the next one; none when there was time enough, or the user wants an end.
pub(super) fn pauses(monitor: &dyn Monitor) -> impl Iterator<Item = ()> + '_ {
    PAUSES.into_iter().map_while(move |pause| {
        let until = Instant::now() + pause;
        while Instant::now() < until && !monitor.interrupted() {
            std::thread::sleep(TICK.min(until.saturating_duration_since(Instant::now())));
        }
        (!monitor.interrupted()).then_some(())
    })
}
