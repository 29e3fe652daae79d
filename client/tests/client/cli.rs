//! The command: arguments, exit codes, what goes to stdout.

use std::{
    ffi::OsStr,
    process::{Command, Output},
};

use crate::stub::Stub;

pub(crate) fn run(arguments: &[impl AsRef<OsStr>]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ksched-client"))
        .args(arguments)
        .env_remove("KSCHED_SERVER")
        .env_remove("KSCHED_KAFKA")
        .stdin(std::process::Stdio::null())
        .output()
        .expect("runs")
}

#[test]
fn wrong_usage_exits_2() {
    let wrong: [&[&str]; 9] = [
        &[],
        &["no-such-command"],
        &["schedule", "payload"],
        &["bench", "--count", "-5", "--kafka", "127.0.0.1:1"],
        &["bench", "--delays", "30s..1s", "--kafka", "127.0.0.1:1"],
        &["bench", "--door", "back", "--kafka", "127.0.0.1:1"],
        &["verify", "--topic", "t", "--kafka", "127.0.0.1:1"],
        &["top", "--interval", "0s"],
        // Its stdout is no terminal here.
        &["top"],
    ];
    for arguments in wrong {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn completions_go_to_stdout() {
    let output = run(&["completions", "bash"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("ksched-client"));
}

#[tokio::test(flavor = "multi_thread")]
async fn schedule_prints_id_and_due_time() {
    let server = Stub::new(|_, _| Ok(())).start().await;
    let address = server.address();
    let arguments = ["--server", &address, "--output", "json", "--header", "a=b", "--header", "a=c"];
    let schedule = ["schedule", "--topic", "orders", "--at", "1795000000250", "--key", "k1", "payload"];
    let output = tokio::task::spawn_blocking({
        let all: Vec<String> = schedule.iter().chain(&arguments).map(|s| (*s).to_owned()).collect();
        move || run(&all)
    });
    let output = output.await.expect("runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!(line, serde_json::json!({"id": "id-0", "due_time": "2026-11-18T11:06:40.250Z"}));
    let seen = server.seen.lock();
    let names: Vec<_> = seen[0].headers.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(names, ["a", "a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_a_message_in_its_order() {
    let server = Stub::new(|_, request| match &request.record_value {
        Some(ksched_proto::v1::schedule_request::RecordValue::Value(value)) if value == "bad" => {
            Err(tonic::Status::invalid_argument("no"))
        }
        _ => Ok(()),
    });
    let server = server.start().await;
    let file = std::env::temp_dir().join(format!("ksched-lines-{}", std::process::id()));
    std::fs::write(&file, "one\nbad\n\nfour").expect("writes");
    let (address, path) = (server.address(), file.display().to_string());
    let output = tokio::task::spawn_blocking(move || {
        run(&["schedule", "--topic", "t", "--delay", "9s", "--lines", "--file", &path, "--server", &address])
    });
    let output = output.await.expect("runs");
    std::fs::remove_file(file).expect("removes");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 2:"), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 3);
    assert_eq!(server.seen.lock().len(), 4, "an empty line is a message with an empty value");
}

#[test]
fn a_negative_delay_is_read_as_one() {
    let output = run(&["schedule", "--topic", "t", "--delay", "-5s", "payload"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("negative"), "{stderr}");
}

#[test]
fn a_wrong_address_is_answered_with_the_form_that_is_wanted() {
    for wrong in ["http://127.0.0.1:50051", "127.0.0.1", ":50051"] {
        let output = run(&["workers", "--server", wrong]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("HOST:PORT") && stderr.contains(wrong), "{stderr}");
    }
}

#[test]
fn an_absent_coordinator_is_named_soon_and_given_up() {
    // Bound and closed again: nothing listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let begun = std::time::Instant::now();
    let output = run(&["workers", "--server", &address.to_string()]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(15), "{:?}", begun.elapsed());
    for told in
        [format!("no answer from {address} yet"), format!("cannot reach {address}"), "--server".to_owned()]
    {
        assert!(stderr.contains(&told), "{told} in {stderr}");
    }
}

#[test]
fn an_absent_kafka_is_a_reason_that_may_pass() {
    // Bounded by the Kafka client's time-outs, not by the deadline of the calls to
    // coordinators, which is most of a minute.
    let output = run(&["tail", "t", "--kafka", "127.0.0.1:1", "-X", "socket.timeout.ms=1000"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
