//! The seam between ksched and the log. The contract is in prose here; the
//! conformance suite (`kafka/tests/`) checks every implementation against it.

use std::{sync::Arc, time::Duration};

use ksched_core::message::Content;

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A committed position: the next offset to read, and up to 4,096 bytes of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub offset: i64,
    pub metadata: String,
}

/// A committed record as read.
#[derive(Clone, Debug)]
pub struct Record {
    pub source: TopicPartition,
    pub offset: i64,
    /// Milliseconds: append time on our own topics.
    pub timestamp_ms: i64,
    pub content: Content,
}

/// A record to append.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    pub topic: &'a str,
    /// `None`: murmur2 of the key as Java clients do, at random without a key.
    pub partition: Option<i32>,
    /// CreateTime in ms; `None`: now.
    pub timestamp_ms: Option<i64>,
    pub content: &'a Content,
}

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offset {
    /// The first one kept.
    Start,
    /// The last stable offset: end of what a read_committed reader may see.
    StableEnd,
    /// The high watermark: end of what is appended, open transactions included.
    End,
    /// The first one whose timestamp is at or after this many ms.
    At(i64),
}

/// A call to the log did not do what it should.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// May pass: broker away, time-out, coordinator loading. Nothing is known
    /// about whether it happened.
    #[error("kafka: {0}")]
    Unavailable(String),
    /// A newer holder has initialised this transactional id.
    #[error("fenced by a newer holder")]
    Fenced,
    /// Topic or partition does not exist.
    #[error("no such topic or partition: {0}")]
    Unknown(String),
    /// Will not pass by itself: configuration, authorisation, an offset out of range.
    #[error("kafka refuses: {0}")]
    Refused(String),
    /// Only from [`Reader::poll`]: a record with a header name that is not UTF-8, with
    /// the headers before that one. The reader has passed it and goes on with the next.
    #[error("record at offset {} has a header name that is not UTF-8", .0.offset)]
    Unreadable(Box<Record>),
}

/// A record that was not appended, and why.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// As given to `send`.
    pub tag: usize,
    pub reason: RefusalReason,
}

/// Why a record was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusalReason {
    #[error("topic or partition does not exist")]
    UnknownTarget,
    #[error("record is too large for the topic or producer")]
    TooLarge,
    #[error("not authorised to write to the topic")]
    NotAuthorised,
    #[error("broker refuses the record: {0}")]
    Invalid(String),
    /// Not sent because of another record of the same transaction; the broker would have
    /// taken this one.
    #[error("not sent: another record was refused")]
    NotAttempted,
    /// Purged because of another record of the same transaction, or timed out:
    /// says nothing about this record.
    #[error("not delivered: {0}")]
    Collateral(String),
}

impl RefusalReason {
    /// Whether it says nothing against the record itself.
    pub fn is_collateral(&self) -> bool {
        matches!(self, Self::Collateral(_) | Self::NotAttempted)
    }
}

/// A transaction did not end well.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransactionError {
    /// A newer holder exists. The job is not ours any more: drop it.
    #[error("fenced by a newer holder")]
    Fenced,
    /// Some records were refused; the transaction was not committed and everything
    /// must be built anew. Records that a broker which went away did not acknowledge
    /// are `Unclean` instead. All refusals may be [`RefusalReason::Collateral`] (a batch
    /// too large, a target without a leader): then try the records one at a time.
    #[error("{}", told(.0))]
    Refused(Vec<Refusal>),
    /// The outcome is unknown, or cannot be trusted (design §4.2).
    #[error("unclean: {0}")]
    Unclean(String),
}

fn told(refusals: &[Refusal]) -> String {
    let of_its_own = refusals.iter().find(|refusal| !refusal.reason.is_collateral());
    let why = of_its_own.or(refusals.first()).map_or_else(String::new, |first| format!(": {}", first.reason));
    format!("{} records refused{why}", refusals.len())
}

