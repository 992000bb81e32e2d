//! The walk: sources as a sorted, depth-first stream of steps.
//!
//! Invariants:
//! - The steps beneath one [`Step::Enter`] come in ascending order of name bytes and end with its [`Step::Leave`]: the
//!   order of entries in a stored tree, and of a parent snapshot read beside the walk.
//! - Every Enter has its Leave. A directory that cannot be listed is still entered (its own metadata is known) and
//!   the problem stands between.
//! - No recursion and no path handed to the kernel: depth costs one open directory a level.
//! - A directory's stat is taken from the opened directory itself, so it belongs to what was listed.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::vec;

use super::directory::{Directory, coarse_now, is_loop};
use super::exclude::{Excludes, Level};
use super::focus::Focus;
use super::listed::{ListedDirectories, Standing};
use super::own::OwnPlaces;
use super::source::{Base, Node, Root, Sources};
use super::stat::{Kind, Stat};
use crate::base::sys;
use crate::codec::snapshot::PATH_MAX;
use crate::codec::tree::DIRECTORY_DEPTH_MAX;

/// How often a name is looked at that is something else, or gone, a moment after it was looked at.
const LOOKS_MAX: usize = 8;

/// What the walk leaves out.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// By pattern, size, tag file, gitignore.
    pub excludes: Excludes,
    /// Do not enter other file systems than that of the source: a mount point is kept as an empty directory.
    pub one_file_system: bool,
    /// What is this program's own is never walked.
    pub own: Arc<OwnPlaces>,
}

/// A directory that begins.
#[derive(Debug)]
pub struct Enter {
    /// Its name.
    pub name: Vec<u8>,
    /// Its path in the snapshot, without a leading slash.
    pub path: Vec<u8>,
    /// What it is.
    pub stat: Stat,
    /// The open directory.
    pub directory: Arc<Directory>,
    /// It only leads to a source: just the wanted entries follow.
    pub ancestor: bool,
    /// It is kept as an empty directory: a mount point.
    pub closed: bool,
    /// It was named: a source.
    pub source: bool,
}

/// Anything that is not a directory.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: Vec<u8>,
    /// Its path in the snapshot, without a leading slash.
    pub path: Vec<u8>,
    /// What it is.
    pub stat: Stat,
    /// The directory in which it lies.
    pub parent: Arc<Directory>,
}

/// What went wrong with one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// A source that was named is not there.
    MissingSource,
    /// It was listed and gone a moment later.
    Vanished,
    /// It may not be read, or the disk cannot.
    Unreadable,
    /// Deeper, or with a longer path, than a stored tree may be: [`DIRECTORY_DEPTH_MAX`], [`PATH_MAX`].
    TooDeep,
    /// It is there, and was something else at each of several looks.
    Restless,
}

/// A path that could not be walked.
#[derive(Debug)]
pub struct Problem {
    /// Path in the snapshot, without a leading slash.
    pub path: Vec<u8>,
    /// Absolute path on disk.
    pub source_path: Vec<u8>,
    /// What kind of problem.
    pub kind: ProblemKind,
    /// What the system says.
    pub error: io::Error,
}

/// One step. See the module.
#[derive(Debug)]
pub enum Step {
    /// A directory begins.
    Enter(Enter),
    /// The directory entered last ends.
    Leave,
    /// Anything else.
    Entry(Entry),
    /// A path could not be walked; the walk goes on.
    Problem(Problem),
    /// The path is this program's own (see [`Rules::own`]) and was left out.
    Own(Vec<u8>),
}

struct Child {
    name: Vec<u8>,
    node: Option<Node>,
}

struct Frame {
    directory: Arc<Directory>,
    /// `None` until the directory is listed.
    children: Option<vec::IntoIter<Child>>,
    node: Option<Node>,
    /// Its names, when they were read already.
    names: Option<io::Result<Vec<Vec<u8>>>>,
    /// Everything beneath is wanted.
    wanted: bool,
    /// False when the directory is kept empty: a mount point, or skipped by the caller.
    enter: bool,
    device: u64,
    level: Level,
    /// Lengths of the two paths where this directory's own end.
    path_length: usize,
    source_length: usize,
}

