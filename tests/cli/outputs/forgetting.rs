//! What removes snapshots and what they held, and brings them back.

use super::storing::two_hosts;
use super::{Page, two};

#[test]
fn forget() {
    let mut page = Page::new("forget");
    let (world, [first, second, _]) = two_hosts();
    page.forms(&world, &["forget", "--keep-last", "1", "--dry-run"]);
    page.forms(&world, &["forget", "--keep-last", "1", "--keep-tag", "spring", "--compact", "--dry-run"]);
    page.forms(&world, &["forget", "--keep-daily", "7", "--group-by", "", "--dry-run"]);
    page.forms(&world, &["forget", &second, "--dry-run", "--prune"]);
    page.run(&world, &["forget", &first]);
    world.ok(&["undelete", &first]);
    page.run(&world, &["forget", &first, "--json"]);
    world.ok(&["undelete", &first]);
    page.run(&world, &["forget", "--keep-last", "1", "--json"]);
    world.ok(&["undelete", &first]);
    page.run(&world, &["forget", "--keep-last", "1", "--quiet"]);
    world.ok(&["undelete", &first]);
    page.run(&world, &["forget", "--keep-last", "1", "-v"]);
    world.ok(&["undelete", &first]);
    page.run(&world, &["forget", "--keep-last", "1", "--prune"]);
    page.run(&world, &["forget", "--keep-last", "1"]);
    world.ok(&["hold", "latest"]);
    page.run(&world, &["forget", "--keep-last", "1", "--json"]);
    page.run(&world, &["forget", "latest"]);
    page.title("Failing");
    page.run(&world, &["forget"]);
    page.run(&world, &["forget", "--json"]);
    page.run(&world, &["forget", "0000"]);
    page.run(&world, &["forget", "--keep-last", "0"]);
    page.run(&world, &["forget", "--keep-last", "many"]);
    page.run(&world, &["forget", "--keep-within", "never"]);
    page.run(&world, &["forget", "--unsafe-allow-remove-all"]);
    page.run(&world, &["forget", "--keep-last", "1", "--grace", "1d"]);
    page.run(&world, &["forget", "--keep-last", "1", "--prune", "--instant", "--grace", "1d"]);
    page.run(&world, &["forget", "--keep-last", "1", "--tag", "nobody"]);
    page.run(&world, &["forget", "--keep-last", "1", "--group-by", "colour"]);
    page.refusals(&world, &["forget", "--keep-last", "1"]);
    page.locked(&world, &["forget", "--keep-last", "1"]);
    page.locked(&world, &["forget", &second]);
    page.end();
}

#[test]
fn undelete() {
    let mut page = Page::new("undelete");
    let (world, [first, second]) = two();
    page.forms(&world, &["undelete"]);
    world.ok(&["forget", &first]);
    page.forms(&world, &["undelete"]);
    page.forms(&world, &["undelete", &first[..8], "--dry-run"]);
    page.run(&world, &["undelete", &first[..8]]);
    page.run(&world, &["undelete", &first[..8]]);
    world.ok(&["forget", &first]);
    page.run(&world, &["undelete", &first, "--json"]);
    world.ok(&["forget", &first]);
    page.run(&world, &["undelete", &first, "--quiet"]);
    page.run(&world, &["undelete", &second]);
    page.title("Failing");
    page.run(&world, &["undelete", "0000"]);
    page.run(&world, &["undelete", "0000", "--json"]);
    page.run(&world, &["undelete", "zz"]);
    page.refusals(&world, &["undelete"]);
    world.ok(&["forget", &first]);
    page.locked(&world, &["undelete", &first]);
    world.ok(&["prune", "--instant"]);
    page.title("It was swept");
    page.run(&world, &["undelete"]);
    page.run(&world, &["undelete", &first]);
    page.end();
}

#[test]
fn prune() {
    let mut page = Page::new("prune");
    let (world, [first, _]) = two();
    page.forms(&world, &["prune"]);
    world.ok(&["forget", &first]);
    page.forms(&world, &["prune", "--dry-run"]);
    page.forms(&world, &["prune", "--dry-run", "--max-unused", "0"]);
    page.run(&world, &["prune"]);
    page.run(&world, &["prune", "--max-unused", "0"]);
    page.forms(&world, &["prune", "--dry-run", "--instant"]);
    page.run(&world, &["prune", "--instant", "--json"]);
    page.run(&world, &["prune", "--instant"]);
    page.title("Once more, at once");
    let (world, [first, _]) = two();
    world.ok(&["forget", &first]);
    page.run(&world, &["prune", "--instant", "--max-unused", "0"]);
    let (world, [first, _]) = two();
    world.ok(&["forget", &first]);
    page.run(&world, &["prune", "--instant", "--max-unused", "0", "-v"]);
    page.title("Failing");
    page.run(&world, &["prune", "--max-unused", "some"]);
    page.run(&world, &["prune", "--instant", "--grace", "1d"]);
    page.run(&world, &["prune", "--grace", "never"]);
    page.refusals(&world, &["prune"]);
    page.locked(&world, &["prune"]);
    let packs = super::super::support::files_beneath(&world.repository().join("packs"));
    packs.iter().for_each(|pack| std::fs::remove_file(pack).unwrap());
    page.title("The packs are lost");
    page.run(&world, &["prune", "--json"]);
    page.run(&world, &["prune"]);
    page.end();
}
