//! Scheduling without end over one bidirectional stream.
//!
//! A task owns the stream. What is not settled is kept; when the connection
//! breaks, or nothing is answered for an attempt's time, the task opens a stream
//! at another coordinator and sends the unsettled again, each with its attempt
//! number raised, so that it is scheduled once.

mod pending;

use std::{
    collections::VecDeque,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use ksched_proto::v1::{self, scheduler_client::SchedulerClient};
use tokio::{sync::mpsc, task::JoinHandle, time};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use self::pending::{Entry, Pending};
use super::{Settings, coordinators::Coordinators, retry};
use crate::{
    clock,
    error::{Error, Failure},
    message::{self, Message, Scheduled},
};

/// Messages handed over to the stream and not yet taken by HTTP/2.
const WIRE_QUEUE: usize = 1024;
/// How many messages are taken from the sender at once.
const TAKE: usize = 256;
/// How often deadlines and silence are looked at.
const CHECK: Duration = Duration::from_millis(100);

/// How acceptances are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Each with the id and due time of the message.
    Each,
    /// Only that they are: cheaper for both sides.
    Coalesced,
}

/// What became of one message.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// As [`Sender::send`] returned it.
    pub sequence: u64,
    /// `None` for an acceptance with [`Answers::Coalesced`].
    pub result: Result<Option<Scheduled>, Error>,
}

/// The half that sends. When it is dropped, the outcomes end with the last message.
#[derive(Debug)]
pub struct Sender {
    input: mpsc::Sender<Entry>,
    next: u64,
}

/// The half that tells outcomes, in the order they become known. It must be read:
/// while it is not, the stream stands still. Dropping it gives the stream up.
#[derive(Debug)]
pub struct Outcomes {
    outcomes: mpsc::Receiver<Outcome>,
    task: JoinHandle<()>,
}

impl Sender {
    /// Hands a message over; waits while too many are unsettled. Returns the number
    /// its outcome will carry: 0, 1, 2, …
    ///
    /// # Errors
    /// [`Error::StreamEnded`] when the outcomes are not read any more.
    pub async fn send(&mut self, message: Message) -> Result<u64, Error> {
        let sequence = self.next;
        let entry = Entry::new(sequence, message.into_request(clock::now_ms()));
        self.input.send(entry).await.map_err(|_| Error::StreamEnded)?;
        self.next += 1;
        Ok(sequence)
    }
}

impl Outcomes {
    /// The next outcome; `None` once the sender is gone and all are told.
    pub async fn next(&mut self) -> Option<Outcome> {
        self.outcomes.recv().await
    }

    /// Up to `limit` outcomes at once, appended to `into`; 0 at the end.
    pub async fn next_many(&mut self, into: &mut Vec<Outcome>, limit: usize) -> usize {
        self.outcomes.recv_many(into, limit).await
    }
}

impl Drop for Outcomes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn open(
    coordinators: Arc<Coordinators>,
    settings: Settings,
    answers: Answers,
    window: usize,
) -> (Sender, Outcomes) {
    let window = window.max(1);
    let (input, from_sender) = mpsc::channel(window.min(TAKE * 4));
    let (to_reader, outcomes) = mpsc::channel(WIRE_QUEUE * 4);
    let courier = Courier {
        coordinators,
        settings,
        answers,
        window,
        input: Some(from_sender),
        outcomes: to_reader,
        pending: Pending::default(),
        backlog: VecDeque::new(),
        retries: VecDeque::new(),
    };
    let task = tokio::spawn(courier.run());
    (Sender { input, next: 0 }, Outcomes { outcomes, task })
}

/// Owner of the stream and of everything unsettled.
struct Courier {
    coordinators: Arc<Coordinators>,
    settings: Settings,
    answers: Answers,
    window: usize,
    /// `None` once the sender is gone.
    input: Option<mpsc::Receiver<Entry>>,
    outcomes: mpsc::Sender<Outcome>,
    /// On the wire, without an answer.
    pending: Pending,
    /// To be sent next.
    backlog: VecDeque<Entry>,
    /// To be sent again from the given instant on.
    retries: VecDeque<(Instant, Entry)>,
}

