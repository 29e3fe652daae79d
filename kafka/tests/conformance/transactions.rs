//! Exactly once: atomic moves, fencing, whose turn it is.

use std::{sync::mpsc, thread, time::Duration};

use ksched_kafka::{
    Error, Log, Offset, Outgoing, Position, TopicPartition, TransactionError, TransactionalProducer, Turns,
    turns::Turn,
};
use rdkafka::{
    ClientConfig, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    producer::{BaseProducer, Producer as _},
};

use crate::bed::{Bed, Server, append, at, read_all, read_settled, text, to, unique, values};

fn position(offset: i64) -> Position {
    Position { offset, metadata: format!("read {offset} \u{2713}") }
}

pub(crate) fn a_move_is_atomic(bed: &impl Bed) {
    let (log, from, target) = (bed.log(), bed.topic("from", 1), bed.topic("target", 2));
    let positions = [(at(&from, 0), position(3))];
    let committed = || log.committed(&[at(&from, 0)]).unwrap().remove(0);
    let mut holder = log.transactional(&unique("move")).unwrap();
    holder.init().unwrap();
    assert_eq!(committed(), None);
    holder.begin().unwrap();
    holder.send(0, to(&target, 0, &text("0"))).unwrap();
    holder.send(1, to(&target, 1, &text("1"))).unwrap();
    holder.flush().unwrap();
    assert!(read_all(&log, &target, 0).is_empty());
    assert_eq!(committed(), None);
    holder.commit(&positions).unwrap();
    assert_eq!(values(&read_settled(&log, &target, 0)), ["0"]);
    assert_eq!(values(&read_settled(&log, &target, 1)), ["1"]);
    assert_eq!(committed(), Some(position(3)));
    // Outside of transactions too, and for many at once.
    log.commit(&[(at(&from, 0), position(4)), (at(&target, 1), position(0))]).unwrap();
    let all = log.committed(&[at(&target, 1), at(&target, 0), at(&from, 0)]).unwrap();
    assert_eq!(all, [Some(position(0)), None, Some(position(4))]);
}

pub(crate) fn a_newer_holder_fences_the_older(bed: &impl Bed) {
    let (log, target) = (bed.log(), bed.topic("fenced", 1));
    let id = unique("fenced");
    let init = || {
        let mut holder = log.transactional(&id).unwrap();
        holder.init().unwrap();
        holder
    };
    // In the middle of a transaction, before its commit.
    let mut old = init();
    old.begin().unwrap();
    old.send(0, to(&target, 0, &text("old"))).unwrap();
    old.flush().unwrap();
    let mut new = init();
    let fenced = old.commit(&[(at(&target, 0), position(1))]);
    assert!(matches!(fenced, Err(TransactionError::Fenced)), "{fenced:?}");
    // Between two transactions.
    new.begin().unwrap();
    new.send(0, to(&target, 0, &text("new"))).unwrap();
    new.commit(&[]).unwrap();
    let _newest = init();
    let fenced = new.begin().and_then(|()| {
        new.send(0, to(&target, 0, &text("late")))?;
        new.commit(&[(at(&target, 0), position(1))])
    });
    assert!(matches!(fenced, Err(TransactionError::Fenced)), "{fenced:?}");
    assert_eq!(values(&read_all(&log, &target, 0)), ["new"]);
    assert_eq!(log.committed(&[at(&target, 0)]).unwrap(), [None]);
}

/// The position of a commit that is under way is waited for: the one before it would
/// make the next holder fire again what the commit settles.
pub(crate) fn committed_waits_for_a_pending_commit(bed: &Server) {
    let group = unique("pending");
    let (log, topic) = (bed.log_of(&group), bed.topic("pending", 1));
    log.commit(&[(at(&topic, 0), position(1))]).unwrap();
    // A bare producer, since `commit` does both steps at once.
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &bed.address).set("group.id", &group);
    let consumer: BaseConsumer = config.create().unwrap();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &bed.address)
        .set("transactional.id", unique("pending"))
        .create()
        .unwrap();
    let limit = Duration::from_secs(30);
    producer.init_transactions(limit).unwrap();
    producer.begin_transaction().unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&topic, 0, rdkafka::Offset::Offset(2)).unwrap();
    producer.send_offsets_to_transaction(&offsets, &consumer.group_metadata().unwrap(), limit).unwrap();
    let answer = thread::scope(|scope| {
        let asking = scope.spawn(|| log.committed(&[at(&topic, 0)]));
        thread::sleep(Duration::from_millis(500));
        assert!(!asking.is_finished(), "answered while the commit was pending");
        producer.commit_transaction(limit).unwrap();
        asking.join().unwrap()
    });
    assert_eq!(answer.unwrap()[0].as_ref().unwrap().offset, 2);
}

