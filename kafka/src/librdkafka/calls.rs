//! Calls of a transactional producer that are waited for only as long as there is use in it.
//!
//! Trap: librdkafka's limits do not hold. `send_offsets_to_transaction` waits for its group's
//! coordinator in `rd_kafka_coord_req_fsm`, which never looks at `creq_ts_timeout` and is only
//! run again when the state of some broker of this client changes. When that coordinator died
//! inside the call it took 18 s and 110 s, until another broker was restarted. So each producer
//! has a thread for such calls; one that is given up ends with its call, and its client with it.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{error::KafkaResult, producer::BaseProducer};

use super::deliveries::Context;
use crate::log::Error;

/// How often a waiter looks whether its waiting is in vain.
const LOOK_UP_EVERY: Duration = Duration::from_millis(50);

type Call = Box<dyn FnOnce(&BaseProducer<Context>) -> KafkaResult<()> + Send>;

/// The way to a producer's thread, which ends when this is dropped and its last call is over.
pub(super) struct Calls(mpsc::Sender<(Call, mpsc::Sender<KafkaResult<()>>)>);

impl Calls {
    pub(super) fn start(producer: Arc<BaseProducer<Context>>) -> Result<Self, Error> {
        let (calls, asked) = mpsc::channel::<(Call, mpsc::Sender<KafkaResult<()>>)>();
        let serve = move || {
            while let Ok((call, answer)) = asked.recv() {
                // Nobody hears it any more who has given the call up.
                let _ = answer.send(call(&producer));
            }
        };
        let thread = thread::Builder::new().name("kafka-calls".to_owned()).spawn(serve);
        thread.map_err(|error| Error::Unavailable(format!("no thread: {error}")))?;
        Ok(Self(calls))
    }

    /// Begins a call.
    pub(super) fn begin(
        &self,
        call: impl FnOnce(&BaseProducer<Context>) -> KafkaResult<()> + Send + 'static,
    ) -> Pending {
        let (answer, heard) = mpsc::channel();
        // Without a thread nobody answers.
        let _ = self.0.send((Box::new(call), answer));
        Pending { heard, result: None }
    }

    /// Makes a call and waits for it.
    pub(super) fn make(
        &self,
        limit: Duration,
        in_vain: impl Fn() -> bool,
        call: impl FnOnce(&BaseProducer<Context>) -> KafkaResult<()> + Send + 'static,
    ) -> Option<KafkaResult<()>> {
        self.begin(call).wait(limit, in_vain)
    }
}

/// A call under way.
pub(super) struct Pending {
    heard: mpsc::Receiver<KafkaResult<()>>,
    result: Option<KafkaResult<()>>,
}

impl Pending {
    /// Whether it has ended with an error by now.
    pub(super) fn has_failed(&mut self) -> bool {
        if self.result.is_none() {
            self.result = self.heard.try_recv().ok();
        }
        matches!(self.result, Some(Err(_)))
    }

    /// The call's result; `None` when it takes longer than `limit` from now, or waiting is in vain. Then
    /// it may still be under way, and its producer is of no more use.
    pub(super) fn wait(self, limit: Duration, in_vain: impl Fn() -> bool) -> Option<KafkaResult<()>> {
        if self.result.is_some() {
            return self.result;
        }
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.heard.recv_timeout(left.min(LOOK_UP_EVERY)) {
                Ok(result) => return Some(result),
                Err(mpsc::RecvTimeoutError::Timeout) if left > Duration::ZERO && !in_vain() => {}
                Err(_) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::queue::Queue, *};

    #[test]
    fn a_call_that_does_not_end_is_given_up() {
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", "127.0.0.1:9");
        let queue = Queue::new(&config, None).unwrap();
        let calls = Calls::start(queue.client().unwrap().shared()).unwrap();
        let soon = Duration::from_secs(30);
        assert!(matches!(calls.make(soon, || false, |_| Ok(())), Some(Ok(()))));
        let (end, ended) = mpsc::channel::<()>();
        let hang = move |_: &BaseProducer<Context>| {
            let _ = ended.recv();
            Ok(())
        };
        let began_at = Instant::now();
        assert!(calls.make(soon, || true, hang).is_none(), "in vain");
        assert!(calls.make(Duration::from_millis(120), || false, |_| Ok(())).is_none(), "beyond its limit");
        assert!(began_at.elapsed() < soon / 2);
        drop(end);
        assert!(matches!(calls.make(soon, || false, |_| Ok(())), Some(Ok(()))));

        let mut failing = calls.begin(|_| Err(rdkafka::error::KafkaError::Canceled));
        while !failing.has_failed() {
            assert!(began_at.elapsed() < soon);
            thread::sleep(Duration::from_millis(1));
        }
        assert!(matches!(failing.wait(soon, || false), Some(Err(_))), "still to be had");
    }
}
