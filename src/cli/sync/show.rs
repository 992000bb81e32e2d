//! What is said of a sync.

use crate::cli::{Context, Output};
use crate::codec::head_code::HeadCode;
use crate::ops::sync::deletion::{Deleted, DeletionPlan};
use crate::repository::mirror_book::Mirror;
use crate::storage::Leftovers;
use crate::tasks::failure::Failure;
use crate::tasks::sync::MirrorSync;
use crate::text::{size, span};
use std::time::Duration;

/// What left the mirror, and what will.
fn show_deletion(plan: &DeletionPlan, deleted: Option<&Deleted>, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    match deleted.map(|deleted| (deleted.objects, deleted.bytes)) {
        None if !plan.due.is_empty() => output.info(format_args!(
            "  {} would be deleted, {}",
            objects(plan.due.len() as u64),
            size::show(plan.bytes())
        ))?,
        Some((count, bytes)) if count > 0 => {
            output.info(format_args!(
                "  {} deleted, {}: pruned here, and the grace is over",
                objects(count),
                size::show(bytes)
            ))?;
            if deleted.is_some_and(|deleted| deleted.keeping.is_some()) {
                output.info("  the bucket keeps them as earlier versions: their space is not free yet")?;
            }
        }
        _ => {}
    }
    if let Some(next) = plan.next {
        output.info(format_args!(
            "  {} ({}) will be deleted there, the first {}",
            size::counted(plan.waiting, "object that was pruned", "objects that were pruned"),
            size::show(plan.waiting_bytes),
            in_days(next),
        ))?;
    }
    Ok(())
}

fn deletion_json(plan: &DeletionPlan, deleted: Option<&Deleted>) -> serde_json::Value {
    serde_json::json!({
        "due": plan.due.len(),
        "due_bytes": plan.bytes(),
        "waiting": plan.waiting,
        "waiting_bytes": plan.waiting_bytes,
        "next_seconds": plan.next.map(|next| next.as_secs()),
        "lately_bytes": plan.lately,
        "cap_bytes": plan.cap,
        "refused": plan.is_refused(),
        "deleted": deleted.map(|deleted| deleted.objects),
        "deleted_bytes": deleted.map(|deleted| deleted.bytes),
        "kept_as_versions": deleted.map(|deleted| deleted.keeping.is_some()),
        "failed": deleted.map(|deleted| deleted.failed.len()),
    })
}

fn in_days(span: Duration) -> String {
    match span.as_secs().div_ceil(3600) {
        0 => "with the next sync".to_owned(),
        hours @ 1..48 => format!("in {hours} h"),
        hours => format!("in {} days", hours.div_ceil(24)),
    }
}

fn objects(count: u64) -> String {
    size::counted(count, "object", "objects")
}

/// What interrupted syncs had left on the mirror.
fn show_leftovers(leftovers: &Leftovers, output: Output) -> Result<(), Failure> {
    let (removed, bytes) = leftovers.removed;
    if removed > 0 {
        let size = if bytes > 0 { format!(", {}", size::show(bytes)) } else { String::new() };
        let count = size::counted(removed, "incomplete object", "incomplete objects");
        output.info(format!("Removed {count} that interrupted syncs left on the mirror{size}"))?;
    }
    let (there, bytes) = leftovers.there;
    if there > 0 {
        let count = size::counted(there, "incomplete object", "incomplete objects");
        // Those of an unfinished upload are not known.
        let size = if bytes > 0 { format!(", {}", size::show(bytes)) } else { String::new() };
        output.info(format!("{count} left on the mirror{size}: a later sync removes what is older than 7 days"))?;
    }
    Ok(())
}

/// What was done, or would be.
///
/// # Errors
/// When it cannot be printed.
pub(super) fn show(mirror: &Mirror, done: &MirrorSync, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    let MirrorSync { plan, report, deletion, deleted } = done;
    let report = report.as_ref();
    for note in &plan.notes {
        output.warn(&format!("{}: {note}", mirror.name));
    }
    if let Some(report) = report.filter(|_| !output.json) {
        show_leftovers(&report.leftovers, output)?;
    }
    let code = HeadCode::of(&plan.head);
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "summary",
            "mirror": mirror.name,
            "dry_run": report.is_none(),
            "generation": plan.head.generation,
            "was_at_generation": plan.was.map(|head| head.generation),
            "state_code": code.to_string(),
            "objects": plan.whole().0,
            "bytes": plan.whole().1,
            "to_send": (plan.send.len() + plan.heads.len()) as u64,
            "to_send_bytes": plan.bytes(),
            "sent": report.map(|report| report.sent),
            "sent_bytes": report.map(|report| report.sent_bytes),
            "read_back": report.map(|report| report.read_back),
            "seconds": report.map(|report| report.took.as_secs_f64()),
            "temporary_removed": report.map(|report| report.leftovers.removed.0),
            "temporary_left": report.map(|report| report.leftovers.there.0),
            "deletion": deletion.as_ref().map(|deletion| deletion_json(deletion, deleted.as_ref())),
        }));
    }
    let was = match plan.was {
        _ if plan.is_empty() => String::new(),
        Some(head) => format!("   (was at generation {})", head.generation),
        None => "   (was empty)".to_owned(),
    };
    let generation = plan.head.generation;
    match report {
        None => output.info(format_args!(
            "{}  {} would be sent, {}{was}",
            mirror.name,
            objects((plan.send.len() + plan.heads.len()) as u64),
            size::show(plan.bytes())
        ))?,
        Some(report) => {
            let done = if plan.is_empty() {
                "nothing to send".to_owned()
            } else {
                format!(
                    "{} sent ({}), {} read back  {}",
                    objects(report.sent),
                    size::show(report.sent_bytes),
                    report.read_back,
                    span::show(report.took),
                )
            };
            let name = &mirror.name;
            output.info(format_args!("{name}  whole at generation {generation}   state code {code}   {done}{was}"))?;
        }
    }
    deletion.as_ref().map_or(Ok(()), |deletion| show_deletion(deletion, deleted.as_ref(), context))
}
