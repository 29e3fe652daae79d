//! The bound on what lanes hold in memory (design §5): overload shows as
//! lateness, never as a dead process.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Memory for messages of all lanes of a process.
#[derive(Debug)]
pub(crate) struct Budget {
    messages: usize,
    lanes: AtomicUsize,
}

/// One lane's part of it, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Share(Arc<Budget>);

/// How full a lane's share is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    /// Read on.
    Low,
    /// Stop reading the inlet whose messages are due furthest ahead.
    High,
    /// Stop reading.
    Full,
}

impl Budget {
    /// `limit` in bytes, of the whole process. Messages have two fifths of it: the rest is
    /// for records on their way through Kafka clients (a batch being fired, what is
    /// fetched ahead), what the allocator does not give back, and some 40 MB for the
    /// clients themselves. Measured with 300,000 due in the same ten seconds.
    pub(crate) fn new(limit: usize) -> Self {
        Self { messages: limit / 5 * 2, lanes: AtomicUsize::new(0) }
    }

    /// A lane's equal share.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        self.lanes.fetch_add(1, Ordering::Relaxed);
        Share(self.clone())
    }
}

impl Share {
    /// Judges a lane that holds `bytes`.
    pub(crate) fn pressure(&self, bytes: usize) -> Pressure {
        let share = self.0.messages / self.0.lanes.load(Ordering::Relaxed).max(1);
        if bytes < share / 4 * 3 {
            Pressure::Low
        } else if bytes < share {
            Pressure::High
        } else {
            Pressure::Full
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.lanes.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_share_evenly_and_give_back() {
        let budget = Arc::new(Budget::new(2_500));
        let first = budget.share();
        assert_eq!(first.pressure(700), Pressure::Low);
        let second = budget.share();
        assert_eq!(first.pressure(400), Pressure::High);
        assert_eq!(second.pressure(500), Pressure::Full);
        drop(second);
        assert_eq!(first.pressure(700), Pressure::Low);
    }
}
