//! Lane jobs: one due lane on a thread of its own (design §5).
//!
//! Read what is there, take what is due, fire it in one transaction with the
//! lane's positions, sleep until the next due time or the next record. All
//! decisions are [`ksched_core::lane::Lane`]'s; here is only what touches Kafka.

mod caution;
mod committer;
mod firing;
mod held;
mod lookup;
mod recovery;

use std::{sync::Arc, time::Duration};

use ksched_core::{
    cluster::{Geometry, INLETS},
    delivered,
    envelope::Envelope,
    lane::{Cap, Gate, Lane, Reading, Settings},
    mutant::{self, Mutant},
    wheel::Inlet,
};
use ksched_kafka::{Error, Log, Offset, Reader, Record, TopicPartition};
use ksched_telemetry::{logging::Repeats, traces};
use tokio::time::Instant;
use tracing::{error, info, warn};

use self::{
    caution::Caution,
    firing::Firing,
    held::{Body, Held, gate},
    lookup::Lookups,
    recovery::{committed, markers},
};
use crate::{
    attempt::{Ended, until_clean},
    job::{Control, Outcome},
    memory::{Pressure, Share},
    mover::{DOUBT_PAUSE, KEEP_ALIVE},
    node::Node,
    targets::Verdict,
};

/// What a reader holds back in memory, beside the lane's share.
const FETCH_BYTES: usize = 4 << 20;
/// Records read between two looks at the clock.
const READ_AT_ONCE: usize = 1_000;
/// From one transaction's start to the next's under load, at least: with less, lanes on one
/// machine only compete (traps.md, point 4).
const PACE: Duration = Duration::from_millis(10);
/// The same, at most: it is twice what the last one took, for where Kafka or this machine is busy
/// fewer and larger transactions relieve it. Only behind one that was full there is no such pause.
const PACE_MAX: Duration = Duration::from_millis(50);
/// How long one wait for records lasts at most, and so how soon a stop is noticed.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// Shorter waits are slept: a poll counts in whole milliseconds.
const POLL_MIN: Duration = Duration::from_millis(2);
/// How often positions are committed that moved with nothing to fire.
const IDLE_COMMIT: Duration = Duration::from_secs(10);
/// How long a new holder reads before it fires.
const CATCH_UP: Duration = Duration::from_secs(3);
/// The most that one transaction fires.
const CAP: Cap = Cap { count: 10_000, bytes: 4 << 20 };
/// Records in one transaction that are each waited for: more might outlive it.
const ALONE_MAX: usize = 200;
/// So long before a message is due its target is looked at, if too little is known of it.
const LOOK_AHEAD: Duration = Duration::from_secs(1);
const FAR_AHEAD_MARGIN_MS: i64 = 60_000;

/// Runs until stopped or fenced.
pub(crate) fn run<L: Log + Clone>(node: &Node<L>, lane: u16, control: &Control) -> Outcome {
    let share = node.memory.share();
    let mut caution = Caution::default();
    let ended = until_clean(node, control, || match Holding::take_over(node, lane, control, &share)? {
        Some(mut holding) => holding.run(&mut caution),
        None => Ok(()),
    });
    ended.map_or_else(|outcome| outcome, |()| Outcome::Stopped)
}

/// What one look into the inlets brought.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    records: usize,
    overdue: usize,
}

/// One life of a lane's producers.
struct Holding<'a, L: Log> {
    node: &'a Node<L>,
    /// Of the lane.
    number: u16,
    control: &'a Control,
    share: &'a Share,
    inlets: [TopicPartition; INLETS],
    reader: L::Reader,
    paused: [bool; INLETS],
    lane: Lane<Held>,
    /// Of the last message that was read.
    last_topic: Arc<str>,
    firing: Firing<'a, L>,
    lookups: Lookups<L>,
    memory_is_short: Repeats,
    not_ours: Repeats,
    /// When the last transaction began, and before the first the take-over.
    began_at: Instant,
    /// From then to the next one's start.
    pace: Duration,
    committed_at: Instant,
}

