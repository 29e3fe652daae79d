//! The client: schedules messages, repeats what is safe to repeat.

mod coordinators;
mod retry;
pub mod stream;

use std::{future::Future, sync::Arc, time::Duration};

use ksched_proto::v1::{self, admin_client::AdminClient, scheduler_client::SchedulerClient};
use prost::Message as _;
use tonic::{Request, Response, Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use self::{coordinators::Coordinators, retry::Retry};
use crate::{
    clock,
    error::{Error, Failure},
    message::{self, Message, Scheduled},
};

/// A coordinator takes this many requests in one call.
const BATCH_MESSAGES: usize = 10_000;

/// Below gRPC's default limit of 4 MiB for one message.
const BATCH_BYTES: usize = 3 << 20;

/// How long the client waits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For a connection to be made.
    pub connect_timeout: Duration,
    /// For the answer to one attempt.
    pub attempt_timeout: Duration,
    /// From the first attempt to the end of the last; at most 60 s.
    pub deadline: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            attempt_timeout: Duration::from_secs(10),
            // Below the 60 s after which coordinators refuse, clocks being what they are.
            deadline: Duration::from_secs(50),
        }
    }
}

/// A connection to a cluster's coordinators. Cheap to clone.
///
/// Attempts that fail with `UNAVAILABLE`, or get no answer, are repeated at
/// another coordinator until [`Settings::deadline`]; however often a message is
/// tried, it is scheduled once.
#[derive(Clone, Debug)]
pub struct Client {
    coordinators: Arc<Coordinators>,
    settings: Settings,
}

impl Client {
    /// A client for the coordinators at these addresses, each `HOST:PORT`.
    /// Connects when first used. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Address`] if there is none, or one is malformed.
    pub fn connect(addresses: &[String], settings: Settings) -> Result<Self, Error> {
        let coordinators = Arc::new(Coordinators::new(addresses, &settings)?);
        Ok(Self { coordinators, settings })
    }

    /// Schedules one message.
    ///
    /// # Errors
    /// Refusals at once; [`Error::is_retryable`] ones after the deadline.
    pub async fn schedule(&self, message: Message) -> Result<Scheduled, Error> {
        let mut request = message.into_request(clock::now_ms());
        let response = self
            .call(|channel| {
                message::next_attempt(&mut request);
                let request = request.clone();
                move |timeout| async move {
                    SchedulerClient::new(channel).schedule(within(request, timeout)).await
                }
            })
            .await?;
        Ok(response.into())
    }

    /// Schedules many messages; the results are in their order. Messages are sent
    /// in calls of at most 10,000, and only what failed is tried again.
    pub async fn batch(&self, messages: Vec<Message>) -> Vec<Result<Scheduled, Error>> {
        let now_ms = clock::now_ms();
        let mut results: Vec<_> = messages.iter().map(|_| Err(Error::StreamEnded)).collect();
        let mut chunk = Vec::new();
        let mut bytes = 0;
        for (index, message) in messages.into_iter().enumerate() {
            let request = message.into_request(now_ms);
            let size = request.encoded_len() + 16;
            if chunk.len() == BATCH_MESSAGES || !chunk.is_empty() && bytes + size > BATCH_BYTES {
                self.batch_call(std::mem::take(&mut chunk), &mut results).await;
                bytes = 0;
            }
            bytes += size;
            chunk.push((index, request, false));
        }
        if !chunk.is_empty() {
            self.batch_call(chunk, &mut results).await;
        }
        results
    }

    /// Schedules without end, thousands in flight: a half to send messages with, and
    /// a half to read what became of them. At most `window` are unsettled at a time.
    pub fn stream(&self, answers: stream::Answers, window: usize) -> (stream::Sender, stream::Outcomes) {
        stream::open(Arc::clone(&self.coordinators), self.settings.clone(), answers, window)
    }

    /// The cluster's settings, its coordinators and their leader.
    ///
    /// # Errors
    /// As [`schedule`](Self::schedule).
    pub async fn cluster(&self) -> Result<v1::GetClusterResponse, Error> {
        self.ask(|channel| {
            move |timeout| async move {
                AdminClient::new(channel).get_cluster(within(v1::GetClusterRequest {}, timeout)).await
            }
        })
        .await
    }

    /// The workers that hold a lease, and their jobs.
    ///
    /// # Errors
    /// As [`schedule`](Self::schedule).
    pub async fn workers(&self) -> Result<Vec<v1::Worker>, Error> {
        let response = self.ask(|channel| {
            move |timeout| async move {
                AdminClient::new(channel).list_workers(within(v1::ListWorkersRequest {}, timeout)).await
            }
        });
        Ok(response.await?.workers)
    }

