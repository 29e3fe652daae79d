//! Every line of "bad input" at the gRPC door: a request, and the field, reason and
//! description with which it is refused, or that it is taken.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ksched_core::validate::Limits;
use ksched_proto::v1::{
    Attempt, BatchScheduleRequest, Header, HeldJob, RegisterWorkerRequest, ReleaseJobsRequest,
    ScheduleRequest, ScheduleStreamRequest, WorkerLease,
    header::HeaderValue,
    job_leasing_client::JobLeasingClient,
    schedule_request::{RecordKey, RecordValue, When},
    schedule_result,
};
use prost_types::Timestamp;
use tokio::time::timeout;
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_types::StatusExt;

use crate::{
    harness::{Knocked, LONG, request, start},
    raw::RawCodec,
};

type Change = fn(&mut ScheduleRequest);

/// What is wrong, how, and field, reason and description as they are told; a star
/// stands for a number.
type Refused = (&'static str, Change, &'static str, &'static str, &'static str);

const OUT_OF_RANGE: &str = "leads outside the years 2000 to 9999";
const MALFORMED: &str = "has nanoseconds out of range";
const ILLEGAL_TOPIC: &str = "has characters other than a-z A-Z 0-9 . _ -, or is . or ..";
const INTERNAL_TOPIC: &str = "is one of ksched's or Kafka's own topics";
const RESERVED: &str = "is reserved: ks, ksched-… and __sm_… are ksched's own";

