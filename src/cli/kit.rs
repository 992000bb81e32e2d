//! `key kit`: one page that brings everything back.

use super::terminal::Terminal;
use super::{Context, recovery};
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::tasks::failure::Failure;
use crate::tasks::key::kit::{self, Request};
use crate::tasks::key::kit_page::Page;
use crate::text::size;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// `key kit`
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Write the page into this new file, which only you can read: as HTML when its name ends with .html, else as text
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Memory that one guess of the recovery code costs, 64M to 1G
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub kdf_memory: Option<u64>,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// As [`kit::run`].
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let Arguments { output: file, kdf_memory, dry_run } = arguments.clone();
    let output = context.output;
    let shown = output.terminal && !output.json && file.is_none();
    let terminal = if shown { Terminal::open(&context.environment.stop) } else { None };
    let mut show = terminal.map(|mut terminal| {
        move |page: &Page| {
            terminal.show(&page.text())?;
            recovery::confirm(&mut terminal, page.last_group(), "Print it or write it down")
        }
    });
    let request = Request { output: file.clone(), kdf_memory, dry_run };
    let show = show.as_mut().map(|show| show as &mut kit::Show<'_>);
    let report = kit::run(&request, &context.environment, &context.watch(), show)?;
    let Some(key) = report.key else { return output.info("would make a key for a new kit, and its page") };
    let file = file.map(|path| escape(path.as_os_str().as_bytes()));
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "kit",
            "key": key.to_string(),
            "label": report.label,
            "file": file,
            "earlier_kits": report.earlier_kits(),
        }));
    }
    if let Some(path) = file {
        let (key, label) = (key.short(), &report.label);
        output.info(format!("{path}: print it, put it away, and remove the file. Its key is {key}, \"{label}\""))?;
    }
    recovery::say_others(context, &report.others)?;
    if !report.has_mirrors {
        output.warn(concat!(
            "there is no mirror yet: the page has nowhere to bring the data back from. Next: ",
            suggest!("mirror add NAME s3://BUCKET/PATH")
        ));
        return Ok(());
    }
    output.info(concat!("The mirrors do not know this kit yet. Next: ", suggest!("sync")))
}
