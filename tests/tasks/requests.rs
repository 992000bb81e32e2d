//! Requests are plain data: a configuration and an API read them, and refuse what they do not know.

use crate::world::World;
use packstone::tasks::failure::Kind;
use packstone::tasks::{
    backup, cat, check, check_mirror, copy, deleted, diff, drill, dump, find, forget, hold, init, key, ls, mirror,
    prune, recover, repair, restore, rewrite, show, snapshots, stats, status, stream, sync, tag, undelete,
};
use serde::de::DeserializeOwned;
use std::time::Duration;

fn refuses_unknown_keys<T: DeserializeOwned>(name: &str) {
    assert!(serde_json::from_str::<T>("{}").is_ok(), "{name} has a form without any key");
    refuses_unknown_key_in::<T>(name, "{");
}

fn refuses_unknown_key_in<T: DeserializeOwned>(name: &str, begun: &str) {
    let error = serde_json::from_str::<T>(&format!(r#"{begun}"no-such-key": 1}}"#)).err().expect(name);
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
    refuses_unknown_keys::<copy::Request>("copy");
    refuses_unknown_keys::<deleted::Request>("deleted");
    refuses_unknown_keys::<dump::Request>("dump");
    refuses_unknown_keys::<find::Request>("find");
    refuses_unknown_keys::<forget::Request>("forget");
    refuses_unknown_keys::<hold::Request>("hold");
    refuses_unknown_keys::<ls::Request>("ls");
    refuses_unknown_keys::<prune::Request>("prune");
    refuses_unknown_keys::<restore::Request>("restore");
    refuses_unknown_keys::<rewrite::Request>("rewrite");
    refuses_unknown_keys::<show::Request>("show");
    refuses_unknown_keys::<snapshots::Request>("snapshots");
    refuses_unknown_keys::<stats::Request>("stats");
    refuses_unknown_keys::<tag::Request>("tag");
    refuses_unknown_keys::<undelete::Request>("undelete");
    refuses_unknown_keys::<key::add::Request>("key add");
    refuses_unknown_keys::<key::passwd::Request>("key passwd");
    refuses_unknown_keys::<key::remove::Request>("key remove");
    refuses_unknown_keys::<key::recovery_code::Request>("key recovery-code");
    refuses_unknown_keys::<key::kit::Request>("key kit");
    assert!(serde_json::from_str::<cat::Request>("{}").is_err());
    refuses_unknown_key_in::<cat::Request>("cat", r#"{"kind": "config", "#);
    // Both sides have to be named.
    assert!(serde_json::from_str::<diff::Request>("{}").is_err());
    refuses_unknown_key_in::<diff::Request>("diff", "{");
    refuses_unknown_keys::<repair::heads::Request>("repair heads");
    refuses_unknown_keys::<repair::index::Request>("repair index");
    refuses_unknown_keys::<repair::mirror::Request>("repair mirror");
    refuses_unknown_keys::<repair::objects::Request>("repair objects");
    refuses_unknown_keys::<repair::packs::Request>("repair packs");
    refuses_unknown_keys::<repair::snapshots::Request>("repair snapshots");
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

/// What the command line's own parsers refuse, a request must not let through: a drill of nothing would pass.
#[test]
fn numbers_have_their_limits() {
    let world = World::with_mirrors();
    let (environment, monitor) = (world.environment(), &world.listener);
    for (sample, connections) in [(0.0, 4), (-1.0, 4), (101.0, 4), (f64::NAN, 4), (10.0, 0), (10.0, 65)] {
        let request = drill::Request { sample: Some(sample), connections, all: true, ..drill::Request::default() };
        let failure = drill::run(&request, &environment, monitor, &|_| Ok(())).unwrap_err();
        assert_eq!(failure.kind(), Kind::Usage, "{sample} {connections}");
    }
    for (sample, max_delete, connections) in [(101.0, 50.0, 4), (1.0, 101.0, 4), (1.0, f64::NAN, 4), (1.0, 50.0, 0)] {
        let request = sync::Request { sample, max_delete, connections, ..sync::Request::default() };
        let failure = sync::run(&request, &environment, monitor, &|_, _| Ok(())).unwrap_err();
        assert_eq!(failure.kind(), Kind::Usage, "{sample} {max_delete} {connections}");
    }
    let long = sync::Request { grace: Some(Duration::from_secs(366 * 86_400)), ..sync::Request::default() };
    assert_eq!(sync::run(&long, &environment, monitor, &|_, _| Ok(())).unwrap_err().kind(), Kind::Usage);
    assert!(drill::list_history(None, 9, &environment).unwrap().drills.is_empty());
}
