//! What holds without any fault: fencing, time-outs, pending positions, stable ends.

use super::{
    Arc, Duration, Failure, Fate, Faulty, MemoryLog, Offset, Ordering, Position, Request, Response,
    TopicConfig, TopicPartition, add, at, broker, commit, failed, init, one_offset, position, produce,
    session, shape, text, to, value,
};
use crate::log::Log as _;
use crate::{
    log::{
        Error, Outgoing, Producer as _, Reader as _, RefusalReason, TransactionError,
        TransactionalProducer as _,
    },
    memory::ProducerId,
};

fn commit_pending(id: &str, producer: ProducerId, offset: i64) -> Request {
    let positions = vec![(at(1), position(offset))];
    Request::TxnOffsetCommit { session: session(id, producer), group: "g".into(), positions }
}

fn add_offsets(id: &str, producer: ProducerId) -> Request {
    Request::AddOffsets { session: session(id, producer), group: "g".into() }
}

#[test]
fn a_new_epoch_fences_every_request_of_the_old() {
    let (broker, _) = broker();
    let old = init(&broker, "x");
    for request in [add("x", old), produce("x", old, 0, "old"), add_offsets("x", old)] {
        assert!(!matches!(broker.handle(&request), Response::Failed(_)));
    }
    let new = init(&broker, "x");
    assert!(new.id == old.id && new.epoch > old.epoch);
    assert_eq!(shape(&broker, 0), "gone:old A");
    let late = [
        add("x", old),
        produce("x", old, 1, "late"),
        add_offsets("x", old),
        commit_pending("x", old, 7),
        commit("x", old),
    ];
    for request in late {
        assert_eq!(broker.handle(&request), failed(Failure::Fenced), "{request:?}");
    }
    assert_eq!(shape(&broker, 0), "gone:old A");
}

#[test]
fn a_transaction_that_lives_too_long_is_aborted_and_its_holder_fenced() {
    let (broker, now) = broker();
    let log = MemoryLog::direct(&broker, "g");
    let mut holder = log.transactional("x").unwrap();
    holder.init().unwrap();
    holder.begin().unwrap();
    holder.send(0, to(0, &text("slow"))).unwrap();
    holder.flush().unwrap();
    now.fetch_add(9_999, Ordering::Relaxed);
    broker.tick();
    assert_eq!(shape(&broker, 0), "open:slow");
    now.fetch_add(1, Ordering::Relaxed);
    broker.tick();
    assert_eq!(shape(&broker, 0), "gone:slow A");
    let fenced = holder.commit(&[]);
    assert!(matches!(fenced, Err(TransactionError::Fenced)), "{fenced:?}");
}

#[test]
fn a_pending_position_is_waited_for() {
    let (broker, _) = broker();
    let link = Faulty::new(&broker, |_| false, &[]);
    let log = MemoryLog::new(Arc::<Faulty>::clone(&link), "g");
    log.commit(&[(at(1), position(1))]).unwrap();
    let producer = init(&broker, "x");
    for request in [add_offsets("x", producer), commit_pending("x", producer, 2)] {
        assert_eq!(broker.handle(&request), Response::Done);
    }
    assert_eq!(log.committed_before_pending(&[at(1)]).unwrap(), [Some(position(1))]);
    // Nobody ends it.
    assert!(matches!(log.committed(&[at(1)]), Err(Error::Unavailable(_))));
    // Another partition's is not waited for.
    assert_eq!(log.committed(&[at(0)]).unwrap(), [None]);
    let end = broker.clone();
    *link.at_pause.lock() = Some(Box::new(move || {
        assert_eq!(end.handle(&commit("x", producer)), Response::Done);
    }));
    assert_eq!(log.committed(&[at(1)]).unwrap(), [Some(position(2))]);
}

#[test]
fn an_aborted_position_never_was_and_an_overtaken_one_does_not_come_back() {
    let (broker, _) = broker();
    let log = MemoryLog::direct(&broker, "g");
    let producer = init(&broker, "x");
    for request in [add_offsets("x", producer), commit_pending("x", producer, 2)] {
        assert_eq!(broker.handle(&request), Response::Done);
    }
    let producer = init(&broker, "x");
    assert_eq!(log.committed(&[at(1)]).unwrap(), [None]);
    for request in [add_offsets("x", producer), commit_pending("x", producer, 3)] {
        assert_eq!(broker.handle(&request), Response::Done);
    }
    log.commit(&[(at(1), position(4))]).unwrap();
    assert_eq!(broker.handle(&commit("x", producer)), Response::Done);
    assert_eq!(log.committed(&[at(1)]).unwrap(), [Some(position(4))]);
}

#[test]
fn the_stable_end_is_the_first_open_transaction_s_and_positions_pass_what_is_hidden() {
    let (broker, _) = broker();
    let log = MemoryLog::direct(&broker, "g");
    let (x, y) = (init(&broker, "x"), init(&broker, "y"));
    let first = [add("x", x), add("y", y), produce("x", x, 0, "x"), produce("y", y, 0, "y"), commit("y", y)];
    for request in first {
        assert!(!matches!(broker.handle(&request), Response::Failed(_)));
    }
    assert_eq!((one_offset(&log, Offset::StableEnd), one_offset(&log, Offset::End)), (0, 3));
    let mut reader = log.reader(1 << 20).unwrap();
    reader.assign(&[(at(0), 0)]).unwrap();
    assert!(reader.poll(Duration::ZERO).unwrap().is_none());
    assert_eq!(reader.position(&at(0)).unwrap(), 0);
    // The next epoch aborts x; y's record is then seen, and its marker and x's passed.
    init(&broker, "x");
    assert_eq!(shape(&broker, 0), "gone:x done:y C A");
    assert_eq!(value(&reader.poll(Duration::ZERO).unwrap().unwrap()), "y");
    assert_eq!(reader.position(&at(0)).unwrap(), 2);
    assert!(reader.poll(Duration::ZERO).unwrap().is_none());
    assert_eq!(reader.position(&at(0)).unwrap(), 4);
    assert_eq!(one_offset(&log, Offset::StableEnd), 4);
}

