//! The log: the only crate that names `rdkafka`.
//!
//! [`Log`] and its parts are the seam: blocking, one thread each, so that the
//! worker's job threads call them directly. [`librdkafka`] is the implementation
//! for real brokers (and for the embedded one of `ksched dev`, which speaks the
//! protocol); an in-memory one comes with the simulator. [`append::Appender`] is
//! the coordinator's non-blocking way to append, [`topics`] creates and checks topics.

pub mod log;

pub use log::{
    Error, Log, Offset, Outgoing, Position, Producer, Reader, Record, Refusal, RefusalReason, TopicInfo,
    TopicPartition, TransactionError, TransactionalProducer,
};
