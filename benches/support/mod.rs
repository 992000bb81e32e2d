//! Data for the benches: the same bytes on every machine, half of it like source code, half without any order.

// Each bench uses what it needs of it.
#![allow(dead_code)]

use packstone::codec::key_tree::{KeyTree, MasterKey, repository_id};

/// The keys of a repository that does not exist.
pub fn keys() -> KeyTree {
    KeyTree::new(&MasterKey::new([1; 32]), repository_id(b"benches"))
}

/// `length` bytes without any order: the output of BLAKE3.
pub fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// `length` bytes of words, which compress about as well as source code does.
pub fn text(length: usize) -> Vec<u8> {
    const WORDS: [&str; 32] = [
        "static",
        "int",
        "struct",
        "return",
        "if (",
        ") {\n",
        "\t",
        "\n\t\t",
        "}\n",
        "->",
        "list",
        "head",
        "node",
        "len",
        "flags",
        " = ",
        "0;\n",
        "NULL",
        "err",
        "goto out;\n",
        "unsigned",
        "long",
        "(",
        ")",
        "&&",
        "lock",
        "device",
        "buffer",
        "size",
        "/* ",
        " */\n",
        "const ",
    ];
    let mut bytes = Vec::with_capacity(length + 64);
    let order = noise(length);
    for pair in order.chunks_exact(2) {
        if bytes.len() >= length {
            break;
        }
        bytes.extend_from_slice(WORDS[usize::from(pair[0] % 32)].as_bytes());
        if pair[0] >= 160 {
            bytes.extend_from_slice(format!("{:x}", pair[1]).as_bytes());
        }
    }
    bytes.truncate(length);
    bytes
}