#[test]
fn markers_may_take_their_time_and_the_next_transaction_waits_for_them() {
    let (broker, now) = broker();
    broker.set_marker_delay(|| 15);
    let link = Faulty::new(&broker, |_| false, &[]);
    let log = MemoryLog::new(Arc::<Faulty>::clone(&link), "g");
    let mut holder = log.transactional("x").unwrap();
    holder.init().unwrap();
    holder.begin().unwrap();
    holder.send(0, to(0, &text("1"))).unwrap();
    holder.commit(&[(at(1), position(1))]).unwrap();
    assert_eq!(shape(&broker, 0), "open:1");
    *link.at_pause.lock() = Some(Box::new(move || {
        now.fetch_add(15, Ordering::Relaxed);
    }));
    holder.begin().unwrap();
    holder.send(0, to(0, &text("2"))).unwrap();
    holder.flush().unwrap();
    assert_eq!(*link.paused.lock(), Duration::from_millis(5));
    assert_eq!(shape(&broker, 0), "done:1 C open:2");
    assert_eq!(log.committed(&[at(1)]).unwrap(), [Some(position(1))]);
}

#[test]
fn a_poll_waits_in_pauses_and_for_lost_fetches() {
    let (broker, _) = broker();
    let is_fetch = |request: &Request| matches!(request, Request::Fetch { .. });
    let link = Faulty::new(&broker, is_fetch, &[Fate::Arrives, Fate::Delayed]);
    let log = MemoryLog::new(Arc::<Faulty>::clone(&link), "g").fetching_every(Duration::from_millis(400));
    let mut reader = log.reader(1).unwrap();
    reader.assign(&[(at(0), 0)]).unwrap();
    assert!(reader.poll(Duration::from_millis(1_500)).unwrap().is_none());
    // 400 ms, a time-out of 1 s, and what was left.
    assert_eq!(*link.paused.lock(), Duration::from_millis(500));
}

#[test]
fn deleted_records_move_the_start_but_not_on_a_compacted_topic() {
    let (broker, _) = broker();
    let config = TopicConfig { compacted: true, log_append_time: true, ..TopicConfig::default() };
    broker.create_topic("c", 1, config).unwrap();
    let compacted = TopicPartition { topic: "c".into(), partition: 0 };
    assert_eq!(broker.delete_records(&[(compacted, 0)]), Err(Failure::PolicyViolation));
    assert_eq!(broker.delete_records(&[(at(0), 1)]), Err(Failure::OffsetOutOfRange));
    let producer = init(&broker, "x");
    for request in [add("x", producer), produce("x", producer, 0, "open")] {
        assert!(!matches!(broker.handle(&request), Response::Failed(_)));
    }
    // Even under an open transaction.
    broker.delete_records(&[(at(0), 1)]).unwrap();
    let log = MemoryLog::direct(&broker, "g");
    assert_eq!((one_offset(&log, Offset::Start), one_offset(&log, Offset::StableEnd)), (1, 1));
    assert_eq!(broker.handle(&commit("x", producer)), Response::Done);
    assert_eq!(shape(&broker, 0), "C");
}

#[test]
fn metadata_has_a_limit() {
    let (broker, _) = broker();
    let log = MemoryLog::direct(&broker, "g");
    let metadata = |bytes| Position { offset: 0, metadata: "m".repeat(bytes) };
    log.commit(&[(at(0), metadata(4_096))]).unwrap();
    assert!(matches!(log.commit(&[(at(0), metadata(4_097))]), Err(Error::Refused(_))));
}

#[test]
fn what_a_topic_does_not_take_is_refused_and_more_partitions_are_taken() {
    let (broker, now) = broker();
    let config = TopicConfig { compacted: true, ..TopicConfig::default() };
    broker.create_topic("c", 1, config).unwrap();
    let log = MemoryLog::direct(&broker, "g");
    let mut producer = log.producer().unwrap();
    let content = text("x");
    let ahead = now.load(Ordering::Relaxed) + 3_600_001;
    producer.send(0, Outgoing { topic: "c", ..to(0, &content) }).unwrap();
    producer.send(1, Outgoing { timestamp_ms: Some(ahead), ..to(0, &content) }).unwrap();
    producer.send(2, to(2, &content)).unwrap();
    producer.send(3, to(1, &content)).unwrap();
    let mut refused = producer.flush().unwrap();
    refused.sort_by_key(|each| each.tag);
    assert_eq!(refused.iter().map(|each| each.tag).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(refused[..2].iter().all(|each| matches!(each.reason, RefusalReason::Invalid(_))), "{refused:?}");
    assert_eq!(refused[2].reason, RefusalReason::UnknownTarget);
    broker.create_partitions("t", 3).unwrap();
    assert_eq!(broker.create_partitions("t", 3), Err(Failure::InvalidPartitions));
    producer.send(4, to(2, &content)).unwrap();
    // What is refused uses up no sequence number.
    producer.send(5, to(0, &content)).unwrap();
    assert!(producer.flush().unwrap().is_empty());
}
