//! What can go wrong while parts are fetched, started or steered.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

/// Short for a result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

/// Each variant says what to look at or what to install.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program needed to fetch or to run a part is not installed.
    #[error("`{program}` is not installed; it is needed to {purpose} ({remedy})")]
    Missing { program: &'static str, purpose: &'static str, remedy: &'static str },
    /// A helper program (Maven, go, Kafka's StorageTool) ran and refused.
    #[error("`{command}` ended with {status}: {output}")]
    Command { command: String, status: ExitStatus, output: String },
    /// A file, a pipe or a process could not be handled.
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
    /// A process ended before it answered.
    #[error("{name} ended before it was ready; the end of its log {log}:\n{tail}")]
    Ended { name: String, log: PathBuf, tail: String },
    /// A process runs but did not answer in time.
    #[error("{name} was not ready within {within:?}; the end of its log {log}:\n{tail}")]
    NotReady { name: String, within: Duration, log: PathBuf, tail: String },
    /// A process is asked for something it must run for.
    #[error("{name} is not running")]
    NotRunning { name: String },
    /// A process is to be started that runs already.
    #[error("{name} is running already (process {pid})")]
    Running { name: String, pid: u32 },
    /// No process of that name is part of this cluster.
    #[error("there is no process named {name}; there are {known}")]
    Unknown { name: String, known: String },
    /// Another process keeps a cluster in this directory.
    #[error("a cluster is running in {} already; `ksched local down --dir {}` ends it", dir.display(), dir.display())]
    Taken { dir: PathBuf },
    /// No cluster was ever started in this directory, or it was taken down.
    #[error("no cluster is running in {}", dir.display())]
    NoCluster { dir: PathBuf },
    /// A port kept from an earlier start is in use by someone else now.
    #[error("port {port} of {name} is taken by another program; remove {} to choose anew", file.display())]
    PortTaken { name: String, port: u16, file: PathBuf },
    /// The cluster's owner was asked to do something and answered with a refusal.
    #[error("{0}")]
    Refused(String),
    /// Options that contradict each other.
    #[error("{0}")]
    Invalid(&'static str),
}

impl Error {
    /// For `map_err` on I/O: says what was being done.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
