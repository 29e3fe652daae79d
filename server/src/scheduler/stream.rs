//! The stream of one client: requests in, answers out, in order.
//!
//! What has arrived is taken in chunks, some of them are in flight at once, and the
//! chunks' answers leave in the order of their requests. A chunk is taken only when
//! there is a place for its answer, so a client that reads none stops its own stream,
//! by HTTP/2 flow control.
//!
//! All of it is driven by a task of the stream's own. Were it driven by the client
//! taking answers, chunks in flight would hold their share of the room for all
//! callers ([`Placer::reserve`]) as long as the client does not read.

use std::{mem, sync::Arc, time::Duration};

use futures::{
    FutureExt, Stream, StreamExt,
    stream::{self, Fuse},
};
use ksched_proto::v1::{self, StreamAnswers, schedule_result};
use ksched_telemetry::traces;
use tokio::{
    sync::mpsc::{self, OwnedPermit},
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{Call, Error, Placer, request, result};

/// Requests in one chunk, at most. With [`CHUNKS`] this is the window of 10,000.
const CHUNK: usize = 625;
/// Bytes after which a chunk is closed.
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks in flight or with unread answers at once.
const CHUNKS: usize = 16;
/// How long a chunk is filled while others are under way: Kafka's work goes by requests, so at 20,000/s three times
/// as many would make everybody late (docs/PERFORMANCE.md). A lone request goes at once.
const FILL: Duration = Duration::from_millis(4);

type Answer = Result<v1::ScheduleStreamResponse, Status>;

/// The answers to a stream of requests. Ends after the requests' end, at the first
/// error of the stream itself, or at the shutdown; what was taken is answered first. Each
/// chunk counts as a call of its own and nobody's, for a stream may last longer than any trace: what is
/// to be part of one brings a `traceparent` among its headers.
pub(super) fn answers<S>(
    placer: Arc<Placer>,
    requests: S,
    shutdown: CancellationToken,
) -> impl Stream<Item = Answer> + Send
where
    S: Stream<Item = Result<v1::ScheduleStreamRequest, Status>> + Send + Unpin + 'static,
{
    let (sender, receiver) = mpsc::channel(CHUNKS);
    // Dropped with the answers, by which the task ends too.
    let mut task = JoinSet::new();
    task.spawn(drive(placer, requests, shutdown, sender));
    stream::unfold((receiver, task), async |(mut receiver, mut task)| match receiver.recv().await {
        Some(answer) => Some((answer, (receiver, task))),
        None => {
            let panicked = task.join_next().await?.err()?;
            Some((Err(Status::internal(panicked.to_string())), (receiver, task)))
        }
    })
}

/// Takes requests and sends their answers, until either side is through.
async fn drive<S>(placer: Arc<Placer>, requests: S, shutdown: CancellationToken, to: mpsc::Sender<Answer>)
where
    S: Stream<Item = Result<v1::ScheduleStreamRequest, Status>> + Send + Unpin,
{
    let inbound = Inbound { requests: requests.fuse(), last: 0, answers: None, end: None };
    let chunks = stream::unfold((Some(inbound), to, shutdown), async |(inbound, to, shutdown)| {
        let mut inbound = inbound?;
        let place = to.clone().reserve_owned().await.ok()?;
        // One of the places is this chunk's own.
        let is_alone = || to.max_capacity() - to.capacity() <= 1;
        let chunk = inbound.next_chunk(is_alone, &shutdown).await?;
        let inbound = matches!(chunk, Chunk::Requests(_)).then_some(inbound);
        Some(((place, chunk), (inbound, to, shutdown)))
    });
    let answered = chunks.map(|(place, chunk): (OwnedPermit<Answer>, _)| async {
        let answer = match chunk {
            Chunk::Requests(requests) => Ok(requests.schedule(&placer).await),
            Chunk::End(status) => Err(status),
        };
        (place, answer)
    });
    let sent = answered.buffered(CHUNKS).for_each(async |(place, answer)| {
        place.send(answer);
    });
    sent.await;
}

/// What came in together.
#[derive(Debug, Default)]
struct Requests {
    sequences: Vec<u64>,
    requests: Vec<v1::ScheduleRequest>,
    weight: usize,
    answers: StreamAnswers,
}

enum Chunk {
    Requests(Requests),
    /// Why the stream ends here; nothing follows.
    End(Status),
}

struct Inbound<S> {
    requests: Fuse<S>,
    last: u64,
    /// As the first request said.
    answers: Option<StreamAnswers>,
    /// An error that is told once the chunk before it has been answered.
    end: Option<Status>,
}

impl<S> Inbound<S>
where
    S: Stream<Item = Result<v1::ScheduleStreamRequest, Status>> + Send + Unpin,
{
    /// Waits for a request and takes what is there behind it; also what comes within [`FILL`], unless by then
    /// nothing else is under way. `None` after the end.
    async fn next_chunk(
        &mut self,
        is_alone: impl Fn() -> bool,
        shutdown: &CancellationToken,
    ) -> Option<Chunk> {
        if let Some(status) = self.end.take() {
            return Some(Chunk::End(status));
        }
        let mut chunk = Requests::default();
        let mut next = tokio::select! {
            biased;
            () = shutdown.cancelled() => Some(Err(Error::Stopping.into())),
            first = self.requests.next() => first,
        };
        let until = (!is_alone()).then(|| Instant::now() + FILL);
        loop {
            match next.map(|request| request.and_then(|r| self.check(r))) {
                Some(Ok((sequence, request))) => chunk.push(sequence, request),
                Some(Err(status)) => {
                    self.end = Some(status);
                    break;
                }
                None => break,
            }
            if chunk.is_full() {
                break;
            }
            let more = match (self.requests.next().now_or_never(), until) {
                (None, Some(until)) => timeout_at(until, self.requests.next()).await.ok(),
                (more, _) => more,
            };
            match more {
                Some(more) => next = more,
                None => break,
            }
        }
        chunk.answers = self.answers.unwrap_or_default();
        if chunk.sequences.is_empty() {
            self.end.take().map(Chunk::End)
        } else {
            Some(Chunk::Requests(chunk))
        }
    }

    fn check(&mut self, request: v1::ScheduleStreamRequest) -> Result<(u64, v1::ScheduleRequest), Status> {
        let (sequence, last) = (request.sequence, self.last);
        if sequence <= last {
            return Err(Error::Sequence { sequence, last }.into());
        }
        self.last = sequence;
        if self.answers.is_none() {
            let answers = StreamAnswers::try_from(request.answers);
            self.answers = Some(answers.map_err(|_| Error::NotBuilt { field: "answers" })?);
        }
        Ok((sequence, request.request.unwrap_or_default()))
    }
}

impl Requests {
    fn push(&mut self, sequence: u64, request: v1::ScheduleRequest) {
        self.weight += request::weight(&request);
        self.sequences.push(sequence);
        self.requests.push(request);
    }

    fn is_full(&self) -> bool {
        self.sequences.len() >= CHUNK || self.weight >= CHUNK_BYTES
    }

    /// Schedules the chunk and says how it went.
    async fn schedule(mut self, placer: &Placer) -> v1::ScheduleStreamResponse {
        let all_up_to = self.sequences.last().copied().unwrap_or_default();
        // A stream waits for room where a call would be refused.
        let room = placer.reserve(self.weight).await;
        let mut span = traces::call("ksched.v1.Scheduler/ScheduleStream", None);
        let call = Call::new(&mut span, None, self.requests.len());
        let outcomes = placer.schedule(mem::take(&mut self.requests), room, call).await;
        span.answered(Code::Ok as i32, "");
        let results = self.sequences.into_iter().zip(outcomes.into_iter().map(result));
        let results = results
            .filter(|(_, result)| {
                let accepted = matches!(result.result, Some(schedule_result::Result::Response(_)));
                !(accepted && self.answers == StreamAnswers::Coalesced)
            })
            .map(|(sequence, result)| v1::StreamResult { sequence, result: Some(result) })
            .collect();
        v1::ScheduleStreamResponse { results, all_up_to }
    }
}
