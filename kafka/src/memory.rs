//! The log in memory: deterministic, without threads, clock or chance of its own. It is
//! what the simulator runs on, and so has the faults of the real thing where ksched's
//! design answers to them (design §4): requests are values that a [`Link`] may bring
//! late, twice or never, and the [`MemoryBroker`] judges each by what is so **when it
//! arrives**. As with Kafka's transactions V1, a late EndTxn ends the next transaction
//! of its epoch, and a late Produce joins it, or hangs.
//!
//! The client does what librdkafka does where ksched can tell: it repeats requests
//! inside a call, and what it noted meanwhile makes a commit unclean.
//!
//! Not modelled: several brokers and their replicas, compaction, retention, consumer
//! groups with members, authorisation.

mod broker;
mod client;
mod link;
mod protocol;
#[cfg(test)]
mod tests;

pub use broker::{Clock, Entry, MemoryBroker, Standing, Verification, What};
pub use client::{MemoryLog, MemoryPlain, MemoryReader, MemoryTransactional};
pub use link::{Direct, Link, LinkError};
pub use protocol::{
    Batch, Failure, Fetched, GroupPosition, NewRecord, Outcome, ProducerId, Request, Response, Session,
    TopicConfig,
};
