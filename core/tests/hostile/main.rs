//! Hostile input against the pure core: what a record may hold when it reaches the
//! intake door, the kept corpus, and properties that hold for any bytes.

#![expect(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod corpus;
mod intake;
mod properties;
