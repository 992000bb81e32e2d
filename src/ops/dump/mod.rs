//! A file of a snapshot as bytes, or a directory as an archive.
//!
//! Everything goes out in one pass, as it is read; so damage that is met ends the work with what was written before it
//! already out. The error says so by being there: nothing is written in place of what cannot be read.

mod names;
mod tar;
mod zip;

use std::collections::HashMap;
use std::io::{self, Write};

use self::names::{Called, Kind, Names};
use super::content::{self, Piece};
use super::select::{self, Chosen, Filter, Found, SnapshotArgument};
use super::tree_walk::{TreeWalk, Visited};
use super::{Error, Item, Monitor, Phase};
use crate::codec::tree::{Content, Entry, Node};
use crate::ops::Action;
use crate::repository::Repository;

/// Longest run of zeros that is written at once, in bytes.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// How a directory is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
pub enum Archive {
    /// tar, POSIX.1-2001 (pax).
    #[default]
    #[serde(rename = "tar")]
    Tar,
    /// The same through gzip.
    #[serde(rename = "tar.gz")]
    TarGz,
    /// The same through zstd.
    #[serde(rename = "tar.zst")]
    TarZst,
    /// zip, with Unix permissions and times.
    #[serde(rename = "zip")]
    Zip,
}

/// What to write.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The snapshot, or a part of it.
    pub snapshot: SnapshotArgument,
    /// What `latest` counts.
    pub filter: Filter,
    /// A path within the part.
    pub path: Option<Vec<u8>>,
}

/// Where it goes. What can leave holes does so; everything else writes zeros.
pub trait Sink: Write {
    /// Passes over zeros.
    ///
    /// # Errors
    /// As writing.
    fn skip(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let length = bytes.min(ZEROS.len() as u64);
            self.write_all(&ZEROS[..length as usize])?;
            bytes -= length;
        }
        Ok(())
    }
}

/// Why it ended without its result.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// It could not be read.
    #[error(transparent)]
    Operation(#[from] Error),
    /// It could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// What will be written.
#[derive(Debug)]
pub struct Plan {
    /// The snapshot.
    pub chosen: Chosen,
    found: Found,
    /// How much of the paths is not part of the names in the archive.
    strip: usize,
}

impl Plan {
    /// True when it is a directory, and so becomes an archive.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        self.found.listing().is_some()
    }

    /// Where it stands in the snapshot.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.found.path
    }
}

/// Finds what is to be written. Names in the archive are whole paths, or begin beneath the part when one was named
/// behind the colon, as restic has it.
///
/// # Errors
/// As [`select::argument`]; [`Error::Invalid`] for what has no content.
pub fn plan(repository: &Repository, wanted: &Wanted) -> Result<Plan, Error> {
    let (chosen, part) = select::argument(repository, &wanted.snapshot, &wanted.filter)?;
    let strip = if wanted.snapshot.path.is_some() { part.prefix().len() + 1 } else { 1 };
    let found = match &wanted.path {
        None => part,
        Some(path) if wanted.snapshot.path.is_some() => {
            select::find_path(repository, &chosen, &[part.prefix(), b"/", path].concat())?
        }
        Some(path) => select::find_path(repository, &chosen, path)?,
    };
    let refusal = match found.entry().map(|entry| &entry.node) {
        None | Some(Node::File(_) | Node::Directory { .. }) => return Ok(Plan { chosen, found, strip }),
        Some(Node::Symlink { target }) => {
            let target = crate::base::escape::escape(target);
            format!("a symbolic link to {target}: name the file itself, or the directory it lies in")
        }
        Some(_) => "no file and no directory: it has no content".to_owned(),
    };
    Err(Error::Invalid(format!("{} is {refusal}", crate::base::escape::escape(&found.path))))
}

