//! One look at a cluster: what all of its coordinators answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    slice,
    time::Instant,
};

use futures::future::join_all;
use ksched_client::{Client, Error, Settings, clock};
use ksched_proto::{
    activity::{PEER_PATIENCE, ScheduledRate, is_askable},
    v1,
};

use crate::view::{Answers, View};

/// Looks, and remembers what rates are made of.
#[derive(Debug)]
pub(crate) struct Onlooker {
    door: Client,
    /// The addresses behind it.
    servers: Vec<String>,
    /// A client for each coordinator, by its address.
    peers: BTreeMap<String, Client>,
    scheduled: ScheduledRate,
}

/// What one coordinator answered.
struct Told {
    address: String,
    activity: v1::GetActivityResponse,
    is_ready: bool,
}

impl Onlooker {
    pub(crate) fn new(door: Client, servers: Vec<String>) -> Self {
        Self { door, servers, peers: BTreeMap::new(), scheduled: ScheduledRate::default() }
    }

    /// Fails if no coordinator answers.
    pub(crate) async fn look(&mut self) -> Result<View, Error> {
        let (cluster, workers, jobs) =
            tokio::join!(self.door.cluster(), self.door.workers(), self.door.jobs());
        let (mut cluster, mut unknown) = (cluster?, Vec::new());
        // One that was started anew is there twice until its old lease ends.
        cluster.coordinators.dedup_by(|a, b| a.name == b.name && a.grpc_address == b.grpc_address);
        let told = self.ask_all(&cluster.coordinators, &mut unknown).await;
        let ready = told.iter().filter(|told| told.is_ready).count();
        let told: Vec<_> = told.into_iter().map(|told| (told.address, told.activity)).collect();
        let scheduled_per_s = self.scheduled.note(Instant::now(), &told);
        Ok(View::of(&Answers {
            at_ms: clock::now_ms(),
            cluster,
            workers: workers.map_err(|error| reason(&error)),
            jobs: jobs.map_err(|error| reason(&error)),
            told: told.into_iter().map(|(_, told)| told).collect(),
            ready,
            scheduled_per_s,
            unknown,
        }))
    }

    /// Every coordinator where it says it is. Behind a forwarded port, or in a network of their
    /// own, none is reached there: then those at `--server`.
    async fn ask_all(&mut self, registered: &[v1::Coordinator], unknown: &mut Vec<String>) -> Vec<Told> {
        let addresses: BTreeSet<String> = registered.iter().map(|peer| peer.grpc_address.clone()).collect();
        self.peers.retain(|address, _| addresses.contains(address) || self.servers.contains(address));
        let told = self.ask(addresses).await;
        if told.is_empty() {
            let told = self.ask(self.servers.iter().cloned().collect()).await;
            if told.len() < registered.len() {
                unknown.push(format!(
                    "{} of {} coordinators answer, at --server: what the others alone know is missing",
                    told.len(),
                    registered.len()
                ));
            }
            return told;
        }
        for peer in registered.iter().filter(|peer| told.iter().all(|told| told.address != peer.grpc_address))
        {
            unknown.push(format!(
                "{} at {} does not answer: what it alone knows is missing",
                peer.name, peer.grpc_address
            ));
        }
        told
    }

    async fn ask(&mut self, addresses: BTreeSet<String>) -> Vec<Told> {
        let settings = Settings {
            connect_timeout: PEER_PATIENCE,
            attempt_timeout: PEER_PATIENCE,
            deadline: PEER_PATIENCE,
        };
        let mut asked = Vec::new();
        for address in addresses.into_iter().filter(|address| is_askable(address)) {
            let known = self.peers.get(&address).cloned().map(Ok);
            let client =
                known.unwrap_or_else(|| Client::connect(slice::from_ref(&address), settings.clone()));
            let Ok(client) = client else { continue };
            self.peers.insert(address.clone(), client.clone());
            asked.push(async move {
                let (activity, is_ready) = tokio::join!(client.activity(), client.is_ready());
                Some(Told { address, activity: activity.ok()?, is_ready: is_ready.unwrap_or(false) })
            });
        }
        join_all(asked).await.into_iter().flatten().collect()
    }
}

/// Why a question has no answer; nothing was to be scheduled by it.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::Call(call) => match &call.coordinator {
            Some(address) => format!("{address}: {}", call.message),
            None => call.message.clone(),
        },
        other => other.to_string(),
    }
}
