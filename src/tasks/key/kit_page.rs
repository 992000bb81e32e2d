//! The page of a recovery kit: what a new machine needs to get the data back, as text and as HTML.

use crate::base::command::quote;
use crate::base::escape::escape;
use crate::codec::head_code::HeadCode;
use crate::tasks::failure::Failure;
use qrcodegen::{QrCode, QrCodeEcc};
use zeroize::Zeroizing;

/// Light modules around a QR code, as ISO/IEC 18004 asks for.
const QUIET: i32 = 4;

/// What stands on the page. It holds a recovery code, so it is never printed by accident: only [`Page::text`] and [`Page::html`] give it.
pub struct Page {
    pub(super) date: String,
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
    /// The state that was last seen there.
    pub(super) state: Option<HeadCode>,
    /// What its credentials are called.
    pub(super) secrets: Vec<&'static str>,
}

impl Page {
    /// The three commands, for the first mirror or a place to fill in.
    fn commands(&self) -> [String; 3] {
        let (address, expect) = match self.mirrors.first() {
            Some(MirrorLine { address, state, .. }) => {
                (quote(address.as_bytes()), state.map_or_else(String::new, |code| format!(" --expect-head {code}")))
            }
            None => ("ADDRESS".to_owned(), String::new()),
        };
        [
            format!("packstone recover {address} --to recovered{expect}"),
            "packstone --repo recovered snapshots".to_owned(),
            "packstone --repo recovered restore latest --target restored".to_owned(),
        ]
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("Made", self.date.clone()),
            ("Repository", self.repository.clone()),
            ("Key", format!("{} (this page counts as long as \"packstone key list\" shows it)", self.key)),
        ];
        for MirrorLine { name, address, state, .. } in &self.mirrors {
            facts.push(("Mirror", format!("{name}   {}", escape(address.as_bytes()))));
            if let Some(state) = state {
                facts.push(("", format!("stood at state code {state} or later")));
            }
        }
        facts
    }

    /// Lines to be filled in by hand.
    fn blanks(&self) -> Vec<String> {
        let blank = |MirrorLine { name, secrets, .. }: &MirrorLine| {
            let variable = |key: &&str| format!("PACKSTONE_MIRROR_{}", key.to_uppercase());
            secrets.iter().map(variable).map(|key| format!("{name}: {key}")).collect::<Vec<_>>()
        };
        self.mirrors.iter().flat_map(blank).collect()
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
        text.push_str("\nOn a new machine, with packstone installed (it asks for the recovery code):\n\n");
        for command in self.commands() {
            text.push_str(&format!("    {command}\n"));
        }
        let blanks = self.blanks();
        if !blanks.is_empty() {
            text.push_str("\nCredentials of the mirrors, to be written here by hand:\n\n");
            for blank in blanks {
                text.push_str(&format!("    {blank}  ______________________________\n"));
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
             code,.code{font-family:monospace}.code{font-size:15pt;letter-spacing:1px}td{vertical-align:top;padding:0 1em .2em 0}\
             svg{width:4.5cm;height:4.5cm}.blank{border-bottom:1px solid #000;display:inline-block;width:9cm}</style></head><body>\n\
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
        page.push_str("\"/></svg>\n<h2>On a new machine, with packstone installed</h2>\n<p>It asks for the recovery code.</p>\n<ol>\n");
        for command in self.commands() {
            page.push_str(&format!("<li><code>{}</code></li>\n", html(&command)));
        }
        page.push_str("</ol>\n");
        let blanks = self.blanks();
        if !blanks.is_empty() {
            page.push_str("<h2>Credentials of the mirrors, to be written here by hand</h2>\n");
            for blank in blanks {
                page.push_str(&format!("<p>{} <span class=\"blank\"></span></p>\n", html(&blank)));
            }
        }
        page.push_str("</body></html>\n");
        Ok(page)
    }
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
