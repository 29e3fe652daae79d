//! Starts the real parts and checks that they do what they are told and leave nothing behind.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use ksched_local::{
    Error,
    cluster::{self, Cluster, Description, Geometry},
    control::{self, Request},
    database::{Database, Kind},
    etcd::{self, Etcd},
    kafka::{self, Kafka, metrics},
    parts,
    process::{self, State},
};

/// Set for the copy of this test binary that plays the parent who dies.
const PARENT: &str = "KSCHED_TEST_PARENT";
/// Set for the copies that play our own binaries, to their command line.
const STUB: &str = "KSCHED_TEST_STUB";

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn listens(address: &str) -> bool {
    TcpStream::connect(address).is_ok()
}

fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn kafka_keeps_its_address_and_data_over_a_kill_and_leaves_nothing_when_dropped() {
    let dir = dir();
    let kafka = Kafka::start(dir.path(), &kafka::Options::default()).unwrap();
    let (address, first) = (kafka.address(), kafka.pid().unwrap());
    produce(&address, "kept", "one");
    assert_eq!(consume(&address, "kept", 1), "one\n");

    kafka.kill().unwrap();
    assert_eq!(kafka.pid(), None);
    assert!(!listens(&address));
    kafka.start_again().unwrap();
    assert_eq!(kafka.address(), address);
    assert_ne!(kafka.pid(), Some(first));
    produce(&address, "kept", "two");
    assert_eq!(consume(&address, "kept", 2), "one\ntwo\n");

    kafka.stop().unwrap();
    kafka.start_again().unwrap();
    assert_eq!(consume(&address, "kept", 2), "one\ntwo\n");

    let last = kafka.pid().unwrap();
    drop(kafka);
    assert_eq!(process::state(last), State::Dead);
    assert!(!listens(&address));
}

#[test]
fn kafka_tells_what_it_was_asked() {
    let dir = dir();
    let kafka =
        Kafka::start(dir.path(), &kafka::Options { metrics: true, ..kafka::Options::default() }).unwrap();
    let address = kafka.address();
    produce(&address, "counted", "one");
    let before = metrics::read(&kafka.metrics()).unwrap();
    produce(&address, "counted", "two");
    assert_eq!(consume(&address, "counted", 2), "one\ntwo\n");
    let now = metrics::read(&kafka.metrics()).unwrap().since(&before).unwrap();
    assert_eq!(now.requests.get("Produce"), Some(&1), "{now:?}");
    assert!(
        now.requests.contains_key("Fetch") && now.in_bytes > 0 && now.out_bytes > now.in_bytes,
        "{now:?}"
    );

    kafka.kill().unwrap();
    assert!(metrics::read(&kafka.metrics()).is_err(), "nobody is there");
    kafka.start_again().unwrap();
    assert_eq!(metrics::read(&kafka.metrics()).unwrap().since(&before), None);
}

#[test]
fn etcd_is_paused_resumed_killed_and_started_again() {
    let dir = dir();
    let etcd = Etcd::start(dir.path(), &etcd::Options::default()).unwrap();
    let first = etcd.pid().unwrap();
    assert!(etcd.process().rss_bytes().unwrap() > 1_000_000);
    etcd.pause().unwrap();
    within(Duration::from_secs(5), "paused", || etcd.process().state() == State::Paused);
    etcd.resume().unwrap();
    within(Duration::from_secs(5), "resumed", || etcd.process().state() == State::Running);

    etcd.kill().unwrap();
    assert!(etcd.pause().is_err(), "there is nothing to pause");
    assert_eq!((etcd.process().state(), process::state(first)), (State::Dead, State::Dead));
    etcd.start_again().unwrap();
    let (address, second) = (etcd.address(), etcd.pid().unwrap());
    assert_ne!(first, second);
    assert!(listens(&address));
    drop(etcd);
    assert_eq!(process::state(second), State::Dead);
    assert!(!listens(&address));
}

#[test]
fn two_directories_do_not_meet() {
    let (one, two) = (dir(), dir());
    let first = Etcd::start(one.path(), &etcd::Options::default()).unwrap();
    let second = Etcd::start(two.path(), &etcd::Options::default()).unwrap();
    assert_ne!(first.address(), second.address());
}

