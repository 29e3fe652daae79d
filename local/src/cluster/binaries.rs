//! Our own coordinators and workers: where their binaries are, what they are told, when they are ready.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Coordinator, Options, Worker};
use crate::{
    Error, Result,
    etcd::Etcd,
    http,
    kafka::Kafka,
    ports::Ports,
    process::{Process, Spec},
};

/// A first start makes some 850 partitions; most of this is for busy machines.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// A coordinator or a worker.
#[derive(Debug)]
pub(super) struct Role {
    process: Process,
    /// Coordinators only.
    grpc_port: Option<u16>,
    http_port: u16,
}

impl Role {
    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.process.name() == name
    }

    pub(super) fn start(&self) -> Result<()> {
        self.process.start()
    }

    pub(super) fn wait_ready(&self) -> Result<()> {
        self.process.wait_ready(READY_WITHIN, || http::is_ok(self.http_port, "/readyz"))
    }

    pub(super) fn grpc(&self) -> Option<String> {
        self.grpc_port.map(address)
    }

    /// Where it tells its metrics.
    pub(super) fn http(&self) -> String {
        address(self.http_port)
    }

    pub(super) fn describe_coordinator(&self) -> Coordinator {
        Coordinator {
            name: self.process.name().to_owned(),
            grpc: self.grpc().unwrap_or_default(),
            http: self.http(),
            pid: self.process.pid(),
        }
    }

    pub(super) fn describe_worker(&self) -> Worker {
        Worker { name: self.process.name().to_owned(), http: self.http(), pid: self.process.pid() }
    }
}

/// The two programs; empty paths where none is to run.
#[derive(Debug)]
pub(super) struct Binaries {
    server: PathBuf,
    worker: PathBuf,
}

pub(super) fn find(options: &Options) -> Result<Binaries> {
    let dir = match &options.bin_dir {
        Some(dir) => dir.canonicalize().map_err(Error::io(format!("find {}", dir.display())))?,
        None => beside_this_program()?,
    };
    let locate = |count: u16, program: &'static str, remedy: &'static str| {
        let file = dir.join(program);
        if count == 0 || file.is_file() {
            Ok(file)
        } else {
            Err(Error::Missing { program, purpose: "run the cluster, beside this program", remedy })
        }
    };
    Ok(Binaries {
        server: locate(options.coordinators, "ksched-server", "cargo build -p ksched-server")?,
        worker: locate(options.workers, "ksched-worker", "cargo build -p ksched-worker")?,
    })
}

impl Binaries {
    pub(super) fn coordinators(
        &self,
        dir: &Path,
        options: &Options,
        kafka: &Kafka,
        etcd: &Etcd,
        ports: &mut Ports,
    ) -> Result<Vec<Role>> {
        let shared = wheel_flags(options);
        (1..=options.coordinators)
            .map(|n| {
                let name = format!("coordinator-{n}");
                let grpc = ports.of(&name, None)?;
                let http = ports.of(&format!("{name}-http"), None)?;
                let detour = options.detour_of(&name);
                let etcd = detour.etcd.unwrap_or_else(|| etcd.address());
                let mut args = named(&name, http);
                args.extend(["--listen".to_owned(), address(grpc)]);
                args.extend(["--kafka".to_owned(), detour.kafka.unwrap_or_else(|| kafka.address())]);
                args.extend(["--store".to_owned(), format!("etcd://{etcd}")]);
                args.extend(shared.iter().chain(&options.coordinator_args).cloned());
                Ok(role(dir, name, &self.server, args, options, Some(grpc), http))
            })
            .collect()
    }

    pub(super) fn workers(
        &self,
        dir: &Path,
        options: &Options,
        kafka: &Kafka,
        coordinators: &[Role],
        ports: &mut Ports,
    ) -> Result<Vec<Role>> {
        let coordinators: Vec<_> = coordinators.iter().filter_map(Role::grpc).collect();
        (1..=options.workers)
            .map(|n| {
                let name = format!("worker-{n}");
                let http = ports.of(&format!("{name}-http"), None)?;
                let detour = options.detour_of(&name);
                let coordinators = detour.coordinators.unwrap_or_else(|| coordinators.join(","));
                let mut args = named(&name, http);
                args.extend(["--coordinators".to_owned(), coordinators]);
                args.extend(["--kafka".to_owned(), detour.kafka.unwrap_or_else(|| kafka.address())]);
                args.extend(flag("--memory-limit", options.memory_limit.as_ref()));
                args.extend(options.worker_args.iter().cloned());
                Ok(role(dir, name, &self.worker, args, options, None, http))
            })
            .collect()
    }
}

fn role(
    dir: &Path,
    name: String,
    program: &Path,
    args: Vec<String>,
    options: &Options,
    grpc_port: Option<u16>,
    http_port: u16,
) -> Role {
    let env = options.env_of(&name);
    let args = args.into_iter().map(Into::into).collect();
    Role {
        process: Process::new(name, dir, Spec { program: program.to_owned(), args, env, ..Spec::default() }),
        grpc_port,
        http_port,
    }
}

fn named(name: &str, http: u16) -> Vec<String> {
    vec!["--name".to_owned(), name.to_owned(), "--http".to_owned(), address(http)]
}

fn wheel_flags(options: &Options) -> Vec<String> {
    let geometry = &options.geometry;
    let flags = [
        flag("--slot-width", geometry.slot_width.as_ref()),
        flag("--ratio", geometry.ratio.as_ref()),
        flag("--levels", geometry.levels.as_ref()),
        flag("--lanes", geometry.lanes.as_ref()),
        flag("--lease-ttl", geometry.lease_ttl.as_ref()),
        flag("--delivery", options.delivery.as_ref()),
    ];
    flags.into_iter().flatten().collect()
}

fn flag<T: ToString>(name: &str, value: Option<&T>) -> Vec<String> {
    value.map(|value| vec![name.to_owned(), value.to_string()]).unwrap_or_default()
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Where cargo puts the workspace's binaries: a test's own binary is one folder further down.
fn beside_this_program() -> Result<PathBuf> {
    let program = env::current_exe().map_err(Error::io("find the running program"))?;
    let dir = program.parent().unwrap_or(Path::new("/"));
    Ok(if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir }.to_owned())
}
