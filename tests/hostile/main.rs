//! Repositories whose content is hostile, in front of the real program: every command ends by itself or by one SIGTERM, stays small, and says
//! what is wrong. Who makes such a repository may have its key.
//!
//! `PACKSTONE_FULL=1` takes every command on every repository; the short form some of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod content;
mod corpus;
mod objects;
#[path = "../support/repository.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod repository;
mod slots;
mod watched;
mod world;

/// True for the long form.
fn is_full() -> bool {
    std::env::var_os("PACKSTONE_FULL").is_some_and(|value| value == "1")
}
