//! The whole command reference as one page, so that a change of it is seen as a change.

use super::run;

/// Name and description of each command that a help text lists.
fn commands(help: &str) -> impl Iterator<Item = (&str, &str)> {
    let listed = help.split("Commands:\n").nth(1).unwrap_or_default();
    let lines = listed.lines().take_while(|line| line.starts_with("  ")).map(|line| &line[2..]);
    // A description may go on in the next line, which is indented further.
    lines.filter(|line| !line.starts_with(' ')).map(|line| line.split_once(' ').unwrap_or((line, "")))
}

/// All commands that the help of `words` lists, and itself.
fn reference(words: &[&str], page: &mut String) {
    let ran = run(&[words, &["--help"]].concat());
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{words:?}");
    let global = ran.out.find("\nGlobal options:\n").filter(|_| !words.is_empty());
    // The options of every command are shown once, at the top.
    let own = &ran.out[..global.unwrap_or(ran.out.len())];
    page.push_str(&format!("######## packstone {}\n\n{}\n\n", words.join(" "), own.trim_end()));
    for (name, _) in commands(own).filter(|(name, _)| *name != "help") {
        reference(&[words, &[name]].concat(), page);
    }
}

#[test]
fn the_command_reference() {
    let mut page = String::new();
    reference(&[], &mut page);
    insta::assert_snapshot!("reference", page);
}

#[test]
fn every_command_says_what_it_does() {
    let top = run(&["--help"]).out;
    assert!(commands(&top).count() > 15, "{top}");
    for (name, about) in commands(&top) {
        assert!(about.trim().len() > 10, "{name}");
    }
}
