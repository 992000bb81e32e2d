//! restic's patterns: what `--exclude`, `--include`, `find` and `ls` take.
//!
//! A pattern is a list of components. One that begins with `/` is matched from the root, any other one at any run of
//! components; what lies beneath a match matches too. Within a component `*`, `?` and `[a-z]`, `[^a-z]` work as in Go's
//! `path/filepath.Match` and `\` takes the next character literally; a component `**` stands for any number of
//! components, none included. A list of patterns is read in order: a later one beginning with `!` takes a match back.
//!
//! Names are bytes. Where they are UTF-8, `?` and a class take one character, else one byte.
//! Source: restic `doc/040_backup.rst`, "Excluding Files", and `internal/filter`.

use std::fmt;

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PatternError {
    /// The pattern as it was given.
    pub pattern: Vec<u8>,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "pattern \"{}\": {}; to match such a character itself, put a backslash before it",
            crate::base::escape::Escaped(&self.pattern),
            self.reason
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(Vec<u8>),
    AnyOne,
    Star,
    Class { negated: bool, ranges: Vec<(u32, u32)> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `**`
    Any,
    /// No special characters.
    Plain(Vec<u8>),
    Glob(Vec<Token>),
}

impl Part {
    fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Plain(text) => text == name,
            Self::Glob(tokens) => glob(tokens, name),
        }
    }
}

/// One pattern. See the module.
#[derive(Debug, Clone)]
pub struct Pattern {
    negated: bool,
    rooted: bool,
    /// Position of the first `**`.
    any_at: Option<usize>,
    parts: Vec<Part>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// An empty pattern, an unfinished class, a range without end, a backslash at the end.
    pub fn new(pattern: &[u8]) -> Result<Self, PatternError> {
        let error = |reason| PatternError { pattern: pattern.to_vec(), reason };
        let (negated, text) = match pattern.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        if text.is_empty() {
            return Err(error("it is empty"));
        }
        let rooted = text.starts_with(b"/");
        // Go's filepath.Clean: empty and "." components go, ".." takes the one before it away.
        let mut components: Vec<&[u8]> = Vec::new();
        for component in text.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." if components.last().is_some_and(|last| *last != b"..") => {
                    components.pop();
                }
                b".." if rooted => {}
                other => components.push(other),
            }
        }
        if components.is_empty() && !rooted {
            return Err(error("it names no file"));
        }
        let parts = components.iter().map(|part| part_of(part)).collect::<Result<Vec<_>, _>>().map_err(error)?;
        let any_at = parts.iter().position(|part| *part == Part::Any);
        Ok(Self { negated, rooted, any_at, parts })
    }

    /// Whether the pattern matches the path or one of its ancestors. `path` is split by [`components`].
    fn matches(&self, rooted: bool, path: &[&[u8]]) -> bool {
        if self.rooted && !rooted {
            return false;
        }
        if self.any_at.is_some() {
            return self.matches_any(path);
        }
        let Some(last) = path.len().checked_sub(self.parts.len()) else { return false };
        let last = if self.rooted { 0 } else { last };
        (0..=last).rev().any(|at| self.parts.iter().zip(&path[at..]).all(|(part, name)| part.matches(name)))
    }

    /// With `**`: the set of places in the path that the parts so far can reach.
    fn matches_any(&self, path: &[&[u8]]) -> bool {
        let mut reached = vec![!self.rooted; path.len() + 1];
        reached[0] = true;
        if !path.is_empty() {
            reached[path.len()] = false;
        }
        for part in &self.parts {
            if *part == Part::Any {
                if let Some(first) = reached.iter().position(|&place| place) {
                    reached[first..].fill(true);
                }
                continue;
            }
            for at in (0..path.len()).rev() {
                reached[at + 1] = reached[at] && part.matches(path[at]);
            }
            reached[0] = false;
        }
        reached.contains(&true)
    }

    /// Whether something beneath the path could match.
    fn children_may_match(&self, rooted: bool, path: &[&[u8]]) -> bool {
        if !self.rooted {
            return true;
        }
        rooted && self.parts.iter().take(self.any_at.unwrap_or(usize::MAX)).zip(path).all(|(p, name)| p.matches(name))
    }
}

/// What a list of patterns says about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// The path, or a directory above it, matches.
    pub matched: bool,
    /// Something beneath the path may match.
    pub children_may_match: bool,
}

/// Patterns in the order in which they were given.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
    ignore_case: bool,
    negations: bool,
}

