//! What a snapshot says of itself.

use crate::base::time::Time;
use crate::ops::backup::Labels;
use crate::ops::select::TagList;
use crate::tasks::failure::Failure;
use serde::Deserialize;
use std::path::PathBuf;

/// What is said of it; the rest is found out.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LabelRequest {
    /// A few words.
    pub label: Option<String>,
    /// Its tags.
    #[serde(deserialize_with = "crate::tasks::text_form::list")]
    pub tags: Vec<TagList>,
    /// The machine's name, if not the system's.
    pub host: Option<String>,
    /// Its time; that of the backup without one.
    #[serde(deserialize_with = "crate::tasks::text_form::moment")]
    pub time: Option<Time>,
}

impl LabelRequest {
    /// All tags, each once.
    #[must_use]
    pub fn tags(&self) -> Vec<String> {
        let mut tags: Vec<String> = self.tags.iter().flat_map(|TagList(tags)| tags.iter().cloned()).collect();
        tags.sort();
        tags.dedup();
        tags
    }

    /// The labels of a snapshot of these absolute paths, made with these options.
    ///
    /// # Errors
    /// When the system has no name, or one of them could not be stored.
    pub(in crate::tasks) fn resolve(&self, paths: Vec<Vec<u8>>, options: Vec<String>) -> Result<Labels, Failure> {
        let host = match &self.host {
            Some(host) => host.clone(),
            None => nix::unistd::gethostname()
                .map(|name| name.to_string_lossy().into_owned())
                .map_err(|error| Failure::failed("the system's host name cannot be determined").caused_by(error))?,
        };
        let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
        let labels = Labels {
            time: self.time,
            host,
            user: user.map(|user| user.name).unwrap_or_default(),
            label: self.label.clone().unwrap_or_default(),
            tags: self.tags(),
            paths,
            options,
        };
        labels.check()?;
        Ok(labels)
    }
}

/// The directory in which relative paths begin.
pub(in crate::tasks) fn current_directory() -> Result<PathBuf, Failure> {
    std::env::current_dir()
        .map_err(|error| Failure::failed("the current directory cannot be determined").caused_by(error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tags_are_kept_once() {
        let tags = |text: &str| text.parse::<TagList>().unwrap();
        let request = LabelRequest { tags: vec![tags("b,a"), tags("a")], ..LabelRequest::default() };
        assert_eq!(request.tags(), ["a", "b"]);
    }
}
