//! Randomness from the kernel. The codec floor is handed bytes; this is where they come from.

use super::error::{Error, Result};

/// 32 bytes from the kernel's generator (blocking until it is seeded).
///
/// # Errors
/// [`Error::Random`] when the kernel refuses or hands out zeros. Nothing is ever sealed without it.
pub fn bytes() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Error::Random("failed"))?;
    if bytes == [0; 32] {
        return Err(Error::Random("returned zeros"));
    }
    Ok(bytes)
}

/// 32 bytes for a master key: two draws that must differ, so that a stuck generator is noticed at `init`.
///
/// # Errors
/// [`Error::Random`] as for [`bytes`], or when the generator repeats itself.
pub fn master() -> Result<[u8; 32]> {
    let (one, other) = (bytes()?, bytes()?);
    if one == other {
        return Err(Error::Random("repeats itself"));
    }
    Ok(other)
}
