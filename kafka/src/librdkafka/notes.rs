//! What a client's log says about its connections (design §4.2).
//!
//! librdkafka sends EndTxn again inside `commit_transaction` when the connection
//! broke or the request timed out, and then returns OK; the first EndTxn may still
//! arrive and hit the next transaction of the same epoch. Only log lines tell:
//! `FAIL` (`rd_kafka_broker_set_error`: disconnects, failed sends, failed connects)
//! and `REQTMOUT` (`rd_kafka_broker_timeout_scan`). A connection that nothing used
//! for `max(60 s, socket.timeout.ms)` closes at debug level
//! (`rd_kafka_broker_conn_closed`), so an idle lane's idle disconnect is no note.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;

/// Facilities of the log lines that count.
const DISCONNECT: &str = "FAIL";
const REQUEST_TIMED_OUT: &str = "REQTMOUT";

/// Disconnects and time-outs a client has logged so far.
#[derive(Debug, Default)]
pub(super) struct Notes {
    count: AtomicU64,
    last: Mutex<String>,
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

    /// Takes note of a log line if it counts.
    pub(super) fn line(&self, facility: &str, text: &str) {
        if facility == DISCONNECT || facility == REQUEST_TIMED_OUT {
            text.clone_into(&mut self.last.lock());
            self.count.fetch_add(1, Ordering::Release);
        }
    }
}

/// Hands a line of librdkafka's log to ours.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    // CONFWARN: a producer's property given to a consumer, or the like; pass-through
    // properties go to every client.
    if facility == "CONFWARN" {
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
}
