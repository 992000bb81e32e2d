//! Promise P6: our own deletions never remove a live object, under crash, concurrency, clock error or operator mistake.
//! format-spec/deleting.md says why that holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod act;
mod model;
mod moments;
mod race;
mod remember;
#[path = "../crash/world.rs"]
#[allow(dead_code, reason = "shared with the tests of crashes")]
mod world;
