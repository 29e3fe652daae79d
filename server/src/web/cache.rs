//! One look at a time, kept for a second: many open pages cost what one costs, and none cost
//! nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use ksched_kafka::Librdkafka;
use ksched_proto::v1::{self, admin_client::AdminClient};
use tokio::{
    sync::Mutex,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, timeout},
};
use tonic::transport::{Channel, Endpoint};

use super::{
    Web,
    glance::{Glance, Onlooker},
    page::{self, Rendered},
    status::{Sample, Sources, Status, Worker, WorkerState},
};
use crate::{leasing::Seen, store::CoordinatorInfo};

/// How old an answer may be. A little less than the second in which pages ask.
const FRESH: Duration = Duration::from_millis(900);
/// Between two looks at Kafka.
const KAFKA_EVERY: Duration = Duration::from_secs(2);
/// The page goes on without what takes longer.
const KAFKA_PATIENCE: Duration = Duration::from_millis(300);
const STORE_PATIENCE: Duration = Duration::from_millis(500);
const PEER_PATIENCE: Duration = Duration::from_millis(800);
/// Rates of what is counted here are those of this span.
const WINDOW: Duration = Duration::from_secs(10);
/// What the charts reach back.
const HISTORY: Duration = Duration::from_secs(300);
const GONE_FOR_MS: i64 = 60_000;

/// See the module.
pub(super) struct Cache(Mutex<Memory>);

struct Memory {
    latest: Option<(Instant, Arc<Shown>)>,
    glance: Glance,
    glanced_at: Option<Instant>,
    onlooker: Option<Onlooker<Librdkafka>>,
    looking: Option<JoinHandle<(Onlooker<Librdkafka>, Glance, Option<String>)>>,
    kafka_away: Option<String>,
    peers: BTreeMap<String, AdminClient<Channel>>,
    /// Of each coordinator: when, and what it had scheduled by then.
    scheduled: BTreeMap<String, VecDeque<(Instant, u64)>>,
    history: VecDeque<Sample>,
    /// Workers as they were when last seen with a lease, and when that was.
    workers: BTreeMap<String, (i64, Worker)>,
}

/// One look, and the page made of it.
pub(super) struct Shown {
    pub(super) status: Status,
    pub(super) page: Rendered,
}

impl Cache {
    pub(super) fn new(onlooker: Onlooker<Librdkafka>) -> Self {
        Self(Mutex::new(Memory {
            latest: None,
            glance: Glance::default(),
            glanced_at: None,
            onlooker: Some(onlooker),
            looking: None,
            kafka_away: None,
            peers: BTreeMap::new(),
            scheduled: BTreeMap::new(),
            history: VecDeque::new(),
            workers: BTreeMap::new(),
        }))
    }

    /// What is there to show, at most a second old.
    pub(super) async fn get(&self, web: &Web) -> Arc<Shown> {
        let mut memory = self.0.lock().await;
        if let Some((at, shown)) = &memory.latest
            && at.elapsed() < FRESH
        {
            return Arc::clone(shown);
        }
        let began_at = Instant::now();
        let shown = Arc::new(memory.look(web).await);
        memory.latest = Some((began_at, Arc::clone(&shown)));
        shown
    }
}

impl Memory {
    async fn look(&mut self, web: &Web) -> Shown {
        let mut unknown = Vec::new();
        self.glance_at_kafka().await;
        if let Some(why) = &self.kafka_away {
            unknown.push(format!("Kafka does not tell: {why}"));
        }
        let seen = timeout(STORE_PATIENCE, web.views.with(None)).await.ok().and_then(Result::ok);
        if seen.is_none() {
            unknown.push("the store does not answer: workers and jobs are not known".to_owned());
        }
        let told = self.ask_peers(web, seen.as_deref(), &mut unknown).await;
        let scheduled_per_s = self.note_scheduled(&told);
        let told: Vec<_> = told.into_iter().map(|(_, told)| told).collect();
        if !told.iter().any(|told| told.makes_jobs) {
            unknown.push(
                "no coordinator tells what is pending: none makes jobs, or it does not answer".to_owned(),
            );
        }
        let now_ms = web.host.wall_ms();
        let sources =
            Sources { now_ms, config: &web.config, seen: seen.as_deref(), told: &told, glance: &self.glance };
        let mut status = Status::of(&sources);
        status.ready = web.readiness.is_ready();
        status.alarms.extend(web.readiness.complaints().lines().map(str::to_owned));
        status.unknown = unknown;
        status.totals.scheduled_per_s = scheduled_per_s;
        if seen.is_some() {
            self.note_workers(&mut status);
        }
        self.note_sample(&mut status);
        let page = page::render(&status);
        Shown { status, page }
    }

