use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    message::Target,
    validate::{Reason, Violation},
};

/// 2026-11-18T11:06:40Z
const NOW_MS: i64 = 1_795_000_000_000;
const SENT_MS: i64 = NOW_MS - 400;
const STAMP: Stamp = Stamp { scheduled_at_us: NOW_MS * 1_000, origin: 7 };

fn record(headers: &[(&str, &str)]) -> Content {
    let headers = headers.iter().map(|(name, value)| Header::new(*name, value.to_string())).collect();
    Content { key: Some("k".into()), value: None, headers }
}

fn decode(record: &Content, zone: Option<&TimeZone>) -> Result<Accepted, Rejected> {
    Intake { cluster: &Cluster::default(), limits: &Limits::default(), compat_zone: zone }
        .decode(record, SENT_MS, NOW_MS, STAMP)
}

fn invalid(field: &'static str, reason: Reason) -> Rejected {
    Rejected::Invalid(vec![Violation { field: field.into(), reason }])
}

#[test]
fn own_headers() {
    let mut content = record(&[
        ("a", "1"),
        ("ksched-topic", "orders"),
        ("time", "half past"),
        ("ksched-delay", "90s"),
        ("topic", "not mine"),
        ("ksched-partition", "3"),
        ("a", "2"),
    ]);
    content.headers.push(Header { name: "n".into(), value: None });
    let accepted = decode(&content, None).unwrap();
    assert_eq!(accepted.envelope.target, Target { topic: "orders".into(), partition: Some(3) });
    assert_eq!(accepted.envelope.due_ms, SENT_MS + 90_000);
    assert!(!accepted.envelope.stamps);
    let mut kept = record(&[("a", "1"), ("time", "half past"), ("topic", "not mine"), ("a", "2")]);
    kept.headers.push(Header { name: "n".into(), value: None });
    assert_eq!(accepted.content, kept);
}

#[test]
fn earlier_headers() {
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let cases = [
        // Berlin is an hour ahead of UTC in November.
        ("2026-11-18 12:07:00", NOW_MS + 20_000),
        ("18 Nov 2026 12:07 CET", NOW_MS + 20_000),
        ("18 Nov 2026 11:07 UTC", NOW_MS + 20_000),
        ("1795000020000", NOW_MS + 20_000),
        ("2025-11-18 12:07:00", NOW_MS + 20_000 - 365 * 86_400_000),
    ];
    for (time, due_ms) in cases {
        let content = record(&[("x", "1"), ("time", time), ("topic", "orders"), ("x", "2")]);
        let accepted = decode(&content, Some(&berlin)).unwrap();
        assert_eq!(accepted.envelope.due_ms, due_ms, "{time}");
        assert_eq!(accepted.envelope.target, Target { topic: "orders".into(), partition: None });
        assert!(accepted.envelope.stamps);
        assert_eq!(accepted.content, record(&[("x", "1"), ("x", "2")]));
    }
}

#[test]
fn an_earlier_record_without_time_goes_at_once() {
    let accepted = decode(&record(&[("topic", "orders")]), None).unwrap();
    assert_eq!(accepted.envelope.due_ms, NOW_MS);
}

#[test]
fn a_record_without_timestamp_counts_its_delay_from_now() {
    let intake = Intake { cluster: &Cluster::default(), limits: &Limits::default(), compat_zone: None };
    let content = record(&[("ksched-topic", "orders"), ("ksched-delay", "1s")]);
    let accepted = intake.decode(&content, -1, NOW_MS, STAMP).unwrap();
    assert_eq!(accepted.envelope.due_ms, NOW_MS + 1_000);
}

