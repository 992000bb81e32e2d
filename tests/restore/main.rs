//! Restoring on a real file system, through the library: what comes back, what is refused, and what an interruption leaves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod damage;
mod digests;
mod enemy;
mod existing;
mod file_systems;
mod hostile;
mod kinds;
#[path = "../support/tree.rs"]
mod tree;
mod world;
