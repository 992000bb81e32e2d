//! Copies of one repository in several places, read as one: what is damaged, missing or silent in one place comes from the next.
//!
//! - A name is a hash of the bytes, so whether a copy is damaged can be determined here, without knowing what it means. The config has no such
//!   name: whoever knows which one is right says so ([`Several::with_config`]).
//! - With one place every answer is that place's.
//! - With several, a place that does not answer is left out from then on, and remembered with what it said ([`Copy::silent`]). That says nothing
//!   of any object: whoever finds something missing has to look there first.
//! - What has to end this process's reading (an interruption, no more open files) is nobody's answer, and is handed on.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock};

use super::{Error, ErrorKind, Folder, Listed, ObjectName, Result, Storage, Upload};
use crate::base::id::ObjectId;

/// One place.
#[derive(Debug)]
pub struct Copy {
    /// What it is called in messages.
    pub name: String,
    storage: Arc<dyn Storage>,
    silent: OnceLock<String>,
}

impl Copy {
    /// Its objects.
    #[must_use]
    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// What it said when it did not answer; none while it does.
    #[must_use]
    pub fn silent(&self) -> Option<&str> {
        self.silent.get().map(String::as_str)
    }

    /// It is not asked any more, for this reason. The first one stays.
    pub fn give_up(&self, why: &str) {
        let _ = self.silent.set(why.to_owned());
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Several {
    copies: Vec<Copy>,
    config: Option<Vec<u8>>,
}

/// What ends every reading.
const fn ends(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Interrupted | ErrorKind::Shortage)
}

/// How much a failure says of the object, so that the one that says most is handed on.
const fn rank(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Length | ErrorKind::NoFile => 5,
        ErrorKind::Device => 4,
        ErrorKind::Absent => 3,
        ErrorKind::Unavailable | ErrorKind::Refused => 1,
        _ => 2,
    }
}

impl Several {
    /// One place.
    #[must_use]
    pub fn one(name: &str, storage: Arc<dyn Storage>) -> Self {
        let mut this = Self::default();
        this.add(name, storage);
        this
    }

    /// One more place, which is asked after the others.
    pub fn add(&mut self, name: &str, storage: Arc<dyn Storage>) {
        self.copies.push(Copy { name: name.to_owned(), storage, silent: OnceLock::new() });
    }

    /// The same with the config that is right, wherever it comes from.
    #[must_use]
    pub fn with_config(self, config: Vec<u8>) -> Self {
        Self { config: Some(config), ..self }
    }

    /// All places.
    #[must_use]
    pub fn copies(&self) -> &[Copy] {
        &self.copies
    }

    /// Those that answer.
    pub fn answering(&self) -> impl Iterator<Item = &Copy> {
        self.copies.iter().filter(|copy| copy.silent().is_none())
    }

    /// True when the others can go on without this place.
    #[must_use]
    pub const fn has_others(&self) -> bool {
        self.copies.len() > 1
    }

    fn ask<T>(
        &self,
        operation: &'static str,
        object: &dyn std::fmt::Display,
        mut ask: impl FnMut(&dyn Storage) -> Result<Option<T>>,
    ) -> Result<T> {
        if let [only] = self.copies.as_slice() {
            return ask(&*only.storage).and_then(|answer| answer.ok_or_else(|| silence(operation, object)));
        }
        let mut failed: Option<Error> = None;
        for copy in self.answering() {
            let error = match ask(&*copy.storage) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => continue,
                Err(error) if ends(error.kind) => return Err(error),
                Err(error) => error,
            };
            if error.kind.is_general() {
                copy.give_up(&error.to_string());
            }
            if failed.as_ref().is_none_or(|before| rank(before.kind) < rank(error.kind)) {
                failed = Some(error);
            }
        }
        Err(failed.unwrap_or_else(|| silence(operation, object)))
    }
}

fn silence(operation: &'static str, object: &dyn std::fmt::Display) -> Error {
    Error::new(operation, object, io::Error::other("none of the mirrors answers")).with_kind(ErrorKind::Unavailable)
}

fn refuse<T>(operation: &'static str, object: impl std::fmt::Display) -> Result<T> {
    let message = "mirrors are only read here";
    Err(Error::new(operation, object, io::Error::other(message)).with_kind(ErrorKind::Denied))
}

