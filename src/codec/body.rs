//! Bodies: what lies inside sealed units, in the encoding of bincode 2 (`config::standard()`: little endian, numbers of
//! variable length). format-spec/body.md spells it out. No other module knows the crate's functions.
//!
//! Three rules hold for everything decoded here. There is a limit on memory for each structure: without one,
//! bincode 2.0.1 trusts a length that it reads, and nine bytes abort the process. No byte may be left over. And a
//! body must encode to the same bytes again, so that one content has one form (numbers could be written longer than
//! needed otherwise) and what was checked is what was stored. No list holds elements of no size: a limit does not bound
//! those.

use bincode::enc::write::{SizeWriter, Writer};
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode, config};

use super::{Error, Reason, Result};

/// The bytes of `value`.
///
/// # Errors
/// [`Reason::Undecodable`] when bincode refuses (never seen for the types of this program).
pub fn encode<T: Encode>(structure: &'static str, value: &T) -> Result<Vec<u8>> {
    let mut size = SizeWriter::default();
    bincode::encode_into_writer(value, &mut size, config::standard()).map_err(|_| refused(structure))?;
    // Left to grow, it would take up to twice what it holds, and three times for a moment.
    let mut bytes = Vec::with_capacity(size.bytes_written);
    encode_into(structure, value, &mut bytes)?;
    Ok(bytes)
}

/// Appends the bytes of `value`. After an error `out` is as it was.
///
/// # Errors
/// As [`encode`].
pub fn encode_into<T: Encode>(structure: &'static str, value: &T, out: &mut Vec<u8>) -> Result<()> {
    struct Appender<'a>(&'a mut Vec<u8>);
    impl Writer for Appender<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::result::Result<(), EncodeError> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }
    }
    let start = out.len();
    bincode::encode_into_writer(value, Appender(out), config::standard()).map_err(|_| {
        out.truncate(start);
        refused(structure)
    })
}

fn refused(structure: &'static str) -> Error {
    Error::new(structure, Reason::Undecodable)
}

/// The value whose bytes are `bytes`, which an authenticated unit held. `LIMIT` bounds the memory that a hostile body can
/// take, in bytes; it is part of each structure's limits.
///
/// # Errors
/// [`Reason::Undecodable`] (also for a body over the limit), [`Reason::Truncated`], [`Reason::UnknownVariant`],
/// [`Reason::TrailingBytes`], [`Reason::NotCanonical`].
pub fn decode<T: Decode<()> + Encode, const LIMIT: usize>(structure: &'static str, bytes: &[u8]) -> Result<T> {
    let refuse = |reason| Error::new(structure, reason);
    let (value, length) =
        bincode::decode_from_slice::<T, _>(bytes, config::standard().with_limit::<LIMIT>()).map_err(|error| {
            refuse(match error {
                DecodeError::UnexpectedEnd { .. } => Reason::Truncated,
                DecodeError::UnexpectedVariant { found, .. } => Reason::UnknownVariant { variant: found },
                _ => Reason::Undecodable,
            })
        })?;
    if length != bytes.len() {
        return Err(refuse(Reason::TrailingBytes));
    }
    let mut rest = Comparison(bytes);
    match bincode::encode_into_writer(&value, &mut rest, config::standard()) {
        Ok(()) if rest.0.is_empty() => Ok(value),
        _ => Err(refuse(Reason::NotCanonical)),
    }
}

/// Compares what is written with the bytes that are expected, instead of keeping it.
struct Comparison<'a>(&'a [u8]);

impl Writer for Comparison<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> std::result::Result<(), EncodeError> {
        self.0 = self.0.strip_prefix(bytes).ok_or(EncodeError::Other("differs"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LIMIT: usize = 1 << 16;

    fn refused<T: Decode<()> + Encode + std::fmt::Debug>(bytes: &[u8]) -> Reason {
        decode::<T, LIMIT>("test", bytes).unwrap_err().reason
    }

    /// The table of format-spec/body.md.
    #[test]
    fn numbers_are_written_as_the_spec_says() {
        let unsigned: [(u64, &[u8]); 7] = [
            (0, &[0]),
            (250, &[250]),
            (251, &[251, 251, 0]),
            (65_535, &[251, 0xff, 0xff]),
            (65_536, &[252, 0, 0, 1, 0]),
            (1 << 32, &[253, 0, 0, 0, 0, 1, 0, 0, 0]),
            (u64::MAX, &[253, 255, 255, 255, 255, 255, 255, 255, 255]),
        ];
        for (number, bytes) in unsigned {
            assert_eq!(encode("test", &number).unwrap(), bytes);
            assert_eq!(decode::<u64, LIMIT>("test", bytes).unwrap(), number);
        }
        for (number, bytes) in [(0_i64, &[0][..]), (-1, &[1]), (1, &[2]), (-126, &[251, 251, 0])] {
            assert_eq!(encode("test", &number).unwrap(), bytes);
        }
        assert_eq!(encode("test", &(Some(7_u8), None::<u8>, true, *b"ab")).unwrap(), [1, 7, 0, 1, b'a', b'b']);
        assert_eq!(encode("test", &(b"ab".to_vec(), "é".to_owned())).unwrap(), [2, b'a', b'b', 2, 0xc3, 0xa9]);
    }

    #[test]
    fn a_length_out_of_nowhere_does_not_abort() {
        let nine = [253, 0, 0, 0, 0, 0, 0, 0, 0x40];
        assert_eq!(refused::<Vec<u8>>(&nine), Reason::Undecodable);
        assert_eq!(refused::<Vec<u64>>(&nine), Reason::Undecodable);
        assert_eq!(refused::<String>(&[253, 255, 255, 255, 255, 255, 255, 255, 255]), Reason::Undecodable);
        assert_eq!(refused::<Vec<Vec<u64>>>(&[200, 200, 200]), Reason::Truncated);
    }

    #[test]
    fn bytes_left_over_and_other_forms_are_refused() {
        assert_eq!(refused::<u64>(&[5, 0]), Reason::TrailingBytes);
        assert_eq!(refused::<u64>(&[]), Reason::Truncated);
        for overlong in [&[251, 5, 0][..], &[252, 5, 0, 0, 0], &[253, 5, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(refused::<u64>(overlong), Reason::NotCanonical, "{overlong:?}");
        }
        assert_eq!(refused::<bool>(&[2]), Reason::Undecodable);
        assert_eq!(refused::<u32>(&[253, 5, 0, 0, 0, 0, 0, 0, 0]), Reason::Undecodable);
        assert_eq!(refused::<u64>(&[255]), Reason::Undecodable);
        assert_eq!(refused::<String>(&[1, 0xff]), Reason::Undecodable);
    }
}