impl<'a, L: Log + Clone> Holding<'a, L> {
    /// The order that makes it safe (design §4.1): init a, init b, committed
    /// positions, control partition, seek, read. `None` when stopped meanwhile.
    fn take_over(
        node: &'a Node<L>,
        lane: u16,
        control: &'a Control,
        share: &'a Share,
    ) -> Result<Option<Self>, Ended> {
        let began_at = Instant::now();
        let (due, geometry) = (node.cluster.due_topic().into(), &node.cluster.geometry);
        let inlets = Inlet::ALL.map(|inlet| TopicPartition {
            topic: std::sync::Arc::clone(&due),
            partition: geometry.due_partition(lane, inlet),
        });
        let too_early = mutant::is_on(Mutant::PositionsBeforeInit);
        let early = if too_early { Some(committed(node, control, &inlets)?) } else { None };
        let firing = Firing::take_over(node, lane, control, inlets.clone())?;
        let positions = match early {
            Some(positions) => positions,
            None => committed(node, control, &inlets)?,
        };
        let Some(now) = node.await_clock(control) else { return Ok(None) };
        let mut machine = Lane::new(&positions, settings(&node.cluster.geometry), now)
            .map_err(|reason| Ended::Failed(format!("position of {}: {reason}", control.name)))?;
        let mut reader = node.log.reader(FETCH_BYTES)?;
        for marker in markers(node, lane)? {
            machine.remember(marker);
        }
        let from: Vec<_> = inlets.iter().cloned().zip(positions.iter().map(|p| p.offset)).collect();
        reader.assign(&from)?;
        drop(traces::take_over(control.held, &control.name, began_at.elapsed()));
        info!(job = %control.name, took = ?began_at.elapsed(), "lane taken over");
        Ok(Some(Self {
            node,
            number: lane,
            control,
            share,
            lookups: Lookups::new(node.host.clone(), node.log.clone(), inlets.clone()),
            inlets,
            reader,
            paused: [false; INLETS],
            lane: machine,
            last_topic: "".into(),
            firing,
            memory_is_short: Repeats::default(),
            not_ours: Repeats::default(),
            began_at,
            pace: PACE,
            committed_at: Instant::now(),
        }))
    }

    fn run(&mut self, caution: &mut Caution) -> Result<(), Ended> {
        self.catch_up()?;
        self.node.metrics.take_over.observe(self.began_at.elapsed());
        while !self.control.stopped() && self.firing.may_fire() {
            self.gather()?;
            self.ask_and_hear();
            let Some(now) = self.node.clock.now_ms() else {
                self.node.host.sleep(DOUBT_PAUSE);
                continue;
            };
            let is_due = self.lane.next_due_ms().is_some_and(|due| due <= now);
            // Again: reading takes its time.
            if is_due && self.paced() && self.firing.may_fire() {
                self.fire(now, caution)?;
            } else {
                self.commit_when_idle()?;
                self.wait(now)?;
            }
        }
        self.firing.finish(self.lane.moved())
    }

    /// Reads what is there before anything is fired, as far as memory allows and for
    /// a bounded time: exactly once does not need it, the order of each key does.
    fn catch_up(&mut self) -> Result<(), Ended> {
        let ends = self.node.log.offsets(&self.inlets, Offset::StableEnd)?;
        let began_at = Instant::now();
        while began_at.elapsed() < CATCH_UP && !self.control.stopped() {
            let mut behind = false;
            for (partition, end) in self.inlets.iter().zip(&ends) {
                behind |= self.reader.position(partition)? < *end;
            }
            self.ask_and_hear();
            // A repeated attempt whose look-up is not answered when it is due is put off.
            let done = !behind && self.lookups.is_idle();
            if done || self.share.pressure(self.lane.bytes()) != Pressure::Low {
                break;
            }
            self.read(POLL_MIN)?;
        }
        Ok(())
    }

