//! The text form of one vector: header lines, an empty line, the structure's bytes in hex.

use packstone::codec::Error;

/// What reading gives: the facts for the `result` lines, or the refusal.
pub type Outcome = Result<Vec<(String, String)>, Error>;

/// What must come of reading the vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// It is read, and the `result` lines hold.
    Accepted,
    /// It is refused for the reason with this slug.
    Refused(String),
}

/// One scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vector {
    /// File name without `.txt`: lower case with hyphens.
    pub name: String,
    /// One line: what is special here.
    pub comment: String,
    /// What must come of it.
    pub expect: Expect,
    /// What a reader needs beside the bytes: keys in hex, parameters in decimal.
    pub inputs: Vec<(String, String)>,
    /// The stored bytes.
    pub bytes: Vec<u8>,
}

impl Vector {
    /// A vector that must be read.
    pub fn accepted(name: &str, comment: &str, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), comment: comment.into(), expect: Expect::Accepted, inputs: Vec::new(), bytes }
    }

    /// A vector that must be refused for the reason with this slug.
    pub fn refused(name: &str, slug: &str, comment: &str, bytes: Vec<u8>) -> Self {
        Self { expect: Expect::Refused(slug.into()), ..Self::accepted(name, comment, bytes) }
    }

    /// Adds an input line.
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.inputs.push((key.into(), value.to_string()));
        self
    }

    /// Adds an input line of bytes.
    pub fn with_hex(self, key: &str, value: &[u8]) -> Self {
        self.with(key, hex(value))
    }

    /// An input that must be there.
    pub fn input(&self, key: &str) -> &str {
        self.input_if_any(key).unwrap_or_else(|| panic!("{}: no input {key:?}", self.name))
    }

    /// An input that may be there.
    pub fn input_if_any(&self, key: &str) -> Option<&str> {
        self.inputs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// An input of bytes.
    pub fn input_hex(&self, key: &str) -> Vec<u8> {
        unhex(self.input(key))
    }

    /// An input of 32 bytes.
    pub fn input_32(&self, key: &str) -> [u8; 32] {
        self.input_hex(key).try_into().unwrap_or_else(|_| panic!("{}: {key} is not 32 bytes", self.name))
    }

    /// The file's text. `result` and `message` lines come from what reading gave.
    pub fn render(&self, structure: &str, outcome: &Outcome) -> String {
        let mut text = format!("comment: {}\nstructure: {structure}\n", self.comment);
        match &self.expect {
            Expect::Accepted => text.push_str("expect: accepted\n"),
            Expect::Refused(slug) => text.push_str(&format!("expect: refused {slug}\n")),
        }
        for (key, value) in &self.inputs {
            assert!(!["comment", "structure", "expect", "result", "message"].contains(&key.as_str()), "{key}");
            text.push_str(format!("{key}: {value}").trim_end());
            text.push('\n');
        }
        match outcome {
            Ok(facts) => facts.iter().for_each(|(key, value)| text.push_str(&format!("result: {key} {value}\n"))),
            Err(error) => text.push_str(&format!("message: {error}\n")),
        }
        text.push('\n');
        for line in self.bytes.chunks(32) {
            text.push_str(&hex(line));
            text.push('\n');
        }
        text
    }

    /// Reads a file's text; panics on anything malformed, naming the file.
    pub fn parse(structure: &str, name: &str, text: &str) -> Self {
        let (header, body) = text.split_once("\n\n").unwrap_or_else(|| panic!("{name}: no empty line"));
        let mut vector = Self::accepted(name, "", unhex(&body.replace('\n', "")));
        let mut expect = None;
        for line in header.lines() {
            let (key, value) =
                line.split_once(": ").or(line.split_once(':')).unwrap_or_else(|| panic!("{name}: {line:?}"));
            match key {
                "comment" => vector.comment = value.into(),
                "structure" => assert_eq!(value, structure, "{name}"),
                "expect" if value == "accepted" => expect = Some(Expect::Accepted),
                "expect" => {
                    let slug = value.strip_prefix("refused ").unwrap_or_else(|| panic!("{name}: {line:?}"));
                    expect = Some(Expect::Refused(slug.into()));
                }
                "result" | "message" => {}
                key => vector.inputs.push((key.into(), value.into())),
            }
        }
        vector.expect = expect.unwrap_or_else(|| panic!("{name}: no expect line"));
        vector
    }
}

/// The bytes as they are, as the seed of a target that reads them so.
pub fn bytes_of(vector: &Vector) -> Vec<u8> {
    vector.bytes.clone()
}

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hex as bytes.
pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd hex: {text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// 32 bytes that look random and are the same in every run.
pub fn seed(label: &str) -> [u8; 32] {
    *blake3::hash(label.as_bytes()).as_bytes()
}

/// The bytes with one bit flipped.
pub fn flip(bytes: &[u8], position: usize, bit: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[position] ^= 1 << bit;
    bytes
}
