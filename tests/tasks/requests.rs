//! Requests are plain data: a configuration and an API read them, and refuse what they do not know.

use packstone::tasks::{backup, check, check_mirror, drill, init, mirror, recover, status, stream, sync};
use serde::de::DeserializeOwned;

fn refuses_unknown_keys<T: DeserializeOwned>(name: &str) {
    assert!(serde_json::from_str::<T>("{}").is_ok(), "{name} has a form without any key");
    let error = serde_json::from_str::<T>(r#"{"no-such-key": 1}"#).err().expect(name);
    assert!(error.to_string().contains("unknown field `no-such-key`"), "{name}: {error}");
}

#[test]
fn what_is_not_known_is_refused() {
    refuses_unknown_keys::<backup::Request>("backup");
    refuses_unknown_keys::<stream::Request>("stream");
    refuses_unknown_keys::<sync::Request>("sync");
    refuses_unknown_keys::<check::Request>("check");
    refuses_unknown_keys::<check_mirror::Request>("check mirror");
    refuses_unknown_keys::<drill::Request>("drill");
    refuses_unknown_keys::<recover::Request>("recover");
    refuses_unknown_keys::<status::Request>("status");
    refuses_unknown_keys::<init::Request>("init");
    refuses_unknown_keys::<mirror::AddRequest>("mirror add");
}

#[test]
fn values_are_written_as_they_are_typed() {
    let sync: sync::Request =
        serde_json::from_str(r#"{"mirrors": ["nas"], "limit-upload": "1M", "grace": "30d", "max-delete": 20.0}"#)
            .unwrap();
    assert_eq!((sync.limit_upload, sync.grace), (Some(1 << 20), Some(sync::GRACE)));
    assert!(serde_json::from_str::<sync::Request>(r#"{"grace": "soon"}"#).is_err());
    let check: check::Request = serde_json::from_str(r#"{"read-data-subset": "1/5"}"#).unwrap();
    assert_eq!(check.read_data_subset, Some(check::Subset::Part { part: 1, parts: 5 }));
}
