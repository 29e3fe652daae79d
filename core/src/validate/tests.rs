use proptest::prelude::*;

use super::*;
use crate::{
    message::Header,
    time::{EARLIEST_MS, LATEST_MS},
};

const NOW_MS: i64 = 1_795_000_000_000;
const YEAR_MS: i64 = 365 * 86_400_000;
const STAMP: Stamp = Stamp { scheduled_at_us: NOW_MS * 1_000, origin: 7 };

fn request() -> Request {
    Request { topic: "orders".into(), when: Some(When::Due(NOW_MS + 1)), ..Request::default() }
}

fn accept(request: Request) -> Result<Accepted, Vec<Violation>> {
    Door { cluster: &Cluster::default(), limits: &Limits::default() }.accept(request, NOW_MS, STAMP)
}

/// Field and reason of the one fault of a request.
fn fault(request: Request) -> (String, Reason) {
    let faults = accept(request).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    (faults[0].field.to_string(), faults[0].reason)
}

fn attempt(number: u32, age_ms: i64) -> Attempt {
    Attempt { id: vec![3; 16].into(), number, first_at_ms: NOW_MS - age_ms }
}

#[test]
fn an_accepted_message_is_what_was_asked_for() {
    let content = Content {
        key: Some(Bytes::new()),
        value: None,
        headers: vec![Header::new("a", "1"), Header { name: "a".into(), value: None }],
    };
    let asked = Request { partition: Some(3), content: content.clone(), ..request() };
    let accepted = accept(asked).unwrap();
    assert_eq!(accepted.content, content);
    assert_eq!(
        accepted.envelope,
        Envelope {
            due_ms: NOW_MS + 1,
            scheduled_at_us: STAMP.scheduled_at_us,
            origin: 7,
            hops: 0,
            target: Target { topic: "orders".into(), partition: Some(3) },
            not_before_ms: None,
            identity: None,
            stamps: false,
            trace: None,
        }
    );
}

#[test]
fn target_topics() {
    let longest = "x".repeat(249);
    for topic in ["orders", "a.b_c-D9", "...", "ksched-bench", "_x", &longest] {
        assert!(accept(Request { topic: topic.into(), ..request() }).is_ok(), "{topic}");
    }
    let too_long = "x".repeat(250);
    let cases = [
        ("", Reason::TopicMissing),
        (too_long.as_str(), Reason::TopicTooLong { bytes: 250 }),
        (".", Reason::TopicIllegal),
        ("..", Reason::TopicIllegal),
        ("a b", Reason::TopicIllegal),
        ("a/b", Reason::TopicIllegal),
        ("ü", Reason::TopicIllegal),
        ("a\0", Reason::TopicIllegal),
        ("SCHEDULED_MESSAGES", Reason::TopicInternal),
        ("ksched.due", Reason::TopicInternal),
        ("ksched.wheel.1", Reason::TopicInternal),
        ("ksched.dlq", Reason::TopicInternal),
        ("__consumer_offsets", Reason::TopicInternal),
        ("__transaction_state", Reason::TopicInternal),
    ];
    for (topic, reason) in cases {
        assert_eq!(fault(Request { topic: topic.into(), ..request() }), ("topic".into(), reason), "{topic}");
    }
    let negative = fault(Request { partition: Some(-1), ..request() });
    assert_eq!(negative, ("partition".into(), Reason::NegativePartition));
}

#[test]
fn due_times_and_delays() {
    let due = |when| accept(Request { when: Some(when), ..request() }).map(|a| a.envelope.due_ms).ok();
    let accepted = [
        (When::Due(NOW_MS - 1_000), NOW_MS - 1_000),
        (When::Due(NOW_MS - YEAR_MS), NOW_MS - YEAR_MS),
        (When::Due(EARLIEST_MS), EARLIEST_MS),
        (When::Due(LATEST_MS), LATEST_MS),
        (When::Delay(0), NOW_MS),
        (When::Delay(90_000), NOW_MS + 90_000),
    ];
    for (when, expected) in accepted {
        assert_eq!(due(when), Some(expected), "{when:?}");
    }
    let refused = [
        (None, "due_time", Reason::DueMissing),
        (Some(When::Due(0)), "due_time", Reason::DueOutOfRange),
        (Some(When::Due(NOW_MS / 1_000)), "due_time", Reason::DueOutOfRange),
        (Some(When::Due(NOW_MS * 1_000)), "due_time", Reason::DueOutOfRange),
        (Some(When::Due(-11_644_473_600_000)), "due_time", Reason::DueOutOfRange),
        (Some(When::Due(i64::MAX)), "due_time", Reason::DueOutOfRange),
        (Some(When::Due(i64::MIN)), "due_time", Reason::DueOutOfRange),
        (Some(When::Delay(-1)), "delay", Reason::NegativeDelay),
        (Some(When::Delay(i64::MIN)), "delay", Reason::NegativeDelay),
        (Some(When::Delay(i64::MAX)), "delay", Reason::DueOutOfRange),
        (Some(When::Delay(i64::MAX - NOW_MS)), "delay", Reason::DueOutOfRange),
    ];
    for (when, field, reason) in refused {
        assert_eq!(fault(Request { when, ..request() }), (field.into(), reason), "{when:?}");
    }
}

