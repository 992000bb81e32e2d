//! `repair heads`: heads that cannot be read come back from a mirror, or are left behind.

use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::cli::Context;
use crate::cli::exit::Exit;
use crate::cli::progress::Work;
use crate::ops::{self, repair_heads};
use crate::repository;
use crate::repository::broken_heads::BrokenHeads;
use crate::repository::chain::Tip;
use crate::storage::ObjectName;
use crate::tasks::environment::freshness::About;
use crate::tasks::environment::{freshness, repositories};
use crate::tasks::failure::{Failure, Kind};
use crate::text::{clock, size};
use std::collections::BTreeSet;

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
    let mut broken = find(context)?;
    if let Some((head, known)) = broken.freshness() {
        freshness::report_freshness(
            &known,
            head,
            About::new(&repositories::place(&context.environment)?),
            &context.watch(),
        );
    }
    show(&broken, arguments.dry_run, context)?;
    if broken.wrong.is_empty() {
        return Ok(Exit::Success);
    }
    if arguments.dry_run {
        return Ok(Exit::Damage);
    }
    let before = broken.sound.as_ref().map(Tip::reference);
    let mut silent = BTreeSet::new();
    // A head that came back may name a checkpoint that is not there either.
    for _ in 0..ops::ATTEMPTS {
        let (mirrors, closed) = super::mirrors(&arguments.mirrors, broken.id(), context)?;
        let progress = context.progress(Work::Other);
        let report = repair_heads::fetch(&broken, &mirrors, &progress);
        progress.finish();
        let report = report?;
        told(&report, context)?;
        silent = report.silent.into_iter().chain(closed).collect();
        broken = find(context)?;
        if let Some(before) = before {
            let came: Vec<ObjectName> = report.mended.iter().map(|(name, _)| *name).collect();
            broken.follow(before, &came)?;
        }
        if report.mended.is_empty() || broken.wrong.is_empty() {
            break;
        }
    }
    let output = context.output;
    if broken.wrong.is_empty() {
        output.info(concat!(
            "Every head that matters can be read. Damaged ones that were here are in quarantine/. Next: ",
            suggest!("check")
        ))?;
        return Ok(Exit::Success);
    }
    let Some(newest) = broken.sound.as_ref().map(|tip| tip.reference().generation) else {
        return Err(Failure::new(
            Kind::Damage,
            "no head here can be read, and no mirror has one of those that are here",
        )
        .remedy(concat!(
            "from any other copy of the repository, copy the files under heads/ back. To bring it back from a mirror: ",
            suggest!("recover MIRROR --to DIRECTORY")
        )));
    };
    if !arguments.set_back {
        let files = size::counted(broken.unlisted_snapshots, "file", "files");
        return Err(Failure::new(
            Kind::Damage,
            format!(
                "the newest head that can be read is of generation {newest}, and later ones cannot be brought back"
            ),
        )
        .remedy(format!(
            "to go on from generation {newest}, which says nothing of {files} under snapshots/: {}",
            suggest!("repair heads --set-back")
        ))
        .remedy(concat!("to see then what can come back: ", suggest!("undelete"))));
    }
    if !silent.is_empty() {
        let names: Vec<&str> = silent.iter().map(String::as_str).collect();
        return Err(Failure::failed(format!("{} did not answer, and may have the later heads", names.join(", ")))
            .remedy(concat!(
                "run the command again when it answers. To forget one that is gone for good: ",
                suggest!("mirror remove NAME")
            )));
    }
    let elsewhere = repositories::memory(&context.environment, &context.watch());
    let place = repositories::place(&context.environment)?;
    let elsewhere = repositories::elsewhere(&elsewhere, broken.id(), &place);
    let (head, moved) = broken.set_back(elsewhere.is_some())?;
    if output.json {
        output.json(&serde_json::json!({
            "message_type": "set_back",
            "generation": head.generation,
            "moved": moved,
        }))?;
    }
    for place in &moved {
        output.info(format_args!("moved: {place}"))?;
    }
    output.info(format_args!(
        "Set back to generation {}. Next, before the next prune: {}",
        head.generation,
        suggest!("repair index")
    ))?;
    output.info(concat!("Then: ", suggest!("undelete")))?;
    output.info(concat!("Then: ", suggest!("check")))?;
    Ok(Exit::Success)
}

/// What a newer program wrote is no damage.
fn find(context: &Context) -> Result<BrokenHeads, Failure> {
    BrokenHeads::find(repositories::access_repository(&context.environment, &context.watch(), "repair heads")?).map_err(
        |error| {
            match error {
        repository::Error::UnreadableHead { .. } => Failure::new(Kind::Damage, error.to_string()).remedy(
            "use the newer program; if none ever wrote here, keep that file somewhere else and take it out of heads/",
        ),
        error => error.into(),
    }
        },
    )
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
