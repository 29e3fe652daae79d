//! Counting acknowledgements of one producer.
//!
//! Trap 2: `BaseProducer::poll` and `flush` spin below a whole millisecond, so the
//! producer's own thread ([`polled`](crate::polled)) reports here and the sender waits on a condvar.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use rdkafka::{
    ClientContext, Message as _,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    producer::{DeliveryResult, ProducerContext},
};

use super::{
    failure,
    notes::{self, Notes},
    statistics::Part,
};
use crate::log::{Refusal, RefusalReason};

/// A record that was not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Undelivered {
    pub(super) tag: usize,
    pub(super) topic: Arc<str>,
    /// −1 if it never got one.
    pub(super) partition: i32,
    pub(super) code: Code,
}

#[derive(Debug, Default)]
struct State {
    settled: usize,
    /// Wake the waiter when so many are settled.
    awaited: usize,
    undelivered: Vec<Undelivered>,
}

/// How often a waiter looks whether its waiting is in vain.
const LOOK_UP_EVERY: Duration = Duration::from_millis(50);

/// Acknowledgements so far.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    state: Mutex<State>,
    progress: Condvar,
}

impl Deliveries {
    /// Waits until `count` records in all are settled, or there is no more use in
    /// waiting; whether they are.
    pub(super) fn wait_for(&self, count: usize, limit: Duration, mut in_vain: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.state.lock();
        state.awaited = count;
        while state.settled < count && Instant::now() < deadline && !in_vain() {
            self.progress.wait_until(&mut state, deadline.min(Instant::now() + LOOK_UP_EVERY));
        }
        state.settled >= count
    }

    /// Waits until one more record is settled than when called, or for `limit`.
    pub(super) fn wait_for_one(&self, limit: Duration) {
        let mut state = self.state.lock();
        state.awaited = state.settled + 1;
        self.progress.wait_for(&mut state, limit);
    }

    /// What was not acknowledged since the last call.
    pub(super) fn take_undelivered(&self) -> Vec<Undelivered> {
        std::mem::take(&mut self.state.lock().undelivered)
    }

    /// Settles a record that was refused before it was queued.
    pub(super) fn refuse(&self, undelivered: Undelivered) {
        self.settle(Some(undelivered));
    }

    fn settle(&self, undelivered: Option<Undelivered>) {
        let mut state = self.state.lock();
        state.settled += 1;
        state.undelivered.extend(undelivered);
        if state.settled == state.awaited {
            self.progress.notify_all();
        }
    }
}

/// What librdkafka calls back.
pub(super) struct Context {
    pub(super) deliveries: Arc<Deliveries>,
    pub(super) notes: Arc<Notes>,
    statistics: Option<Part>,
}

impl Context {
    pub(super) fn new(statistics: Option<Part>) -> Self {
        Self { deliveries: Arc::default(), notes: Arc::default(), statistics }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.notes.line(facility, text);
        notes::log(level, facility, text);
    }

    fn stats_raw(&self, report: &[u8]) {
        if let Some(statistics) = &self.statistics {
            statistics.note(report);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ProducerContext for Context {
    /// The caller's tag.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: usize) {
        let undelivered = result.as_ref().err().map(|(error, message)| Undelivered {
            tag,
            topic: message.topic().into(),
            partition: message.partition(),
            code: error.rdkafka_error_code().unwrap_or(Code::Unknown),
        });
        self.deliveries.settle(undelivered);
    }
}

/// The caller's refusals out of what librdkafka reported.
///
/// Trap: librdkafka does not split a batch, so one record too large fails all of its
/// batch with the same code, and so with timestamps and policies. Only a code that
/// is alone in its partition is about the record itself; else it is collateral, and
/// the caller tries the records one at a time.
pub(super) fn refusals(undelivered: &[Undelivered]) -> Vec<Refusal> {
    let mut in_partition: HashMap<(&str, i32), usize> = HashMap::new();
    for each in undelivered.iter().filter(|each| is_batch_wide(each.code)) {
        match in_partition.entry((&each.topic, each.partition)) {
            Entry::Occupied(mut count) => *count.get_mut() += 1,
            Entry::Vacant(first) => {
                first.insert(1);
            }
        }
    }
    let reason = |each: &Undelivered| {
        let shared = in_partition.get(&(&*each.topic, each.partition)).is_some_and(|&count| count > 1);
        if is_batch_wide(each.code) && shared {
            RefusalReason::Collateral(format!("{} (of its batch)", each.code))
        } else if failure::is_too_large(each.code) {
            RefusalReason::TooLarge
        } else {
            failure::refusal(each.code)
        }
    };
    undelivered.iter().map(|each| Refusal { tag: each.tag, reason: reason(each) }).collect()
}

fn is_batch_wide(code: Code) -> bool {
    failure::is_too_large(code) || matches!(failure::refusal(code), RefusalReason::Invalid(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn too_large(tag: usize, partition: i32) -> Undelivered {
        Undelivered { tag, topic: "t".into(), partition, code: Code::MessageSizeTooLarge }
    }

    #[test]
    fn too_large_is_only_said_of_a_record_alone_in_its_partition() {
        let refused = refusals(&[too_large(0, 0), too_large(1, 0), too_large(2, 1)]);
        assert!(matches!(refused[0].reason, RefusalReason::Collateral(_)));
        assert!(matches!(refused[1].reason, RefusalReason::Collateral(_)));
        assert_eq!(refused[2].reason, RefusalReason::TooLarge);
    }

    #[test]
    fn waiting_ends_at_the_count_or_at_the_limit() {
        let deliveries = Arc::new(Deliveries::default());
        deliveries.settle(None);
        assert!(!deliveries.wait_for(2, Duration::from_millis(5), || false));
        let other = Arc::clone(&deliveries);
        let thread = std::thread::spawn(move || other.wait_for(2, Duration::from_secs(30), || false));
        deliveries.refuse(too_large(7, 0));
        assert!(thread.join().unwrap());
        assert_eq!(deliveries.take_undelivered()[0].tag, 7);
        assert!(deliveries.take_undelivered().is_empty());
    }
}
