//! A file that takes the place of another one, or of none, when it is whole: what `dump --target` writes.
//!
//! # What holds
//!
//! - Until it is whole, the old one is there as it was. A crash leaves that, and maybe a hidden file beside it.
//! - Nobody can read the new file who could not read the old one: it is made with mode 0600, and gets the old one's permissions when it
//!   takes its place. Where there was none, or somebody else's, they are those of any new file (`umask`), and of somebody
//!   else's only what that had too: who expects the file must not open it to himself.
//! - It belongs to whoever runs the program. Further names of the old file keep the old content.
//! - A symbolic link is followed only where the kernel follows it with `fs.protected_symlinks` (proc(5)), also where that is off: in a
//!   directory like `/tmp`, where everybody may write, only a link of ours or of the directory's owner. Otherwise somebody else chooses which
//!   file is replaced.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::process::{geteuid, umask};

use crate::base::private;

/// Links on the way to a file, at most (`MAXSYMLINKS` of Linux).
const LINKS_MAX: usize = 40;
/// Permissions of a new file, before the umask takes from them.
const NEW_MODE: u32 = 0o666;
/// Bits of a mode that are taken over: no set-id bits.
const PERMISSIONS: u32 = 0o777;
/// Sticky, and writable by everybody.
const SHARED_DIRECTORY: u32 = 0o1002;

/// See the module. Dropped before its end it leaves nothing.
#[derive(Debug)]
pub struct ReplacedFile {
    target: PathBuf,
    temporary: PathBuf,
    mode: u32,
}

/// The file that a path leads to, through links that may be followed.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] for a link that somebody else has put there; what the system says.
pub fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        let link = match path.symlink_metadata() {
            Ok(found) if found.is_symlink() => found,
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path),
            Err(error) => return Err(error),
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = fs::canonicalize(folder)?;
        let around = folder.metadata()?;
        let is_shared = around.mode() & SHARED_DIRECTORY == SHARED_DIRECTORY;
        if is_shared && link.uid() != geteuid().as_raw() && link.uid() != around.uid() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it is a symbolic link that another user has put into a directory that everybody may write to",
            ));
        }
        path = folder.join(fs::read_link(&path)?);
    }
    Err(rustix::io::Errno::LOOP.into())
}

impl ReplacedFile {
    /// Begins one that will be at `target`, where [`follow`] leads to.
    ///
    /// # Errors
    /// Nothing can be made there.
    pub fn begin(target: &Path) -> io::Result<(Self, File)> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let new = NEW_MODE & !mask();
        let mode = match target.symlink_metadata() {
            Ok(old) if old.uid() == geteuid().as_raw() => old.mode() & PERMISSIONS,
            Ok(old) => old.mode() & new,
            Err(_) => new,
        };
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".packstone-{}", private::random_digits()?));
        let temporary = target.with_file_name(hidden);
        let file = private::create(&temporary)?;
        Ok((Self { target: target.to_path_buf(), temporary, mode }, file))
    }

    /// Puts it in its place. `file` is whole and durable.
    ///
    /// # Errors
    /// What the system says; then the old one is there.
    pub fn finish(self, file: &File) -> io::Result<()> {
        // Not every file system keeps modes.
        match fchmod(file, Mode::from_raw_mode(self.mode)) {
            Err(error) if error != rustix::io::Errno::PERM && error != rustix::io::Errno::NOTSUP => {
                return Err(error.into());
            }
            _ => {}
        }
        fs::rename(&self.temporary, &self.target)
        // Its hidden name is gone: dropping it finds nothing.
    }
}

impl Drop for ReplacedFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

/// The umask. There is no call that only asks for it but in `/proc`.
fn mask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or_else(|| {
        // For a moment a file that another thread makes has too few rights, and none too many.
        let mask = umask(Mode::from_raw_mode(PERMISSIONS));
        umask(mask);
        mask.as_raw_mode()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn replace(path: &Path) -> io::Result<()> {
        let (begun, mut file) = ReplacedFile::begin(&follow(path)?)?;
        assert_eq!(file.metadata()?.mode() & PERMISSIONS, 0o600, "nobody reads it on its way");
        file.write_all(b"new")?;
        begun.finish(&file)
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o7777
    }

    #[test]
    fn it_has_the_permissions_of_the_one_that_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path).unwrap();
        assert_eq!(mode(&path), NEW_MODE & !mask());
        for bits in [0o600, 0o640, 0o400, 0o666, 0o4755] {
            fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
            replace(&path).unwrap();
            assert_eq!(mode(&path), bits & PERMISSIONS, "{bits:o}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_finished_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        let (begun, mut file) = ReplacedFile::begin(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(begun);
        assert_eq!((fs::read(&path).unwrap(), fs::read_dir(folder.path()).unwrap().count()), (b"old".to_vec(), 1));
    }

    #[test]
    fn other_names_of_the_old_one_keep_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("file"), folder.path().join("other"));
        fs::write(&path, "old").unwrap();
        fs::hard_link(&path, &other).unwrap();
        replace(&path).unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read(&other).unwrap()), (b"new".to_vec(), b"old".to_vec()));
    }

    #[test]
    fn a_link_is_followed_where_nobody_else_can_have_put_it() {
        let folder = tempfile::tempdir().unwrap();
        let (link, file) = (folder.path().join("link"), folder.path().join("file"));
        for (step, shared) in [false, true].into_iter().enumerate() {
            let bits = if shared { 0o1777 } else { 0o755 };
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(bits)).unwrap();
            fs::write(&file, "old").unwrap();
            let _ = fs::remove_file(&link);
            symlink("file", &link).unwrap();
            replace(&link).unwrap();
            assert!(link.is_symlink() && fs::read(&file).unwrap() == b"new", "{step}: our own link");
        }
        if !geteuid().is_root() {
            println!("SKIPPED a link of another user: only root can make one");
            return;
        }
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::lchown(&link, Some(65_534), Some(65_534)).unwrap();
        assert_eq!(replace(&link).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(fs::read(&file).unwrap(), b"old");
        symlink(&link, folder.path().join("way")).unwrap();
        assert!(replace(&folder.path().join("way")).is_err(), "nor by a link of ours");
        // A file of somebody else's does not open ours to him.
        fs::remove_file(&link).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        chown(&file, Some(65_534), None).unwrap();
        replace(&file).unwrap();
        assert_eq!((mode(&file), file.metadata().unwrap().uid()), (NEW_MODE & !mask(), 0));
    }

    #[test]
    fn links_without_end_end() {
        let folder = tempfile::tempdir().unwrap();
        symlink("two", folder.path().join("one")).unwrap();
        symlink("one", folder.path().join("two")).unwrap();
        assert!(follow(&folder.path().join("one")).is_err());
    }
}
