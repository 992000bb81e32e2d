//! What the program does where the system gives it little: few open files, few threads, small files. It works with less, or
//! ends with 1 and names the limit; it is never damage, and never a property of a source.

use std::fs;
use std::process::Command;

use super::Ran;
use super::support::World;

/// The program under a shell's limits, such as `-n 64`. What whoever runs the tests has open counts too: it is closed.
fn limited(world: &World, limits: &str, words: &[&str]) -> Ran {
    let script = format!("exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; ulimit {limits} && exec \"$0\" \"$@\"");
    let program = world.command(&[]).get_program().to_owned();
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(program).args(words);
    with_environment(world, command).output().unwrap().into()
}

/// The program under strace, which injects what `rule` says; none where strace is missing or not allowed.
fn injected(world: &World, rule: &str, words: &[&str]) -> Option<Ran> {
    let mut probe = Command::new("strace");
    probe.args(["-o", "/dev/null", "true"]);
    if !probe.output().is_ok_and(|output| output.status.success()) {
        println!("SKIPPED limits: strace is missing, or nothing may be traced here");
        return None;
    }
    let program = world.command(&[]).get_program().to_owned();
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", rule]).arg(program).args(words);
    Some(with_environment(world, command).output().unwrap().into())
}

fn with_environment(world: &World, mut command: Command) -> Command {
    let ours = world.command(&[]);
    command.env_clear().current_dir(world.path(""));
    for (name, value) in ours.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command
}

fn same(one: &std::path::Path, other: &std::path::Path) -> bool {
    Command::new("diff").arg("-r").arg(one).arg(other).status().unwrap().success()
}

#[test]
fn a_restore_of_300_directories_needs_64_open_files() {
    let world = World::with_repository();
    for number in 0..300 {
        world.write(&format!("d{number}/inner/file"), format!("{number}"));
        world.write(&format!("d{number}/other"), format!("{number}").repeat(100));
    }
    world.backup();
    let ran = limited(&world, "-n 64", &["restore", "latest", "--target", "back", "--verify"]);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.out, ran.err);
    assert!(same(&world.tree(), &world.path("back/tree")));
    // The same again, over what is there.
    let ran = limited(&world, "-n 64", &["restore", "latest", "--target", "back", "--delete"]);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.out, ran.err);
    let ran = limited(&world, "-n 64", &["check", "--read-data"]);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.out, ran.err);
}

#[test]
fn a_backup_of_6000_directories_needs_256_open_files() {
    let world = World::with_repository();
    for number in 0..6_000 {
        world.write(&format!("{number}/file"), format!("{number}"));
    }
    let ran = limited(&world, "-n 256", &["backup", "--json", "tree"]);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.out, ran.err);
    let ran = world.ok(&["restore", "latest", "--target", "back"]);
    assert!(ran.err.is_empty(), "{}", ran.err);
    assert!(same(&world.tree(), &world.path("back/tree")));
}

/// Of each limit: either all of it, or exit code 1 and a sentence that names the limit.
#[test]
fn too_few_open_files_are_named_and_nothing_is_remembered() {
    let world = World::with_repository();
    for number in 0..40 {
        world.write(&format!("d{number}/file"), format!("{number}"));
    }
    world.backup();
    world.ok(&["mirror", "add", "m", world.path("mirror").to_str().unwrap()]);
    world.ok(&["sync"]);
    let commands: [&[&str]; 8] = [
        &["check", "--read-data"],
        &["backup", "--force", "tree"],
        &["restore", "latest", "--target", "out"],
        &["ls", "latest"],
        &["sync"],
        &["check", "--mirror", "m"],
        &["key", "list"],
        &["key", "add", "--new-key-file", "another"],
    ];
    let mut refused = 0;
    for files in (6..=16).chain([20, 24]) {
        for words in commands {
            let ran = limited(&world, &format!("-n {files}"), words);
            let said = format!("{words:?} with {files} files\n{}\n{}", ran.out, ran.err);
            match ran.code {
                Some(0) => {}
                Some(1) => {
                    refused += 1;
                    assert!(ran.err.contains("ulimit -n"), "{said}");
                    assert!(ran.err.contains("Too many open files"), "{said}");
                }
                other => panic!("{other:?}: {said}"),
            }
            for word in ["damaged:", "missing:", "panicked", "check who owns"] {
                assert!(!ran.err.contains(word) && !ran.out.contains(word), "{said}");
            }
            let _ = fs::remove_dir_all(world.path("out"));
        }
    }
    assert!(refused > 0, "at least with six files something is refused");
    world.ok(&["sync"]);
    world.ok(&["check", "--read-data"]);
}

#[test]
fn no_thread_is_no_panic() {
    let world = World::with_repository();
    world.write("file", "content");
    world.backup();
    for words in [["check", "--read-data"], ["backup", "tree"]] {
        let Some(ran) = injected(&world, "inject=clone,clone3:error=EAGAIN", &words) else { return };
        assert_eq!(ran.code, Some(1), "{words:?}\n{}", ran.err);
        assert!(ran.err.contains("cannot start a thread") && ran.err.contains("ulimit -u"), "{words:?}\n{}", ran.err);
        // From the n-th thread on: fewer do the work, or it is refused.
        for number in 2..24 {
            let rule = format!("inject=clone,clone3:error=EAGAIN:when={number}+");
            let Some(ran) = injected(&world, &rule, &words) else { return };
            let said = format!("{words:?} with {} threads\n{}\n{}", number - 1, ran.out, ran.err);
            match ran.code {
                Some(0) => {}
                Some(1) => assert!(ran.err.contains("cannot start a thread"), "{said}"),
                other => panic!("{other:?}: {said}"),
            }
        }
    }
    world.ok(&["check", "--read-data"]);
}

#[test]
fn a_limit_of_file_sizes_is_said() {
    let world = World::with_repository();
    world.write("file", "content");
    world.backup();
    let mut noise = vec![0; 2 << 20];
    let mut state = 1_u64;
    for byte in &mut noise {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    world.write("noise", noise);
    // Blocks of 512 bytes, or of 1,024 in some shells: far less than what the noise needs.
    let ran = limited(&world, "-f 200", &["--no-cache", "backup", "tree"]);
    assert_eq!(ran.code, Some(1), "{:?}\n{}\n{}", ran.code, ran.out, ran.err);
    assert!(ran.err.contains("ulimit -f"), "{}", ran.err);
    world.ok(&["check", "--read-data"]);
    world.backup();
}
