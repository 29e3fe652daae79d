//! How long a run's jobs took, for its file.

use std::{
    ops::ControlFlow,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

#[cfg(feature = "experiment")]
use ksched_baseline::Round;
use ksched_client::{
    Client,
    bench::Error,
    reader::{Received, Since, TopicReader, Until},
};
use ksched_core::{cluster::Cluster, jobs::Finished};
use ksched_kafka::Log;
use ksched_report::run::Job;
use tokio::task::spawn_blocking;

/// A run's file is not to wait for a Kafka that is away.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// Those that the job log has since then: drains, for nothing else is ever done.
///
/// # Errors
/// No coordinator answers, or Kafka does not.
pub(crate) async fn drains<L: Log>(client: Client, log: Arc<L>, start_ms: i64) -> Result<Vec<Job>, Error> {
    let told = client.cluster().await?.cluster.unwrap_or_default();
    let cluster = Cluster { topic_prefix: told.topic_prefix, ..Cluster::default() };
    let read = spawn_blocking(move || finished_since(log, &cluster.job_log_topic(), start_ms)).await;
    let finished =
        read.map_err(|_| ksched_kafka::Error::Unavailable("the program is ending".to_owned()))??;
    Ok(finished.iter().map(|finished| of(finished, start_ms)).collect())
}

fn finished_since<L: Log>(
    log: Arc<L>,
    topic: &str,
    start_ms: i64,
) -> Result<Vec<Finished>, ksched_kafka::Error> {
    let (found, all) = mpsc::channel();
    let began_at = Instant::now();
    let on_record = move |received: Received| {
        let value = received.record.content.value.as_deref().unwrap_or_default();
        // Others may write there, too.
        match serde_json::from_slice(value).map(|finished| found.send(finished)) {
            Ok(Err(_)) => ControlFlow::Break(()),
            Ok(Ok(())) | Err(_) => ControlFlow::Continue(()),
        }
    };
    let reader = TopicReader::start(log, topic, Since::At(start_ms), Until::End, on_record)?;
    while !reader.is_finished() && began_at.elapsed() < READ_WITHIN {
        thread::sleep(Duration::from_millis(20));
    }
    let in_time = reader.is_finished();
    reader.stop()?;
    match in_time {
        true => Ok(all.try_iter().collect()),
        false => Err(ksched_kafka::Error::Unavailable(format!("not read within {READ_WITHIN:?}"))),
    }
}

fn of(finished: &Finished, start_ms: i64) -> Job {
    let Finished { job: name, begun_at_ms, finished_at_ms, moved, .. } = finished;
    let kind = name.split('/').next().unwrap_or_default();
    let (started_ms, took_ms) =
        (begun_at_ms.saturating_sub(start_ms), finished_at_ms.saturating_sub(*begun_at_ms));
    job(kind, started_ms, took_ms, *moved)
}

/// The looks of a database's pollers that found something.
#[cfg(feature = "experiment")]
pub(crate) fn polls(rounds: Vec<Round>, start_ms: i64) -> Vec<Job> {
    let of =
        |round: Round| job("poll", round.began_at_ms - start_ms, round.took_ms.into(), round.moved.into());
    rounds.into_iter().map(of).collect()
}

fn job(kind: &str, started_ms: i64, took_ms: i64, moved: u64) -> Job {
    let seconds = |ms: i64| ms as f64 / 1000.0;
    Job { kind: kind.to_owned(), started_s: seconds(started_ms), took_s: seconds(took_ms), moved }
}
