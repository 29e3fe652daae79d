//! What is refused, and how it is told.

use bytes::Bytes;
use ksched_proto::v1::{
    Attempt, BatchScheduleRequest, Header, LatePolicy, ScheduleRequest, schedule_request,
};
use prost_types::{Duration, Timestamp};
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{request, start};

type Change = fn(&mut ScheduleRequest);

/// A fault, the field it is in, and the reason a machine reads.
const FAULTS: [(Change, &str, &str); 15] = [
    (|r| r.topic.clear(), "topic", "TOPIC_MISSING"),
    (|r| r.topic = "a b".into(), "topic", "TOPIC_ILLEGAL"),
    (|r| r.topic = "t".repeat(250), "topic", "TOPIC_TOO_LONG"),
    (|r| r.topic = "SCHEDULED_MESSAGES".into(), "topic", "TOPIC_INTERNAL"),
    (|r| r.partition = Some(-1), "partition", "PARTITION_NEGATIVE"),
    (|r| r.when = None, "due_time", "DUE_TIME_MISSING"),
    (|r| r.when = Some(due(i64::MAX, 0)), "due_time", "DUE_TIME_OUT_OF_RANGE"),
    (|r| r.when = Some(due(1_900_000_000, -1)), "due_time", "TIME_MALFORMED"),
    (
        |r| r.when = Some(schedule_request::When::Delay(Duration { seconds: -1, nanos: 0 })),
        "delay",
        "DELAY_NEGATIVE",
    ),
    (|r| r.headers = vec![header("fine"), header("ksched-id")], "headers[1].name", "HEADER_NAME_RESERVED"),
    (|r| r.headers = vec![header("")], "headers[0].name", "HEADER_NAME_MISSING"),
    (|r| r.request_id = "a b".into(), "request_id", "REQUEST_ID_ILLEGAL"),
    (|r| r.attempt = Some(attempt(3, 1)), "attempt.id", "ATTEMPT_ID_LENGTH"),
    (|r| r.attempt = Some(attempt(16, 0)), "attempt.number", "ATTEMPT_NUMBER_MISSING"),
    (|r| r.record_value = Some(value(2 << 20)), "", "MESSAGE_TOO_LARGE"),
];

fn due(seconds: i64, nanos: i32) -> schedule_request::When {
    schedule_request::When::DueTime(Timestamp { seconds, nanos })
}

fn header(name: &str) -> Header {
    Header { name: name.to_owned(), header_value: None }
}

fn attempt(id_bytes: usize, number: u32) -> Attempt {
    let now = std::time::SystemTime::now();
    Attempt { id: Bytes::from(vec![1; id_bytes]), number, first_at: Some(now.into()) }
}

fn value(bytes: usize) -> schedule_request::RecordValue {
    schedule_request::RecordValue::Value(Bytes::from(vec![0; bytes]))
}

#[tokio::test]
async fn each_fault_names_its_field_and_reason() {
    let door = start().await;
    for (change, field, reason) in FAULTS {
        let mut faulty = request("k");
        change(&mut faulty);
        let status = door.scheduler().schedule(faulty).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{reason}: {status:?}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        let told: Vec<_> = violations.iter().map(|v| (&*v.field, &*v.reason)).collect();
        assert_eq!(told, [(field, reason)]);
        assert!(!violations[0].description.is_empty());
        let info = status.get_details_error_info().unwrap();
        assert_eq!((&*info.domain, &*info.reason), ("ksched", reason));
    }
    assert!(door.appended().await.is_empty());
}

#[tokio::test]
async fn several_faults_are_told_together() {
    let door = start().await;
    let faulty = ScheduleRequest {
        topic: "a/b".to_owned(),
        when: Some(due(0, -5)),
        headers: vec![header("ks")],
        ..request("k")
    };
    let status = door.scheduler().schedule(faulty).await.unwrap_err();
    let mut fields: Vec<_> =
        status.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect();
    fields.sort();
    assert_eq!(fields, ["due_time", "headers[0].name", "topic"]);
}

#[tokio::test]
async fn what_is_not_built_is_refused_by_name() {
    let door = start().await;
    let changes: [(Change, &str); 3] = [
        (|r| r.id = "mine".into(), "id"),
        (|r| r.max_lateness = Some(Duration { seconds: 5, nanos: 0 }), "max_lateness"),
        (|r| r.set_late_policy(LatePolicy::Fire), "late_policy"),
    ];
    for (change, field) in changes {
        let mut early = request("k");
        change(&mut early);
        let status = door.scheduler().schedule(early).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{field}");
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, field);
        assert_eq!(status.get_details_error_info().unwrap().reason, "NOT_BUILT");
    }
}

#[tokio::test]
async fn a_batch_has_a_limit() {
    let door = start().await;
    let batch = |n: usize| BatchScheduleRequest { requests: vec![ScheduleRequest::default(); n] };
    let status = door.scheduler().batch_schedule(batch(10_001)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "requests");
    assert!(door.scheduler().batch_schedule(batch(0)).await.unwrap().into_inner().results.is_empty());
}
