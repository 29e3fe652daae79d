//! The judge of the lane: three logs, a lane in changing hands, and whatever may
//! happen in between. Every message is to be handled exactly once, never early, and
//! in order within a batch. The sabotage tests show that the judge sees what it
//! should: each takes away one thing the lane relies on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestError, TestRunner},
};

use super::{staircase::Staircase, *};

const START_MS: i64 = 1_795_000_000_000;
const INTAKE: usize = Inlet::Intake as usize;
const PROMOTED: usize = Inlet::Promoted as usize;
const SETTINGS: Settings = Settings { far_ahead_ms: 150, window_ms: 1 << 40 };
const ALL: Cap = Cap { count: usize::MAX, bytes: usize::MAX };

#[derive(Clone, Debug)]
struct Record {
    due_ms: i64,
    not_before_ms: i64,
    timestamp_ms: i64,
    scheduled_at_us: i64,
    origin: u32,
    identity: Option<Identity>,
    body: u64,
    /// Tells messages apart; copies share it.
    message: Message,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Message {
    Plain(usize),
    Attempted(u8),
    Requested(u8),
}

impl Record {
    fn effective_due_ms(&self) -> i64 {
        self.due_ms.max(self.not_before_ms)
    }

    fn key(&self, inlet: Inlet, offset: i64) -> (i64, i64, u32, usize, i64) {
        let far = self.effective_due_ms() - self.timestamp_ms > SETTINGS.far_ahead_ms;
        let time = if far { self.timestamp_ms } else { self.effective_due_ms() };
        let rank = [1, 2, 0][inlet as usize];
        (time, self.scheduled_at_us, self.origin, rank, offset)
    }
}

#[derive(Clone, Copy, Debug)]
enum Sabotage {
    None,
    /// New holders see the longest-reaching step only.
    OneStep,
    /// New holders see no steps.
    NoSteps,
    /// New holders do not read the control partition.
    NoMarkers,
    /// Lookups find nothing.
    BlindLookups,
}

#[derive(Clone, Debug)]
enum Who {
    Plain,
    Attempt { id: u8, number: u32 },
    Request { id: u8, body: u8 },
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Committed,
    /// Committed, but the holder does not know, and starts over.
    Unclean,
    Lost,
}

#[derive(Clone, Debug)]
enum Op {
    Append {
        inlet: usize,
        due_in: i64,
        scheduled: i64,
        who: Who,
    },
    /// Many with the same due time.
    Ties {
        inlet: usize,
        due_in: i64,
        count: usize,
    },
    /// Pairs of ever earlier due times, one of each pair settled: a step for each. Some
    /// 170 fill the metadata.
    Ladder {
        rungs: i64,
        heed: bool,
    },
    /// An offset without a record.
    Gap {
        inlet: usize,
    },
    /// `heed`: stop when told to.
    Read {
        inlet: usize,
        count: usize,
        heed: bool,
    },
    Pass {
        ms: i64,
    },
    Take {
        cap: Cap,
        gates: u64,
        outcome: Outcome,
    },
    CommitMoved,
    TakeOver {
        skew_ms: i64,
    },
    Promote,
    LookUp,
    Answer,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let due_in = prop_oneof![4 => (-5_i64..10).prop_map(|t| t * 10), 2 => -60_i64..140, 1 => 140_i64..500];
    let who = prop_oneof![
        4 => Just(Who::Plain),
        4 => (0..4_u8, 1..5_u32).prop_map(|(id, number)| Who::Attempt { id, number }),
        2 => (0..3_u8, 0..2_u8).prop_map(|(id, body)| Who::Request { id, body }),
    ];
    let cap = prop_oneof![
        2 => Just(ALL),
        3 => (1..6_usize).prop_map(|count| Cap { count, bytes: usize::MAX }),
        1 => (0..90_usize).prop_map(|bytes| Cap { count: usize::MAX, bytes }),
    ];
    let gates = prop_oneof![2 => Just(0), 1 => any::<u64>()];
    let outcome = prop_oneof![
        6 => Just(Outcome::Committed), 1 => Just(Outcome::Unclean), 2 => Just(Outcome::Lost)
    ];
    let op = prop_oneof![
        14 => (0..3_usize, due_in.clone(), 0..4_i64, who)
            .prop_map(|(inlet, due_in, scheduled, who)| Op::Append { inlet, due_in, scheduled, who }),
        1 => (0..3_usize, due_in, 1..300_usize).prop_map(|(inlet, due_in, count)| Op::Ties { inlet, due_in, count }),
        1 => (prop_oneof![1..8_i64, 150..300_i64], any::<bool>()).prop_map(|(rungs, heed)| Op::Ladder { rungs, heed }),
        1 => (0..3_usize).prop_map(|inlet| Op::Gap { inlet }),
        10 => (0..3_usize, prop_oneof![4 => 1..9_usize, 1 => Just(1_000)], any::<bool>())
            .prop_map(|(inlet, count, heed)| Op::Read { inlet, count, heed }),
        4 => (-40_i64..120).prop_map(|ms| Op::Pass { ms }),
        9 => (cap, gates, outcome).prop_map(|(cap, gates, outcome)| Op::Take { cap, gates, outcome }),
        1 => Just(Op::CommitMoved),
        2 => (-60_i64..60).prop_map(|skew_ms| Op::TakeOver { skew_ms }),
        1 => Just(Op::Promote),
        2 => Just(Op::LookUp),
        3 => Just(Op::Answer),
    ];
    proptest::collection::vec(op, 1..120)
}

struct World {
    sabotage: Sabotage,
    clock_ms: i64,
    /// `None`: a transaction marker.
    logs: [Vec<Option<Record>>; INLETS],
    wheel: Vec<Record>,
    control: BTreeMap<Vec<u8>, Vec<u8>>,
    committed: [Committed; INLETS],
    appended: Vec<Record>,
    fired: Vec<Record>,
    conflicts: Vec<Record>,
    holder: Holder,
}

struct Holder {
    lane: Lane<Record>,
    skew_ms: i64,
    read: [usize; INLETS],
    answers: VecDeque<([u8; 16], Answer)>,
    asked: Vec<Lookup>,
}

type Check = Result<(), TestCaseError>;

impl World {
    fn new(sabotage: Sabotage) -> Self {
        let committed: [Committed; INLETS] = Default::default();
        let holder = Holder {
            lane: Lane::new(&committed, SETTINGS, START_MS).unwrap(),
            skew_ms: 0,
            read: [0; INLETS],
            answers: VecDeque::new(),
            asked: vec![],
        };
        Self {
            sabotage,
            clock_ms: START_MS,
            logs: Default::default(),
            wheel: vec![],
            control: BTreeMap::new(),
            committed,
            appended: vec![],
            fired: vec![],
            conflicts: vec![],
            holder,
        }
    }

