//! Habits from other programs: commands and options that people type because restic, rustic, borg or git have them. Each gets
//! an answer, never "unknown command".

use super::exit::Exit;
use crate::base::command::suggest;

/// A command of another program, and what is said to it.
#[derive(Debug, Clone, Copy)]
pub struct Foreign {
    /// What was typed.
    pub name: &'static str,
    /// The answer.
    pub message: &'static str,
    /// What to run instead, if anything.
    pub hint: Option<&'static str>,
    /// How the program ends: a success only where truly nothing needs doing.
    pub exit: Exit,
}

const fn instead(name: &'static str, message: &'static str, hint: &'static str) -> Foreign {
    Foreign { name, message, hint: Some(hint), exit: Exit::Usage }
}

const fn needless(name: &'static str, message: &'static str) -> Foreign {
    Foreign { name, message, hint: None, exit: Exit::Success }
}

/// All of them.
pub const FOREIGN: [Foreign; 17] = [
    needless("unlock", "Nothing to do: locks here end with the process that holds them."),
    needless("break-lock", "Nothing to do: locks here end with the process that holds them."),
    needless("migrate", "Nothing to do: there is one repository format."),
    instead(
        "mount",
        "there is no mount: this program does without FUSE",
        "look with ls and find, take one file with dump, many with restore ID:path --target DIRECTORY",
    ),
    instead("umount", "there is no mount, so nothing to unmount", "look with ls and find"),
    instead("create", "a snapshot is made by backup", suggest!("backup PATH")),
    instead("extract", "files are written back by restore", suggest!("restore latest:PATH --target DIRECTORY")),
    instead("export-tar", "a directory is written as an archive by dump", suggest!("dump latest:PATH --archive tar")),
    instead(
        "list",
        "snapshots are listed by snapshots, files by ls",
        concat!(suggest!("snapshots"), "  or: ", suggest!("ls latest")),
    ),
    instead("log", "snapshots are listed by snapshots", suggest!("snapshots")),
    instead("info", "facts are shown by show and stats", concat!(suggest!("show latest"), "  or: ", suggest!("stats"))),
    instead(
        "cache",
        "the cache needs no care: delete its directory whenever you like",
        concat!("it is made again by the next command, or by: ", suggest!("repair index")),
    ),
    instead(
        "generate",
        "scripts and pages have a command each",
        concat!(suggest!("completions SHELL"), "  or: ", suggest!("man --directory DIRECTORY")),
    ),
    instead("rebuild-index", "the index is made again by repair", suggest!("repair index")),
    instead("self-update", "this program does not change itself", "update it the way you installed it"),
    instead("delete", "snapshots are removed by forget", suggest!("forget ID")),
    instead("compact", "freeing space is prune here", suggest!("prune")),
];

/// The answer to a foreign command.
#[must_use]
pub fn find(name: &str) -> Option<&'static Foreign> {
    FOREIGN.iter().find(|foreign| foreign.name == name)
}

/// The foreign commands as hidden subcommands that take any arguments.
pub fn commands() -> impl Iterator<Item = clap::Command> {
    FOREIGN.iter().map(|foreign| {
        let rest = clap::Arg::new("rest")
            .num_args(0..)
            .trailing_var_arg(true)
            .allow_hyphen_values(true)
            .value_parser(clap::value_parser!(std::ffi::OsString));
        clap::Command::new(foreign.name).hide(true).about(foreign.message).disable_help_flag(true).arg(rest)
    })
}

/// Options of other programs, and options that must not exist, with what to do instead.
const OPTIONS: [(&str, &str); 10] = [
    (
        "--password",
        "a passphrase on the command line is seen by every user of the machine: use --password-file, --password-command, --password-fd or PACKSTONE_PASSWORD",
    ),
    (
        "--passphrase",
        "a passphrase on the command line is seen by every user of the machine: use --password-file, --password-command, --password-fd or PACKSTONE_PASSWORD",
    ),
    (
        "--insecure-no-password",
        concat!(
            "there are no repositories without a key; for unattended use make a key file: ",
            suggest!("key add --new-key-file FILE")
        ),
    ),
    ("--from-insecure-no-password", "there are no repositories without a key; one is opened with --from-key-file"),
    (
        "--copy-chunker-params",
        "not needed: copy cuts contents as the repository it copies into does, so they share chunks with backups there",
    ),
    (
        "--use-fs-snapshot",
        "snapshots of the file system are not made by this program: make one and back up its directory",
    ),
    ("--with-atime", "access times are not stored: reading a file for the backup may change them"),
    ("--repository-version", "there is one repository format"),
    ("--pack", concat!("packs are shown by: ", suggest!("cat pack ID"))),
    ("--cleanup-cache", "the cache needs no care: delete its directory whenever you like"),
];

/// The answer to an option that is not known.
#[must_use]
pub fn option_hint(option: &str) -> Option<&'static str> {
    let name = option.split('=').next().unwrap_or(option);
    OPTIONS.iter().find(|(known, _)| *known == name).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn no_foreign_command_hides_one_of_ours() {
        let ours = crate::cli::Cli::command();
        let mut seen = std::collections::HashSet::new();
        for foreign in FOREIGN {
            assert!(ours.find_subcommand(foreign.name).is_none(), "{}", foreign.name);
            assert!(seen.insert(foreign.name), "{} stands twice", foreign.name);
        }
    }

    #[test]
    fn no_hinted_option_is_one_of_ours() {
        let ours = crate::cli::Cli::command();
        let commands = ours.get_subcommands().chain([&ours]);
        for argument in commands.flat_map(clap::Command::get_arguments) {
            if let Some(name) = argument.get_long() {
                assert!(option_hint(&format!("--{name}")).is_none(), "{name}");
            }
        }
        assert!(option_hint("--password=x").is_some());
        assert!(option_hint("--passw").is_none());
    }
}
