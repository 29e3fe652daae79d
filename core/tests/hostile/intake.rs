//! Every line of "bad input" at the intake door: a record's headers, and the reason
//! with which it goes to the dead-letter topic, or that it is taken.

use bytes::Bytes;
use jiff::tz::TimeZone;
use ksched_core::{
    cluster::Cluster,
    intake::{Intake, Rejected},
    message::{Content, Header},
    validate::{Accepted, Limits, Stamp},
};

/// 2026-11-18T11:06:40Z
const NOW_MS: i64 = 1_795_000_000_000;
const SENT_MS: i64 = NOW_MS - 400;

type Headers = &'static [(&'static str, &'static str)];

/// What becomes of a record.
enum Fate {
    /// It is scheduled for this instant.
    Due(i64),
    /// It goes to the dead-letter topic with this code and text.
    Dead(&'static str, &'static str),
}

use Fate::{Dead, Due};

const TO: (&str, &str) = ("ksched-topic", "orders");
const AT: (&str, &str) = ("ksched-deliver-at", "2027-01-01T00:00:00Z");
const AT_MS: i64 = 1_798_761_600_000;

const fn at(text: &'static str) -> [(&'static str, &'static str); 2] {
    [TO, ("ksched-deliver-at", text)]
}

const fn delay(text: &'static str) -> [(&'static str, &'static str); 2] {
    [TO, ("ksched-delay", text)]
}

/// The earlier system's dialect.
const fn time(text: &'static str) -> [(&'static str, &'static str); 2] {
    [("topic", "orders"), ("time", text)]
}

const fn to(topic: &'static str) -> [(&'static str, &'static str); 2] {
    [AT, ("ksched-topic", topic)]
}

const AMBIGUOUS_IST: &str = "header time zone IST is ambiguous (India, Israel or Ireland): write an offset (+02:00) or a name (Europe/Berlin)";
const AMBIGUOUS_CST: &str = "header ksched-deliver-at zone CST is ambiguous (North America, China or Cuba): write an offset (+02:00) or a name (Europe/Berlin)";
const NOT_A_DELAY: &str = "header ksched-delay is not a delay: expected 90s, 1h30m, 500ms, 2d, or PT15M";
const INTERNAL: &str = "topic is one of ksched's or Kafka's own topics";
const ILLEGAL: &str = "topic has characters other than a-z A-Z 0-9 . _ -, or is . or ..";
const OUT_OF_RANGE: &str = "header ksched-deliver-at lies outside the years 2000 to 9999";
const NO_PARTITION: &str = "header ksched-partition is not a partition number";

