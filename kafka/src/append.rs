//! Appending without blocking and without transactions: the coordinator's way.
//!
//! A call hands over any number of records and gets one future: one counter a call,
//! no future a message (traps.md, "The gRPC door": 250,000/s against a fraction of it).
//! A lone call goes to a producer that does not linger and is answered at once; calls
//! made while others are in flight go to one that lingers, so that they share
//! requests. Order is kept between calls of which one began after the other was
//! answered; of calls in flight together nobody may expect an order.
//!
//! Records for one topic, the busiest, have producers of their own: at each wake-up librdkafka goes through
//! all partitions its producer has ever met (`rd_kafka_broker_produce_toppars`), and a wheel has hundreds.
//!
//! **Whether it happened.** [`Error::NotAppended`] is said only when it certainly did
//! not: librdkafka never took the record, or the broker answered with a refusal that
//! it gives before appending. A time-out, a purge, a fatal error or
//! NOT_ENOUGH_REPLICAS_AFTER_APPEND are [`Error::Unknown`], for the record may have been
//! sent before (librdkafka's own `rd_kafka_message_status` says "possibly persisted"
//! of those once they were transmitted; rust-rdkafka does not pass it on).

mod slot;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ksched_core::message::Content;
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Message as _, Timestamp,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    producer::{DeliveryResult, ProducerContext},
};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use self::slot::{Share, Slot, Watch};
use crate::{
    librdkafka::{self, Librdkafka, Part, queue::record},
    log::{self, Outgoing, RefusalReason},
};

/// Ms, while other appends are in flight (traps.md: 1 ms gives 24,000 unary calls/s).
const LINGER_MS: &str = "1";
/// What a record costs besides its bytes.
const RECORD_OVERHEAD: usize = 256;

/// A record to append.
#[derive(Clone, Debug)]
pub struct Append {
    pub topic: Arc<str>,
    pub partition: i32,
    pub content: Content,
    /// CreateTime in ms; `None`: now. Nothing to topics with LogAppendTime.
    pub timestamp_ms: Option<i64>,
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub offset: i64,
    /// The broker's clock in ms, from topics with LogAppendTime.
    pub append_time_ms: Option<i64>,
}

/// Why there is no offset to tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Too much is in flight; certainly not appended. Try again later.
    #[error("too many appends in flight")]
    Overloaded,
    /// Certainly not appended.
    #[error("not appended: {0}")]
    NotAppended(RefusalReason),
    /// It may have been appended, or not.
    #[error("unknown whether appended: {0}")]
    Unknown(String),
}

/// What may be in flight at once, over all calls.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub bytes: usize,
    pub records: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 20, records: 200_000 }
    }
}

/// The part of the log seam for those that must not block: [`Appender`] is it on Kafka.
/// Contract: idempotent and with acks=all; one result for each record, in order, when
/// all are settled, which they are within some 10 s.
pub trait Appends: std::fmt::Debug + Send + Sync + 'static {
    /// Records are on their way when this returns, whether or not the future is polled or
    /// dropped; `room` is let go of when all are settled.
    fn append_all(&self, records: Vec<Append>, room: Option<Room>) -> Appending;
}

/// A caller's share of what all callers may have in flight.
pub type Room = OwnedSemaphorePermit;

/// The results of one call.
pub type Appending = Pin<Box<dyn Future<Output = Vec<Result<Appended, Error>>> + Send>>;

impl Appends for Appender {
    fn append_all(&self, records: Vec<Append>, room: Option<Room>) -> Appending {
        Box::pin(self.append_all(records, room))
    }
}

/// Appends records for many callers; cloning shares it.
#[derive(Clone)]
pub struct Appender {
    inner: Arc<Inner>,
}

struct Inner {
    limits: Limits,
    flight: Arc<Flight>,
    /// The topic that has producers of its own.
    busiest: Arc<str>,
    of_busiest: Slots,
    of_others: Slots,
    /// Ends with the last handle.
    _watch: Watch,
}

struct Slots {
    /// For a call that is alone.
    prompt: Arc<Slot>,
    /// For calls among others.
    gathering: Arc<Slot>,
}

impl Slots {
    fn new(log: &Librdkafka, flight: &Arc<Flight>) -> Result<Self, log::Error> {
        let slot = |linger_ms: &str| {
            let config = librdkafka::producer_config(log, linger_ms);
            Slot::new(config, log.settings().statistics.clone(), Arc::clone(flight)).map(Arc::new)
        };
        Ok(Self { prompt: slot("0")?, gathering: slot(LINGER_MS)? })
    }
}

