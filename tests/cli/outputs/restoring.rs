//! What brings files back.

use std::fs;

use super::super::reading::spoil_packs;
use super::{Page, two};

#[test]
fn restore() {
    let mut page = Page::new("restore");
    let (world, [first, second]) = two();
    let to = |target: &'static str, more: &[&'static str]| -> Vec<&'static str> {
        [&["restore", "latest", "--target", target], more].concat()
    };
    page.forms(&world, &to("back", &["--dry-run"]));
    page.run(&world, &to("back", &[]));
    page.run(&world, &to("back-2", &["--json"]));
    page.run(&world, &to("back-3", &["--quiet"]));
    page.run(&world, &to("back-4", &["-v"]));
    page.unordered(&world, &to("back-5", &["-vv"]), "restored");
    page.run(&world, &to("back-6", &["--verify"]));
    page.run(&world, &to("back-7", &["--include", "*.md", "--verify", "--json"]));
    page.run(&world, &["restore", &format!("{first}:tree/letters"), "--target", "back-8"]);
    page.title("Something is there already");
    page.run(&world, &to("back", &[]));
    fs::write(world.path("back/tree/notes.md"), "mine").unwrap();
    fs::write(world.path("back/tree/extra"), "more").unwrap();
    page.forms(&world, &to("back", &["--delete", "--dry-run"]));
    page.run(&world, &to("back", &["--overwrite", "never"]));
    page.run(&world, &to("back", &["--overwrite", "if-newer", "--json"]));
    page.run(&world, &to("back", &["--delete"]));
    page.title("Failing");
    page.run(&world, &["restore", "latest"]);
    page.run(&world, &["restore", "--target", "no"]);
    page.run(&world, &["restore", "0000", "--target", "no"]);
    page.run(&world, &["restore", "latest:absent", "--target", "no"]);
    page.run(&world, &["restore", "latest:absent", "--target", "no", "--json"]);
    page.run(&world, &to("no", &["--include", "absent"]));
    page.run(&world, &to("no", &["--include", "a", "--exclude", "b"]));
    page.run(&world, &to("key", &[]));
    page.run(&world, &to("no", &["--host", "nobody"]));
    page.run(&world, &to("no", &["--overwrite", "sometimes"]));
    page.run(&world, &to("repository", &["--delete"]));
    page.refusals(&world, &to("no", &[]));
    page.title("From a mirror");
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    world.ok(&["sync"]);
    page.run(&world, &["restore", "latest", "--target", "back-9", "--from", "offsite"]);
    page.run(&world, &["restore", "latest", "--target", "back-10", "--from", "offsite", "--json"]);
    page.title("The contents are damaged");
    spoil_packs(&world, "data");
    page.unordered(&world, &["restore", &second, "--target", "damaged"], "! ");
    page.unordered(&world, &["restore", &second, "--target", "damaged-2", "--json"], "{\"message_type\":\"error");
    page.unordered(&world, &["restore", &second, "--target", "damaged-3", "--quiet"], "! ");
    page.title("The listings are damaged");
    let (world, [_, second]) = two();
    spoil_packs(&world, "tree");
    page.unordered(&world, &["restore", &second, "--target", "damaged-4"], "! ");
    page.end();
}

#[test]
fn dump() {
    let mut page = Page::new("dump");
    let (world, [first, _]) = two();
    world.write("short", "one line\n");
    super::settle(&world.tree());
    super::backup(&world, 3, &[]);
    page.forms(&world, &["dump", "latest", "tree/short"]);
    page.run(&world, &["dump", "latest:tree/short"]);
    page.run(&world, &["dump", "latest", "tree/empty"]);
    page.run(&world, &["dump", "latest", "tree/short", "--target", "out"]);
    page.run(&world, &["dump", "latest", "tree/short", "--target", "out-2", "--json"]);
    page.run(&world, &["dump", "latest", "tree", "--target", "out.tar"]);
    page.run(&world, &["dump", "latest", "tree", "--archive", "zip", "--target", "out.zip", "-v"]);
    page.title("Failing");
    page.run(&world, &["dump", "latest", "tree/link"]);
    page.run(&world, &["dump", "latest", "--target", "whole.tar"]);
    page.run(&world, &["dump", "latest", "tree/absent"]);
    page.run(&world, &["dump", "latest:tree/absent", "--json"]);
    page.run(&world, &["dump", "0000", "tree/short"]);
    page.run(&world, &["dump", "latest:tree", "tree/short"]);
    page.run(&world, &["dump", "latest", "tree", "--archive", "rar"]);
    page.run(&world, &["dump", "latest", "tree/short", "--target", "no/such/place"]);
    page.run(&world, &["dump", "latest", "tree/short", "--target", "out"]);
    page.refusals(&world, &["dump", "latest", "tree/short"]);
    page.title("The contents are damaged");
    spoil_packs(&world, "data");
    page.run(&world, &["dump", &first, "tree/notes.md"]);
    page.run(&world, &["dump", "latest", "tree/short", "--json"]);
    page.run(&world, &["dump", "latest", "tree", "--target", "damaged.tar"]);
    page.end();
}