/// Where a child stands: what its directory says about it.
struct Place<'a> {
    /// The directory's other entries are wanted too, so its excludes apply.
    listed: bool,
    device: Option<u64>,
    level: Option<&'a Level>,
}

/// There is nothing.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) || is_loop(error)
}

/// Something has the name, and it is no directory.
fn is_other_kind(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotADirectory || is_loop(error)
}

/// An iterator of [`Step`]. See the module.
pub struct Walk {
    rules: Rules,
    roots: vec::IntoIter<Root>,
    base: Option<Arc<Base>>,
    frames: Vec<Frame>,
    problems: Vec<Problem>,
    /// Present in a walk that goes over its sources again.
    focus: Option<Focus>,
    listed: ListedDirectories,
    /// Path of the current directory in the snapshot, and on disk.
    path: Vec<u8>,
    source_path: Vec<u8>,
}

impl Walk {
    /// A walk over the sources. Raises the soft limit of open files.
    #[must_use]
    pub fn new(sources: Sources, rules: Rules) -> Self {
        sys::raise_open_files();
        Self {
            rules,
            roots: sources.roots.into_iter(),
            base: None,
            frames: Vec::new(),
            problems: Vec::new(),
            focus: None,
            listed: ListedDirectories::default(),
            path: Vec::new(),
            source_path: Vec::new(),
        }
    }

    /// A walk over sources that were walked before, which looks at a part of them only.
    #[must_use]
    pub fn again(sources: Sources, rules: Rules, focus: Focus) -> Self {
        Self { focus: Some(focus), ..Self::new(sources, rules) }
    }

    /// True when the directory entered last is one to look at again, or leads to one, or when this walk looks at everything.
    #[must_use]
    pub fn is_in_focus(&self) -> bool {
        self.focus.as_ref().is_none_or(|focus| focus.holds(&self.path))
    }

    /// True when every name in the directory entered last is looked at; before the first, every name at the top.
    #[must_use]
    pub fn looks_at_all(&self) -> bool {
        self.focus.as_ref().is_none_or(|focus| focus.is_on(&self.path))
    }

    /// The directories that were listed.
    #[must_use]
    pub fn into_listed(self) -> ListedDirectories {
        self.listed
    }