#[test]
fn what_is_refused_says_why() {
    const AT: (&str, &str) = ("ksched-deliver-at", "2027-01-01T00:00:00Z");
    const TO: (&str, &str) = ("ksched-topic", "orders");
    const COMPAT_TO: (&str, &str) = ("topic", "orders");
    let time = |header, error| Rejected::Time { header, error };
    let delay = |text| record(&[TO, ("ksched-delay", text)]);
    let due = |text| record(&[TO, ("ksched-deliver-at", text)]);
    let compat = |text| record(&[COMPAT_TO, ("time", text)]);
    let at = "ksched-deliver-at";
    let cases = [
        (record(&[]), Rejected::NoTopic("topic")),
        (record(&[("time", "2027-01-01 00:00:00")]), Rejected::NoTopic("topic")),
        (record(&[AT]), Rejected::NoTopic("ksched-topic")),
        (record(&[AT, COMPAT_TO]), Rejected::NoTopic("ksched-topic")),
        (record(&[TO]), Rejected::NoDueTime),
        (record(&[TO, ("time", "2027-01-01 00:00:00"), COMPAT_TO]), Rejected::NoDueTime),
        (record(&[TO, AT, ("ksched-delay", "1s")]), Rejected::DueAndDelay),
        (record(&[TO, AT, AT]), Rejected::Repeated(at)),
        (record(&[TO, TO, AT]), Rejected::Repeated("ksched-topic")),
        (record(&[COMPAT_TO, COMPAT_TO]), Rejected::Repeated("topic")),
        (compat(""), time("time", TimeError::Empty)),
        (due("2026-02-30T00:00:00Z"), time(at, TimeError::NoSuchDay)),
        (due("2027-01-01 00:00:00"), time(at, TimeError::NoZone)),
        (compat("2027-01-01 00:00:00"), time("time", TimeError::NoZone)),
        (due("5m"), time(at, TimeError::IsDelay)),
        (compat("5m"), time("time", TimeError::IsDelay)),
        (
            compat("1 Sep 2027 18:40 IST"),
            time("time", TimeError::AmbiguousZone { zone: "IST", meanings: "India, Israel or Ireland" }),
        ),
        (due("1795000000"), time(at, TimeError::WrongUnit(time::EpochUnit::Seconds))),
        (due("1601-01-01T00:00:00Z"), time(at, TimeError::OutOfRange)),
        (delay("-5s"), time("ksched-delay", TimeError::Negative)),
        (delay("NaN"), time("ksched-delay", TimeError::NotADelay)),
        (delay("90"), time("ksched-delay", TimeError::NoUnit)),
        (delay("9223372036854775807s"), time("ksched-delay", TimeError::TooLong)),
        (delay("9223372036854775807ms"), invalid("due_time", Reason::DueOutOfRange)),
        (record(&[TO, AT, ("ksched-partition", "-1")]), Rejected::NotAPartition),
        (record(&[TO, AT, ("ksched-partition", "+1")]), Rejected::NotAPartition),
        (record(&[TO, AT, ("ksched-partition", "")]), Rejected::NotAPartition),
        (record(&[TO, AT, ("ksched-partition", "2147483648")]), Rejected::NotAPartition),
        (record(&[TO, AT, ("ksched-id", "1")]), Rejected::NotBuilt("ksched-id")),
        (record(&[TO, AT, ("ksched-max-lateness", "1s")]), Rejected::NotBuilt("ksched-max-lateness")),
        (record(&[TO, AT, ("ksched-late-policy", "drop")]), Rejected::NotBuilt("ksched-late-policy")),
        (record(&[TO, AT, ("ksched-x", "1")]), Rejected::Reserved("ksched-x".into())),
        (record(&[COMPAT_TO, ("ks", "1")]), Rejected::Reserved("ks".into())),
        (record(&[("topic", "")]), invalid("topic", Reason::TopicMissing)),
        (record(&[("topic", "a b")]), invalid("topic", Reason::TopicIllegal)),
        (record(&[("topic", "SCHEDULED_MESSAGES")]), invalid("topic", Reason::TopicInternal)),
        (record(&[("topic", "__consumer_offsets")]), invalid("topic", Reason::TopicInternal)),
        (record(&[("topic", "ksched.due")]), invalid("topic", Reason::TopicInternal)),
    ];
    for (content, rejected) in cases {
        let text = rejected.to_string();
        assert_eq!(decode(&content, None), Err(rejected), "{content:?}");
        assert!(!text.is_empty());
    }
}

#[test]
fn a_value_that_is_null_or_not_utf8_says_so() {
    for name in [TOPIC, PARTITION, DELIVER_AT, DELAY, COMPAT_TIME, COMPAT_TOPIC] {
        let mut content = if name.starts_with("ksched-") {
            record(&[("ksched-topic", "orders"), ("ksched-delay", "1s")])
        } else {
            record(&[("topic", "orders")])
        };
        content.headers.retain(|header| *header.name != *name);
        content.headers.push(Header { name: name.into(), value: None });
        assert_eq!(decode(&content, None), Err(Rejected::Null(name)));
        content.headers.pop();
        content.headers.push(Header::new(name, &b"\xff"[..]));
        assert_eq!(decode(&content, None), Err(Rejected::NotUtf8(name)));
    }
}

