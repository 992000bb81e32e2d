//! The world around the engine: files to save, secrets, a disk, and the few calls that a program makes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use packstone::base::time::Time;
use packstone::codec::chunker::Parameters;
use packstone::codec::kdf::Params;
use packstone::codec::key_file::KeyFile;
use packstone::codec::key_slot::Secret;
use packstone::codec::pack::PackKind;
use packstone::codec::tree::Node;
use packstone::files::exclude::Excludes;
use packstone::files::source::Sources;
use packstone::files::walk::Rules;
use packstone::ops::{self, Monitor, Silent, backup};
use packstone::repository::keyring::NewSlot;
use packstone::repository::list_reader::{Chunks, Listing};
use packstone::repository::lock::Locks;
use packstone::repository::pack_writer::PackOptions;
use packstone::repository::remembered::Remembered;
use packstone::repository::{self, Access, CreateOptions, Repository};
use packstone::storage::Storage;
use packstone::storage::crash::CrashDisk;

/// A pack is finished when it reaches this length, in bytes. A data block holds up to 2 MiB of plain bytes, which shrink
/// to about 200 KiB here, so a data pack holds one or two of them.
pub const PACK_BYTES: u64 = 384 << 10;
/// How files are cut: some hundreds of chunks out of a few megabytes.
const FILES: Parameters = Parameters { min: 2 << 10, average: 8 << 10, max: 32 << 10 };

/// True when every operation is to be swept.
pub fn is_full() -> bool {
    std::env::var_os("PACKSTONE_FULL").is_some_and(|value| value == "1")
}

/// SplitMix64: bytes that are the same in every run.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Bytes that shrink to a tenth: words out of a small book, and a number now and then.
    pub fn text(&mut self, length: usize) -> Vec<u8> {
        const WORDS: [&[u8]; 8] =
            [b"granite ", b"gneiss ", b"basalt ", b"slate ", b"marble ", b"schist ", b"tuff ", b"quartzite "];
        let mut text = Vec::with_capacity(length + 32);
        while text.len() < length {
            let draw = self.next();
            if draw.is_multiple_of(64) {
                text.extend_from_slice(&draw.to_le_bytes());
            }
            (0..12).for_each(|shift| text.extend_from_slice(WORDS[(draw >> (3 * shift)) as usize % 2 * 4]));
        }
        text.truncate(length);
        text
    }

    /// Bytes that do not shrink.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }
}

/// What a snapshot must hold: every path with its content, `None` for a directory.
pub type Contents = BTreeMap<Vec<u8>, Option<Arc<[u8]>>>;

/// A small tree of real files.
pub struct Source {
    pub folder: tempfile::TempDir,
    noise: Noise,
}

impl Source {
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), noise: Noise(7) }
    }

    /// Some dozens of files, some of several chunks, one of many.
    pub fn new() -> Self {
        let mut source = Self::empty();
        for number in 0..24 {
            let length = source.noise.next() as usize % 60_000;
            let text = source.noise.text(length);
            source.write(&format!("letters/{}/{number}", number % 3), &text);
        }
        let text = source.noise.text(5 << 20);
        source.write("book", &text);
        source.write("empty", b"");
        let noise = source.noise.bytes(300 << 10);
        source.write("photos/one", &noise);
        fs::hard_link(source.folder.path().join("photos/one"), source.folder.path().join("photos/same")).unwrap();
        Self::let_the_clock_tick();
        source
    }

    /// Some files change, one comes, one goes, one grows at its front.
    pub fn change(&mut self) {
        for number in [1, 8, 17] {
            let text = self.noise.text(20_000);
            self.write(&format!("letters/{}/{number}", number % 3), &text);
        }
        let text = self.noise.text(90_000);
        self.write("letters/new/1", &text);
        // Gone already when it changes again.
        let _ = fs::remove_file(self.folder.path().join("letters/0/3"));
        let mut book = self.noise.text(700_000);
        book.extend(fs::read(self.folder.path().join("book")).unwrap());
        self.write("book", &book);
        let noise = self.noise.bytes(400 << 10);
        self.write("photos/two", &noise);
        Self::let_the_clock_tick();
    }

    /// A file whose ctime is of this very tick is read again by the next backup; here it is to be taken over unread.
    fn let_the_clock_tick() {
        std::thread::sleep(Duration::from_millis(50));
    }

    pub fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        // Long ago, so that the next backup may take it over unread.
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What a snapshot made now must hold.
    pub fn contents(&self) -> Contents {
        let mut contents = Contents::new();
        let mut open = vec![self.path().to_path_buf()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.as_os_str().as_bytes()[1..].to_vec();
                if path.is_dir() {
                    contents.insert(name, None);
                    open.push(path);
                } else {
                    contents.insert(name, Some(fs::read(&path).unwrap().into()));
                }
            }
        }
        contents
    }
}

/// The `n`-th secret.
pub fn secret(n: u8) -> Secret {
    Secret::KeyFile(KeyFile::generate(&[n; 32]))
}

