//! What a run's file keeps, and what a page of such runs is made of.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod file;
mod markup;
mod synthetic;
