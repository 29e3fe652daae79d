//! A cluster whose links go through proxies, and one of whose clocks can be set.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ksched_local::{
    cluster::{Detour, Options},
    kafka::Listener,
    ports::Ports,
};

use crate::{
    bed::{Bed, COORDINATORS, root},
    proxy::{Proxy, Speech},
};

/// The worker with links of its own to Kafka and to the coordinators.
pub const LINKED: &str = "worker-1";
/// The worker whose wall clock is libfaketime's.
pub const TIMED: &str = "worker-2";

/// The links of [`Bed::linked`].
#[derive(Debug)]
pub struct Links {
    /// [`LINKED`] to Kafka.
    pub worker_kafka: Proxy,
    /// Both coordinators to Kafka.
    pub coordinators_kafka: Proxy,
    /// [`LINKED`] to each coordinator.
    pub worker_coordinators: [Proxy; 2],
    /// Each coordinator to etcd.
    pub etcd: [Proxy; 2],
}

impl Links {
    /// Whatever a scenario left behind.
    pub fn heal(&self) {
        [&self.worker_kafka, &self.coordinators_kafka]
            .into_iter()
            .chain(&self.worker_coordinators)
            .chain(&self.etcd)
            .for_each(Proxy::heal);
    }

    /// That coordinator's link to etcd.
    pub fn etcd_of(&self, coordinator: &str) -> &Proxy {
        let place = COORDINATORS.iter().position(|name| *name == coordinator).expect("a coordinator");
        &self.etcd[place]
    }
}

/// The wall clock of [`TIMED`].
#[derive(Debug)]
pub struct Clock {
    /// libfaketime reads it each second.
    file: PathBuf,
}

impl Clock {
    /// In this folder, and right.
    pub fn new(dir: &Path) -> Self {
        let clock = Self { file: dir.join("clock") };
        clock.set("+0");
        clock
    }

    /// Against this machine's: `+3600`, `-3600`, `+0 x1.01`. It is so within a second.
    pub fn set(&self, spec: &str) {
        fs::write(&self.file, format!("{spec}\n")).expect("the file with the clock");
    }

    /// For the process that goes by it. Monotonic time stays the machine's: it is wall clocks that are set wrong.
    pub fn env(&self) -> Vec<(String, String)> {
        let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
        let library = format!("/usr/lib/{triplet}/faketime/libfaketimeMT.so.1");
        assert!(
            fs::exists(&library).unwrap_or(false),
            "no {library}: scripts/install-parts test installs it"
        );
        let waits = waits_by_that_clock(self.file.parent().expect("a directory"));
        [
            ("LD_PRELOAD", format!("{library}:{}", waits.display())),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

impl Bed {
    /// Two coordinators and three workers with the default wheel: see [`Links`] for who goes through what.
    pub fn linked() -> Self {
        let dir = root().join("linked");
        fs::create_dir_all(&dir).unwrap();
        let mut ports = Ports::open(&dir).unwrap();
        // Chosen now and taken up by the cluster, since proxies are there first.
        let mut port = |name: &str| ports.of(name, None).expect("a port");
        let (worker_port, coordinators_port) = (port("kafka-worker"), port("kafka-coordinators"));
        let links = Links {
            worker_kafka: Proxy::start(Speech::Kafka, worker_port),
            coordinators_kafka: Proxy::start(Speech::Kafka, coordinators_port),
            worker_coordinators: COORDINATORS.map(|name| Proxy::start(Speech::Any, port(name))),
            etcd: COORDINATORS.map(|_| Proxy::start(Speech::Any, port("etcd"))),
        };
        let clock = Clock::new(&dir);
        let listener = |name: &str, port: u16, proxy: &Proxy| Listener {
            name: name.to_owned(),
            port,
            advertised_port: proxy.port(),
        };
        let coordinator = |name: &str| Detour {
            kafka: Some(links.coordinators_kafka.address()),
            etcd: Some(links.etcd_of(name).address()),
            ..Detour::default()
        };
        let worker = Detour {
            kafka: Some(links.worker_kafka.address()),
            coordinators: Some(links.worker_coordinators.each_ref().map(Proxy::address).join(",")),
            ..Detour::default()
        };
        let options = Options {
            coordinators: 2,
            workers: 3,
            kafka_listeners: vec![
                listener("WORKER", worker_port, &links.worker_kafka),
                listener("COORDINATORS", coordinators_port, &links.coordinators_kafka),
            ],
            detours: COORDINATORS
                .map(|name| (name.to_owned(), coordinator(name)))
                .into_iter()
                .chain([(LINKED.to_owned(), worker)])
                .collect(),
            env: [(TIMED.to_owned(), clock.env())].into(),
            ..Options::default()
        };
        let mut bed = Self::start("linked", options);
        (bed.links, bed.clock) = (Some(links), Some(clock));
        bed
    }

    /// Of a cluster that has them.
    pub fn links(&self) -> &Links {
        self.links.as_ref().expect("a cluster with links")
    }

    /// Of a cluster that has one.
    pub fn clock(&self) -> &Clock {
        self.clock.as_ref().expect("a cluster with a clock")
    }
}

/// What libfaketime leaves out: see the C file.
fn waits_by_that_clock(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("cnd_timedwait.c"), dir.join("cnd_timedwait.so"));
    fs::write(&source, include_str!("links/cnd_timedwait.c")).unwrap();
    let mut cc = Command::new("gcc");
    let made = cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).status();
    assert!(made.is_ok_and(|status| status.success()), "gcc does not make {}", library.display());
    library
}
