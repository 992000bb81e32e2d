//! A key file that a command makes together with the key slot that it opens.
//!
//! # Order of writes, and what a crash leaves
//!
//! | step | a crash before the next step leaves |
//! |---|---|
//! | 1. the key slot is stored, and nothing names it | a slot that opens nothing |
//! | 2. the key file gets its name, whole and durable | a key file for that slot: the same command takes it and goes on |
//! | 3. the slot counts: the config of a new repository, or the head of an old one | a key file that opens: the same command finds it so |
//!
//! # Invariants
//!
//! - No repository opens with a key file that is not durable under its name.
//! - What has the name is never written over or removed. It is taken only when it is a key file of ours that nobody else can read or can have put
//!   there, and opens a slot that lies in this very repository: it was made for it.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Error, Result};
use crate::base::escape::escape;
use crate::codec::key_file::{self, KeyFile};
use crate::codec::key_slot::Secret;
use crate::files::secret_file::{self, SecretFile};
use crate::repository;

/// See the module.
#[derive(Debug)]
pub struct Making {
    path: PathBuf,
    key: KeyFile,
    /// None when an earlier run has made it.
    file: Option<SecretFile>,
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

/// The key in a file that an earlier run may have made. None when there is no such file, or it is none that a run of ours can have made.
#[must_use]
pub fn made_before(path: &Path) -> Option<Secret> {
    let bytes = secret_file::read_own(path, key_file::FILE_BYTES_MAX).ok()??;
    KeyFile::parse(&bytes).ok().map(Secret::KeyFile)
}

impl Making {
    /// Begins a new key file, or goes on with the one of an interrupted run. `opens` says whether a slot that lies in the repository opens with a
    /// secret.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another file has the name; what `opens` says; the random generator.
    pub fn begin(path: &Path, opens: impl FnOnce(&Secret) -> Result<bool>) -> Result<Self> {
        let what = || format!("cannot make the key file {}", shown(path));
        let cannot = |why: &dyn std::fmt::Display| format!("{}: {why}", what());
        match SecretFile::begin(path) {
            Ok(file) => {
                let mut random = Zeroizing::new([0; key_file::SECRET_BYTES]);
                getrandom::fill(random.as_mut()).map_err(|error| Error::Internal(cannot(&error)))?;
                let key = KeyFile::generate(&random);
                Ok(Self { path: path.to_path_buf(), key, file: Some(file) })
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if let Some(secret) = made_before(path)
                    && opens(&secret)?
                    && let Secret::KeyFile(key) = secret
                {
                    return Ok(Self { path: path.to_path_buf(), key, file: None });
                }
                let advice = "name a file that does not exist yet, or give this key with --key-file, if it is one";
                Err(Error::Conflict(cannot(&format!("something is there already: {advice}"))))
            }
            Err(source) => Err(Error::System { what: what(), source }),
        }
    }

    /// What opens the slot: a copy, so that it can be used while the file is made.
    #[must_use]
    pub fn copy_of_secret(&self) -> Secret {
        Secret::KeyFile(KeyFile::generate(self.key.secret()))
    }

    /// True unless an earlier run has made the file.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.file.is_some()
    }

    /// Step 2: the file is there, whole and durable, when this returns.
    ///
    /// # Errors
    /// When that cannot be said.
    pub fn keep(&mut self) -> repository::Result<()> {
        let what = format!("cannot make the key file {}", shown(&self.path));
        match self.file.take() {
            Some(file) => {
                file.finish(self.key.encode().as_bytes()).map_err(|source| repository::Error::System { what, source })
            }
            // It was there a moment ago, and is made durable by reading it.
            None => match made_before(&self.path) {
                Some(Secret::KeyFile(there)) if there == self.key => Ok(()),
                _ => Err(repository::Error::Conflict(format!(
                    "{what}: what an earlier run has made is not there any more"
                ))),
            },
        }
    }
}
