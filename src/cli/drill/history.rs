//! `drill history`: how the drills of before ended.

use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::cli::Context;
use crate::cli::exit::Exit;
use crate::repository::mirror_book::DrillOutcome;
use crate::tasks::drill::{self, History};
use crate::tasks::failure::Failure;
use crate::text::table::{Align, Table};
use crate::text::{clock, size, span};

/// `drill history`
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Those of one mirror
    #[arg(value_name = "MIRROR")]
    pub mirror: Option<String>,
    /// Show at most so many
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub last: usize,
}

/// Runs the command.
///
/// # Errors
/// When what this machine knows of mirrors cannot be read.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Exit, Failure> {
    let History { drills, rate, has_mirrors } =
        drill::list_history(arguments.mirror.as_deref(), arguments.last, &context.environment)?;
    let (output, zone) = (context.output, clock::local_zone());
    let columns = [
        ("When", Align::Left),
        ("Mirror", Align::Left),
        ("Share", Align::Right),
        ("Outcome", Align::Left),
        ("Files", Align::Right),
        ("First file", Align::Right),
        ("Complete", Align::Right),
        ("Data", Align::Right),
    ];
    let mut table = Table::new(&columns);
    for drill in &drills {
        let share = drill.sample.map_or_else(|| "all".to_owned(), |percent| format!("{percent} %"));
        if output.json {
            output.json(&serde_json::json!({
                "message_type": "drill",
                "mirror": drill.mirror,
                "began": clock::rfc3339(drill.began, &zone),
                "sample_percent": drill.sample,
                "outcome": drill.outcome.word(),
                "reason": drill.reason,
                "generation": drill.generation,
                "snapshots": drill.snapshots,
                "files": drill.files,
                "bytes": drill.bytes,
                "fetched_bytes": drill.fetched,
                "seconds_to_first_file": drill.first_file.map(|span| span.as_secs_f64()),
                "seconds_to_complete": drill.complete.map(|span| span.as_secs_f64()),
                "data_age_seconds": drill.age.map(|span| span.as_secs()),
            }))?;
            continue;
        }
        let span = |span: Option<std::time::Duration>| span.map(span::show).unwrap_or_default();
        let outcome = match (&drill.outcome, &drill.reason) {
            (DrillOutcome::Begun, _) => "did not end".to_owned(),
            (outcome, Some(reason)) => format!("{}: {}", outcome.word(), escape(reason.as_bytes())),
            (outcome, None) => outcome.word().to_owned(),
        };
        table.row_of_lines(vec![
            vec![clock::show(drill.began, &zone)],
            vec![escape(drill.mirror.as_bytes())],
            vec![share],
            vec![outcome],
            vec![size::count(drill.files)],
            vec![span(drill.first_file)],
            vec![span(drill.complete)],
            vec![drill.age.map(|age| format!("{} old", span::show(age))).unwrap_or_default()],
        ]);
    }
    if output.json {
        output.json(&serde_json::json!({
            "message_type": "summary",
            "held": rate.held,
            "passed": rate.passed,
            "last_full": rate.last_full.map(|time| clock::rfc3339(time, &zone)),
        }))?;
        return Ok(Exit::Success);
    }
    if drills.is_empty() {
        let next = if has_mirrors { suggest!("drill --all") } else { suggest!("mirror add NAME s3://BUCKET/PATH") };
        output
            .info(format_args!("No drill yet: whether a mirror can bring the data back is not proven. Next: {next}"))?;
        return Ok(Exit::Success);
    }
    let full = rate
        .last_full
        .map_or_else(|| "no full drill yet".to_owned(), |time| format!("last full drill {}", clock::show(time, &zone)));
    table.footer(format!("last {}: {} passed; {full}", rate.held, rate.passed));
    output.text(&table.render())?;
    Ok(Exit::Success)
}
