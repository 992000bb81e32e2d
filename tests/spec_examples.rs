//! The worked examples of `format-spec/` are true: every fence that names a vector is compared with it.
//!
//! A fence opens with three backticks and `vector <structure>/<name>`, and shows the vector's bytes, or with
//! `vector <structure>/<name> result <fact>`, and shows the hex of that fact. Each of its lines is
//! `offset | bytes | meaning`, offset and bytes in hex.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    assert!(digits.len().is_multiple_of(2), "odd hex: {text}");
    digits.chunks(2).map(pair).collect()
}

/// The bytes that a fence's opening line names.
fn named_bytes(spec: &Path, named: &str) -> Vec<u8> {
    let mut words = named.split_whitespace();
    let path = spec.join("vectors").join(format!("{}.txt", words.next().unwrap()));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (header, body) = text.split_once("\n\n").unwrap();
    match (words.next(), words.next()) {
        (None, None) => unhex(body),
        (Some("result"), Some(fact)) => {
            let prefix = format!("result: {fact} ");
            let line = header.lines().find_map(|line| line.strip_prefix(&prefix));
            unhex(line.unwrap_or_else(|| panic!("{}: no result {fact}", path.display())))
        }
        _ => panic!("{named}: neither a vector nor a result of one"),
    }
}

#[test]
fn every_example_shows_the_bytes_of_its_vector() {
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("format-spec");
    let mut examples = 0;
    for page in fs::read_dir(&spec).unwrap().map(|entry| entry.unwrap().path()) {
        if page.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&page).unwrap();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let Some(named) = line.strip_prefix("```vector ") else { continue };
            let bytes = named_bytes(&spec, named);
            let mut shown = 0;
            for line in lines.by_ref().take_while(|line| *line != "```") {
                let mut columns = line.split(" | ");
                let place = format!("{}: {named}: {line}", page.display());
                let offset = usize::from_str_radix(columns.next().unwrap().trim(), 16).expect(&place);
                let expected = unhex(columns.next().expect(&place));
                assert_eq!(bytes.get(offset..offset + expected.len()), Some(&expected[..]), "{place}");
                shown += expected.len();
            }
            assert!(shown > 0, "{}: {named}: shows nothing", page.display());
            examples += 1;
        }
    }
    println!("{examples} examples");
    assert!(examples > 0);
}
