//! What a bucket says of itself: whether it keeps earlier versions, and whether there is a lock over its objects.

use quick_xml::de;
use serde::Deserialize;

use crate::storage::cause::{Keeping, Lock};

/// `GET /BUCKET?versioning`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Versioning {
    status: String,
}

/// `GET /BUCKET?object-lock`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ObjectLock {
    object_lock_enabled: String,
    rule: Option<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Rule {
    default_retention: Retention,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Retention {
    mode: String,
    days: Option<u64>,
    years: Option<u64>,
}

/// Reads both answers. None when the store says that it keeps nothing.
pub(super) fn read(versioning: Option<&str>, lock: Option<&str>) -> Option<Keeping> {
    let versioning: Versioning = versioning.and_then(|text| de::from_str(text).ok()).unwrap_or_default();
    let lock: ObjectLock = lock.and_then(|text| de::from_str(text).ok()).unwrap_or_default();
    let is_locked = lock.object_lock_enabled == "Enabled";
    let versions = versioning.status == "Enabled" || is_locked;
    let retention = lock.rule.unwrap_or_default().default_retention;
    let days = retention.days.or_else(|| retention.years.map(|years| years.saturating_mul(365)));
    let lock = is_locked.then_some(Lock { for_everybody: retention.mode == "COMPLIANCE", days });
    versions.then_some(Keeping { versions, lock })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bucket_keeps_is_read_from_its_answers() {
        let versions = |status: &str| {
            format!(
                "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>{status}</Status></VersioningConfiguration>"
            )
        };
        let locked = |rule: &str| {
            format!(
                "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}</ObjectLockConfiguration>"
            )
        };
        let rule = |mode: &str, span: &str| {
            format!("<Rule><DefaultRetention><Mode>{mode}</Mode>{span}</DefaultRetention></Rule>")
        };
        let lock = |for_everybody, days| Some(Keeping { versions: true, lock: Some(Lock { for_everybody, days }) });
        for (versioning, object_lock, expected) in [
            (None, None, None),
            (Some("<VersioningConfiguration/>".to_owned()), None, None),
            (Some(versions("Suspended")), None, None),
            (Some(versions("Enabled")), None, Some(Keeping { versions: true, lock: None })),
            (Some(versions("Enabled")), Some(locked("")), lock(false, None)),
            (Some(versions("Enabled")), Some(locked(&rule("GOVERNANCE", "<Days>30</Days>"))), lock(false, Some(30))),
            (None, Some(locked(&rule("COMPLIANCE", "<Years>2</Years>"))), lock(true, Some(730))),
            (Some("<html>".to_owned()), Some("no XML".to_owned()), None),
            (Some(String::new()), Some("<ObjectLockConfiguration><Rule/></ObjectLockConfiguration>".to_owned()), None),
        ] {
            assert_eq!(read(versioning.as_deref(), object_lock.as_deref()), expected, "{versioning:?} {object_lock:?}");
        }
    }
}
