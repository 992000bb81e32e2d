//! `repair heads`: heads that cannot be read come back from a mirror, under their own names. Needs no secret.
//!
//! A head is put in place of a damaged one only when its bytes hash to its name; a damaged file is moved to `quarantine/` first, under the
//! append lock. An interruption between the two leaves the head missing, which a machine that has seen it notices; the same command goes
//! on. When what came does not follow what could be read before, it is moved away again. Setting back is
//! `repository/broken_heads.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Error, Monitor, Phase, Result, check};
use crate::repository;
use crate::repository::broken_heads::BrokenHeads;
use crate::repository::public_view::{self, Needed};
use crate::storage::{ErrorKind, MirrorStore, ObjectName};

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Heads that are right again, and the mirror that they are from.
    pub mended: Vec<(ObjectName, String)>,
    /// Heads that no mirror has, and what each said.
    pub lost: Vec<(ObjectName, String)>,
    /// Mirrors that did not answer: they may have what is lost.
    pub silent: BTreeSet<String>,
}

/// Brings what is wrong back from the first mirror that has it. `mirrors` are names and stores.
///
/// # Errors
/// The repository cannot be written; [`Error::Interrupted`]. What a mirror says is in the report.
pub fn fetch(
    broken: &BrokenHeads,
    mirrors: &[(String, Arc<dyn MirrorStore>)],
    monitor: &dyn Monitor,
) -> Result<Report> {
    monitor.phase(Phase::Fetch);
    monitor.expect(broken.wrong.len() as u64, 0, true);
    let mut report = Report::default();
    'heads: for (name, _) in &broken.wrong {
        let mut said = Vec::new();
        for (mirror, store) in mirrors {
            if monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            let needed = Needed { name: *name, length: None };
            match public_view::read_verified(&**store, &needed, broken.config_bytes()) {
                Ok(bytes) => {
                    broken.put(name, &bytes)?;
                    report.mended.push((*name, mirror.clone()));
                    monitor.advance(1, 0);
                    continue 'heads;
                }
                Err(error) => {
                    let is_answer = error.is_damage()
                        || matches!(&error, repository::Error::Storage(error) if error.kind == ErrorKind::Absent);
                    if !is_answer {
                        report.silent.insert(mirror.clone());
                    }
                    said.push(format!("{mirror}: {}", check::reason(&error)));
                }
            }
        }
        report.lost.push((*name, said.join("; ")));
        monitor.advance(1, 0);
    }
    Ok(report)
}
