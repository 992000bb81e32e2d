//! From what went wrong below to the kind of failure, the sentence and the remedies that a person gets.

use std::io;

use super::failure::{Failure, Kind};
use super::store_failure;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::shortage;
use crate::codec::head_code::HeadCode;
use crate::files::own::OwnError;
use crate::files::source::SourceError;
use crate::ops;
use crate::ops::mirror_error::MirrorError;
use crate::repository;
use crate::repository::lock::LockError;
use crate::repository::mirror_book::BookError;
use crate::storage::address::AddressError;
use crate::storage::{ErrorKind, ObjectName};

/// What helps against damage of any kind.
pub(super) const HEAL: &str = concat!(
    "any copy of a damaged file under the same name heals it. To see everything that is damaged: ",
    suggest!("check")
);

/// What helps where the system does not let us.
const OWNER: &str = "check who owns the repository's directory and how it is mounted";

/// What is over when another process ends, or when the store or this machine has what it lacks now.
fn is_transient(error: &repository::Error) -> bool {
    use repository::Error as E;
    match error {
        E::Locked(LockError::Busy { .. }) | E::Overtaken { .. } | E::Threads(_) => true,
        E::Storage(storage) => matches!(storage.kind, ErrorKind::Unavailable | ErrorKind::Shortage),
        _ => false,
    }
}

impl From<repository::Error> for Failure {
    fn from(error: repository::Error) -> Self {
        let is_transient = is_transient(&error);
        let this = Self::of_repository(error);
        if is_transient { this.transient() } else { this }
    }
}

impl Failure {
    fn of_repository(error: repository::Error) -> Self {
        use repository::Error as E;
        if let E::Storage(storage) = &error
            && let Some(place) = &storage.mirror
            && let Some(failure) = store_failure::of_mirror(storage, place)
        {
            return failure;
        }
        if let E::Exchanged { found, .. } = &error {
            return Self::new(Kind::Rollback, error.to_string()).remedy(format!(
                "nothing was read or stored. Was another disk mounted there, or a directory exchanged? If it is the one that you mean from now \
                 on, name it once: {}",
                suggest!("snapshots --repo-id {}", found.short())
            ));
        }
        let (kind, hint) = match &error {
            E::NoRepository { .. } => (
                Kind::NoRepository,
                concat!("name its directory with --repo or PACKSTONE_REPOSITORY, or make one: ", suggest!("init")),
            ),
            E::Occupied { .. } => (Kind::Conflict, "choose an empty or a new directory"),
            E::WrongSecret { .. } => (
                Kind::WrongPassword,
                "check the spelling and the keyboard layout; a recovery code or another key opens it as well",
            ),
            E::Locked(LockError::Failed { source, .. }) => {
                return Self::failed(error.to_string()).remedy(of_system(source));
            }
            E::Interrupted | E::Locked(LockError::Interrupted) => return Self::interrupted(),
            E::Locked(LockError::Busy { .. }) => (
                Kind::Locked,
                "wait for it, for example with --retry-lock 10m; locks end with the process that holds them",
            ),
            E::Rollback { .. } => (
                Kind::Rollback,
                concat!(
                    "an older copy was put in its place, or a disk image was set back. If it was not you, do not trust this copy. To bring \
                     newer heads from a mirror, or with --set-back go on from this state: ",
                    suggest!("repair heads")
                ),
            ),
            E::OtherRepository { .. } => (
                Kind::Rollback,
                concat!(
                    "nothing was read or stored. Check --repo and --repo-id. To see the id: ",
                    suggest!("cat config")
                ),
            ),
            E::BehindCode { .. } => (
                Kind::Rollback,
                "somebody put an older state in its place, or it was not brought up to date since that code was printed",
            ),
            E::NotInHistory { .. } => (
                Kind::Fork,
                "check the code. If it is right, somebody set a copy of this repository back and wrote to it since",
            ),
            E::Exchanged { .. } => (Kind::Rollback, ""),
            E::Fork { .. } => (
                Kind::Fork,
                "two machines wrote to copies of one repository. Keep both copies, and use the one whose snapshots you want; \
                 to go on with the other one, remove this machine's memory of it in the state directory",
            ),
            // Nothing is known of its bytes.
            E::UnreadableHead { is_damage: false, .. } => (
                Kind::Failed,
                concat!(
                    "the disk failed under this head. Run the command again. If it stays so, bring the head back from a mirror: ",
                    suggest!("repair heads")
                ),
            ),
            // A checkpoint is a head too.
            E::UnreadableHead { is_damage: true, .. }
            | E::Missing { object: ObjectName::Head { .. }, .. }
            | E::Damaged { object: ObjectName::Head { .. }, .. } => (
                Kind::Damage,
                concat!(
                    "to bring it back from a mirror, or go on from the newest one that can be read: ",
                    suggest!("repair heads")
                ),
            ),
            E::NoHead { .. } => (
                Kind::Damage,
                concat!(
                    "from any other copy of the repository, copy the files back under the same names: they never change. To bring them \
                     back from a mirror: ",
                    suggest!("repair heads")
                ),
            ),
            E::ForeignConfig => (Kind::Damage, "bring the config file back from another copy of the repository"),
            E::Threads(source) => {
                let hint = shortage::describe(source);
                return hint.into_iter().fold(Self::failed(error.to_string()).of_process(), Self::remedy);
            }
            E::System { source, .. } => return Self::failed(error.to_string()).because_of(source),
            // The sentence says what to do.
            E::Overtaken { .. } | E::Conflict(_) => (Kind::Conflict, ""),
            E::NotFound(_) => (Kind::NotFound, ""),
            E::Invalid(_) => (Kind::Invalid, ""),
            E::Internal(_) => (Kind::Internal, ""),
            E::Refused(_) => (Kind::Refused, ""),
            E::Storage(storage) => match storage.kind {
                _ if storage.source.kind() == io::ErrorKind::FileTooLarge => (
                    Kind::Failed,
                    "no file of this process may grow so large (ulimit -f): nothing was published. Raise the limit and run the \
                     command again",
                ),
                ErrorKind::Denied => (Kind::Failed, OWNER),
                ErrorKind::Shortage => {
                    return Self::failed(error.to_string()).remedy(of_system(&storage.source)).of_process();
                }
                ErrorKind::Device => return Self::failed(error.to_string()).remedy(of_system(&storage.source)),
                ErrorKind::Full => (
                    Kind::TargetFull,
                    "the disk of the repository is full: nothing was published and all earlier snapshots are safe. \
                     Free some space and run the command again: what was stored already is taken over",
                ),
                ErrorKind::Durability => (
                    Kind::Failed,
                    "the disk could not confirm a write: nothing was published. Look at the kernel's log and the disk's health",
                ),
                ErrorKind::Length | ErrorKind::NoFile => (Kind::Damage, HEAL),
                ErrorKind::Interrupted => return Self::interrupted(),
                ErrorKind::Unavailable => (Kind::Failed, "the store may answer later: run the command again"),
                ErrorKind::Absent | ErrorKind::Refused | ErrorKind::Other => (Kind::Failed, ""),
            },
            _ if error.is_damage() => (Kind::Damage, HEAL),
            _ => (Kind::Failed, ""),
        };
        let this = Self::new(kind, error.to_string());
        if hint.is_empty() { this } else { this.remedy(hint) }
    }
}

