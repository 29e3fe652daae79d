//! A transactional producer. Four things decide whether it is fast (traps.md,
//! rust-rdkafka): `retry.backoff.ms` and two producers in turn (1, `config`,
//! `turns`), a condvar instead of `flush` (2, `deliveries`), nothing in flight when
//! commit is called (3, here), and not too many transactions (4, the lane).

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    TopicPartitionList,
    consumer::ConsumerGroupMetadata,
    error::{KafkaError, RDKafkaErrorCode as Code},
    producer::{BaseProducer, Producer as _},
};

use super::{
    calls::{Calls, Pending},
    config::Settings,
    deliveries::Context,
    failure, list,
    queue::{Client, NotTaken, Queue, call_error},
};
use crate::{
    failpoint::{Failpoints, Point},
    log::{Error, Outgoing, Position, TopicPartition, TransactionError, TransactionalProducer},
};

/// Fencing waits for the end of the old holder's transaction; 50–500 ms is usual.
const INIT_LIMIT: Duration = Duration::from_secs(20);
/// Until the first connection; longer only means the old way.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Wherever positions are kept, it is there.
const ANY_TOPIC: &str = "__consumer_offsets";
/// A little more than `message.timeout.ms`, after which librdkafka settles a record.
const FLUSH_LIMIT: Duration = Duration::from_secs(9);
const OFFSETS_LIMIT: Duration = Duration::from_secs(8);
/// A commit that takes longer than the transaction may live has no outcome we could trust.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);
/// How much longer a call may take than it was told to.
const CALL_GRACE: Duration = Duration::from_secs(1);
/// How long a delivery event may take to be released after its callback.
const RELEASE_LIMIT: Duration = Duration::from_secs(1);
const RELEASE_NAP: Duration = Duration::from_micros(50);

/// A producer for one transactional id, its log watched (design §4.2).
pub struct Transactional {
    queue: Queue,
    calls: Calls,
    group: Arc<ConsumerGroupMetadata>,
    /// `notes.count()` at the last begin.
    noted: u64,
    failpoints: Failpoints,
}

impl std::fmt::Debug for Transactional {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transactional").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Transactional {
    pub(super) fn new(
        settings: &Settings,
        transactional_id: &str,
        group: ConsumerGroupMetadata,
    ) -> Result<Self, Error> {
        let queue = Queue::new(&settings.transactional(transactional_id), settings.part())?;
        let calls = Calls::start(queue.client()?.shared())?;
        let group = Arc::new(group);
        Ok(Self { queue, calls, group, noted: 0, failpoints: Failpoints::of(transactional_id) })
    }

    /// An error if the client has logged a disconnect or a time-out since the last begin.
    fn check_notes(&self) -> Result<(), TransactionError> {
        if self.queue.notes.count() == self.noted {
            return Ok(());
        }
        Err(TransactionError::Unclean(format!("noted: {}", self.queue.notes.last())))
    }

    /// What became of the records if not all were acknowledged.
    fn check_deliveries(&self) -> Result<(), TransactionError> {
        let undelivered = self.queue.deliveries.take_undelivered();
        if undelivered.is_empty() {
            return Ok(());
        }
        if self.is_fenced() || undelivered.iter().any(|each| failure::is_fenced(each.code)) {
            return Err(TransactionError::Fenced);
        }
        let refused = self.queue.explain(&undelivered);
        // A broker that went away is nobody's refusal.
        if refused.iter().all(|each| each.reason.is_collateral()) {
            self.check_notes()?;
        }
        Err(TransactionError::Refused(refused))
    }

    fn is_fenced(&self) -> bool {
        self.queue.fatal().is_some_and(|(code, _)| failure::is_fenced(code))
    }

    /// An error of a transaction call. Refused records come first: they are the cause.
    fn ended(&self, doing: &str, error: &KafkaError) -> TransactionError {
        if let Err(cause) = self.check_deliveries() {
            return cause;
        }
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        if self.is_fenced() || failure::is_fenced(code) {
            return TransactionError::Fenced;
        }
        TransactionError::Unclean(format!("{doing}: {error} ({code:?})"))
    }

    /// What came of a call inside a transaction. After a disconnect that is lost whatever becomes of the call.
    fn outcome(&self, doing: &str, limit: Duration, call: Pending) -> Result<(), TransactionError> {
        match call.wait(limit + CALL_GRACE, || self.check_notes().is_err()) {
            Some(result) => result.map_err(|error| {
                // Where a record was refused: give purged ones time to be reported.
                if !self.is_fenced() {
                    self.queue.settle(RELEASE_LIMIT);
                }
                self.ended(doing, &error)
            }),
            None => {
                self.check_notes()?;
                Err(TransactionError::Unclean(format!("{doing}: does not end")))
            }
        }
    }

