//! Topics and their settings, blocking. librdkafka bounds each request; rust-rdkafka
//! gives futures, which a thread of ours waits for by parking.

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::Consumer as _,
    error::KafkaResult,
};

use super::Librdkafka;
use super::{config::Settings, failure};
use crate::{disposal, log::Error};

/// For one request to a broker.
pub(crate) const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// For the controller to create topics.
const OPERATION_LIMIT: Duration = Duration::from_secs(20);

/// An admin client whose end is somebody else's.
pub(crate) struct Admin(Option<AdminClient<DefaultClientContext>>);

impl Admin {
    pub(super) fn new(settings: &Settings) -> Result<Self, Error> {
        settings.admin().create().map(|client| Self(Some(client))).map_err(|error| failure::error(&error))
    }

    pub(crate) fn client(&self) -> Result<&AdminClient<DefaultClientContext>, Error> {
        self.0.as_ref().ok_or_else(|| Error::Unavailable("admin client is closing".to_owned()))
    }

    /// Bounds of a request.
    pub(crate) fn options() -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(OPERATION_LIMIT + REQUEST_LIMIT))
            .operation_timeout(Some(OPERATION_LIMIT))
    }

    /// Waits for an answer.
    pub(crate) fn wait<T>(answer: impl Future<Output = KafkaResult<T>>) -> Result<T, Error> {
        let limit = OPERATION_LIMIT + REQUEST_LIMIT + Duration::from_secs(1);
        match block_on(answer, limit) {
            Some(answer) => answer.map_err(|error| failure::error(&error)),
            None => Err(Error::Unavailable("no answer in time".to_owned())),
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            disposal::dispose("admin client", move || drop(client));
        }
    }
}

/// What there is in the cluster.
pub(crate) struct Existing {
    /// Ids.
    pub(crate) brokers: Vec<i32>,
    /// Number of partitions of each topic.
    pub(crate) topics: HashMap<String, i32>,
}

impl Existing {
    pub(crate) fn read(log: &Librdkafka) -> Result<Self, Error> {
        log.ask(|asker| {
            let metadata = asker.fetch_metadata(None, REQUEST_LIMIT)?;
            let brokers = metadata.brokers().iter().map(|broker| broker.id()).collect();
            let count = |partitions: usize| i32::try_from(partitions).unwrap_or(i32::MAX);
            let topics = metadata
                .topics()
                .iter()
                .filter(|topic| topic.error().is_none() && !topic.partitions().is_empty())
                .map(|topic| (topic.name().to_owned(), count(topic.partitions().len())))
                .collect();
            Ok(Self { brokers, topics })
        })
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future that needs no runtime on this thread; `None` after `limit`.
fn block_on<T>(future: impl Future<Output = T>, limit: Duration) -> Option<T> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let deadline = Instant::now() + limit;
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Some(value);
        }
        let left = deadline.checked_duration_since(Instant::now())?;
        thread::park_timeout(left);
    }
}
