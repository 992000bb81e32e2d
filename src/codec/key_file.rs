//! The key file: 256 random bits in one line of text. format-spec/recovery_code.md, "Key file".
//!
//! ```text
//! packstone-key-1:XXXX-XXXX-...-XXXX          14 groups of 4 symbols: secret 256 bits, check 24
//! ```
//!
//! Only this generated form is a key file: its bits need no stretching. Anything else that somebody keeps in a file is
//! a passphrase and is stretched. Being text, it can be printed, pasted, and read back from paper.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::key_tree::derive;
use super::{Error, Reason, Result, crockford};

/// What a key file begins with; the digit is the version.
pub const PREFIX: &str = "packstone-key-1:";
/// Secret bytes.
pub const SECRET_BYTES: usize = 32;
/// A key file is never longer than this, however generously it was pasted; read no more than one byte more.
pub const FILE_BYTES_MAX: usize = 1024;

const CODE_BYTES: usize = SECRET_BYTES + 3;
const SYMBOLS: usize = CODE_BYTES * 8 / 5;

/// The secret of a key file.
#[derive(Clone, Eq)]
pub struct KeyFile(Zeroizing<[u8; SECRET_BYTES]>);

impl PartialEq for KeyFile {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(other.0.as_slice()).into()
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFile(..)")
    }
}

fn check(secret: &[u8]) -> [u8; 3] {
    let mut check = [0; 3];
    derive("packstone v1 key file check", &[secret]).fill(&mut check);
    check
}

impl KeyFile {
    /// A new key file from 32 bytes of the kernel's generator.
    #[must_use]
    pub fn generate(random: &[u8; SECRET_BYTES]) -> Self {
        Self(Zeroizing::new(*random))
    }

    /// The secret bits.
    #[must_use]
    pub fn secret(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// The file's content: one line.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; CODE_BYTES]);
        bytes[..SECRET_BYTES].copy_from_slice(&*self.0);
        bytes[SECRET_BYTES..].copy_from_slice(&check(&*self.0));
        let symbols = crockford::grouped(&*bytes);
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + symbols.len() + 1));
        text.push_str(PREFIX);
        text.push_str(&symbols);
        text.push('\n');
        text
    }

    /// Reads a key file's content; white space around and between is forgiven, as in a recovery code.
    ///
    /// # Errors
    /// [`Reason::WrongMagic`] when it is no key file, [`Reason::WrongLength`] (in symbols, or in bytes beyond
    /// [`FILE_BYTES_MAX`]), [`Reason::NoSymbol`], [`Reason::WrongCheck`].
    pub fn parse(content: &[u8]) -> Result<Self> {
        let refuse = |reason| Error::new("key file", reason);
        if content.len() > FILE_BYTES_MAX {
            let (expected, found) = (FILE_BYTES_MAX as u64, content.len() as u64);
            return Err(refuse(Reason::WrongLength { expected, found }));
        }
        let text = std::str::from_utf8(content).map_err(|_| refuse(Reason::WrongMagic))?.trim_start();
        let prefix = text.get(..PREFIX.len()).filter(|prefix| prefix.eq_ignore_ascii_case(PREFIX));
        let symbols = prefix.and_then(|_| text.get(PREFIX.len()..)).ok_or(refuse(Reason::WrongMagic))?;
        let values = crockford::values(symbols).map_err(refuse)?;
        let wrong_length = Reason::WrongLength { expected: SYMBOLS as u64, found: values.len() as u64 };
        let bytes = crockford::pack::<CODE_BYTES>(&values).ok_or(refuse(wrong_length))?;
        let (secret, found) = bytes.split_at(SECRET_BYTES);
        if check(secret) != found {
            return Err(refuse(Reason::WrongCheck));
        }
        let mut key = Zeroizing::new([0; SECRET_BYTES]);
        key.copy_from_slice(secret);
        Ok(Self(key))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_file_is_read_as_written_and_as_pasted() {
        let key = || KeyFile::generate(&[0xa5; 32]);
        let text = key().encode();
        assert_eq!(text.lines().count(), 1);
        assert_eq!(KeyFile::parse(text.as_bytes()), Ok(key()));
        let pasted = format!(
            "  \n{}\r\n",
            text.trim().to_lowercase().replace('-', " ").replace("packstone key 1", PREFIX.trim_end_matches(':'))
        );
        assert_eq!(KeyFile::parse(pasted.as_bytes()), Ok(key()));
        assert_eq!(format!("{:?}", key()), "KeyFile(..)");
    }

    #[test]
    fn anything_else_is_no_key_file() {
        let text = KeyFile::generate(&[0xa5; 32]).encode();
        let reason = |content: &[u8]| KeyFile::parse(content).unwrap_err().reason;
        assert_eq!(reason(b""), Reason::WrongMagic);
        assert_eq!(reason(b"my passphrase"), Reason::WrongMagic);
        assert_eq!(reason(b"\xff\xfe"), Reason::WrongMagic);
        assert_eq!(reason(text.replace("key-1", "key-2").as_bytes()), Reason::WrongMagic);
        assert_eq!(reason(text[..40].as_bytes()), Reason::WrongLength { expected: 56, found: 20 });
        assert_eq!(reason(&[b' '; 1025]), Reason::WrongLength { expected: 1024, found: 1025 });
        assert_eq!(reason(text.replacen(":M", ":N", 1).as_bytes()), Reason::WrongCheck);
        assert_eq!(reason(text.replacen(":M", ":U", 1).as_bytes()), Reason::NoSymbol { position: 1 });
    }
}
