//! The scheduler that people use today, built as well as one would build it: what ksched is
//! measured against.
//!
//! One table with an index on the due time; whoever schedules inserts rows, many in a
//! statement; pollers look each so often for what is due:
//!
//! ```sql
//! BEGIN;
//! SELECT … WHERE due_ms <= now ORDER BY due_ms, id LIMIT n FOR UPDATE SKIP LOCKED;
//! -- produce to Kafka, idempotent producer, wait for all acknowledgements
//! DELETE … WHERE id IN (…);
//! COMMIT;
//! ```
//!
//! So a message is never lost, and delivered **at least once**: again when a poller dies between
//! Kafka's acknowledgement and the commit. Several pollers produce side by side, so messages of
//! one key may overtake each other; one poller keeps their order.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`Database`] | the table: inserting rows, taking what is due; PostgreSQL or MariaDB |
//! | [`Pollers`] | tasks that take what is due and produce it |
//! | [`Row`] | a message as it is kept |

mod clock;
mod database;
mod error;
mod pollers;
mod row;

pub use database::{Database, Dialect, Fate, Taken};
pub use error::Error;
pub use pollers::{Done, Pollers, Round, Settings};
pub use row::Row;
