//! The recovery code: 128 secret bits that fit on a slip of paper. format-spec/recovery_code.md.
//!
//! ```text
//! version 8 bits | secret 128 | check 24 = 32 symbols in 8 groups of 4
//! ```
//!
//! It is stored nowhere. The check tells a typing error from a wrong code before anything is stretched, and is strong
//! enough (24 bits) to say which single symbol would repair what was typed; it helps nobody to guess the 128 bits.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::key_tree::derive;
use super::{Reason, crockford};

/// Version of the code's layout: its first 8 bits.
const CODE_VERSION: u8 = 1;
/// Secret bytes.
pub const SECRET_BYTES: usize = 16;
/// Bytes in all: version, secret, check.
const CODE_BYTES: usize = 1 + SECRET_BYTES + 3;
/// Symbols of a code.
pub const SYMBOLS: usize = CODE_BYTES * 8 / 5;

/// A recovery code. Never printed by accident: only [`RecoveryCode::text`] gives it.
#[derive(Clone, Eq)]
pub struct RecoveryCode(Zeroizing<[u8; SECRET_BYTES]>);

impl PartialEq for RecoveryCode {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(other.0.as_slice()).into()
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryCode(..)")
    }
}

/// A small change that would make a mistyped code valid. Places are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fix {
    /// Another symbol at one place.
    Replace {
        /// Group of four symbols, 1 to 8.
        group: usize,
        /// Symbol within the group, 1 to 4.
        symbol: usize,
        /// What should stand there.
        with: char,
    },
    /// This symbol and the next change places.
    Swap {
        /// Group of the first of the two.
        group: usize,
        /// Place of the first of the two within its group.
        symbol: usize,
    },
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replace { group, symbol, with } => write!(f, "group {group}, symbol {symbol} may be {with}"),
            Self::Swap { group, symbol } => write!(f, "group {group}, symbol {symbol} may be swapped with the next"),
        }
    }
}

/// Why a typed recovery code was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseCodeError {
    /// What is wrong.
    pub reason: Reason,
    /// Single changes that would make the check match; nearly always none or one.
    pub fixes: Vec<Fix>,
}