const TABLE: &[(&str, Headers, Fate)] = &[
    (
        "no due time",
        &[TO],
        Dead("DUE_TIME_MISSING", "neither ksched-deliver-at nor ksched-delay is there: no due time"),
    ),
    ("no due time in the earlier dialect: at once", &[("topic", "orders")], Due(NOW_MS)),
    (
        "two that contradict each other",
        &[TO, AT, ("ksched-delay", "1s")],
        Dead("DUE_TIME_AND_DELAY", "ksched-deliver-at and ksched-delay contradict each other"),
    ),
    ("the other dialect's time is the user's", &[TO, AT, ("time", "never")], Due(AT_MS)),
    (
        "the same twice",
        &[TO, AT, AT],
        Dead("HEADER_REPEATED", "header ksched-deliver-at is there more than once"),
    ),
    (
        "no such day",
        &at("2023-02-30T00:00:00Z"),
        Dead("DUE_TIME_UNREADABLE", "header ksched-deliver-at names a day that does not exist"),
    ),
    (
        "no such day, earlier dialect",
        &time("2023-02-30 12:00:00"),
        Dead("DUE_TIME_UNREADABLE", "header time names a day that does not exist"),
    ),
    (
        "no zone: the worker's zone is the earlier dialect's only",
        &at("2027-01-01 00:00:00"),
        Dead(
            "DUE_TIME_UNREADABLE",
            "header ksched-deliver-at has no time zone, and no default zone applies: append Z, an offset (+02:00) or a name (Europe/Berlin)",
        ),
    ),
    ("no zone, earlier dialect: Berlin here", &time("2027-01-01 01:00:00"), Due(AT_MS)),
    (
        "a delay, not military time",
        &at("5m"),
        Dead("DUE_TIME_UNREADABLE", "header ksched-deliver-at is a delay, not a time"),
    ),
    (
        "a delay, earlier dialect",
        &time("5m"),
        Dead("DUE_TIME_UNREADABLE", "header time is a delay, not a time"),
    ),
    ("IST", &time("1 Jan 2027 00:00 IST"), Dead("DUE_TIME_UNREADABLE", AMBIGUOUS_IST)),
    ("CST", &at("1 Jan 2027 00:00 CST"), Dead("DUE_TIME_UNREADABLE", AMBIGUOUS_CST)),
    ("negative delay", &delay("-5s"), Dead("DELAY_UNREADABLE", "header ksched-delay is negative")),
    ("NaN", &delay("NaN"), Dead("DELAY_UNREADABLE", NOT_A_DELAY)),
    ("infinite", &delay("inf"), Dead("DELAY_UNREADABLE", NOT_A_DELAY)),
    ("no unit", &delay("90"), Dead("DELAY_UNREADABLE", "header ksched-delay has no unit: write 90s or 90ms")),
    (
        "i64::MAX ms never becomes due now",
        &delay("9223372036854775807ms"),
        Dead("DUE_TIME_OUT_OF_RANGE", "due_time leads outside the years 2000 to 9999"),
    ),
    (
        "i64::MAX s",
        &delay("9223372036854775807s"),
        Dead("DELAY_UNREADABLE", "header ksched-delay is too long: milliseconds do not fit 64 bits"),
    ),
    ("no delay at all: when it was sent", &delay("0s"), Due(SENT_MS)),
    (
        "epoch seconds",
        &at("1798761600"),
        Dead(
            "DUE_TIME_UNREADABLE",
            "header ksched-deliver-at looks like epoch seconds: epoch milliseconds are expected",
        ),
    ),
    ("epoch milliseconds", &at("1798761600000"), Due(AT_MS)),
    (
        "epoch microseconds",
        &at("1798761600000000"),
        Dead(
            "DUE_TIME_UNREADABLE",
            "header ksched-deliver-at looks like epoch microseconds: epoch milliseconds are expected",
        ),
    ),
    (
        "epoch nanoseconds, earlier dialect",
        &time("1798761600000000000"),
        Dead(
            "DUE_TIME_UNREADABLE",
            "header time looks like epoch nanoseconds: epoch milliseconds are expected",
        ),
    ),
    ("year 0", &at("0000-01-01T00:00:00Z"), Dead("DUE_TIME_UNREADABLE", OUT_OF_RANGE)),
    ("1601", &at("1601-01-01T00:00:00Z"), Dead("DUE_TIME_UNREADABLE", OUT_OF_RANGE)),
    ("1970", &at("0"), Dead("DUE_TIME_UNREADABLE", OUT_OF_RANGE)),
    ("year 9999", &at("9999-12-31T23:59:59Z"), Due(253_402_300_799_000)),
    ("a second ago", &at("2026-11-18T11:06:39Z"), Due(NOW_MS - 1_000)),
    ("a year ago", &at("2025-11-18T11:06:40Z"), Due(NOW_MS - 365 * 86_400_000)),
    ("empty topic", &to(""), Dead("TOPIC_MISSING", "topic is missing")),
    ("missing topic", &[AT], Dead("TOPIC_MISSING", "header ksched-topic is missing: no target topic")),
    (
        "missing topic, earlier dialect",
        &[("time", "2027-01-01 00:00:00")],
        Dead("TOPIC_MISSING", "header topic is missing: no target topic"),
    ),
    ("no header at all", &[], Dead("TOPIC_MISSING", "header topic is missing: no target topic")),
    ("illegal topic", &to("a/b"), Dead("TOPIC_ILLEGAL", ILLEGAL)),
    ("a dot alone", &to("."), Dead("TOPIC_ILLEGAL", ILLEGAL)),
    ("blanks around", &to(" orders"), Dead("TOPIC_ILLEGAL", ILLEGAL)),
    ("our due topic", &to("ksched.due"), Dead("TOPIC_INTERNAL", INTERNAL)),
    ("our wheel", &to("ksched.wheel.1"), Dead("TOPIC_INTERNAL", INTERNAL)),
    ("our control topic", &to("ksched.control"), Dead("TOPIC_INTERNAL", INTERNAL)),
    ("our dead letters", &to("ksched.dlq"), Dead("TOPIC_INTERNAL", INTERNAL)),
    ("the intake topic", &to("SCHEDULED_MESSAGES"), Dead("TOPIC_INTERNAL", INTERNAL)),
    ("Kafka's offsets", &to("__consumer_offsets"), Dead("TOPIC_INTERNAL", INTERNAL)),
    ("Kafka's transactions", &to("__transaction_state"), Dead("TOPIC_INTERNAL", INTERNAL)),
    ("negative partition", &[TO, AT, ("ksched-partition", "-1")], Dead("PARTITION_UNREADABLE", NO_PARTITION)),
    ("no partition", &[TO, AT, ("ksched-partition", "all")], Dead("PARTITION_UNREADABLE", NO_PARTITION)),
    (
        "a partition no topic has",
        &[TO, AT, ("ksched-partition", "2147483648")],
        Dead("PARTITION_UNREADABLE", NO_PARTITION),
    ),
    // How many the target has is known when the message is due: UNKNOWN_PARTITION then.
    ("a partition beyond the count", &[TO, AT, ("ksched-partition", "2147483647")], Due(AT_MS)),
    ("an id", &[TO, AT, ("ksched-id", "mine")], Dead("NOT_BUILT", "header ksched-id is not built yet")),
    (
        "a late policy",
        &[TO, AT, ("ksched-late-policy", "drop")],
        Dead("NOT_BUILT", "header ksched-late-policy is not built yet"),
    ),
    (
        "our inner header",
        &[TO, AT, ("ks", "")],
        Dead("HEADER_NAME_RESERVED", "header ks is reserved: ks, ksched-… and __sm_… are ksched's own"),
    ),
    (
        "a forged stamp",
        &[TO, AT, ("a", ""), ("__sm_job_id", "1")],
        Dead(
            "HEADER_NAME_RESERVED",
            "header __sm_job_id is reserved: ks, ksched-… and __sm_… are ksched's own",
        ),
    ),
    (
        "a word of the dialect that is none",
        &[TO, AT, ("ksched-deliver-to", "x")],
        Dead(
            "HEADER_NAME_RESERVED",
            "header ksched-deliver-to is reserved: ks, ksched-… and __sm_… are ksched's own",
        ),
    ),
    (
        "a header without a name",
        &[TO, AT, ("", "x")],
        Dead("HEADER_NAME_MISSING", "headers[0].name is empty"),
    ),
    ("malformed traceparent", &[TO, AT, ("traceparent", "00-zz-\u{0}-1")], Due(AT_MS)),
    ("names twice", &[TO, AT, ("a", "1"), ("a", "2"), ("a", "1")], Due(AT_MS)),
];

