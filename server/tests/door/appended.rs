//! What is acknowledged is in the log, in its place, byte for byte.

use bytes::Bytes;
use ksched_core::{
    id::MessageId,
    message::{Header, Identity},
};
use ksched_proto::v1::{
    Attempt, BatchScheduleRequest, Header as WireHeader, ScheduleRequest, header, schedule_request,
    schedule_result,
};
use prost_types::Timestamp;
use tonic::Code;

use crate::harness::{delay, envelope_of, lane_of, request, start};

fn header(name: &str, value: Option<&'static [u8]>) -> WireHeader {
    let header_value = value.map(|bytes| header::HeaderValue::Value(Bytes::from_static(bytes)));
    WireHeader { name: name.to_owned(), header_value }
}

#[tokio::test]
async fn a_message_lies_in_its_bucket_byte_for_byte() {
    let door = start().await;
    let sent = ScheduleRequest {
        topic: "orders".to_owned(),
        partition: Some(3),
        record_key: Some(schedule_request::RecordKey::Key(Bytes::from_static(b"\x00\xffkey"))),
        record_value: Some(schedule_request::RecordValue::Value(Bytes::from_static(b"\xfe\x00"))),
        // The embedded broker folds headers of one name into one, so none is repeated.
        headers: vec![
            header("a", Some(b"1")),
            header("null", None),
            header("empty", Some(b"")),
            header("b", Some(b"\xff\x00")),
        ],
        when: Some(delay(90_000)),
        ..ScheduleRequest::default()
    };
    let answer = door.scheduler().schedule(sent).await.unwrap().into_inner();

    let records = door.appended().await;
    assert_eq!(records.len(), 1);
    let (record, envelope) = (&records[0], envelope_of(&records[0]));
    assert_eq!(record.content.key.as_deref(), Some(&b"\x00\xffkey"[..]));
    assert_eq!(record.content.value.as_deref(), Some(&b"\xfe\x00"[..]));
    let expected = [
        Header::new("a", &b"1"[..]),
        Header { name: "null".into(), value: None },
        Header::new("empty", &b""[..]),
        Header::new("b", &b"\xff\x00"[..]),
    ];
    assert_eq!(record.content.headers[1..], expected);
    assert_eq!((&*envelope.target.topic, envelope.target.partition), ("orders", Some(3)));

    let id: MessageId = answer.id.parse().unwrap();
    assert_eq!(id, envelope.id(lane_of(&door.config.cluster, record)));
    let due = answer.due_time.unwrap();
    assert_eq!(due.seconds * 1_000 + i64::from(due.nanos) / 1_000_000, envelope.due_ms);
    assert_eq!((record.source.topic.to_string(), record.source.partition), door.place_of(record));
    door.stop().await.unwrap();
}

#[tokio::test]
async fn each_due_time_finds_its_level() {
    let door = start().await;
    // Overdue, soon, in level 1, in level 2, beyond the horizon.
    let long_ago = schedule_request::When::DueTime(Timestamp { seconds: 1_000_000_000, nanos: 0 });
    let whens = [long_ago, delay(0), delay(45_000), delay(150_000), delay(86_400_000)];
    for (n, when) in whens.into_iter().enumerate() {
        let request = ScheduleRequest { when: Some(when), ..request(&format!("k{n}")) };
        door.scheduler().schedule(request).await.unwrap();
    }
    let records = door.appended().await;
    let topic_of = |key: &str| {
        let found = records.iter().find(|r| r.content.key.as_deref() == Some(key.as_bytes())).unwrap();
        assert_eq!((found.source.topic.to_string(), found.source.partition), door.place_of(found), "{key}");
        found.source.topic.to_string()
    };
    let topics = ["k0", "k1", "k2", "k3", "k4"].map(topic_of);
    let expected = ["ksched.due", "ksched.due", "ksched.wheel.1", "ksched.wheel.2", "ksched.wheel.2"];
    assert_eq!(topics, expected);
}

#[tokio::test]
async fn due_times_are_rounded_up_and_nulls_stay_nulls() {
    let door = start().await;
    let at = Timestamp { seconds: 1_900_000_000, nanos: 1 };
    let bare = ScheduleRequest {
        topic: "orders".to_owned(),
        when: Some(schedule_request::When::DueTime(at)),
        ..ScheduleRequest::default()
    };
    let answer = door.scheduler().schedule(bare).await.unwrap().into_inner();
    assert_eq!(answer.due_time, Some(Timestamp { seconds: 1_900_000_000, nanos: 1_000_000 }));
    let records = door.appended().await;
    assert_eq!((&records[0].content.key, &records[0].content.value), (&None, &None));
}

#[tokio::test]
async fn identities_travel_with_the_message_and_choose_the_lane() {
    let door = start().await;
    let now = std::time::SystemTime::now();
    let attempt = |number| Attempt { id: Bytes::from_static(&[7; 16]), number, first_at: Some(now.into()) };
    let keyless = || ScheduleRequest { record_key: None, ..request("") };
    for number in [1, 2] {
        let request = ScheduleRequest { attempt: Some(attempt(number)), ..keyless() };
        door.scheduler().schedule(request).await.unwrap();
    }
    for _ in 0..2 {
        let request =
            ScheduleRequest { request_id: "r-1".to_owned(), attempt: Some(attempt(1)), ..keyless() };
        door.scheduler().schedule(request).await.unwrap();
    }
    let records = door.appended().await;
    let of = |wanted: fn(&Identity) -> bool| -> Vec<_> {
        let found = records.iter().filter(|r| wanted(envelope_of(r).identity.as_ref().unwrap()));
        found.map(|r| lane_of(&door.config.cluster, r)).collect()
    };
    let attempts = of(|identity| matches!(identity, Identity::Attempt { id, .. } if *id == [7; 16]));
    let requests = of(|identity| matches!(identity, Identity::Request(id) if &**id == "r-1"));
    assert_eq!((attempts.len(), requests.len()), (2, 2));
    assert!(attempts[0] == attempts[1] && requests[0] == requests[1]);
    // Two messages, two stamps, even when they are the same message.
    let mut stamps: Vec<_> = records.iter().map(|r| envelope_of(r).scheduled_at_us).collect();
    stamps.sort_unstable();
    stamps.dedup();
    assert_eq!(stamps.len(), 4);
}

#[tokio::test]
async fn a_bad_item_spoils_no_other() {
    let door = start().await;
    let bad = |n: usize| n % 10 == 3;
    let requests = (0..500).map(|n| ScheduleRequest {
        topic: if bad(n) { "ksched.due".to_owned() } else { "orders".to_owned() },
        ..request(&n.to_string())
    });
    let batch = BatchScheduleRequest { requests: requests.collect() };
    let results = door.scheduler().batch_schedule(batch).await.unwrap().into_inner().results;
    assert_eq!(results.len(), 500);
    for (n, result) in results.iter().enumerate() {
        match result.result.as_ref().unwrap() {
            schedule_result::Result::Response(response) => {
                assert!(!bad(n) && response.id.parse::<MessageId>().is_ok(), "{n}");
            }
            schedule_result::Result::Error(status) => {
                assert!(bad(n), "{n}");
                assert_eq!(status.code, Code::InvalidArgument as i32);
                assert_eq!(status.details.len(), 2, "ErrorInfo and BadRequest are expected");
            }
        }
    }
    let mut keys: Vec<usize> = door
        .appended()
        .await
        .iter()
        .map(|r| std::str::from_utf8(r.content.key.as_ref().unwrap()).unwrap().parse().unwrap())
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..500).filter(|n| !bad(*n)).collect::<Vec<_>>());
}