    /// After [`Step::Enter`]: the entries of that directory are not walked; its Leave comes next.
    pub fn skip_children(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.enter = false;
            frame.children = None;
            frame.names = None;
            frame.node = None;
        }
        self.problems.clear();
    }

    /// Absolute path on disk of the directory in which the walk stands (entered last and not left), or of a name in it.
    #[must_use]
    pub fn source_path(&self, name: Option<&[u8]>) -> Vec<u8> {
        let mut path = self.source_path.clone();
        if let Some(name) = name {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }

    fn problem(&self, kind: ProblemKind, error: io::Error) -> Option<Step> {
        Some(Step::Problem(Problem { path: self.path.clone(), source_path: self.source_path.clone(), kind, error }))
    }

    fn leave(&mut self) -> Step {
        self.frames.pop();
        let base = self.base.as_ref().map_or(0, |base| base.path.len());
        let (path, source) = self.frames.last().map_or((0, base), |above| (above.path_length, above.source_length));
        self.path.truncate(path);
        self.source_path.truncate(source);
        Step::Leave
    }

    /// Lists the directory entered last.
    fn list(&mut self) {
        let Some(frame) = self.frames.last_mut() else { return };
        let wants = |name: &[u8]| self.focus.as_ref().is_none_or(|focus| focus.wants(&self.path, name));
        let mut children: Vec<Child> = Vec::new();
        let mut nodes = frame.node.take().map(|mut node| std::mem::take(&mut node.children)).unwrap_or_default();
        if frame.enter && frame.wanted {
            match frame.names.take().unwrap_or_else(|| frame.directory.names()) {
                Ok(names) => {
                    frame.level = self.rules.excludes.level(&frame.directory, &self.source_path, &names);
                    children.extend(names.into_iter().filter(|name| wants(name)).map(|name| {
                        let node = nodes.remove(&name);
                        Child { name, node }
                    }));
                }
                Err(error) => self.problems.push(Problem {
                    path: self.path.clone(),
                    source_path: self.source_path.clone(),
                    kind: ProblemKind::Unreadable,
                    error,
                }),
            }
        }
        if !nodes.is_empty() {
            // Named sources that the listing did not show: looked up by name, so that missing ones are reported.
            let nodes = nodes.into_iter().filter(|(name, _)| wants(name));
            children.extend(nodes.map(|(name, node)| Child { name, node: Some(node) }));
            children.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        }
        frame.children = Some(children.into_iter());
    }

    fn visit(&mut self, directory: &Arc<Directory>, child: Child, place: &Place<'_>) -> Option<Step> {
        let lengths = (self.path.len(), self.source_path.len());
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&child.name);
        self.source_path.push(b'/');
        self.source_path.extend_from_slice(&child.name);
        let frames = self.frames.len();
        let step = self.look(directory, child, place);
        if self.frames.len() == frames {
            self.path.truncate(lengths.0);
            self.source_path.truncate(lengths.1);
        }
        step
    }

    /// The paths already end in the child's name.
    fn look(&mut self, directory: &Arc<Directory>, child: Child, place: &Place<'_>) -> Option<Step> {
        let named = child.node.as_ref().is_some_and(|node| node.wanted);
        let mut leads = child.node.as_ref().is_some_and(|node| !node.children.is_empty());
        let follow = named && child.node.as_ref().is_some_and(|node| node.follow);
        let mut wanted = named || place.listed;
        // What was named is stored, as restic does; patterns decide about what is in it.
        if wanted && !named {
            let tagged = place.listed && place.level.is_some_and(|level| level.tag_rejects(&child.name));
            wanted = !tagged && !self.rules.excludes.rejects_path(&self.source_path);
        }
        if leads {
            // An ancestor of a source may be a symbolic link: the user named the path through it.
            match Stat::at_following(directory.as_fd(), &child.name) {
                Ok(found) if found.kind == Kind::Directory => {}
                other => {
                    leads = false;
                    self.lost(child.node.as_ref(), other.err().map_or(io::ErrorKind::NotADirectory, |e| e.kind()));
                }
            }
        }
        if !wanted && !leads {
            return None;
        }
        // Others may rename, remove and make what has this name at any moment: it is looked at again until one look and
        // the opening after it agree.
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for _ in 0..LOOKS_MAX {
            let seen = if leads || follow {
                Stat::at_following(directory.as_fd(), &child.name)
            } else {
                directory.stat(&child.name)
            };
            let stat = match seen {
                // What was named with a slash behind it is a directory, or it is not there.
                Ok(stat) if follow && stat.kind != Kind::Directory => {
                    return self.failed(named, io::ErrorKind::NotADirectory.into());
                }
                Ok(stat) => stat,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    last = error;
                    continue;
                }
                Err(error) => return self.failed(named, error),
            };
            let is_directory = stat.kind == Kind::Directory;
            if wanted
                && !named
                && (self.rules.excludes.rejects_stat(&stat)
                    || (place.listed && self.git_rejects(place.level, is_directory)))
            {
                wanted = false;
                if !leads {
                    return None;
                }
            }
            if self.rules.own.place(&child.name, &stat).is_some() {
                return Some(Step::Own(self.path.clone()));
            }
            if self.path.len() >= PATH_MAX {
                return Some(self.path_too_long(&child.name));
            }
            if !is_directory {
                return Some(Step::Entry(Entry {
                    name: child.name,
                    path: self.path.clone(),
                    stat,
                    parent: directory.clone(),
                }));
            }
            if self.frames.len() >= DIRECTORY_DEPTH_MAX {
                let error = io::Error::other(format!(
                    "more than {DIRECTORY_DEPTH_MAX} directories deep: it and what is in it is not stored. Name a directory \
                     on the way as a source of its own, relative to where it lies"
                ));
                return self.problem(ProblemKind::TooDeep, error);
            }
            let opened = if leads || follow {
                directory.open_child_following(&child.name)
            } else {
                directory.open_child(&child.name)
            };
            match opened.and_then(|directory| Ok((directory.stat_self()?, directory))) {
                Ok(opened) => return self.enter(directory, child, place, opened, wanted),
                Err(error) if is_other_kind(&error) || error.kind() == io::ErrorKind::NotFound => last = error,
                Err(error) => {
                    self.lost(child.node.as_ref(), error.kind());
                    return self.failed(named, error);
                }
            }
        }
        self.lost(child.node.as_ref(), last.kind());
        if is_other_kind(&last) {
            let error = io::Error::other("changes its kind again and again while it is looked at");
            return self.problem(ProblemKind::Restless, error);
        }
        self.failed(named, last)
    }

    /// Not even a problem could be stored under a path of that length: it stands at the directory.
    fn path_too_long(&self, name: &[u8]) -> Step {
        let above = self.path.len().saturating_sub(name.len() + 1);
        Step::Problem(Problem {
            path: self.path.get(..above).unwrap_or_default().to_vec(),
            source_path: self.source_path.clone(),
            kind: ProblemKind::TooDeep,
            error: io::Error::other(format!(
                "an entry of it is not stored: its path would have more than {PATH_MAX} bytes"
            )),
        })
    }

    /// A directory that is open begins.
    fn enter(
        &mut self,
        above: &Arc<Directory>,
        mut child: Child,
        place: &Place<'_>,
        (stat, directory): (Stat, Directory),
        wanted: bool,
    ) -> Option<Step> {
        let node = child.node.as_ref();
        let leads = node.is_some_and(|node| !node.children.is_empty());
        let follow = leads || node.is_some_and(|node| node.follow);
        let named = child.node.as_ref().is_some_and(|node| node.wanted);
        let opened = Arc::new(directory);
        let crosses = !named && place.device.is_some_and(|device| device != stat.device);
        let enter = !(self.rules.one_file_system && crosses && wanted);
        let standing = (enter && wanted).then(|| Standing::of(&stat, coarse_now()));
        let names = (enter && wanted).then(|| opened.names());
        let listed = names.as_ref().and_then(|names| names.as_deref().ok());
        if self.is_own(above, &child.name, (&opened, &stat), listed, follow) {
            return Some(Step::Own(self.path.clone()));
        }
        self.listed.push(self.frames.len(), &child.name, follow, standing);
        self.frames.push(Frame {
            directory: opened.clone(),
            children: None,
            node: child.node.take(),
            names,
            wanted,
            enter,
            device: stat.device,
            level: Level::default(),
            path_length: self.path.len(),
            source_length: self.source_path.len(),
        });
        Some(Step::Enter(Enter {
            name: child.name,
            path: self.path.clone(),
            stat,
            directory: opened,
            ancestor: !wanted,
            closed: !enter,
            source: named,
        }))
    }

    /// Whether an opened directory is this program's own. One on the way to a source that was reached through a link lies elsewhere
    /// than the walk has come from, so what is above it counts too.
    fn is_own(
        &self,
        parent: &Directory,
        name: &[u8],
        (directory, stat): (&Directory, &Stat),
        names: Option<&[Vec<u8>]>,
        leads: bool,
    ) -> bool {
        let own = &self.rules.own;
        let owner = if leads && parent.stat(name).is_ok_and(|stat| stat.kind == Kind::Symlink) {
            own.find(directory).ok().flatten().map(|found| found.owner)
        } else {
            let looked_into = leads || names.is_some();
            own.place(name, stat).or_else(|| looked_into.then(|| own.copy_in(directory, names)).flatten())
        };
        owner.is_some_and(|owner| owner.is_own())
    }

    /// What the path ends in cannot be looked at.
    fn failed(&self, named: bool, error: io::Error) -> Option<Step> {
        let kind = match (is_gone(&error), named) {
            (true, true) => ProblemKind::MissingSource,
            (true, false) => ProblemKind::Vanished,
            (false, _) => ProblemKind::Unreadable,
        };
        self.problem(kind, error)
    }

    /// The sources beneath a node cannot be reached: each is reported.
    fn lost(&mut self, node: Option<&Node>, error: io::ErrorKind) {
        let above = self.source_path.len() - self.path.len();
        for source_path in node.map(|node| node.sources_beneath(&self.source_path)).unwrap_or_default() {
            let error = io::Error::from(error);
            let kind = if is_gone(&error) { ProblemKind::MissingSource } else { ProblemKind::Unreadable };
            self.problems.push(Problem { path: source_path[above..].to_vec(), source_path, kind, error });
        }
    }

    /// The nearest `.gitignore` that says something decides.
    fn git_rejects(&self, level: Option<&Level>, is_directory: bool) -> bool {
        let whole = self.base.as_ref().and_then(|base| base.whole.as_ref()).map(|(level, _)| level);
        let above = self.frames.iter().rev().map(|frame| &frame.level);
        level.into_iter().chain(above).chain(whole).find_map(|l| l.git_rejects(&self.source_path, is_directory))
            == Some(true)
    }

    fn next_root(&mut self) -> Option<Option<Step>> {
        let root = self.roots.next()?;
        if self.focus.as_ref().is_some_and(|focus| !focus.wants(b"", &root.name)) {
            return Some(None);
        }
        if self.base.as_ref().is_none_or(|base| !Arc::ptr_eq(base, &root.base)) {
            self.listed.begin(&root.base.directory);
        }
        self.path.clear();
        self.source_path.clear();
        self.source_path.extend_from_slice(&root.base.path);
        let base = root.base;
        self.base = Some(base.clone());
        let mut child = Child { name: root.name, node: Some(root.node) };
        if root.expanded {
            // As if the base had been listed: its excludes apply, and only what leads to named sources is kept as node.
            if let Some(node) = child.node.as_mut() {
                node.wanted = false;
            }
            child.node = child.node.filter(|node| !node.children.is_empty());
        }
        let place = Place {
            listed: root.expanded,
            device: base.whole.as_ref().map(|(_, device)| *device),
            level: base.whole.as_ref().map(|(level, _)| level),
        };
        let directory = base.directory.clone();
        if self.rules.own.find(&directory).ok().flatten().is_some_and(|found| found.owner.is_own()) {
            return Some(Some(Step::Own(child.name)));
        }
        Some(self.visit(&directory, child, &place))
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(problem) = self.problems.pop() {
                return Some(Step::Problem(problem));
            }
            let Some(frame) = self.frames.last_mut() else {
                match self.next_root()? {
                    Some(step) => return Some(step),
                    None => continue,
                }
            };
            self.path.truncate(frame.path_length);
            self.source_path.truncate(frame.source_length);
            let Some(children) = frame.children.as_mut() else {
                if frame.enter || frame.node.is_some() {
                    self.list();
                    continue;
                }
                return Some(self.leave());
            };
            let Some(child) = children.next() else { return Some(self.leave()) };
            let directory = frame.directory.clone();
            let level = std::mem::take(&mut frame.level);
            let place = Place { listed: frame.wanted, device: Some(frame.device), level: Some(&level) };
            let at = self.frames.len() - 1;
            let step = self.visit(&directory, child, &place);
            self.frames[at].level = level;
            if step.is_some() {
                return step;
            }
        }
    }
}
