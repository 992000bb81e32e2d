//! The page of a recovery kit: what a new machine needs to get the data back, as text and as HTML.

use super::kit_needs::{Line, Needs};
use crate::base::command::quote;
use crate::base::escape::escape;
use crate::codec::head_code::HeadCode;
use crate::tasks::failure::Failure;
use qrcodegen::{QrCode, QrCodeEcc};
use zeroize::Zeroizing;

/// Light modules around a QR code, as ISO/IEC 18004 asks for.
const QUIET: i32 = 4;

/// Longest line of a command, in characters: what a sheet of A4 takes in the smaller type of commands.
const COMMAND_CHARACTERS_MAX: usize = 88;
/// Most characters of an address in one line, where it takes several.
const PIECE_CHARACTERS_MAX: usize = 66;
/// What is filled in by hand.
const BLANK: &str = "______________________________";

/// What stands on the page. It holds a recovery code, so it is never printed by accident: only [`Page::text`] and [`Page::html`] give it.
pub struct Page {
    pub(super) date: String,
    pub(super) host: String,
    /// What was backed up, safe to show.
    pub(super) sources: Vec<String>,
    /// The repository's state now, which is the one that knows this kit.
    pub(super) state: HeadCode,
    pub(super) repository: String,
    pub(super) key: String,
    pub(super) code: Zeroizing<String>,
    pub(super) last_group: Zeroizing<String>,
    pub(super) mirrors: Vec<MirrorLine>,
}

/// A mirror on the page.
pub(super) struct MirrorLine {
    pub(super) name: String,
    pub(super) address: String,
    /// The state that was last seen there: its generation and its code.
    pub(super) state: Option<(u64, HeadCode)>,
    pub(super) needs: Needs,
}

/// A part of the instructions.
enum Step {
    /// A numbered sentence.
    Number(String),
    /// A sentence, or a mirror's name.
    Text(String),
    /// What is typed.
    Typed(String),
    /// What is typed once its blank is filled in.
    Blank(String),
}

/// A word of a command: a mirror's name, which says what its variables are called, and its address; or the variable that holds both.
fn mirror_word(mirror: &MirrorLine, variable: Option<&str>) -> String {
    match variable {
        Some(variable) => format!("\"${variable}\""),
        None => format!("{}={}", mirror.name, quote(mirror.needs.address.as_bytes())),
    }
}

/// The command that brings the repository back.
fn recover_command(words: &[String], state: Option<HeadCode>) -> String {
    let expect = state.map_or_else(String::new, |code| format!(" --expect-head {code}"));
    format!("packstone recover {} --to recovered{expect}", words.join(" "))
}

/// An address as a variable, in lines that are short: cut between its options where that is enough.
fn assign(variable: &str, address: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let parts = address.split_inclusive(['?', '&']).flat_map(|part| {
        let characters: Vec<char> = part.chars().collect();
        characters.chunks(PIECE_CHARACTERS_MAX).map(|piece| piece.iter().collect::<String>()).collect::<Vec<_>>()
    });
    for part in parts {
        match pieces.last_mut() {
            Some(last) if last.chars().count() + part.chars().count() <= PIECE_CHARACTERS_MAX => last.push_str(&part),
            _ => pieces.push(part),
        }
    }
    let line = |(number, piece): (usize, &String)| {
        let before = if number == 0 { String::new() } else { format!("${variable}") };
        format!("{variable}={before}{}", quoted(piece))
    };
    pieces.iter().enumerate().map(line).collect()
}

/// In quotes in any case: a piece that ends a variable's name must not go on with it.
fn quoted(piece: &str) -> String {
    let quoted = quote(piece.as_bytes());
    if quoted == piece { format!("'{piece}'") } else { quoted }
}

