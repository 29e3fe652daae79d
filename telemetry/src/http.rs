//! The HTTP door: `/metrics`, `/healthz`, `/readyz`, and what a process adds.

use std::{io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::{
    net::{TcpListener, lookup_host},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{metrics::Metrics, readiness::Readiness};

/// Which addresses may be bound while there is no TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exposure {
    #[default]
    LoopbackOnly,
    /// The operator said `--insecure`.
    Anywhere,
}

impl Exposure {
    /// Judges `HOST:PORT` as it is written, so that a mistake in the settings is found
    /// before anything is started. A name, other than `localhost`, is judged by what it
    /// resolves to: see [`may_bind`].
    ///
    /// # Errors
    /// It is an address that others reach, and that was not allowed.
    pub fn check(self, address: &str) -> Result<(), BindError> {
        match address.parse::<SocketAddr>() {
            Ok(literal) if self == Self::LoopbackOnly && !literal.ip().is_loopback() => {
                Err(BindError::Exposed { address: address.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

/// An address was not bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{address} is not an address of this machine: {source}")]
    Resolve { address: String, source: io::Error },
    #[error("{address} is not on loopback, and without TLS that is refused; --insecure allows it")]
    Exposed { address: String },
    #[error("cannot listen on {address}: {source}")]
    Bind { address: String, source: io::Error },
}

/// A name server that does not answer must not hold a start up for ever.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long open connections may take to end after the shutdown (hyper #4170).
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Listens on `HOST:PORT`; port 0 takes a free one.
///
/// # Errors
/// The name is unknown, the address is taken, or it is open to others while
/// `exposure` keeps to loopback.
pub async fn bind(address: &str, exposure: Exposure) -> Result<TcpListener, BindError> {
    let resolved = may_bind(address, exposure).await?;
    TcpListener::bind(&resolved[..])
        .await
        .map_err(|source| BindError::Bind { address: address.to_owned(), source })
}

/// What `HOST:PORT` stands for, if it may be bound; for those who bind it later.
///
/// # Errors
/// The name is unknown, or it is open to others while `exposure` keeps to loopback.
pub async fn may_bind(address: &str, exposure: Exposure) -> Result<Vec<SocketAddr>, BindError> {
    let named = || address.to_owned();
    let resolved = timeout(RESOLVE_TIMEOUT, lookup_host(address)).await;
    let resolved: Vec<SocketAddr> = resolved
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|source| BindError::Resolve { address: named(), source })?
        .collect();
    if exposure == Exposure::LoopbackOnly && !resolved.iter().all(|a| a.ip().is_loopback()) {
        return Err(BindError::Exposed { address: named() });
    }
    Ok(resolved)
}

/// The three paths that every process serves.
pub fn router(metrics: &Metrics, readiness: &Readiness) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz).with_state(readiness.clone()))
        .route("/metrics", get(exposition).with_state(metrics.clone()))
}

/// Serves until the token is cancelled, then for a few seconds more at most.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    let end = shutdown.clone().cancelled_owned();
    let server = axum::serve(listener, router).with_graceful_shutdown(end);
    tokio::select! {
        ended = server.into_future() => ended,
        () = async { shutdown.cancelled().await; tokio::time::sleep(DRAIN_TIMEOUT).await } => Ok(()),
    }
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    match readiness.is_ready() {
        true => (StatusCode::OK, "ready\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, readiness.complaints()),
    }
}

/// In OpenMetrics for those who name it, as Prometheus does.
async fn exposition(State(metrics): State<Metrics>, headers: HeaderMap) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
    let (format, text) =
        match accepted.is_some_and(|formats| formats.contains("application/openmetrics-text")) {
            true => (OPEN_METRICS, metrics.encode()),
            false => (PLAIN, metrics.encode_plain()),
        };
    match text {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, format)], text),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::metrics::CoordinatorMetrics;

    async fn fetch(address: SocketAddr, path: &str) -> String {
        fetch_as("*/*", address, path).await
    }

    async fn fetch_as(accept: &str, address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn serves_metrics_and_readiness_until_told_to_stop() {
        let metrics = Metrics::new("coordinator-1", "0.1.0");
        let coordinator = CoordinatorMetrics::register(&metrics);
        coordinator.scheduled.inc_by(7);
        let readiness = Readiness::waiting_for(&["kafka"]);
        let listener = bind("127.0.0.1:0", Exposure::LoopbackOnly).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(serve(listener, router(&metrics, &readiness), shutdown.clone()));

        assert!(fetch(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let answer = fetch(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("kafka: not reached yet"), "{answer}");
        readiness.fine("kafka");
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let plain = fetch(address, "/metrics").await;
        assert!(plain.contains("text/plain; version=0.0.4") && plain.contains("ksched_scheduled_total 7\n"));
        assert!(plain.contains("# TYPE ksched_scheduled_total counter\n") && !plain.contains("# EOF"));
        // As Prometheus 2.42 asks.
        let formats =
            "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let open = fetch_as(formats, address, "/metrics").await;
        assert!(open.contains("application/openmetrics-text") && open.ends_with("# EOF\n"));

        shutdown.cancel();
        served.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn binds_in_the_open_only_when_told_to() {
        let refused = bind("0.0.0.0:0", Exposure::LoopbackOnly).await;
        assert!(matches!(refused, Err(BindError::Exposed { .. })));
        assert!(bind("0.0.0.0:0", Exposure::Anywhere).await.is_ok());
        assert!(bind("localhost:0", Exposure::LoopbackOnly).await.is_ok());
    }

    #[test]
    fn an_address_in_the_open_is_seen_in_the_settings() {
        for open in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
            assert!(matches!(Exposure::LoopbackOnly.check(open), Err(BindError::Exposed { .. })), "{open}");
            assert!(Exposure::Anywhere.check(open).is_ok());
        }
        for fine in ["127.0.0.1:1", "[::1]:1", "localhost:1", "later.example:1"] {
            assert!(Exposure::LoopbackOnly.check(fine).is_ok(), "{fine}");
        }
    }
}