/// How a machine uses a repository.
#[derive(Clone, Default)]
pub struct Machine {
    pub cache: Option<PathBuf>,
    pub remembered: Option<PathBuf>,
}

impl Machine {
    pub fn access(&self, storage: Arc<dyn Storage>) -> Access {
        Access {
            storage,
            locks: Locks::none(),
            place: PathBuf::from("/the/repository"),
            cache: self.cache.clone(),
            remembered: self.remembered.clone().map(Remembered::new),
            retry_lock: Duration::ZERO,
        }
    }

    pub fn create(&self, storage: Arc<dyn Storage>, first: u8) -> repository::Result<Repository> {
        let secret = secret(first);
        let slot = NewSlot { secret: &secret, kdf: Params::DEFAULT, label: "first", created: Time::now() };
        Repository::create(self.access(storage), &[slot], &CreateOptions { files: FILES, created: Time::now() })
    }

    pub fn open(&self, storage: Arc<dyn Storage>, with: u8) -> repository::Result<Repository> {
        Repository::open(self.access(storage), &secret(with))
    }
}

pub fn packs(pack_bytes: u64) -> PackOptions {
    PackOptions { pack_bytes, compression: Some(1), ..PackOptions::default() }
}

/// Backs `path` up, on top of the newest snapshot.
pub fn backup(repository: &Repository, path: &Path) -> ops::Result<backup::Report> {
    backup_with(repository, path, packs(PACK_BYTES), &Silent)
}

pub fn backup_with(
    repository: &Repository,
    path: &Path,
    packs: PackOptions,
    monitor: &dyn Monitor,
) -> ops::Result<backup::Report> {
    let parent = repository.snapshots().unwrap().last().map(|(id, _)| *id);
    backup_as(repository, path, &backup::Options { packs, ..options(parent) }, monitor)
}

pub fn options(parent: Option<packstone::base::id::ObjectId>) -> backup::Options {
    backup::Options {
        parent,
        unchanged: backup::scan::Unchanged::default(),
        skip_if_unchanged: false,
        allow_empty: false,
        readers: 2,
        packs: packs(PACK_BYTES),
    }
}

pub fn backup_as(
    repository: &Repository,
    path: &Path,
    options: &backup::Options,
    monitor: &dyn Monitor,
) -> ops::Result<backup::Report> {
    run(repository, Sources::new(&[path.to_path_buf()], &Excludes::new())?, options, monitor)
}

/// Backs up what lies in `path`, without the folders that lead to it, which others may change.
pub fn backup_inside(repository: &Repository, path: &Path, options: &backup::Options) -> ops::Result<backup::Report> {
    run(repository, Sources::new_in(path, &[PathBuf::from(".")], &Excludes::new())?, options, &Silent)
}

fn run(
    repository: &Repository,
    sources: Sources,
    options: &backup::Options,
    monitor: &dyn Monitor,
) -> ops::Result<backup::Report> {
    let labels = labels(sources.paths.clone());
    backup::run(repository, sources, Rules::default(), &labels, options, monitor)
}

pub fn labels(paths: Vec<Vec<u8>>) -> backup::Labels {
    backup::Labels {
        time: None,
        host: "host".to_owned(),
        user: "user".to_owned(),
        label: String::new(),
        tags: Vec::new(),
        paths,
        options: Vec::new(),
    }
}

/// Everything that a snapshot holds beneath `root` (a path without its first slash), read and checked.
pub fn contents(repository: &Repository, id: packstone::base::id::ObjectId, root: &[u8]) -> Result<Contents, String> {
    let say = |error: repository::Error| format!("snapshot {}: {error}", id.short());
    let snapshot = repository.snapshot(id).map_err(say)?;
    let mut contents = Contents::new();
    let mut open = vec![(Vec::new(), snapshot.root)];
    while let Some((path, list)) = open.pop() {
        for entry in Listing::new(repository, list) {
            let entry = entry.map_err(say)?;
            let path = if path.is_empty() { entry.name } else { [path.as_slice(), b"/", &entry.name].concat() };
            let beneath = path.strip_prefix(root).is_some_and(|rest| rest.starts_with(b"/"));
            match entry.node {
                Node::Directory { listing } => {
                    if beneath {
                        contents.insert(path.clone(), None);
                    }
                    open.push((path, listing));
                }
                Node::File(content) => {
                    let mut bytes = Vec::new();
                    for chunk in Chunks::new(repository, content.chunks) {
                        let chunk = chunk.map_err(say)?;
                        bytes.extend_from_slice(&repository.chunk(PackKind::Data, &chunk).map_err(say)?);
                    }
                    contents.insert(path, Some(bytes.into()));
                }
                other => return Err(format!("snapshot {}: {other:?} was never there", id.short())),
            }
        }
    }
    Ok(contents)
}

/// A disk of its own with all that `disk` shows now, everything durable.
pub fn copy(disk: &CrashDisk) -> CrashDisk {
    let files = disk.files();
    let mut found = None;
    disk.each_image(0, 0, |image| {
        if found.is_none() && image.files() == files {
            found = Some(image);
        }
    });
    found.expect("one of the images is the disk itself")
}
