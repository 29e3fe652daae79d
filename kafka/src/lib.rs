//! The log: the only crate that names `rdkafka`.
//!
//! [`Log`] and its parts are the seam: blocking, one thread each, so that the
//! worker's job threads call them directly. [`librdkafka`] is the implementation
//! for real brokers (and for the embedded one of `ksched dev`, which speaks the
//! protocol); `memory` is one without either, for the simulator. [`turns`] is the rule by
//! which a lane uses its two transactional producers, [`append`] the coordinator's
//! non-blocking way to append, [`topics`] creates and checks the cluster's topics.

pub mod append;
mod disposal;
mod failpoint;
pub mod librdkafka;
pub mod log;
#[cfg(feature = "memory")]
pub mod memory;
mod polled;
pub mod target;
pub mod topics;
pub mod turns;

pub use disposal::wait_for_disposals;
pub use librdkafka::{Librdkafka, Settings, Statistics, librdkafka_version, property_mistakes};
pub use log::{
    Error, Log, Offset, Outgoing, Position, Producer, Reader, Record, Refusal, RefusalReason, TopicInfo,
    TopicPartition, TransactionError, TransactionalProducer,
};
pub use turns::Turns;
