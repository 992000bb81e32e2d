//! Credentials that AWS STS lends: `tests/servers/roles.py`, with a STS and a store of its own.

use std::process::Command;

#[test]
fn roles_are_taken_renewed_and_refused_in_words() {
    if !rustix::process::geteuid().is_root() {
        return println!("SKIPPED roles of AWS: they need root, for a network of their own");
    }
    for (program, argument) in
        [("unshare", "--version"), ("openssl", "version"), ("ip", "-V"), ("python3", "--version")]
    {
        if !Command::new(program).arg(argument).output().is_ok_and(|output| output.status.success()) {
            return println!("SKIPPED roles of AWS: they need {program}");
        }
    }
    if !Command::new("unshare").args(["-n", "-m", "true"]).status().is_ok_and(|status| status.success()) {
        return println!("SKIPPED roles of AWS: no namespace can be made");
    }
    let mut script = Command::new("python3");
    script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/roles.py"));
    script.args(["--packstone", env!("CARGO_BIN_EXE_packstone")]);
    if std::env::var_os("PACKSTONE_FULL").is_some() {
        script.arg("--full");
    }
    let output = script.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
}
