//! The job log: one record on `ksched.joblog` for each drain that is done, so that every
//! coordinator can show what any of them was told. Nothing depends on it.

use std::sync::Arc;

use ksched_core::{cluster::Cluster, message::Content};
use ksched_kafka::append::{Append, Appends};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Jobs that wait to be written.
pub(crate) const QUEUE: usize = 1_024;
/// Written at once.
const AT_ONCE: usize = 256;

/// One job that is done, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    pub job: String,
    pub worker: String,
    pub worker_id: String,
    /// When it was handed out, in ms since the epoch.
    pub begun_at_ms: i64,
    pub finished_at_ms: i64,
    /// Records moved on.
    pub moved: u64,
}

/// The log's only partition.
pub(crate) fn topic(cluster: &Cluster) -> Arc<str> {
    format!("{}joblog", cluster.topic_prefix).into()
}

/// Appends what is finished, until shutdown.
pub(crate) async fn write(
    topic: Arc<str>,
    appender: Arc<dyn Appends>,
    mut finished: mpsc::Receiver<Finished>,
    shutdown: CancellationToken,
) {
    let mut jobs = Vec::with_capacity(AT_ONCE);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            n = finished.recv_many(&mut jobs, AT_ONCE) => if n == 0 { return },
        }
        let records = jobs.drain(..).filter_map(|job| record(&topic, &job)).collect();
        let outcomes = appender.append_all(records).await;
        if let Some(error) = outcomes.into_iter().find_map(Result::err) {
            tracing::warn!(%error, "job log not written");
        }
    }
}

fn record(topic: &Arc<str>, job: &Finished) -> Option<Append> {
    let value = serde_json::to_vec(job).ok()?;
    let content =
        Content { key: Some(job.job.clone().into()), value: Some(value.into()), ..Content::default() };
    Some(Append { topic: Arc::clone(topic), partition: 0, content, timestamp_ms: None })
}
