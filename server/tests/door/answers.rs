//! How refusals are told: together, by name, for batches.

use ksched_proto::v1::{
    BatchScheduleRequest, Header, LatePolicy, ScheduleRequest, schedule_request, schedule_result,
};
use prost_types::{Duration, Timestamp};
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{request, start};

type Change = fn(&mut ScheduleRequest);

fn due(seconds: i64, nanos: i32) -> schedule_request::When {
    schedule_request::When::DueTime(Timestamp { seconds, nanos })
}

fn header(name: &str) -> Header {
    Header { name: name.to_owned(), header_value: None }
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
    let changes: [(Change, &str); 4] = [
        (|r| r.id = "mine".into(), "id"),
        (|r| r.max_lateness = Some(Duration { seconds: 5, nanos: 0 }), "max_lateness"),
        (|r| r.set_late_policy(LatePolicy::Fire), "late_policy"),
        (|r| r.late_policy = 99, "late_policy"),
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

/// Two faults in each item once made an answer beyond the 4 MiB that clients read, and
/// it was left open what had been scheduled.
#[tokio::test]
async fn the_answer_to_a_batch_of_nothing_but_faults_can_be_read() {
    let door = start().await;
    let faulty = ScheduleRequest { headers: vec![header("ks"); 16], ..ScheduleRequest::default() };
    let mut requests = vec![faulty; 9_999];
    requests.push(request("fine"));
    let batch = BatchScheduleRequest { requests };
    let results = door.scheduler().batch_schedule(batch).await.unwrap().into_inner().results;
    assert_eq!(results.len(), 10_000);
    let errors: Vec<_> = results
        .into_iter()
        .filter_map(|r| match r.result.unwrap() {
            schedule_result::Result::Error(status) => Some(status),
            schedule_result::Result::Response(_) => None,
        })
        .collect();
    assert_eq!(errors.len(), 9_999);
    assert!(errors.iter().all(|status| status.code == Code::InvalidArgument as i32));
    assert!(
        errors.iter().all(|status| status.message.contains("TOPIC_MISSING") || status.details.len() == 2)
    );
    assert_eq!((errors[0].details.len(), errors[9_998].details.len()), (2, 1));
    assert_eq!(door.appended().await.len(), 1);
}
