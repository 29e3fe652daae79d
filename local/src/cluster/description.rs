//! What runs where: as `ksched local status --output json` prints it, and as it is kept in `state.json`.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, database::Database, process as processes};

/// The cluster, in the shape that scripts rely on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    pub dir: PathBuf,
    /// The bootstrap list, `HOST:PORT[,HOST:PORT…]`.
    pub kafka: String,
    /// Where each node tells what it counts, `HOST:PORT`; none if the cluster was started without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kafka_metrics: Vec<String>,
    /// `http://HOST:PORT`.
    pub etcd: String,
    pub coordinators: Vec<Coordinator>,
    pub workers: Vec<Worker>,
    #[serde(default)]
    pub databases: Vec<DatabaseServer>,
    /// `HOST:PORT` of Prometheus, if it runs beside the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<String>,
    /// The same of Jaeger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jaeger: Option<String>,
    /// The coordinator that makes jobs. Whoever shows this asks a coordinator for it; here it is nobody.
    pub leader: Option<String>,
    pub processes: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinator {
    pub name: String,
    /// `HOST:PORT`.
    pub grpc: String,
    /// `HOST:PORT`.
    pub http: String,
    pub pid: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    pub name: String,
    /// `HOST:PORT`.
    pub http: String,
    pub pid: Option<u32>,
}

/// A database beside the cluster, for the bench to compare with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseServer {
    pub name: String,
    /// As `ksched-client bench --database-url` takes it.
    pub url: String,
    pub pid: Option<u32>,
}

impl DatabaseServer {
    pub(super) fn of(database: &Database) -> Self {
        let process = database.process();
        Self { name: process.name().to_owned(), url: database.url(), pid: process.pid() }
    }
}

/// One process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    /// None when it does not run.
    pub pid: Option<u32>,
    pub state: processes::State,
}

/// `state.json`: the description and whose it is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(flatten)]
    pub(crate) description: Description,
    pub(crate) owner: Owner,
}

/// The process that started the cluster and that ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    /// Tells the owner from a later process that got its number.
    started_ticks: Option<u64>,
}

impl Description {
    /// Reads what runs in `dir` now, from any process.
    ///
    /// # Errors
    /// [`Error::NoCluster`] if none is running there.
    pub fn read(dir: &Path) -> Result<Self> {
        let mut description = Record::read(dir)?.description;
        for entry in &mut description.processes {
            entry.state = entry.pid.map_or(processes::State::Dead, processes::state);
        }
        Ok(description)
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        // Names, numbers and paths that came as text: nothing here can fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Where a process can be reached, `HOST:PORT`: for coordinators, the gRPC door; for databases the URL.
    pub fn address(&self, name: &str) -> Option<&str> {
        let nodes = (1..).map(|n| format!("kafka-{n}")).zip(self.kafka.split(','));
        let coordinators = self.coordinators.iter().map(|one| (one.name.clone(), one.grpc.as_str()));
        let workers = self.workers.iter().map(|one| (one.name.clone(), one.http.as_str()));
        let etcd = ("etcd".to_owned(), self.etcd.trim_start_matches("http://"));
        let databases = self.databases.iter().map(|one| (one.name.clone(), one.url.as_str()));
        let mut all = nodes.chain(coordinators).chain(workers).chain([etcd]).chain(databases);
        all.find_map(|(found, address)| (found == name).then_some(address))
    }
}

impl Record {
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let none = || Error::NoCluster { dir: dir.to_owned() };
        let json = fs::read(path(dir)).map_err(|_| none())?;
        let record: Self =
            serde_json::from_slice(&json).map_err(|error| Error::io("read state.json")(error.into()))?;
        if record.owner.is_alive() { Ok(record) } else { Err(none()) }
    }

    /// Replaces what was there; a reader sees the old or the new.
    pub(crate) fn write(description: Description) -> Result<()> {
        let file = path(&description.dir);
        let record = Self { description, owner: Owner::me() };
        let json = serde_json::to_vec_pretty(&record)
            .map_err(|error| Error::io("write state.json")(error.into()))?;
        let fresh = file.with_extension("json.part");
        fs::write(&fresh, json).map_err(Error::io("write state.json"))?;
        fs::rename(&fresh, &file).map_err(Error::io("write state.json"))
    }

    pub(crate) fn remove(dir: &Path) {
        // Left behind, it names an owner that is gone, which readers notice.
        let _ = fs::remove_file(path(dir));
    }
}

impl Owner {
    fn me() -> Self {
        let pid = process::id();
        Self { pid, started_ticks: processes::started_ticks(pid) }
    }

    pub(crate) fn is_alive(self) -> bool {
        processes::state(self.pid) != processes::State::Dead
            && processes::started_ticks(self.pid) == self.started_ticks
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("state.json")
}