    fn now_ms(&self) -> i64 {
        self.clock_ms + self.holder.skew_ms
    }

    fn run(&mut self, op: Op) -> Check {
        match op {
            Op::Append { inlet, due_in, scheduled, who } => self.schedule(inlet, due_in, scheduled, who),
            Op::Ties { inlet, due_in, count } => {
                (0..count).for_each(|i| self.schedule(inlet, due_in, i as i64 % 2, Who::Plain));
            }
            Op::Ladder { rungs, heed } => return self.ladder(rungs, heed),
            Op::Gap { inlet } => self.logs[inlet].push(None),
            Op::Read { inlet, count, heed } => self.read(inlet, count, heed),
            Op::Pass { ms } => self.clock_ms += ms,
            Op::Take { cap, gates, outcome } => return self.take(cap, gates, outcome).map(drop),
            Op::CommitMoved => {
                if let Some(positions) = self.holder.lane.moved() {
                    return self.commit(positions);
                }
            }
            Op::TakeOver { skew_ms } => self.take_over(skew_ms),
            Op::Promote => self.promote(),
            Op::LookUp => self.look_up(),
            Op::Answer => {
                if let Some((id, answer)) = self.holder.answers.pop_front() {
                    self.holder.lane.lookup_answer(id, answer);
                }
            }
        }
        Ok(())
    }

