//! The client library of ksched, its verifier, and the bench.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`Client`] | schedules messages; retries what is safe by itself |
//! | [`client::stream`] | schedules without end, thousands in flight |
//! | [`bench`](mod@bench) | an open loop from a seeded plan, judged by the verifier |
//! | [`reader`] | reads a target as its users do, and stamps what it gets |
//! | [`verify`](mod@verify) | judges what was delivered against what was planned |
//! | [`clock`] | the wall clock |
//! | [`kafka`] | the way to Kafka for those that read or write it themselves |

pub mod bench;
pub mod client;
pub mod clock;
mod error;
pub mod kafka;
mod message;
pub mod reader;
pub mod table;
pub mod verify;

pub use client::{Client, Settings};
pub use error::{CallError, Error};
pub use message::{Message, Scheduled};
