//! The assembly: everything a coordinator runs, started in order, watched, and
//! stopped within a bounded time.

mod start;
mod watch;

use std::{fmt, io, net::SocketAddr, time::Duration};

use ksched_kafka::{self as kafka, topics};
use ksched_telemetry::{http, readiness::Readiness};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{grpc, store};

pub use start::connect_store;

/// Longer than the doors take to drain, shorter than what supervisors wait (30 s)
/// before they kill.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);

/// A coordinator that is running.
pub struct Coordinator {
    grpc_address: SocketAddr,
    http_address: SocketAddr,
    readiness: Readiness,
    shutdown: CancellationToken,
    tasks: JoinSet<Ended>,
}

/// Why a coordinator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operator must change a setting, or the cluster is another one.
    #[error(transparent)]
    Settings(store::SettingsError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("kafka settings: {0}")]
    Kafka(kafka::Error),
    #[error(transparent)]
    Topics(#[from] topics::Error),
    #[error(transparent)]
    Bind(#[from] http::BindError),
    #[error(transparent)]
    Listener(#[from] io::Error),
    #[error(transparent)]
    Grpc(#[from] grpc::Error),
    #[error("told to stop while starting")]
    Stopped,
}

/// A part of a running coordinator ended although nobody had asked it to.
#[derive(Debug, thiserror::Error)]
#[error("{part} ended: {why}")]
pub struct Failure {
    part: &'static str,
    why: String,
}

/// How a task ended.
struct Ended {
    part: &'static str,
    result: Result<(), String>,
}

impl StartError {
    /// Whether only changed settings help.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Settings(store::SettingsError::Differ(_)) | Self::Kafka(_) | Self::Bind(_) => true,
            Self::Topics(topics::Error::Wrong(_)) => true,
            Self::Settings(store::SettingsError::Store(_)) | Self::Store(_) | Self::Topics(_) => false,
            Self::Listener(_) | Self::Grpc(_) | Self::Stopped => false,
        }
    }
}

impl Coordinator {
    /// Where the gRPC door is, its port chosen if the setting said 0.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// Where `/metrics` and its like are.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Whether Kafka and the store are within reach.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Runs until the shutdown token is cancelled or a part fails, then stops all of it.
    ///
    /// # Errors
    /// The part that failed.
    pub async fn run(mut self) -> Result<(), Failure> {
        let first = tokio::select! {
            () = self.shutdown.cancelled() => None,
            ended = self.tasks.join_next() => ended,
        };
        let failure = match first {
            Some(Ok(ended)) if !self.shutdown.is_cancelled() => Some(ended.failure()),
            Some(Err(error)) => Some(Failure { part: "a task", why: error.to_string() }),
            Some(Ok(_)) | None => None,
        };
        self.shutdown.cancel();
        self.drain().await;
        failure.map_or(Ok(()), Err)
    }

    async fn drain(&mut self) {
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                match ended {
                    Ok(Ended { part, result: Err(why) }) => {
                        tracing::warn!(part, "stopped with an error: {why}")
                    }
                    Ok(Ended { part, result: Ok(()) }) => tracing::debug!(part, "stopped"),
                    Err(error) => tracing::error!("a task panicked: {error}"),
                }
            }
        };
        if timeout(STOP_TIMEOUT, all).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "tasks did not stop in time");
        }
        self.tasks.shutdown().await;
    }
}

impl Ended {
    fn failure(self) -> Failure {
        let why = self.result.err().unwrap_or_else(|| "although it was not told to".to_owned());
        Failure { part: self.part, why }
    }
}

/// Spawns a part whose end ends the coordinator.
fn spawn<E: fmt::Display>(
    tasks: &mut JoinSet<Ended>,
    part: &'static str,
    work: impl Future<Output = Result<(), E>> + Send + 'static,
) {
    tasks.spawn(async move { Ended { part, result: work.await.map_err(|e| e.to_string()) } });
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator")
            .field("grpc_address", &self.grpc_address)
            .field("http_address", &self.http_address)
            .finish_non_exhaustive()
    }
}
