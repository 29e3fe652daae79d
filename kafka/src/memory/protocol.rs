//! What a client asks and a broker answers: Kafka's requests, as far as the log's
//! contract needs them, as values. A link may keep one back, lose it, or bring it twice.

use std::sync::Arc;

use ksched_core::message::Content;

use crate::log::{Offset, Position, TopicInfo, TopicPartition};

/// What a broker knows a producer by. A higher epoch of the same id fences the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProducerId {
    pub id: i64,
    pub epoch: i16,
}

/// Who asks something of the transaction coordinator. As in Kafka's transactions V1
/// nothing here tells one transaction of an epoch from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub transactional_id: Arc<str>,
    pub producer: ProducerId,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Commit,
    Abort,
}

/// A record to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// CreateTime; `None`: when the broker appends it, as clients here have no clock.
    pub timestamp_ms: Option<i64>,
    pub content: Content,
}

/// Records of one producer for one partition; they are appended together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub at: TopicPartition,
    pub producer: ProducerId,
    /// With the transactional id that the records belong to a transaction of.
    pub transactional_id: Option<Arc<str>>,
    /// Sequence number of the first record: counts the records of this producer id and
    /// epoch in this partition, from 0.
    pub base_sequence: i32,
    pub records: Vec<NewRecord>,
}

/// Settings of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    pub max_message_bytes: usize,
    /// `message.timestamp.type=LogAppendTime`.
    pub log_append_time: bool,
    /// `cleanup.policy=compact`. Nothing is compacted, but DeleteRecords is refused, and
    /// so are records without a key.
    pub compacted: bool,
}

impl Default for TopicConfig {
    /// Kafka's own.
    fn default() -> Self {
        Self { max_message_bytes: 1_048_588, log_append_time: false, compacted: false }
    }
}

/// What can be asked of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Answered with [`Response::Producer`]. With a transactional id: a higher epoch, and
    /// the end of the open transaction of the one before.
    InitProducerId {
        transactional_id: Option<Arc<str>>,
        timeout_ms: i64,
    },
    /// Begins the transaction if none is open, and adds partitions to it.
    AddPartitions {
        session: Session,
        partitions: Vec<TopicPartition>,
    },
    /// Begins the transaction if none is open, and adds a group's positions to it.
    AddOffsets {
        session: Session,
        group: Arc<str>,
    },
    /// Positions that count once the transaction is committed.
    TxnOffsetCommit {
        session: Session,
        group: Arc<str>,
        positions: Vec<(TopicPartition, Position)>,
    },
    /// Ends whatever transaction of this producer and epoch is open **when it arrives**.
    EndTxn {
        session: Session,
        outcome: Outcome,
    },
    Produce(Batch),
    /// Committed records from these offsets on, up to the last stable offset.
    Fetch {
        from: Vec<(TopicPartition, i64)>,
        max_bytes: usize,
    },
    ListOffsets {
        partitions: Vec<TopicPartition>,
        which: Offset,
    },
    OffsetFetch {
        group: Arc<str>,
        partitions: Vec<TopicPartition>,
    },
    OffsetCommit {
        group: Arc<str>,
        positions: Vec<(TopicPartition, Position)>,
    },
    DescribeTopics {
        topics: Vec<Arc<str>>,
    },
    /// Deletes all records before an offset, in each partition.
    DeleteRecords {
        before: Vec<(TopicPartition, i64)>,
    },
    CreateTopic {
        topic: Arc<str>,
        partitions: i32,
        config: TopicConfig,
    },
    /// Raises the number of partitions.
    CreatePartitions {
        topic: Arc<str>,
        partitions: i32,
    },
    DeleteTopic {
        topic: Arc<str>,
    },
}

/// What a broker answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    Done,
    Producer(ProducerId),
    Appended {
        base_offset: i64,
    },
    /// In the order asked for.
    Fetched(Vec<(TopicPartition, Result<Fetched, Failure>)>),
    Offsets(Vec<i64>),
    Positions(Vec<GroupPosition>),
    /// In the order asked for.
    Topics(Vec<Option<TopicInfo>>),
    Failed(Failure),
}

/// What there is to read in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Offset, timestamp in ms, content.
    pub records: Vec<(i64, i64, Content)>,
    /// Where to go on: past markers and aborted records too.
    pub next_offset: i64,
}

/// A group's position in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPosition {
    /// Before any pending commit.
    pub position: Option<Position>,
    /// Whether a transaction that has not ended yet holds another.
    pub pending: bool,
}

/// Why a broker did not do what it was asked; nothing of it was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("no such topic or partition: {}", list(.0))]
    Unknown(Vec<TopicPartition>),
    #[error("message too large")]
    TooLarge,
    #[error("timestamp too far ahead")]
    InvalidTimestamp,
    /// A record without a key on a compacted topic.
    #[error("invalid record")]
    InvalidRecord,
    /// Also the answer to an epoch that a transaction's time-out has ended.
    #[error("invalid producer epoch")]
    Fenced,
    #[error("out of order sequence number")]
    OutOfOrderSequence,
    #[error("invalid transaction state")]
    InvalidTxnState,
    /// The last transaction's markers are still written: ask again.
    #[error("concurrent transactions")]
    ConcurrentTransactions,
    #[error("offset out of range")]
    OffsetOutOfRange,
    #[error("offset metadata too large")]
    MetadataTooLarge,
    #[error("policy violation")]
    PolicyViolation,
    #[error("topic exists already")]
    TopicExists,
    #[error("invalid number of partitions")]
    InvalidPartitions,
}

fn list(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