impl Storage for Several {
    fn create(&self) -> Result<Box<dyn Upload>> {
        refuse("write", "an object")
    }

    /// Bytes that are not what the name says are handed on when no place has better ones: the caller's check calls them damaged.
    fn read(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        if let (ObjectName::Config, Some(config)) = (name, &self.config) {
            return Ok(config.clone());
        }
        if let [only] = self.copies.as_slice() {
            return only.storage.read(name, limit);
        }
        let mut wrong = None;
        let read = self.ask("read", name, |storage| {
            let bytes = storage.read(name, limit)?;
            if name.id().is_none_or(|id| id == ObjectId::of(&bytes)) {
                return Ok(Some(bytes));
            }
            wrong.get_or_insert(bytes);
            Ok(None)
        });
        match (read, wrong) {
            (Err(error), Some(wrong)) if !ends(error.kind) => Ok(wrong),
            (read, _) => read,
        }
    }

    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Vec<u8>> {
        self.ask("read", name, |storage| storage.read_range(name, offset, length).map(Some))
    }

    fn length(&self, name: &ObjectName) -> Result<u64> {
        self.ask("read", name, |storage| storage.length(name).map(Some))
    }

    /// What any place that answers has. Of two lengths the greater one: the other may have been cut off.
    fn list(&self, folder: Folder) -> Result<Vec<Listed>> {
        if let [only] = self.copies.as_slice() {
            return only.storage.list(folder);
        }
        let (mut all, mut failed, mut heard) = (BTreeMap::new(), None, false);
        for copy in self.answering() {
            match copy.storage.list(folder) {
                Ok(listed) => {
                    heard = true;
                    for Listed { name, length } in listed {
                        let known = all.entry(name).or_insert(length);
                        *known = length.max(*known);
                    }
                }
                Err(error) if ends(error.kind) => return Err(error),
                Err(error) => {
                    copy.give_up(&error.to_string());
                    failed.get_or_insert(error);
                }
            }
        }
        if !heard {
            return Err(failed.unwrap_or_else(|| silence("list", &"heads")));
        }
        Ok(all.into_iter().map(|(name, length)| Listed { name, length }).collect())
    }

    fn strays(&self, _folder: Folder) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn remove(&self, name: &ObjectName) -> Result<()> {
        refuse("remove", name)
    }

    fn set_aside(&self, name: &ObjectName) -> Result<String> {
        refuse("move", name)
    }