impl Failure {
    /// A command went on behind what it could not read, and says so in the end.
    pub fn unread(is_damage: bool, message: String) -> Self {
        let hint = match is_damage {
            true => HEAL,
            false => {
                "this process could not read it now: no damage is known. Look at who owns the repository's files and how they are mounted, and run the command again"
            }
        };
        Self::new(Kind::of_unread(is_damage), message).remedy(hint)
    }
}

impl Failure {
    /// What was asked for could not be written where it was wanted. A reader that went away is no failure worth a sentence.
    pub fn of_output(error: io::Error) -> Self {
        let kind = if error.kind() == io::ErrorKind::BrokenPipe { Kind::OutputClosed } else { Kind::Failed };
        Self::new(kind, "cannot write the output").caused_by(error)
    }
}

/// What to do about a failure of the operating system below the repository that says nothing of its bytes.
fn of_system(source: &io::Error) -> String {
    shortage::describe(source).unwrap_or_else(|| match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OWNER.to_owned()
        }
        _ => concat!(
            "the disk, or the file system on it, failed; no damage is known. Look at the kernel's log and at the disk's health, \
             and run the command again. What the disk has lost comes back from a mirror: ",
            suggest!("repair objects")
        )
        .to_owned(),
    })
}

impl From<MirrorError> for Failure {
    fn from(error: MirrorError) -> Self {
        Self::of_mirror(&error, "NAME")
    }
}

