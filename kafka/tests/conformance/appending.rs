//! The coordinator's appender.

use std::{sync::Arc, time::Duration};

use ksched_core::message::Header;
use ksched_kafka::{
    RefusalReason,
    append::{Append, Appender, Error, Limits},
};

use crate::bed::{Bed as _, Server, read_all, text, unique, values, wait};

fn append_to(topic: &Arc<str>, partition: i32, value: &str) -> Append {
    Append { topic: Arc::clone(topic), partition, content: text(value), timestamp_ms: None }
}

pub(crate) fn every_record_gets_its_own_result(bed: &Server) {
    let (log, topic) =
        (bed.log(), bed.topic_with("append", 2, &[("message.timestamp.type", "LogAppendTime")]));
    let other = bed.topic("append-other", 1);
    let appender = Appender::new(&log, Limits::default(), Arc::clone(&topic)).unwrap();
    let mut bad_name = append_to(&topic, 0, "bad name");
    bad_name.content.headers.push(Header::new("a\0b", "v"));
    let records = vec![
        append_to(&topic, 0, "0"),
        append_to(&topic, 7, "1"),
        append_to(&topic, 1, "2"),
        bad_name,
        append_to(&topic, 0, "4"),
        append_to(&topic, 2, "5"),
        // By another producer.
        append_to(&other, 0, "6"),
    ];
    let results = wait(appender.append_all(records, None));
    let offsets: Vec<_> = results.iter().map(|each| each.as_ref().ok().map(|done| done.offset)).collect();
    assert_eq!(offsets, [Some(0), None, Some(0), None, Some(1), None, Some(0)], "{results:?}");
    assert_eq!(results[1], Err(Error::NotAppended(RefusalReason::UnknownTarget)));
    assert!(matches!(results[3], Err(Error::NotAppended(RefusalReason::Invalid(_)))));
    assert_eq!(results[5], Err(Error::NotAppended(RefusalReason::UnknownTarget)));
    assert_eq!(values(&read_all(&log, &topic, 0)), ["0", "4"]);

    assert!(wait(appender.append_all(Vec::new(), None)).is_empty());
    // A future that is dropped takes nothing back.
    drop(appender.append_all(vec![append_to(&topic, 1, "dropped")], None));
    assert_eq!(wait(appender.close(Duration::from_secs(30))), 0);
    assert_eq!(values(&read_all(&log, &topic, 1)), ["2", "dropped"]);
}

pub(crate) fn an_unknown_topic_is_refused(bed: &Server) {
    let appender = Appender::new(&bed.log(), Limits::default(), "another".into()).unwrap();
    let nowhere: Arc<str> = unique("nowhere").into();
    let results = wait(appender.append_all(vec![append_to(&nowhere, 0, "x")], None));
    assert_eq!(results, [Err(Error::NotAppended(RefusalReason::UnknownTarget))]);
}

pub(crate) fn too_much_in_flight_is_refused_at_once(bed: &Server) {
    let (log, topic) = (bed.log(), bed.topic("overload", 1));
    let appender = Appender::new(&log, Limits { bytes: 1 << 20, records: 100 }, Arc::clone(&topic)).unwrap();
    let call = |count| appender.append_all((0..count).map(|_| append_to(&topic, 0, "x")).collect(), None);
    let (most, rest) = (call(90), call(20));
    let rest = wait(rest);
    assert!(rest.iter().all(|each| *each == Err(Error::Overloaded)), "{rest:?}");
    assert!(wait(most).iter().all(Result::is_ok));
    // What was refused no longer counts.
    assert!(wait(call(100)).iter().all(Result::is_ok));
    assert!(wait(call(101)).iter().all(|each| *each == Err(Error::Overloaded)));
    assert_eq!(read_all(&log, &topic, 0).len(), 190);
}