    fn schedule(&mut self, inlet: usize, due_in: i64, scheduled: i64, who: Who) {
        let sent = self.appended.len();
        let (message, identity, body) = match who {
            Who::Plain => (Message::Plain(sent), None, 0),
            Who::Attempt { id, number } => {
                let identity = Identity::Attempt { id: [id; 16], number, first_at_ms: START_MS };
                if self.appended.iter().any(|r| r.identity.as_ref() == Some(&identity)) {
                    return;
                }
                (Message::Attempted(id), Some(identity), 0)
            }
            Who::Request { id, body } => {
                (Message::Requested(id), Some(Identity::Request(format!("r{id}").into())), u64::from(body))
            }
        };
        // All copies of a message have one due time.
        let twin = self.appended.iter().find(|r| r.message == message && r.body == body);
        let record = Record {
            due_ms: twin.map_or(self.clock_ms + due_in, |r| r.due_ms),
            not_before_ms: i64::MIN,
            timestamp_ms: self.clock_ms,
            scheduled_at_us: self.clock_ms * 1_000 - scheduled * 20_000,
            origin: (scheduled % 2) as u32,
            identity,
            body,
            message,
        };
        self.appended.push(record.clone());
        self.append(inlet, record);
    }

    fn append(&mut self, inlet: usize, record: Record) {
        self.logs[inlet].push(Some(Record { timestamp_ms: self.clock_ms, ..record }));
    }

    fn ladder(&mut self, rungs: i64, heed: bool) -> Check {
        for rung in 0..rungs {
            let due_in = -rung - 1_000 * self.appended.len() as i64;
            self.schedule(0, due_in, 1, Who::Plain);
            self.schedule(0, due_in, 0, Who::Plain);
            self.read(0, usize::MAX, heed);
            self.take(Cap { count: 1, bytes: 0 }, 0, Outcome::Committed)?;
        }
        Ok(())
    }

    fn read(&mut self, inlet: usize, count: usize, heed: bool) {
        for _ in 0..count {
            let at = self.holder.read[inlet];
            let stopped = self.holder.lane.reading(Inlet::ALL[inlet]) == Reading::Stopped;
            let Some(slot) = self.logs[inlet].get(at) else { break };
            if heed && stopped {
                break;
            }
            self.holder.read[inlet] = at + 1;
            match slot {
                None => self.holder.lane.read_up_to(Inlet::ALL[inlet], at as i64 + 1),
                Some(record) => self.holder.lane.arrive(Arrival {
                    inlet: Inlet::ALL[inlet],
                    offset: at as i64,
                    timestamp_ms: record.timestamp_ms,
                    due_ms: record.effective_due_ms(),
                    scheduled_at_us: record.scheduled_at_us,
                    origin: record.origin,
                    identity: record.identity.clone(),
                    body_hash: record.body,
                    size: 10,
                    payload: record.clone(),
                }),
            }
        }
    }

    /// Whether there was anything to take.
    fn take(&mut self, cap: Cap, gates: u64, outcome: Outcome) -> Result<bool, TestCaseError> {
        let now_ms = self.now_ms();
        let mut asked = 0;
        let gate = |_: &Record| {
            asked += 1;
            match gates >> (2 * (asked % 32)) & 3 {
                2 => Gate::PutOff,
                3 => Gate::Stop,
                _ => Gate::Fire,
            }
        };
        let next_due_ms = self.holder.lane.next_due_ms();
        let Some(batch) = self.holder.lane.take(now_ms, cap, gate) else {
            prop_assert!(gates != 0 || next_due_ms.is_none_or(|t| t > now_ms), "nothing taken though due");
            return Ok(false);
        };
        prop_assert!(batch.entries.len() <= cap.count && (batch.entries.len() - 1) * 10 <= cap.bytes);
        let keys: Vec<_> = batch.entries.iter().map(|e| e.payload.key(e.inlet, e.offset)).collect();
        prop_assert!(keys.is_sorted(), "out of order: {:?}", keys);
        for entry in &batch.entries {
            let due_ms = entry.payload.effective_due_ms();
            prop_assert!(due_ms <= now_ms || entry.action == Action::ReturnToWheel, "early: {entry:?}");
        }
        if !matches!(outcome, Outcome::Lost) {
            self.apply(batch, now_ms)?;
        }
        if !matches!(outcome, Outcome::Committed) {
            self.take_over(self.holder.skew_ms);
        }
        Ok(true)
    }