#[test]
fn a_child_outlives_the_thread_that_started_it() {
    let dir = dir();
    let path = dir.path().to_owned();
    let etcd = thread::spawn(move || Etcd::start(&path, &etcd::Options::default()).unwrap()).join().unwrap();
    thread::sleep(Duration::from_millis(300));
    assert!(etcd.pid().is_some());
}

#[test]
fn nothing_outlives_a_parent_that_is_killed() {
    if let Some(dir) = env::var_os(PARENT) {
        return play_parent(Path::new(&dir));
    }
    let dir = dir();
    let mut parent = Command::new(env::current_exe().unwrap())
        .args(["nothing_outlives_a_parent_that_is_killed", "--exact", "--nocapture"])
        .env(PARENT, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let line = lines.find_map(|line| line.unwrap().strip_prefix("etcd ").map(str::to_owned)).unwrap();
    let (pid, address) = line.split_once(' ').unwrap();
    let pid: u32 = pid.parse().unwrap();
    assert_eq!(process::state(pid), State::Running);
    assert!(listens(address));

    parent.kill().unwrap();
    parent.wait().unwrap();
    within(Duration::from_secs(10), "etcd dies with its parent", || process::state(pid) == State::Dead);
    within(Duration::from_secs(10), "its port is free", || !listens(address));
}

#[test]
fn databases_come_back_over_a_kill_and_die_with_their_parent() {
    const TEST: &str = "databases_come_back_over_a_kill_and_die_with_their_parent";
    if let Some(dir) = env::var_os(PARENT) {
        let databases = [Kind::Postgresql, Kind::Mariadb]
            .map(|kind| Database::start(Path::new(&dir), kind, parts::silent).unwrap());
        let pids = databases.each_ref().map(|database| database.process().pid().unwrap().to_string());
        println!("\ndatabases {}", pids.join(" "));
        thread::sleep(Duration::from_secs(120));
        return;
    }
    let dir = dir();
    for kind in [Kind::Postgresql, Kind::Mariadb] {
        let database = Database::start(dir.path(), kind, parts::silent).unwrap();
        let (url, first) = (database.url(), database.process().pid());
        database.process().kill().unwrap();
        database.start_again().unwrap();
        assert_ne!(database.process().pid(), first);
        assert_eq!(database.url(), url);
        let began_at = Instant::now();
        database.stop().unwrap();
        assert!(began_at.elapsed() < Duration::from_secs(14), "{} ends when it is told to", kind.name());
    }

    let mut parent = Command::new(env::current_exe().unwrap())
        .args([TEST, "--exact", "--nocapture"])
        .env(PARENT, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let line = lines.find_map(|line| line.unwrap().strip_prefix("databases ").map(str::to_owned)).unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    for pid in line.split(' ') {
        let pid = pid.parse().unwrap();
        within(Duration::from_secs(10), "it dies with its parent", || process::state(pid) == State::Dead);
    }
    control::purge(dir.path()).unwrap();
    assert!(!dir.path().exists());
}

/// What the copy of this binary does until it is killed.
fn play_parent(dir: &Path) {
    let etcd = Etcd::start(dir, &etcd::Options::default()).unwrap();
    println!("\netcd {} {}", etcd.pid().unwrap(), etcd.address());
    thread::sleep(Duration::from_secs(120));
}

#[test]
fn a_cluster_is_steered_by_name_from_another_process() {
    if let Ok(args) = env::var(STUB) {
        return play_ours(&args);
    }
    let (dir, bin) = (dir(), stubs());
    let options = cluster::Options {
        coordinators: 2,
        workers: 1,
        bin_dir: Some(bin.path().to_owned()),
        geometry: Geometry { slot_width: Some("4s".to_owned()), ..Geometry::default() },
        ..cluster::Options::default()
    };
    let cluster = Cluster::start(dir.path(), &options, parts::silent).unwrap();
    assert!(matches!(Cluster::start(dir.path(), &options, parts::silent), Err(Error::Taken { .. })));
    let before = Description::read(dir.path()).unwrap();
    assert_eq!(before, cluster.describe());
    let names: Vec<_> = before.processes.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["kafka-1", "etcd", "coordinator-1", "coordinator-2", "worker-1"]);
    let pid = |name: &str| {
        let now = Description::read(dir.path()).unwrap();
        now.processes.iter().find(|entry| entry.name == name).unwrap().pid
    };

    let stop = AtomicBool::new(false);
    let path = dir.path();
    thread::scope(|scope| {
        let owner = scope.spawn(|| control::supervise(&cluster, &stop, |_| ()));
        within(Duration::from_secs(10), "the owner listens", || path.join("control.sock").exists());
        let ask = |request: Request| control::ask(path, &request);
        let name = || "worker-1".to_owned();

        ask(Request::Pause { name: name() }).unwrap();
        within(Duration::from_secs(5), "paused", || {
            cluster.process("worker-1").unwrap().state() == State::Paused
        });
        ask(Request::Resume { name: name() }).unwrap();
        ask(Request::Kill { name: name() }).unwrap();
        assert_eq!(pid("worker-1"), None);
        assert!(matches!(ask(Request::Pause { name: name() }), Err(Error::Refused(_))));
        ask(Request::Restart { name: name() }).unwrap();
        assert!(pid("worker-1").is_some_and(|pid| process::state(pid) == State::Running));
        assert_eq!(cluster.describe().workers[0].http, before.workers[0].http);
        ask(Request::Restart { name: "etcd".to_owned() }).unwrap();
        assert!(matches!(ask(Request::Kill { name: "worker-2".to_owned() }), Err(Error::Unknown { .. })));

        ask(Request::Down).unwrap();
        owner.join().unwrap().unwrap();
    });
    assert!(cluster.processes().all(|process| process.state() == State::Dead));
    drop(cluster);
    assert!(matches!(Description::read(path), Err(Error::NoCluster { .. })));
    for address in [&before.kafka, &before.coordinators[1].grpc, &before.workers[0].http] {
        assert!(!listens(address), "{address} is left listening");
    }
    control::purge(path).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_part_that_does_not_start_is_named_with_the_end_of_its_log() {
    let (dir, bin) = (dir(), dir());
    script(&bin.path().join("ksched-server"), "echo no such store; exit 3");
    let options =
        cluster::Options { workers: 0, bin_dir: Some(bin.path().to_owned()), ..cluster::Options::default() };
    match Cluster::start(dir.path(), &options, parts::silent) {
        Err(Error::Ended { name, tail, .. }) => {
            assert_eq!((name.as_str(), tail.as_str()), ("coordinator-1", "no such store\n"));
        }
        other => panic!("{other:?}"),
    }
}

/// A folder with stand-ins for our binaries: copies of this one that play them.
fn stubs() -> tempfile::TempDir {
    let bin = dir();
    let us = env::current_exe().unwrap();
    let test = "a_cluster_is_steered_by_name_from_another_process --exact --nocapture";
    for name in ["ksched-server", "ksched-worker"] {
        let body = format!("{STUB}=\"$*\" exec {} {test}", us.display());
        script(&bin.path().join(name), &body);
    }
    bin
}

fn script(file: &Path, body: &str) {
    fs::write(file, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Listens where it is told to and answers every request with 200.
fn play_ours(args: &str) {
    let args: Vec<_> = args.split(' ').collect();
    let value = |flag: &str| args.iter().position(|arg| *arg == flag).map(|at| args[at + 1]);
    let coordinator = value("--name").unwrap().starts_with("coordinator");
    assert_eq!(value("--slot-width"), coordinator.then_some("4s"));
    let _grpc = value("--listen").map(|address| TcpListener::bind(address).unwrap());
    for stream in TcpListener::bind(value("--http").unwrap()).unwrap().incoming() {
        let mut stream = stream.unwrap();
        // The asker may have gone.
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
}

fn produce(address: &str, topic: &str, line: &str) {
    let mut kcat = Command::new("kcat")
        .args(["-q", "-P", "-b", address, "-t", topic])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    kcat.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    assert!(kcat.wait().unwrap().success());
}

fn consume(address: &str, topic: &str, count: u32) -> String {
    let count = count.to_string();
    let output = Command::new("timeout")
        .args(["60", "kcat", "-q", "-C", "-b", address, "-t", topic, "-o", "beginning", "-c", &count])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}
