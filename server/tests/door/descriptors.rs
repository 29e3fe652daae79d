//! Out of file descriptors: the process itself, since its limit is its own.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ksched_proto::v1::scheduler_client::SchedulerClient;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tonic::transport::Channel;

use crate::harness::{LONG, broker, request};

/// More than a coordinator needs for itself.
const LIMIT: usize = 200;

/// Killed when the test ends, however it ends.
struct Coordinator(Child);

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Coordinator {
    fn start(listen: &str) -> Self {
        let limited = format!("ulimit -n {LIMIT} && exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &limited, env!("CARGO_BIN_EXE_ksched-server")]);
        command.args(["--listen", listen, "--http", "127.0.0.1:0", "--kafka", &broker()]);
        command.args(["--ratio=4", "--levels=2", "--lanes=2", "--lease-ttl=2s", "--intake-partitions=1"]);
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }

    /// How many descriptors are open.
    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap().count()
    }

    /// Processor time so far, user's and system's.
    fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        // Behind the name, which is in parentheses; in hundredths of a second.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }
}

async fn connected(listen: &str) -> SchedulerClient<Channel> {
    let begun = Instant::now();
    loop {
        match Channel::from_shared(format!("http://{listen}")).unwrap().connect().await {
            Ok(channel) => return SchedulerClient::new(channel),
            Err(error) => assert!(begun.elapsed() < LONG, "{error}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_those_who_are_in_are_served_and_no_core_is_burnt() {
    let listen = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let coordinator = Coordinator::start(&listen);
    let mut inside = connected(&listen).await;
    inside.schedule(request("before")).await.unwrap();

    println!("descriptors before: {}", coordinator.descriptors());
    let (mut idle, begun) = (Vec::new(), Instant::now());
    while coordinator.descriptors() < LIMIT {
        assert!(begun.elapsed() < LONG, "{} descriptors", coordinator.descriptors());
        // None is had while those that are not taken yet fill the listener's queue.
        if let Ok(stream) = timeout(Duration::from_secs(1), TcpStream::connect(&listen)).await {
            idle.push(stream.unwrap());
        }
    }
    sleep(Duration::from_secs(1)).await;
    let (begun, before) = (Instant::now(), coordinator.processor_time());
    for n in 0..20 {
        timeout(LONG, inside.schedule(request(&n.to_string()))).await.unwrap().unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    let busy = (coordinator.processor_time() - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    println!("out of descriptors: {:.0} % of a core", busy * 100.0);
    assert!(busy < 0.5, "{:.0} % of a core went into nothing", busy * 100.0);

    drop(idle);
    connected(&listen).await.schedule(request("after")).await.unwrap();
}