#[rustfmt::skip]
const TABLE: &[Refused] = &[
    ("no due time", |r| r.when = None, "due_time", "DUE_TIME_MISSING", "or delay must be set"),
    ("the end of time", |r| r.when = due(i64::MAX, 0), "due_time", "DUE_TIME_OUT_OF_RANGE", OUT_OF_RANGE),
    ("the beginning of time", |r| r.when = due(i64::MIN, 0), "due_time", "DUE_TIME_OUT_OF_RANGE", OUT_OF_RANGE),
    ("year 0", |r| r.when = due(-62_167_219_200, 0), "due_time", "DUE_TIME_OUT_OF_RANGE", OUT_OF_RANGE),
    ("1601", |r| r.when = due(-11_644_473_600, 0), "due_time", "DUE_TIME_OUT_OF_RANGE", OUT_OF_RANGE),
    ("an empty timestamp", |r| r.when = due(0, 0), "due_time", "DUE_TIME_OUT_OF_RANGE", OUT_OF_RANGE),
    ("year 10000", |r| r.when = due(253_402_300_800, 0), "due_time", "DUE_TIME_OUT_OF_RANGE", OUT_OF_RANGE),
    ("milliseconds as seconds", |r| r.when = due(1_798_761_600_000, 0), "due_time", "DUE_TIME_OUT_OF_RANGE", OUT_OF_RANGE),
    ("microseconds as seconds", |r| r.when = due(1_798_761_600_000_000, 0), "due_time", "DUE_TIME_OUT_OF_RANGE", OUT_OF_RANGE),
    ("nanoseconds as seconds", |r| r.when = due(1_798_761_600_000_000_000, 0), "due_time", "DUE_TIME_OUT_OF_RANGE", OUT_OF_RANGE),
    ("negative nanoseconds", |r| r.when = due(1_900_000_000, -1), "due_time", "TIME_MALFORMED", MALFORMED),
    ("a whole second of nanoseconds", |r| r.when = due(1_900_000_000, 1_000_000_000), "due_time", "TIME_MALFORMED", MALFORMED),
    ("negative delay", |r| r.when = delay(-1, 0), "delay", "DELAY_NEGATIVE", "is negative"),
    ("negative by a nanosecond", |r| r.when = delay(0, -1), "delay", "DELAY_NEGATIVE", "is negative"),
    ("signs that contradict", |r| r.when = delay(1, -1), "delay", "TIME_MALFORMED", MALFORMED),
    ("i64::MAX seconds never become due now", |r| r.when = delay(i64::MAX, 0), "delay", "DUE_TIME_OUT_OF_RANGE", OUT_OF_RANGE),
    ("i64::MAX ms never become due now", |r| r.when = delay(i64::MAX / 1_000, 0), "delay", "DUE_TIME_OUT_OF_RANGE", OUT_OF_RANGE),
    ("empty topic", |r| r.topic.clear(), "topic", "TOPIC_MISSING", "is missing"),
    ("illegal topic", |r| r.topic = "a b".into(), "topic", "TOPIC_ILLEGAL", ILLEGAL_TOPIC),
    ("two dots", |r| r.topic = "..".into(), "topic", "TOPIC_ILLEGAL", ILLEGAL_TOPIC),
    ("250 characters", |r| r.topic = "t".repeat(250), "topic", "TOPIC_TOO_LONG", "has 250 bytes, at most 249 are allowed"),
    ("intake topic", |r| r.topic = "SCHEDULED_MESSAGES".into(), "topic", "TOPIC_INTERNAL", INTERNAL_TOPIC),
    ("due topic", |r| r.topic = "ksched.due".into(), "topic", "TOPIC_INTERNAL", INTERNAL_TOPIC),
    ("dead letters", |r| r.topic = "ksched.dlq".into(), "topic", "TOPIC_INTERNAL", INTERNAL_TOPIC),
    ("Kafka's offsets", |r| r.topic = "__consumer_offsets".into(), "topic", "TOPIC_INTERNAL", INTERNAL_TOPIC),
    ("negative partition", |r| r.partition = Some(-1), "partition", "PARTITION_NEGATIVE", "is negative"),
    ("10,000 headers", |r| r.headers = vec![header("h", b""); 10_000], "headers", "TOO_MANY_HEADERS", "are 10000, at most 1000 are allowed"),
    ("a header without a name", |r| r.headers = vec![header("", b"")], "headers[0].name", "HEADER_NAME_MISSING", "is empty"),
    ("a zero byte in a name", |r| r.headers = vec![header("a\0b", b"")], "headers[0].name", "HEADER_NAME_ILLEGAL", "contains a zero byte"),
    ("our inner header", |r| r.headers = vec![header("a", b""), header("ks", b"")], "headers[1].name", "HEADER_NAME_RESERVED", RESERVED),
    ("a forged id", |r| r.headers = vec![header("a", b""), header("ksched-id", b"")], "headers[1].name", "HEADER_NAME_RESERVED", RESERVED),
    ("a forged stamp", |r| r.headers = vec![header("a", b""), header("__sm_job_id", b"")], "headers[1].name", "HEADER_NAME_RESERVED", RESERVED),
    ("blank in a request id", |r| r.request_id = "a b".into(), "request_id", "REQUEST_ID_ILLEGAL", "has characters other than visible ASCII"),
    ("129 characters", |r| r.request_id = "r".repeat(129), "request_id", "REQUEST_ID_LENGTH", "has 129 characters, 1 to 128 are allowed"),
    ("short attempt id", |r| r.attempt = attempt(15, 1, 0), "attempt.id", "ATTEMPT_ID_LENGTH", "has 15 bytes, must have 16"),
    ("no attempt number", |r| r.attempt = attempt(16, 0, 0), "attempt.number", "ATTEMPT_NUMBER_MISSING", "must be at least 1"),
    ("no first attempt", |r| r.attempt = Some(Attempt { first_at: None, ..attempt(16, 2, 0).unwrap() }), "attempt.first_at", "ATTEMPT_FIRST_AT_MISSING", "is missing"),
    ("a malformed first attempt", |r| r.attempt = Some(Attempt { first_at: Some(Timestamp { seconds: 1, nanos: -1 }), ..attempt(16, 2, 0).unwrap() }), "attempt.first_at", "TIME_MALFORMED", MALFORMED),
    ("61 s after its first", |r| r.attempt = attempt(16, 2, 61), "attempt.first_at", "ATTEMPT_TOO_LATE", "was * ms ago, at most 60000 ms are allowed: later copies could not be recognised"),
    ("first tried in 1970", |r| r.attempt = Some(Attempt { first_at: Some(Timestamp { seconds: 1, nanos: 0 }), ..attempt(16, 2, 0).unwrap() }), "attempt.first_at", "ATTEMPT_TOO_LATE", "was * ms ago, at most 60000 ms are allowed: later copies could not be recognised"),
    ("first tried in the year 60000", |r| r.attempt = Some(Attempt { first_at: Some(Timestamp { seconds: i64::MAX, nanos: 0 }), ..attempt(16, 2, 0).unwrap() }), "attempt.first_at", "ATTEMPT_IN_FUTURE", "is * ms ahead of this coordinator's clock, at most 10000 ms are allowed"),
    ("a clock 30 s fast", |r| r.attempt = attempt(16, 1, -30), "attempt.first_at", "ATTEMPT_IN_FUTURE", "is * ms ahead of this coordinator's clock, at most 10000 ms are allowed"),
    ("a value of 1 MiB", |r| r.record_value = value(1 << 20), "", "MESSAGE_TOO_LARGE", "has * bytes, at most 1044492 fit"),
    ("a header of 1 MiB", |r| r.headers = vec![header("h", &[0; 1 << 20])], "", "MESSAGE_TOO_LARGE", "has * bytes, at most 1044492 fit"),
    ("4 MiB and a byte", |r| r.record_value = value((4 << 20) + 1), "", "MESSAGE_TOO_LARGE", "has 4194306 bytes, at most 1044492 fit"),
];

