//! `ksched-server` as an operator meets it: what it checks, and what it says while it waits.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_ksched-server"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KSCHED_")) {
        program.env_remove(name);
    }
    program
}

#[test]
fn settings_are_checked_without_anything_being_started() {
    let fine = program().args(["config", "check"]).env("KSCHED_LISTN", "a:1").output().unwrap();
    assert!(fine.status.success(), "{fine:?}");
    assert_eq!(String::from_utf8_lossy(&fine.stdout), "ok\n");
    let stderr = String::from_utf8_lossy(&fine.stderr);
    assert!(stderr.contains("KSCHED_LISTN is not a setting of this program"), "{stderr}");

    let open = program().args(["config", "check", "--listen", "0.0.0.0:50051"]).output().unwrap();
    assert_eq!(open.status.code(), Some(2), "{open:?}");
    let stderr = String::from_utf8_lossy(&open.stderr);
    assert!(open.stdout.is_empty() && stderr.contains("--insecure"), "{open:?}");
}

#[test]
fn it_says_at_once_where_it_looks_for_kafka() {
    let mut server = program()
        .args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--kafka", "127.0.0.1:1"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let first = BufReader::new(server.stderr.take().unwrap()).lines().next();
    server.kill().unwrap();
    server.wait().unwrap();
    let first = first.unwrap().unwrap();
    assert!(first.contains("starting") && first.contains("127.0.0.1:1"), "{first}");
}