/// A way to a Kafka cluster. Every call blocks the calling thread at most for a
/// time-out of some seconds, never for ever.
pub trait Log: Send + Sync + 'static {
    type Reader: Reader;
    type Transactional: TransactionalProducer;
    type Producer: Producer;

    /// A read_committed reader with nothing assigned. `fetch_bytes` bounds what
    /// it holds back in memory.
    fn reader(&self, fetch_bytes: usize) -> Result<Self::Reader, Error>;

    /// The same for a long stay with what it is assigned: while nothing comes it asks more
    /// rarely, and what is assigned or resumed later may have to wait for that.
    fn staying_reader(&self, fetch_bytes: usize) -> Result<Self::Reader, Error> {
        self.reader(fetch_bytes)
    }

    /// A producer for this transactional id, not yet initialised.
    fn transactional(&self, transactional_id: &str) -> Result<Self::Transactional, Error>;

    /// An idempotent producer without transactions.
    fn producer(&self) -> Result<Self::Producer, Error>;

    /// The group's committed positions, in order of `partitions`; `None` where
    /// there is none. Waits for a pending transactional commit rather than
    /// answering the position before it.
    fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<Position>>, Error>;

    /// As [`committed`](Self::committed), but a pending transactional commit is not waited for: the position before
    /// it. For looks at many partitions at once, of which some always have a commit under way.
    fn committed_before_pending(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Option<Position>>, Error> {
        self.committed(partitions)
    }

    /// One offset of each partition, in order, in one request however many.
    fn offsets(&self, partitions: &[TopicPartition], which: Offset) -> Result<Vec<i64>, Error>;

    /// Commits positions outside any transaction, whoever holds the job. For
    /// position 0 of new partitions and for at-least-once lanes.
    fn commit(&self, positions: &[(TopicPartition, Position)]) -> Result<(), Error>;

    /// How many partitions a topic has; `None` where there is no such topic. Does not create it.
    fn partitions(&self, topic: &str) -> Result<Option<i32>, Error>;

    /// What targets are judged by, of each of these topics (none twice), in order, in few requests however
    /// many; `None` where there is no such topic. Does not create it.
    fn topics(&self, names: &[&str]) -> Result<Vec<Option<TopicInfo>>, Error>;
}

/// What is checked of a target before records go to it; `None` where Kafka does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicInfo {
    /// How many.
    pub partitions: Option<i32>,
    /// `max.message.bytes`.
    pub max_message_bytes: Option<usize>,
}

/// Reads committed records of assigned partitions, in offset order in each.
pub trait Reader: Send {
    /// Reads these partitions from these offsets, and no others. An offset out of
    /// range is an error at `poll`, never a silent reset.
    fn assign(&mut self, from: &[(TopicPartition, i64)]) -> Result<(), Error>;

    /// The next record, waiting at most `wait` (rounded up to whole ms); `None`
    /// when there is none in that time.
    fn poll(&mut self, wait: Duration) -> Result<Option<Record>, Error>;

    /// The next offset to read: past the last record returned and, if a poll came up empty
    /// since, past the transaction markers and aborted records behind it as well. These may
    /// be told some ms late.
    fn position(&mut self, partition: &TopicPartition) -> Result<i64, Error>;

    /// Stops or resumes fetching a partition; records already fetched may still come.
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Error>;
    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), Error>;
}

/// Appends within transactions; fenced by whoever initialises the same id later.
pub trait TransactionalProducer: Send {
    /// Fences every older holder of the id and ends its open transaction.
    fn init(&mut self) -> Result<(), Error>;

    /// Begins a transaction. Refused with `Unclean` if a disconnect or time-out was
    /// noted since the last begin (design §4.2): then drop this producer.
    fn begin(&mut self) -> Result<(), TransactionError>;

    /// Hands a record over for appending; waits while the queue is full.
    fn send(&mut self, tag: usize, record: Outgoing<'_>) -> Result<(), TransactionError>;

    /// Waits until all records handed over so far are acknowledged.
    fn flush(&mut self) -> Result<(), TransactionError>;

    /// Commits the group's positions and the records together. `Ok` means that it
    /// happened and that no disconnect or time-out was noted since `begin`. Readers and
    /// `offsets` see it some ms later; `committed` waits for it.
    /// After any error drop the producer.
    fn commit(&mut self, positions: &[(TopicPartition, Position)]) -> Result<(), TransactionError>;
}

/// Appends without transactions.
pub trait Producer: Send {
    /// Hands a record over for appending; waits while the queue is full.
    fn send(&mut self, tag: usize, record: Outgoing<'_>) -> Result<(), Error>;

    /// Waits until all records handed over are settled; the refused ones.
    fn flush(&mut self) -> Result<Vec<Refusal>, Error>;
}
