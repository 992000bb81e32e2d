//! Names of stored objects. Only these can exist: paths are built from parsed ids, never from a listing's text.

use std::fmt;

use crate::base::id::ObjectId;

/// A folder of the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Folder {
    /// `keys/`: key slots.
    Keys,
    /// `packs/<2 hex>/`: data packs and tree packs.
    Packs,
    /// `index/`: segments.
    Index,
    /// `snapshots/`.
    Snapshots,
    /// `heads/`.
    Heads,
}

impl Folder {
    /// Every folder, in the order of publishing.
    pub const ALL: [Self; 5] = [Self::Keys, Self::Packs, Self::Index, Self::Snapshots, Self::Heads];

    /// The folder's name in the repository.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Packs => "packs",
            Self::Index => "index",
            Self::Snapshots => "snapshots",
            Self::Heads => "heads",
        }
    }
}

/// The name of one stored object. Its path comes from [`fmt::Display`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectName {
    /// `config`.
    Config,
    /// `keys/<id>`.
    Key(ObjectId),
    /// `packs/<first 2 hex>/<id>`.
    Pack(ObjectId),
    /// `index/<id>`.
    Segment(ObjectId),
    /// `snapshots/<id>`.
    Snapshot(ObjectId),
    /// `heads/<generation as 16 hex>-<id>`.
    Head {
        /// Generation: 1 for the first head.
        generation: u64,
        /// Hash of its bytes.
        id: ObjectId,
    },
}

/// The text is no object name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a stored object")]
pub struct ParseNameError;

impl ObjectName {
    /// The folder it lies in; `config` lies in none.
    #[must_use]
    pub const fn folder(&self) -> Option<Folder> {
        match self {
            Self::Config => None,
            Self::Key(_) => Some(Folder::Keys),
            Self::Pack(_) => Some(Folder::Packs),
            Self::Segment(_) => Some(Folder::Index),
            Self::Snapshot(_) => Some(Folder::Snapshots),
            Self::Head { .. } => Some(Folder::Heads),
        }
    }

    /// The hash that the stored bytes must have; `config` is named by its place only.
    #[must_use]
    pub const fn id(&self) -> Option<ObjectId> {
        match self {
            Self::Config => None,
            Self::Key(id) | Self::Pack(id) | Self::Segment(id) | Self::Snapshot(id) | Self::Head { id, .. } => {
                Some(*id)
            }
        }
    }

    /// Reads a path as [`fmt::Display`] writes it; anything else, `..` included, is refused.
    pub fn parse(path: &str) -> Result<Self, ParseNameError> {
        let id = |text: &str| text.parse::<ObjectId>().map_err(|_| ParseNameError);
        if path == "config" {
            return Ok(Self::Config);
        }
        let (folder, rest) = path.split_once('/').ok_or(ParseNameError)?;
        match folder {
            "keys" => Ok(Self::Key(id(rest)?)),
            "index" => Ok(Self::Segment(id(rest)?)),
            "snapshots" => Ok(Self::Snapshot(id(rest)?)),
            "packs" => {
                let (fan, rest) = rest.split_once('/').ok_or(ParseNameError)?;
                let id = id(rest)?;
                if rest.get(..2) == Some(fan) { Ok(Self::Pack(id)) } else { Err(ParseNameError) }
            }
            "heads" => {
                let (generation, rest) = rest.split_once('-').ok_or(ParseNameError)?;
                let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
                if generation.len() != 16 || !generation.bytes().all(lower_hex) {
                    return Err(ParseNameError);
                }
                let generation = u64::from_str_radix(generation, 16).map_err(|_| ParseNameError)?;
                Ok(Self::Head { generation, id: id(rest)? })
            }
            _ => Err(ParseNameError),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("config"),
            Self::Key(id) => write!(f, "keys/{id}"),
            Self::Pack(id) => write!(f, "packs/{:02x}/{id}", id.0[0]),
            Self::Segment(id) => write!(f, "index/{id}"),
            Self::Snapshot(id) => write!(f, "snapshots/{id}"),
            Self::Head { generation, id } => write!(f, "heads/{generation:016x}-{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_print_and_parse_to_themselves() {
        let id = ObjectId::of(b"x");
        let head = ObjectName::Head { generation: 0x2a, id };
        for name in [
            ObjectName::Config,
            ObjectName::Key(id),
            ObjectName::Pack(id),
            ObjectName::Segment(id),
            ObjectName::Snapshot(id),
            head,
        ] {
            assert_eq!(ObjectName::parse(&name.to_string()), Ok(name));
        }
        assert!(head.to_string().starts_with("heads/000000000000002a-"));
    }

    #[test]
    fn paths_of_an_enemy_are_no_names() {
        let id = ObjectId::of(b"x").to_string();
        for path in [
            "..",
            "../config",
            "config/",
            "keys/",
            &format!("keys/../{id}"),
            &format!("packs/{id}"),
            &format!("packs/zz/{id}"),
            &format!("heads/2a-{id}"),
            &format!("heads/+00000000000002a-{id}"),
            &format!("/keys/{id}"),
            &format!("keys/{}", id.to_uppercase()),
        ] {
            assert_eq!(ObjectName::parse(path), Err(ParseNameError), "{path}");
        }
    }
}
