//! Make a recovery kit: one page that brings everything back, with a recovery code of its own, so that one that was lost or seen can be made
//! worthless. Credentials of the mirrors are never on it.

use super::kit_page::{MirrorLine, Page};
use super::{add_slot, kit_needs, recovery_code};
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::id::ObjectId;
use crate::base::time::Time;
use crate::codec::head_code::HeadCode;
use crate::codec::key_slot::Secret;
use crate::files::secret_file::SecretFile;
use crate::ops::Monitor;
use crate::repository::Repository;
use crate::repository::keyring::SlotInfo;
use crate::tasks::environment::mirrors::MirrorLocation;
use crate::tasks::environment::{Environment, mirrors, own_places, repositories};
use crate::tasks::failure::Failure;
use crate::tasks::init;
use crate::text::clock;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Labels of kits' keys begin with this.
const LABEL: &str = "kit of ";
/// Sources, and paths of each, that stand on the page.
const SOURCES_SHOWN: usize = 8;
const PATHS_SHOWN: usize = 4;

/// Where the page goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// A new file, which only its owner can read: HTML when its name ends with `.html`, else text. Without one the page is shown.
    pub output: Option<PathBuf>,
    /// Bytes of memory that one guess of the recovery code costs.
    #[serde(deserialize_with = "crate::tasks::text_form::size")]
    pub kdf_memory: Option<u64>,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
}

/// What was made.
#[derive(Debug)]
pub struct Report {
    /// The kit's key; none in a dry run.
    pub key: Option<ObjectId>,
    /// The label of its key.
    pub label: String,
    /// Other recovery codes that open the repository, those of earlier kits too.
    pub others: Vec<SlotInfo>,
    /// There is a mirror on the page that the data can be brought back from.
    pub has_mirrors: bool,
}

impl Report {
    /// How many earlier kits still open the repository.
    #[must_use]
    pub fn earlier_kits(&self) -> usize {
        self.others.iter().filter(|slot| slot.label.starts_with(LABEL)).count()
    }
}

/// How a face shows a page. True when whoever saw it has confirmed it.
pub type Show<'a> = dyn FnMut(&Page) -> Result<bool, Failure> + 'a;

/// Makes a key, and the page that it stands on.
///
/// # Errors
/// Without a file and somebody to show it to; when the page cannot be written or was not confirmed: then its key is gone again.
pub fn run(
    request: &Request,
    environment: &Environment,
    monitor: &dyn Monitor,
    show: Option<&mut Show<'_>>,
) -> Result<Report, Failure> {
    let kdf = init::kdf(request.kdf_memory)?;
    if show.is_none() && request.output.is_none() && !request.dry_run {
        return Err(Failure::failed(
            "a kit holds a recovery code: it is shown on a terminal, or written into a file of yours",
        )
        .remedy(concat!("for example: ", suggest!("key kit --output kit.html"))));
    }
    let repository = repositories::open_repository(environment, monitor, "key kit")?;
    let date = clock::show(Time::now(), &clock::local_zone());
    let label = format!("{LABEL}{}", date.split(' ').next().unwrap_or_default());
    let mirrors = find_mirrors(&repository, environment, monitor)?;
    let others = repository.recovery_codes();
    let mut report = Report { key: None, label, others, has_mirrors: !mirrors.is_empty() };
    repository.require_room_for_slot(None)?;
    if request.dry_run {
        return Ok(report);
    }
    if let Some(path) = &request.output {
        own_places::refuse_key_in(environment, monitor, path)?;
    }
    // Before a key is made for a page that cannot be.
    let file = request.output.as_deref().map(|path| begin(path).map(|file| (path, file))).transpose()?;
    let code = recovery_code::generate()?;
    let (text, last_group) = (code.text(), code.last_group());
    let key = add_slot(&repository, (&Secret::RecoveryCode(code), kdf, &report.label), None)?;
    let page = Page {
        date,
        host: nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned(),
        sources: find_sources(&repository),
        state: HeadCode::of(&repository.tip().reference()),
        repository: repository.id().to_string(),
        key: key.short(),
        code: text,
        last_group,
        mirrors,
    };
    let written = match (file, show) {
        (Some((path, file)), _) => write(path, file, &page),
        (None, Some(show)) => show(&page).and_then(|confirmed| {
            let no = || Failure::failed("the recovery code was not confirmed: no kit was made");
            confirmed.then_some(()).ok_or_else(no)
        }),
        (None, None) => Ok(()),
    };
    if let Err(error) = written {
        // A key whose page nobody has opens nothing for anybody.
        repository.remove_slot(key)?;
        return Err(error);
    }
    report.key = Some(key);
    Ok(report)
}

/// What reaches each mirror. What this program and its environment were given says which secrets are in use, and what is not secret.
fn find_mirrors(
    repository: &Repository,
    environment: &Environment,
    monitor: &dyn Monitor,
) -> Result<Vec<MirrorLine>, Failure> {
    let book = mirrors::open_book_if_any(environment, monitor, repository.id())?;
    let mut lines = Vec::new();
    for mirror in book.map(|book| book.all()).transpose()?.unwrap_or_default() {
        let address = MirrorLocation::of(&mirror)?.address;
        let given = |key: &str| environment.secrets.of_mirror(Some(&mirror.name), key);
        let variable = |name: &str| std::env::var(name).ok();
        let needs = kit_needs::find(&mirror.name, address, &given, &variable, &kit_needs::host_keys);
        let state = mirror.head.map(|head| (head.generation, HeadCode::of(&head)));
        lines.push(MirrorLine { name: mirror.name, address: mirror.address, state, needs });
    }
    Ok(lines)
}

/// What the snapshots hold: host and paths of each source, what was backed up last first.
fn find_sources(repository: &Repository) -> Vec<String> {
    let mut newest: BTreeMap<(String, Vec<Vec<u8>>), Time> = BTreeMap::new();
    // What cannot be read is not on the page.
    let read = repository.snapshots().unwrap_or_default().into_iter().filter_map(|(_, snapshot)| snapshot.ok());
    for snapshot in read {
        let written = newest.entry((snapshot.host, snapshot.paths)).or_insert(snapshot.written);
        *written = (*written).max(snapshot.written);
    }
    let mut sources: Vec<_> = newest.into_iter().collect();
    sources.sort_by_key(|(_, written)| std::cmp::Reverse(*written));
    let shown = |((host, paths), _): &((String, Vec<Vec<u8>>), Time)| {
        let more = if paths.len() > PATHS_SHOWN { " ..." } else { "" };
        let paths: Vec<String> = paths.iter().take(PATHS_SHOWN).map(|path| escape(path)).collect();
        format!("{}: {}{more}", escape(host.as_bytes()), paths.join(" "))
    };
    let mut lines: Vec<String> = sources.iter().take(SOURCES_SHOWN).map(shown).collect();
    if let more @ 1.. = sources.len().saturating_sub(SOURCES_SHOWN) {
        lines.push(format!("and {more} more"));
    }
    lines
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
