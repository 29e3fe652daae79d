//! Requests that come late or twice, and what a client makes of them.

use super::{
    Arc, Duration, Failure, Fate, Faulty, MemoryLog, Offset, Response, add, at, broker, commit, failed, init,
    is_end, is_produce, one_offset, position, produce, shape, text, to,
};
use crate::log::Log as _;
use crate::{
    log::{Producer as _, TransactionError, TransactionalProducer as _},
    memory::{MemoryTransactional, Verification},
};

fn holder(log: &MemoryLog) -> MemoryTransactional {
    let mut holder = log.transactional("x").unwrap();
    holder.init().unwrap();
    holder
}

/// Fires one record and commits.
fn fire(holder: &mut MemoryTransactional, value: &str) -> Result<(), TransactionError> {
    holder.begin()?;
    holder.send(0, to(0, &text(value)))?;
    holder.commit(&[(at(1), position(1))])
}

#[test]
fn a_late_end_ends_the_next_transaction_of_its_epoch_half_way() {
    let (broker, _) = broker();
    let link = Faulty::new(&broker, is_end, &[Fate::Delayed]);
    let log = MemoryLog::new(Arc::<Faulty>::clone(&link), "g").ignoring_disconnects();
    let mut holder = holder(&log);
    // Repeated inside, and all seems well.
    fire(&mut holder, "first").unwrap();
    assert!(*link.paused.lock() > Duration::ZERO);
    holder.begin().unwrap();
    holder.send(0, to(0, &text("half"))).unwrap();
    holder.flush().unwrap();
    assert_eq!(link.release(), [Response::Done]);
    // Half of a transaction is out; its holder knows nothing and adds the other half,
    // which nobody asked the coordinator about.
    assert_eq!(shape(&broker, 0), "done:first C done:half C");
    holder.send(1, to(0, &text("hangs"))).unwrap();
    holder.flush().unwrap();
    assert_eq!(shape(&broker, 0), "done:first C done:half C open:hangs");
    // Without an open transaction the end is taken for a repeated one.
    holder.commit(&[]).unwrap();
    assert_eq!((one_offset(&log, Offset::StableEnd), one_offset(&log, Offset::End)), (4, 5));
}

#[test]
fn what_was_noted_makes_a_commit_unclean_that_seemed_well() {
    for fate in [Fate::Delayed, Fate::AnswerLost] {
        let (broker, _) = broker();
        let link = Faulty::new(&broker, is_end, &[fate]);
        let log = MemoryLog::new(Arc::<Faulty>::clone(&link), "g");
        let mut old = holder(&log);
        let unclean = fire(&mut old, "first");
        assert!(
            matches!(&unclean, Err(TransactionError::Unclean(why)) if why.starts_with("noted")),
            "{unclean:?}"
        );
        assert_eq!(shape(&broker, 0), "done:first C");
        assert!(old.begin().is_err());
        // Whoever begins anew is safe from the late one.
        let mut new = holder(&log);
        new.begin().unwrap();
        new.send(0, to(0, &text("second"))).unwrap();
        new.flush().unwrap();
        assert!(link.release().iter().all(|answer| *answer == failed(Failure::Fenced)));
        new.commit(&[]).unwrap();
        assert_eq!(shape(&broker, 0), "done:first C done:second C");
    }
}

#[test]
fn a_late_record_hangs_where_no_transaction_is_open() {
    let (broker, _) = broker();
    let log = MemoryLog::direct(&broker, "g");
    let producer = init(&broker, "x");
    for request in [add("x", producer), produce("x", producer, 0, "first"), commit("x", producer)] {
        assert!(!matches!(broker.handle(&request), Response::Failed(_)));
    }
    let late = produce("x", producer, 1, "late");
    assert_eq!(broker.handle(&late), Response::Appended { base_offset: 2 });
    assert_eq!(shape(&broker, 0), "done:first C open:late");
    // A new holder does not help: the coordinator knows of nothing to end there.
    let producer = init(&broker, "x");
    assert_eq!(one_offset(&log, Offset::StableEnd), 2);
    // Another transaction with this partition does, and takes the record with it.
    for request in [add("x", producer), commit("x", producer)] {
        assert_eq!(broker.handle(&request), Response::Done);
    }
    assert_eq!(shape(&broker, 0), "done:first C done:late C");
}

#[test]
fn a_late_record_joins_the_next_transaction_if_its_number_fits() {
    let (broker, _) = broker();
    let producer = init(&broker, "x");
    for request in [add("x", producer), produce("x", producer, 0, "first"), commit("x", producer)] {
        assert!(!matches!(broker.handle(&request), Response::Failed(_)));
    }
    assert_eq!(broker.handle(&add("x", producer)), Response::Done);
    // A gap, and one that was here before.
    assert_eq!(broker.handle(&produce("x", producer, 2, "no")), failed(Failure::OutOfOrderSequence));
    let again = broker.handle(&produce("x", producer, 0, "first"));
    assert_eq!(again, Response::Appended { base_offset: 0 });
    assert_eq!(broker.handle(&produce("x", producer, 1, "late")), Response::Appended { base_offset: 2 });
    assert_eq!(broker.handle(&commit("x", producer)), Response::Done);
    assert_eq!(shape(&broker, 0), "done:first C done:late C");
    // A new epoch counts anew.
    let producer = init(&broker, "x");
    assert_eq!(broker.handle(&produce("x", producer, 2, "no")), failed(Failure::OutOfOrderSequence));
}

#[test]
fn a_verifying_broker_refuses_what_would_hang() {
    let (broker, _) = broker();
    broker.set_verification(Verification::On);
    let producer = init(&broker, "x");
    assert_eq!(broker.handle(&produce("x", producer, 0, "late")), failed(Failure::InvalidTxnState));
    let log = MemoryLog::direct(&broker, "g");
    fire(&mut holder(&log), "good").unwrap();
    assert_eq!(shape(&broker, 0), "done:good C");
}

#[test]
fn a_record_that_comes_twice_is_appended_once() {
    let (broker, _) = broker();
    let link = Faulty::new(&broker, is_produce, &[Fate::AnswerLost, Fate::Delayed, Fate::Arrives]);
    let log = MemoryLog::new(Arc::<Faulty>::clone(&link), "g");
    let mut producer = log.producer().unwrap();
    for tag in 0..2 {
        producer.send(tag, to(0, &text(&tag.to_string()))).unwrap();
    }
    assert!(producer.flush().unwrap().is_empty());
    producer.send(2, to(0, &text("2"))).unwrap();
    assert!(producer.flush().unwrap().is_empty());
    assert_eq!(link.release(), [Response::Appended { base_offset: 0 }]);
    assert_eq!(shape(&broker, 0), "plain:0 plain:1 plain:2");
}

#[test]
fn a_batch_that_no_answer_came_for_is_collateral_and_the_next_has_a_new_producer() {
    let (broker, _) = broker();
    let link = Faulty::new(&broker, is_produce, &[Fate::Delayed; 8]);
    let log = MemoryLog::new(Arc::<Faulty>::clone(&link), "g");
    let mut producer = log.producer().unwrap();
    producer.send(0, to(0, &text("lost"))).unwrap();
    let refused = producer.flush().unwrap();
    assert!(matches!(refused[0].reason, crate::log::RefusalReason::Collateral(_)), "{refused:?}");
    producer.send(1, to(0, &text("next"))).unwrap();
    assert!(producer.flush().unwrap().is_empty());
    assert_eq!(link.release()[0], Response::Appended { base_offset: 1 });
    assert_eq!(shape(&broker, 0), "plain:next plain:lost");
}
