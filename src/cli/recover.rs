//! `recover`: a repository from a mirror alone.

use super::Context;
use super::exit::Exit;
use super::options::parse_head_code;
use super::output::Output;
use super::progress::Work;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::codec::head_code::HeadCode;
use crate::repository::freshness::Grade;
use crate::tasks::failure::Failure;
use crate::tasks::recover::{self, Report, Request, Step};
use crate::text::size;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Bring the repository back from a mirror alone
///
/// Any passphrase, recovery code or key file of the repository opens it. Interrupt freely: the same command goes on where it stopped.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Where the mirror is: s3://BUCKET/PATH and the like, a directory, or a mirror's name
    #[arg(value_name = "ADDRESS")]
    pub mirror: String,
    /// An option of the service, such as endpoint=https://... (can be given multiple times)
    #[arg(short, long = "option", value_name = "KEY=VALUE")]
    pub option: Vec<String>,
    /// Run this command, without a shell, for the credentials: it prints lines KEY=VALUE
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
            mirror: self.mirror.clone(),
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
    for finding in &check.findings {
        output.line(&finding.message)?;
    }
    if output.json {
        output.json(&serde_json::json!({
            "message_type": "summary",
            "repository": report.repository.to_string(),
            "generation": check.generation,
            "snapshots": check.snapshots,
            "packs": check.packs,
            "problems": check.findings.len(),
        }))?;
    }
    if report.kind().is_none() {
        let snapshots = size::counted(check.snapshots, "snapshot", "snapshots");
        output
            .info(format_args!("{snapshots}, check clean.  Next: {}", suggest!("restore latest --target DIRECTORY")))?;
    }
    Ok(())
}
