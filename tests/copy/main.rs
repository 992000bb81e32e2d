//! `copy` through the library: snapshots come over whole or not at all, and are read no more often than they must be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod again;
mod kinds;
mod pair;
mod random;
#[path = "../support/tree.rs"]
#[allow(dead_code, reason = "shared with the tests of restores")]
mod tree;
#[path = "../crash/world.rs"]
#[allow(dead_code, reason = "shared with the tests of crashes")]
mod world;
