//! Names of users and groups, asked once each.

use crate::base::lock::lock;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;

use nix::unistd::{Gid, Group, Uid, User};

type Cache<K, V> = Mutex<HashMap<K, V>>;

/// Names of owners as this machine knows them, remembered for the life of this value: a lookup may go to a directory
/// service. Can be shared between threads.
#[derive(Debug, Default)]
pub struct Owners {
    users: Cache<u32, Vec<u8>>,
    groups: Cache<u32, Vec<u8>>,
    uids: Cache<Vec<u8>, Option<u32>>,
    gids: Cache<Vec<u8>, Option<u32>>,
}

fn cached<K: Eq + Hash + Clone, V: Clone>(cache: &Cache<K, V>, key: &K, ask: impl FnOnce() -> V) -> V {
    let mut cache = lock(cache);
    if let Some(value) = cache.get(key) {
        return value.clone();
    }
    let value = ask();
    cache.insert(key.clone(), value.clone());
    value
}

impl Owners {
    /// Knows nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Name of a user, empty when there is none.
    #[must_use]
    pub fn user(&self, uid: u32) -> Vec<u8> {
        cached(&self.users, &uid, || {
            User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name.into_bytes()).unwrap_or_default()
        })
    }

    /// Name of a group, empty when there is none.
    #[must_use]
    pub fn group(&self, gid: u32) -> Vec<u8> {
        cached(&self.groups, &gid, || {
            Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name.into_bytes()).unwrap_or_default()
        })
    }

    /// Number of a user by name.
    #[must_use]
    pub fn uid(&self, name: &[u8]) -> Option<u32> {
        cached(&self.uids, &name.to_vec(), || {
            let name = str::from_utf8(name).ok().filter(|name| !name.is_empty() && !name.contains('\0'))?;
            User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
        })
    }

    /// Number of a group by name.
    #[must_use]
    pub fn gid(&self, name: &[u8]) -> Option<u32> {
        cached(&self.gids, &name.to_vec(), || {
            let name = str::from_utf8(name).ok().filter(|name| !name.is_empty() && !name.contains('\0'))?;
            Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn root_is_known_by_name_and_number() {
        let owners = Owners::new();
        assert_eq!(owners.user(0), b"root");
        assert_eq!(owners.uid(b"root"), Some(0));
        assert_eq!(owners.user(0), b"root");
        assert_eq!(owners.uid(b"no\xffbody"), None);
        assert_eq!(owners.gid(b""), None);
        assert_eq!(owners.user(4_000_123_456), b"");
    }
}