fn decode(record: &Content) -> Result<Accepted, Rejected> {
    let (cluster, limits) = (Cluster::default(), Limits::default());
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let intake = Intake { cluster: &cluster, limits: &limits, compat_zone: Some(&berlin) };
    intake.decode(record, SENT_MS, NOW_MS, Stamp { scheduled_at_us: NOW_MS * 1_000, origin: 7 })
}

fn told(record: &Content) -> Result<i64, (&'static str, String)> {
    match decode(record) {
        Ok(accepted) => Ok(accepted.envelope.due_ms),
        Err(rejected) => Err((rejected.code(), rejected.to_string())),
    }
}

fn headers(from: &[(&'static str, &'static str)]) -> Vec<Header> {
    from.iter().map(|(name, value)| Header::new(*name, *value)).collect()
}

#[test]
fn each_line_of_the_table() {
    for (what, from, fate) in TABLE {
        let record = Content { headers: headers(from), ..Content::default() };
        let expected = match fate {
            Due(ms) => Ok(*ms),
            Dead(code, text) => Err((*code, (*text).to_owned())),
        };
        assert_eq!(told(&record), expected, "{what}");
    }
}

#[test]
fn not_utf8_and_null_are_told_by_name() {
    for (name, other) in [("ksched-topic", AT), ("ksched-deliver-at", TO)] {
        let with = |value: Option<&'static [u8]>| Content {
            headers: vec![
                Header::new(other.0, other.1),
                Header { name: name.into(), value: value.map(Bytes::from_static) },
            ],
            ..Content::default()
        };
        let not_utf8 = Err(("HEADER_NOT_UTF8", format!("header {name} is not UTF-8")));
        assert_eq!(told(&with(Some(b"2027\xff"))), not_utf8);
        assert_eq!(told(&with(None)), Err(("HEADER_NULL", format!("header {name} is null"))));
    }
}

