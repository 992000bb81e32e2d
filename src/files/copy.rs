//! Another inode with the content of one that this restore made or kept, where the file system lets that one have no further name.
//!
//! What is copied must be the inode that was made, of the size that it has in the snapshot. It has its owner already, who may have written
//! it since: the copy is his too, and gets no set-id bits and no capabilities, which would vouch for bytes that nobody compared.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, SeekFrom, openat, readlinkat, seek};
use rustix::io::Errno;

use super::apply::{Applier, ApplyProblem, CAPABILITY, Severity, What};
use super::keep::raises;
use super::made::Made;
use super::new_file::NewFile;
use super::stat::{Kind, Stat};
use super::target::{Existing, TargetDirectory, TargetError, check_name};
use crate::codec::tree::{Metadata, Node};

type Result<T> = std::result::Result<T, TargetError>;

/// Bytes that are read at once.
const STEP_BYTES: usize = 1 << 20;

/// What is said about a name that is no further name of a file, but a file of its own.
#[must_use]
pub fn not_linked(why: &str) -> ApplyProblem {
    let reason = format!("{why}: further names are files of their own");
    ApplyProblem { what: What::HardLinks, severity: Severity::Failed, reason }
}

impl TargetDirectory {
    /// Why what [`TargetDirectory::hard_link`] said means that there can be no further name, and that a copy can be made. `None`: it
    /// means something else.
    #[must_use]
    pub fn cannot_link(&self, error: &TargetError) -> Option<String> {
        let TargetError::Io { operation: "create", source, .. } = error else { return None };
        let errno = Errno::from_io_error(source)?;
        match errno {
            Errno::PERM if self.holds_links() => Some("a further name is not permitted".to_owned()),
            Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM => Some(self.no_links()),
            Errno::MLINK => Some(format!("{} gives one file no more names", self.system().name())),
            Errno::XDEV => Some("the names lie on different file systems".to_owned()),
            _ => None,
        }
    }

    /// That a file can have no further names here.
    #[must_use]
    pub fn no_links(&self) -> String {
        format!("{} keeps none", self.system().name())
    }

    /// Makes under `name` what this restore made under `from_name` in `from`, as an inode of its own. The answer holds the bytes that were
    /// written.
    ///
    /// # Errors
    /// [`TargetError::Replaced`] when something else stands there now, [`TargetError::Changed`] when it has another size; otherwise as
    /// for anything that is made.
    #[allow(clippy::too_many_arguments)] // from where, to where, and what
    pub fn copy(
        self: &Arc<Self>,
        (from, from_name): (&Self, &[u8]),
        (made, size): (Made, u64),
        name: &[u8],
        metadata: &Metadata,
        applier: &Applier,
        existing: Existing,
    ) -> Result<(u64, Vec<ApplyProblem>)> {
        check_name(from_name)?;
        let failed = |operation| move |error: Errno| TargetError::io(operation, from_name, error);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(from, from_name, flags, Mode::empty()).map_err(failed("open"))?;
        let stat = Stat::of(&fd).map_err(|error| TargetError::io("stat", from_name, error))?;
        if !made.is(&stat) {
            return Err(TargetError::Replaced(from_name.to_vec()));
        }
        let (major, minor) = stat.rdev;
        let node = match stat.kind {
            Kind::File => return self.copy_file((from, from_name), (made, size), name, metadata, applier, existing),
            Kind::Symlink => {
                let target = readlinkat(&fd, "", Vec::new()).map_err(failed("read link"))?;
                Node::Symlink { target: target.into_bytes() }
            }
            Kind::Fifo => Node::Fifo,
            Kind::Socket => Node::Socket,
            Kind::CharacterDevice => Node::CharacterDevice { major, minor },
            Kind::BlockDevice => Node::BlockDevice { major, minor },
            Kind::Directory => return Err(TargetError::Replaced(from_name.to_vec())),
        };
        self.make_special(name, &node, metadata, applier, existing).map(|(_, problems)| (0, problems))
    }

    fn copy_file(
        self: &Arc<Self>,
        (from, from_name): (&Self, &[u8]),
        (made, size): (Made, u64),
        name: &[u8],
        metadata: &Metadata,
        applier: &Applier,
        existing: Existing,
    ) -> Result<(u64, Vec<ApplyProblem>)> {
        let failed = |operation| move |error: io::Error| TargetError::io(operation, from_name, error);
        let source = File::from(from.as_directory().open_file(from_name).map_err(failed("open"))?);
        let stat = Stat::of(&source).map_err(failed("stat"))?;
        if !made.is(&stat) {
            return Err(TargetError::Replaced(from_name.to_vec()));
        }
        if stat.size != size {
            return Err(TargetError::Changed(from_name.to_vec()));
        }
        let new = NewFile::create(self, name, existing)?;
        new.prepare(metadata);
        new.set_length(size)?;
        let mut buffer = vec![0; STEP_BYTES.min(usize::try_from(size).unwrap_or(STEP_BYTES))];
        let (mut at, mut written) = (0, 0);
        while at < size {
            // Where the file system does not know holes, all of it is data.
            match seek(&source, SeekFrom::Data(at)) {
                Ok(data) => at = data.max(at),
                Err(Errno::NXIO) => break,
                Err(_) => {}
            }
            let end = seek(&source, SeekFrom::Hole(at)).unwrap_or(size).clamp(at, size);
            let end = if end == at { size } else { end };
            while at < end {
                let step = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
                let (bytes, _) = buffer.split_at_mut(step);
                source.read_exact_at(bytes, at).map_err(failed("read"))?;
                new.write_at(at, bytes)?;
                at += step as u64;
                written += step as u64;
            }
        }
        let (metadata, lost) = without_rights(metadata);
        let (_, mut problems) = new.finish(&metadata, applier)?;
        problems.extend(lost);
        Ok((written, problems))
    }
}

/// The metadata of a copy, and what is said about what it lacks.
fn without_rights(metadata: &Metadata) -> (Metadata, Option<ApplyProblem>) {
    let mut metadata = metadata.clone();
    if !raises(&metadata) {
        return (metadata, None);
    }
    metadata.mode &= 0o1777;
    metadata.xattrs.retain(|xattr| xattr.name != CAPABILITY);
    let reason = "not set on a copy of a file that could have no further name".to_owned();
    let what = What::SetIdBitsAndCapabilities;
    (metadata, Some(ApplyProblem { what, severity: Severity::Failed, reason }))
}