    /// Reads what is there. A backlog is read until it fills a transaction: small ones cost as
    /// much as large ones.
    fn gather(&mut self) -> Result<(), Ended> {
        let mut overdue = 0;
        loop {
            let found = self.read(Duration::ZERO)?;
            overdue += found.overdue;
            let is_backlog = found.records == READ_AT_ONCE && found.overdue > READ_AT_ONCE / 2;
            if !is_backlog || overdue >= CAP.count {
                return Ok(());
            }
        }
    }

    /// Reads what is there, the first record for at most `wait`.
    fn read(&mut self, wait: Duration) -> Result<Found, Ended> {
        self.pause_or_resume()?;
        let now = self.node.clock.now_ms();
        let (mut found, mut wait) = (Found::default(), wait);
        while found.records < READ_AT_ONCE {
            let (record, envelope) = match self.reader.poll(wait) {
                Ok(Some(record)) => {
                    let envelope = delivered::read_envelope(&record.content).map_err(|why| why.to_string());
                    (record, envelope)
                }
                Ok(None) => break,
                // Not ours, and not whole.
                Err(Error::Unreadable(record)) => (*record, Err("a header's name is not UTF-8".to_owned())),
                Err(error) => return Err(error.into()),
            };
            wait = Duration::ZERO;
            let due_ms = self.arrive(record, envelope);
            found.records += 1;
            found.overdue += usize::from(now.zip(due_ms).is_some_and(|(now, due_ms)| due_ms <= now));
        }
        for (inlet, partition) in Inlet::ALL.into_iter().zip(&self.inlets) {
            let position = self.reader.position(partition)?;
            self.lane.read_up_to(inlet, position);
        }
        let (held, beyond) = (self.lane.pending(), self.lane.settled_beyond());
        self.node.figures.holds(self.number, held, self.lane.next_due_ms(), beyond);
        Ok(found)
    }

    /// Hands a record to the lane; when it is due.
    fn arrive(&mut self, record: Record, envelope: Result<Envelope, String>) -> Option<i64> {
        let inlet = Inlet::ALL.into_iter().find(|i| self.inlets[*i as usize] == record.source)?;
        let (offset, timestamp_ms) = (record.offset, record.timestamp_ms);
        let arrival = match envelope {
            Ok(envelope) => {
                let topic = self.topic(&envelope.target.topic);
                held::message(inlet, offset, timestamp_ms, record.content, envelope, topic)
            }
            Err(reason) => {
                if let Some(left_out) = self.not_ours.tell() {
                    let job = &self.control.name;
                    error!(%job, ?inlet, offset, %reason, left_out, "not a message of ksched: dead-lettered");
                }
                held::foreign(inlet, offset, timestamp_ms, record.content, reason)
            }
        };
        let due_ms = arrival.due_ms;
        self.lane.arrive(arrival);
        Some(due_ms)
    }

    /// A target's name; neighbours for the same target share it.
    fn topic(&mut self, name: &str) -> Arc<str> {
        if *self.last_topic != *name {
            self.node.targets.want(name);
            self.last_topic = name.into();
        }
        Arc::clone(&self.last_topic)
    }

    /// Stops reading what memory or the positions' metadata have no room for.
    fn pause_or_resume(&mut self) -> Result<(), Ended> {
        let pressure = self.share.pressure(self.lane.bytes());
        self.tell(pressure);
        let stopped = match pressure {
            Pressure::Low => 0,
            Pressure::High => 1,
            Pressure::Full => INLETS,
        };
        for (place, inlet) in self.lane.furthest_from_due().into_iter().enumerate() {
            let pause = match self.lane.reading(inlet) {
                Reading::Free => place < stopped,
                Reading::Stopped => true,
                Reading::Needed => false,
            };
            let paused = &mut self.paused[inlet as usize];
            // Between low and high nothing is resumed, or it would flutter.
            if pause == *paused || (!pause && pressure == Pressure::High) {
                continue;
            }
            *paused = pause;
            let partition = std::slice::from_ref(&self.inlets[inlet as usize]);
            if pause { self.reader.pause(partition)? } else { self.reader.resume(partition)? }
        }
        Ok(())
    }

