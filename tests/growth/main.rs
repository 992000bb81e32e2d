//! What is stored stays small where files are many or keep changing, and nothing that changed is missed.
//!
//! What needs root, a loop device or Python says "SKIPPED" with the reason when it has to. The short form lists 30,000
//! entries, `PACKSTONE_FULL=1` 300,000.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod change;
mod many;
mod place;
mod program;
mod runs;
mod world;
