//! Promise P1: what was acknowledged is restorable, after a power cut, a kill, or a failing call at any instant.
//!
//! The engine runs on a disk that can lose its power (`storage::crash`): at every operation of `init`, a first backup, a
//! second one and changes of keys the power goes, and each disk that may be found afterwards is judged (`told.rs`):
//! every acknowledged snapshot is read back byte for byte, the next backup succeeds and is read back too, and the structure
//! of the repository is sound. format-spec/writing.md says why that holds.
//!
//! The short form takes every few operations; `PACKSTONE_FULL=1` takes all of them. Both print `N of N images`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fail;
mod interrupted;
mod keys;
mod merge;
mod prune;
mod repair;
mod rules;
mod structure;
mod sweep;
mod told;
mod watch;
mod world;
mod wrong;
