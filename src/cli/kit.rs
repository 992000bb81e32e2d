//! `key kit`: one page that brings everything back.

use super::terminal::Terminal;
use super::{Context, recovery};
use crate::base::command::{quote, suggest};
use crate::base::escape::escape;
use crate::base::time::Time;
use crate::codec::head_code::HeadCode;
use crate::codec::key_slot::Secret;
use crate::files::secret_file::SecretFile;
use crate::repository::keyring::NewSlot;
use crate::tasks::environment::mirrors::MirrorLocation;
use crate::tasks::environment::{mirrors, own_places, repositories};
use crate::tasks::failure::Failure;
use crate::tasks::init;
use crate::text::{clock, size};
use qrcodegen::{QrCode, QrCodeEcc};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Labels of kits' keys begin with this.
const LABEL: &str = "kit of ";
/// Light modules around a QR code, as ISO/IEC 18004 asks for.
const QUIET: i32 = 4;

/// `key kit`
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Write the page into this new file, which only you can read: as HTML when its name ends with .html, else as text
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Memory that one guess of the recovery code costs, 64M to 1G
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub kdf_memory: Option<u64>,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// What stands on the page.
struct Page {
    date: String,
    repository: String,
    key: String,
    code: Zeroizing<String>,
    /// Name, address, the state that was last seen there, and what its credentials are called.
    mirrors: Vec<(String, String, Option<HeadCode>, Vec<&'static str>)>,
    /// Earlier kits.
    earlier: usize,
}

/// Runs the command.
///
/// # Errors
/// Without a file and a terminal; when the page cannot be written: then its key is gone again.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let kdf = init::kdf(arguments.kdf_memory)?;
    let shown = context.output.terminal && !context.output.json && arguments.output.is_none();
    let mut terminal = if shown { Terminal::open(&context.environment.stop) } else { None };
    if terminal.is_none() && arguments.output.is_none() && !arguments.dry_run {
        return Err(Failure::failed(
            "a kit holds a recovery code: it is shown on a terminal, or written into a file of yours",
        )
        .remedy(concat!("for example: ", suggest!("key kit --output kit.html"))));
    }
    let repository = repositories::open_repository(&context.environment, &context.watch(), "key kit")?;
    let date = clock::show(Time::now(), &clock::local_zone());
    let day = date.split(' ').next().unwrap_or_default().to_owned();
    let mut page = Page {
        repository: repository.id().to_string(),
        key: String::new(),
        code: Zeroizing::default(),
        mirrors: Vec::new(),
        earlier: 0,
        date,
    };
    let book = mirrors::open_book_if_any(&context.environment, &context.watch(), repository.id())?;
    for mirror in book.map(|book| book.all()).transpose()?.unwrap_or_default() {
        let service = MirrorLocation::of(&mirror)?.address.service();
        let state = mirror.head.map(|head| HeadCode::of(&head));
        page.mirrors.push((mirror.name, mirror.address, state, service.secrets.to_vec()));
    }
    let others = repository.recovery_codes();
    page.earlier = others.iter().filter(|slot| slot.label.starts_with(LABEL)).count();
    repository.require_room_for_slot(None)?;
    if arguments.dry_run {
        return context.output.info("would make a key for a new kit, and its page");
    }
    if let Some(path) = &arguments.output {
        own_places::refuse_key_in(&context.environment, &context.watch(), path)?;
    }
    // Before a key is made for a page that cannot be.
    let file = arguments.output.as_deref().map(|path| begin(path).map(|file| (path, file))).transpose()?;
    let code = recovery::generate()?;
    page.code = code.text();
    let last_group = code.last_group();
    let label = format!("{LABEL}{day}");
    let secret = Secret::RecoveryCode(code);
    let made = repository.add_slot(&NewSlot { secret: &secret, kdf, label: &label, created: Time::now() }, None);
    let (id, _) = made?;
    page.key = id.short();
    let written = match (file, &mut terminal) {
        (Some((path, file)), _) => write(path, file, &page),
        (None, Some(terminal)) => {
            let confirmed = terminal
                .show(&page.text())
                .and_then(|()| recovery::confirm(terminal, &last_group, "Print it or write it down"));
            confirmed.and_then(|confirmed| {
                let no = || Failure::failed("the recovery code was not confirmed: no kit was made");
                confirmed.then_some(()).ok_or_else(no)
            })
        }
        (None, None) => Ok(()),
    };
    if let Err(error) = written {
        // A key whose page nobody has opens nothing for anybody.
        repository.remove_slot(id)?;
        return Err(error);
    }
    let output = context.output;
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "kit",
            "key": id.to_string(),
            "label": label,
            "file": arguments.output.as_ref().map(|path| escape(path.as_os_str().as_bytes())),
            "earlier_kits": page.earlier,
        }));
    }
    if let Some(path) = &arguments.output {
        let path = escape(path.as_os_str().as_bytes());
        output.info(format!(
            "{path}: print it, put it away, and remove the file. Its key is {}, \"{label}\"",
            page.key
        ))?;
    }
    recovery::say_others(context, &others, None)?;
    if page.mirrors.is_empty() {
        output.warn(concat!(
            "there is no mirror yet: the page has nowhere to bring the data back from. Next: ",
            suggest!("mirror add NAME s3://BUCKET/PATH")
        ));
        return Ok(());
    }
    output.info(concat!("The mirrors do not know this kit yet. Next: ", suggest!("sync")))
}

fn begin(path: &Path) -> Result<SecretFile, Failure> {
    SecretFile::begin(path).map_err(|error| {
        let shown = escape(path.as_os_str().as_bytes());
        Failure::failed(format!("{shown} cannot be made"))
            .caused_by(error)
            .remedy("name a file that does not exist yet")
    })
}

/// The page has its name when it is whole: who is interrupted gives the same command again.
fn write(path: &Path, file: SecretFile, page: &Page) -> Result<(), Failure> {
    let is_html = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("html"));
    let text = if is_html { page.html()? } else { page.text() };
    file.finish(text.as_bytes()).map_err(|error| {
        let shown = escape(path.as_os_str().as_bytes());
        Failure::failed(format!("{shown} cannot be written: no kit was made")).caused_by(error)
    })
}

impl Page {
    /// The three commands, for the first mirror or a place to fill in.
    fn commands(&self) -> [String; 3] {
        let (address, expect) = match self.mirrors.first() {
            Some((_, address, state, _)) => {
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
        for (name, address, state, _) in &self.mirrors {
            facts.push(("Mirror", format!("{name}   {}", escape(address.as_bytes()))));
            if let Some(state) = state {
                facts.push(("", format!("stood at state code {state} or later")));
            }
        }
        facts
    }

    /// Lines to be filled in by hand.
    fn blanks(&self) -> Vec<String> {
        let blank = |(name, _, _, secrets): &(String, String, Option<HeadCode>, Vec<&str>)| {
            let variable = |key: &&str| format!("PACKSTONE_MIRROR_{}", key.to_uppercase());
            secrets.iter().map(variable).map(|key| format!("{name}: {key}")).collect::<Vec<_>>()
        };
        self.mirrors.iter().flat_map(blank).collect()
    }

    fn qr(&self) -> Result<QrCode, Failure> {
        QrCode::encode_text(&self.code, QrCodeEcc::Medium)
            .map_err(|_| Failure::failed("the recovery code does not fit into a QR code"))
    }

    fn text(&self) -> Zeroizing<String> {
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

    fn html(&self) -> Result<Zeroizing<String>, Failure> {
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
