//! `Admin`: what operators call.

use std::sync::Arc;

use ksched_core::{cluster::Cluster, jobs};
use ksched_proto::v1::{self, admin_server};
use tonic::{Request, Response, Status};

use crate::{
    activity::Teller,
    leasing::{Error, Seen, Views, wire},
    store::WorkerInfo,
};

/// The service.
#[derive(Clone, Debug)]
pub struct Admin {
    views: Views,
    cluster: Arc<Cluster>,
    kafka: Arc<str>,
    teller: Teller,
}

impl Admin {
    /// A service that answers from `views`; `kafka` is where Kafka is.
    pub fn new(views: Views, cluster: Arc<Cluster>, kafka: &str, teller: Teller) -> Self {
        Self { views, cluster, kafka: kafka.into(), teller }
    }

    async fn view(&self) -> Result<Arc<Seen>, Status> {
        Ok(self.views.with(None).await.map_err(Error::from)?)
    }
}

#[tonic::async_trait]
impl admin_server::Admin for Admin {
    /// The cluster's settings are known without the store, and told when it is away.
    async fn get_cluster(
        &self,
        _: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::GetClusterResponse>, Status> {
        let cluster = Some(wire::cluster(&self.cluster, &self.kafka));
        let Ok(seen) = self.view().await else {
            return Ok(Response::new(v1::GetClusterResponse { cluster, ..Default::default() }));
        };
        let mut coordinators: Vec<_> = seen
            .snapshot
            .coordinators
            .values()
            .map(|c| v1::Coordinator {
                name: c.name.clone(),
                version: c.version.clone(),
                grpc_address: c.grpc_address.clone(),
                http_address: c.http_address.clone(),
            })
            .collect();
        coordinators.sort_by(|a, b| a.name.cmp(&b.name));
        let leader = seen.snapshot.leader.as_ref().and_then(|id| seen.snapshot.coordinators.get(id));
        let leader = leader.map(|c| c.name.clone()).unwrap_or_default();
        Ok(Response::new(v1::GetClusterResponse { cluster, coordinators, leader }))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let seen = self.view().await?;
        let mut workers: Vec<_> =
            seen.snapshot.workers.iter().map(|(id, info)| worker(&seen, id, info)).collect();
        workers.sort_by(|a, b| (&a.name, &a.worker_id).cmp(&(&b.name, &b.worker_id)));
        Ok(Response::new(v1::ListWorkersResponse { workers }))
    }

    async fn list_jobs(
        &self,
        _: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let seen = self.view().await?;
        let snapshot = &seen.snapshot;
        let names = jobs::standing(&self.cluster).into_iter().chain(snapshot.drains.keys().cloned());
        let state = |name: jobs::JobName| {
            let claim = snapshot.claims.get(&name);
            let drain = snapshot.drains.get(&name).copied();
            let worker_id = claim.map(|claim| claim.worker_id.clone()).unwrap_or_default();
            let worker_name = snapshot.workers.get(&worker_id).map(|w| w.name.clone()).unwrap_or_default();
            let job = Some(wire::job(&self.cluster, &name, drain, claim.map(|claim| claim.fence)));
            v1::JobState { job, worker_id, worker_name }
        };
        Ok(Response::new(v1::ListJobsResponse { jobs: names.map(state).collect() }))
    }

    async fn get_activity(
        &self,
        _: Request<v1::GetActivityRequest>,
    ) -> Result<Response<v1::GetActivityResponse>, Status> {
        Ok(Response::new(self.teller.tell()))
    }
}

fn worker(seen: &Seen, id: &str, info: &WorkerInfo) -> v1::Worker {
    let claims = seen.snapshot.claims.iter().filter(|(_, claim)| claim.worker_id == id);
    v1::Worker {
        worker_id: id.to_owned(),
        name: info.name.clone(),
        version: info.version.clone(),
        http_address: info.http_address.clone(),
        registered_time: Some(wire::timestamp(info.registered_at_ms)),
        jobs: claims.map(|(job, _)| job.to_string()).collect(),
    }
}