#[test]
fn reasons_read_well() {
    let rejected = decode(&record(&[("topic", "orders"), ("time", "90")]), None).unwrap_err();
    assert_eq!(rejected.to_string(), "header time lies outside the years 2000 to 9999");
    assert_eq!(rejected.code(), "DUE_TIME_UNREADABLE");
    let rejected = decode(&record(&[("topic", "ksched.due")]), None).unwrap_err();
    assert_eq!(rejected.to_string(), "topic is one of ksched's or Kafka's own topics");
    assert_eq!(rejected.code(), "TOPIC_INTERNAL");
    let rejected = decode(&record(&[("topic", "orders"), ("__sm_job_id", "7")]), None).unwrap_err();
    assert_eq!(
        rejected.to_string(),
        "header __sm_job_id is reserved: ks, ksched-… and __sm_… are ksched's own"
    );
    assert_eq!(rejected.code(), "HEADER_NAME_RESERVED");
}

#[test]
fn dead_letters_say_why_and_whence() {
    let origin = Origin { topic: "SCHEDULED_MESSAGES", partition: 3, offset: 41 };
    let rejected = Rejected::NoTopic("topic");
    let headers = dead_letter_headers(origin, rejected.code(), &rejected.to_string());
    let expected = [
        ("ksched-error-code", "TOPIC_MISSING"),
        ("ksched-error", "header topic is missing: no target topic"),
        ("ksched-origin-topic", "SCHEDULED_MESSAGES"),
        ("ksched-origin-partition", "3"),
        ("ksched-origin-offset", "41"),
    ];
    assert_eq!(headers, record(&expected).headers);
    let topic = "x".repeat(249);
    let origin = Origin { topic: &topic, partition: i32::MAX, offset: i64::MAX };
    let long = dead_letter_headers(origin, "DUE_TIME_UNREADABLE", &"ü".repeat(10_000));
    assert!(Content { headers: long.clone(), ..Content::default() }.size() < 1_500);
    assert_eq!(long[1].value.as_ref().map(Bytes::len), Some(MAX_REASON));
}

fn any_header() -> impl Strategy<Value = Header> {
    let name = prop_oneof![
        proptest::sample::select(vec![
            TOPIC,
            PARTITION,
            DELIVER_AT,
            DELAY,
            COMPAT_TIME,
            COMPAT_TOPIC,
            "ksched-id",
            "ks",
            ""
        ])
        .prop_map(str::to_owned),
        "\\PC{0,8}",
    ];
    let value = prop_oneof![
        proptest::sample::select(vec!["orders", "1s", "2027-01-01T00:00:00Z", "0"])
            .prop_map(|text| Some(Bytes::from_static(text.as_bytes()))),
        any::<Option<Vec<u8>>>().prop_map(|value| value.map(Bytes::from)),
    ];
    (name, value).prop_map(|(name, value)| Header { name: name.into(), value })
}

/// Headers that no dialect knows, in any order, with duplicates and nulls.
fn user_header() -> impl Strategy<Value = Header> {
    ("[a-c]{1,2}", any::<Option<Vec<u8>>>())
        .prop_map(|(name, value)| Header { name: name.into(), value: value.map(Bytes::from) })
}

proptest! {
    #[test]
    fn no_record_panics(
        headers in proptest::collection::vec(any_header(), 0..6),
        timestamp_ms: i64, now_ms: i64,
    ) {
        let content = Content { key: None, value: None, headers };
        let intake = Intake { cluster: &Cluster::default(), limits: &Limits::default(), compat_zone: None };
        match intake.decode(&content, timestamp_ms, now_ms, STAMP) {
            Ok(accepted) => prop_assert!(accepted.envelope.due_ms >= time::EARLIEST_MS),
            Err(rejected) => prop_assert!(!rejected.to_string().is_empty() && !rejected.code().is_empty()),
        }
    }

    #[test]
    fn the_users_content_is_kept(
        users in proptest::collection::vec(user_header(), 0..8),
        key: Option<Vec<u8>>, value: Option<Vec<u8>>, seats: [prop::sample::Index; 2], own: bool,
    ) {
        let user = Content { key: key.map(Bytes::from), value: value.map(Bytes::from), headers: users };
        let mut content = user.clone();
        let ours = if own { [(TOPIC, "orders"), (DELAY, "1s")] } else { [(COMPAT_TOPIC, "orders"), (COMPAT_TIME, "1795000020000")] };
        for ((name, text), seat) in ours.into_iter().zip(seats) {
            content.headers.insert(seat.index(content.headers.len() + 1), Header::new(name, text));
        }
        prop_assert_eq!(decode(&content, None).unwrap().content, user);
    }
}