    /// Says, now and then, that messages wait unread for want of memory.
    fn tell(&mut self, pressure: Pressure) {
        if pressure != Pressure::Low && self.memory_is_short.tell().is_some() {
            let (job, held) = (&self.control.name, self.lane.pending());
            warn!(%job, held, "memory.limit: no more is read for now; messages may be late and out of order");
        }
    }

    fn ask_and_hear(&mut self) {
        for lookup in self.lane.lookups() {
            self.lookups.ask(lookup);
        }
        for (id, answer) in self.lookups.hear() {
            self.lane.lookup_answer(id, answer);
        }
    }

    /// Under load transactions keep their pace; after a pause one begins at once.
    fn paced(&self) -> bool {
        !self.firing.is_transactional() || self.began_at.elapsed() >= self.pace
    }

    fn fire(&mut self, now: i64, caution: &mut Caution) -> Result<(), Ended> {
        let cap = caution.cap(CAP);
        let targets = &self.node.targets;
        let firing = &self.firing;
        let mut alone = 0;
        let batch = self.lane.take(now, cap, |held| {
            if alone >= ALONE_MAX {
                return Gate::Stop;
            }
            let gate =
                gate(held, |topic, partition, bytes| firing.judge(targets, caution, topic, partition, bytes));
            alone += usize::from(held.verdict.get() == Some(&Verdict::SendAlone));
            gate
        });
        let Some(batch) = batch else { return Ok(()) };
        let is_backlog = self.lane.next_due_ms().is_some_and(|due| due <= now);
        // To judge a target may have taken a question to Kafka, and that its time.
        if !self.firing.may_fire() {
            return Err(Ended::Unclean("the lease is about to end".to_owned()));
        }
        let now = self.node.clock.now_ms().map_or(now, |later| later.max(now));
        (self.began_at, self.committed_at) = (Instant::now(), Instant::now());
        self.firing.fire(batch, now, caution)?;
        let pause = if is_backlog { PACE } else { 2 * self.began_at.elapsed() };
        self.pace = pause.clamp(PACE, PACE_MAX);
        Ok(())
    }

    fn commit_when_idle(&mut self) -> Result<(), Ended> {
        if self.committed_at.elapsed() < IDLE_COMMIT {
            return Ok(());
        }
        let positions = match self.lane.moved() {
            Some(positions) => positions,
            None if self.committed_at.elapsed() > KEEP_ALIVE => self.lane.positions(),
            None => return Ok(()),
        };
        self.committed_at = Instant::now();
        self.firing.commit(positions)
    }

    /// Until the next due time, the pace, or the next record.
    fn wait(&mut self, now: i64) -> Result<(), Ended> {
        let next = self
            .lane
            .next_due_ms()
            .map_or(WAIT_MAX, |due| Duration::from_millis(due.saturating_sub(now).max(0) as u64));
        let pace =
            if self.paced() { Duration::ZERO } else { self.pace.saturating_sub(self.began_at.elapsed()) };
        let wait = next.max(pace).min(WAIT_MAX);
        if next < LOOK_AHEAD
            && let Some(Held { body: Body::Message(message), .. }) = self.lane.first()
        {
            self.node.targets.soon(&message.topic);
        }
        if wait < POLL_MIN {
            self.node.host.sleep(wait.max(Duration::from_micros(100)));
            return Ok(());
        }
        // The rest is slept, or the poll's rounding up would make it late.
        self.read(wait - Duration::from_millis(1))?;
        Ok(())
    }
}

impl<L: Log> Drop for Holding<'_, L> {
    fn drop(&mut self) {
        self.node.figures.forget(self.number);
    }
}

/// A record is far ahead if no slot of level 1 that was open could hold it, by a
/// minute's margin for clocks. Fixed by the geometry, as it must be for the cluster's life.
fn settings(geometry: &Geometry) -> Settings {
    let far_ahead_ms = FAR_AHEAD_MARGIN_MS + geometry.lease_ttl_ms + 3 * geometry.slot_width_ms;
    Settings { far_ahead_ms, ..Settings::default() }
}
