//! `repair heads`: heads that cannot be read come back from a mirror, or are left behind.

use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::cli::Context;
use crate::cli::exit::Exit;
use crate::cli::progress::Work;
use crate::codec::head::HeadRef;
use crate::ops::repair_heads;
use crate::repository::broken_heads::BrokenHeads;
use crate::tasks::failure::Failure;
use crate::tasks::repair::heads::{self, Report, Request, Step};
use crate::text::clock;

/// Bring heads that cannot be read back from a mirror, or go on from the newest one that can
///
/// Heads are the small signed files that say what is live. When the newest one is damaged or gone, no command goes on: an older one could hide the
/// latest snapshots. This fetches it from the first mirror that has it, and moves what was here to quarantine/ in the repository. Needs no passphrase.
///
/// When no mirror has it, --set-back goes on from the newest head that can be read. What only later ones named is then left out: "packstone repair
/// index" takes their packs over, and "packstone undelete" lists their snapshots. A key that was removed since opens the repository again. Mirrors and
/// machines that saw the later heads will say that this is another history.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// From which mirrors, by name; all without any
    #[arg(value_name = "MIRROR")]
    pub mirrors: Vec<String>,
    /// Go on from the newest head that can be read, when no mirror has the later ones
    #[arg(long)]
    pub set_back: bool,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// When there is no repository, or it cannot be read or written.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let request =
        Request { mirrors: arguments.mirrors.clone(), set_back: arguments.set_back, dry_run: arguments.dry_run };
    let output = context.output;
    let progress = context.progress(Work::Other);
    let repaired = heads::run(&request, &context.environment, &progress, &mut |step| {
        progress.pause();
        match step {
            Step::Found(broken) => show(broken, request.dry_run, context),
            Step::Fetched(report) => told(report, context),
        }
    });
    progress.finish();
    let report = repaired?;
    match &report {
        Report::Sound | Report::Planned => {}
        Report::Mended => output.info(concat!(
            "Every head that matters can be read. Damaged ones that were here are in quarantine/. Next: ",
            suggest!("check")
        ))?,
        Report::SetBack { head, moved } => set_back(*head, moved, context)?,
    }
    Ok(report.kind().into())
}

fn set_back(head: HeadRef, moved: &[String], context: &Context) -> Result<(), Failure> {
    let output = context.output;
    if output.json {
        output.json(&serde_json::json!({
            "message_type": "set_back",
            "generation": head.generation,
            "moved": moved,
        }))?;
    }
    for place in moved {
        output.info(format_args!("moved: {place}"))?;
    }
    output.info(format_args!(
        "Set back to generation {}. Next, before the next prune: {}",
        head.generation,
        suggest!("repair index")
    ))?;
    output.info(concat!("Then: ", suggest!("undelete")))?;
    output.info(concat!("Then: ", suggest!("check")))
}

fn show(broken: &BrokenHeads, dry_run: bool, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    let newest = broken.sound.as_ref().map(|tip| (tip.reference().generation, tip.head.time()));
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "repair_heads_plan",
            "dry_run": dry_run,
            "wrong": broken.wrong.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(),
            "newest_generation": newest.map(|(generation, _)| generation),
            "unlisted_snapshots": broken.unlisted_snapshots,
        }));
    }
    for (name, why) in &broken.wrong {
        let what = if broken.is_absent(name) { "missing" } else { "damaged" };
        output.line(format_args!("{what}: {name}: {}", escape(why.as_bytes())))?;
    }
    match newest {
        Some((generation, time)) => output.info(format_args!(
            "The newest head that can be read: generation {generation}, {}",
            clock::show(time, &clock::local_zone())
        )),
        None => output.info("No head can be read"),
    }
}

fn told(report: &repair_heads::Report, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "repair_heads",
            "mended": report.mended.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(),
            "lost": report.lost.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(),
        }));
    }
    for (head, from) in &report.mended {
        output.info(format_args!("mended: {head}, from {from}"))?;
    }
    for (head, why) in &report.lost {
        let why = if why.is_empty() { "there is none to ask" } else { why };
        output.line(format_args!("no mirror has {head}: {}", escape(why.as_bytes())))?;
    }
    Ok(())
}