impl Patterns {
    /// An empty list; `ignore_case` compares lower-cased names and patterns.
    #[must_use]
    pub fn new(ignore_case: bool) -> Self {
        Self { ignore_case, ..Self::default() }
    }

    /// Adds a pattern at the end.
    ///
    /// # Errors
    /// See [`Pattern::new`].
    pub fn add(&mut self, pattern: &[u8]) -> Result<(), PatternError> {
        let read = if self.ignore_case { Pattern::new(&lower(pattern)) } else { Pattern::new(pattern) };
        let read = read.map_err(|error| PatternError { pattern: pattern.to_vec(), ..error })?;
        self.negations |= read.negated;
        self.patterns.push(read);
        Ok(())
    }

    /// Whether there are no patterns.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// What the list says about a path. A path that begins with `/` is rooted: paths in a snapshot always do.
    #[must_use]
    pub fn check(&self, path: &[u8]) -> Match {
        let mut answer = Match { matched: false, children_may_match: false };
        if self.patterns.is_empty() {
            return answer;
        }
        let lowered;
        let path = if self.ignore_case {
            lowered = lower(path);
            &lowered
        } else {
            path
        };
        let rooted = path.starts_with(b"/");
        let components = components(path);
        for pattern in &self.patterns {
            let matched = pattern.matches(rooted, &components);
            if pattern.negated {
                answer.matched &= !matched;
                answer.children_may_match &= !matched;
            } else {
                answer.matched |= matched;
                answer.children_may_match |= pattern.children_may_match(rooted, &components);
                if answer.matched && answer.children_may_match && !self.negations {
                    break;
                }
            }
        }
        answer
    }

    /// [`Match::matched`] alone.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        self.check(path).matched
    }
}

fn components(path: &[u8]) -> Vec<&[u8]> {
    path.split(|&byte| byte == b'/').filter(|component| !component.is_empty()).collect()
}

/// Lower case, character by character; bytes that are no UTF-8 stay.
fn lower(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        out.extend_from_slice(chunk.valid().to_lowercase().as_bytes());
        out.extend_from_slice(chunk.invalid());
    }
    out
}

/// Whether one component, without `**`, matches one name: for `--files-from` and `find`.
///
/// # Errors
/// See [`Pattern::new`].
pub fn component_matches(pattern: &[u8], name: &[u8]) -> Result<bool, PatternError> {
    let tokens = tokens(pattern).map_err(|reason| PatternError { pattern: pattern.to_vec(), reason })?;
    Ok(glob(&tokens, name))
}

/// Whether a text has characters that mean something in a pattern.
#[must_use]
pub fn is_glob(text: &[u8]) -> bool {
    text.iter().any(|byte| b"\\[]*?".contains(byte))
}

fn part_of(text: &[u8]) -> Result<Part, &'static str> {
    Ok(match text {
        b"**" => Part::Any,
        plain if !is_glob(plain) => Part::Plain(plain.to_vec()),
        glob => Part::Glob(tokens(glob)?),
    })
}

/// One character of UTF-8, or one byte that belongs to none (then a value that no character has), and its length.
fn character(text: &[u8]) -> Option<(u32, usize)> {
    let first = *text.first()?;
    if first < 0x80 {
        return Some((u32::from(first), 1));
    }
    let end = text.len().min(4);
    let chunk = text[..end].utf8_chunks().next()?;
    Some(match chunk.valid().chars().next() {
        Some(c) => (c as u32, c.len_utf8()),
        None => (0x11_0000 + u32::from(first), 1),
    })
}

fn tokens(pattern: &[u8]) -> Result<Vec<Token>, &'static str> {
    let mut out: Vec<Token> = Vec::new();
    let mut rest = pattern;
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'*' if out.last() == Some(&Token::Star) => {}
            b'*' => out.push(Token::Star),
            b'?' => out.push(Token::AnyOne),
            b'[' => {
                let (class, after) = class(rest)?;
                out.push(class);
                rest = after;
            }
            _ => {
                let mut byte = *first;
                if byte == b'\\' {
                    let [escaped, after @ ..] = rest else { return Err("it ends in a backslash") };
                    byte = *escaped;
                    rest = after;
                }
                if let Some(Token::Literal(text)) = out.last_mut() {
                    text.push(byte);
                } else {
                    out.push(Token::Literal(vec![byte]));
                }
            }
        }
    }
    Ok(out)
}

