//! `undelete`: what `forget` removed, and its way back.

use super::exit::Exit;
use super::json;
use super::{Context, snapshot_json};
use crate::base::escape::escape;
use crate::base::id::ObjectId;
use crate::ops::select::{Chosen, IdBeginning};
use crate::ops::undelete::Marked;
use crate::tasks::failure::Failure;
use crate::tasks::undelete::{self, Listing, Report, Request};
use crate::text::table::{Align, Table};
use crate::text::{clock, size};
use serde::Serialize;

/// Bring removed snapshots back, or list what can come back
///
/// A snapshot that forget has removed, or that tag, hold or release has replaced, is there until prune has swept it. So is one that only a lost head
/// named, after "packstone repair heads --set-back".
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Which ones, by the beginnings of their ids; without any, list them all
    #[arg(value_name = "ID")]
    pub ids: Vec<IdBeginning>,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// One removed snapshot.
#[derive(Debug, Serialize)]
struct MarkedJson {
    message_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since_generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced_by: Option<String>,
    #[serde(flatten)]
    snapshot: json::Snapshot,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Damage`] when something that is needed is gone; a failure when `prune` has swept it.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    if arguments.ids.is_empty() {
        return list(context);
    }
    let request = Request { snapshots: arguments.ids.clone(), dry_run: arguments.dry_run };
    let Report { plan, head } = undelete::run(&request, &context.environment, &context.watch())?;
    let ids: Vec<ObjectId> = plan.snapshots.iter().map(|chosen| chosen.id).collect();
    let output = context.output;
    if output.json {
        output.json(&serde_json::json!({
            "message_type": "undelete",
            "dry_run": arguments.dry_run,
            "snapshot_ids": ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "revived_packs": plan.revived.len(),
            "generation": head.map(|head| head.generation),
        }))?;
        return Ok(Exit::Success);
    }
    let named: Vec<String> = ids.iter().map(ObjectId::short).collect();
    let named = named.join(", ");
    let packs = match plan.revived.len() {
        0 => String::new(),
        count => format!(", and {} with it", size::counted(count as u64, "pack", "packs")),
    };
    match head {
        None => output.info(format_args!("would bring back {named}{packs}; nothing was changed"))?,
        Some(_) => output.info(format_args!("brought back {named}{packs}"))?,
    }
    Ok(Exit::Success)
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let (output, zone) = (context.output, clock::local_zone());
    let Listing { marked, lacking } = undelete::list(&context.environment, &context.watch())?;
    let columns = ["ID", "Time", "Host", "Removed in", "Now", "Paths"].map(|name| (name, Align::Left));
    let mut table = Table::new(&columns);
    let mut count = 0;
    for Marked { id, since, replaced_by, snapshot } in &marked {
        let Ok(snapshot) = snapshot else { continue };
        count += 1;
        if output.json {
            let chosen = Chosen { id: *id, snapshot: snapshot.clone() };
            output.json(&MarkedJson {
                message_type: "marked_snapshot",
                since_generation: *since,
                replaced_by: replaced_by.map(|id| id.to_string()),
                snapshot: snapshot_json::snapshot(&chosen, &zone),
            })?;
        }
        table.row_of_lines(vec![
            vec![id.short()],
            vec![clock::show(snapshot.time, &zone)],
            vec![escape(snapshot.host.as_bytes())],
            vec![since.map_or("in no list".to_owned(), |since| format!("generation {since}"))],
            vec![replaced_by.map_or(String::new(), |id| id.short())],
            snapshot.paths.iter().map(|path| escape(path)).collect(),
        ]);
    }
    if !output.json {
        table.footer(format!("{} can come back", size::counted(count, "snapshot", "snapshots")));
        output.text(&table.render())?;
    }
    lacking.map_or(Ok(Exit::Success), Err)
}
