//! One look at a time, kept for a second: many open pages cost what one costs, and none cost
//! nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use ksched_core::jobs::Finished;
use ksched_kafka::Librdkafka;
use ksched_proto::{
    activity::{PEER_PATIENCE, ScheduledRate, is_askable},
    v1::{self, admin_client::AdminClient},
};
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
    status::{HISTORY_MS, Sample, Sources, Status},
};
use crate::{leasing::Seen, store::CoordinatorInfo};

/// How old an answer may be. A little less than the second in which pages ask.
const FRESH: Duration = Duration::from_millis(900);
/// An older view of the store is said to be old.
const STORE_FRESH: Duration = Duration::from_secs(3);
/// Between two looks at Kafka.
const KAFKA_EVERY: Duration = Duration::from_secs(5);
/// The page goes on without what takes longer.
const KAFKA_PATIENCE: Duration = Duration::from_millis(300);
/// The first one for a while to ask would be told what is long past, or nothing.
const KAFKA_PATIENCE_AT_FIRST: Duration = Duration::from_secs(3);
const LONG_PAST: Duration = Duration::from_secs(15);
const GAP_MS: i64 = 15_000;

/// See the module.
pub(super) struct Cache(Mutex<Memory>);

struct Memory {
    latest: Option<(Instant, Arc<Shown>)>,
    glance: Glance,
    glanced_at: Option<Instant>,
    onlooker: Option<Onlooker<Librdkafka>>,
    looking: Option<JoinHandle<Looked>>,
    /// What Kafka did not tell, and why.
    untold: Vec<String>,
    /// By address, as all that is known of coordinators here.
    peers: BTreeMap<String, AdminClient<Channel>>,
    scheduled: ScheduledRate,
    history: VecDeque<Sample>,
}

/// Who looked at Kafka, what it saw, and what it did not see and why.
type Looked = (Onlooker<Librdkafka>, Glance, Vec<String>);

/// One look, and the page made of it.
pub(super) struct Shown {
    pub(super) status: Status,
    pub(super) page: Rendered,
    /// All that is remembered of it, the newest first.
    pub(super) job_log: Arc<[Finished]>,
}