/// `[` is read already. As in Go: `[^...]` negates, `-` and `]` must be escaped to stand for themselves.
fn class(pattern: &[u8]) -> Result<(Token, &[u8]), &'static str> {
    let (negated, mut rest) = match pattern.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let mut ranges = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(b"]")
            && !ranges.is_empty()
        {
            return Ok((Token::Class { negated, ranges }, after));
        }
        let (low, after) = class_character(rest)?;
        rest = after;
        let mut high = low;
        if let Some(after) = rest.strip_prefix(b"-") {
            (high, rest) = class_character(after)?;
        }
        ranges.push((low, high));
    }
}

fn class_character(text: &[u8]) -> Result<(u32, &[u8]), &'static str> {
    const UNFINISHED: &str = "a class [...] is empty or not finished";
    let text = match text {
        [] | [b'-' | b']', ..] => return Err(UNFINISHED),
        [b'\\', escaped @ ..] => escaped,
        other => other,
    };
    let (value, length) = character(text).ok_or(UNFINISHED)?;
    Ok((value, &text[length..]))
}

/// Matches with one place to come back to: a later `*` makes an earlier one's choice final, so this is at worst
/// quadratic.
fn glob(tokens: &[Token], name: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    loop {
        let step = match tokens.get(token) {
            Some(Token::Star) => {
                back = Some((token, at));
                token += 1;
                continue;
            }
            Some(Token::Literal(text)) => name[at..].starts_with(text).then_some(text.len()),
            Some(Token::AnyOne) => character(&name[at..]).map(|(_, length)| length),
            Some(Token::Class { negated, ranges }) => character(&name[at..]).and_then(|(value, length)| {
                let inside = ranges.iter().any(|&(low, high)| (low..=high).contains(&value));
                (inside != *negated).then_some(length)
            }),
            None if at == name.len() => return true,
            None => None,
        };
        match (step, back) {
            (Some(length), _) => {
                token += 1;
                at += length;
            }
            (None, Some((star, from))) => {
                let Some((_, length)) = character(&name[from..]) else { return false };
                back = Some((star, from + length));
                token = star + 1;
                at = from + length;
            }
            (None, None) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, path: &str) -> bool {
        let mut patterns = Patterns::new(false);
        patterns.add(pattern.as_bytes()).unwrap();
        patterns.matches(path.as_bytes())
    }

    /// From restic's `internal/filter/filter_test.go`.
    #[test]
    fn patterns_match_as_in_restic() {
        for (pattern, path, expected) in [
            ("*.go", "/foo/bar/test.go", true),
            ("*.c", "/foo/bar/test.go", false),
            ("*", "/foo/bar/test.go", true),
            ("/foo/*", "/foo/bar", true),
            ("/*/*", "/foo/bar/baz", true),
            ("/foo", "/bar/foo", false),
            ("foo", "/bar/foo", true),
            ("foo/bar", "/x/foo/bar/y", true),
            ("foo/bar", "/x/foo/y/bar", false),
            ("/foo/**/test.*", "/foo/bar/baz/test.go", true),
            ("/foo/**/test.*", "/foo/test.go", true),
            ("/foo/*/test.*", "/foo/test.go", false),
            ("foo/**/bar", "/x/foo/1/2/bar", true),
            ("foo/**", "/x/foo", true),
            ("**/bar/**", "/foo/bar/baz", true),
            ("user/**/important*", "/home/user/work/x/hidden/important", true),
            ("/home/../usr", "/usr/bin", true),
            ("./foo", "/a/foo", true),
            ("foo/", "/foo", true),
            ("[ab]c", "/ac", true),
            ("[^ab]c", "/ac", false),
            ("[a-c]x", "/bx", true),
            ("a\\*b", "/a*b", true),
            ("a\\*b", "/axb", false),
            ("?", "/é", true),
            ("??", "/é", false),
            ("a**", "/abc", true),
            ("/", "/anything", true),
            ("foo", "foo", true),
            ("/foo", "foo", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn names_are_bytes() {
        let mut patterns = Patterns::new(true);
        patterns.add(b"*\xff.TXT").unwrap();
        assert!(patterns.matches(b"/d/new\nline\xff.txt"));
        assert!(!patterns.matches(b"/d/new\nline\xfe.txt"));
        let mut one = Patterns::new(false);
        one.add(b"a?c").unwrap();
        assert!(one.matches(b"/a\xffc"));
    }

    #[test]
    fn a_later_negation_takes_a_match_back() {
        let mut patterns = Patterns::new(false);
        for pattern in ["*.log", "!keep.log", "/secret"] {
            patterns.add(pattern.as_bytes()).unwrap();
        }
        assert!(patterns.matches(b"/a/x.log"));
        assert!(!patterns.matches(b"/a/keep.log"));
        assert!(patterns.matches(b"/secret/keep.log"));
    }

    #[test]
    fn an_include_says_where_to_look() {
        let mut patterns = Patterns::new(false);
        patterns.add(b"/home/*/docs/**/x").unwrap();
        let may = |path: &[u8]| patterns.check(path).children_may_match;
        assert!(may(b"/home") && may(b"/home/u/docs") && may(b"/home/u/docs/1/2/3"));
        assert!(!may(b"/etc") && !may(b"/home/u/music"));
    }

    #[test]
    fn broken_patterns_are_refused() {
        for pattern in ["", "!", ".", "[", "[]", "[a", "[a-", "[-a]", "a\\", "[]a]"] {
            assert!(Pattern::new(pattern.as_bytes()).is_err(), "{pattern}");
        }
    }

    /// Expands `**` to every number of `*`, then tries every offset. (restic tries fewer numbers when a pattern has
    /// several `**`, and then misses some: `/**/b/**` and `/ab/b`.)
    fn reference(rooted: bool, parts: &[Part], path: &[&[u8]]) -> bool {
        if let Some(at) = parts.iter().position(|part| *part == Part::Any) {
            return (0..=path.len()).any(|count| {
                let mut expanded = parts[..at].to_vec();
                expanded.extend(std::iter::repeat_n(Part::Glob(vec![Token::Star]), count));
                expanded.extend_from_slice(&parts[at + 1..]);
                (rooted || !expanded.is_empty()) && reference(rooted, &expanded, path)
            });
        }
        (0..=path.len())
            .filter(|&at| !rooted || at == 0)
            .any(|at| path[at..].len() >= parts.len() && parts.iter().zip(&path[at..]).all(|(p, n)| p.matches(n)))
    }

    /// By definition: what a `*` takes is tried in every length.
    fn reference_glob(tokens: &[Token], name: &[u8]) -> bool {
        match tokens {
            [] => name.is_empty(),
            [Token::Star, rest @ ..] => (0..=name.len()).any(|at| reference_glob(rest, &name[at..])),
            [Token::Literal(text), rest @ ..] => {
                name.strip_prefix(text.as_slice()).is_some_and(|left| reference_glob(rest, left))
            }
            [Token::AnyOne, rest @ ..] => !name.is_empty() && reference_glob(rest, &name[1..]),
            [Token::Class { negated, ranges }, rest @ ..] => name.split_first().is_some_and(|(&first, left)| {
                ranges.iter().any(|&(low, high)| (low..=high).contains(&u32::from(first))) != *negated
                    && reference_glob(rest, left)
            }),
        }
    }

    proptest! {
        #[test]
        fn components_match_by_definition(pattern in "[ab*?]{0,7}(\\[\\^?[ab]\\])?[ab*?]{0,4}", name in "[abc]{0,9}") {
            let tokens = tokens(pattern.as_bytes()).unwrap();
            prop_assert_eq!(glob(&tokens, name.as_bytes()), reference_glob(&tokens, name.as_bytes()));
        }

        #[test]
        fn paths_match_by_definition(pattern in "/?(a|b|\\*|\\*\\*|a\\*)(/(a|b|\\*|\\*\\*|\\?b)){0,4}", path in "(/(a|b|ab)){1,6}") {
            let read = Pattern::new(pattern.as_bytes()).unwrap();
            let components = components(path.as_bytes());
            prop_assert_eq!(read.matches(true, &components), reference(read.rooted, &read.parts, &components));
        }

        /// An include that matches a path lets every ancestor of it be entered.
        #[test]
        fn an_ancestor_of_a_match_may_have_matching_children(
            pattern in "/(a|b|\\*|\\*\\*)(/(a|b|\\*|\\*\\*)){0,4}", path in "(/(a|b)){2,6}"
        ) {
            let mut patterns = Patterns::new(false);
            patterns.add(pattern.as_bytes()).unwrap();
            if patterns.matches(path.as_bytes()) {
                for (at, _) in path.match_indices('/').skip(1) {
                    prop_assert!(patterns.check(&path.as_bytes()[..at]).children_may_match);
                }
            }
        }

        #[test]
        fn no_pattern_panics(pattern in proptest::collection::vec(any::<u8>(), 0..20), path in proptest::collection::vec(any::<u8>(), 0..30)) {
            let mut patterns = Patterns::new(true);
            if patterns.add(&pattern).is_ok() {
                let _ = patterns.check(&path);
            }
        }
    }
}
