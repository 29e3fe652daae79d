//! Deterministic simulation of a whole cluster: the coordinators and workers that ship,
//! over a log, a store and a network in memory that fail as the real ones do (`docs/adr`,
//! faults.md), in virtual time, without threads, all from one seed.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`run`] | one run: cluster, users, faults, and what came of it |
//! | `run::blows` | what befalls a process, or a part of the cluster, at an instant |
//! | `faults` | the weather on every way, clocks, and processes that stand still at a certain request |
//! | `users` | those who schedule, and repeat what was not answered |
//! | `judge` | the invariants |
//! | `nodes` | coordinators and workers put together |
//! | `network`, `store` | the ways to the broker and to the store |
//! | `process`, `coroutine` | what can be killed and paused; blocking code without threads |
//! | `world` | what all of it shares |

mod coroutine;
mod faults;
mod judge;
mod network;
mod nodes;
mod process;
mod run;
mod store;
mod users;
mod world;

pub use run::{Options, Outcome, Trace, run};
