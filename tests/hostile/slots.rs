//! 15 slots of a stranger's that cost 4 GiB of memory times passes each: whoever types a passphrase waits for three of them, and not even that when he has
//! enough of it.

use std::fs;
use std::time::Duration;

use packstone::base::id::ObjectId;
use packstone::base::time::Time;
use packstone::codec::kdf::Params;
use packstone::codec::key_slot::{KeySlot, Secret};
use packstone::codec::key_tree::MasterKey;
use packstone::codec::live_state::{LiveState, SLOTS_MAX};
use packstone::storage::ObjectName;

use super::content::open;
use super::is_full;
use super::watched;
use super::world::World;

/// The most memory that one stretching takes, and what a command takes besides, in KiB.
const STRETCHING_KIB_MAX: u64 = Params::MEMORY_KIB_MAX as u64 + (100 << 10);

/// A repository that opens with its key file, and has as many such slots as there may be beside it.
fn world() -> World {
    let world = World::new();
    let repository = open(&world);
    let secret = Secret::Passphrase(b"nobody knows it".to_vec().into());
    let (master, keys) = (MasterKey::new([9; 32]), repository.keys());
    let slot = KeySlot::create(&master, keys, &secret, Params::DEFAULT, "", Time::now(), true, &[7; 32]).unwrap();
    let mut dear = Vec::new();
    for number in 1..SLOTS_MAX {
        // Nothing in a slot is authenticated before its secret is stretched.
        let mut bytes = slot.clone();
        bytes[12..16].copy_from_slice(&Params::MEMORY_KIB_MAX.to_le_bytes());
        bytes[16..20].copy_from_slice(&4_u32.to_le_bytes());
        bytes[20..24].copy_from_slice(&1_u32.to_le_bytes());
        bytes[64] = number as u8;
        let id = ObjectId::of(&bytes);
        repository.storage().put(&ObjectName::Key(id), &bytes).unwrap();
        dear.push(id);
    }
    let add = |state: &mut LiveState, _| {
        state.slots.extend(&dear);
        Ok(())
    };
    repository.append(add).unwrap();
    world
}

#[test]
fn slots_that_cost_minutes_cost_less() {
    let world = world();
    world.ok(&["snapshots"]);
    fs::write(world.path("wrong"), "a wrong passphrase").unwrap();
    let mut command = world.command(&["snapshots", "--password-file", "wrong"]);
    command.env_remove("PACKSTONE_KEY_FILE");
    // In the short form it is stopped in the middle of one stretching.
    let patience = Duration::from_secs(if is_full() { 180 } else { 1 });
    let ended = watched::run_up_to(command, patience, STRETCHING_KIB_MAX);
    assert!(ended.fault.is_none(), "{}", ended.shown());
    if ended.was_stopped {
        assert!(ended.code == Some(130) && !is_full(), "{}", ended.shown());
    } else {
        assert_eq!(ended.code, Some(12), "{}", ended.shown());
        assert!(ended.err.contains("3 tried; 12 not tried"), "{}", ended.shown());
    }
}
