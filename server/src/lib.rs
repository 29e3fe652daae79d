//! The coordinator: takes schedules, makes jobs, keeps leases.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`activity`] | what this coordinator alone knows: heartbeats heard, jobs done |
//! | [`admin`] | the service that operators call |
//! | [`config`] | what an operator may set |
//! | [`coordinator`] | the assembly: everything started, watched and stopped |
//! | `grpc` | the gRPC door: services, health, reflection, limits |
//! | [`host`] | the machine: clock and threads for blocking work |
//! | `job_log` | drains that are done, on a topic |
//! | [`job_maker`] | drain jobs from the state of the log, on the coordinator that leads |
//! | [`leasing`] | the service that workers call |
//! | `patience` | waiting, at start, for Kafka and the store |
//! | `scheduler` | the service that users call |
//! | `status` | every error as a gRPC status |
//! | `web` | the page, and the earlier system's paths |
//! | [`store`] | who does what: in etcd or in memory |

pub mod activity;
pub mod admin;
mod backlog;
pub mod config;
pub mod coordinator;
mod grpc;
pub mod host;
mod job_log;
pub mod job_maker;
pub mod leasing;
mod patience;
pub mod scheduler;
mod status;
pub mod store;
mod web;
