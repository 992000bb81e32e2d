//! What was typed, what is shown, and how the program ends: one file a command, the list of commands, and the one match
//! over it.
//!
//! A command file holds an argument struct, whose comments are the help text, and a function that gets a plan from
//! [`crate::ops`], shows it, runs it and shows the report. Everything such a function needs is in its [`Context`].
//! Nothing below this floor prints, asks, or knows an exit code.

pub mod about;
pub mod bar;
pub mod drill;
pub mod entry;
pub mod exit;
pub mod foreign;
pub mod interrupt;
pub mod json;
pub mod options;
pub mod output;
pub mod patterns;
pub mod progress;
pub mod prompt;
pub mod prune;
pub mod recovery;
pub mod secret_options;
pub mod snapshot_argument;
pub mod snapshot_json;
pub mod snapshot_table;
pub mod terminal;
pub mod watch;

pub mod backup;
pub mod cat;
pub mod check;
pub mod completions;
pub mod copy;
pub mod deleted;
pub mod diff;
pub mod dump;
pub mod fields;
pub mod find;
pub mod forget;
pub mod init;
pub mod key;
mod kit;
pub mod ls;
pub mod man;
pub mod mirror;
pub mod recover;
pub mod repair;
pub mod restore;
pub mod rewrite;
pub mod show;
pub mod snapshots;
pub mod stats;
mod status;
pub mod sync;
pub mod tag;
pub mod undelete;
pub mod version;

use crate::base::sys;
use crate::base::{shortage, threads};
use crate::storage::remote::ssh;
use crate::tasks::environment::Environment;
use crate::tasks::environment::secret::Variables;
use crate::tasks::failure::{Failure, Kind};
use about::About;
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, FromArgMatches};
use exit::Exit;
use foreign::Foreign;
use options::GlobalOptions;
use output::Output;
use progress::{Progress, Work};
use std::ffi::{OsStr, OsString};
use watch::Watch;

/// Encrypted, deduplicated snapshots of your files, in a repository that any tool can copy
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "packstone", version, after_long_help = footer(), max_term_width = 100)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The list of commands, in the order of the help.
#[derive(Debug, Clone, clap::Subcommand)]
#[expect(missing_docs, reason = "each stands for the file of its name, whose argument struct says what it does")]
pub enum Command {
    Init(init::Arguments),
    Backup(backup::Arguments),
    Restore(restore::Arguments),
    Snapshots(snapshots::Arguments),
    Ls(ls::Arguments),
    Find(find::Arguments),
    Deleted(deleted::Arguments),
    Diff(diff::Arguments),
    Dump(dump::Arguments),
    Forget(forget::Arguments),
    Undelete(undelete::Arguments),
    Tag(tag::Arguments),
    Hold(tag::HoldArguments),
    Release(tag::ReleaseArguments),
    Rewrite(rewrite::Arguments),
    Prune(prune::Arguments),
    Copy(copy::Arguments),
    Check(check::Arguments),
    Stats(stats::Arguments),
    Status(status::Arguments),
    Mirror(mirror::Arguments),
    Sync(sync::Arguments),
    Recover(recover::Arguments),
    Drill(drill::Arguments),
    Key(key::Arguments),
    Repair(repair::Arguments),
    Show(show::Arguments),
    Cat(cat::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
    Version(version::Arguments),
}

/// What every command function is given beside its arguments.
pub struct Context {
    /// The options of every command.
    pub global: GlobalOptions,
    /// How to print.
    pub output: Output,
    /// Where things are, and how secrets are had.
    pub environment: Environment,
}

impl Context {
    /// The monitor of what is quick, and of what prints lines itself.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::new(self)
    }

    /// Begins to watch a long operation.
    #[must_use]
    pub fn progress(&self, work: Work) -> Progress {
        Progress::new(work, self.output, self.environment.stop.clone())
    }
}

/// The whole program: takes the secrets out of the environment, parses `arguments`, runs the command, says why it failed,
/// and returns the exit code. Must be called before any thread is started.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let variables = Variables::take();
    end_ssh_with_us();
    // A dump of this process would hold keys. Failing to forbid it stops nobody from backing up.
    let _ = sys::forbid_core_dumps();
    sys::raise_open_files();
    let words: Vec<OsString> = arguments.into_iter().collect();
    let cli = match parse(&words) {
        Ok(Parsed::Ours(cli)) => *cli,
        Ok(Parsed::Foreign(foreign)) => return answer(foreign, About::of_words(&words)),
        Err(error) => return refuse(&error, About::of_words(&words)),
    };
    let output = cli.global.output(About::of(&cli.global));
    match start(cli, variables, output) {
        Ok(exit) => exit,
        Err(error) => {
            output.error(&error);
            if error.kind() == Kind::OutputClosed {
                // Ends by SIGPIPE as other programs do: quietly, and not as a success.
                let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGPIPE);
            }
            error.kind().into()
        }
    }
}