impl Page {
    /// The newest state that a mirror was seen with, of those that are named.
    fn newest<'a>(mirrors: impl Iterator<Item = &'a MirrorLine>) -> Option<HeadCode> {
        mirrors.filter_map(|mirror| mirror.state).max_by_key(|(generation, _)| *generation).map(|(_, code)| code)
    }

    /// What is done on a new machine, in order.
    fn steps(&self) -> Vec<Step> {
        let version = env!("CARGO_PKG_VERSION");
        let mut steps = vec![Step::Number(format!("Install the program packstone, version {version} or newer."))];
        if !self.mirrors.is_empty() {
            steps.push(Step::Number("Say how the mirrors are reached. Fill in the blanks by hand now: without them this page is not enough.".to_owned()));
        }
        let (mut words, mut fits) = (Vec::new(), Vec::new());
        for (number, mirror) in self.mirrors.iter().enumerate() {
            let direct = recover_command(&[mirror_word(mirror, None)], mirror.state.map(|(_, code)| code));
            let variable = format!("M{}", number + 1);
            let is_short = direct.chars().count() <= COMMAND_CHARACTERS_MAX;
            fits.push(is_short && self.mirrors.len() == 1);
            steps.push(Step::Text(format!("{}:", mirror.name)));
            for line in &mirror.needs.lines {
                steps.push(match line {
                    Line::Value(name, value) => Step::Typed(format!("export {name}={}", quote(value.as_bytes()))),
                    Line::Blank(name) => Step::Blank(format!("export {name}=")),
                    Line::Or => Step::Text("or, where you have that instead:".to_owned()),
                    Line::Note(text) => Step::Text(text.clone()),
                    Line::Command(command) => Step::Typed(command.clone()),
                });
            }
            if fits.last() == Some(&true) {
                words.push(mirror_word(mirror, None));
            } else {
                let place = format!("{}={}", mirror.name, mirror.needs.address);
                steps.extend(assign(&variable, &place).into_iter().map(Step::Typed));
                words.push(mirror_word(mirror, Some(&variable)));
            }
        }
        steps.push(Step::Number("Bring the repository back. It asks for the recovery code.".to_owned()));
        match words.len() {
            0 => steps.push(Step::Blank("packstone recover --to recovered ".to_owned())),
            1 => steps.push(Step::Typed(recover_command(&words, Self::newest(self.mirrors.iter())))),
            _ => {
                steps.push(Step::Text("From all mirrors, each object from the first that has it sound:".to_owned()));
                steps.push(Step::Typed(recover_command(&words, Self::newest(self.mirrors.iter()))));
                for (mirror, word) in self.mirrors.iter().zip(&words) {
                    steps.push(Step::Text(format!("Or from {} alone:", mirror.name)));
                    let state = mirror.state.map(|(_, code)| code);
                    steps.push(Step::Typed(recover_command(std::slice::from_ref(word), state)));
                }
            }
        }
        steps.push(Step::Number("See what there is, and restore.".to_owned()));
        steps.push(Step::Typed("packstone --repo recovered snapshots".to_owned()));
        steps.push(Step::Typed("packstone --repo recovered restore latest --target restored".to_owned()));
        steps
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            (
                "Made",
                format!(
                    "{}, on {}, by packstone {}",
                    self.date,
                    escape(self.host.as_bytes()),
                    env!("CARGO_PKG_VERSION")
                ),
            ),
            ("Repository", self.repository.clone()),
            ("State", format!("{} (the mirrors know this kit from this state on)", self.state)),
            ("Key", format!("{} (this page counts as long as \"packstone key list\" shows it)", self.key)),
        ];
        for (number, source) in self.sources.iter().enumerate() {
            facts.push((if number == 0 { "Backed up" } else { "" }, source.clone()));
        }
        for MirrorLine { name, address, state, .. } in &self.mirrors {
            facts.push(("Mirror", format!("{name}   {}", escape(address.as_bytes()))));
            if let Some((_, state)) = state {
                facts.push(("", format!("stood at state code {state} or later")));
            }
        }
        facts
    }

    fn qr(&self) -> Result<QrCode, Failure> {
        QrCode::encode_text(&self.code, QrCodeEcc::Medium)
            .map_err(|_| Failure::failed("the recovery code does not fit into a QR code"))
    }

    /// The last group of the code: whoever types it has the page.
    #[must_use]
    pub fn last_group(&self) -> &str {
        &self.last_group
    }

    /// The page as plain text, with the code as a QR code of block characters.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(8 << 10));
        text.push_str("PACKSTONE RECOVERY KIT\nWho has this page and the mirror's credentials can read everything. Keep it where your papers are.\n\n");
        for (name, value) in self.facts() {
            text.push_str(&format!("{name:<12}{value}\n"));
        }
        text.push_str("\nRecovery code\n\n    ");
        text.push_str(&self.code);
        text.push_str("\n\n");
        if let Ok(code) = self.qr() {
            for y in (-QUIET..code.size() + QUIET).step_by(2) {
                for x in -QUIET..code.size() + QUIET {
                    // Light on dark terminals, dark on paper: both are read.
                    text.push(match (code.get_module(x, y), code.get_module(x, y + 1)) {
                        (true, true) => '\u{2588}',
                        (true, false) => '\u{2580}',
                        (false, true) => '\u{2584}',
                        (false, false) => ' ',
                    });
                }
                text.push('\n');
            }
        }
        text.push_str("\nOn a new machine\n\n");
        let mut number = 0;
        for step in self.steps() {
            match step {
                Step::Number(sentence) => {
                    number += 1;
                    text.push_str(&format!("{}{number}. {sentence}\n", if number == 1 { "" } else { "\n" }));
                }
                Step::Text(sentence) => text.push_str(&format!("   {sentence}\n")),
                Step::Typed(command) => text.push_str(&format!("       {command}\n")),
                Step::Blank(command) => text.push_str(&format!("       {command}{BLANK}\n")),
            }
        }
        text
    }

    /// The page as one HTML file that refers to nothing else.
    ///
    /// # Errors
    /// When the code does not fit into a QR code.
    pub fn html(&self) -> Result<Zeroizing<String>, Failure> {
        let mut page = Zeroizing::new(String::with_capacity(64 << 10));
        page.push_str(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Recovery kit</title>\n<style>\
             body{font:11pt/1.4 sans-serif;max-width:17cm;margin:1cm auto;color:#000;background:#fff}\
             .code{font-family:monospace;font-size:15pt;letter-spacing:1px}td{vertical-align:top;padding:0 1em .2em 0;overflow-wrap:anywhere}\
             td:first-child{white-space:nowrap}pre{font:8.5pt/1.5 monospace;white-space:pre;margin:.2em 0 .2em 1em}p{margin:.4em 0 .2em}\
             svg{width:4.5cm;height:4.5cm}.blank{border-bottom:1px solid #000;display:inline-block;width:7cm}\
             @page{size:A4;margin:1.5cm}@media print{body{margin:0;max-width:none}pre,svg,tr,.code{break-inside:avoid}h2,p{break-after:avoid}}\
             </style></head><body>\n\
             <h1>packstone recovery kit</h1>\n<p>Who has this page and the mirror's credentials can read everything. Keep it where your papers \
             are.</p>\n<table>\n",
        );
        for (name, value) in self.facts() {
            page.push_str(&format!("<tr><td>{name}</td><td>{}</td></tr>\n", html(&value)));
        }
        page.push_str("</table>\n<h2>Recovery code</h2>\n<p class=\"code\">");
        page.push_str(&self.code);
        page.push_str("</p>\n");
        let code = self.qr()?;
        let side = code.size() + 2 * QUIET;
        page.push_str(&format!("<svg viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\"><path d=\""));
        for y in 0..code.size() {
            for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
                page.push_str(&format!("M{},{}h1v1h-1z", x + QUIET, y + QUIET));
            }
        }
        page.push_str("\"/></svg>\n<h2>On a new machine</h2>\n");
        let mut number = 0;
        for step in self.steps() {
            match step {
                Step::Number(sentence) => {
                    number += 1;
                    page.push_str(&format!("<p><b>{number}. {}</b></p>\n", html(&sentence)));
                }
                Step::Text(sentence) => page.push_str(&format!("<p>{}</p>\n", html(&sentence))),
                Step::Typed(command) => page.push_str(&format!("<pre>{}</pre>\n", html(&command))),
                Step::Blank(command) => {
                    page.push_str(&format!("<pre>{}<span class=\"blank\"></span></pre>\n", html(&command)));
                }
            }
        }
        page.push_str("</body></html>\n");
        Ok(page)
    }
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