pub(crate) fn an_open_transaction_holds_the_stable_end(bed: &impl Bed) {
    let (log, topic) = (bed.log(), bed.topic("stable", 1));
    let (id, here) = (unique("stable"), [at(&topic, 0)]);
    let mut holder = log.transactional(&id).unwrap();
    holder.init().unwrap();
    holder.begin().unwrap();
    holder.send(0, to(&topic, 0, &text("open"))).unwrap();
    holder.flush().unwrap();
    append(&log, &topic, 0, &["behind"]);
    assert_eq!(log.offsets(&here, Offset::StableEnd).unwrap(), [0]);
    assert_eq!(log.offsets(&here, Offset::End).unwrap(), [2]);
    // Whoever takes over frees the readers at once, not at the transaction's time-out.
    log.transactional(&id).unwrap().init().unwrap();
    assert_eq!(log.offsets(&here, Offset::StableEnd).unwrap(), [3]);
    assert_eq!(values(&read_all(&log, &topic, 0)), ["behind"]);
}

/// Design §4.1: with overlapping take-overs one holder has a valid a, the other a valid b.
pub(crate) fn two_holders_never_both_fire(bed: &impl Bed) {
    assert_eq!(fired_by_overlapping_holders(bed, Turn::A), ["1"]);
    // The rule is what does it: with b first the same course fires a message twice.
    assert_eq!(fired_by_overlapping_holders(bed, Turn::B), ["1", "2", "2"]);
}

/// One holder's take-over pauses between its two inits; meanwhile another takes over
/// and fires "1". Then both try to fire "2". What the target got.
fn fired_by_overlapping_holders<B: Bed>(bed: &B, first: Turn) -> Vec<String> {
    let (log, from, target) = (bed.log(), bed.topic("lane", 1), bed.topic("fired", 1));
    let id = unique("lane");
    let producer = |turn: char| log.transactional(&format!("{id}.{turn}")).unwrap();
    let plain = |turn: char| Hooked { inner: producer(turn), before_init: None };
    let fire = |holder: &mut Turns<Hooked<'_, Transactional<B>>>, offset: i64| {
        holder.begin()?;
        holder.send(0, to(&target, 0, &text(&(offset + 1).to_string())))?;
        holder.commit(&[(at(&from, 0), position(offset + 1))])
    };
    let next = || log.committed(&[at(&from, 0)]).unwrap()[0].as_ref().map_or(0, |found| found.offset);

    let (hand_over, quick) = mpsc::channel();
    let meanwhile = || {
        let mut quick = Turns::with_first(plain('a'), plain('b'), first);
        quick.take_over().unwrap();
        fire(&mut quick, next()).unwrap();
        hand_over.send(quick).unwrap();
    };
    let slow_b = Hooked { inner: producer('b'), before_init: Some(Box::new(meanwhile)) };
    let mut slow = Turns::with_first(plain('a'), slow_b, first);
    slow.take_over().unwrap();
    let mut quick = quick.recv().unwrap();
    let slow_next = next();
    assert_eq!(slow_next, 1);
    for result in [fire(&mut quick, 1), fire(&mut slow, slow_next)] {
        assert!(matches!(result, Ok(()) | Err(TransactionError::Fenced)), "{result:?}");
    }
    values(&read_settled(&log, &target, 0))
}

type Transactional<B> = <<B as Bed>::Log as Log>::Transactional;

/// Does something first when it is initialised.
struct Hooked<'a, P> {
    inner: P,
    before_init: Option<Box<dyn FnOnce() + Send + 'a>>,
}

impl<P: TransactionalProducer> TransactionalProducer for Hooked<'_, P> {
    fn init(&mut self) -> Result<(), Error> {
        if let Some(act) = self.before_init.take() {
            act();
        }
        self.inner.init()
    }

    fn begin(&mut self) -> Result<(), TransactionError> {
        self.inner.begin()
    }

    fn send(&mut self, tag: usize, record: Outgoing<'_>) -> Result<(), TransactionError> {
        self.inner.send(tag, record)
    }

    fn flush(&mut self) -> Result<(), TransactionError> {
        self.inner.flush()
    }

    fn commit(&mut self, positions: &[(TopicPartition, Position)]) -> Result<(), TransactionError> {
        self.inner.commit(positions)
    }
}