#[test]
fn a_topic_of_249_characters_is_taken_and_one_of_250_is_not() {
    let to = |length: usize| Content {
        headers: vec![Header::new(AT.0, AT.1), Header::new(TO.0, "t".repeat(length))],
        ..Content::default()
    };
    assert_eq!(told(&to(249)), Ok(AT_MS));
    let text = "topic has 250 bytes, at most 249 are allowed".to_owned();
    assert_eq!(told(&to(250)), Err(("TOPIC_TOO_LONG", text)));
}

#[test]
fn the_intake_topic_is_no_target_whatever_its_name() {
    let cluster = Cluster { intake_topic: "inbox".to_owned(), ..Cluster::default() };
    let intake = Intake { cluster: &cluster, limits: &Limits::default(), compat_zone: None };
    let record = Content { headers: headers(&[AT, ("ksched-topic", "inbox")]), ..Content::default() };
    let stamp = Stamp { scheduled_at_us: 1, origin: 7 };
    assert_eq!(intake.decode(&record, SENT_MS, NOW_MS, stamp).unwrap_err().code(), "TOPIC_INTERNAL");
}

#[test]
fn nulls_and_empties_stay_what_they_are() {
    let some = |bytes: Option<&'static [u8]>| bytes.map(Bytes::from_static);
    for (key, value) in
        [(None, None), (None, Some(&b""[..])), (Some(&b""[..]), None), (Some(b"\0"), Some(b"\xff"))]
    {
        let mut record = Content { key: some(key), value: some(value), headers: headers(&[TO, AT]) };
        record.headers.push(Header { name: "null".into(), value: None });
        let content = decode(&record).unwrap().content;
        assert_eq!((content.key, content.value), (some(key), some(value)));
        assert_eq!(content.headers, [Header { name: "null".into(), value: None }]);
    }
}

#[test]
fn many_and_large_headers_are_refused_with_their_numbers() {
    let with =
        |more: Vec<Header>| Content { headers: [headers(&[TO, AT]), more].concat(), ..Content::default() };
    let many = with(vec![Header { name: "h".into(), value: None }; 10_000]);
    let text = "headers are 10000, at most 1000 are allowed".to_owned();
    assert_eq!(told(&many), Err(("TOO_MANY_HEADERS", text)));
    let large = with(vec![Header::new("h", vec![0; 1 << 20])]);
    let text = "message has 1048585 bytes, at most 1044492 fit".to_owned();
    assert_eq!(told(&large), Err(("MESSAGE_TOO_LARGE", text)));
}

#[test]
fn what_just_fits_is_taken_and_one_byte_more_is_not() {
    let max = Limits::default().max_record_bytes;
    let sized = |bytes: usize| Content {
        value: Some(vec![0; bytes].into()),
        headers: headers(&[TO, AT]),
        ..Content::default()
    };
    // The headers of the dialect are taken off and take no room.
    assert_eq!(told(&sized(max)), Ok(AT_MS));
    let text = format!("message has {} bytes, at most {max} fit", max + 1);
    assert_eq!(told(&sized(max + 1)), Err(("MESSAGE_TOO_LARGE", text)));
}

/// A producer with a broken clock: its delay must not be counted from 1970.
#[test]
fn a_delay_from_a_timestamp_that_cannot_be_is_refused() {
    let (cluster, limits) = (Cluster::default(), Limits::default());
    let intake = Intake { cluster: &cluster, limits: &limits, compat_zone: None };
    let record = Content { headers: headers(&delay("1h")), ..Content::default() };
    let stamp = Stamp { scheduled_at_us: 1, origin: 7 };
    for timestamp_ms in [0, NOW_MS / 1_000, NOW_MS * 1_000, i64::MAX] {
        let rejected = intake.decode(&record, timestamp_ms, NOW_MS, stamp).unwrap_err();
        assert_eq!(rejected.code(), "DUE_TIME_OUT_OF_RANGE", "{timestamp_ms}");
    }
}
