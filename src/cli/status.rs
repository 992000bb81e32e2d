//! `status`: am I safe?

use super::exit::Exit;
use super::json::MirrorFinding;
use super::{Context, snapshot_json};
use crate::base::time::Time;
use crate::codec::head_code::HeadCode;
use crate::tasks::failure::Failure;
use crate::tasks::status::{self, Assessment, Complete, Copy, Request, ago};
use crate::text::table::{Align, Table};
use crate::text::{clock, size, span};
use jiff::tz::TimeZone;
use std::time::Duration;

/// Answer "am I safe?": newest snapshots, copies elsewhere, what is overdue, and what to do next
///
/// Of mirrors it tells what the last sync left, and asks nothing over the network. Ends with exit code 18 when something is overdue.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The newest complete snapshot of every source may be so old (3d, 12h)
    #[arg(long, value_name = "SPAN", default_value = "2d", value_parser = span::parse_days)]
    pub max_age: Duration,
    /// A mirror may be behind the repository for so long
    #[arg(long, value_name = "SPAN", default_value = "2d", value_parser = span::parse_days)]
    pub max_behind: Duration,
    /// The last drill that passed may be so old; 0 for none at all
    #[arg(long, value_name = "SPAN", default_value = "90d", value_parser = span::parse_days)]
    pub max_drill_age: Duration,
}

/// Runs the command.
///
/// # Errors
/// When the repository cannot be opened.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let request = Request {
        max_age: Some(arguments.max_age),
        max_behind: Some(arguments.max_behind),
        max_drill_age: Some(arguments.max_drill_age),
    };
    let seen = status::assess(&request, &context.environment, &context.watch())?;
    let screen = Screen { seen: &seen, zone: clock::local_zone() };
    if context.output.json {
        screen.json(context)?
    } else {
        screen.show(context)?
    }
    Ok(seen.kind().into())
}

/// Everything that is shown.
struct Screen<'a> {
    seen: &'a Assessment,
    zone: TimeZone,
}