    fn apply(&mut self, batch: Batch<Record>, now_ms: i64) -> Check {
        for Entry { action, payload, .. } in batch.entries {
            match action {
                Action::Fire => self.fired.push(payload),
                Action::PutOff => self.append(INTAKE, Record { not_before_ms: now_ms + 30, ..payload }),
                Action::AwaitAnswer => self.append(INTAKE, Record { not_before_ms: now_ms + 10, ..payload }),
                Action::ReturnToWheel => self.wheel.push(payload),
                Action::Duplicate => {}
                Action::Conflict => self.conflicts.push(payload),
            }
        }
        for id in batch.forgotten {
            self.control.remove(&id.encode());
        }
        for marker in batch.markers {
            self.control.insert(marker.id.encode(), marker.value());
        }
        self.logs[INTAKE].push(None);
        self.commit(batch.positions)
    }

    fn commit(&mut self, positions: [Committed; INLETS]) -> Check {
        for (old, new) in self.committed.iter().zip(&positions) {
            prop_assert!(new.offset >= old.offset, "position went back");
            prop_assert!(new.metadata.len() <= METADATA_LIMIT, "{} bytes of metadata", new.metadata.len());
        }
        self.committed = positions;
        Ok(())
    }

    fn take_over(&mut self, skew_ms: i64) {
        let seen = self.committed.clone().map(|c| Committed { metadata: self.sabotaged(&c.metadata), ..c });
        let mut lane = Lane::new(&seen, SETTINGS, self.clock_ms + skew_ms).unwrap();
        if !matches!(self.sabotage, Sabotage::NoMarkers) {
            for (key, value) in &self.control {
                lane.remember(Marker::decode(key, value).unwrap());
            }
        }
        let read = self.committed.each_ref().map(|c| c.offset as usize);
        self.holder = Holder { lane, skew_ms, read, answers: VecDeque::new(), asked: vec![] };
    }

    fn sabotaged(&self, metadata: &str) -> String {
        match self.sabotage {
            Sabotage::OneStep => Staircase::decode(metadata).unwrap().only_last().encode(),
            Sabotage::NoSteps => String::new(),
            _ => metadata.to_owned(),
        }
    }

    fn promote(&mut self) {
        for record in std::mem::take(&mut self.wheel) {
            self.append(PROMOTED, record);
        }
    }

    /// Looks up what was asked before the last time this was called, so that much may
    /// happen between question, look and answer.
    fn look_up(&mut self) {
        for lookup in std::mem::take(&mut self.holder.asked) {
            let first = |r: &Record| matches!(r.identity, Some(Identity::Attempt { id, number: 1, .. }) if id == lookup.id);
            let found = self.logs.iter().flatten().flatten().any(first);
            let blind = matches!(self.sabotage, Sabotage::BlindLookups);
            let answer = if found && !blind { Answer::Found } else { Answer::Absent };
            self.holder.answers.push_back((lookup.id, answer));
        }
        self.holder.asked = self.holder.lane.lookups();
    }

    /// Lets time pass until there is nothing left to do, then counts.
    fn finish(&mut self) -> Check {
        for _ in 0..60 {
            self.clock_ms += 100;
            self.promote();
            loop {
                let before = self.holder.read;
                (0..INLETS).for_each(|inlet| self.read(inlet, usize::MAX, true));
                let took = self.take(Cap { count: 50, bytes: usize::MAX }, 0, Outcome::Committed)?;
                if !took && before == self.holder.read {
                    break;
                }
            }
            self.look_up();
            while let Some((id, answer)) = self.holder.answers.pop_front() {
                self.holder.lane.lookup_answer(id, answer);
            }
        }
        if let Some(positions) = self.holder.lane.moved() {
            self.commit(positions)?;
        }
        self.count()
    }

