//! `ksched dev --demo`: a short run of messages, and the proof that none was lost.

use std::{collections::BTreeMap, process::ExitCode, sync::Arc, time::Duration};

use ksched_client::{
    Client, Settings,
    bench::{self, Options, Progress, Report},
    clock, kafka,
};
use ksched_kafka::Librdkafka;
use ksched_proto::v1::{JobKind, JobState};
use tokio::time::{sleep, timeout};

use crate::dev::Addresses;

/// Messages are due within so long after they are scheduled.
const DELAYS_MS: std::ops::RangeInclusive<i64> = 0..=10_000;
const PARTITIONS: i32 = 4;
const LANES_WITHIN: Duration = Duration::from_secs(30);
const TAKE_OVER: Duration = Duration::from_secs(2);

/// Schedules, waits, judges: 0 only if nothing was lost, doubled or early.
pub(crate) async fn run(addresses: &Addresses, rate: f64, count: u64) -> ExitCode {
    match demonstrate(addresses, rate, count).await {
        Ok(report) if report.valid => ExitCode::SUCCESS,
        // The report has told why.
        Ok(_) => ExitCode::from(4),
        Err(why) => {
            eprintln!("ksched dev: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn demonstrate(addresses: &Addresses, rate: f64, count: u64) -> Result<Report, String> {
    println!(
        "ksched dev: an embedded broker (in memory, not Apache Kafka), a coordinator and a worker in one process.\n\
         {count} messages at {rate}/s by gRPC, each due within 10 s of being scheduled.\n"
    );
    let client = Client::connect(std::slice::from_ref(&addresses.grpc), Settings::default())
        .map_err(|error| error.to_string())?;
    let options = Options::new(rate, count, DELAYS_MS, clock::now_us().unsigned_abs());
    let log = make_topic(&addresses.kafka, &options.topic, PARTITIONS).await?;
    wait_for_lanes(&client).await?;
    let mut last = Duration::ZERO;
    let report = bench::run(options, client, log, |progress| show(progress, &mut last));
    let report = Box::pin(report).await.map_err(|error| error.to_string())?;
    print!("\n{}", report.table());
    Ok(report)
}

/// Makes a topic to deliver to; the way to the broker, for more.
pub(crate) async fn make_topic(
    address: &str,
    topic: &str,
    partitions: i32,
) -> Result<Arc<Librdkafka>, String> {
    let log = Arc::new(kafka::connect(address, BTreeMap::new()).map_err(|error| error.to_string())?);
    let (way, topic) = (Arc::clone(&log), topic.to_owned());
    let made = tokio::task::spawn_blocking(move || kafka::make_target(&way, &topic, partitions));
    made.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    Ok(log)
}

/// Until a worker holds every lane, and has had a moment to take it over: a demo of
/// lateness should not begin with the start of the program.
async fn wait_for_lanes(client: &Client) -> Result<(), String> {
    let held = async {
        loop {
            let jobs = client.jobs().await.map_err(|error| error.to_string())?;
            let is_lane =
                |state: &&JobState| state.job.as_ref().is_some_and(|job| job.kind() == JobKind::Lane);
            let mut lanes = jobs.iter().filter(is_lane).peekable();
            if lanes.peek().is_some() && lanes.all(|lane| !lane.worker_id.is_empty()) {
                return Ok::<(), String>(());
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LANES_WITHIN, held).await.map_err(|_| "no worker holds the lanes".to_owned())??;
    sleep(TAKE_OVER).await;
    Ok(())
}

/// A line every two seconds.
fn show(progress: &Progress, last: &mut Duration) {
    if progress.elapsed < *last + Duration::from_secs(2) {
        return;
    }
    *last = progress.elapsed;
    let Progress { elapsed, planned, acknowledged, delivered, visible_ms, .. } = progress;
    println!(
        "{:>3} s  scheduled {acknowledged:>6}  delivered {delivered:>6} of {planned}  lateness p50 {:.1} ms, p99 {:.1} ms",
        elapsed.as_secs(),
        visible_ms.p50,
        visible_ms.p99
    );
}