impl std::fmt::Debug for Appender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Appender")
            .field("limits", &self.inner.limits)
            .field("records_in_flight", &self.records_in_flight())
            .finish_non_exhaustive()
    }
}

impl Appender {
    /// Checks the settings; does not wait for a broker.
    pub fn new(log: &Librdkafka, limits: Limits, busiest: Arc<str>) -> Result<Self, log::Error> {
        let flight = Arc::new(Flight::default());
        let (of_busiest, of_others) = (Slots::new(log, &flight)?, Slots::new(log, &flight)?);
        let slots = [&of_busiest.prompt, &of_busiest.gathering, &of_others.prompt, &of_others.gathering];
        let watch = Watch::start(slots.map(Arc::clone))?;
        let inner = Inner { limits, flight, busiest, of_busiest, of_others, _watch: watch };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Appends records; the future gives one result for each, in order, when all are
    /// settled, which they are within some 10 s, and then lets go of `room`. Records are on
    /// their way when this returns, whether or not the future is polled or dropped; it never blocks.
    pub fn append_all(
        &self,
        records: Vec<Append>,
        room: Option<Room>,
    ) -> impl Future<Output = Vec<Result<Appended, Error>>> + Send + use<> {
        let call = Arc::new(Call::new(records.len(), room));
        self.hand_over(&records, &call);
        async move {
            call.wait().await;
            call.take()
        }
    }

    /// Records handed over and not settled.
    pub fn records_in_flight(&self) -> usize {
        self.inner.flight.records.load(Ordering::Acquire)
    }

    /// Waits until nothing is in flight, at most `limit`; how many records still are.
    pub async fn close(&self, limit: Duration) -> usize {
        let idle = async {
            loop {
                // Register for the wake-up before looking.
                let woken = self.inner.flight.landed.notified();
                if self.records_in_flight() == 0 {
                    return;
                }
                woken.await;
            }
        };
        drop(tokio::time::timeout(limit, idle).await);
        self.records_in_flight()
    }

    fn hand_over(&self, records: &[Append], call: &Arc<Call>) {
        let Inner { limits, flight, busiest, .. } = &*self.inner;
        let bytes: usize = records.iter().map(cost).sum();
        let in_flight = match flight.take_off(records.len(), bytes, *limits) {
            Ok(in_flight) => in_flight,
            Err(TooMuch) => return (0..records.len()).for_each(|i| call.settle(i, Err(Error::Overloaded))),
        };
        let is_busiest = |append: &&Append| append.topic == *busiest;
        let to_busiest = records.iter().filter(is_busiest).count();
        let way = |slots: &Slots, records: usize| {
            let slot = if in_flight == 0 { &slots.prompt } else { &slots.gathering };
            let (client, share) = slot.begins(records);
            (Arc::clone(slot), client, share)
        };
        let (mut for_busiest, mut for_others) = (None, None);
        for (index, append) in records.iter().enumerate() {
            let (slot, client, share) = if is_busiest(&append) {
                for_busiest.get_or_insert_with(|| way(&self.inner.of_busiest, to_busiest))
            } else {
                for_others.get_or_insert_with(|| way(&self.inner.of_others, records.len() - to_busiest))
            };
            let (call, share) = (Arc::clone(call), Arc::clone(share));
            let parcel = Box::new(Parcel { call, share, index, bytes: cost(append) });
            // The C library cuts header names at a zero byte when they are read again.
            if append.content.headers.iter().any(|header| header.name.contains('\0')) {
                let why = "header name contains a zero byte".to_owned();
                parcel.land(flight, Err(Error::NotAppended(RefusalReason::Invalid(why))));
                continue;
            }
            let outgoing = Outgoing {
                topic: &append.topic,
                partition: Some(append.partition),
                timestamp_ms: append.timestamp_ms,
                content: &append.content,
            };
            if let Err((error, back)) = client.send(record(&outgoing, parcel)) {
                let code = error.rdkafka_error_code().unwrap_or(Code::InvalidTopic);
                if code == Code::Fatal {
                    slot.replace(client);
                }
                back.delivery_opaque.land(flight, Err(not_taken(code)));
            }
        }
    }
}

fn cost(append: &Append) -> usize {
    append.content.size() + RECORD_OVERHEAD
}

/// librdkafka did not take it: certainly not appended.
fn not_taken(code: Code) -> Error {
    match code {
        Code::QueueFull => Error::Overloaded,
        code if librdkafka::is_too_large(code) => Error::NotAppended(RefusalReason::TooLarge),
        code => Error::NotAppended(librdkafka::refusal(code)),
    }
}

/// The delivery report says no.
fn not_delivered(code: Code) -> Error {
    if librdkafka::is_too_large(code) {
        // Its batch was refused as one, so not appended in any case. The broker's limit
        // of our topics has head-room over what is accepted; a batch is never larger.
        return Error::NotAppended(RefusalReason::TooLarge);
    }
    match librdkafka::refusal(code) {
        RefusalReason::Collateral(why) if code == Code::InvalidDifferentRecord => {
            Error::NotAppended(RefusalReason::Collateral(why))
        }
        RefusalReason::Collateral(why) => Error::Unknown(why),
        refused => Error::NotAppended(refused),
    }
}

/// What all calls have in flight.
#[derive(Debug, Default)]
struct Flight {
    records: AtomicUsize,
    bytes: AtomicUsize,
    /// Nothing is in flight any more.
    landed: Notify,
}

struct TooMuch;

impl Flight {
    /// Counts a call in; how many records of others were in flight.
    fn take_off(&self, records: usize, bytes: usize, limits: Limits) -> Result<usize, TooMuch> {
        let others = self.records.fetch_add(records, Ordering::AcqRel);
        let others_bytes = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        if others + records > limits.records || others_bytes + bytes > limits.bytes {
            self.land(records, bytes);
            return Err(TooMuch);
        }
        Ok(others)
    }

