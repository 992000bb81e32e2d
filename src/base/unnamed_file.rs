//! Temporary files without a name.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

/// A file without a name in `folder`, or in the system's temporary folder where that one cannot hold it: only its owner could
/// read it, and it is gone when the process is.
///
/// # Errors
/// What the system says about the temporary folder.
pub fn create(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let create = |folder: &Path| open(folder, flags, Mode::RUSR | Mode::WUSR);
    Ok(File::from(create(folder).or_else(|_| create(&std::env::temp_dir()))?))
}
