//! The client against a stub coordinator in this process, the bench against a stub
//! log, and the command's arguments.

#![expect(clippy::expect_used, clippy::disallowed_methods, reason = "helpers of tests fail by panicking")]

mod bench;
mod cli;
mod hostile;
mod report;
mod schedule;
mod stream;
mod stub;
