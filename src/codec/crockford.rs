//! Crockford's base 32: the symbols in which people read, print and type secrets and codes. format-spec/README.md,
//! "Codes for people"; <https://www.crockford.com/base32.html>.
//!
//! Five bits a symbol, most significant first. What is typed is forgiven much: case, spaces, hyphens, O for 0, I and L
//! for 1. `U` is no symbol.

use zeroize::Zeroizing;

use super::Reason;

const SYMBOLS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The symbol of a value below 32 (higher bits are ignored).
#[must_use]
pub const fn symbol(value: u8) -> char {
    SYMBOLS[(value & 31) as usize] as char
}

/// The values of the symbols in `text`, five bits each; spaces and hyphens are skipped.
///
/// # Errors
/// [`Reason::NoSymbol`] with the place of the first character that is none, counted from 1 without spaces and hyphens.
pub fn values(text: &str) -> Result<Zeroizing<Vec<u8>>, Reason> {
    let mut values = Zeroizing::new(Vec::with_capacity(text.len()));
    for character in text.chars() {
        // The hyphens of U+2010 to U+2015 are what a word processor makes of typed ones.
        if character.is_whitespace() || character == '-' || ('\u{2010}'..='\u{2015}').contains(&character) {
            continue;
        }
        let plain = match character.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        match SYMBOLS.iter().position(|symbol| char::from(*symbol) == plain) {
            Some(value) => values.push(value as u8),
            None => return Err(Reason::NoSymbol { position: values.len() as u64 + 1 }),
        }
    }
    Ok(values)
}

/// The symbols of `bytes`, in groups of four with hyphens between. A last incomplete symbol is filled with zero bits.
#[must_use]
pub fn grouped(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2 + 8));
    for index in 0..(bytes.len() * 8).div_ceil(5) {
        if index > 0 && index % 4 == 0 {
            text.push('-');
        }
        let mut value = 0;
        for bit in index * 5..index * 5 + 5 {
            let set = bytes.get(bit / 8).is_some_and(|byte| byte >> (7 - bit % 8) & 1 == 1);
            value = value << 1 | u8::from(set);
        }
        text.push(symbol(value));
    }
    text
}

/// Packs values of five bits into `N` bytes; `None` when they are not exactly as many bits (every structure here is
/// a multiple of five bytes).
#[must_use]
pub fn pack<const N: usize>(values: &[u8]) -> Option<Zeroizing<[u8; N]>> {
    if values.len() * 5 != N * 8 {
        return None;
    }
    let mut bytes = Zeroizing::new([0; N]);
    for (index, value) in values.iter().enumerate() {
        for bit in 0..5 {
            let place = index * 5 + bit;
            bytes[place / 8] |= (value >> (4 - bit) & 1) << (7 - place % 8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn symbols_are_those_of_crockford() {
        // 00000 00001 ... 11111 in order.
        let ordered: [u8; 20] = [
            0x00, 0x44, 0x32, 0x14, 0xc7, 0x42, 0x54, 0xb6, 0x35, 0xcf, 0x84, 0x65, 0x3a, 0x56, 0xd7, 0xc6, 0x75, 0xbe,
            0x77, 0xdf,
        ];
        let text = grouped(&ordered);
        assert_eq!(*text, "0123-4567-89AB-CDEF-GHJK-MNPQ-RSTV-WXYZ");
        assert_eq!(*pack::<20>(&values(&text).unwrap()).unwrap(), ordered);
    }

    #[test]
    fn typing_habits_are_forgiven() {
        assert_eq!(*values("o0 Il1-aA\u{2013}z\t").unwrap(), [0, 0, 1, 1, 1, 10, 10, 31]);
        assert_eq!(values("00-0u").unwrap_err(), Reason::NoSymbol { position: 4 });
        assert_eq!(values("é").unwrap_err(), Reason::NoSymbol { position: 1 });
    }

    #[test]
    fn another_number_of_bits_is_not_packed() {
        assert!(pack::<5>(&[0; 7]).is_none());
        assert!(pack::<5>(&[0; 9]).is_none());
        assert!(pack::<5>(&[0; 8]).is_some());
    }
}
