//! live state