/// Why a session on one connection is over.
enum End {
    /// Everything is settled and the sender is gone, or nobody reads outcomes.
    Finished,
    Broken(Failure),
}

impl Courier {
    async fn run(mut self) {
        let mut broken_in_turn = 0;
        loop {
            let unanswered_before = self.pending.answers();
            let (turn, channel) = self.coordinators.current();
            let failure = match Box::pin(self.session(channel)).await {
                End::Finished => return,
                End::Broken(failure) => failure.of(self.coordinators.address(turn)),
            };
            self.coordinators.failed(turn);
            broken_in_turn = if self.pending.answers() > unanswered_before { 1 } else { broken_in_turn + 1 };
            if self.put_back(&failure).await.is_break() {
                return;
            }
            time::sleep(retry::pause_after(broken_in_turn)).await;
        }
    }

    /// One connection, from the first message there is to send until it breaks.
    async fn session(&mut self, channel: tonic::transport::Channel) -> End {
        if !self.wait_for_work().await {
            return End::Finished;
        }
        let (to_wire, wire) = mpsc::channel(WIRE_QUEUE);
        // A coordinator may read the first request before it answers the call.
        self.fill(&to_wire);
        let mut scheduler = SchedulerClient::new(channel);
        let call = scheduler.schedule_stream(ReceiverStream::new(wire));
        let mut answers = match time::timeout(self.settings.attempt_timeout, call).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return End::Broken(Failure::from(&status)),
            Err(_elapsed) => return End::Broken(Failure::silence()),
        };
        self.exchange(&to_wire, &mut answers).await
    }

    /// Waits until there is a message to send; whether there will ever be one.
    async fn wait_for_work(&mut self) -> bool {
        while self.backlog.is_empty() {
            if let Some((at, _)) = self.retries.front() {
                time::sleep_until((*at).into()).await;
                self.take_retries();
            } else if let Some(input) = &mut self.input {
                match input.recv().await {
                    Some(entry) => self.backlog.push_back(entry.begun()),
                    None => self.input = None,
                }
            } else {
                return false;
            }
        }
        true
    }

    async fn exchange(
        &mut self,
        to_wire: &mpsc::Sender<v1::ScheduleStreamRequest>,
        answers: &mut Streaming<v1::ScheduleStreamResponse>,
    ) -> End {
        let mut check = time::interval(CHECK);
        check.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut answered_at = Instant::now();
        let mut taken = Vec::with_capacity(TAKE);
        loop {
            if self.is_settled() {
                return End::Finished;
            }
            let room = self.window.saturating_sub(self.pending.len() + self.retries.len());
            let may_take = self.backlog.is_empty() && room > 0 && self.input.is_some();
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => {
                        answered_at = Instant::now();
                        if self.settle(answer).await.is_break() {
                            return End::Finished;
                        }
                    }
                    Ok(None) => return End::Broken(Failure::cut()),
                    Err(status) => return End::Broken(Failure::from(&status)),
                },
                // The permit is given back: `fill` takes all there are.
                permit = to_wire.reserve(), if !self.backlog.is_empty() => match permit {
                    Ok(permit) => { drop(permit); self.fill(to_wire); }
                    Err(_closed) => return End::Broken(Failure::cut()),
                },
                count = receive(&mut self.input, &mut taken, room.min(TAKE)), if may_take => {
                    if count == 0 { self.input = None; }
                    self.backlog.extend(taken.drain(..).map(Entry::begun));
                    self.fill(to_wire);
                }
                _ = check.tick() => {
                    self.take_retries();
                    if self.pending.waits_since().is_some_and(|since| {
                        since.max(answered_at).elapsed() > self.settings.attempt_timeout
                    }) {
                        return End::Broken(Failure::silence());
                    }
                }
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.input.is_none() && self.pending.len() == 0 && self.backlog.is_empty() && self.retries.is_empty()
    }

    /// Moves as much of the backlog to the wire as there is room for.
    fn fill(&mut self, to_wire: &mpsc::Sender<v1::ScheduleStreamRequest>) {
        let answers = match self.answers {
            Answers::Each => v1::StreamAnswers::Each,
            Answers::Coalesced => v1::StreamAnswers::Coalesced,
        };
        while !self.backlog.is_empty() {
            let Ok(permit) = to_wire.try_reserve() else { return };
            let Some(mut entry) = self.backlog.pop_front() else { return };
            message::next_attempt(&mut entry.request);
            let request = Some(entry.request.clone());
            let sequence = self.pending.push(entry);
            permit.send(v1::ScheduleStreamRequest { sequence, request, answers: answers.into() });
        }
    }

    /// Takes an answer's results; breaks when nobody reads the outcomes.
    async fn settle(&mut self, answer: v1::ScheduleStreamResponse) -> ControlFlow<()> {
        for v1::StreamResult { sequence, result } in answer.results {
            let Some(entry) = self.pending.take(sequence) else { continue };
            match result.and_then(|r| r.result) {
                Some(v1::schedule_result::Result::Response(response)) => {
                    self.tell(entry.sequence, Ok(Some(response.into()))).await?;
                }
                Some(v1::schedule_result::Result::Error(status)) => {
                    self.refused(entry, Failure::from(&status)).await?;
                }
                None => self.refused(entry, Failure::cut()).await?,
            }
        }
        while let Some(entry) = self.pending.take_up_to(answer.all_up_to) {
            self.tell(entry.sequence, Ok(None)).await?;
        }
        ControlFlow::Continue(())
    }

    /// One message's attempt failed: again after a pause, or its final error.
    async fn refused(&mut self, mut entry: Entry, failure: Failure) -> ControlFlow<()> {
        let attempts = message::attempts(&entry.request);
        let pause = retry::pause_after(attempts);
        if !failure.is_retryable() || self.is_over(&entry, pause) {
            let error = failure.into_error(attempts, entry.may_have_happened);
            return self.tell(entry.sequence, Err(error)).await;
        }
        entry.may_have_happened |= failure.may_have_happened;
        self.retries.push_back((Instant::now() + pause, entry));
        ControlFlow::Continue(())
    }

    /// After a break: all that has no answer is to be sent again, in its order;
    /// what is over its deadline gets the failure as its outcome.
    async fn put_back(&mut self, failure: &Failure) -> ControlFlow<()> {
        let waiting = std::mem::take(&mut self.backlog);
        let unanswered = self.pending.drain().map(|mut entry| {
            entry.may_have_happened |= failure.may_have_happened;
            entry
        });
        let all: Vec<_> = unanswered.chain(waiting).collect();
        for entry in all {
            if self.is_over(&entry, Duration::ZERO) || !failure.is_retryable() {
                let attempts = message::attempts(&entry.request);
                let error = failure.clone().into_error(attempts, entry.may_have_happened);
                self.tell(entry.sequence, Err(error)).await?;
            } else {
                self.backlog.push_back(entry);
            }
        }
        ControlFlow::Continue(())
    }

    fn is_over(&self, entry: &Entry, pause: Duration) -> bool {
        entry.begun_at.elapsed() + pause >= self.settings.deadline.min(retry::LAST_ATTEMPT)
    }

    /// Moves what has waited long enough to the backlog.
    fn take_retries(&mut self) {
        let now = Instant::now();
        while self.retries.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, entry)) = self.retries.pop_front() {
                self.backlog.push_back(entry);
            }
        }
    }

    async fn tell(&self, sequence: u64, result: Result<Option<Scheduled>, Error>) -> ControlFlow<()> {
        match self.outcomes.send(Outcome { sequence, result }).await {
            Ok(()) => ControlFlow::Continue(()),
            Err(_closed) => ControlFlow::Break(()),
        }
    }
}

async fn receive(input: &mut Option<mpsc::Receiver<Entry>>, into: &mut Vec<Entry>, limit: usize) -> usize {
    match input {
        Some(input) => input.recv_many(into, limit).await,
        None => 0,
    }
}
