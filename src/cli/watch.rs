//! The [`Monitor`] of commands whose result is lines: nothing is drawn between them, problems are warned of as they are
//! met, and the user's interrupt ends the work.

use super::Context;
use super::output::Output;
use crate::base::escape::escape;
use crate::base::stop::{Stop, StopSignal};
use crate::ops::{Item, Monitor, Phase, Problem};

/// See the module.
#[derive(Debug, Clone)]
pub struct Watch {
    output: Output,
    interrupt: StopSignal,
}

impl Watch {
    /// Watches on behalf of a command.
    #[must_use]
    pub fn new(context: &Context) -> Self {
        Self { output: context.output, interrupt: context.environment.stop.clone() }
    }
}

impl Monitor for Watch {
    fn phase(&self, _: Phase) {}
    fn expect(&self, _: u64, _: u64, _: bool) {}
    fn advance(&self, _: u64, _: u64) {}
    fn item(&self, _: &Item<'_>) {}

    fn problem(&self, &Problem { path, message, .. }: &Problem<'_>) {
        let message = self.output.shown(message);
        self.output.warn(&if path.is_empty() { message } else { format!("{}: {message}", escape(path)) });
    }

    fn stop(&self) -> Option<Stop> {
        self.interrupt.get()
    }
}
