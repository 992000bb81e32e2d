//! b
/// Longest content of a block
pub const PLAIN_MAX: u32 = 16 << 20;
