//! The gRPC door: services, health, reflection, and the limits that are all off
//! by default.

mod calls;

use std::{
    io::{
        self,
        ErrorKind::{ConnectionAborted, ConnectionReset},
    },
    time::Duration,
};

use futures::{Stream, StreamExt};
use ksched_proto::v1::{
    admin_server::{Admin, AdminServer},
    job_leasing_server::{JobLeasing, JobLeasingServer},
    scheduler_server::{Scheduler, SchedulerServer},
};
use ksched_telemetry::{metrics::Calls, readiness::Readiness};
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::{
    server::NamedService,
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};

/// Calls in progress on one connection; the next ones wait in the client, and not before everybody else's here: two
/// connections that are always full cost another caller's p99 7 ms, with 512 each 20 (`a_flood` in tests/door/abuse.rs).
/// A hundred is the least that RFC 9113 (6.5.2) recommends.
const STREAMS_PER_CONNECTION: u32 = 128;
/// A batch of 10,000 messages of 1.5 kB.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;
/// What a client may send ahead of us reading it: on one stream, on a connection.
/// h2 cuts a connection on which small DATA frames lie unread (`too_many_data_frames`):
/// each counts 256 bytes less its length against half the connection's window. A
/// stalled stream of the smallest requests (some 25 bytes) then counts ten times its
/// window, so the one must stay far below the other.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Longer than the longest long poll (30 s); an append gives up after 10 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(45);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Old connections end now and then, so that clients spread over new coordinators.
const CONNECTION_AGE: Duration = Duration::from_secs(7_200);
const CONNECTION_AGE_GRACE: Duration = Duration::from_secs(600);
/// Open connections can hold a graceful shutdown up for ever (hyper #4170).
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// While no connection can be taken, as when file descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The door did not open, or fell shut.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("grpc: {0}")]
    Transport(#[from] tonic::transport::Error),
    #[error("grpc reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("grpc: {0}")]
    Listener(#[from] io::Error),
}

/// Every service of a coordinator behind one door.
pub(crate) fn routes(
    scheduler: impl Scheduler,
    job_leasing: impl JobLeasing,
    admin: impl Admin,
    health: &HealthReporter,
) -> Result<Routes, Error> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(ksched_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // The details of our errors, so that grpcurl can show them.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let health = tonic_health::server::HealthService::from_health_reporter(health.clone());
    Ok(Routes::new(SchedulerServer::new(scheduler).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(JobLeasingServer::new(job_leasing))
        .add_service(AdminServer::new(admin))
        .add_service(tonic_health::pb::health_server::HealthServer::new(health))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?))
}

/// Serves until the token is cancelled, then a few seconds more for calls in progress.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Routes,
    calls: Calls,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(KEEP_ALIVE));
    let server = Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(64))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .max_connection_age(CONNECTION_AGE)
        .max_connection_age_grace(CONNECTION_AGE_GRACE)
        .timeout(CALL_TIMEOUT)
        .layer(calls::counted(calls))
        .add_routes(routes)
        .serve_with_incoming_shutdown(paced(incoming), shutdown.clone().cancelled_owned());
    tokio::select! {
        ended = server => Ok(ended?),
        () = async { shutdown.cancelled().await; sleep(DRAIN_TIMEOUT).await } => {
            tracing::warn!("connections still open are cut");
            Ok(())
        }
    }
}

/// Waits a moment after a connection could not be taken, and says so. tonic tries again
/// at once and silently: out of file descriptors that is a loop which takes a whole core.
fn paced<C>(incoming: impl Stream<Item = io::Result<C>>) -> impl Stream<Item = io::Result<C>> {
    incoming.then(async |accepted| {
        match &accepted {
            // A connection that was gone before it was taken is its peer's affair.
            Err(error) if !matches!(error.kind(), ConnectionAborted | ConnectionReset) => {
                tracing::warn!("no connection can be taken: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
            _ => {}
        }
        accepted
    })
}

/// Tells the health service what the readiness says, until the shutdown, at which
/// everything counts as not serving so that balancers go elsewhere.
pub(crate) async fn report_health(health: HealthReporter, readiness: Readiness, shutdown: CancellationToken) {
    let mut changes = readiness.watch();
    loop {
        changes.mark_unchanged();
        let ready = readiness.is_ready() && !shutdown.is_cancelled();
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            health.set_service_status(service, status).await;
        }
        if shutdown.is_cancelled() {
            return;
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// The empty name stands for the whole.
const SERVICES: [&str; 4] = [
    "",
    <SchedulerServer<()> as NamedService>::NAME,
    <JobLeasingServer<()> as NamedService>::NAME,
    <AdminServer<()> as NamedService>::NAME,
];

#[cfg(test)]
mod tests {
    use tonic_health::pb::{HealthCheckRequest, health_server::Health};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_door_without_descriptors_left_does_not_spin() {
        const EMFILE: i32 = 24;
        let none_left = || Err(io::Error::from_raw_os_error(EMFILE));
        let begun = tokio::time::Instant::now();
        let taken = [none_left(), Err(ConnectionReset.into()), none_left(), Ok(1)];
        let all: Vec<_> = paced(futures::stream::iter(taken)).collect().await;
        assert_eq!(all.len(), 4);
        assert_eq!(begun.elapsed(), 2 * ACCEPT_PAUSE);
    }

    #[tokio::test]
    async fn health_follows_the_readiness_and_ends_with_the_shutdown() {
        let (health, readiness) = (HealthReporter::new(), Readiness::waiting_for(&["kafka"]));
        let shutdown = CancellationToken::new();
        let reporting = tokio::spawn(report_health(health.clone(), readiness.clone(), shutdown.clone()));
        let service = tonic_health::server::HealthService::from_health_reporter(health);
        let becomes = async |wanted: ServingStatus| {
            loop {
                let request = HealthCheckRequest { service: SERVICES[1].to_owned() };
                let answer = service.check(tonic::Request::new(request)).await;
                if answer.is_ok_and(|answer| answer.into_inner().status == wanted as i32) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let in_time =
            async |wanted| tokio::time::timeout(Duration::from_secs(20), becomes(wanted)).await.unwrap();
        in_time(ServingStatus::NotServing).await;
        readiness.fine("kafka");
        in_time(ServingStatus::Serving).await;
        readiness.failing("kafka", "away");
        in_time(ServingStatus::NotServing).await;
        readiness.fine("kafka");
        in_time(ServingStatus::Serving).await;
        shutdown.cancel();
        reporting.await.unwrap();
        in_time(ServingStatus::NotServing).await;
    }
}
