//! A mirror whose failures say that they are its own: a command has to do with the repository and with several mirrors, and what helps here does
//! not help there.

use std::sync::Arc;

use super::body::Body;
use super::cause::{Keeping, MirrorPlace};
use super::windows::Extent;
use super::{
    EndedUploads, Error, Folder, Leftovers, Listed, MirrorStore, ObjectName, Result, Storage, Stored, UnfinishedUpload,
    Uplink, Upload,
};

/// See the module.
#[derive(Debug)]
pub struct AtMirror<S> {
    inner: S,
    place: Arc<MirrorPlace>,
}

impl<S: MirrorStore> AtMirror<S> {
    /// The store at `place`.
    pub fn new(inner: S, place: MirrorPlace) -> Self {
        Self { inner, place: Arc::new(place) }
    }

    fn say<T>(&self, done: Result<T>) -> Result<T> {
        done.map_err(|error| error.at_mirror(&self.place))
    }
}

/// An upload to it.
struct UploadAtMirror {
    inner: Box<dyn Upload>,
    place: Arc<MirrorPlace>,
}

impl Upload for UploadAtMirror {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.inner.append(bytes).map_err(|error| error.at_mirror(&self.place))
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> Result<Stored> {
        let Self { inner, place } = *self;
        inner.finish(name).map_err(|error| error.at_mirror(&place))
    }
}

impl<S: MirrorStore> Storage for AtMirror<S> {
    fn create(&self) -> Result<Box<dyn Upload>> {
        let inner = self.say(self.inner.create())?;
        Ok(Box::new(UploadAtMirror { inner, place: Arc::clone(&self.place) }))
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<Stored> {
        self.say(self.inner.put(name, bytes))
    }

    fn read(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.say(self.inner.read(name, limit))
    }

    fn stream(&self, name: &ObjectName, limit: u64, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        // What whoever takes the bytes fails on is his, not the mirror's.
        let mut theirs: Option<Error> = None;
        let read = self.inner.stream(name, limit, &mut |bytes| {
            sink(bytes).map_err(|error| {
                let end =
                    Error::new(error.operation, &error.object, std::io::Error::other("ended")).with_kind(error.kind);
                theirs = Some(error);
                end
            })
        });
        match theirs {
            Some(error) => Err(error),
            None => self.say(read),
        }
    }

    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Vec<u8>> {
        self.say(self.inner.read_range(name, offset, length))
    }

    fn expect_ranges(&self, ranges: &mut dyn Iterator<Item = Extent>) {
        self.inner.expect_ranges(ranges);
    }

    fn learn_lengths(&self, lengths: &mut dyn Iterator<Item = (ObjectName, u64)>) {
        self.inner.learn_lengths(lengths);
    }

    fn length(&self, name: &ObjectName) -> Result<u64> {
        self.say(self.inner.length(name))
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>> {
        self.say(self.inner.list(folder))
    }

    fn strays(&self, folder: Folder) -> Result<Vec<String>> {
        self.say(self.inner.strays(folder))
    }

    fn settle(&self, name: &ObjectName) -> Result<()> {
        self.say(self.inner.settle(name))
    }

    fn remove(&self, name: &ObjectName) -> Result<()> {
        self.say(self.inner.remove(name))
    }

    fn set_aside(&self, name: &ObjectName) -> Result<String> {
        self.say(self.inner.set_aside(name))
    }

    fn clean_temporary(&self) -> Result<u64> {
        self.say(self.inner.clean_temporary())
    }
}

impl<S: MirrorStore> MirrorStore for AtMirror<S> {
    fn list_all(&self) -> Result<(Vec<Listed>, Vec<String>)> {
        self.say(self.inner.list_all())
    }

    fn discard(&self, name: &ObjectName) -> Result<()> {
        self.say(self.inner.discard(name))
    }

    fn expect_objects(&self, count: u64) {
        self.inner.expect_objects(count);
    }

    fn clean_leftovers(&self, owner: &str) -> Result<Leftovers> {
        self.say(self.inner.clean_leftovers(owner))
    }

    fn leftovers(&self) -> Leftovers {
        self.inner.leftovers()
    }

    fn end_unfinished(&self, ours: &[UnfinishedUpload], look: bool) -> EndedUploads {
        self.inner.end_unfinished(ours, look)
    }

    fn keeping(&self) -> Option<Keeping> {
        self.inner.keeping()
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        self.say(self.inner.replace(name, bytes))
    }

    fn send(&self, name: &ObjectName, body: &dyn Body, uplink: &Uplink<'_>) -> Result<()> {
        self.say(self.inner.send(name, body, uplink))
    }

    fn room(&self, length: u64) -> u64 {
        self.inner.room(length)
    }
}
