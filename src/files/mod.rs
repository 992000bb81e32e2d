//! The user's files: walking, excluding, reading, metadata, and writing back. Knows no repository.
//!
//! Two sides that share a handle and a way of naming things:
//!
//! - **Backup**: [`walk::Walk`] turns sources into a sorted, depth-first stream of steps; [`read::Reader`] gives a
//!   file's bytes and holes and says whether it kept still; [`metadata::capture`] collects everything else.
//! - **Restore**: [`target::Target`] is a directory handle, and everything that a snapshot says is made beneath it;
//!   [`new_file::NewFile`] is a file on its way, [`apply`] sets owners, modes, extended attributes, times and flags. [`keep`] says
//!   whether what is there may stay, [`made`] recognises an inode again, [`file_system`] knows what the place keeps of all that.
//!
//! Rules that hold everywhere here:
//!
//! - Names are bytes. A path is never handed to the kernel as a whole: every component is opened beneath the handle of
//!   its parent with `O_NOFOLLOW`, so a path may be longer than `PATH_MAX`, and nobody can turn a component into a
//!   symbolic link while we work. (Ancestors of a source that the user named may be symbolic links: the user named them.)
//! - What is Linux-only (statx, getdents, `/proc/self/fd`, inode flags, `sync_file_range`) stays in this folder; the
//!   calls that need `unsafe` are in [`crate::base::sys`], the only module of the program that may say so.

pub mod apply;
pub mod copy;
pub mod directory;
pub mod exclude;
pub mod file_system;
pub mod focus;
pub mod hard_link;
pub mod keep;
pub mod lease;
pub mod list;
pub mod listed;
pub mod made;
pub mod metadata;
pub mod new_file;
pub mod own;
pub mod owner;
pub mod pattern;
mod protection;
pub mod read;
pub mod read_back;
pub mod remove;
pub mod replaced_file;
pub mod rights;
pub mod secret_file;
pub mod source;
pub mod stat;
pub mod target;
pub mod walk;
pub mod xattr;
