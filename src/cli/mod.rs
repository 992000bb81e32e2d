//! cli
pub mod clock;
pub mod duration;
pub mod exit;
pub mod interrupt;
pub mod json;
pub mod mode;
pub mod options;
pub mod output;
pub mod progress;
pub mod rate;
pub mod secret;
pub mod size;
pub mod snapshot_argument;
pub mod table;
pub mod words;