/// Writes a file.
///
/// # Errors
/// The damage, or the sink's error: what was written is not the whole file.
pub fn file(repository: &Repository, plan: &Plan, to: &mut dyn Sink, monitor: &dyn Monitor) -> Result<(), DumpError> {
    let Some(Entry { node: Node::File(content), .. }) = plan.found.entry() else {
        return Err(Error::Invalid(format!("{} is no file", crate::base::escape::escape(&plan.found.path))).into());
    };
    monitor.phase(Phase::Restore);
    monitor.expect(1, content.size, true);
    monitor.item(&Item { size: content.size, ..Item::new(&plan.found.path, Action::Started) });
    copy(repository, &plan.found.path, content, monitor, &mut |piece| match piece {
        Piece::Data(bytes) => to.write_all(bytes),
        Piece::Hole(length) => to.skip(length),
    })?;
    to.flush()?;
    Ok(())
}

fn copy(
    repository: &Repository,
    path: &[u8],
    content: &Content,
    monitor: &dyn Monitor,
    write: &mut dyn FnMut(Piece<'_>) -> io::Result<()>,
) -> Result<(), DumpError> {
    content::read(repository, path, content, &mut |piece| {
        if monitor.interrupted() {
            return Err(DumpError::Operation(Error::Interrupted));
        }
        let length = match piece {
            Piece::Data(bytes) => bytes.len() as u64,
            Piece::Hole(length) => length,
        };
        write(piece)?;
        monitor.advance(0, length);
        Ok(())
    })?;
    monitor.advance(1, 0);
    Ok(())
}

/// One kind of archive being written.
trait Packer {
    /// Begins an entry. `earlier` is the name of a file in the archive that is the same inode. Returns whether the content
    /// is to follow.
    fn begin(&mut self, name: &[u8], entry: &Entry, earlier: Option<&[u8]>) -> io::Result<Begun>;
    /// Adds content.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Ends the content.
    fn end(&mut self) -> io::Result<()>;
    /// Ends the archive.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// It is in the archive.
    Whole,
    /// Its content is to follow.
    Content,
    /// This kind of archive cannot hold it.
    Unfit(&'static str),
}

/// What is known of a file with several names.
struct Linked {
    name: Vec<u8>,
    /// Says whether the content is the same, should it have changed between reading the two names.
    content: [u8; 32],
}

/// What an archive of its kind cannot hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many entries.
    pub count: u64,
    /// The first of them, at most [`LEFT_OUT_NAMED`], with the reason as the rest of a sentence.
    pub named: Vec<(Vec<u8>, &'static str)>,
    /// How many entries have another name there. Of a directory, it alone and not what lies in it.
    pub renamed: u64,
    /// The first of them, at most [`LEFT_OUT_NAMED`].
    pub names: Vec<Renamed>,
}

/// An entry that has another name in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// Its path.
    pub path: Vec<u8>,
    /// Its path in the archive.
    pub called: Vec<u8>,
    /// Why, as a sentence.
    pub why: &'static str,
}

impl LeftOut {
    fn add(&mut self, path: Vec<u8>, why: &'static str) {
        self.count += 1;
        if self.named.len() < LEFT_OUT_NAMED {
            self.named.push((path, why));
        }
    }

    /// Said of an entry whose own name was changed, and not only that of a directory above it.
    fn add_name(&mut self, path: &[u8], called: &[u8], why: &'static str) {
        let last = |path: &[u8]| path.rsplit(|byte| *byte == b'/').next().map(<[u8]>::to_vec);
        if last(path) == last(called) {
            return;
        }
        self.renamed += 1;
        if self.names.len() < LEFT_OUT_NAMED {
            self.names.push(Renamed { path: path.to_vec(), called: called.to_vec(), why });
        }
    }
}

/// Most entries that [`LeftOut`] names.
pub const LEFT_OUT_NAMED: usize = 20;

/// Writes a directory as an archive, and returns what it could not hold.
///
/// # Errors
/// The damage, or the sink's error: what was written is no whole archive.
pub fn archive(
    repository: &Repository,
    plan: &Plan,
    form: Archive,
    to: &mut dyn Write,
    monitor: &dyn Monitor,
) -> Result<LeftOut, DumpError> {
    let Some(listing) = plan.found.listing() else {
        return Err(Error::Invalid(format!("{} is no directory", crate::base::escape::escape(&plan.found.path))).into());
    };
    monitor.phase(Phase::Restore);
    let mut packer: Box<dyn Packer + '_> = match form {
        Archive::Tar => Box::new(tar::Tar::new(to)),
        Archive::TarGz => {
            Box::new(tar::Tar::new(Gzip(flate2::write::GzEncoder::new(to, flate2::Compression::default()))))
        }
        Archive::TarZst => Box::new(tar::Tar::new(Zstd(zstd::Encoder::new(to, zstd::DEFAULT_COMPRESSION_LEVEL)?))),
        Archive::Zip => Box::new(zip::Zip::new(to)),
    };
    let mut left_out = LeftOut::default();
    let mut names = Names::of(match form {
        Archive::Zip => Kind::Everywhere,
        Archive::Tar | Archive::TarGz | Archive::TarZst => Kind::Bytes,
    });
    let mut links: HashMap<(u32, u64), Linked> = HashMap::new();
    let own = plan.found.entry().filter(|_| plan.found.path.len() > plan.strip).map(|entry| {
        let visited = Visited { path: plan.found.path.clone(), entry: entry.clone() };
        Ok(visited)
    });
    let walk = TreeWalk::new(repository, &plan.chosen.snapshot, plan.found.prefix(), listing.clone());
    for visited in own.into_iter().chain(walk) {
        if monitor.interrupted() {
            return Err(Error::Interrupted.into());
        }
        let Visited { path, entry } = visited?;
        let stripped = path.get(plan.strip..).unwrap_or_default();
        monitor.item(&Item::new(&path, Action::Started));
        let called = match names.call(stripped) {
            Called::Itself => None,
            Called::Other(called, why) => {
                left_out.add_name(&path, &called, why);
                Some(called)
            }
            Called::Nothing(why) => {
                left_out.add(path, why);
                continue;
            }
        };
        let name = called.as_deref().unwrap_or(stripped);
        let earlier = match &entry.node {
            Node::File(content) if entry.metadata.links > 1 => {
                let key = (entry.metadata.device, entry.metadata.inode);
                let sum = sum_of(content);
                match links.get(&key) {
                    Some(linked) if linked.content == sum => Some(linked.name.clone()),
                    Some(_) => None,
                    None => {
                        links.insert(key, Linked { name: name.to_vec(), content: sum });
                        None
                    }
                }
            }
            _ => None,
        };
        match packer.begin(name, &entry, earlier.as_deref())? {
            Begun::Whole => {}
            Begun::Unfit(why) => left_out.add(path, why),
            Begun::Content => {
                if let Node::File(content) = &entry.node {
                    copy(repository, &path, content, monitor, &mut |piece| match piece {
                        Piece::Data(bytes) => packer.write(bytes),
                        Piece::Hole(mut length) => {
                            while length > 0 {
                                let now = length.min(ZEROS.len() as u64);
                                packer.write(&ZEROS[..now as usize])?;
                                length -= now;
                            }
                            Ok(())
                        }
                    })?;
                }
                packer.end()?;
            }
        }
    }
    packer.finish()?;
    Ok(left_out)
}

/// Equal exactly for equal contents.
fn sum_of(content: &Content) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&content.size.to_le_bytes());
    hasher.update(&content.digest.unwrap_or_default());
    for chunk in &content.chunks.chunks {
        hasher.update(chunk.id.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// A stream that has an end to be written.
trait Finish: Write {
    /// Writes it.
    fn finish(self) -> io::Result<()>;
}

impl Finish for &mut dyn Write {
    fn finish(self) -> io::Result<()> {
        self.flush()
    }
}

struct Gzip<'a>(flate2::write::GzEncoder<&'a mut dyn Write>);
struct Zstd<'a>(zstd::Encoder<'static, &'a mut dyn Write>);

impl Finish for Gzip<'_> {
    fn finish(self) -> io::Result<()> {
        self.0.finish()?.flush()
    }
}

impl Finish for Zstd<'_> {
    fn finish(self) -> io::Result<()> {
        self.0.finish()?.flush()
    }
}

macro_rules! passes_on {
    ($($name:ident),*) => {$(
        impl Write for $name<'_> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                self.0.flush()
            }
        }
    )*};
}
passes_on!(Gzip, Zstd);