/// What OpenDAL starts for SFTP mirrors is to end with this process, and for that to be in a directory of its own.
fn end_ssh_with_us() {
    let place = ssh::Place::choose();
    if sys::set_environment_variable(OsStr::new(ssh::VARIABLE), place.directory()) {
        place.keep();
    }
}

fn start(cli: Cli, variables: Variables, output: Output) -> Result<Exit, Failure> {
    let stop = interrupt::install()
        .map_err(|error| Failure::failed("cannot handle the signals that interrupt").caused_by(error))?;
    // Where it cannot be handled the signal ends the program, as it would have.
    let _ = interrupt::bear_file_size_limit();
    if cli.global.no_lock {
        output.warn("--no-lock has no effect: nothing that only reads waits for a lock");
    }
    if variables.is_left_behind() {
        output.warn("the passphrase could not be removed from the environment: commands that this one runs may see it");
    }
    threads::start_pool().map_err(|error| {
        let hint = shortage::describe(&error);
        hint.into_iter().fold(Failure::failed(format!("cannot start a thread: {error}")), Failure::remedy)
    })?;
    let environment = cli.global.environment(variables, stop);
    let mut context = Context { global: cli.global, output, environment };
    run(cli.command, &mut context)
}

/// The one match over the list of commands.
fn run(command: Command, context: &mut Context) -> Result<Exit, Failure> {
    match command {
        Command::Init(arguments) => init::run(&arguments, context),
        Command::Backup(arguments) => backup::run(&arguments, context),
        Command::Restore(arguments) => restore::run(&arguments, context),
        Command::Snapshots(arguments) => snapshots::run(&arguments, context),
        Command::Ls(arguments) => ls::run(&arguments, context),
        Command::Find(arguments) => find::run(&arguments, context),
        Command::Deleted(arguments) => deleted::run(&arguments, context),
        Command::Diff(arguments) => diff::run(&arguments, context),
        Command::Dump(arguments) => dump::run(&arguments, context),
        Command::Prune(arguments) => prune::run(&arguments, context),
        Command::Copy(arguments) => copy::run(&arguments, context),
        Command::Stats(arguments) => stats::run(&arguments, context),
        Command::Status(arguments) => status::run(&arguments, context),
        Command::Mirror(arguments) => mirror::run(&arguments, context),
        Command::Sync(arguments) => sync::run(&arguments, context),
        Command::Recover(arguments) => recover::run(&arguments, context),
        Command::Drill(arguments) => drill::run(&arguments, context),
        Command::Cat(arguments) => cat::run(&arguments, context),
        Command::Show(arguments) => show::run(&arguments, context),
        Command::Forget(arguments) => forget::run(&arguments, context),
        Command::Undelete(arguments) => undelete::run(&arguments, context),
        Command::Tag(arguments) => tag::run(&arguments, context),
        Command::Rewrite(arguments) => rewrite::run(&arguments, context),
        Command::Hold(arguments) => tag::hold(&arguments, context),
        Command::Release(arguments) => tag::release(&arguments, context),
        Command::Check(arguments) => check::run(&arguments, context),
        Command::Key(arguments) => key::run(&arguments, context),
        Command::Repair(arguments) => repair::run(&arguments, context),
        Command::Completions(arguments) => completions::run(&arguments, context.output),
        Command::Man(arguments) => man::run(&arguments, context.output),
        Command::Version(arguments) => version::run(&arguments, context.output),
    }
}

/// What stands below the help: the variables that no option stands for, and the exit codes.
fn footer() -> String {
    format!(
        "Environment:\n  PACKSTONE_PASSWORD       the passphrase itself; removed before any command is run\n  \
         PACKSTONE_FROM_PASSWORD  the same for the repository that copy reads\n  \
         PACKSTONE_PROGRESS_FPS   how often progress is shown, 1 to 60 times a second\n\n{}",
        Exit::table()
    )
}

/// What a command line turned out to be.
#[derive(Debug)]
enum Parsed {
    Ours(Box<Cli>),
    Foreign(&'static Foreign),
}

fn parse(arguments: &[OsString]) -> Result<Parsed, clap::Error> {
    let mut command = Cli::command().subcommands(foreign::commands());
    let matches = command.try_get_matches_from_mut(arguments)?;
    if let Some(foreign) = matches.subcommand_name().and_then(foreign::find) {
        return Ok(Parsed::Foreign(foreign));
    }
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok(Parsed::Ours(Box::new(cli)))
}

/// Answers a habit from another program.
fn answer(foreign: &Foreign, about: About) -> Exit {
    let output = Output::new(false, false, 0, about);
    if foreign.exit == Exit::Success {
        return output.line(foreign.message).map_or(Exit::Failed, |()| Exit::Success);
    }
    let mut error = Failure::usage(foreign.message);
    if let Some(hint) = foreign.hint {
        error = error.remedy(hint);
    }
    output.error(&error);
    error.kind().into()
}

/// Shows help, or what is wrong with the command line.
fn refuse(error: &clap::Error, about: About) -> Exit {
    let _ = error.print();
    if let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg)
        && error.kind() == clap::error::ErrorKind::UnknownArgument
        && let Some(hint) = foreign::option_hint(option)
    {
        eprintln!("\n{}", about.show(hint, str::to_owned));
    }
    if error.use_stderr() { Exit::Usage } else { Exit::Success }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn line(words: &[&str]) -> Result<Parsed, clap::Error> {
        parse(&[&["packstone"], words].concat().into_iter().map(OsString::from).collect::<Vec<_>>())
    }

