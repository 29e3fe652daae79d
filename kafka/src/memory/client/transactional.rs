//! A transactional producer that keeps librdkafka's habits: it repeats what got no
//! answer, EndTxn too, and returns well from a commit that is not to be trusted. What it
//! noted meanwhile is what makes it unclean (design §4.2).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    caller::{CallError, Caller, Persistence},
    outbox::Outbox,
};
use crate::{
    log::{
        Error, Outgoing, Position, RefusalReason, TopicPartition, TransactionError, TransactionalProducer,
    },
    memory::{Failure, Outcome, Request, Response, Session},
};

/// As those of the real one.
const INIT_LIMIT: Duration = Duration::from_secs(20);
const ADD_LIMIT: Duration = Duration::from_secs(9);
const OFFSETS_LIMIT: Duration = Duration::from_secs(8);
const COMMIT_LIMIT: Duration = Duration::from_secs(10);
const TRANSACTION_TIMEOUT_MS: i64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Ready,
    Open,
    /// Something went wrong: drop it.
    Over,
    Fenced,
}

/// A producer for one transactional id.
pub struct MemoryTransactional {
    outbox: Outbox,
    transactional_id: Arc<str>,
    group: Arc<str>,
    state: State,
    /// `notes` at the last begin.
    noted: u64,
    /// Partitions that the open transaction touches.
    added: BTreeSet<TopicPartition>,
    /// The open transaction is known to the coordinator, so it must be ended.
    begun: bool,
}

impl std::fmt::Debug for MemoryTransactional {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryTransactional")
            .field("transactional_id", &self.transactional_id)
            .field("producer", &self.outbox.producer())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl MemoryTransactional {
    pub(super) fn new(caller: Caller, transactional_id: &str, group: Arc<str>) -> Self {
        let transactional_id: Arc<str> = transactional_id.into();
        Self {
            outbox: Outbox::new(caller, Some(Arc::clone(&transactional_id))),
            transactional_id,
            group,
            state: State::New,
            noted: 0,
            added: BTreeSet::new(),
            begun: false,
        }
    }

    fn session(&self) -> Result<Session, CallError> {
        let transactional_id = Arc::clone(&self.transactional_id);
        let producer = self.outbox.producer().ok_or_else(|| CallError::Lost("not initialised".to_owned()))?;
        Ok(Session { transactional_id, producer })
    }

    fn check_notes(&self) -> Result<(), TransactionError> {
        if self.outbox.caller.notes() == self.noted {
            return Ok(());
        }
        Err(TransactionError::Unclean(format!("noted: {}", self.outbox.caller.last_note())))
    }

    fn check_state(&self, wanted: State) -> Result<(), TransactionError> {
        match self.state {
            state if state == wanted => Ok(()),
            State::Fenced => Err(TransactionError::Fenced),
            state => Err(TransactionError::Unclean(format!("producer is {state:?}, not {wanted:?}"))),
        }
    }

    /// Does something in the open transaction; after an error there is nothing more to do.
    fn within<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, TransactionError>,
    ) -> Result<T, TransactionError> {
        self.check_state(State::Open)?;
        let result = act(self);
        match &result {
            Ok(_) => {}
            Err(TransactionError::Fenced) => self.state = State::Fenced,
            Err(_) => self.state = State::Over,
        }
        result
    }

    /// An error of a call. Refused records come first: they are the cause.
    fn ended(&mut self, doing: &str, error: CallError) -> TransactionError {
        if matches!(error, CallError::Failed(Failure::Fenced)) {
            return TransactionError::Fenced;
        }
        self.check_deliveries()
            .err()
            .unwrap_or_else(|| TransactionError::Unclean(format!("{doing}: {error}")))
    }

    fn check_deliveries(&mut self) -> Result<(), TransactionError> {
        let refused = self.outbox.take_refusals();
        if refused.is_empty() {
            return Ok(());
        }
        // A broker that went away is nobody's refusal.
        if refused.iter().all(|each| matches!(each.reason, RefusalReason::Collateral(_))) {
            self.check_notes()?;
        }
        Err(TransactionError::Refused(refused))
    }

