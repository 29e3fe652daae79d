//! The coordinator as a whole: starting, health, reflection, metrics, stopping.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ksched_proto::v1::{
    AcquireJobsRequest, GetClusterRequest, RegisterWorkerRequest, job_leasing_client::JobLeasingClient,
};
use ksched_server::{coordinator::StartError, store::memory::MemoryStore};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};

use crate::harness::{Knocked, LONG, broker, config, request, start, start_with};

async fn fetch(door: &Knocked, path: &str) -> String {
    let mut stream = TcpStream::connect(door.http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Asks again until it is so.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !so().await {
        assert!(begun.elapsed() < LONG, "{what} does not come true");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn health_is_told_for_the_whole_and_each_service() {
    let door = start().await;
    for service in ["", "ksched.v1.Scheduler", "ksched.v1.JobLeasing", "ksched.v1.Admin"] {
        until("serving", async || {
            let request = HealthCheckRequest { service: service.to_owned() };
            let answer = HealthClient::new(door.channel.clone()).check(request).await.unwrap();
            answer.into_inner().status() == ServingStatus::Serving
        })
        .await;
    }
    assert!(fetch(&door, "/readyz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn reflection_lists_every_service_in_both_versions() {
    let door = start().await;
    let expected =
        ["grpc.health.v1.Health", "ksched.v1.Admin", "ksched.v1.JobLeasing", "ksched.v1.Scheduler"];
    let list = v1::server_reflection_request::MessageRequest::ListServices(String::new());
    let ask = v1::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(door.channel.clone());
    let answers = client.server_reflection_info(futures::stream::iter([ask])).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = list.service.into_iter().map(|s| s.name).collect();
    assert!(expected.iter().all(|e| names.iter().any(|n| n == e)), "{names:?}");

    let list = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let ask = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(door.channel.clone());
    let answers = client.server_reflection_info(futures::stream::iter([ask])).await.unwrap();
    assert!(answers.into_inner().message().await.unwrap().is_some());
}

#[tokio::test]
async fn coordinators_and_their_leader_are_listed_and_metrics_count() {
    let door = start().await;
    door.scheduler().schedule(request("k")).await.unwrap();
    until("leading", async || {
        let answer = door.admin().get_cluster(GetClusterRequest {}).await.unwrap().into_inner();
        answer.leader == "coordinator-1" && answer.coordinators.len() == 1
    })
    .await;
    until("pending", async || {
        let metrics = fetch(&door, "/metrics").await;
        let of_level =
            metrics.lines().filter(|line| line.starts_with("ksched_pending_messages{level=\"1\","));
        of_level.map(|line| i64::from(line.ends_with(" 1"))).sum::<i64>() == 1
    })
    .await;
    let metrics = fetch(&door, "/metrics").await;
    assert!(metrics.contains("ksched_scheduled_total 1\n"), "{metrics}");
    assert!(metrics.contains("ksched_making_jobs 1\n"), "{metrics}");
    door.stop().await.unwrap();
}

#[tokio::test]
async fn other_settings_than_the_clusters_are_refused_by_name() {
    let store = Arc::new(MemoryStore::new());
    let config = config(&broker());
    let first = start_with(config.clone(), store.clone()).await.unwrap();
    let mut other = config;
    other.cluster.geometry.ratio = 6;
    let error = start_with(other, store).await.err().unwrap();
    assert!(matches!(error, StartError::Settings(_)) && error.is_configuration());
    assert!(error.to_string().contains("ratio is 6, the cluster's is 4"), "{error}");
    first.stop().await.unwrap();
}

#[tokio::test]
async fn addresses_open_to_others_are_refused_without_insecure() {
    // Nothing listens there: it is not even looked for Kafka.
    let open = ksched_server::config::Config { listen: "0.0.0.0:0".to_owned(), ..config("127.0.0.1:1") };
    let started = timeout(Duration::from_secs(5), start_with(open, Arc::new(MemoryStore::new())));
    let error = started.await.unwrap().err().unwrap();
    assert!(matches!(error, StartError::Bind(_)) && error.to_string().contains("--insecure"), "{error}");
}

#[tokio::test]
async fn kafka_may_come_up_later() {
    // A port that is free now; noida takes it in a moment.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let starting = tokio::spawn(start_with(config(&address), Arc::new(MemoryStore::new())));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!starting.is_finished());
    noida::kafka::spawn(&address).unwrap();
    let door = timeout(LONG, starting).await.unwrap().unwrap().unwrap();
    door.scheduler().schedule(request("k")).await.unwrap();
}

#[tokio::test]
async fn a_stop_is_quick_though_polls_wait_and_connections_are_open() {
    let door = start().await;
    let mut leasing = JobLeasingClient::new(door.channel.clone());
    let worker = leasing.register_worker(RegisterWorkerRequest::default()).await.unwrap().into_inner();
    let held_polls = tokio::spawn(async move {
        loop {
            let request = AcquireJobsRequest {
                lease: worker.lease.clone(),
                free_drains: 0,
                wait: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
                ..AcquireJobsRequest::default()
            };
            // Until the door is shut.
            if leasing.acquire_jobs(request).await.is_err() {
                return;
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    door.stop().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    timeout(LONG, held_polls).await.unwrap().unwrap();
}
