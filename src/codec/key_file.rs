//! key file
