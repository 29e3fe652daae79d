//! A process with pollers, killed while they hold rows.

use std::{
    env,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ksched_baseline::{Database, Pollers, Settings};

use crate::bed::{self, Bed, PATIENCE};

const URL: &str = "KSCHED_TEST_DATABASE";
const KAFKA: &str = "KSCHED_TEST_BROKER";

pub(crate) async fn a_killed_process_loses_nothing(bed: Bed) {
    let rows: Vec<_> = (0..30_000).map(|number| bed.row(number, 1)).collect();
    bed.database.insert_batch(&rows).await.unwrap();
    let mut before = rows.len() as u64;
    for _ in 0..3 {
        let mut victim = victim(&bed);
        // It works, and has much to do yet.
        let began_at = Instant::now();
        loop {
            let waiting = bed.database.waiting().await.unwrap();
            if waiting < before {
                before = waiting;
                break;
            }
            assert!(began_at.elapsed() < PATIENCE, "the process does nothing");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
    assert!(before > 0, "killed in the middle");
    let pollers = Pollers::start(&bed.database, &bed.log, Settings::default());
    bed.all_delivered().await;
    pollers.stop().await;
    let delivered = bed.delivered();
    assert_eq!(delivered.len(), rows.len(), "each is there");
    let copies: usize = delivered.values().map(|(copies, _)| copies).sum();
    println!("{} of {} delivered again after kills", copies - rows.len(), rows.len());
}

fn victim(bed: &Bed) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["poller_to_be_killed", "--exact", "--nocapture"])
        .env(URL, &bed.url)
        .env(KAFKA, &bed.kafka)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Polls until it is killed; does nothing as a test of its own.
pub(crate) fn play_victim() {
    let (Ok(url), Ok(kafka)) = (env::var(URL), env::var(KAFKA)) else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let database = Database::connect(&url, 4).await.unwrap();
        let settings = Settings { every: Duration::from_millis(100), pollers: 4, batch: 200 };
        let _pollers = Pollers::start(&database, &bed::log(&kafka), settings);
        tokio::time::sleep(PATIENCE).await;
    });
}
