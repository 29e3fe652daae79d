//! Reader, offsets, DeleteRecords.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ksched_core::message::{Content, Header};
use ksched_kafka::{Error, Log as _, Offset, Producer as _, Reader as _, TransactionalProducer as _};

use crate::bed::{Bed, append, at, eventually, partitions_of, read, read_all, text, to, unique, values};

pub(crate) fn content_survives_byte_for_byte(bed: &impl Bed) {
    let (log, topic) = (bed.log(), bed.topic("content", 1));
    let header = |name: &str, value: Option<&'static [u8]>| Header {
        name: name.into(),
        value: value.map(bytes::Bytes::from_static),
    };
    let contents = [
        Content::default(),
        Content { key: Some("".into()), value: Some("".into()), headers: vec![] },
        Content {
            key: Some(vec![0, 255, 10].into()),
            value: None,
            headers: vec![
                header("b", Some(b"2")),
                header("a", None),
                header("b", Some(b"")),
                header("", Some(b"\0\xff")),
                header("ü\u{1f980}", Some(b"x")),
                header("b", Some(b"2")),
            ],
        },
        Content { key: None, value: Some(vec![7; 300_000].into()), headers: vec![] },
    ];
    let mut producer = log.producer().unwrap();
    for (tag, content) in contents.iter().enumerate() {
        producer.send(tag, to(&topic, 0, content)).unwrap();
    }
    assert!(producer.flush().unwrap().is_empty());

    let mut reader = log.reader(1 << 20).unwrap();
    reader.assign(&[(at(&topic, 0), 0)]).unwrap();
    let records = read(&mut reader, contents.len());
    for (offset, (record, content)) in (0..).zip(records.iter().zip(&contents)) {
        assert_eq!((record.offset, &record.source), (offset, &at(&topic, 0)));
        assert_eq!(&record.content, content);
        assert!(record.timestamp_ms > 1_700_000_000_000);
    }
}

/// A drain reads to the stable end captured at its start and must see that it is there,
/// even when nothing but markers and aborted records is at the end of the log.
pub(crate) fn position_passes_markers_and_aborted_records(bed: &impl Bed) {
    let (log, topic) = (bed.log(), bed.topic("markers", 3));
    let id = unique("markers");
    // Partition 0: two committed, then aborted ones. 1: only aborted ones. 2: a marker last.
    let mut first = log.transactional(&id).unwrap();
    first.init().unwrap();
    first.begin().unwrap();
    for (tag, partition) in [(0, 0), (1, 0), (2, 2)] {
        first.send(tag, to(&topic, partition, &text("committed"))).unwrap();
    }
    first.commit(&[]).unwrap();
    first.begin().unwrap();
    for (tag, partition) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
        first.send(tag, to(&topic, partition, &text("aborted"))).unwrap();
    }
    first.flush().unwrap();
    log.transactional(&id).unwrap().init().unwrap();

    let all = partitions_of(&topic, 3);
    let ends = log.offsets(&all, Offset::StableEnd).unwrap();
    assert_eq!(ends, log.offsets(&all, Offset::End).unwrap());
    assert_eq!(ends, [6, 3, 2]);
    let mut reader = log.reader(1 << 20).unwrap();
    reader.assign(&all.iter().map(|each| (each.clone(), 0)).collect::<Vec<_>>()).unwrap();
    let mut records = Vec::new();
    eventually("positions reach the ends", || {
        records.extend(reader.poll(Duration::from_millis(20)).unwrap());
        all.iter().zip(&ends).all(|(each, end)| reader.position(each).unwrap() == *end)
    });
    assert_eq!(values(&records), ["committed"; 3]);
}

pub(crate) fn position_is_the_new_one_after_assigning_again(bed: &impl Bed) {
    let (log, topic) = (bed.log(), bed.topic("again", 2));
    append(&log, &topic, 0, &["a", "b", "c"]);
    let mut reader = log.reader(1 << 20).unwrap();
    reader.assign(&[(at(&topic, 0), 0)]).unwrap();
    read(&mut reader, 3);
    assert_eq!(reader.position(&at(&topic, 0)).unwrap(), 3);
    reader.assign(&[(at(&topic, 1), 0)]).unwrap();
    assert_eq!(reader.position(&at(&topic, 1)).unwrap(), 0);
    assert!(reader.position(&at(&topic, 0)).is_err());
    reader.assign(&[(at(&topic, 0), 1)]).unwrap();
    assert_eq!(reader.position(&at(&topic, 0)).unwrap(), 1);
    assert_eq!(values(&read(&mut reader, 2)), ["b", "c"]);
}

