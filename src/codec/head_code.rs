//! The state code: a head's name, short enough to be written down. format-spec/recovery_code.md, "State code".
//!
//! ```text
//! 214-0D6K-7M2Q-X4TR-9HBW-C       generation - 80 bits of the id - check symbol
//! ```
//!
//! Whoever has the code can tell whether what a mirror shows is at least as new. It is compared whole, never shortened.

use std::fmt;
use std::str::FromStr;

use super::head::HeadRef;
use super::{Error, Reason, Result, crockford};

/// Symbols for the id.
const ID_SYMBOLS: usize = 16;
/// Bytes of the id in the code.
const ID_BYTES: usize = ID_SYMBOLS * 5 / 8;

/// A state code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeadCode {
    generation: u64,
    id: [u8; ID_BYTES],
}

/// The sum that the symbols make: zero for a code with its check symbol. Each step multiplies by x in GF(2^5) with
/// x^5 = x^2 + 1, whose order is 31, so every single wrong symbol and every swap of two neighbours changes it.
fn sum(values: impl IntoIterator<Item = u8>) -> u8 {
    values.into_iter().fold(0, |sum: u8, value| {
        let shifted = sum << 1;
        (if shifted & 0x20 == 0 { shifted } else { shifted ^ 0b10_0101 }) ^ value
    })
}

fn refuse(reason: Reason) -> Error {
    Error::new("state code", reason)
}

impl HeadCode {
    /// The code of a head.
    #[must_use]
    pub fn of(head: &HeadRef) -> Self {
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&head.id.0[..ID_BYTES]);
        Self { generation: head.generation, id }
    }

    /// Generation of the head it names.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// True when `head` is the one it names: generation and all 80 bits.
    #[must_use]
    pub fn matches(&self, head: &HeadRef) -> bool {
        *self == Self::of(head)
    }

    /// True when the id of the head it names begins with these bytes: as much as later heads keep of it.
    #[must_use]
    pub fn begins(&self, ancestor: &[u8]) -> bool {
        self.id.starts_with(ancestor)
    }

    /// Reads what was typed; case, spaces, hyphens, O for 0, I and L for 1 are forgiven.
    ///
    /// # Errors
    /// [`Reason::NoSymbol`]; [`Reason::WrongLength`] (in symbols) when some are missing; [`Reason::OutOfRange`] for an
    /// impossible generation; [`Reason::WrongCheck`].
    pub fn parse(text: &str) -> Result<Self> {
        let values = crockford::values(text).map_err(refuse)?;
        let split = values.len().checked_sub(ID_SYMBOLS + 1).filter(|digits| *digits > 0);
        let expected = ID_SYMBOLS as u64 + 2;
        let split = split.ok_or(refuse(Reason::WrongLength { expected, found: values.len() as u64 }))?;
        if sum(values.iter().copied()) != 0 {
            return Err(refuse(Reason::WrongCheck));
        }
        let (digits, rest) = values.split_at(split);
        let impossible = refuse(Reason::OutOfRange { field: "generation" });
        let mut generation: u64 = 0;
        for digit in digits {
            let next = if *digit > 9 { None } else { generation.checked_mul(10) };
            generation = next.and_then(|next| next.checked_add(u64::from(*digit))).ok_or(impossible.clone())?;
        }
        if digits.first() == Some(&0) {
            return Err(impossible);
        }
        let id = crockford::pack::<ID_BYTES>(&rest[..ID_SYMBOLS]).ok_or(impossible)?;
        Ok(Self { generation, id: *id })
    }
}

impl FromStr for HeadCode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for HeadCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let front = format!("{}-{}", self.generation, *crockford::grouped(&self.id));
        // Every character of it is a symbol or a hyphen.
        let values = crockford::values(&front).map_err(|_| fmt::Error)?;
        let check = sum(values.iter().copied().chain([0]));
        write!(f, "{front}-{}", crockford::symbol(check))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::id::ObjectId;

    fn head(generation: u64) -> HeadRef {
        HeadRef { generation, id: ObjectId::of(b"a head") }
    }

    #[test]
    fn a_code_is_read_as_printed_and_typed() {
        for generation in [1, 9, 214, u64::MAX] {
            let code = HeadCode::of(&head(generation));
            let text = code.to_string();
            assert_eq!(HeadCode::parse(&text), Ok(code));
            assert_eq!(HeadCode::parse(&text.to_lowercase().replace('-', " ").replace('0', "o")), Ok(code));
            assert!(code.matches(&head(generation)));
            assert!(!code.matches(&head(generation - 1)));
            assert!(!code.matches(&HeadRef { generation, id: ObjectId::of(b"another") }));
        }
    }

    #[test]
    fn every_single_slip_is_noticed() {
        let text: Vec<char> = HeadCode::of(&head(214)).to_string().chars().filter(|c| *c != '-').collect();
        for index in 0..text.len() {
            for symbol in "0123456789ABCDEFGHJKMNPQRSTVWXYZ".chars().filter(|symbol| *symbol != text[index]) {
                let mut typed = text.clone();
                typed[index] = symbol;
                let error = HeadCode::parse(&typed.iter().collect::<String>()).unwrap_err();
                assert_eq!(error.reason, Reason::WrongCheck);
            }
            if index > 0 && text[index] != text[index - 1] {
                let mut typed = text.clone();
                typed.swap(index, index - 1);
                assert_eq!(HeadCode::parse(&typed.iter().collect::<String>()).unwrap_err().reason, Reason::WrongCheck);
            }
        }
    }

    #[test]
    fn impossible_codes_are_refused() {
        let reason = |text: &str| HeadCode::parse(text).unwrap_err().reason;
        assert_eq!(reason(""), Reason::WrongLength { expected: 18, found: 0 });
        assert_eq!(reason("0D6K-7M2Q-X4TR-9HBW-C"), Reason::WrongLength { expected: 18, found: 17 });
        assert_eq!(reason("214-0D6K-7M2Q-X4TR-9HBW-U"), Reason::NoSymbol { position: 20 });
        let zero = "000000000000000000";
        assert_eq!(reason(zero), Reason::OutOfRange { field: "generation" });
        let with_check = |front: &str| {
            let sum = sum(crockford::values(front).unwrap().iter().copied().chain([0]));
            format!("{front}{}", crockford::symbol(sum))
        };
        assert_eq!(reason(&with_check("A-0000-0000-0000-0000-")), Reason::OutOfRange { field: "generation" });
        let too_large = with_check("18446744073709551616-0000-0000-0000-0000-");
        assert_eq!(reason(&too_large), Reason::OutOfRange { field: "generation" });
    }
}