    fn ours(words: &[&str]) -> Cli {
        match line(words).unwrap() {
            Parsed::Ours(cli) => *cli,
            Parsed::Foreign(foreign) => panic!("{} is foreign", foreign.name),
        }
    }

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
        Cli::command().subcommands(foreign::commands()).debug_assert();
    }

    #[test]
    fn verbosity_is_counted_or_given() {
        assert_eq!(ours(&["version"]).global.verbosity(), 0);
        assert_eq!(ours(&["version", "-v"]).global.verbosity(), 1);
        assert_eq!(ours(&["-vv", "version"]).global.verbosity(), 2);
        assert_eq!(ours(&["version", "-v", "--verbose"]).global.verbosity(), 2);
        assert_eq!(ours(&["version", "--verbose=2"]).global.verbosity(), 2);
        assert!(line(&["-q", "-v", "version"]).is_err());
    }

    #[test]
    fn restics_command_lines_are_understood() {
        for words in [
            "-r /srv/repo backup --tag a,b -e *.o -x --exclude-caches /home",
            "backup --stdin-from-command --stdin-filename db.sql --tag db -- pg_dump -x all",
            "--repo /srv/repo snapshots --compact --latest 3 -H host --json",
            "restore latest --target /tmp/x --include /a -i b --overwrite if-newer --dry-run",
            "restore 79766175:/work -t /tmp/x --verify",
            "ls -l latest /home --recursive --sort time --reverse",
            "find -s latest -i -l a* --oldest 2020-01-01",
            "diff latest~1:home ./home --metadata",
            "dump -a zip latest /home -t home.zip",
            "check --read-data-subset=2.5%",
            "stats --mode raw-data latest",
            "key add --new-password-file f",
            "key remove 7f3a",
            "repair index --read-all-packs",
            "cat snapshot 7f3a",
            "cat index 7f3a",
            "-r /srv/two copy --from-repo /srv/repo --from-password-file f latest 7f3a -H host --tag a --path /home",
            "--retry-lock 5m --no-lock --cache-dir /c --compression max --pack-size 64 init",
        ] {
            let words: Vec<&str> = words.split(' ').collect();
            assert!(matches!(line(&words), Ok(Parsed::Ours(_))), "{words:?}: {:?}", line(&words).err());
        }
    }

    #[test]
    fn habits_from_elsewhere_get_an_answer() {
        for words in [&["unlock"][..], &["-r", "x", "mount", "/mnt", "-o", "a"], &["compact", "::"]] {
            assert!(matches!(line(words), Ok(Parsed::Foreign(_))), "{words:?}");
        }
        assert_eq!(foreign::find("unlock").unwrap().exit, Exit::Success);
        assert_eq!(foreign::find("mount").unwrap().exit, Exit::Usage);
    }

    /// Everything that changes a repository, or writes over the user's files, can be tried first.
    #[test]
    fn whatever_changes_something_has_a_dry_run() {
        const READS: [&str; 16] = [
            "status",
            "history",
            "snapshots",
            "ls",
            "find",
            "deleted",
            "diff",
            "dump",
            "check",
            "stats",
            "show",
            "cat",
            "completions",
            "man",
            "version",
            "list",
        ];
        fn walk(command: &clap::Command) {
            let deeper: Vec<_> = command.get_subcommands().collect();
            if deeper.is_empty() && !READS.contains(&command.get_name()) {
                let dry = command.get_arguments().find(|argument| argument.get_id() == "dry_run");
                let dry =
                    dry.unwrap_or_else(|| panic!("{} changes something, and has no --dry-run", command.get_name()));
                assert_eq!(dry.get_short(), Some('n'), "{}", command.get_name());
            }
            deeper.into_iter().for_each(walk);
        }
        walk(&Cli::command());
    }

    /// A secret on a command line is seen by everyone: no option may take one.
    #[test]
    fn no_option_takes_a_secret() {
        fn walk(command: &clap::Command) {
            for argument in command.get_arguments() {
                let name = argument.get_long().unwrap_or_default();
                let place = ["-file", "-command", "-fd"].iter().any(|end| name.ends_with(end));
                assert!(!name.contains("pass") || place, "--{name} of {}", command.get_name());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
