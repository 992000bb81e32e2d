//! A passphrase that somebody gave, and what else it may have been when the repository was made.
//!
//! Editors and other systems add to a file what nobody typed: line ends, a byte order mark, UTF-16. And one text has several
//! spellings in bytes: a letter with an accent is one character or two (Unicode's forms NFC and NFD), and a keyboard of macOS may give
//! another than one of Linux. None of that shows on a screen. So the likely reading is tried first, and where it does not open the
//! repository the others are, which costs one key derivation each; a text in ASCII has no other spelling.

use crate::base::escape::escape;
use crate::tasks::failure::{Failure, Kind};
use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use zeroize::Zeroizing;

/// The mark at the beginning of a text in UTF-8.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// See the module.
#[derive(Clone)]
pub struct Passphrase {
    /// What it says. Empty when it cannot be used, see `refusal`.
    text: Zeroizing<Vec<u8>>,
    /// What a file was taken for by versions that took away one line end only.
    earlier: Option<Zeroizing<Vec<u8>>>,
    /// Why no new key is made of it.
    refusal: Option<(String, &'static str)>,
}

impl Passphrase {
    /// These bytes, as they were typed.
    #[must_use]
    pub const fn exact(text: Zeroizing<Vec<u8>>) -> Self {
        Self { text, earlier: None, refusal: None }
    }

    /// The passphrase in the content of a file; `source` names that. Line ends and byte order marks at either end are no part of it.
    #[must_use]
    pub fn in_text(content: Zeroizing<Vec<u8>>, source: &str) -> Self {
        let text = trimmed(&decoded(&content));
        let refusal = if text.contains(&b'\n') || text.contains(&b'\r') {
            let hint = "a passphrase is one line: leave only that line there";
            Some((format!("{} holds more than one line: a second line was found", escape(source.as_bytes())), hint))
        } else if text.contains(&0) {
            let hint = "a passphrase is text: is it the right file? Save it as UTF-8";
            Some((format!("{} holds a NUL byte", escape(source.as_bytes())), hint))
        } else {
            None
        };
        let text = if refusal.is_some() { Zeroizing::default() } else { text };
        Self { text, earlier: Some(without_line_end(content)), refusal }
    }

    /// True when nothing was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.refusal.is_none()
    }

    /// The passphrase of a new key.
    ///
    /// # Errors
    /// When it is more than one line, or no text.
    pub fn for_new(self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        match self.refusal {
            None => Ok(self.text),
            Some((sentence, hint)) => Err(Failure::failed(sentence).remedy(hint)),
        }
    }

    /// What may open a repository, the likeliest first.
    #[must_use]
    pub fn spellings(&self) -> Vec<Zeroizing<Vec<u8>>> {
        let mut found: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        let mut add = |spelling: Zeroizing<Vec<u8>>| {
            if !spelling.is_empty() && !found.contains(&spelling) {
                found.push(spelling);
            }
        };
        add(self.text.clone());
        if let Ok(text) = std::str::from_utf8(&self.text) {
            let bytes = |form: std::borrow::Cow<'_, str>| Zeroizing::new(form.into_owned().into_bytes());
            add(bytes(ComposingNormalizerBorrowed::new_nfc().normalize(text)));
            add(bytes(DecomposingNormalizerBorrowed::new_nfd().normalize(text)));
        }
        self.earlier.iter().cloned().for_each(add);
        found
    }

    /// Why none of them opens it, when that is no wonder.
    #[must_use]
    pub fn refused(&self) -> Option<Failure> {
        let (sentence, hint) = self.refusal.as_ref()?;
        Some(Failure::new(Kind::WrongPassword, sentence).remedy(*hint))
    }
}

/// UTF-16 with its mark becomes UTF-8, as in restic: some editors of other systems write nothing else.
fn decoded(content: &Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let unit: fn([u8; 2]) -> u16 = match content.first_chunk() {
        Some([0xff, 0xfe]) => u16::from_le_bytes,
        Some([0xfe, 0xff]) => u16::from_be_bytes,
        _ => return content.clone(),
    };
    let (pairs, rest) = content[2..].as_chunks();
    let units = Zeroizing::new(pairs.iter().map(|pair| unit(*pair)).collect::<Vec<u16>>());
    match String::from_utf16(&units) {
        Ok(text) if rest.is_empty() => Zeroizing::new(text.into_bytes()),
        _ => content.clone(),
    }
}

