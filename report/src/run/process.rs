//! What each process used.

use serde::{Deserialize, Serialize};

/// One process from its start, or the run's, to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// `worker-1`, `kafka-1`, `etcd`, `postgresql`, `bench`: one name for one process.
    pub name: String,
    pub role: Role,
    /// Ascending in time, one or two seconds apart, or so far that there are some hundreds at most.
    pub samples: Vec<Sample>,
    pub totals: Totals,
}

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A broker.
    Kafka,
    /// etcd.
    Store,
    /// All processes of a database server may be put down as one.
    Database,
    /// Takes schedules and hands out work.
    Coordinator,
    /// Fires messages: a worker, a database's poller.
    Worker,
    /// Generator and verifier: no part of the system, and in none of its costs.
    Bench,
}

/// A look at `/proc/PID`. Counters count from the run's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Since the run's start.
    pub at_s: f64,
    /// User and system time.
    pub cpu_s: f64,
    pub rss_bytes: u64,
    /// From and to disks (`read_bytes`, `write_bytes` of `/proc/PID/io`).
    #[serde(default)]
    pub read_bytes: Option<u64>,
    #[serde(default)]
    pub written_bytes: Option<u64>,
    /// From and to sockets, loopback included.
    #[serde(default)]
    pub received_bytes: Option<u64>,
    #[serde(default)]
    pub sent_bytes: Option<u64>,
    /// Open file descriptors.
    #[serde(default)]
    pub fds: Option<u32>,
}

/// Of the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    pub cpu_s: f64,
    pub peak_rss_bytes: u64,
    #[serde(default)]
    pub read_bytes: Option<u64>,
    #[serde(default)]
    pub written_bytes: Option<u64>,
    #[serde(default)]
    pub received_bytes: Option<u64>,
    #[serde(default)]
    pub sent_bytes: Option<u64>,
    #[serde(default)]
    pub peak_fds: Option<u32>,
}

impl Totals {
    /// As far as samples tell; a peak between two of them is missed.
    pub fn of(samples: &[Sample]) -> Self {
        let last = |counter: fn(&Sample) -> Option<u64>| samples.iter().filter_map(counter).max();
        Self {
            cpu_s: samples.iter().map(|s| s.cpu_s).fold(0.0, f64::max),
            peak_rss_bytes: samples.iter().map(|s| s.rss_bytes).max().unwrap_or(0),
            read_bytes: last(|s| s.read_bytes),
            written_bytes: last(|s| s.written_bytes),
            received_bytes: last(|s| s.received_bytes),
            sent_bytes: last(|s| s.sent_bytes),
            peak_fds: samples.iter().filter_map(|s| s.fds).max(),
        }
    }
}
