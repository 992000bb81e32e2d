//! Snapshots as a table.

use super::snapshot_json;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::codec::snapshot::Outcome;
use crate::ops::order::{Doubt, Order};
use crate::ops::select::Chosen;
use crate::text::table::{Align, Table};
use crate::text::{clock, size};

/// The table of these snapshots, each perhaps with reasons why it stays or goes; `order` says whose time is in doubt.
pub fn show<'a>(
    snapshots: impl Iterator<Item = (&'a Chosen, Option<&'a [String]>)> + Clone,
    order: &Order,
    compact: bool,
) -> String {
    let zone = clock::local_zone();
    let is_flawed = |chosen: &Chosen| chosen.snapshot.outcome != Outcome::Complete;
    let any = |test: &dyn Fn(&Chosen) -> bool| snapshots.clone().any(|(chosen, _)| test(chosen));
    let has_label = any(&|chosen| !chosen.snapshot.label.is_empty()) && !compact;
    let is_marked = |chosen: &Chosen| is_flawed(chosen) || chosen.snapshot.held || order.doubt(&chosen.id).is_some();
    let has_marks = any(&is_marked);
    let has_reasons = snapshots.clone().any(|(_, reasons)| reasons.is_some());
    let mut columns = vec![("ID", Align::Left), ("Time", Align::Left), ("Host", Align::Left), ("Tags", Align::Left)];
    columns.extend(has_label.then_some(("Label", Align::Left)));
    columns.extend(has_reasons.then_some(("Reasons", Align::Left)));
    columns.extend((!compact).then_some(("Paths", Align::Left)));
    columns.push(("Size", Align::Right));
    columns.extend(has_marks.then_some(("", Align::Left)));
    let mut table = Table::new(&columns);
    for (chosen, reasons) in snapshots.clone() {
        let snapshot = &chosen.snapshot;
        let safe = |list: &[String]| list.iter().map(|text| escape(text.as_bytes())).collect::<Vec<String>>();
        let (tags, reasons) = (safe(&snapshot.tags), safe(reasons.unwrap_or_default()));
        let lines = |list: Vec<String>| if compact { vec![list.join(",")] } else { list };
        let mut row = vec![
            vec![chosen.id.short()],
            vec![clock::show(snapshot.time, &zone)],
            vec![escape(snapshot.host.as_bytes())],
            lines(tags),
        ];
        row.extend(has_label.then(|| vec![escape(snapshot.label.as_bytes())]));
        row.extend(has_reasons.then(|| lines(reasons)));
        row.extend((!compact).then(|| snapshot.paths.iter().map(|path| escape(path)).collect()));
        row.push(vec![size::show(snapshot.counts.bytes)]);
        let mut marks = Vec::new();
        marks.extend(snapshot.held.then(|| "held".to_owned()));
        marks.extend(is_flawed(chosen).then(|| format!("! {}", snapshot_json::outcome(snapshot.outcome))));
        marks.extend(order.doubt(&chosen.id).map(|_| "! time in doubt".to_owned()));
        if !marks.is_empty() {
            row.push(vec![marks.join(" ")]);
        }
        table.row_of_lines(row);
    }
    table.footer(size::counted(snapshots.clone().count() as u64, "snapshot", "snapshots"));
    let mut flawed = snapshots.clone().filter(|(chosen, _)| is_flawed(chosen)).map(|(chosen, _)| chosen.id.short());
    if let Some(id) = flawed.by_ref().last() {
        table.footer(format!("! not everything was read as it was: {}", suggest!("show {}", id)));
    }
    for doubt in [Doubt::Ahead, Doubt::Contradicted] {
        let mut doubted = snapshots.clone().filter(|(chosen, _)| order.doubt(&chosen.id) == Some(doubt));
        if let Some((last, _)) = doubted.by_ref().last() {
            let (id, why) = (last.id.short(), doubt.why());
            table.footer(format!("! the time of {id} is {why}: it stands where it was stored"));
        }
    }
    table.render()
}