impl Screen<'_> {
    fn ago(&self, time: Option<Time>) -> String {
        time.map_or_else(|| "never".to_owned(), |time| ago(time, self.seen.now))
    }

    fn age(&self, complete: &Complete) -> String {
        match (complete.age(self.seen.now), complete.place.doubt) {
            (Some(age), None) => span::show(age),
            (Some(age), Some(_)) => format!("{} or less", span::show(age)),
            (None, _) => "unknown".to_owned(),
        }
    }

    fn show(&self, context: &Context) -> Result<(), Failure> {
        let (output, head) = (context.output, self.seen.head);
        let mut table = Table::new(&[
            ("Source", Align::Left),
            ("Host", Align::Left),
            ("Snapshots", Align::Right),
            ("Newest complete", Align::Left),
            ("Age", Align::Right),
        ]);
        for source in &self.seen.sources {
            let (id, old) = source.complete.as_ref().map_or_else(
                || ("none".to_owned(), String::new()),
                |complete| (complete.id.clone(), self.age(complete)),
            );
            let cells = [source.host.clone(), size::count(source.snapshots), id, old];
            table.row_of_lines([vec![source.paths.clone()], cells.map(|cell| vec![cell]).to_vec()].concat());
        }
        if !self.seen.sources.is_empty() {
            output.text(&table.render())?;
        }
        let mut table = Table::new(&[
            ("Copy", Align::Left),
            ("State", Align::Left),
            ("Synced", Align::Left),
            ("Verified", Align::Left),
            ("Drilled", Align::Left),
        ]);
        let state = format!("generation {}", head.generation);
        table.row_of_lines(vec![vec!["here".to_owned()], vec![state]]);
        for copy in &self.seen.mirrors {
            let Copy { mirror, drilled, .. } = copy;
            let state = match mirror.head {
                None => "empty".to_owned(),
                Some(theirs) if copy.is_in_doubt() => format!("in doubt, was whole at {}", theirs.generation),
                Some(theirs) if theirs == head => format!("whole at {}", theirs.generation),
                Some(theirs) => format!("whole at {}, behind", theirs.generation),
            };
            let drilled = self.ago(*drilled);
            let cells = [mirror.name.clone(), state, self.ago(mirror.synced), self.ago(mirror.verified), drilled];
            table.row_of_lines(cells.map(|cell| vec![cell]).to_vec());
        }
        let keys = size::counted(self.seen.keys as u64, "key", "keys");
        let disk = self.seen.disk.map_or_else(String::new, |(free, whole)| {
            format!("   disk: {} of {} free", size::show(free), size::show(whole))
        });
        table.footer(format!("state code {}   {keys}{disk}", HeadCode::of(&head)));
        output.text(&table.render())?;
        for complaint in &self.seen.complaints {
            let mark = if complaint.overdue { "! " } else { "  " };
            output.line(format!("{mark}{}.  Next: {}", complaint.sentence, complaint.remedy.marked()))?;
        }
        if self.seen.kind().is_none() {
            output.line(if self.seen.mirrors.is_empty() {
                "Nothing is overdue here."
            } else {
                "Nothing is overdue."
            })?;
        }
        Ok(())
    }

    fn json(&self, context: &Context) -> Result<(), Failure> {
        let head = self.seen.head;
        let time = |time: Time| clock::rfc3339(time, &self.zone);
        let sources: Vec<_> = self
            .seen
            .sources
            .iter()
            .map(|source| {
                let age = source.complete.as_ref().and_then(|complete| complete.age(self.seen.now));
                let doubt =
                    source.complete.as_ref().and_then(|complete| complete.place.doubt).map(snapshot_json::doubt);
                serde_json::json!({
                    "host": source.host,
                    "paths": source.paths,
                    "snapshots": source.snapshots,
                    "newest": time(source.newest),
                    "newest_complete": source.complete.as_ref().map(|complete| &complete.id),
                    "newest_complete_time": source.complete.as_ref().map(|complete| time(complete.time)),
                    "newest_complete_time_in_doubt": doubt,
                    "age_seconds": age.map(|age| age.as_secs()),
                })
            })
            .collect();
        let mut mirrors = Vec::new();
        for copy in &self.seen.mirrors {
            let Copy { mirror, counts, same_file_system, drilled, findings, damaged } = copy;
            let found = |finding| MirrorFinding::new(finding, context.output, &self.zone);
            mirrors.push(serde_json::json!({
                "name": mirror.name,
                "generation": mirror.head.map(|head| head.generation),
                "is_newest": mirror.head == Some(head),
                "same_file_system": same_file_system,
                "synced": mirror.synced.map(time),
                "verified": mirror.verified.map(time),
                "drilled": drilled.map(time),
                "objects": mirror.objects,
                "bytes": mirror.bytes,
                "pending_objects": counts.pending,
                "failed_objects": counts.failed,
                "damaged_objects": damaged,
                "findings": findings.iter().map(found).collect::<Vec<_>>(),
            }));
        }
        let complaints: Vec<_> = self
            .seen
            .complaints
            .iter()
            .map(|it| serde_json::json!({ "sentence": it.sentence, "next": context.output.with_commands(it.remedy.marked()), "overdue": it.overdue }))
            .collect();
        context.output.json(&serde_json::json!({
            "message_type": "status",
            "repository": self.seen.repository.to_string(),
            "generation": head.generation,
            "state_code": HeadCode::of(&head).to_string(),
            "sources": sources,
            "mirrors": mirrors,
            "keys": self.seen.keys,
            "disk_free_bytes": self.seen.disk.map(|(free, _)| free),
            "disk_bytes": self.seen.disk.map(|(_, whole)| whole),
            "complaints": complaints,
            "overdue": self.seen.kind().is_some(),
        }))
    }
}
