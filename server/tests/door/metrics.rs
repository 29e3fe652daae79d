//! What a coordinator counts, as Prometheus reads it.

use std::time::Duration;

use ksched_proto::v1::ScheduleRequest;
use tokio::time::{sleep, timeout};
use tonic::Code;

use crate::{
    harness::{Knocked, LONG, request, start},
    hostile::send_raw,
    page::fetch,
};

/// Waits until `/metrics` has all these lines: a call is counted when it is over, which its caller
/// may know a little earlier.
async fn shows(door: &Knocked, lines: &[&str]) {
    let mut last = String::new();
    let all = async {
        loop {
            last = fetch(door.http, "/metrics").await.1;
            if lines.iter().all(|line| last.lines().any(|told| told == *line)) {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let shown = timeout(LONG, all).await;
    assert!(shown.is_ok(), "{lines:?} are not all in\n{last}");
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code_and_made_up_names_are_not_labels() {
    let door = start().await;
    let mut scheduler = door.scheduler();
    for _ in 0..2 {
        scheduler.schedule(request("k")).await.unwrap();
    }
    scheduler.schedule(ScheduleRequest::default()).await.unwrap_err();
    for made_up in ["/ksched.v1.Scheduler/Scheduel", "/a.B/C"] {
        assert_eq!(send_raw(&door, made_up, &b""[..]).await.code(), Code::Unimplemented);
    }
    shows(
        &door,
        &[
            "ksched_grpc_calls_total{method=\"ksched.v1.Scheduler/Schedule\",code=\"OK\"} 2",
            "ksched_grpc_calls_total{method=\"ksched.v1.Scheduler/Schedule\",code=\"INVALID_ARGUMENT\"} 1",
            "ksched_grpc_calls_total{method=\"other\",code=\"UNIMPLEMENTED\"} 2",
            "ksched_grpc_call_seconds_count{method=\"ksched.v1.Scheduler/Schedule\"} 3",
        ],
    )
    .await;
    let (_, text) = fetch(door.http, "/metrics").await;
    assert!(!text.contains("Scheduel") && !text.contains("a.B"), "{text}");
    door.stop().await.unwrap();
}

#[tokio::test]
async fn what_nobody_holds_and_what_is_reached_is_told() {
    let door = start().await;
    door.scheduler().schedule(request("k")).await.unwrap();
    shows(
        &door,
        &[
            "ksched_jobs_without_holder{kind=\"lane\"} 2",
            "ksched_jobs_without_holder{kind=\"intake\"} 1",
            "ksched_ready{part=\"kafka\"} 1.0",
            "ksched_ready{part=\"store\"} 1.0",
            "ksched_making_jobs 1",
            "ksched_appends_in_flight 0",
        ],
    )
    .await;
    let (_, text) = fetch(door.http, "/metrics").await;
    let round_trip = text.lines().find_map(|line| line.strip_prefix("ksched_kafka_round_trip_seconds "));
    assert!(round_trip.unwrap().parse::<f64>().unwrap() > 0.0);
    door.stop().await.unwrap();
}
