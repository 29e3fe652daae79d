//! A coordinator to knock at, and a look into what it appended.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ksched_core::{
    cluster::{Cluster, Geometry},
    envelope::{self, Envelope},
    wheel::Place,
};
use ksched_kafka::{Librdkafka, Log, Offset, Reader, Record, Settings, TopicPartition};
use ksched_proto::v1::{
    ScheduleRequest, admin_client::AdminClient, schedule_request, scheduler_client::SchedulerClient,
};
use ksched_server::{
    config::Config,
    coordinator::{Coordinator, Failure, StartError},
    store::{Store, memory::MemoryStore},
};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Far more than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Knocked {
    pub(crate) config: Config,
    pub(crate) grpc: SocketAddr,
    pub(crate) channel: Channel,
    pub(crate) http: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    running: JoinHandle<Result<(), Failure>>,
}

/// Two lanes, two levels, short slots: 20 partitions a level.
pub(crate) fn cluster() -> Cluster {
    let geometry = Geometry { slot_width_ms: 10_000, ratio: 4, levels: 2, lanes: 2, lease_ttl_ms: 2_000 };
    Cluster { geometry, intake_partitions: 1, ..Cluster::default() }
}

pub(crate) fn config(kafka: &str) -> Config {
    Config {
        listen: "127.0.0.1:0".to_owned(),
        http: "127.0.0.1:0".to_owned(),
        kafka: kafka.to_owned(),
        cluster: cluster(),
        ..Config::default()
    }
}

pub(crate) fn broker() -> String {
    noida::kafka::spawn("127.0.0.1:0").unwrap().to_string()
}

pub(crate) async fn start() -> Knocked {
    start_with(config(&broker()), Arc::new(MemoryStore::new())).await.unwrap()
}

pub(crate) async fn start_with(config: Config, store: Arc<dyn Store>) -> Result<Knocked, StartError> {
    // Logs help to see why a test failed; the second test to set them up is too late.
    let _ = ksched_telemetry::logging::init(Default::default(), "warn");
    let shutdown = CancellationToken::new();
    let started = timeout(LONG, Coordinator::start(config.clone(), store, shutdown.clone())).await.unwrap();
    let coordinator = started?;
    let http = coordinator.http_address();
    let grpc = coordinator.grpc_address();
    let channel = Channel::from_shared(format!("http://{grpc}")).unwrap();
    let channel = channel.connect().await.unwrap();
    let running = tokio::spawn(coordinator.run());
    Ok(Knocked { config, grpc, channel, http, shutdown, running })
}

impl Knocked {
    pub(crate) fn scheduler(&self) -> SchedulerClient<Channel> {
        SchedulerClient::new(self.channel.clone())
    }

    pub(crate) fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone())
    }

    /// Stops it and says how it ended.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        self.shutdown.cancel();
        timeout(LONG, self.running).await.unwrap().unwrap()
    }

    /// Everything in the due and wheel topics.
    pub(crate) async fn appended(&self) -> Vec<Record> {
        let (kafka, cluster) = (self.config.kafka.clone(), self.config.cluster.clone());
        spawn_blocking(move || read_all(&kafka, &cluster)).await.unwrap()
    }

    /// The partition in which a message belongs that was scheduled at the time its
    /// envelope says.
    pub(crate) fn place_of(&self, record: &Record) -> (String, i32) {
        let envelope = envelope_of(record);
        let id = lane_of(&self.config.cluster, record);
        let geometry = &self.config.cluster.geometry;
        let scheduled_at_ms = (envelope.scheduled_at_us + 999).div_euclid(1_000);
        match geometry.route(envelope.due_ms, scheduled_at_ms, id) {
            Place::DueLane => (
                self.config.cluster.due_topic(),
                geometry.due_partition(id, ksched_core::wheel::Inlet::Direct),
            ),
            Place::Bucket(bucket) => {
                (self.config.cluster.wheel_topic(bucket.level), geometry.bucket_partition(bucket))
            }
        }
    }
}

pub(crate) fn envelope_of(record: &Record) -> Envelope {
    let header = &record.content.headers[0];
    assert_eq!(&*header.name, envelope::NAME);
    Envelope::decode(header.value.as_ref().unwrap()).unwrap()
}

pub(crate) fn lane_of(cluster: &Cluster, record: &Record) -> u16 {
    if *record.source.topic == *cluster.due_topic() {
        (record.source.partition / 3) as u16
    } else {
        cluster.geometry.lane_of_wheel_partition(record.source.partition)
    }
}

/// A message that is fine, due in a minute.
pub(crate) fn request(key: &str) -> ScheduleRequest {
    ScheduleRequest {
        topic: "orders".to_owned(),
        record_key: Some(schedule_request::RecordKey::KeyText(key.to_owned())),
        record_value: Some(schedule_request::RecordValue::ValueText("hello".to_owned())),
        when: Some(delay(60_000)),
        ..ScheduleRequest::default()
    }
}

pub(crate) fn delay(ms: i64) -> schedule_request::When {
    schedule_request::When::Delay(prost_types::Duration {
        seconds: ms / 1_000,
        nanos: (ms % 1_000 * 1_000_000) as i32,
    })
}

fn read_all(kafka: &str, cluster: &Cluster) -> Vec<Record> {
    let settings = Settings {
        bootstrap: kafka.to_owned(),
        group: "reader".to_owned(),
        client_id: "reader".to_owned(),
        ..Settings::default()
    };
    let log = Librdkafka::new(settings).unwrap();
    let of = |topic: String, count: i32| {
        let topic: Arc<str> = topic.into();
        (0..count).map(move |partition| TopicPartition { topic: topic.clone(), partition })
    };
    let geometry = &cluster.geometry;
    let mut all: Vec<_> = of(cluster.due_topic(), geometry.due_partitions()).collect();
    for level in 1..=geometry.levels {
        all.extend(of(cluster.wheel_topic(level), geometry.wheel_partitions()));
    }
    let ends = log.offsets(&all, Offset::End).unwrap();
    let mut missing: i64 = ends.iter().sum();
    let from: Vec<_> = all.into_iter().map(|at| (at, 0)).collect();
    let mut reader = log.reader(1 << 20).unwrap();
    reader.assign(&from).unwrap();
    let mut records = Vec::new();
    while missing > 0 {
        let record = reader.poll(LONG).unwrap().expect("a record is missing");
        missing -= 1;
        records.push(record);
    }
    records
}