impl Failure {
    /// The same where it is known which mirror is meant.
    pub fn of_mirror(error: &MirrorError, name: &str) -> Self {
        use MirrorError as E;
        let (kind, hint) = match error {
            E::Foreign { .. } => (Kind::Conflict, "choose an empty place; nothing there was touched".to_owned()),
            E::OtherRepository => {
                (Kind::Conflict, "a mirror belongs to one repository; choose another place".to_owned())
            }
            E::Ahead { .. } => (
                Kind::Stale,
                format!(
                    "the repository here was set back, or another machine has a newer copy of it. Nothing there was touched. \
                     To go on from the mirror, in a new directory: {}",
                    suggest!("recover {} --to DIRECTORY", name)
                ),
            ),
            E::Rollback { found: None, .. } => (
                Kind::Rollback,
                format!(
                    "is its disk mounted? If you emptied it yourself: {}",
                    suggest!("mirror accept {} --head none", name)
                ),
            ),
            E::Rollback { found: Some(head), .. } => (
                Kind::Rollback,
                format!(
                    "somebody put an older state in its place. If that was you: {}",
                    suggest!("mirror accept {} --head {}", name, HeadCode::of(head))
                ),
            ),
            E::UnreadableHead { .. } => (
                Kind::Damage,
                format!("to see everything that is damaged there: {}", suggest!("check --mirror {}", name)),
            ),
            E::WrongConfig => (
                Kind::Damage,
                format!(
                    "nothing was sent. To put it aside there and send the right one: {}",
                    suggest!("repair mirror {}", name)
                ),
            ),
            E::Incomplete { .. } => (
                Kind::MirrorIncomplete,
                concat!(
                    "its state is the one of before. To see what failed and why: ",
                    suggest!("mirror list"),
                    "  Then again: ",
                    suggest!("sync")
                )
                .to_owned(),
            ),
        };
        let this = Self::new(kind, error.to_string());
        let behind = if let E::Incomplete { behind: Some(behind), .. } = error {
            store_failure::remedy_behind(behind)
        } else {
            None
        };
        behind.into_iter().fold(this, Self::remedy).remedy(hint)
    }
}