#[test]
fn protobuf_times_round_up_and_never_wrap() {
    assert_eq!(timestamp_ms(1_795_000_000, 0), Ok(NOW_MS));
    assert_eq!(timestamp_ms(1_795_000_000, 1), Ok(NOW_MS + 1));
    assert_eq!(timestamp_ms(1_795_000_000, 999_999_999), Ok(NOW_MS + 1_000));
    assert_eq!(timestamp_ms(1_795_000_000, -1), Err(Reason::MalformedTime));
    assert_eq!(timestamp_ms(1_795_000_000, 1_000_000_000), Err(Reason::MalformedTime));
    assert_eq!(timestamp_ms(0, 0), Err(Reason::DueOutOfRange));
    assert_eq!(timestamp_ms(i64::MAX, 999_999_999), Err(Reason::DueOutOfRange));
    assert_eq!(timestamp_ms(i64::MIN, 0), Err(Reason::DueOutOfRange));
    assert_eq!(duration_ms(0, 1), Ok(1));
    assert_eq!(duration_ms(1, 500_000_000), Ok(1_500));
    assert_eq!(duration_ms(-1, 0), Err(Reason::NegativeDelay));
    assert_eq!(duration_ms(0, -1), Err(Reason::NegativeDelay));
    assert_eq!(duration_ms(1, -1), Err(Reason::MalformedTime));
    assert_eq!(duration_ms(0, i32::MIN), Err(Reason::MalformedTime));
    assert_eq!(duration_ms(i64::MAX, 0), Err(Reason::DueOutOfRange));
}

#[test]
fn header_names() {
    let named = |name: &str| Request {
        content: Content { headers: vec![Header::new("x", ""), Header::new(name, "")], ..Content::default() },
        ..request()
    };
    for name in ["traceparent", "ce_id", "ksched", "KS", "topic", "time", "__x", "ü", "a b"] {
        assert!(accept(named(name)).is_ok(), "{name}");
    }
    let cases = [
        ("", Reason::HeaderNameMissing),
        ("a\0b", Reason::HeaderNameIllegal),
        ("ks", Reason::HeaderNameReserved),
        ("ksched-", Reason::HeaderNameReserved),
        ("ksched-id", Reason::HeaderNameReserved),
        ("__sm_job_id", Reason::HeaderNameReserved),
    ];
    for (name, reason) in cases {
        assert_eq!(fault(named(name)), ("headers[1].name".into(), reason), "{name:?}");
    }
}

#[test]
fn many_and_large_headers() {
    let with = |headers| Request { content: Content { headers, ..Content::default() }, ..request() };
    let many = |count| with(vec![Header { name: "h".into(), value: None }; count]);
    assert!(accept(many(1_000)).is_ok());
    assert_eq!(fault(many(10_000)), ("headers".into(), Reason::TooManyHeaders { count: 10_000, max: 1_000 }));
    let bytes = 1_048_576 + 1 + 8;
    assert_eq!(
        fault(with(vec![Header::new("h", vec![0; 1_048_576])])),
        (String::new(), Reason::TooLarge { bytes, max: Limits::default().max_record_bytes })
    );
}

#[test]
fn a_value_that_just_fits_and_one_byte_more() {
    let max = Limits::default().max_record_bytes;
    let sized = |bytes: usize| Request {
        content: Content {
            key: Some("k".into()),
            value: Some(vec![0; bytes].into()),
            headers: vec![Header::new("h", "v")],
        },
        ..request()
    };
    // One byte of key, two of header, eight for the header's framing.
    assert!(accept(sized(max - 11)).is_ok());
    assert_eq!(fault(sized(max - 10)), (String::new(), Reason::TooLarge { bytes: max + 1, max }));
}

#[test]
fn request_ids() {
    let named = |id: &str| Request { request_id: Some(id.into()), ..request() };
    let longest = "x".repeat(128);
    for id in ["1", "8b3e0b62-6c8c-4a0e-8a64-0a1b2c3d4e5f", &longest] {
        let accepted = accept(named(id)).unwrap();
        assert_eq!(accepted.envelope.identity, Some(Identity::Request(id.into())));
    }
    let too_long = "x".repeat(129);
    let cases = [
        ("", Reason::RequestIdLength { bytes: 0 }),
        (too_long.as_str(), Reason::RequestIdLength { bytes: 129 }),
        ("a b", Reason::RequestIdIllegal),
        ("ü", Reason::RequestIdIllegal),
        ("a\n", Reason::RequestIdIllegal),
    ];
    for (id, reason) in cases {
        assert_eq!(fault(named(id)), ("request_id".into(), reason), "{id:?}");
    }
}