impl fmt::Display for ParseCodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::WrongLength { expected, found } => {
                write!(f, "recovery code: it has {expected} symbols (8 groups of 4), {found} were typed")?;
            }
            reason => write!(f, "recovery code: {reason}")?,
        }
        for fix in &self.fixes {
            write!(f, "; {fix}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ParseCodeError {}

impl From<Reason> for ParseCodeError {
    fn from(reason: Reason) -> Self {
        Self { reason, fixes: Vec::new() }
    }
}

/// The last three bytes of a code whose first 17 are `front`.
fn check(front: &[u8]) -> [u8; 3] {
    let mut check = [0; 3];
    derive("packstone v1 recovery code check", &[front]).fill(&mut check);
    check
}

/// The code's bytes if its check matches.
fn checked(values: &[u8]) -> Option<Zeroizing<[u8; CODE_BYTES]>> {
    let bytes = crockford::pack::<CODE_BYTES>(values)?;
    let (front, found) = bytes.split_at(1 + SECRET_BYTES);
    (check(front) == found).then_some(bytes)
}

impl RecoveryCode {
    /// A new code from 16 bytes of the kernel's generator.
    #[must_use]
    pub fn generate(random: &[u8; SECRET_BYTES]) -> Self {
        Self(Zeroizing::new(*random))
    }

    /// The secret bits, to be stretched.
    #[must_use]
    pub fn secret(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// The code as it is printed: 8 groups of 4 symbols, hyphens between.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; CODE_BYTES]);
        bytes[0] = CODE_VERSION;
        bytes[1..=SECRET_BYTES].copy_from_slice(&*self.0);
        let check = check(&bytes[..=SECRET_BYTES]);
        bytes[1 + SECRET_BYTES..].copy_from_slice(&check);
        crockford::grouped(&*bytes)
    }

    /// The last group, which people type to show that they wrote the code down.
    #[must_use]
    pub fn last_group(&self) -> Zeroizing<String> {
        let text = self.text();
        Zeroizing::new(text.rsplit('-').next().unwrap_or_default().to_owned())
    }

    /// Reads what was typed; case, spaces, hyphens, O for 0, I and L for 1 are forgiven.
    ///
    /// # Errors
    /// [`Reason::NoSymbol`], [`Reason::WrongLength`] (in symbols), [`Reason::WrongCheck`] with the fixes that would
    /// help, [`Reason::UnknownVersion`] for a code of a later version.
    pub fn parse(text: &str) -> Result<Self, ParseCodeError> {
        let values = crockford::values(text)?;
        if values.len() != SYMBOLS {
            return Err(Reason::WrongLength { expected: SYMBOLS as u64, found: values.len() as u64 }.into());
        }
        let Some(bytes) = checked(&values) else {
            return Err(ParseCodeError { reason: Reason::WrongCheck, fixes: fixes(&values) });
        };
        if bytes[0] != CODE_VERSION {
            return Err(Reason::UnknownVersion { version: bytes[0] }.into());
        }
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        secret.copy_from_slice(&bytes[1..=SECRET_BYTES]);
        Ok(Self(secret))
    }
}

/// Every replacement of one symbol, and every swap of two neighbours, that makes the check match: about a thousand
/// trials, each passing by chance once in 2^24.
fn fixes(values: &[u8]) -> Vec<Fix> {
    let place = |index: usize| (index / 4 + 1, index % 4 + 1);
    let mut fixes = Vec::new();
    let mut trial = Zeroizing::new(values.to_vec());
    for index in 0..values.len() {
        let (group, symbol) = place(index);
        for value in (0..32).filter(|value| *value != values[index]) {
            trial[index] = value;
            if checked(&trial).is_some_and(|bytes| bytes[0] == CODE_VERSION) {
                fixes.push(Fix::Replace { group, symbol, with: crockford::symbol(value) });
            }
        }
        trial[index] = values[index];
        if index + 1 < values.len() && values[index] != values[index + 1] {
            trial.swap(index, index + 1);
            if checked(&trial).is_some_and(|bytes| bytes[0] == CODE_VERSION) {
                fixes.push(Fix::Swap { group, symbol });
            }
            trial.swap(index, index + 1);
        }
    }
    fixes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn code() -> RecoveryCode {
        RecoveryCode::generate(b"sixteen  octets!")
    }

    #[test]
    fn a_code_is_read_as_it_is_printed_and_typed() {
        let text = code().text();
        assert_eq!(text.len(), 39);
        assert_eq!(RecoveryCode::parse(&text), Ok(code()));
        let sloppy = text.to_lowercase().replace('-', "  ").replace('0', "o").replace('1', "l");
        assert_eq!(RecoveryCode::parse(&sloppy), Ok(code()));
        assert!(text.ends_with(&*code().last_group()));
        assert_eq!(code().last_group().len(), 4);
    }

    #[test]
    fn every_single_slip_is_found_and_named() {
        let text: Vec<char> = code().text().chars().filter(|c| *c != '-').collect();
        for index in 0..text.len() {
            let mut typed = text.clone();
            typed[index] = if typed[index] == 'Z' { 'Y' } else { 'Z' };
            let error = RecoveryCode::parse(&typed.iter().collect::<String>()).unwrap_err();
            assert_eq!(error.reason, Reason::WrongCheck);
            let fix = Fix::Replace { group: index / 4 + 1, symbol: index % 4 + 1, with: text[index] };
            assert_eq!(error.fixes, [fix], "{error}");
        }
        for index in (1..text.len()).filter(|index| text[index - 1] != text[*index]) {
            let mut typed = text.clone();
            typed.swap(index - 1, index);
            let error = RecoveryCode::parse(&typed.iter().collect::<String>()).unwrap_err();
            assert!(error.fixes.contains(&Fix::Swap { group: (index - 1) / 4 + 1, symbol: (index - 1) % 4 + 1 }));
        }
    }

    #[test]
    fn two_slips_are_only_refused() {
        let text = code().text();
        let typed: String = text.chars().rev().collect();
        let error = RecoveryCode::parse(&typed).unwrap_err();
        assert_eq!((error.reason, error.fixes.len()), (Reason::WrongCheck, 0));
        let error = RecoveryCode::parse(&text[1..]).unwrap_err();
        assert_eq!(error.reason, Reason::WrongLength { expected: 32, found: 31 });
        assert!(error.to_string().contains("8 groups of 4"));
        assert_eq!(RecoveryCode::parse("7GQ2-U").unwrap_err().reason, Reason::NoSymbol { position: 5 });
    }

    #[test]
    fn nothing_prints_the_secret_by_accident() {
        assert_eq!(format!("{:?}", code()), "RecoveryCode(..)");
    }
}