impl From<AddressError> for Failure {
    fn from(error: AddressError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<OwnError> for Failure {
    fn from(error: OwnError) -> Self {
        let this = Self::failed(error.to_string());
        match error {
            OwnError::Unknown { source, .. } => this.because_of(&source),
            _ => this,
        }
    }
}

impl From<BookError> for Failure {
    fn from(error: BookError) -> Self {
        let failed = Self::failed(error.to_string());
        match error {
            BookError::Database(_) | BookError::Io(_) => failed.remedy(remedy_of_book(&error)),
            BookError::Exists(_) => failed.with_kind(Kind::Conflict),
            BookError::Unknown(_) => failed.with_kind(Kind::NotFound),
        }
    }
}

impl From<ops::Error> for Failure {
    fn from(error: ops::Error) -> Self {
        match error {
            ops::Error::Repository(error) => error.into(),
            ops::Error::At { path, source } => Self::from(source).about(&escape(&path)),
            ops::Error::Interrupted => Self::interrupted(),
            ops::Error::EmptyStream => Self::failed(error.to_string())
                .remedy("check the command that writes the stream; to store an empty file: --stdin-allow-empty"),
            ops::Error::NewestUnreadable { ref found, .. } => {
                let heal = match error.repository() {
                    Some(repository::Error::UnreadableHead { .. }) => {
                        concat!("To bring the head back from a mirror: ", suggest!("repair heads")).to_owned()
                    }
                    // Nothing is known of its bytes.
                    Some(repository::Error::Storage(storage)) if !error.is_damage() => of_system(&storage.source),
                    _ => HEAL.to_owned(),
                };
                let this = Self::new(Kind::of_unread(error.is_damage()), error.to_string());
                this.remedy(format!("name the one you want by its id: {found} is the newest that can be read"))
                    .remedy(heal)
            }
            ops::Error::Shortage { ref source, .. } | ops::Error::Threads(ref source) => {
                let hint = shortage::describe(source);
                hint.into_iter().fold(Self::failed(error.to_string()).of_process(), Self::remedy)
            }
            ops::Error::System { ref source, .. } => Self::failed(error.to_string()).because_of(source),
            ops::Error::Mirror(error) => error.into(),
            ops::Error::Book(error) => error.into(),
            ops::Error::Source(error) => {
                let kind = match &error {
                    SourceError::None | SourceError::Empty | SourceError::Clash { .. } => Kind::Invalid,
                    SourceError::AllMissing(_) => Kind::NotFound,
                    SourceError::Read { .. } => Kind::Failed,
                };
                Self::new(kind, error.to_string())
            }
            ops::Error::NotFound(message) => Self::new(Kind::NotFound, message),
            ops::Error::Conflict(message) => Self::new(Kind::Conflict, message),
            ops::Error::Invalid(message) => Self::new(Kind::Invalid, message),
            ops::Error::TargetFull(message) => Self::new(Kind::TargetFull, message),
            ops::Error::Internal(message) => Self::new(Kind::Internal, message),
            ops::Error::Refused(message) => Self::new(Kind::Refused, message),
        }
    }
}

/// What to do about a list of mirrors that cannot be read or written.
pub(super) fn remedy_of_book(error: &BookError) -> String {
    let shortage = if let BookError::Io(error) = error { shortage::describe(error) } else { None };
    shortage.unwrap_or_else(|| {
        let hint = if error.is_damage() {
            "the file is damaged, or the disk failed under it; the mirrors are untouched. Run the command again. If that does \
             not help, move the file away and add the mirrors again (it is in mirrors/ of the state directory, and has the repository's id): what is lost then is which state each was last left with, and the history of drills"
        } else {
            "the file could not be read or written now; the mirrors are untouched. Look at who owns it, at its disk, and at the \
             limits of this process, and run the command again"
        };
        hint.to_owned()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::id::ObjectId;
    use crate::codec::chunker::Parameters;
    use crate::ops::select::{self, Filter, SnapshotRef};
    use crate::ops::{Silent, cat, check};
    use crate::repository::fixture::repository;
    use crate::storage::{self, memory::Memory};

    /// What an operation says no to, and why.
    #[test]
    fn each_failure_has_its_kind() {
        use {ops::Error as O, repository::Error as R};
        let text = || "x".to_owned();
        let stored = |kind: io::ErrorKind| R::from(storage::Error::new("write", "packs/x", kind.into()));
        let object = ObjectName::Pack(ObjectId([7; 32]));
        let cases: Vec<(O, Kind)> = vec![
            (O::NotFound(text()), Kind::NotFound),
            (O::Conflict(text()), Kind::Conflict),
            (O::Invalid(text()), Kind::Invalid),
            (O::TargetFull(text()), Kind::TargetFull),
            (O::Internal(text()), Kind::Internal),
            (O::Refused(text()), Kind::Refused),
            (O::Interrupted, Kind::Interrupted),
            (O::EmptyStream, Kind::Failed),
            (O::System { what: text(), source: io::ErrorKind::PermissionDenied.into() }, Kind::Failed),
            (O::Threads(io::ErrorKind::WouldBlock.into()), Kind::Failed),
            (R::NotFound(text()).into(), Kind::NotFound),
            (R::Conflict(text()).into(), Kind::Conflict),
            (R::Invalid(text()).into(), Kind::Invalid),
            (R::Internal(text()).into(), Kind::Internal),
            (R::Refused(text()).into(), Kind::Refused),
            (R::Overtaken { what: object }.into(), Kind::Conflict),
            (R::Occupied { place: text(), why: "x" }.into(), Kind::Conflict),
            (R::NoRepository { place: text(), why: "x" }.into(), Kind::NoRepository),
            (R::Locked(LockError::Busy { holder: None }).into(), Kind::Locked),
            (R::from(LockError::Interrupted).into(), Kind::Interrupted),
            (R::Interrupted.into(), Kind::Interrupted),
            (R::Missing { object, generation: 1 }.into(), Kind::Damage),
            (stored(io::ErrorKind::StorageFull).into(), Kind::TargetFull),
            (stored(io::ErrorKind::PermissionDenied).into(), Kind::Failed),
            (O::at(b"/a", stored(io::ErrorKind::StorageFull)), Kind::TargetFull),
            (SourceError::AllMissing(vec!["/a".into()]).into(), Kind::NotFound),
            (SourceError::None.into(), Kind::Invalid),
            (BookError::Exists(text()).into(), Kind::Conflict),
            (BookError::Unknown(text()).into(), Kind::NotFound),
            (MirrorError::OtherRepository.into(), Kind::Conflict),
        ];
        for (error, kind) in cases {
            let shown = format!("{error:?}");
            assert_eq!(Failure::from(error).kind(), kind, "{shown}");
        }
    }

    /// The same from what was asked for.
    #[test]
    fn what_is_asked_for_and_is_not_there_is_not_found() {
        let repository = repository(&Memory::new(), 1, Parameters::FILES);
        let kind = |error: ops::Error| Failure::from(error).kind();
        let named = |text: &str| SnapshotRef::Prefix(text.to_owned());
        let one = |wanted: &SnapshotRef| kind(select::one(&repository, wanted, &Filter::default()).unwrap_err());
        assert_eq!(one(&named("0123abcd")), Kind::NotFound);
        assert_eq!(one(&SnapshotRef::Latest { back: 0 }), Kind::NotFound);
        assert_eq!(kind(cat::key(&repository, "xyz").unwrap_err()), Kind::Invalid);
        assert_eq!(kind(cat::key(&repository, "0000000").unwrap_err()), Kind::NotFound);
        let needs = check::needs_pack(&repository, "0123", &Silent, &mut |_, _| ());
        assert_eq!(kind(needs.unwrap_err()), Kind::NotFound);
        let remove = |id| Failure::from(repository.remove_slot(id).unwrap_err()).kind();
        assert_eq!(remove(ObjectId([7; 32])), Kind::NotFound);
        assert_eq!(remove(repository.slot()), Kind::Refused);
    }
}
