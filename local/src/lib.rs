//! Real Apache Kafka, etcd and our own binaries as processes on loopback.
//!
//! What `ksched local` runs, and how the end-to-end tests and the bench get real parts:
//!
//! - [`parts`] finds Kafka's jars and an etcd binary, or fetches them once into a cache folder;
//! - [`process`] starts, signals and watches one process;
//! - [`kafka`] and [`etcd`] are those two, formatted, configured and answering;
//! - [`database`] is PostgreSQL or MariaDB, for the bench to compare with; Prometheus watches it all, if wanted;
//! - [`cluster`] puts them together with our coordinators and workers, each by name, and writes down
//!   what runs where;
//! - [`control`] steers it from another process, [`launch`] starts one that stays in the background.
//!
//! Everything here blocks; call it from `spawn_blocking` where there is a runtime. A process started here
//! is killed by the kernel when the process that started it dies, whatever it dies of.

mod beside;
pub mod cluster;
pub mod control;
pub mod database;
mod error;
pub mod etcd;
mod http;
mod jaeger;
pub mod kafka;
pub mod launch;
pub mod parts;
pub mod ports;
pub mod process;
mod prometheus;
mod spawner;

pub use error::{Error, Result};
