use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::message::Target;

fn envelope() -> Envelope {
    Envelope {
        due_ms: 1_795_000_000_123,
        scheduled_at_us: 1_794_000_000_000_999,
        origin: 7,
        hops: 3,
        target: Target { topic: "orders".into(), partition: None },
        not_before_ms: None,
        identity: None,
        stamps: false,
        trace: None,
    }
}

fn cluster(delivered_headers: DeliveredHeaders) -> Cluster {
    Cluster { delivered_headers, ..Cluster::default() }
}

fn texts(content: &Content) -> Vec<(&str, &str)> {
    content
        .headers
        .iter()
        .map(|header| (&*header.name, std::str::from_utf8(header.value.as_ref().unwrap()).unwrap()))
        .collect()
}

#[test]
fn our_headers_stand_behind_the_users() {
    let user = Content { headers: vec![Header::new("a", "1")], ..Content::default() };
    let id = envelope().id(2).to_string();
    let all = deliver(&cluster(DeliveredHeaders::All), &envelope(), 2, user.clone(), 5);
    let expected = [
        ("a", "1"),
        ("ksched-id", id.as_str()),
        ("ksched-due", "1795000000123"),
        ("ksched-scheduled-at", "1794000000000"),
        ("ksched-hops", "3"),
    ];
    assert_eq!(texts(&all), expected);
    let only_id = deliver(&cluster(DeliveredHeaders::Id), &envelope(), 2, user.clone(), 5);
    assert_eq!(texts(&only_id), expected[..2]);
    let none = deliver(&cluster(DeliveredHeaders::None), &envelope(), 2, user.clone(), 5);
    assert_eq!(none, user);
}

#[test]
fn stamps_where_they_are_asked_for() {
    let stamps = [
        ("__sm_mh_timestamp", "1794000000000"),
        ("__sm_job_id", "lane/2"),
        ("__sm_worker_timestamp", "1795000000130"),
        ("__sm_message_hopcount", "3"),
    ];
    let plain = cluster(DeliveredHeaders::None);
    let everywhere = Cluster { compat_stamps: true, ..plain.clone() };
    let came_with = Envelope { stamps: true, ..envelope() };
    for (cluster, envelope) in [(&plain, &came_with), (&everywhere, &envelope())] {
        let delivered = deliver(cluster, envelope, 2, Content::default(), 1_795_000_000_130);
        assert_eq!(texts(&delivered), stamps);
    }
}

#[test]
fn our_headers_take_at_most_120_bytes() {
    let largest = Envelope {
        due_ms: crate::time::LATEST_MS,
        scheduled_at_us: 9_999_999_999_999_999,
        origin: u32::MAX,
        hops: 999,
        ..envelope()
    };
    let delivered = deliver(&cluster(DeliveredHeaders::All), &largest, u16::MAX, Content::default(), 0);
    assert!(delivered.size() <= 120, "{}", delivered.size());
}

#[test]
fn what_is_not_ours_is_told() {
    let with = |headers| Content { headers, ..Content::default() };
    let envelope = Header::new(envelope::NAME, envelope().encode());
    let cases = [
        (with(vec![]), NotStored::NoEnvelope),
        (with(vec![Header::new("a", ""), envelope]), NotStored::NoEnvelope),
        (with(vec![Header { name: "ks".into(), value: None }]), NotStored::NoEnvelope),
        (with(vec![Header::new("ks", "")]), NotStored::Envelope(DecodeError::Truncated)),
        (with(vec![Header::new("ks", &[9][..])]), NotStored::Envelope(DecodeError::Version(9))),
    ];
    for (content, reason) in cases {
        assert_eq!(read_envelope(&content), Err(reason));
        assert_eq!(split(content), Err(reason));
    }
}

#[test]
fn payloads_are_not_copied() {
    let value = Bytes::from(vec![1; 100]);
    let user = Content { value: Some(value.clone()), ..Content::default() };
    let (_, split) = split(store(&envelope(), user)).unwrap();
    let delivered = deliver(&Cluster::default(), &envelope(), 0, split, 0);
    assert_eq!(delivered.value.unwrap().as_ptr(), value.as_ptr());
}

proptest! {
    #[test]
    fn the_users_bytes_survive_storing_and_delivery(
        key: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        headers in proptest::collection::vec(("[a-c]{1,2}|ks", any::<Option<Vec<u8>>>()), 0..8),
        lane: u16,
    ) {
        let headers: Vec<_> = headers
            .into_iter()
            .map(|(name, value)| Header { name: name.into(), value: value.map(Bytes::from) })
            .collect();
        let user = Content { key: key.map(Bytes::from), value: value.map(Bytes::from), headers };
        let stored = store(&envelope(), user.clone());
        prop_assert_eq!(read_envelope(&stored), Ok(envelope()));
        let (read, split) = split(stored).unwrap();
        prop_assert_eq!(&read, &envelope());
        prop_assert_eq!(&split, &user);
        let delivered = deliver(&Cluster::default(), &read, lane, split, 0);
        prop_assert_eq!((&delivered.key, &delivered.value), (&user.key, &user.value));
        prop_assert_eq!(&delivered.headers[..user.headers.len()], &user.headers[..]);
    }
}

#[test]
fn the_span_of_scheduling_goes_along_unless_the_user_sent_one() {
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = Envelope { trace: trace::TraceContext::parse(traceparent.as_bytes()), ..envelope() };
    let last = |cluster: &Cluster, user: Content| {
        let delivered = deliver(cluster, &traced, 2, user, 5);
        texts(&delivered).last().map(|(name, value)| (name.to_string(), value.to_string()))
    };
    let all = cluster(DeliveredHeaders::All);
    assert_eq!(last(&all, Content::default()), Some(("traceparent".to_owned(), traceparent.to_owned())));
    assert_eq!(last(&cluster(DeliveredHeaders::Id), Content::default()).unwrap().1, traceparent);
    let own = Content { headers: vec![Header::new("traceparent", "theirs")], ..Content::default() };
    assert_eq!(last(&all, own).unwrap().0, "ksched-hops", "the user's own is neither changed nor repeated");
    assert_eq!(last(&cluster(DeliveredHeaders::None), Content::default()), None);
    let size = |envelope| deliver(&all, envelope, 2, Content::default(), 5).size();
    assert_eq!(size(&traced), size(&envelope()) + 66);
}