    /// Sends what is queued. The first failure purges the rest, as in librdkafka.
    fn deliver(&mut self) -> Result<(), TransactionError> {
        if let Err(error) = self.add_partitions() {
            let unknown = match &error {
                CallError::Failed(Failure::Unknown(unknown)) => unknown.clone(),
                _ => Vec::new(),
            };
            self.outbox.purge(&unknown, &error.to_string());
            return Err(self.ended("add partitions", error));
        }
        let mut cause: Option<CallError> = None;
        for (at, batch) in self.outbox.take_batches() {
            match &cause {
                None => cause = self.outbox.produce(at, batch, Persistence::UntilNoted).err(),
                Some(cause) => {
                    let why = CallError::Lost(format!("purged: {cause}")).into();
                    self.outbox.refuse_tags(&at, batch.iter().map(|each| each.tag), &why);
                }
            }
        }
        match cause {
            Some(cause) => Err(self.ended("produce", cause)),
            None => self.check_deliveries(),
        }
    }

    fn add_partitions(&mut self) -> Result<(), CallError> {
        let partitions: Vec<_> =
            self.outbox.partitions().filter(|at| !self.added.contains(at)).cloned().collect();
        if partitions.is_empty() {
            return Ok(());
        }
        let request = Request::AddPartitions { session: self.session()?, partitions: partitions.clone() };
        self.begun = true;
        self.outbox.caller.call_with(&request, ADD_LIMIT, Persistence::UntilNoted)?;
        self.added.extend(partitions);
        Ok(())
    }

    fn send_offsets(&mut self, positions: &[(TopicPartition, Position)]) -> Result<(), CallError> {
        let (session, group) = (self.session()?, Arc::clone(&self.group));
        let add = Request::AddOffsets { session: session.clone(), group: Arc::clone(&group) };
        self.begun = true;
        self.outbox.caller.call(&add, OFFSETS_LIMIT)?;
        let commit = Request::TxnOffsetCommit { session, group, positions: positions.to_vec() };
        self.outbox.caller.call(&commit, OFFSETS_LIMIT).map(drop)
    }

    fn end(&mut self, outcome: Outcome) -> Result<(), CallError> {
        if !self.begun {
            return Ok(());
        }
        let request = Request::EndTxn { session: self.session()?, outcome };
        match self.outbox.caller.call(&request, COMMIT_LIMIT)? {
            Response::Done => Ok(()),
            _ => Err(CallError::unexpected()),
        }
    }
}

impl TransactionalProducer for MemoryTransactional {
    fn init(&mut self) -> Result<(), Error> {
        self.state = State::Over;
        self.outbox.init(TRANSACTION_TIMEOUT_MS, INIT_LIMIT)?;
        self.noted = self.outbox.caller.notes();
        self.state = State::Ready;
        Ok(())
    }

    fn begin(&mut self) -> Result<(), TransactionError> {
        self.check_state(State::Ready)?;
        self.check_notes()?;
        self.noted = self.outbox.caller.notes();
        self.added.clear();
        self.begun = false;
        self.state = State::Open;
        Ok(())
    }

    fn send(&mut self, tag: usize, record: Outgoing<'_>) -> Result<(), TransactionError> {
        self.within(|this| {
            this.outbox.push(tag, record);
            if this.outbox.is_full() { this.deliver() } else { Ok(()) }
        })
    }

    fn flush(&mut self) -> Result<(), TransactionError> {
        self.within(Self::deliver)
    }

    fn commit(&mut self, positions: &[(TopicPartition, Position)]) -> Result<(), TransactionError> {
        self.within(|this| {
            this.deliver()?;
            if !positions.is_empty() {
                this.send_offsets(positions).map_err(|error| this.ended("send offsets", error))?;
            }
            this.end(Outcome::Commit).map_err(|error| this.ended("commit", error))?;
            // A clean return proves nothing (design §4.2).
            this.check_notes()
        })?;
        self.state = State::Ready;
        Ok(())
    }
}
