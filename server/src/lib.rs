//! The coordinator: takes schedules, makes jobs, keeps leases.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`admin`] | the service that operators call |
//! | [`config`] | what an operator may set |
//! | [`coordinator`] | the assembly: everything started, watched and stopped |
//! | `grpc` | the gRPC door: services, health, reflection, limits |
//! | [`job_maker`] | drain jobs from the state of the log, on the coordinator that leads |
//! | [`leasing`] | the service that workers call |
//! | `patience` | waiting, at start, for Kafka and the store |
//! | [`admin`] | the service that operators call |
//! | [`job_maker`] | opens drain jobs, on the coordinator that leads |
//! | [`job_maker`] | drain jobs from the state of the log, on the coordinator that leads |
//! | [`leasing`] | the service that workers call |
//! | `scheduler` | the service that users call |
//! | `status` | every error as a gRPC status |
//! | [`store`] | who does what: in etcd or in memory |

pub mod admin;
pub mod config;
pub mod coordinator;
mod grpc;
pub mod job_maker;
pub mod leasing;
mod patience;
mod scheduler;
mod status;
pub mod store;