    fn clean_temporary(&self) -> Result<u64> {
        refuse("remove", "tmp/")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::storage::MirrorStore;
    use crate::storage::memory::Memory;

    /// A place that does not answer.
    #[derive(Debug)]
    struct Dead(ErrorKind);

    impl Dead {
        fn fail<T>(&self, object: impl std::fmt::Display) -> Result<T> {
            Err(Error::new("read", object, io::Error::other("no route")).with_kind(self.0))
        }
    }

    impl Storage for Dead {
        fn create(&self) -> Result<Box<dyn Upload>> {
            self.fail("an object")
        }
        fn read(&self, name: &ObjectName, _: u64) -> Result<Vec<u8>> {
            self.fail(name)
        }
        fn read_range(&self, name: &ObjectName, _: u64, _: u64) -> Result<Vec<u8>> {
            self.fail(name)
        }
        fn length(&self, name: &ObjectName) -> Result<u64> {
            self.fail(name)
        }
        fn list(&self, _: Folder) -> Result<Vec<Listed>> {
            self.fail("heads")
        }
        fn strays(&self, _: Folder) -> Result<Vec<String>> {
            Ok(Vec::new())
        }
        fn remove(&self, name: &ObjectName) -> Result<()> {
            self.fail(name)
        }
        fn set_aside(&self, name: &ObjectName) -> Result<String> {
            self.fail(name)
        }
        fn clean_temporary(&self) -> Result<u64> {
            Ok(0)
        }
    }

    const BYTES: &[u8] = b"what the name says";

    fn name() -> ObjectName {
        ObjectName::Pack(ObjectId::of(BYTES))
    }

    fn holding(bytes: Option<&[u8]>) -> Arc<dyn Storage> {
        let memory = Memory::new();
        if let Some(bytes) = bytes {
            memory.replace(&name(), bytes).unwrap();
        }
        Arc::new(memory)
    }

    fn several(places: &[Arc<dyn Storage>]) -> Several {
        let mut all = Several::default();
        for (number, place) in places.iter().enumerate() {
            all.add(&number.to_string(), Arc::clone(place));
        }
        all
    }

    #[test]
    fn an_object_comes_from_the_first_place_that_has_it_sound() {
        let (good, none, bad) = (holding(Some(BYTES)), holding(None), holding(Some(b"rotten")));
        let dead = |kind| Arc::new(Dead(kind)) as Arc<dyn Storage>;
        let (silent, refused) = (dead(ErrorKind::Unavailable), dead(ErrorKind::Denied));
        type Told = std::result::Result<&'static [u8], ErrorKind>;
        type Case<'a> = (&'a [&'a Arc<dyn Storage>], Told, usize);
        let cases: &[Case<'_>] = &[
            (&[&good], Ok(BYTES), 0),
            (&[&none, &good], Ok(BYTES), 0),
            (&[&bad, &none, &good], Ok(BYTES), 0),
            (&[&silent, &good], Ok(BYTES), 1),
            (&[&refused, &good], Ok(BYTES), 0),
            // What is damaged is handed on, and what is missing everywhere it can be asked is missing.
            (&[&none, &bad], Ok(b"rotten"), 0),
            (&[&silent, &none], Err(ErrorKind::Absent), 1),
            (&[&refused, &none], Err(ErrorKind::Absent), 0),
            (&[&refused, &silent], Err(ErrorKind::Denied), 1),
            (&[&silent, &silent], Err(ErrorKind::Unavailable), 2),
            // One place's answer is its own, and it is asked again.
            (&[&silent], Err(ErrorKind::Unavailable), 0),
            (&[&bad], Ok(b"rotten"), 0),
            (&[], Err(ErrorKind::Unavailable), 0),
        ];
        for (number, (places, told, given_up)) in cases.iter().enumerate() {
            let all = several(&places.iter().map(|place| Arc::clone(place)).collect::<Vec<_>>());
            for _ in 0..2 {
                let read = all.read(&name(), 1 << 20);
                assert_eq!(read.as_deref().map_err(|error| error.kind), *told, "case {number}");
            }
            assert_eq!(all.copies().iter().filter(|copy| copy.silent().is_some()).count(), *given_up, "case {number}");
        }
    }

    #[test]
    fn what_ends_the_process_is_nobodys_answer() {
        for kind in [ErrorKind::Interrupted, ErrorKind::Shortage] {
            let all = several(&[Arc::new(Dead(kind)), holding(Some(BYTES))]);
            assert_eq!(all.read(&name(), 100).unwrap_err().kind, kind);
            assert_eq!(all.list(Folder::Packs).unwrap_err().kind, kind);
            assert!(all.copies().iter().all(|copy| copy.silent().is_none()));
        }
    }

    #[test]
    fn a_listing_is_of_all_that_answer() {
        let all = several(&[
            holding(Some(b"cut off")),
            Arc::new(Dead(ErrorKind::Denied)),
            holding(Some(BYTES)),
            holding(None),
        ]);
        let length = BYTES.len() as u64;
        assert_eq!(all.list(Folder::Packs).unwrap(), [Listed { name: name(), length }]);
        assert!(all.copies()[1].silent().is_some(), "what is not listed there may be there");
        let all = several(&[Arc::new(Dead(ErrorKind::Denied)), Arc::new(Dead(ErrorKind::Unavailable))]);
        assert_eq!(all.list(Folder::Packs).unwrap_err().kind, ErrorKind::Denied);
    }

    #[test]
    fn the_config_is_the_one_that_was_given() {
        let all = several(&[holding(None)]);
        assert_eq!(all.read(&ObjectName::Config, 256).unwrap_err().kind, ErrorKind::Absent);
        assert_eq!(all.with_config(vec![1; 256]).read(&ObjectName::Config, 256).unwrap(), [1; 256]);
    }
}
