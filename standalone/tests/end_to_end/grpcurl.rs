//! What an operator types first.

use std::{
    env,
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{bed::Bed, catch::Catch};

pub(crate) fn lists_and_schedules(bed: &Bed) {
    let topic = bed.target("grpcurl::lists_and_schedules");
    let catch = Catch::start(bed, &topic);
    for address in bed.cluster.coordinators() {
        let services = run(&[&address, "list"]);
        for service in
            ["ksched.v1.Scheduler", "ksched.v1.JobLeasing", "ksched.v1.Admin", "grpc.health.v1.Health"]
        {
            assert!(services.lines().any(|line| line == service), "{service} is not among\n{services}");
        }
        let health = run(&[&address, "grpc.health.v1.Health/Check"]);
        assert!(health.contains("\"SERVING\""), "{health}");
    }
    let address = &bed.cluster.coordinators()[1];
    let message = json!({"topic": topic, "key_text": "k", "value_text": "by hand", "delay": "2s",
        "headers": [{"name": "a", "value_text": "b"}]});
    let answer = run(&["-d", &message.to_string(), address, "ksched.v1.Scheduler/Schedule"]);
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert!(answer["dueTime"].is_string(), "{answer}");

    let caught = catch.wait_for(1, Duration::from_secs(10), |_| true);
    assert_eq!(caught.len(), 1, "{caught:?}");
    let one = &caught[0];
    assert_eq!(one.value(), "by hand");
    assert_eq!(one.header("a").as_deref(), Some("b"));
    assert_eq!(one.header("ksched-id").as_deref(), answer["id"].as_str());
    assert!((0..2_000).contains(&one.late_ms()), "{} ms late", one.late_ms());

    // A refusal names the field.
    let bad = json!({"topic": "__consumer_offsets", "delay": "2s"}).to_string();
    let refusal = grpcurl(&["-d", &bad, address, "ksched.v1.Scheduler/Schedule"]);
    let text = String::from_utf8_lossy(&refusal.stderr).into_owned();
    assert!(!refusal.status.success() && text.contains("InvalidArgument"), "{text}");
    assert!(text.contains("topic"), "{text}");
}

fn run(args: &[&str]) -> String {
    let output = grpcurl(args);
    assert!(output.status.success(), "grpcurl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn grpcurl(args: &[&str]) -> Output {
    let output = Command::new(program()).args(["-plaintext", "-max-time", "20"]).args(args).output();
    output.expect("grpcurl is needed here: scripts/install-parts test puts it into the cache's bin folder")
}

fn program() -> PathBuf {
    let cached = ksched_local::parts::cache_dir().map(|cache| cache.join("bin/grpcurl"));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|dir| dir.join("grpcurl")).find(|file| file.is_file());
    on_path.or(cached.ok().filter(|file| file.is_file())).unwrap_or_else(|| "grpcurl".into())
}
