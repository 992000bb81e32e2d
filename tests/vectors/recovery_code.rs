//! Vectors of what people type: recovery codes, key files and state codes. The bytes are the typed text.

use packstone::base::id::ObjectId;
use packstone::codec::head::HeadRef;
use packstone::codec::head_code::HeadCode;
use packstone::codec::key_file::KeyFile;
use packstone::codec::recovery_code::RecoveryCode;
use packstone::codec::{Error, Reason};

use crate::file::{Outcome, Vector, hex, seed};

/// Reads the text as the `form` line says.
pub fn read(vector: &Vector) -> Outcome {
    match vector.input("form") {
        "key file" => Ok(vec![("secret".into(), hex(KeyFile::parse(&vector.bytes)?.secret()))]),
        "state code" => {
            let code = HeadCode::parse(text(vector)?)?;
            Ok(vec![("generation".into(), code.generation().to_string()), ("code".into(), code.to_string())])
        }
        _ => match RecoveryCode::parse(text(vector)?) {
            Ok(code) => Ok(vec![("secret".into(), hex(code.secret())), ("code".into(), code.text().to_string())]),
            Err(error) => {
                let fixes: Vec<String> = error.fixes.iter().map(ToString::to_string).collect();
                assert_eq!(fixes.join("; "), vector.input_if_any("fix").unwrap_or_default(), "{}", vector.name);
                Err(Error::new("recovery code", error.reason))
            }
        },
    }
}

fn text(vector: &Vector) -> Result<&str, Error> {
    std::str::from_utf8(&vector.bytes).map_err(|_| Error::new("code", Reason::NoSymbol { position: 0 }))
}

/// With one character exchanged.
fn typo(text: &str, at: usize, by: char) -> String {
    text.chars().enumerate().map(|(index, c)| if index == at { by } else { c }).collect()
}

pub fn vectors() -> Vec<Vector> {
    let code = RecoveryCode::generate(b"sixteen  octets!").text().to_string();
    let file = KeyFile::generate(&seed("key file")).encode().to_string();
    let state = HeadCode::of(&HeadRef { generation: 214, id: ObjectId::of(b"a head") }).to_string();
    let vector = |vector: Vector, form: &str| vector.with("form", form);
    let good =
        |name: &str, comment: &str, form: &str, text: &str| vector(Vector::accepted(name, comment, text.into()), form);
    let bad = |name: &str, slug: &str, comment: &str, form: &str, text: &str| {
        vector(Vector::refused(name, slug, comment, text.into()), form)
    };
    let recovery = "recovery code";
    let swapped: String = {
        let mut characters: Vec<char> = code.chars().collect();
        characters.swap(10, 11);
        characters.into_iter().collect()
    };
    vec![
        good("printed", "as it is printed", recovery, &code),
        good("sloppy", "lower case, no hyphens, o for 0, l for 1", recovery, &{
            code.to_lowercase().replace('-', "").replace('0', "o").replace('1', "l")
        }),
        good("spaced", "spaces and line ends", recovery, &format!("  {}\n", code.replace('-', " \t"))),
        bad("typo", "wrong-check", "one symbol wrong: the fix is named", recovery, &typo(&code, 7, 'Z'))
            .with("fix", format!("group 2, symbol 3 may be {}", code.as_bytes()[7] as char)),
        bad("swapped", "wrong-check", "two neighbours swapped: the fix is named", recovery, &swapped)
            .with("fix", "group 3, symbol 1 may be swapped with the next"),
        bad("two-typos", "wrong-check", "two symbols wrong: no fix", recovery, &typo(&typo(&code, 7, 'Z'), 12, 'Y')),
        bad("short", "wrong-length", "one symbol is missing", recovery, &code[..code.len() - 1]),
        bad("long", "wrong-length", "one symbol too many", recovery, &format!("{code}0")),
        bad("symbol", "no-symbol", "U is no symbol", recovery, &typo(&code, 7, 'U')),
        bad("version", "unknown-version", "a code of version 2 whose check is right", recovery, VERSION_2),
        good("key-file", "as it is written", "key file", &file),
        good(
            "key-file-pasted",
            "lower case, spaces",
            "key file",
            &format!("\n {}", file.to_lowercase().replacen("key-1", "KEY-1", 1)),
        ),
        bad(
            "key-file-typo",
            "wrong-check",
            "one symbol wrong",
            "key file",
            &typo(&file, 21, if &file[21..22] == "Z" { 'Y' } else { 'Z' }),
        ),
        bad("key-file-version", "wrong-magic", "version 2", "key file", &file.replacen("key-1", "key-2", 1)),
        bad("key-file-cut", "wrong-length", "half a key file", "key file", &file[..50]),
        bad("key-file-other", "wrong-magic", "a passphrase in a file is no key file", "key file", "correct horse\n"),
        good("state-code", "as it is printed", "state code", &state),
        good("state-code-sloppy", "lower case, spaces", "state code", &state.to_lowercase().replace('-', " ")),
        bad("state-code-typo", "wrong-check", "another generation", "state code", &typo(&state, 2, '3')),
        bad("state-code-cut", "wrong-length", "the id alone, shortened", "state code", &state[..12]),
    ]
}

/// Version 2, the secret of the other vectors, and the check over both.
const VERSION_2: &str = "09SP-JY3M-CNJP-W810-DXHQ-8SBM-ECGH-XDF8";