    fn count(&self) -> Check {
        for (log, position) in self.logs.iter().zip(&self.committed) {
            let end = Committed { offset: log.len() as i64, metadata: String::new() };
            prop_assert_eq!(position, &end, "something is left");
        }
        prop_assert_eq!((self.holder.lane.pending(), self.holder.lane.bytes()), (0, 0));
        let mut fired: Vec<_> = self.fired.iter().map(|r| r.message).collect();
        fired.sort();
        let expected: BTreeSet<_> = self.appended.iter().map(|r| r.message).collect();
        prop_assert_eq!(fired, expected.into_iter().collect::<Vec<_>>(), "fired against scheduled");
        let body = |record: &Record| self.fired.iter().find(|f| f.message == record.message).map(|f| f.body);
        let differs = |record: &&Record| body(record) != Some(record.body);
        let expected = self.appended.iter().filter(differs).count();
        prop_assert_eq!(self.conflicts.len(), expected, "request ids with another body");
        prop_assert!(self.conflicts.iter().all(|r| differs(&r)));
        Ok(())
    }
}

fn judge(ops: Vec<Op>, sabotage: Sabotage) -> Check {
    let mut world = World::new(sabotage);
    for op in ops {
        world.run(op)?;
    }
    world.finish()
}

proptest! {
    #![proptest_config(Config::with_cases(600))]
    #[test]
    fn every_message_is_handled_exactly_once(ops in ops()) {
        judge(ops, Sabotage::None)?;
    }
}

/// What the judge has to say of a lane that is sabotaged.
fn verdict(sabotage: Sabotage) -> String {
    let config = Config { cases: 3_000, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    match runner.run(&ops(), |ops| judge(ops, sabotage)) {
        Ok(()) => "nothing".to_owned(),
        Err(TestError::Fail(reason, _)) => reason.message().to_owned(),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

#[test]
fn the_judge_sees_a_staircase_of_one_step() {
    assert!(verdict(Sabotage::OneStep).contains("fired against scheduled"));
    assert!(verdict(Sabotage::NoSteps).contains("fired against scheduled"));
}

#[test]
fn the_judge_sees_forgotten_markers() {
    assert!(verdict(Sabotage::NoMarkers).contains("fired against scheduled"));
}

#[test]
fn the_judge_sees_lookups_that_find_nothing() {
    assert!(verdict(Sabotage::BlindLookups).contains("fired against scheduled"));
}

/// More steps than the metadata has room for, and holders that come and go before they
/// have read what the last one had read.
#[test]
fn a_full_staircase_stays_within_its_limit_and_gets_free_again() {
    let one = Cap { count: 1, bytes: 0 };
    let run = || -> Check {
        let mut world = World::new(Sabotage::None);
        // Keeps the offset where it is.
        world.schedule(0, 140, 0, Who::Plain);
        world.ladder(120, true)?;
        for _ in 0..100 {
            let due_in = -1_000 * world.appended.len() as i64;
            world.schedule(0, due_in, 0, Who::Plain);
        }
        world.read(0, usize::MAX, true);
        world.take(one, 0, Outcome::Committed)?;
        world.ladder(400, true)?;
        prop_assert_eq!(world.holder.lane.reading(Inlet::Direct), Reading::Stopped);
        prop_assert_eq!(world.holder.lane.reading(Inlet::Promoted), Reading::Free);
        let steps = Staircase::decode(&world.committed[0].metadata).unwrap().steps();
        prop_assert!(steps >= 100, "{} steps", steps);
        for count in 0..100 {
            world.take_over(0);
            world.read(0, 241 + count, true);
            world.take(one, 0, Outcome::Committed)?;
        }
        prop_assert_eq!(world.holder.lane.reading(Inlet::Direct), Reading::Needed);
        prop_assert_eq!(world.holder.lane.next_due_ms(), None);
        world.finish()
    };
    run().unwrap();
}
