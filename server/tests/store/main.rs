//! The store's conformance suite, run on etcd and on the stand-in in memory; and
//! what only etcd can do: die.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod conformance;
mod outage;