    fn land(&self, records: usize, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        if self.records.fetch_sub(records, Ordering::AcqRel) == records {
            self.landed.notify_waiters();
        }
    }
}

/// One call's results.
#[derive(Debug)]
struct Call {
    open: AtomicUsize,
    results: Mutex<Vec<Option<Result<Appended, Error>>>>,
    /// Until all are settled, whether or not somebody waits for that.
    room: Mutex<Option<Room>>,
    done: Notify,
}

impl Call {
    fn new(records: usize, room: Option<Room>) -> Self {
        Self {
            open: AtomicUsize::new(records),
            results: Mutex::new((0..records).map(|_| None).collect()),
            room: Mutex::new(room),
            done: Notify::new(),
        }
    }

    fn settle(&self, index: usize, result: Result<Appended, Error>) {
        if let Some(place) = self.results.lock().get_mut(index) {
            *place = Some(result);
        }
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            drop(self.room.lock().take());
            // `notify_one` keeps the permit if nobody waits yet.
            self.done.notify_one();
        }
    }

    fn is_settled(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    async fn wait(&self) {
        while !self.is_settled() {
            self.done.notified().await;
        }
    }

    fn take(&self) -> Vec<Result<Appended, Error>> {
        let never = || Err(Error::Unknown("never settled".to_owned()));
        let results = std::mem::take(&mut *self.results.lock());
        results.into_iter().map(|result| result.unwrap_or_else(never)).collect()
    }
}

/// What travels with a record.
#[derive(Debug)]
struct Parcel {
    call: Arc<Call>,
    share: Arc<Share>,
    index: usize,
    bytes: usize,
}

impl Parcel {
    fn land(&self, flight: &Flight, result: Result<Appended, Error>) {
        // In this order: whoever has its answer may count on the room it took.
        flight.land(1, self.bytes);
        self.share.land();
        self.call.settle(self.index, result);
    }
}

/// What librdkafka calls back.
struct Context {
    flight: Arc<Flight>,
    statistics: Option<Part>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        librdkafka::log_line(level, facility, text);
    }

    fn stats_raw(&self, report: &[u8]) {
        if let Some(statistics) = &self.statistics {
            statistics.note(report);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Parcel>;

    fn delivery(&self, result: &DeliveryResult<'_>, parcel: Box<Parcel>) {
        let result = match result {
            Ok(message) => Ok(Appended {
                offset: message.offset(),
                append_time_ms: match message.timestamp() {
                    Timestamp::LogAppendTime(at) => Some(at),
                    _ => None,
                },
            }),
            Err((error, _)) => Err(not_delivered(error.rdkafka_error_code().unwrap_or(Code::Unknown))),
        };
        parcel.land(&self.flight, result);
    }
}
