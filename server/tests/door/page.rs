//! The web page and the earlier system's paths.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ksched_proto::v1::{self, job_leasing_client::JobLeasingClient};
use ksched_server::{config::Config, store::memory::MemoryStore};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    browser::{Browser, assert_accessible, skipped},
    harness::{Knocked, LONG, broker, config, delay, request, start, start_with},
};

/// An answer's head and body; of a stream without an end, what comes until `enough`.
async fn ask(address: SocketAddr, request: String, enough: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = async {
        let mut part = vec![0; 16_384];
        loop {
            let read = stream.read(&mut part).await.unwrap();
            answer.extend_from_slice(&part[..read]);
            let text = String::from_utf8_lossy(&answer).into_owned();
            if read == 0 || (!enough.is_empty() && text.contains(enough)) {
                return text;
            }
        }
    };
    let text = timeout(LONG, read).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

pub(crate) async fn fetch(address: SocketAddr, path: &str) -> (String, String) {
    ask(address, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"), "").await
}

async fn fetch_json(address: SocketAddr, path: &str) -> Value {
    let (head, body) = fetch(address, path).await;
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: application/json"), "{head}");
    serde_json::from_str(&body).unwrap()
}

async fn post(address: SocketAddr, form: &str, origin: &str) -> (String, String) {
    let length = form.len();
    let head = format!("POST /schedule HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nOrigin: {origin}");
    let kind = "application/x-www-form-urlencoded";
    let request = format!("{head}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{form}");
    ask(address, request, "").await
}

/// A worker that leases its jobs and tells that it delivers, until it is killed.
struct Puppet {
    alive: Arc<AtomicBool>,
    beating: JoinHandle<()>,
}

impl Puppet {
    async fn start(at: &Knocked, name: &str) -> Self {
        let mut stub = JobLeasingClient::new(at.channel.clone());
        let register = v1::RegisterWorkerRequest { name: name.to_owned(), ..Default::default() };
        let lease = stub.register_worker(register).await.unwrap().into_inner().lease;
        let acquire = v1::AcquireJobsRequest { lease: lease.clone(), ..Default::default() };
        let jobs = stub.acquire_jobs(acquire).await.unwrap().into_inner().jobs;
        let held: Vec<_> = jobs.into_iter().map(|j| v1::HeldJob { name: j.name, fence: j.fence }).collect();
        let alive = Arc::new(AtomicBool::new(true));
        let lives = Arc::clone(&alive);
        let beating = tokio::spawn(async move {
            let mut delivered_by_lateness = vec![0; 18];
            while lives.load(Ordering::Relaxed) {
                delivered_by_lateness[3] += 50;
                let lane = v1::LaneFigures {
                    lane: 0,
                    held: 7,
                    delivered_by_lateness: delivered_by_lateness.clone(),
                    ..Default::default()
                };
                let beat = v1::HeartbeatRequest {
                    lease: lease.clone(),
                    held: held.clone(),
                    lanes: vec![lane],
                    ..Default::default()
                };
                stub.heartbeat(beat).await.unwrap();
                sleep(Duration::from_millis(500)).await;
            }
        });
        Self { alive, beating }
    }

    /// As by SIGKILL: it says nothing more.
    async fn kill(self) {
        self.alive.store(false, Ordering::Relaxed);
        self.beating.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_the_page_is_guarded() {
    let at = start().await;
    for (path, kind) in [
        ("/", "text/html"),
        ("/assets/page.css", "text/css"),
        ("/assets/page.js", "text/javascript"),
        ("/api/status", "application/json"),
        ("/api/job_log", "text/plain"),
    ] {
        let (head, body) = fetch(at.http, path).await;
        assert!(
            head.starts_with("http/1.1 200") && head.contains(&format!("content-type: {kind}")),
            "{head}"
        );
        assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'; "), "{head}");
        for line in
            ["x-content-type-options: nosniff", "x-frame-options: deny", "referrer-policy: same-origin"]
        {
            assert!(head.contains(line), "{line} is missing in\n{head}");
        }
        if path == "/" {
            // What the policy forbids would be lost without a word.
            for inline in ["<style", "style=\"", "<script>", "onclick", "http://", "https://"] {
                assert!(!body.contains(inline), "{inline}");
            }
        }
    }
    let (head, _) = fetch(at.http, "/assets/../Cargo.toml").await;
    assert!(head.starts_with("http/1.1 404"), "{head}");
    at.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_earlier_systems_paths_answer_in_its_shapes() {
    let at = start().await;
    let puppet = Puppet::start(&at, "puppet").await;
    sleep(Duration::from_millis(1_500)).await;
    let config = fetch_json(at.http, "/config").await;
    assert_eq!(
        (&config["sm_topic"], &config["sm_topic_partitions"]),
        (&"SCHEDULED_MESSAGES".into(), &1.into())
    );
    let jobs = fetch_json(at.http, "/api/jq").await;
    // Two lanes and an intake partition, all held.
    assert_eq!(jobs["job_queue"].as_array().map(Vec::len), Some(3), "{jobs:#}");
    assert_eq!(jobs["job_queue"][0]["status"], "WORKING", "{jobs:#}");
    let workers = fetch_json(at.http, "/api/wq").await;
    let all = workers["worker_queue"].as_object().unwrap();
    let (id, worker) = all.iter().next().unwrap();
    assert_eq!((&worker["worker_id"], &worker["name"]), (&Value::from(id.as_str()), &"puppet".into()));
    let (_, log) = fetch(at.http, "/api/job_log").await;
    assert_eq!(log, "job_id, name, lower, upper, creation_time, status, workers, finish_time\n");
    assert_eq!(fetch_json(at.http, "/api/job_log?format=json").await["job_log"], Value::Array(Vec::new()));
    let status = fetch_json(at.http, "/api/status").await;
    assert!(status["lanes"][0]["delivered_per_s"].as_f64() > Some(0.0), "{:#}", status["lanes"]);
    puppet.kill().await;
    at.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_form_is_off_unless_it_is_turned_on() {
    let form = "topic=orders&key=k&value=hello+there&delay=60";
    let at = start().await;
    let own = format!("http://{}", at.http);
    assert!(!fetch(at.http, "/").await.1.contains("<form"));
    assert!(post(at.http, form, &own).await.0.starts_with("http/1.1 404"));
    at.stop().await.unwrap();

    let at = start_with(Config { web_form: true, ..config(&broker()) }, Arc::new(MemoryStore::new()))
        .await
        .unwrap();
    let own = format!("http://{}", at.http);
    assert!(fetch(at.http, "/").await.1.contains("<form"));
    assert!(post(at.http, form, "http://evil.example").await.0.starts_with("http/1.1 403"));
    let (head, body) = post(at.http, form, &own).await;
    assert!(head.starts_with("http/1.1 200") && body.contains("Scheduled for "), "{head}");
    let (head, body) = post(at.http, "topic=ksched.due&key=&value=x&delay=1", &own).await;
    assert!(head.starts_with("http/1.1 400") && body.contains("notice bad"), "{head}");
    let appended = at.appended().await;
    assert_eq!(appended.len(), 1);
    assert_eq!(appended[0].content.value.as_deref(), Some(&b"hello there"[..]));
    at.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_is_sent() {
    let at = start().await;
    let get = format!("GET /api/events HTTP/1.1\r\nHost: {}\r\n\r\n", at.http);
    let later = ask(at.http, get, "puppet");
    let (puppet, (head, body)) = tokio::join!(
        async {
            sleep(Duration::from_secs(2)).await;
            Puppet::start(&at, "puppet").await
        },
        later
    );
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert!(body.contains("event: section\ndata: {"), "{body}");
    puppet.kill().await;
    // An open stream does not hold the stop up.
    timeout(Duration::from_secs(10), at.stop()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_coordinator_tells_of_the_whole_cluster() {
    let (kafka, store) = (broker(), Arc::new(MemoryStore::new()));
    let named = |name: &str| Config { name: name.to_owned(), ..config(&kafka) };
    let first = start_with(named("first"), store.clone()).await.unwrap();
    // Without a worker, it says so.
    let (_, body) = fetch(first.http, "/").await;
    assert!(body.contains("2 lanes without a worker") && body.contains("No worker is known."), "{body}");

    let second = start_with(named("second"), store).await.unwrap();
    first.scheduler().schedule(request("k")).await.unwrap();
    let puppet = Puppet::start(&second, "puppet").await;
    sleep(Duration::from_secs(3)).await;
    for at in [&first, &second] {
        let status = fetch_json(at.http, "/api/status").await;
        assert_eq!(status["unknown"], Value::Array(Vec::new()), "{status:#}");
        let makers = status["coordinators"].as_array().unwrap();
        let makers: Vec<_> = makers.iter().map(|c| (c["name"].clone(), c["makes_jobs"].clone())).collect();
        assert_eq!(makers, [("first".into(), true.into()), ("second".into(), false.into())]);
        assert_eq!(status["totals"]["pending"], 1, "{status:#}");
        assert_eq!(
            (&status["lanes"][0]["worker"], &status["lanes"][0]["held"]),
            (&"puppet".into(), &7.into())
        );
        assert_eq!(status["workers"][0]["state"], "up");
    }
    puppet.kill().await;
    second.stop().await.unwrap();
    first.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_drain_is_in_the_job_log() {
    let at = start().await;
    let mut stub = JobLeasingClient::new(at.channel.clone());
    let register = v1::RegisterWorkerRequest { name: "puppet".to_owned(), ..Default::default() };
    let lease = stub.register_worker(register).await.unwrap().into_inner().lease;
    let mut due_soon = request("k");
    due_soon.when = Some(delay(17_000));
    at.scheduler().schedule(due_soon).await.unwrap();
    let mut held = Vec::new();
    let drain = loop {
        let beat = v1::HeartbeatRequest { lease: lease.clone(), held: held.clone(), ..Default::default() };
        stub.heartbeat(beat).await.unwrap();
        let wait = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        let acquire =
            v1::AcquireJobsRequest { lease: lease.clone(), held: held.clone(), free_drains: 1, wait };
        let jobs = stub.acquire_jobs(acquire).await.unwrap().into_inner().jobs;
        held.extend(jobs.into_iter().map(|job| v1::HeldJob { name: job.name, fence: job.fence }));
        if let Some(drain) = held.iter().find(|job| job.name.starts_with("drain/")) {
            break drain.clone();
        }
    };
    let (name, took) = (drain.name.clone(), Some(prost_types::Duration { seconds: 2, nanos: 0 }));
    let complete = v1::CompleteJobRequest { lease, job: Some(drain), moved: 40, took };
    stub.complete_job(complete).await.unwrap();
    // Written aside, a moment later.
    sleep(Duration::from_secs(2)).await;
    let log = fetch_json(at.http, "/api/job_log?format=json").await;
    assert_eq!((&log["job_log"][0]["job_id"], &log["job_log"][0]["moved"]), (&name.into(), &40.into()));
    let status = fetch_json(at.http, "/api/status").await;
    let job = &status["job_log"][0];
    assert_eq!(job["finished_at_ms"].as_i64().unwrap() - job["begun_at_ms"].as_i64().unwrap(), 2_000);
    assert_eq!(status["dead_letters"], Value::Array(Vec::new()));
    at.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_it_live_and_axe_finds_no_serious_fault() {
    let Some(browser) = Browser::start() else {
        return skipped("there is no chromedriver");
    };
    let mut config = Config { web_form: true, ..config(&broker()) };
    config.cluster.geometry.lease_ttl_ms = 5_000;
    let at = start_with(config, Arc::new(MemoryStore::new())).await.unwrap();
    let puppet = Puppet::start(&at, "puppet").await;
    at.scheduler().schedule(request("k")).await.unwrap();
    // This thread may block: what it waits for runs on others.
    browser.pretend(1_280, "light");
    browser.open(&format!("http://{}/", at.http));
    let workers =
        |word: &str| format!("return document.getElementById('workers').innerText.includes('{word}')");
    browser.until(&workers("up"), Duration::from_secs(10));
    for told in [
        "return document.getElementById('live').textContent === 'live'",
        "return document.querySelectorAll('#pending rect').length > 0",
        "return !/Delivered\\s+0/.test(document.getElementById('tiles').innerText)",
    ] {
        browser.until(told, Duration::from_secs(10));
    }
    assert_accessible(&browser);
    browser.run(
        "document.querySelector('[name=topic]').value = 'orders'; document.querySelector('form').submit()",
    );
    browser.until(
        "return /^Scheduled for/.test(document.querySelector('.notice')?.textContent)",
        Duration::from_secs(10),
    );
    puppet.kill().await;
    browser.until(
        "return /silent|gone/.test(document.getElementById('workers').innerText)",
        Duration::from_secs(6),
    );
    browser.until(&workers("gone"), Duration::from_secs(6));
    for (width, scheme) in [(1_280, "dark"), (390, "light"), (390, "dark")] {
        browser.pretend(width, scheme);
        // Nothing is wider than the page but what scrolls by itself.
        let fits = "return document.documentElement.scrollWidth <= window.innerWidth";
        assert_eq!(browser.run(fits), Value::Bool(true), "{width} px");
        assert_accessible(&browser);
    }
    at.stop().await.unwrap();
}