#[test]
fn attempts() {
    let tried = |attempt| Request { attempt: Some(attempt), ..request() };
    for attempt in [attempt(1, 0), attempt(2, 60_000), attempt(9, -10_000)] {
        assert!(accept(tried(attempt.clone())).is_ok(), "{attempt:?}");
    }
    let short = Attempt { id: vec![3; 15].into(), ..attempt(1, 0) };
    let beginning = Attempt { first_at_ms: i64::MIN, ..attempt(1, 0) };
    let cases = [
        (short, "attempt.id", Reason::AttemptIdLength { bytes: 15 }),
        (attempt(0, 0), "attempt.number", Reason::AttemptNumberMissing),
        (attempt(2, 60_001), "attempt.first_at", Reason::AttemptTooLate { age_ms: 60_001 }),
        (attempt(2, 61_000), "attempt.first_at", Reason::AttemptTooLate { age_ms: 61_000 }),
        (attempt(1, -10_001), "attempt.first_at", Reason::AttemptInFuture { ahead_ms: 10_001 }),
        (beginning, "attempt.first_at", Reason::AttemptTooLate { age_ms: i64::MAX }),
    ];
    for (attempt, field, reason) in cases {
        assert_eq!(fault(tried(attempt)), (field.into(), reason));
    }
    let both = Request { request_id: Some("r".into()), ..tried(attempt(2, 5)) };
    assert_eq!(accept(both).unwrap().envelope.identity, Some(Identity::Request("r".into())));
}

#[test]
fn all_faults_are_told_at_once_but_not_without_end() {
    let faults = accept(Request {
        topic: "a b".into(),
        partition: Some(-1),
        content: Content { headers: vec![Header::new("ks", ""); 100], ..Content::default() },
        when: None,
        request_id: Some("".into()),
        attempt: None,
    })
    .unwrap_err();
    assert_eq!(faults.len(), MAX_VIOLATIONS);
    assert_eq!(faults[0].to_string(), "topic has characters other than a-z A-Z 0-9 . _ -, or is . or ..");
    assert_eq!(
        faults[2].to_string(),
        "headers[0].name is reserved: ks, ksched-… and __sm_… are ksched's own"
    );
}

#[test]
fn every_try_goes_to_the_same_lane() {
    let cluster = Cluster {
        geometry: crate::cluster::Geometry { lanes: 64, ..Default::default() },
        ..Default::default()
    };
    let door = Door { cluster: &cluster, limits: &Limits::default() };
    let lane = |request: Request, scheduled_at_us| {
        door.accept(request, NOW_MS, Stamp { scheduled_at_us, origin: 1 }).unwrap().lane
    };
    let keyed = Request { content: Content { key: Some("k".into()), ..Content::default() }, ..request() };
    let tried = Request { attempt: Some(attempt(1, 0)), ..request() };
    let again = Request { attempt: Some(attempt(2, 9)), ..request() };
    let asked = Request { request_id: Some("r".into()), ..request() };
    for (one, other, identity) in [
        (keyed.clone(), Request { request_id: Some("r".into()), ..keyed }, &b"k"[..]),
        (tried, again, &[3; 16][..]),
        (asked.clone(), Request { attempt: Some(attempt(1, 0)), ..asked }, &b"r"[..]),
    ] {
        assert_eq!(lane(one, 1), wheel::lane_for(identity, 64));
        assert_eq!(lane(other, 2), wheel::lane_for(identity, 64));
    }
    // What has no identity is spread.
    let mut hit = [false; 64];
    for us in 0..10_000 {
        hit[usize::from(lane(request(), us))] = true;
    }
    assert_eq!(hit, [true; 64]);
}

proptest! {
    #[test]
    fn nothing_panics_and_what_is_accepted_is_in_range(
        topic in "\\PC{0,20}", partition: Option<i32>, delay: bool, ms: i64, now_ms: i64, first_at_ms: i64,
        id: Vec<u8>, number: u32, name in "\\PC{0,12}", request_id in proptest::option::of("\\PC{0,140}"),
    ) {
        let request = Request {
            topic: topic.into(),
            partition,
            content: Content { headers: vec![Header::new(name, "")], ..Content::default() },
            when: Some(if delay { When::Delay(ms) } else { When::Due(ms) }),
            request_id: request_id.map(Into::into),
            attempt: Some(Attempt { id: id.into(), number, first_at_ms }),
        };
        let door = Door { cluster: &Cluster::default(), limits: &Limits::default() };
        if let Ok(accepted) = door.accept(request, now_ms, STAMP) {
            prop_assert!((EARLIEST_MS..=LATEST_MS).contains(&accepted.envelope.due_ms));
        }
        let _ = (timestamp_ms(ms, number.cast_signed()), duration_ms(ms, number.cast_signed()));
    }
}
