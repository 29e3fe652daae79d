//! The client against a stub coordinator in this process, the bench against a stub
//! log, and the command's arguments.

mod bench;
mod cli;
mod schedule;
mod stream;
mod stub;
