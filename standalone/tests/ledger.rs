//! A run of the bench that is killed, and goes on: nothing lost, nothing sent twice. Over `ksched dev`, with the
//! programs as they are shipped.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

const COUNT: u64 = 12_000;
const RATE: u64 = 1_000;
/// What a kill may leave open: messages of the plan that are told to the ledger before they are sent, two seconds
/// of them, and those without an answer.
const OPEN: u64 = 3 * RATE;

/// Killed with whoever runs the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_run_that_is_killed_goes_on_and_proves_that_nothing_was_lost() {
    let [grpc, http, worker_http, kafka] = free_addresses();
    let mut dev = Command::new(env!("CARGO_BIN_EXE_ksched"));
    dev.args(["dev", "--listen", &grpc, "--http", &http, "--worker-http", &worker_http, "--kafka", &kafka]);
    let _dev = Running(dev.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());

    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ledger-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let ledger = dir.join("run.db");
    let bench = |goes_on: Option<&str>| {
        // Beside us, where cargo puts the workspace's programs.
        let mut bench = Command::new(Path::new(env!("CARGO_BIN_EXE_ksched")).with_file_name("ksched-client"));
        bench.args(["bench", "--server", &grpc, "--kafka", &kafka, "--door", "batch", "--output", "json"]);
        bench.args(["--rate", &RATE.to_string(), "--count", &COUNT.to_string(), "--delays", "0s..6s"]);
        bench.arg("--ledger").arg(&ledger).args(goes_on).stderr(Stdio::inherit());
        bench
    };
    for goes_on in [None, Some("--continue")] {
        let mut victim = Running(bench(goes_on).stdout(Stdio::null()).spawn().unwrap());
        let began_at = Instant::now();
        // From when there is something to lose.
        while !ledger.exists() {
            assert!(began_at.elapsed() < Duration::from_secs(60), "no ledger");
            assert!(victim.0.try_wait().unwrap().is_none(), "it ended by itself");
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(Duration::from_secs(3));
        victim.0.kill().unwrap();
        assert!(!victim.0.wait().unwrap().success());
        // What falls due now is read later.
        thread::sleep(Duration::from_secs(1));
    }
    let again = bench(None).output().unwrap();
    assert_eq!(again.status.code(), Some(2), "a ledger is not written over");
    let output = bench(Some("--continue")).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |name: &str| report[name].as_u64().unwrap();
    println!("{report}");
    for wrong in ["lost", "doubled", "early", "reordered", "corrupted", "invented", "refused"] {
        assert_eq!(count(wrong), 0, "{wrong} of {report}");
    }
    assert_eq!(count("planned"), COUNT);
    assert_eq!(count("acknowledged") + count("unknown"), COUNT);
    assert_eq!(count("delivered"), count("acknowledged") + count("unknown_delivered"));
    assert!(count("unknown") <= 2 * OPEN, "{report}");
    assert!(count("acknowledged") >= COUNT - 2 * OPEN, "{report}");
    std::fs::remove_dir_all(&dir).unwrap();
}

fn free_addresses() -> [String; 4] {
    let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().to_string())
}
