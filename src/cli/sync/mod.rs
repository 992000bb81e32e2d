//! `sync`: bring mirrors up to the newest state.

mod show;

use super::Context;
use super::exit::Exit;
use super::progress::Work;
use crate::tasks::failure::Failure;
use crate::tasks::sync::{self, Request};
use crate::text::{size, span};
use std::time::Duration;

/// Send what is new to the mirrors
///
/// Needs no passphrase. A mirror is whole for one state of the repository at every instant: objects first, and what names them last. An
/// interrupted sync is continued by the next one.
///
/// What was pruned leaves a mirror later than the repository: when the mirror's own newest state says that it is not needed any more, and
/// this machine has known that for the whole grace. A repository that is absent, empty or another one removes nothing.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Which mirrors, by name; all without any
    #[arg(value_name = "MIRROR")]
    pub mirrors: Vec<String>,
    /// Send at most so many bytes a second (k, M, G: powers of 1024)
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub limit_upload: Option<u64>,
    /// Send so many objects at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub connections: u16,
    /// Read back this share of what was sent, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = parse_percent)]
    pub sample: f64,
    /// Leave what was pruned on the mirror for so long after it was first seen to be superseded there (30d, 12h)
    #[arg(long, value_name = "SPAN", default_value = "30d", value_parser = parse_grace, help_heading = "Deleting")]
    pub grace: Duration,
    /// Delete at most this share of a mirror in seven days, in percent; when more is due, delete nothing and end with exit code 20
    #[arg(long, value_name = "PERCENT", default_value_t = 50.0, value_parser = parse_percent, help_heading = "Deleting")]
    pub max_delete: f64,
    /// Delete nothing
    #[arg(long, conflicts_with_all = ["grace", "max_delete"], help_heading = "Deleting")]
    pub no_delete: bool,
    /// Send although the last check found damage here; what is damaged is never sent, and nothing is deleted on a mirror
    #[arg(long)]
    pub force: bool,
    /// Change nothing, only say what would be sent and deleted
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

fn parse_grace(text: &str) -> Result<Duration, String> {
    sync::check_grace(span::parse_days(text)?)
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    percent
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| format!("{text:?} is no share: expected 0 to 100"))
}

/// Runs the command.
///
/// # Errors
/// The worst of what befell the mirrors: each is tried.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let progress = context.progress(Work::Other);
    let done = sync::run(&arguments.request(), &context.environment, &progress, &|mirror, done| {
        progress.between(|| show::show(mirror, done, context))
    });
    progress.finish();
    done?.into_result().map(|()| Exit::Success)
}

impl Arguments {
    fn request(&self) -> Request {
        Request {
            mirrors: self.mirrors.clone(),
            limit_upload: self.limit_upload,
            connections: self.connections,
            sample: self.sample,
            grace: Some(self.grace),
            max_delete: self.max_delete,
            no_delete: self.no_delete,
            force: self.force,
            dry_run: self.dry_run,
        }
    }
}