    /// Waits for the acknowledgements of all records; for no more of them once `given_up` says so, which is no error here.
    fn flush_unless(&self, mut given_up: impl FnMut() -> bool) -> Result<(), TransactionError> {
        // After a disconnect the transaction is lost whatever becomes of its records.
        let in_vain = || self.check_notes().is_err() || given_up();
        let settled = self.queue.settle_unless(FLUSH_LIMIT, in_vain);
        self.check_deliveries()?;
        if settled || given_up() {
            return Ok(());
        }
        self.check_notes()?;
        Err(TransactionError::Unclean("records were not acknowledged in time".to_owned()))
    }

    /// Adds positions to the transaction; nothing without any.
    fn begin_offsets(
        &self,
        positions: &[(TopicPartition, Position)],
    ) -> Result<Option<Pending>, TransactionError> {
        if positions.is_empty() {
            return Ok(None);
        }
        let offsets: TopicPartitionList =
            list::of_positions(positions).map_err(|error| TransactionError::Unclean(error.to_string()))?;
        let group = Arc::clone(&self.group);
        Ok(Some(
            self.calls
                .begin(move |producer| producer.send_offsets_to_transaction(&offsets, &group, OFFSETS_LIMIT)),
        ))
    }

    fn client(&self) -> Result<&Client, TransactionError> {
        self.queue.client().map_err(|error| TransactionError::Unclean(error.to_string()))
    }

    /// Trap 3: `commit_transaction` first flushes, and if anything is still queued it
    /// polls in steps of 100 ms that do not end early. The last delivery event may not
    /// be released yet when the condvar wakes us.
    fn wait_for_release(&self) -> Result<(), TransactionError> {
        let client = self.client()?;
        let deadline = Instant::now() + RELEASE_LIMIT;
        while client.in_flight_count() > 0 && Instant::now() < deadline {
            thread::sleep(RELEASE_NAP);
        }
        Ok(())
    }
}

impl TransactionalProducer for Transactional {
    fn init(&mut self) -> Result<(), Error> {
        let client = self.queue.client()?;
        // A client that has no connection yet looks for its coordinator, finds nobody to
        // ask, and tries again after 500 ms (`rd_kafka_txn_coord_timer_start`). And one in
        // four makes none before its first second is over: the coordinator's handle, added
        // on another thread, is taken for an earlier broker (`rd_kafka_brokers_add0`,
        // `pre_cnt`). A question about any topic makes one at once. With its answer the
        // bootstrap broker is given up for the same one by its number: ask that, too.
        for _ in 0..2 {
            if let Err(error) = client.client().fetch_metadata(Some(ANY_TOPIC), CONNECT_LIMIT) {
                tracing::debug!(%error, "no connection yet");
                break;
            }
        }
        let init = |producer: &BaseProducer<Context>| producer.init_transactions(INIT_LIMIT);
        match self.calls.make(INIT_LIMIT + CALL_GRACE, || false, init) {
            Some(result) => result.map_err(|error| call_error(&self.queue, &error))?,
            None => return Err(Error::Unavailable("init does not end".to_owned())),
        }
        self.noted = self.queue.notes.count();
        Ok(())
    }

    fn begin(&mut self) -> Result<(), TransactionError> {
        // Log lines come through the event queue: one of the last transaction may have
        // come after its commit returned. The other producer's turn lay between.
        self.check_notes()?;
        self.noted = self.queue.notes.count();
        self.failpoints.pass(Point::AfterRead);
        self.client()?.begin_transaction().map_err(|error| self.ended("begin", &error))
    }

    fn send(&mut self, tag: usize, record: Outgoing<'_>) -> Result<(), TransactionError> {
        match self.queue.send(tag, record) {
            Ok(()) => Ok(()),
            Err(NotTaken::Full) => Err(TransactionError::Unclean("queue stays full".to_owned())),
            Err(NotTaken::Closed(code)) => {
                // The transaction has failed already: give purged records time to be reported.
                self.queue.settle(RELEASE_LIMIT);
                self.check_deliveries()?;
                if self.is_fenced() {
                    return Err(TransactionError::Fenced);
                }
                Err(TransactionError::Unclean(format!("send: {code}")))
            }
        }
    }

    fn flush(&mut self) -> Result<(), TransactionError> {
        self.flush_unless(|| false)
    }

    fn commit(&mut self, positions: &[(TopicPartition, Position)]) -> Result<(), TransactionError> {
        // The positions go while the records do, which takes about as long; all is through before the commit.
        let mut offsets = self.begin_offsets(positions)?;
        self.flush_unless(|| offsets.as_mut().is_some_and(Pending::has_failed))?;
        self.failpoints.pass(Point::AfterProduce);
        if let Some(offsets) = offsets {
            self.outcome("send offsets", OFFSETS_LIMIT, offsets)?;
        }
        self.failpoints.pass(Point::AfterOffsets);
        self.wait_for_release()?;
        self.failpoints.pass(Point::InsideCommit);
        let commit = self.calls.begin(|producer| producer.commit_transaction(COMMIT_LIMIT));
        self.outcome("commit", COMMIT_LIMIT, commit)?;
        self.failpoints.pass(Point::AfterCommit);
        // A clean return proves nothing (design §4.2).
        self.check_notes()
    }
}