pub(crate) fn an_offset_out_of_range_is_an_error(bed: &impl Bed) {
    let (log, topic) = (bed.log(), bed.topic("range", 1));
    append(&log, &topic, 0, &["a"]);
    let mut reader = log.reader(1 << 20).unwrap();
    reader.assign(&[(at(&topic, 0), 1_000)]).unwrap();
    eventually("poll refuses", || match reader.poll(Duration::from_millis(100)) {
        Ok(None) => false,
        Ok(Some(record)) => panic!("silently reset to {}", record.offset),
        Err(Error::Refused(_)) => true,
        Err(other) => panic!("{other}"),
    });
}

pub(crate) fn paused_partitions_are_not_fetched(bed: &impl Bed) {
    let (log, topic) = (bed.log(), bed.topic("paused", 2));
    let mut reader = log.reader(1 << 20).unwrap();
    reader.assign(&[(at(&topic, 0), 0), (at(&topic, 1), 0)]).unwrap();
    append(&log, &topic, 0, &["before"]);
    read(&mut reader, 1);
    reader.pause(&[at(&topic, 0)]).unwrap();
    append(&log, &topic, 0, &["while paused"]);
    append(&log, &topic, 1, &["other"]);
    assert_eq!(values(&read(&mut reader, 1)), ["other"]);
    assert!(reader.poll(Duration::from_millis(300)).unwrap().is_none());
    reader.resume(&[at(&topic, 0)]).unwrap();
    assert_eq!(values(&read(&mut reader, 1)), ["while paused"]);
    assert_eq!(reader.position(&at(&topic, 0)).unwrap(), 2);
}

pub(crate) fn offsets_of_hundreds_of_partitions(bed: &impl Bed) {
    let (log, topic) = (bed.log(), bed.topic("hundreds", 300));
    let all = partitions_of(&topic, 300);
    // Recent, or retention would be quicker than the test.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let earlier = i64::try_from(now.as_millis()).unwrap() - 60_000;
    for (partition, timestamp_ms) in [(7, earlier), (7, earlier + 1_000), (299, earlier + 2_000)] {
        let mut producer = log.producer().unwrap();
        let content = text("x");
        let mut outgoing = to(&topic, partition, &content);
        outgoing.timestamp_ms = Some(timestamp_ms);
        producer.send(0, outgoing).unwrap();
        assert!(producer.flush().unwrap().is_empty());
    }
    let mut holder = log.transactional(&unique("hundreds")).unwrap();
    holder.init().unwrap();
    holder.begin().unwrap();
    holder.send(0, to(&topic, 7, &text("open"))).unwrap();
    holder.flush().unwrap();

    let expect = |which, seventh, last| {
        let found = log.offsets(&all, which).unwrap();
        let mut expected = vec![0; 300];
        (expected[7], expected[299]) = (seventh, last);
        assert_eq!(found, expected, "{which:?}");
    };
    expect(Offset::Start, 0, 0);
    expect(Offset::StableEnd, 2, 1);
    expect(Offset::End, 3, 1);
    expect(Offset::At(earlier + 500), 1, 0);
    // In the order asked for, not in the broker's.
    let mixed = [at(&topic, 299), at(&topic, 7)];
    assert_eq!(log.offsets(&mixed, Offset::StableEnd).unwrap(), [1, 2]);
    let unknown = log.offsets(&[at(&topic, 7), at(&topic, 300)], Offset::End);
    assert!(matches!(unknown, Err(Error::Unknown(_))), "{unknown:?}");
}

pub(crate) fn deleted_records_move_the_start(bed: &impl Bed) {
    let (log, topic) = (bed.log(), bed.topic("deleted", 2));
    append(&log, &topic, 1, &["a", "b", "c"]);
    bed.delete_records(&[(at(&topic, 1), 2)]).unwrap();
    assert_eq!(log.offsets(&partitions_of(&topic, 2), Offset::Start).unwrap(), [0, 2]);
    assert_eq!(values(&read_all(&log, &topic, 1)), ["c"]);
    let beyond = bed.delete_records(&[(at(&topic, 1), 9)]);
    assert!(beyond.is_err());
}
