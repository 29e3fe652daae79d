//! The users' door of a coordinator: a whole one, in this process, over the
//! embedded broker and the memory store.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test's helpers are tests"
)]

mod abuse;
mod answers;
mod appended;
mod browser;
mod descriptors;
mod harness;
mod hostile;
mod metrics;
mod page;
mod process;
mod program;
mod raw;
mod stream;
