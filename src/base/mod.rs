//! Words that every floor may use: ids, times, and the one way to print text that somebody else wrote.

#[cfg(feature = "program")]
pub mod child;
pub mod command;
pub mod escape;
#[cfg(feature = "program")]
pub mod guard;
pub mod hex;
pub mod id;
#[cfg(feature = "program")]
pub mod lock;
#[cfg(feature = "program")]
pub mod polled;
#[cfg(feature = "program")]
pub mod private;
#[cfg(feature = "program")]
pub mod shortage;
#[cfg(feature = "program")]
pub mod stop;
#[cfg(feature = "program")]
pub mod sys;
#[cfg(feature = "program")]
pub mod threads;
pub mod time;
#[cfg(feature = "program")]
pub mod unnamed_file;
