//! `recover`: a repository from mirrors alone.

use super::Context;
use super::check::affected;
use super::exit::Exit;
use super::json::AffectedPath;
use super::options::parse_head_code;
use super::output::Output;
use super::progress::Work;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::codec::head_code::HeadCode;
use crate::ops;
use crate::ops::check::Affected;
use crate::repository::freshness::Grade;
use crate::tasks::failure::Failure;
use crate::tasks::recover::{self, Lacking, Report, Request, Step};
use crate::text::size;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Objects and findings that are named one by one; how many more there are is said.
const SHOWN: usize = 20;
/// The same in JSON; the summary counts all.
const SHOWN_IN_JSON: usize = 1_000;

/// Bring the repository back from a mirror alone, or from several
///
/// Any passphrase, recovery code or key file of the repository opens it. Interrupt freely: the same command goes on where it stopped.
///
/// Whatever is sound comes. What is damaged or missing on one mirror comes from another; what none has is named, with the files that it keeps from
/// being restored, and the exit code is 17. Later "repair objects" fetches it from any other mirror.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Where the mirrors are: s3://BUCKET/PATH and the like, a directory, or a mirror's name. NAME=ADDRESS takes credentials from PACKSTONE_MIRROR_NAME_...
    #[arg(value_name = "ADDRESS", required = true)]
    pub mirrors: Vec<String>,
    /// An option of the service, such as endpoint=https://... (can be given multiple times; with one mirror)
    #[arg(short, long = "option", value_name = "KEY=VALUE")]
    pub option: Vec<String>,
    /// Run this command, without a shell, for the credentials: it prints lines KEY=VALUE (with one mirror)
    #[arg(long, value_name = "COMMAND")]
    pub credentials_command: Option<String>,
    /// Where the repository is to be [default: where --repo says]
    #[arg(long, value_name = "DIRECTORY")]
    pub to: Option<PathBuf>,
    /// Bring back the older state with this state code
    #[arg(long, value_name = "CODE", value_parser = parse_head_code)]
    pub head: Option<HeadCode>,
    /// Fetch so many objects at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub connections: u16,
    /// Change nothing, only say what would be fetched
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Rollback`] for a state that is older than is known; [`Exit::WrongPassword`]; damage; storage errors.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let progress = context.progress(Work::Other);
    let output = context.output;
    let recovered = recover::run(&arguments.request(), &context.environment, &progress, &|step| {
        progress.between(|| tell(step, output))
    });
    progress.finish();
    let report = recovered?;
    // What follows is about what came back.
    context.output.about = context.output.about.at(&report.place);
    show(&report, context.output)?;
    Ok(report.kind().into())
}

impl Arguments {
    fn request(&self) -> Request {
        Request {
            mirrors: self.mirrors.clone(),
            option: self.option.clone(),
            credentials_command: self.credentials_command.clone(),
            to: self.to.clone(),
            head: self.head,
            connections: self.connections,
            dry_run: self.dry_run,
        }
    }
}

fn tell(step: Step<'_>, output: Output) -> Result<(), Failure> {
    match step {
        Step::Authenticated(grade) => {
            let fresh = match grade {
                Grade::Proven => "freshness PROVEN by the state code",
                Grade::Remembered => "not older than what this machine has seen",
                Grade::Unasked => "the state that was asked for",
                Grade::Behind(_) | Grade::Forked(_) | Grade::NotProven => "freshness NOT proven",
            };
            output.info(format_args!("authenticated   {fresh}"))
        }
        Step::Planned { objects, bytes, place } => {
            let (objects, shown) = (size::counted(objects, "object", "objects"), escape(place.as_os_str().as_bytes()));
            output.info(format_args!("{objects}, {} to fetch into {shown}", size::show(bytes)))
        }
        Step::RememberedApart { lives } => {
            let lives = escape(lives.as_os_str().as_bytes());
            output.info(format_args!("the repository at {lives} stays as it is; this copy is remembered apart from it"))
        }
    }
}

fn show(report: &Report, output: Output) -> Result<(), Failure> {
    let Some(check) = &report.check else { return Ok(()) };
    if output.json {
        return show_json(report, check, output);
    }
    let more = |all: usize, what: &str| match all.saturating_sub(SHOWN) {
        0 => Ok(()),
        left => output.line(format_args!("and {} more {what}", size::count(left as u64))),
    };
    for Lacking { object, said } in report.lacking.iter().take(SHOWN) {
        let said: Vec<String> =
            said.iter().map(|(mirror, why)| format!("{mirror}: {}", escape(why.as_bytes()))).collect();
        output.line(format_args!("not brought back: {object}: {}", said.join("; ")))?;
    }
    more(report.lacking.len(), "objects")?;
    for finding in check.findings.iter().take(SHOWN) {
        output.line(&finding.message)?;
        for line in affected(finding) {
            output.line(format_args!("  {line}"))?;
        }
    }
    more(check.findings.len(), "problems")?;
    let snapshots = size::counted(check.snapshots, "snapshot", "snapshots");
    if report.kind().is_none() {
        return output
            .info(format_args!("{snapshots}, check clean.  Next: {}", suggest!("restore latest --target DIRECTORY")));
    }
    let lost = &check.affected;
    if lost.paths > 0 {
        let paths = size::counted(lost.paths, "path", "paths");
        output.line(format_args!(
            "{paths} of {} cannot be restored in full; a directory stands for everything in it. Everything else can.",
            size::counted(lost.snapshots, "snapshot", "snapshots")
        ))?;
    }
    if report.lacking.is_empty() && check.damage().is_none() {
        return Ok(());
    }
    output.line(format_args!(
        "{snapshots} came back; the repository knows what it lacks.  To fetch that from another mirror: {}  then: {}",
        suggest!("mirror add NAME ADDRESS"),
        if report.hides_newer { suggest!("repair heads") } else { suggest!("repair objects") }
    ))?;
    if check.repair_index {
        output.line(format_args!(
            "Without one, what the packs hold can be read from the packs themselves: {}",
            suggest!("repair index")
        ))?;
    }
    Ok(())
}

fn first(affected: &Affected) -> Vec<AffectedPath<'_>> {
    affected.first.iter().map(|(path, snapshot)| AffectedPath::new(snapshot, path)).collect()
}

fn show_json(report: &Report, check: &ops::check::Report, output: Output) -> Result<(), Failure> {
    for Lacking { object, said } in report.lacking.iter().take(SHOWN_IN_JSON) {
        let one = |(mirror, why): &(String, String)| serde_json::json!({ "mirror": mirror, "reason": why });
        output.json(&serde_json::json!({
            "message_type": "lacking",
            "object": object.to_string(),
            "mirrors": said.iter().map(one).collect::<Vec<_>>(),
        }))?;
    }
    for finding in check.findings.iter().take(SHOWN_IN_JSON) {
        let affected = finding.affected.as_ref();
        output.json(&serde_json::json!({
            "message_type": "finding",
            "message": output.with_commands(&finding.message),
            "damage": finding.is_damage,
            "pack": finding.pack.map(|pack| pack.to_string()),
            "paths": affected.map_or(0, |affected| affected.paths),
            "snapshots": affected.map_or(0, |affected| affected.snapshots),
            "first": affected.map(first).unwrap_or_default(),
        }))?;
    }
    output.json(&serde_json::json!({
        "message_type": "summary",
        "repository": report.repository.to_string(),
        "generation": check.generation,
        "snapshots": check.snapshots,
        "packs": check.packs,
        "problems": check.findings.len(),
        "lacking": report.lacking.len(),
        "paths_affected": check.affected.paths,
        "snapshots_affected": check.affected.snapshots,
        "affected": first(&check.affected),
        "silent_mirrors": report.silent.iter().map(|(name, _)| name).collect::<Vec<_>>(),
    }))
}
