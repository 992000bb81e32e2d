//! The structure of a repository: the newest head is sound, every live segment opens, and every pack that it lists is
//! there, whole, and holds what the segment says.

use std::collections::BTreeSet;

use packstone::base::id::ObjectId;
use packstone::codec::segment::SegmentPack;
use packstone::repository::{Repository, index, pack_reader};
use packstone::storage::Folder;

/// What is wrong with a repository, if anything. Packs that were given up are not asked for.
pub fn check(repository: &Repository, given_up: &BTreeSet<ObjectId>) -> Result<(), String> {
    let tip = repository.tip();
    if let Some((name, error)) = &tip.unreadable {
        return Err(format!("{name} cannot be read: {error}"));
    }
    if !tip.junk.is_empty() {
        return Err(format!("junk under heads/: {:?}", tip.junk));
    }
    let generation = tip.reference().generation;
    for (id, length) in &tip.state.segments {
        let segment = index::read_segment(repository.storage(), repository.keys(), *id, *length, generation);
        let live = |pack: &SegmentPack| !tip.state.swept.contains_key(&pack.id) && !given_up.contains(&pack.id);
        for pack in segment.map_err(|error| error.to_string())?.packs.into_iter().filter(live) {
            let (found, bytes) =
                pack_reader::read_whole(repository, pack.id, pack.length).map_err(|error| error.to_string())?;
            if found != pack {
                return Err(format!("pack {} is not what its segment says", pack.id.short()));
            }
            pack_reader::verify_blocks(repository, &found, &bytes)
                .map_err(|(block, error)| format!("pack {}, block {block}: {error}", pack.id.short()))?;
        }
    }
    for folder in Folder::ALL {
        let strays = repository.storage().strays(folder).map_err(|error| error.to_string())?;
        if !strays.is_empty() {
            return Err(format!("strays: {strays:?}"));
        }
    }
    Ok(())
}
