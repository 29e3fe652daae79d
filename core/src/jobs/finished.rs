//! What the job log says of a job.

use serde::{Deserialize, Serialize};

/// One job that is done: the JSON value of a record on the cluster's job log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    pub job: String,
    pub worker: String,
    pub worker_id: String,
    /// When the worker was given it, in ms since the epoch.
    pub begun_at_ms: i64,
    /// In ms since the epoch.
    pub finished_at_ms: i64,
    /// Records moved on.
    pub moved: u64,
}
