//! cli
pub mod clock;
pub mod duration;
pub mod exit;
pub mod interrupt;
pub mod json;
pub mod mode;
pub mod output;
pub mod secret;
pub mod size;
pub mod table;
pub mod words;