fn trimmed(content: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = content;
    loop {
        let before = text.len();
        for end in [MARK, b"\n", b"\r"] {
            text = text.strip_prefix(end).unwrap_or(text);
            text = text.strip_suffix(end).unwrap_or(text);
        }
        if text.len() == before {
            return Zeroizing::new(text.to_vec());
        }
    }
}

/// Removes one line end, and nothing else.
fn without_line_end(mut secret: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if secret.last() == Some(&b'\n') {
        secret.pop();
        if secret.last() == Some(&b'\r') {
            secret.pop();
        }
    }
    secret
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(content: &[u8]) -> Passphrase {
        Passphrase::in_text(Zeroizing::new(content.to_vec()), "the password file p")
    }

    fn spellings(passphrase: &Passphrase) -> Vec<Vec<u8>> {
        passphrase.spellings().iter().map(|spelling| spelling.to_vec()).collect()
    }

    #[test]
    fn what_a_file_says_is_tried_first_and_what_it_was_taken_for_last() {
        let cases: [(&[u8], &[&[u8]]); 16] = [
            (b"s", &[b"s"]),
            (b"s\n", &[b"s"]),
            (b"s\r\n", &[b"s"]),
            (b" s \n", &[b" s "]),
            (b" s \n\n", &[b" s ", b" s \n"]),
            (b"s\r", &[b"s", b"s\r"]),
            (b"s\r\n\r\n", &[b"s", b"s\r\n"]),
            (b"\ns\n", &[b"s", b"\ns"]),
            (b"\xef\xbb\xbfs\r\n", &[b"s", b"\xef\xbb\xbfs"]),
            (b"s\xef\xbb\xbf", &[b"s", b"s\xef\xbb\xbf"]),
            (b"\xff\xfes\0\n\0", &[b"s", b"\xff\xfes\0\n\0"]),
            (b"\xfe\xff\0s\0\r\0\n", &[b"s", b"\xfe\xff\0s\0\r\0"]),
            // Bytes of another encoding are taken as they are.
            (b"\xe4\n", &[b"\xe4"]),
            (b"\xff\xfes", &[b"\xff\xfes"]),
            ("\u{e4}\n".as_bytes(), &["\u{e4}".as_bytes(), "a\u{308}".as_bytes()]),
            ("a\u{308}".as_bytes(), &["a\u{308}".as_bytes(), "\u{e4}".as_bytes()]),
        ];
        for (content, expected) in cases {
            let passphrase = of(content);
            assert_eq!(spellings(&passphrase), expected, "{content:?}");
            assert!(passphrase.refused().is_none() && !passphrase.is_empty(), "{content:?}");
            assert_eq!(*passphrase.for_new().unwrap(), expected[0], "{content:?}");
        }
    }

    #[test]
    fn a_second_line_or_a_nul_makes_no_new_key_and_opens_only_what_it_opened_before() {
        for (content, word) in [
            (&b"a\nb\n"[..], "a second line was found"),
            (b"a\rb", "a second line was found"),
            (b"a\0b\n", "a NUL byte"),
        ] {
            let passphrase = of(content);
            assert_eq!(spellings(&passphrase), [without_line_end(Zeroizing::new(content.to_vec())).to_vec()]);
            let refused = passphrase.refused().unwrap();
            assert!(refused.chain().contains(word) && refused.chain().contains("the password file p"), "{refused}");
            assert_eq!(refused.kind(), Kind::WrongPassword);
            assert!(passphrase.for_new().err().unwrap().chain().contains(word));
        }
        assert!(of(b"").is_empty() && of(b"\r\n\n").is_empty() && of(b"\xef\xbb\xbf\n").is_empty());
    }

    #[test]
    fn what_is_typed_is_exact() {
        let typed = Passphrase::exact(Zeroizing::new(b"\xef\xbb\xbf s\n".to_vec()));
        assert_eq!(spellings(&typed)[0], b"\xef\xbb\xbf s\n");
    }
}