/// What looks odd and is taken.
#[rustfmt::skip]
const TAKEN: &[(&str, Change)] = &[
    ("a second ago", |r| r.when = due(seconds_ago(1), 0)),
    ("a year ago", |r| r.when = due(seconds_ago(365 * 86_400), 0)),
    ("2000", |r| r.when = due(946_684_800, 0)),
    ("year 9999", |r| r.when = due(253_402_300_799, 0)),
    ("no delay", |r| r.when = delay(0, 0)),
    ("249 characters", |r| r.topic = "t".repeat(249)),
    // How many there are is known when it is due: a dead letter with UNKNOWN_PARTITION then.
    ("a partition beyond the count", |r| r.partition = Some(i32::MAX)),
    ("no key", |r| r.record_key = None),
    ("an empty key", |r| r.record_key = Some(RecordKey::Key(Bytes::new()))),
    ("no value", |r| r.record_value = None),
    ("an empty value", |r| r.record_value = value(0)),
    ("1,000 headers", |r| r.headers = (0..1_000).map(|n| header(&n.to_string(), b"")).collect()),
    ("a malformed traceparent", |r| r.headers = vec![header("traceparent", b"00-\xff-1")]),
    ("what just fits", |r| *r = fitting(0)),
    ("a request id", |r| r.request_id = "r-1".into()),
    // The lane judges it: the first wins, the other becomes a dead letter.
    ("the same request id with another body", |r| { r.request_id = "r-1".into(); r.record_value = value(9); }),
    ("60 s after its first", |r| r.attempt = attempt(16, 2, 59)),
];

fn due(seconds: i64, nanos: i32) -> Option<When> {
    Some(When::DueTime(Timestamp { seconds, nanos }))
}

fn delay(seconds: i64, nanos: i32) -> Option<When> {
    Some(When::Delay(prost_types::Duration { seconds, nanos }))
}

fn header(name: &str, value: &'static [u8]) -> Header {
    Header { name: name.to_owned(), header_value: Some(HeaderValue::Value(Bytes::from_static(value))) }
}

fn seconds_ago(seconds: i64) -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed() - seconds
}

fn attempt(id_bytes: usize, number: u32, age_s: i64) -> Option<Attempt> {
    let first_at = Some(Timestamp { seconds: seconds_ago(age_s), nanos: 0 });
    Some(Attempt { id: Bytes::from(vec![1; id_bytes]), number, first_at })
}

fn value(bytes: usize) -> Option<RecordValue> {
    Some(RecordValue::Value(Bytes::from(vec![0; bytes])))
}

/// As many bytes as fit, and some more.
fn fitting(more: usize) -> ScheduleRequest {
    ScheduleRequest { record_value: value(Limits::default().max_record_bytes - 1 + more), ..request("k") }
}

async fn schedule(door: &Knocked, change: Change) -> Result<(), Status> {
    let mut changed = request("k");
    change(&mut changed);
    door.scheduler().schedule(changed).await.map(drop)
}

#[tokio::test]
async fn each_line_of_the_table_names_field_reason_and_description() {
    let door = start().await;
    for (what, change, field, reason, description) in TABLE {
        let status = schedule(&door, *change).await.expect_err(what);
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        let told: Vec<_> = violations.iter().map(|v| (&*v.field, &*v.reason)).collect();
        assert_eq!(told, [(*field, *reason)], "{what}");
        let text = &violations[0].description;
        let whole = format!("{field} {description}");
        let (begins, ends) = whole.trim().split_once('*').unwrap_or((whole.trim(), ""));
        let exact = ends.is_empty() && text == begins;
        assert!(
            exact || !ends.is_empty() && text.starts_with(begins) && text.ends_with(ends),
            "{what}: {text}"
        );
        // The status says the same in one sentence.
        assert!(status.message().contains(text.as_str()), "{what}: {}", status.message());
        let info = status.get_details_error_info().unwrap();
        assert_eq!((&*info.domain, &*info.reason), ("ksched", *reason), "{what}");
    }
    assert_eq!(schedule(&door, |r| *r = fitting(1)).await.unwrap_err().code(), Code::InvalidArgument);
    assert!(door.appended().await.is_empty());
}

#[tokio::test]
async fn what_looks_odd_and_is_not_is_taken() {
    let door = start().await;
    for (what, change) in TAKEN {
        schedule(&door, *change).await.unwrap_or_else(|status| panic!("{what}: {status:?}"));
    }
    assert_eq!(door.appended().await.len(), TAKEN.len());
}

