//! What only a client's log says: of its connections (design §4.2), and which topics may not
//! be written to.
//!
//! librdkafka sends EndTxn again inside `commit_transaction` when the connection
//! broke or the request timed out, and then returns OK; the first EndTxn may still
//! arrive and hit the next transaction of the same epoch. Only log lines tell:
//! `FAIL` (`rd_kafka_broker_set_error`: disconnects, failed sends, failed connects)
//! and `REQTMOUT` (`rd_kafka_broker_timeout_scan`). A connection that nothing used
//! for `max(60 s, socket.timeout.ms)` closes at debug level
//! (`rd_kafka_broker_conn_closed`), so an idle lane's idle disconnect is no note.
//!
//! A topic that may not be written to is refused as it is added to the transaction, which
//! fails; all records are purged, and neither their errors nor the transaction's name it. A
//! line of `rd_kafka_txn_handle_AddPartitionsToTxn` (`ADDPARTS`) does. It is written, and
//! comes through the same queue, before the purged records do. The broker names those too
//! that it would have added but for the others (`KafkaApis.handleAddPartitionsToTxnRequest`).

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;

/// Facilities of the log lines that count.
const DISCONNECT: &str = "FAIL";
const REQUEST_TIMED_OUT: &str = "REQTMOUT";
const NOT_ADDED: &str = "ADDPARTS";
/// Between these is the topic that was not added, and then why.
const BEFORE_TOPIC: &str = "Failed to add partition \"";
const AFTER_TOPIC: char = '"';
const FORBIDDEN: &str = "Topic authorization failed";
/// Why the other topics of the same request were not added.
const NOT_ATTEMPTED: &str = "Operation not attempted";

/// Disconnects and time-outs a client has logged so far, and which topics it may write to.
#[derive(Debug, Default)]
pub(super) struct Notes {
    count: AtomicU64,
    last: Mutex<String>,
    forbidden: Mutex<HashSet<String>>,
    open: Mutex<HashSet<String>>,
}

impl Notes {
    /// How many so far.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// The text of the last one.
    pub(super) fn last(&self) -> String {
        self.last.lock().clone()
    }

    /// Whether this topic was found to be closed to the client.
    pub(super) fn is_forbidden(&self, topic: &str) -> bool {
        self.forbidden.lock().contains(topic)
    }

    /// Whether this topic was found to be open, beside one that is closed.
    pub(super) fn is_open(&self, topic: &str) -> bool {
        self.open.lock().contains(topic)
    }

    /// Takes note of a log line if it counts.
    pub(super) fn line(&self, facility: &str, text: &str) {
        if facility == DISCONNECT || facility == REQUEST_TIMED_OUT {
            text.clone_into(&mut self.last.lock());
            self.count.fetch_add(1, Ordering::Release);
        }
        let Some((topic, why)) = not_added(facility, text) else { return };
        for (said, topics) in [(FORBIDDEN, &self.forbidden), (NOT_ATTEMPTED, &self.open)] {
            if why.contains(said) {
                topics.lock().insert(topic.to_owned());
            }
        }
    }
}

/// The topic that was not added to a transaction, and the rest of the line. Names of topics have no quotes.
fn not_added<'a>(facility: &str, text: &'a str) -> Option<(&'a str, &'a str)> {
    if facility != NOT_ADDED {
        return None;
    }
    text.split_once(BEFORE_TOPIC)?.1.split_once(AFTER_TOPIC)
}

/// Hands a line of librdkafka's log to ours.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    // CONFWARN: a producer's property given to a consumer, or the like; pass-through
    // properties go to every client.
    // Topics that share a request with a forbidden one: as many lines as there are topics.
    let is_noise = not_added(facility, text).is_some_and(|(_, why)| why.contains(NOT_ATTEMPTED));
    if facility == "CONFWARN" || is_noise {
        return tracing::debug!(target: "librdkafka", facility, "{text}");
    }
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{text}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, "{text}");
        }
        _ => tracing::debug!(target: "librdkafka", facility, "{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as librdkafka 2.12.1 writes them.
    #[test]
    fn disconnects_and_time_outs_count_and_nothing_else() {
        let notes = Notes::default();
        notes.line("GETPID", "[thrd:main]: Acquired ProducerId 1 Epoch 0");
        notes.line("CONFWARN", "[thrd:app]: Configuration property x is a consumer property");
        assert_eq!(notes.count(), 0);
        let disconnected = "[thrd:TxnCoordinator]: TxnCoordinator: 127.0.0.1:1: Disconnected: connection closed by \
                            peer: receive 0 after POLLIN (after 12ms in state UP)";
        notes.line("FAIL", disconnected);
        notes.line(
            "REQTMOUT",
            "[thrd:x]: x: Timed out 1 in-flight, 0 retry-queued, 0 out-queue, 0 partially-sent",
        );
        assert_eq!(notes.count(), 2);
        assert!(notes.last().contains("Timed out"));
    }

    #[test]
    fn a_topic_that_may_not_be_written_to_is_named() {
        let notes = Notes::default();
        let line = |topic: &str, why: &str| {
            let coordinator = "[thrd:TxnCoordinator]: TxnCoordinator/1";
            let text = format!(
                "{coordinator}: Failed to add partition \"{topic}\" [0] to transaction: Broker: {why}"
            );
            notes.line("ADDPARTS", &text);
        };
        line("closed", "Topic authorization failed");
        line("open", "Operation not attempted");
        notes.line("ADDPARTS", "Unknown partition \"other\" [1] in AddPartitionsToTxn response: ignoring");
        let known = |topic: &str| (notes.is_forbidden(topic), notes.is_open(topic));
        assert_eq!(["closed", "open", "other"].map(known), [(true, false), (false, true), (false, false)]);
        assert_eq!(notes.count(), 0, "says nothing about a connection");
    }
}
