//! What holds for any bytes: nothing panics, what is accepted is stored and read back
//! as it was, and lies in a partition that exists.

use bytes::Bytes;
use jiff::tz::TimeZone;
use ksched_core::{
    cluster::{Cluster, Geometry},
    delivered,
    envelope::Envelope,
    intake::Intake,
    message::{Content, Header},
    time::{EARLIEST_MS, LATEST_MS, parse_at, parse_delay, parse_due},
    validate::{Accepted, Attempt, Door, Limits, Request, Stamp, When},
    wheel::{Inlet, Place},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

fn cluster() -> Cluster {
    Cluster { geometry: Geometry { lanes: 8, ..Geometry::default() }, ..Cluster::default() }
}

/// What is accepted can be stored, split again and delivered, and has its place.
fn judge(accepted: &Accepted, now_ms: i64) -> Result<(), TestCaseError> {
    let cluster = cluster();
    let geometry = &cluster.geometry;
    let Accepted { content, envelope, lane } = accepted;
    prop_assert!((EARLIEST_MS..=LATEST_MS).contains(&envelope.due_ms));
    prop_assert!(*lane < geometry.lanes);
    let stored = delivered::store(envelope, content.clone());
    let room = Limits::default().max_record_bytes + ksched_core::validate::HEAD_ROOM;
    prop_assert!(Limits::record_bytes(&stored) < room);
    let (read, user) = delivered::split(stored).map_err(|e| TestCaseError::fail(e.to_string()))?;
    prop_assert_eq!((&read, &user), (envelope, content));
    prop_assert_eq!(Envelope::decode(&read.encode()), Ok(read));
    let id = envelope.id(*lane);
    prop_assert_eq!(id.to_string().parse(), Ok(id));
    match geometry.route(envelope.due_ms, now_ms, *lane) {
        Place::DueLane => {
            let partition = geometry.due_partition(*lane, Inlet::Direct);
            prop_assert!((0..geometry.due_partitions()).contains(&partition));
        }
        Place::Bucket(bucket) => {
            prop_assert!((1..=geometry.levels).contains(&bucket.level));
            let partition = geometry.bucket_partition(bucket);
            prop_assert!((0..geometry.wheel_partitions()).contains(&partition));
        }
    }
    Ok(())
}

/// Pieces that hostile texts are made of, and anything else.
fn hostile_text() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "2027-01-01",
        "2023-02-30",
        "T",
        " ",
        "18:40",
        ":00",
        ":60",
        ".5",
        "Z",
        "+02:00",
        "-99:99",
        "CET",
        "IST",
        "[Europe/Berlin]",
        "[",
        "]",
        "Europe/Berlin",
        "1 Sep 2027",
        "1795000000",
        "000",
        "9",
        "-",
        "P",
        "PT",
        "h",
        "m",
        "s",
        "ms",
        "w",
        "e3",
        "NaN",
        "today",
        "tomorrow",
        "09:00",
        "\u{0}",
        "ü",
        "\u{202e}",
        "９",
    ]);
    prop_oneof![vec(piece, 0..8).prop_map(|pieces| pieces.concat()), "\\PC{0,140}"]
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 0..40).prop_map(Bytes::from), hostile_text().prop_map(Bytes::from)]
}

fn any_header() -> impl Strategy<Value = Header> {
    let known = select(vec![
        "ksched-topic",
        "ksched-deliver-at",
        "ksched-delay",
        "ksched-partition",
        "ksched-id",
        "topic",
        "time",
        "traceparent",
        "ks",
        "__sm_job_id",
        "",
    ]);
    let name = prop_oneof![4 => known.prop_map(str::to_owned), 1 => "\\PC{0,12}"];
    let fine = select(vec!["orders", "ksched.due", "2027-01-01T00:00:00Z", "90s", "1795000000000", "3"]);
    let value = prop_oneof![3 => fine.prop_map(|text| Some(text.into())), 1 => option::of(any_bytes())];
    (name, value).prop_map(|(name, value)| Header { name: name.into(), value })
}

fn any_content() -> impl Strategy<Value = Content> {
    (option::of(any_bytes()), option::of(any_bytes()), vec(any_header(), 0..7))
        .prop_map(|(key, value, headers)| Content { key, value, headers })
}

fn any_ms() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        EARLIEST_MS..LATEST_MS,
        select(vec![i64::MIN, i64::MAX, -1, 0, EARLIEST_MS - 1, LATEST_MS + 1, 1_795_000_000]),
    ]
}