#[tokio::test]
async fn messages_beyond_the_limit_of_a_call_are_refused_before_they_are_read() {
    let door = start().await;
    let batch = |bytes: usize| {
        let item = || ScheduleRequest { record_value: value(1_000_000), ..request("k") };
        let last = ScheduleRequest { record_value: value(bytes % 1_000_000), ..request("k") };
        BatchScheduleRequest { requests: (0..bytes / 1_000_000).map(|_| item()).chain([last]).collect() }
    };
    // More than the 4 MiB that gRPC libraries allow unless told otherwise.
    let results = door.scheduler().batch_schedule(batch((4 << 20) + 1)).await.unwrap().into_inner().results;
    let taken = |r: &schedule_result::Result| matches!(r, schedule_result::Result::Response(_));
    assert!(results.iter().all(|r| r.result.as_ref().is_some_and(taken)), "{results:?}");
    let status = door.scheduler().batch_schedule(batch(17 << 20)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().contains("the limit is: 16777216 bytes"), "{status:?}");

    let name = "w".repeat((4 << 20) + 1);
    let register = RegisterWorkerRequest { name, ..RegisterWorkerRequest::default() };
    let status = JobLeasingClient::new(door.channel.clone()).register_worker(register).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().contains("the limit is: 4194304 bytes"), "{status:?}");
}

#[tokio::test]
async fn metadata_beyond_the_limit_is_refused_and_a_malformed_traceparent_is_not() {
    let door = start().await;
    let call = |bytes: usize| {
        let mut call = Request::new(request("k"));
        let metadata = call.metadata_mut();
        metadata.insert("traceparent", "00-zz-zz-zz-zz".parse().unwrap());
        metadata.insert("x-large", "x".repeat(bytes).parse().unwrap());
        call
    };
    door.scheduler().schedule(call(15 << 10)).await.unwrap();
    let status = door.scheduler().schedule(call(17 << 10)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown, "{status:?}");
    assert!(status.message().contains("431"), "{status:?}");
    // The connection is still good.
    door.scheduler().schedule(call(1)).await.unwrap();
}

/// Sends bytes as they are.
pub(crate) async fn send_raw(door: &Knocked, method: &'static str, bytes: impl Into<Bytes>) -> Status {
    let mut grpc = Grpc::new(door.channel.clone());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static(method);
    grpc.unary(Request::new(bytes.into()), path, RawCodec).await.expect_err(method)
}

#[tokio::test]
async fn bytes_that_are_no_request_are_told_as_such() {
    let door = start().await;
    const SCHEDULE: &str = "/ksched.v1.Scheduler/Schedule";
    // Field 1, the topic, with a byte that is not UTF-8; a field cut short; a group that never ends.
    for (bytes, text) in [
        (&b"\x0a\x01\xff"[..], "UTF-8"),
        (b"\x0a\x7f", "buffer underflow"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "varint"),
    ] {
        let status = send_raw(&door, SCHEDULE, bytes).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert_eq!(status.get_details_error_info().unwrap().reason, "MALFORMED");
        assert!(status.message().contains(text), "{status:?}");
    }
    for method in
        ["/ksched.v1.Scheduler/Cancel", "/ksched.v1.Scheduler/ListMessages", "/ksched.v1.Nobody/Call"]
    {
        assert_eq!(send_raw(&door, method, &b""[..]).await.code(), Code::Unimplemented, "{method}");
    }
}

/// 16 MiB of empty items once took 2.5 GB and five seconds, in which the lead was lost.
#[tokio::test]
async fn a_call_of_nothing_but_empty_items_is_refused_unread() {
    let door = start().await;
    for (method, part) in
        [("/ksched.v1.Scheduler/BatchSchedule", b"\x0a\x00"), ("/ksched.v1.Scheduler/Schedule", b"\x3a\x00")]
    {
        let status = send_raw(&door, method, part.repeat(8_000_000)).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert_eq!(status.get_details_error_info().unwrap().reason, "TOO_MANY_PARTS");
    }
}

/// An error that repeated what was sent did not fit into its trailers, and broke the
/// connection instead of being read.
#[tokio::test]
async fn what_is_repeated_to_the_caller_is_cut() {
    let door = start().await;
    for length in [10, 20_000, 4_000_000] {
        let lease = Some(WorkerLease { worker_id: "w".to_owned(), lease_id: 1 });
        let jobs = vec![HeldJob { name: "ü".repeat(length / 2), fence: 1 }];
        let release = ReleaseJobsRequest { lease, jobs, leaving: false };
        let mut leasing = JobLeasingClient::new(door.channel.clone());
        let status = leasing.release_jobs(release).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{length}: {status:?}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "held.name");
        assert!(violations[0].description.len() < 600);
    }
}

#[tokio::test]
async fn a_way_of_answering_that_is_not_known_ends_the_stream() {
    let door = start().await;
    let item = ScheduleStreamRequest { sequence: 1, request: Some(request("k")), answers: 99 };
    let answers = door.scheduler().schedule_stream(futures::stream::iter([item])).await.unwrap();
    let status = timeout(LONG, answers.into_inner().message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "answers");
    assert!(door.appended().await.is_empty());
}
