//! The job log: one record on `ksched.joblog` for each drain that is done, so that every
//! coordinator can show what any of them was told. Nothing depends on it.

use std::sync::Arc;

use ksched_core::{host::Host, jobs::Finished, message::Content};
use ksched_kafka::{Error, Log, Outgoing, Producer, Refusal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::host::aside;

/// Jobs that wait to be written; more are left out.
pub(crate) const QUEUE: usize = 1_024;
/// Written at once.
const AT_ONCE: usize = 256;

/// Appends what is finished, until shutdown. By a producer of its own: one that users share
/// is given up with all it has in flight when a topic does not take its records.
pub(crate) async fn write<L: Log + Clone>(
    topic: Arc<str>,
    log: L,
    host: Arc<dyn Host>,
    mut finished: mpsc::Receiver<Finished>,
    shutdown: CancellationToken,
) {
    let (mut producer, mut told) = (None, false);
    loop {
        let mut jobs = Vec::new();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            n = finished.recv_many(&mut jobs, AT_ONCE) => if n == 0 { return },
        }
        let (topic, log) = (Arc::clone(&topic), log.clone());
        let append = move || append(&log, producer, &topic, &jobs);
        let appended = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            appended = aside(&*host, "job log", append) => appended,
        };
        let outcome;
        (producer, outcome) = match appended {
            Ok(appended) => appended,
            Err(lost) => (None, Err(Error::Unavailable(lost.to_string()))),
        };
        match outcome {
            Ok(()) => told = false,
            Err(error) if !std::mem::replace(&mut told, true) => {
                tracing::warn!(%error, "job log not written");
            }
            Err(_) => {}
        }
    }
}

/// Blocking. The producer is for the next time, unless it failed itself.
fn append<L: Log>(
    log: &L,
    producer: Option<L::Producer>,
    topic: &str,
    jobs: &[Finished],
) -> (Option<L::Producer>, Result<(), Error>) {
    let mut producer = match producer.map_or_else(|| log.producer(), Ok) {
        Ok(producer) => producer,
        Err(error) => return (None, Err(error)),
    };
    match send(&mut producer, topic, jobs) {
        Err(error) => (None, Err(error)),
        Ok(None) => (Some(producer), Ok(())),
        Ok(Some(refusal)) => (Some(producer), Err(Error::Refused(refusal.reason.to_string()))),
    }
}

/// The first refusal, if there is one.
fn send(producer: &mut impl Producer, topic: &str, jobs: &[Finished]) -> Result<Option<Refusal>, Error> {
    for (tag, job) in jobs.iter().enumerate() {
        let Ok(value) = serde_json::to_vec(job) else { continue };
        let content =
            Content { key: Some(job.job.clone().into()), value: Some(value.into()), ..Content::default() };
        producer.send(tag, Outgoing { topic, partition: Some(0), timestamp_ms: None, content: &content })?;
    }
    Ok(producer.flush()?.into_iter().next())
}
