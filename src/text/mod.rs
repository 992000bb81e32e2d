//! How things are written for people and read from them: sizes, spans of time, moments, tables, words of a command line. One
//! noun a file. No terminal, no repository.

pub mod clock;
pub mod file_mode;
pub mod rate;
pub mod shell_words;
pub mod size;
pub mod span;
pub mod table;
