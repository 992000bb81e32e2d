//! Ids: 32 bytes each, one type for each thing that is named, so that they cannot be mixed up.
//!
//! All of them print as 64 lower-case hex digits; people see the first 8 ([`ObjectId::short`]).

use std::fmt;
use std::str::FromStr;

/// Length of every id, in bytes. format-spec/README.md, "Ids".
pub const ID_BYTES: usize = 32;

/// The text was not 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 64 hex digits (0-9, a-f)")]
pub struct ParseIdError;

fn digit(byte: u8) -> Result<u8, ParseIdError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(ParseIdError),
    }
}

fn parse(text: &str) -> Result<[u8; ID_BYTES], ParseIdError> {
    let bytes = text.as_bytes();
    if bytes.len() != ID_BYTES * 2 {
        return Err(ParseIdError);
    }
    let mut id = [0; ID_BYTES];
    for (out, pair) in id.iter_mut().zip(bytes.chunks_exact(2)) {
        *out = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(id)
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in bytes {
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(bincode::Encode, bincode::Decode)]
        pub struct $name(pub [u8; ID_BYTES]);

        impl $name {
            /// The 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; ID_BYTES] {
                &self.0
            }

            /// The first 8 hex digits: what people see and may type.
            #[must_use]
            pub fn short(&self) -> String {
                let mut text = self.to_string();
                text.truncate(8);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "("))?;
                hex(&self.0[..4], f)?;
                f.write_str(")")
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse(text).map(Self)
            }
        }

        impl From<[u8; ID_BYTES]> for $name {
            fn from(bytes: [u8; ID_BYTES]) -> Self {
                Self(bytes)
            }
        }
    };
}

id! {
    /// Name of a stored object: the BLAKE3 of its stored bytes. Anyone can check it without a key.
    ObjectId
}
id! {
    /// Name of a chunk: the keyed BLAKE3 of its plaintext. Says nothing to anyone without the key.
    ChunkId
}
id! {
    /// Name of a repository: a hash of its config, so that everything bound to it is bound to the config too.
    RepositoryId
}

impl ObjectId {
    /// The id that `bytes` have as a stored object.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_and_parses_to_itself() {
        let id = ObjectId::of(b"packstone");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short().len(), 8);
    }

    #[test]
    fn wrong_ids_are_refused() {
        let good = ObjectId::of(b"").to_string();
        for text in ["", "ab", &good[1..], &good.to_uppercase(), &format!("{good}0")] {
            assert_eq!(text.parse::<ObjectId>(), Err(ParseIdError), "{text:?}");
        }
        assert_eq!(good.replace('a', "g").parse::<ObjectId>(), Err(ParseIdError));
    }
}
