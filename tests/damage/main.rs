//! Damage as a product: what is harmed, how, and what the user does next. Never a panic, never wrong bytes, always
//! noticed, and whatever is not harmed stays restorable.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod flips;
mod harm;
mod product;
#[path = "../support/repository.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod repository;
mod world;