impl Cache {
    pub(super) fn new(onlooker: Onlooker<Librdkafka>) -> Self {
        Self(Mutex::new(Memory {
            latest: None,
            glance: Glance::default(),
            glanced_at: None,
            onlooker: Some(onlooker),
            looking: None,
            untold: Vec::new(),
            peers: BTreeMap::new(),
            scheduled: ScheduledRate::default(),
            history: VecDeque::new(),
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
        let shown = Arc::new(memory.look(web).await);
        // From its end on: those who wait here meanwhile share it, however long it took.
        memory.latest = Some((Instant::now(), Arc::clone(&shown)));
        shown
    }
}

impl Memory {
    async fn look(&mut self, web: &Web) -> Shown {
        let mut unknown = Vec::new();
        self.glance_at_kafka().await;
        unknown.extend(self.untold.iter().map(|what| format!("not told by Kafka: {what}")));
        if self.looking.is_some() && self.glanced_at.is_some_and(|at| at.elapsed() >= KAFKA_PATIENCE_AT_FIRST)
        {
            unknown.push("Kafka does not answer: intake lag, dead letters and job log may be old".to_owned());
        }
        // Coordinators keep it fresh for themselves: the store is not asked for a page.
        let seen = web.views.last();
        if seen.as_ref().is_none_or(|seen| seen.at.elapsed() >= STORE_FRESH) {
            unknown.push("the store does not answer: workers and jobs are as they were last seen".to_owned());
        }
        let told = self.ask_peers(web, seen.as_deref(), &mut unknown).await;
        let scheduled_per_s = self.scheduled.note(Instant::now().into_std(), &told);
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
        self.note_sample(&mut status);
        let page = page::render(&status);
        let job_log = self.glance.job_log.clone().unwrap_or_default();
        Shown { status, page, job_log }
    }

    /// One look at a time, aside from the runtime; this waits a moment for it at most.
    async fn glance_at_kafka(&mut self) {
        let mut patience = KAFKA_PATIENCE;
        let is_older = |than| self.glanced_at.is_none_or(|at: Instant| at.elapsed() >= than);
        if self.looking.is_none() && is_older(KAFKA_EVERY) {
            if is_older(LONG_PAST) && self.untold.is_empty() {
                patience = KAFKA_PATIENCE_AT_FIRST;
            }
            self.glanced_at = Some(Instant::now());
            if let Some(mut onlooker) = self.onlooker.take() {
                self.looking = Some(spawn_blocking(move || {
                    let (glance, untold) = onlooker.look();
                    (onlooker, glance, untold)
                }));
            }
        }
        let Some(looking) = &mut self.looking else { return };
        match timeout(patience, looking).await {
            Ok(Ok((onlooker, glance, untold))) => {
                (self.onlooker, self.glance, self.untold) = (Some(onlooker), glance, untold);
                self.looking = None;
            }
            Ok(Err(join)) => {
                (self.untold, self.looking) = (vec![join.to_string()], None);
            }
            // Its answer is for a later look.
            Err(_) => {}
        }
    }

    /// What this coordinator knows and what the others say, by address.
    async fn ask_peers(
        &mut self,
        web: &Web,
        seen: Option<&Seen>,
        unknown: &mut Vec<String>,
    ) -> Vec<(String, v1::GetActivityResponse)> {
        let mut told = vec![(web.info.grpc_address.clone(), web.teller.tell())];
        // One that was started anew is there twice until its old lease ends.
        let others: Vec<_> = seen.into_iter().flat_map(|seen| seen.snapshot.coordinators.values()).collect();
        let namesakes = others
            .iter()
            .filter(|info| info.grpc_address == web.info.grpc_address && info.name != web.info.name);
        unknown.extend(namesakes.map(|info| {
            format!(
                "{} registered our own address, {}: what it alone knows is missing",
                info.name, info.grpc_address
            )
        }));
        let mut others: BTreeMap<&str, _> =
            others.into_iter().map(|info| (&*info.grpc_address, info)).collect();
        others.remove(&*web.info.grpc_address);
        self.peers.retain(|address, _| others.contains_key(&**address));
        let answers = others.iter().map(|(address, info)| {
            let client = self.peers.get(*address).cloned().or_else(|| connect(info));
            async move {
                let mut client = client?;
                let asking = client.get_activity(v1::GetActivityRequest {});
                let answer = timeout(PEER_PATIENCE, asking).await.ok()?.ok()?;
                Some((client, answer.into_inner()))
            }
        });
        let answers = join_all(answers).await;
        for ((address, info), answer) in others.into_iter().zip(answers) {
            if let Some((client, answer)) = answer {
                self.peers.insert(address.to_owned(), client);
                told.push((address.to_owned(), answer));
            } else {
                // Another connection next time: this one may be to a host that is gone.
                self.peers.remove(address);
                let name = &info.name;
                unknown.push(format!("{name} at {address} does not answer: what it alone knows is missing"));
            }
        }
        told
    }

    fn note_sample(&mut self, status: &mut Status) {
        // A line across the time in which nobody looked would be a guess.
        if self.history.back().is_some_and(|last| status.at_ms - last.at_ms > GAP_MS) {
            self.history.clear();
        }
        self.history.retain(|sample| (0..HISTORY_MS).contains(&(status.at_ms - sample.at_ms)));
        self.history.push_back(Sample {
            at_ms: status.at_ms,
            scheduled_per_s: status.totals.scheduled_per_s,
            delivered_per_s: status.totals.delivered_per_s,
            lateness_ms: status.totals.lateness_ms,
        });
        status.history = self.history.iter().copied().collect();
    }
}

/// `None` for an address by which nobody is reached from elsewhere.
fn connect(info: &CoordinatorInfo) -> Option<AdminClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{}", info.grpc_address)).ok()?;
    is_askable(&info.grpc_address)
        .then(|| AdminClient::new(endpoint.connect_timeout(PEER_PATIENCE).connect_lazy()))
}
