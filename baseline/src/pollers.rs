//! Tasks that look for what is due and produce it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ksched_kafka::{Log, Outgoing, Producer as _};
use serde::{Deserialize, Serialize};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{Database, Error, Fate, Row, clock};

/// A database or a Kafka that is away is asked again after this long.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// What Kafka refuses is tried again after this long, so that it does not stand before what can be delivered.
const POSTPONE_MS: i64 = 60_000;
/// Looks are not remembered beyond so many.
const ROUNDS_KEPT: usize = 200_000;
/// Longer than a round may take: producing is bounded by the producer, statements by the database.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// How what is due is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// From one look to the next, of each poller; all look at the same time. After a full batch a poller looks again
    /// at once.
    pub every: Duration,
    pub pollers: u32,
    /// Messages of one transaction.
    pub batch: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { every: Duration::from_millis(100), pollers: 4, batch: 1_000 }
    }
}

/// What pollers have done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Messages delivered and deleted.
    pub delivered: u64,
    /// Looks that found something.
    pub batches: u64,
    /// Looks that found nothing.
    pub in_vain: u64,
    /// Messages that Kafka refused, each time.
    pub refused: u64,
    /// Looks that ended in an error; what they had taken is free again and may be delivered twice.
    pub failed: u64,
    /// The looks that found something, the first 200,000.
    pub rounds: Vec<Round>,
}

/// A look that found something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// In ms since the epoch.
    pub began_at_ms: i64,
    pub took_ms: u32,
    /// Messages delivered.
    pub moved: u32,
}

/// Running pollers. Dropping this ends them where they are: what they have taken is free again.
#[derive(Debug)]
pub struct Pollers {
    stop: CancellationToken,
    tasks: JoinSet<()>,
    counts: Arc<Counts>,
}

impl Pollers {
    /// Starts them; `database` should have a connection for each.
    pub fn start<L: Log>(database: &Database, log: &Arc<L>, settings: Settings) -> Self {
        let stop = CancellationToken::new();
        let counts = Arc::new(Counts::default());
        let mut tasks = JoinSet::new();
        let first_at = Instant::now();
        for _ in 0..settings.pollers {
            let poller = Poller {
                database: database.clone(),
                log: Arc::clone(log),
                producer: None,
                batch: settings.batch,
                counts: Arc::clone(&counts),
            };
            tasks.spawn(poller.run(first_at, settings.every, stop.clone()));
        }
        Self { stop, tasks, counts }
    }

    pub fn done(&self) -> Done {
        self.counts.read()
    }

    /// Lets every poller end the round it is in, and waits for that.
    pub async fn stop(mut self) -> Done {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(STOP_WITHIN, all).await.is_err() {
            tracing::warn!("pollers did not end within {STOP_WITHIN:?}");
        }
        self.counts.read()
    }
}

#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    batches: AtomicU64,
    in_vain: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    rounds: Mutex<Vec<Round>>,
}

impl Counts {
    fn read(&self) -> Done {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Done {
            delivered: of(&self.delivered),
            batches: of(&self.batches),
            in_vain: of(&self.in_vain),
            refused: of(&self.refused),
            failed: of(&self.failed),
            rounds: self.rounds.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn remember(&self, began_at_ms: i64, took: Duration, delivered: usize) {
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        if rounds.len() < ROUNDS_KEPT {
            let short = |number: u128| u32::try_from(number).unwrap_or(u32::MAX);
            rounds.push(Round {
                began_at_ms,
                took_ms: short(took.as_millis()),
                moved: short(delivered as u128),
            });
        }
    }
}

fn add(count: &AtomicU64, number: usize) {
    count.fetch_add(number as u64, Ordering::Relaxed);
}

struct Poller<L: Log> {
    database: Database,
    log: Arc<L>,
    /// Made when it is needed; none after an error.
    producer: Option<L::Producer>,
    batch: u32,
    counts: Arc<Counts>,
}

/// What a look found of what is due.
enum Found {
    All,
    PerhapsMore,
}

impl<L: Log> Poller<L> {
    async fn run(mut self, first_at: Instant, every: Duration, stop: CancellationToken) {
        // An interval of zero is not one.
        let mut look = interval_at(first_at, every.max(Duration::from_millis(1)));
        look.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while stop.run_until_cancelled(look.tick()).await.is_some() {
            while !stop.is_cancelled() {
                match self.round().await {
                    Ok(Found::All) => break,
                    Ok(Found::PerhapsMore) => {}
                    Err(error) => {
                        add(&self.counts.failed, 1);
                        tracing::warn!(%error, "poller");
                        // Cut short by the stop, which the loop sees.
                        let _ = stop.run_until_cancelled(sleep(AFTER_ERROR)).await;
                        break;
                    }
                }
            }
        }
        if let Some(producer) = self.producer.take() {
            // Ending a client blocks.
            let _ = spawn_blocking(move || drop(producer)).await;
        }
    }

    /// One transaction.
    async fn round(&mut self) -> Result<Found, Error> {
        let (began_at_ms, began_at) = (clock::now_ms(), Instant::now());
        let Some(mut taken) = self.database.take(began_at_ms, self.batch).await? else {
            add(&self.counts.in_vain, 1);
            return Ok(Found::All);
        };
        let rows = std::mem::take(&mut taken.rows);
        let found = rows.len();
        let fates = self.produce(rows).await?;
        taken.settle(&fates, clock::now_ms().saturating_add(POSTPONE_MS)).await?;
        let delivered = fates.iter().filter(|fate| **fate == Fate::Delivered).count();
        add(&self.counts.batches, 1);
        add(&self.counts.refused, found - delivered);
        add(&self.counts.delivered, delivered);
        self.counts.remember(began_at_ms, began_at.elapsed(), delivered);
        // What stays would be found again at once.
        let full = delivered == found && found >= self.batch as usize;
        Ok(if full { Found::PerhapsMore } else { Found::All })
    }

    /// Appends them all and waits for every acknowledgement.
    async fn produce(&mut self, rows: Vec<Row>) -> Result<Vec<Fate>, Error> {
        let (log, producer) = (Arc::clone(&self.log), self.producer.take());
        let produced = spawn_blocking(move || {
            let mut producer = match producer {
                Some(producer) => producer,
                None => log.producer()?,
            };
            for (tag, row) in rows.iter().enumerate() {
                producer.send(tag, outgoing(row))?;
            }
            let mut fates = vec![Fate::Delivered; rows.len()];
            for refusal in producer.flush()? {
                if let (Some(fate), Some(row)) = (fates.get_mut(refusal.tag), rows.get(refusal.tag)) {
                    tracing::warn!(topic = row.topic, reason = %refusal.reason, "message not delivered");
                    *fate = if refusal.reason.is_collateral() { Fate::Open } else { Fate::Postponed };
                }
            }
            Ok::<_, ksched_kafka::Error>((producer, fates))
        });
        match produced.await {
            Ok(result) => {
                let (producer, fates) = result?;
                self.producer = Some(producer);
                Ok(fates)
            }
            Err(_) => Err(ksched_kafka::Error::Unavailable("the program is ending".to_owned()).into()),
        }
    }
}

fn outgoing(row: &Row) -> Outgoing<'_> {
    Outgoing { topic: &row.topic, partition: row.partition, timestamp_ms: None, content: &row.content }
}