const STAMP: Stamp = Stamp { scheduled_at_us: 1_795_000_000_000_000, origin: 7 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_record_is_taken_whole_or_refused_with_a_reason(
        record in any_content(), timestamp_ms in any_ms(), now_ms in EARLIEST_MS..LATEST_MS, zone: bool,
    ) {
        let (cluster, limits) = (cluster(), Limits::default());
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let intake = Intake { cluster: &cluster, limits: &limits, compat_zone: zone.then_some(&berlin) };
        match intake.decode(&record, timestamp_ms, now_ms, STAMP) {
            Ok(accepted) => {
                judge(&accepted, now_ms)?;
                prop_assert_eq!((&accepted.content.key, &accepted.content.value), (&record.key, &record.value));
                // What is left is a part of what came, in its order.
                let mut came = record.headers.iter();
                prop_assert!(accepted.content.headers.iter().all(|kept| came.any(|header| header == kept)));
            }
            Err(rejected) => {
                let code = rejected.code();
                prop_assert!(!code.is_empty() && code.bytes().all(|b| b.is_ascii_uppercase() || b"_8".contains(&b)));
                prop_assert!(!rejected.to_string().is_empty());
            }
        }
    }

    #[test]
    fn any_request_is_taken_whole_or_refused_by_field(
        topic in prop_oneof![2 => Just("orders".to_owned()), 1 => hostile_text()],
        partition: Option<i32>, content in any_content(), ms in any_ms(), delay: bool, timeless: bool,
        request_id in option::of(prop_oneof![Just("r-1".to_owned()), hostile_text()]),
        attempt in option::of((vec(any::<u8>(), 14..18), any::<u32>(), any_ms())),
        now_ms in EARLIEST_MS..LATEST_MS,
    ) {
        let (cluster, limits) = (cluster(), Limits::default());
        let when = if delay { When::Delay(ms) } else { When::Due(ms) };
        let request = Request {
            topic: topic.into(),
            partition,
            content: content.clone(),
            when: (!timeless).then_some(when),
            request_id: request_id.map(Into::into),
            attempt: attempt.map(|(id, number, first_at_ms)| Attempt { id: id.into(), number, first_at_ms }),
        };
        match (Door { cluster: &cluster, limits: &limits }).accept(request, now_ms, STAMP) {
            Ok(accepted) => {
                prop_assert_eq!(&accepted.content, &content);
                judge(&accepted, now_ms)?;
            }
            Err(faults) => {
                prop_assert!((1..=16).contains(&faults.len()));
                prop_assert!(faults.iter().all(|fault| !fault.to_string().is_empty()));
            }
        }
    }

    #[test]
    fn any_text_is_a_time_in_range_or_none(text in hostile_text(), now_ms in any_ms()) {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        for zone in [None, Some(&berlin)] {
            for due in [parse_due(&text, zone), parse_at(&text, now_ms, zone)].into_iter().flatten() {
                prop_assert!((EARLIEST_MS..=LATEST_MS).contains(&due));
            }
        }
        let delay = parse_delay(&text);
        prop_assert!(delay.as_ref().is_ok_and(|ms| *ms >= 0) || delay.is_err());
        // Nothing is both: a delay is never taken for a time.
        prop_assert!(delay.is_err() || parse_due(&text, Some(&berlin)).is_err());
    }

    #[test]
    fn any_bytes_are_the_envelope_they_encode_or_none(bytes in vec(any::<u8>(), 0..80), version: bool) {
        let mut bytes = bytes;
        if let (Some(first), true) = (bytes.first_mut(), version) {
            *first = 1;
        }
        if let Ok(envelope) = Envelope::decode(&bytes) {
            prop_assert_eq!(envelope.encode(), bytes);
        }
    }

    #[test]
    fn a_damaged_envelope_is_told_or_is_another(damage: prop::sample::Index, by in 1_u8.., due_ms: i64) {
        let topic = "orders".into();
        let envelope = Envelope {
            due_ms, scheduled_at_us: 1, origin: 7, hops: 2, target: ksched_core::message::Target { topic, partition: Some(3) },
            not_before_ms: Some(5), identity: None, stamps: true, trace: None,
        };
        let mut bytes = envelope.encode();
        let at = damage.index(bytes.len());
        bytes[at] ^= by;
        prop_assert_ne!(Envelope::decode(&bytes), Ok(envelope));
    }
}