    /// One look at a time, aside from the runtime; this waits a moment for it at most.
    async fn glance_at_kafka(&mut self) {
        if self.looking.is_none() && self.glanced_at.is_none_or(|at| at.elapsed() >= KAFKA_EVERY) {
            self.glanced_at = Some(Instant::now());
            if let Some(mut onlooker) = self.onlooker.take() {
                self.looking = Some(spawn_blocking(move || {
                    let (glance, outcome) = onlooker.look();
                    (onlooker, glance, outcome.err().map(|error| error.to_string()))
                }));
            }
        }
        let Some(looking) = &mut self.looking else { return };
        match timeout(KAFKA_PATIENCE, looking).await {
            Ok(Ok((onlooker, glance, away))) => {
                (self.onlooker, self.glance, self.kafka_away) = (Some(onlooker), glance, away);
                self.looking = None;
            }
            Ok(Err(join)) => {
                (self.kafka_away, self.looking) = (Some(join.to_string()), None);
            }
            // Its answer is for a later look.
            Err(_) => {}
        }
    }

    /// What this coordinator knows and what the others say, by name.
    async fn ask_peers(
        &mut self,
        web: &Web,
        seen: Option<&Seen>,
        unknown: &mut Vec<String>,
    ) -> Vec<(String, v1::GetActivityResponse)> {
        let mut told = vec![(web.info.name.clone(), web.teller.tell())];
        let others = seen.into_iter().flat_map(|seen| seen.snapshot.coordinators.values());
        let others: Vec<_> = others.filter(|info| info.grpc_address != web.info.grpc_address).collect();
        self.peers.retain(|address, _| others.iter().any(|info| info.grpc_address == *address));
        let answers = others.iter().map(|info| {
            let client = self.peers.get(&info.grpc_address).cloned().or_else(|| connect(info));
            async move {
                let mut client = client?;
                let asking = client.get_activity(v1::GetActivityRequest {});
                let answer = timeout(PEER_PATIENCE, asking).await.ok()?.ok()?;
                Some((client, answer.into_inner()))
            }
        });
        for (info, answer) in others.iter().zip(join_all(answers).await) {
            if let Some((client, answer)) = answer {
                self.peers.insert(info.grpc_address.clone(), client);
                told.push((info.name.clone(), answer));
            } else {
                unknown.push(format!(
                    "{} at {} does not answer: what it alone knows is missing",
                    info.name, info.grpc_address
                ));
            }
        }
        told
    }

    fn note_scheduled(&mut self, told: &[(String, v1::GetActivityResponse)]) -> f64 {
        let now = Instant::now();
        self.scheduled.retain(|name, _| told.iter().any(|(known, _)| known == name));
        let rates = told.iter().map(|(name, told)| {
            let noted = self.scheduled.entry(name.clone()).or_default();
            // A coordinator that was started anew counts from zero.
            noted.retain(|(at, count)| now.duration_since(*at) <= WINDOW && *count <= told.scheduled);
            noted.push_back((now, told.scheduled));
            let (since, before) = noted.front().copied().unwrap_or((now, told.scheduled));
            let span_s = now.duration_since(since).as_secs_f64();
            if span_s > 0.0 { (told.scheduled - before) as f64 / span_s } else { 0.0 }
        });
        rates.sum()
    }

    /// Those that are gone are shown for a minute, unless they came back under another id.
    fn note_workers(&mut self, status: &mut Status) {
        let now_ms = status.at_ms;
        for worker in &status.workers {
            self.workers.insert(worker.id.clone(), (now_ms, worker.clone()));
        }
        self.workers.retain(|_, (seen_at_ms, _)| now_ms - *seen_at_ms < GONE_FOR_MS);
        let gone = self.workers.values().filter(|(seen_at_ms, worker)| {
            *seen_at_ms != now_ms && !status.workers.iter().any(|present| present.name == worker.name)
        });
        let gone: Vec<_> = gone
            .map(|(seen_at_ms, worker)| Worker {
                state: WorkerState::Gone,
                silent_for_ms: Some(now_ms - seen_at_ms),
                lanes: Vec::new(),
                intakes: 0,
                drains: 0,
                held: 0,
                delivered_per_s: 0.0,
                lateness_ms: None,
                ..worker.clone()
            })
            .collect();
        status.workers.extend(gone);
        status.workers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    }

    fn note_sample(&mut self, status: &mut Status) {
        let reach_ms = i64::try_from(HISTORY.as_millis()).unwrap_or(i64::MAX);
        self.history.retain(|sample| status.at_ms - sample.at_ms < reach_ms);
        self.history.push_back(Sample {
            at_ms: status.at_ms,
            scheduled_per_s: status.totals.scheduled_per_s,
            delivered_per_s: status.totals.delivered_per_s,
            lateness_ms: status.totals.lateness_ms,
        });
        status.history = self.history.iter().copied().collect();
    }
}

/// `None` for an address by which nobody is reached from elsewhere: that of all interfaces
/// would be ourselves.
fn connect(info: &CoordinatorInfo) -> Option<AdminClient<Channel>> {
    let everywhere = ["0.0.0.0:", "[::]:"].iter().any(|prefix| info.grpc_address.starts_with(prefix));
    let endpoint = Endpoint::from_shared(format!("http://{}", info.grpc_address)).ok()?;
    (!everywhere).then(|| AdminClient::new(endpoint.connect_timeout(PEER_PATIENCE).connect_lazy()))
}
