//! What is stored and where it is.

pub mod lock;
