//! packstone: encrypted, deduplicated snapshots of files, in a repository that any tool can copy and anyone can scrub.
//!
//! # The map
//!
//! The program is built in floors. An arrow (a `use crate::...`) only points down, and folders on one floor do
//! not know each other; `tests/layers.rs` reads this tree and says which arrow is wrong.
//!
//! | floor | folder | what it knows |
//! |---|---|---|
//! | 7 | [`cli`] | what was typed, what is shown, exit codes |
//! | 5 | [`tasks`] | a request, an environment and a monitor go in; a report or a failure comes out |
//! | 4 | [`ops`] | one file a verb: plan, execute, report |
//! | 3 | [`repository`] | what is stored and where: packs, segments, snapshots, heads, locks, the cache |
//! | 3 | [`files`] | the user's files: walking, metadata, reading, writing back; knows no repository |
//! | 2 | [`codec`] | bytes in, bytes out: every stored structure, cutting, compressing, sealing |
//! | 2 | [`storage`] | named immutable objects somewhere |
//! | 2 | [`text`] | how sizes, spans, moments and tables are written and read |
//! | 1 | [`base`] | ids, times, escaping: words everybody may use |
//!
//! Start reading at `format-spec/README.md`, then [`codec::unit`] (how anything is sealed), [`codec::pack`] (where
//! chunks live), [`repository`] (what is live), and [`ops::backup`] (how it gets there).

pub mod base;
#[cfg(feature = "program")]
pub mod cli;
pub mod codec;
#[cfg(feature = "program")]
pub mod files;
#[cfg(feature = "program")]
pub mod ops;
#[cfg(feature = "program")]
pub mod repository;
#[cfg(feature = "program")]
pub mod storage;
#[cfg(feature = "program")]
pub mod tasks;
#[cfg(feature = "program")]
pub mod text;
