//! Every storage keeps the promises at the top of `src/storage/mod.rs`: one suite over all of them, and for the local
//! one a power cut, a kill and a failure at every operation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crash;
mod local;
mod suite;