    /// The jobs there are, and who holds them.
    ///
    /// # Errors
    /// As [`schedule`](Self::schedule).
    pub async fn jobs(&self) -> Result<Vec<v1::JobState>, Error> {
        let response = self.ask(|channel| {
            move |timeout| async move {
                AdminClient::new(channel).list_jobs(within(v1::ListJobsRequest {}, timeout)).await
            }
        });
        Ok(response.await?.jobs)
    }

    /// What the coordinator that is asked alone knows: a client of one address asks that one.
    ///
    /// # Errors
    /// As [`schedule`](Self::schedule).
    pub async fn activity(&self) -> Result<v1::GetActivityResponse, Error> {
        self.ask(|channel| {
            move |timeout| async move {
                AdminClient::new(channel).get_activity(within(v1::GetActivityRequest {}, timeout)).await
            }
        })
        .await
    }

    /// Whether the coordinator that is asked says that it can serve.
    ///
    /// # Errors
    /// As [`schedule`](Self::schedule).
    pub async fn is_ready(&self) -> Result<bool, Error> {
        let response = self.ask(|channel| {
            move |timeout| async move {
                HealthClient::new(channel).check(within(HealthCheckRequest::default(), timeout)).await
            }
        });
        Ok(response.await?.status() == ServingStatus::Serving)
    }

    /// A call that schedules nothing.
    async fn ask<T, A, F>(&self, attempt: impl FnMut(Channel) -> A) -> Result<T, Error>
    where
        A: FnOnce(Duration) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.call(attempt).await.map_err(Error::of_a_question)
    }

    /// Attempts a call until it succeeds, is refused, or the deadline has come.
    async fn call<T, A, F>(&self, mut attempt: impl FnMut(Channel) -> A) -> Result<T, Error>
    where
        A: FnOnce(Duration) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut retry = Retry::new(&self.settings);
        loop {
            let (turn, channel) = self.coordinators.current();
            let timeout = retry.time_left();
            let failure = match tokio::time::timeout(timeout, attempt(channel)(timeout)).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => Failure::from(&status),
                Err(_elapsed) => Failure::silence(),
            };
            let failure = failure.of(self.coordinators.address(turn));
            if failure.is_retryable() {
                self.coordinators.failed(turn);
            }
            tokio::time::sleep(retry.after(failure)?).await;
        }
    }

    /// One call's worth of a batch: (place in the results, request, whether an
    /// earlier attempt may have scheduled it).
    async fn batch_call(
        &self,
        mut open: Vec<(usize, v1::ScheduleRequest, bool)>,
        results: &mut [Result<Scheduled, Error>],
    ) {
        let mut retry = Retry::new(&self.settings);
        loop {
            let requests = open.iter_mut().map(|(_, request, _)| {
                message::next_attempt(request);
                request.clone()
            });
            let batch = v1::BatchScheduleRequest { requests: requests.collect() };
            let (turn, channel) = self.coordinators.current();
            let timeout = retry.time_left();
            let mut scheduler = SchedulerClient::new(channel);
            let call = scheduler.batch_schedule(within(batch, timeout));
            let answers = match tokio::time::timeout(timeout, call).await {
                Ok(Ok(response)) => Ok(response.into_inner().results),
                Ok(Err(status)) => Err(Failure::from(&status).of(self.coordinators.address(turn))),
                Err(_elapsed) => Err(Failure::silence().of(self.coordinators.address(turn))),
            };
            let mut last = None;
            let mut left = Vec::new();
            let mut answers = answers.map(Vec::into_iter);
            for (index, request, may_have) in open {
                let failure = match &mut answers {
                    Ok(answers) => match answers.next().and_then(|answer| answer.result) {
                        Some(v1::schedule_result::Result::Response(response)) => {
                            results[index] = Ok(response.into());
                            continue;
                        }
                        Some(v1::schedule_result::Result::Error(status)) => Failure::from(&status),
                        None => Failure::cut(),
                    },
                    Err(failure) => failure.clone(),
                };
                results[index] = Err(failure.clone().into_error(message::attempts(&request), may_have));
                if failure.is_retryable() {
                    left.push((index, request, may_have || failure.may_have_happened));
                    last = Some(failure);
                }
            }
            let Some(failure) = last else { return };
            self.coordinators.failed(turn);
            // Out of time: the results already say how the last attempt failed.
            let Ok(pause) = retry.after(failure) else { return };
            tokio::time::sleep(pause).await;
            open = left;
        }
    }
}

/// The coordinator may give up so long after we have: else its word that time is up
/// and ours would race.
const COORDINATOR_GIVES_UP_AFTER: Duration = Duration::from_secs(1);

/// A request that tells the coordinator how long its answer is waited for.
fn within<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout + COORDINATOR_GIVES_UP_AFTER);
    request
}
