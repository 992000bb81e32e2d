//! A command in one string, split into words as a shell would split it, but run without a shell: no variables, no
//! substitution, no patterns. `--password-command` is given in this form, as in restic.

/// Splits `text` into words. Blanks separate; single quotes keep everything; within double quotes a backslash keeps
/// `"` and `\`; elsewhere it keeps any character.
///
/// # Errors
/// A sentence when a quote is not closed, a backslash stands at the end, or there is no word at all.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next() {
                        Some('\'') => break,
                        Some(inner) => word.push(inner),
                        None => return Err("a single quote is not closed".to_owned()),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next() {
                        Some('"') => break,
                        Some('\\') => match rest.next() {
                            Some(kept @ ('"' | '\\')) => word.push(kept),
                            Some(other) => word.extend(['\\', other]),
                            None => return Err("a double quote is not closed".to_owned()),
                        },
                        Some(inner) => word.push(inner),
                        None => return Err("a double quote is not closed".to_owned()),
                    }
                }
            }
            '\\' => match rest.next() {
                Some(kept) => word.get_or_insert_default().push(kept),
                None => return Err("a backslash stands at the end".to_owned()),
            },
            blank if blank.is_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    if words.is_empty() { Err("the command is empty".to_owned()) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::command::quote;

    #[test]
    fn words_are_split_as_in_a_shell() {
        for (text, words) in [
            ("pass show backup", vec!["pass", "show", "backup"]),
            ("  a\tb\n", vec!["a", "b"]),
            (
                r#"echo 'two words' "and \"more\"" plain\ blank"#,
                vec!["echo", "two words", "and \"more\"", "plain blank"],
            ),
            (r#"a'b'"c"d"#, vec!["abcd"]),
            (r#"x '' """#, vec!["x", "", ""]),
            (r#""C:\dir" '\'"#, vec!["C:\\dir", "\\"]),
            ("$HOME `id` *", vec!["$HOME", "`id`", "*"]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
    }

    #[test]
    fn a_quoted_word_is_split_into_itself() {
        for word in ["plain", "/srv/a b", "it's", "", "$HOME", "a\\b", "\"x\"", "*", "-n"] {
            let quoted = quote(word.as_bytes());
            assert_eq!(split(&quoted).unwrap(), [word], "{quoted}");
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        for text in ["", "  ", "'a", "\"a", "\"a\\", "a\\"] {
            assert!(split(text).is_err(), "{text}");
        }
    }
}
