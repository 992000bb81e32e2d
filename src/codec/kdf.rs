//! Stretching: a secret that a person can remember, made expensive to guess. Argon2id, version 0x13 (RFC 9106).
//! format-spec/key_slot.md, "Stretching".
//!
//! The parameters stand in the slot, in clear, under nobody's signature yet: they are held against caps before a byte
//! is allocated, and against floors, so that a stranger's slot can neither fill the memory nor make a secret cheap.

use argon2::{Algorithm, Argon2, Block, Version};
use zeroize::Zeroize;

use super::key_tree::Key;
use super::{Error, Reason, Result};

/// Cost of one stretching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Params {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes: how many threads can share the work.
    pub lanes: u32,
}

impl Params {
    /// 64 MiB, 3 passes, 4 lanes: the second recommendation of RFC 9106, section 4. 0.1 s on two cores.
    pub const DEFAULT: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 4 };
    /// Least memory, in KiB: 64 MiB.
    pub const MEMORY_KIB_MIN: u32 = 64 << 10;
    /// Most memory, in KiB: 1 GiB.
    pub const MEMORY_KIB_MAX: u32 = 1 << 20;
    /// Fewest passes.
    pub const PASSES_MIN: u32 = 3;
    /// Most passes.
    pub const PASSES_MAX: u32 = 16;
    /// Most lanes.
    pub const LANES_MAX: u32 = 8;
    /// Most work, memory times passes, in KiB: 4 GiB.
    pub const WORK_KIB_MAX: u32 = 4 << 20;

    /// Most work for one secret, over all slots and spellings that are tried: 12 GiB. 16 slots of the default parameters, the most there can be, in
    /// four spellings, the most that are tried. format-spec/key_slot.md, "Opening".
    pub const WORK_ALL_KIB_MAX: u32 = 12 << 20;

    /// The work of one stretching: memory times passes, in KiB. Zero for a key file.
    #[must_use]
    pub const fn work_kib(&self) -> u32 {
        self.memory_kib.saturating_mul(self.passes)
    }

    /// Holds the parameters against the limits.
    ///
    /// # Errors
    /// [`Reason::OutOfRange`] with the parameter's name.
    pub fn check(&self) -> std::result::Result<(), Reason> {
        let refuse = |field| Err(Reason::OutOfRange { field });
        if !(Self::MEMORY_KIB_MIN..=Self::MEMORY_KIB_MAX).contains(&self.memory_kib) {
            return refuse("Argon2 memory");
        }
        if !(Self::PASSES_MIN..=Self::PASSES_MAX).contains(&self.passes) {
            return refuse("Argon2 passes");
        }
        if !(1..=Self::LANES_MAX).contains(&self.lanes) {
            return refuse("Argon2 lanes");
        }
        if self.work_kib() > Self::WORK_KIB_MAX {
            return refuse("Argon2 work");
        }
        Ok(())
    }
}

const _: () = assert!(Params::WORK_ALL_KIB_MAX == 4 * 16 * Params::DEFAULT.work_kib());
// 1 GiB times 16 passes in KiB fits its type, so the product above is exact.
const _: () = assert!(Params::MEMORY_KIB_MAX as u64 * Params::PASSES_MAX as u64 <= u32::MAX as u64);

/// Stretches `secret`. The memory is wiped afterwards.
///
/// # Errors
/// [`Reason::OutOfRange`] for parameters beyond the limits, [`Reason::OutOfMemory`] when the system has less memory.
pub fn stretch(secret: &[u8], salt: &[u8; 32], params: Params) -> Result<Key> {
    let refuse = |reason| Error::new("key slot", reason);
    params.check().map_err(refuse)?;
    let unusable = |_| refuse(Reason::OutOfRange { field: "Argon2 parameters" });
    let cost = argon2::Params::new(params.memory_kib, params.passes, params.lanes, Some(32)).map_err(unusable)?;
    let mut memory: Vec<Block> = Vec::new();
    let blocks = cost.block_count();
    memory.try_reserve_exact(blocks).map_err(|_| refuse(Reason::OutOfMemory))?;
    memory.resize(blocks, Block::new());
    let mut key = [0; 32];
    let done = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost).hash_password_into_with_memory(
        secret,
        salt,
        &mut key,
        &mut memory,
    );
    memory.iter_mut().for_each(Zeroize::zeroize);
    let stretched = Key::new(key);
    key.zeroize();
    done.map_err(unusable)?;
    Ok(stretched)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::base::id::RepositoryId;

    #[test]
    fn parameters_beyond_the_limits_are_refused_before_any_work() {
        let good = Params::DEFAULT;
        let field = |params: Params| match stretch(b"secret", &[0; 32], params).map(|_| ()).unwrap_err().reason {
            Reason::OutOfRange { field } => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(Params { memory_kib: (64 << 10) - 1, ..good }), "Argon2 memory");
        assert_eq!(field(Params { memory_kib: u32::MAX, ..good }), "Argon2 memory");
        assert_eq!(field(Params { passes: 2, ..good }), "Argon2 passes");
        assert_eq!(field(Params { passes: u32::MAX, ..good }), "Argon2 passes");
        assert_eq!(field(Params { lanes: 0, ..good }), "Argon2 lanes");
        assert_eq!(field(Params { lanes: 9, ..good }), "Argon2 lanes");
        assert_eq!(field(Params { memory_kib: 1 << 20, passes: 5, lanes: 4 }), "Argon2 work");
        assert_eq!(Params { memory_kib: 1 << 20, passes: 4, lanes: 8 }.check(), Ok(()));
        assert_eq!(good.check(), Ok(()));
    }

    #[test]
    fn stretching_is_argon2id_as_specified() {
        // The expected bytes come from another implementation (OpenSSL's, by way of Python's cryptography).
        let key = stretch(b"password", &[7; 32], Params::DEFAULT).unwrap();
        assert_eq!(
            RepositoryId(*key.expose()).to_string(),
            "9a95711eeae430a1942a761553c3156faba7123225436b8b1002417c98551211"
        );
    }
}
