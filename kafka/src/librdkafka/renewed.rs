//! A client that is made anew when it is of no use.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::log::Error;

/// A client that has failed to answer for so long is made anew: now and then one does not find its way back to a
/// broker that answers others (seen after everything had stood still: for minutes, `BrokerTransportFailure` each
/// time). That it answers something else meanwhile does not help: it was metadata that failed, and offsets came.
const FAILING_LIMIT: Duration = Duration::from_secs(15);
/// A question that fails so long after the last failure begins another row. Longer than any caller waits before it asks
/// again (a minute, `server/src/coordinator/watch.rs`). What answers now and then loses a client that may be sound: no harm.
const ROW_GAP: Duration = Duration::from_secs(90);

/// A client made when it is first needed, and made anew when it has failed for [`FAILING_LIMIT`].
pub(super) struct Renewed<T> {
    make: Box<dyn Fn() -> Result<T, Error> + Send + Sync>,
    failing_limit: Duration,
    row_gap: Duration,
    state: Mutex<Made<T>>,
}

struct Made<T> {
    client: Option<Arc<T>>,
    /// First and last of a row of questions without an answer.
    failing: Option<(Instant, Instant)>,
}

impl<T> Renewed<T> {
    pub(super) fn new(make: impl Fn() -> Result<T, Error> + Send + Sync + 'static) -> Self {
        Self {
            make: Box::new(make),
            failing_limit: FAILING_LIMIT,
            row_gap: ROW_GAP,
            state: Mutex::new(Made { client: None, failing: None }),
        }
    }

    pub(super) fn get(&self) -> Result<Arc<T>, Error> {
        let mut state = self.state.lock();
        if let Some(client) = &state.client {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new((self.make)()?);
        state.client = Some(Arc::clone(&client));
        Ok(client)
    }

    /// A question, and what its answer says of the client.
    pub(super) fn ask<A>(&self, question: impl FnOnce(&T) -> Result<A, Error>) -> Result<A, Error> {
        let client = self.get()?;
        let asked_at = Instant::now();
        let answer = question(&client);
        if !matches!(answer, Err(Error::Unavailable(_))) {
            return answer;
        }
        let (mut state, now) = (self.state.lock(), Instant::now());
        let since = match state.failing {
            Some((since, last)) if asked_at.saturating_duration_since(last) < self.row_gap => since,
            _ => now,
        };
        state.failing = Some((since, now));
        if now - since >= self.failing_limit {
            tracing::info!("a Kafka client that fails to answer is made anew");
            // Whoever asks just now still has it.
            *state = Made { client: None, failing: None };
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_client_that_goes_on_failing_is_made_anew_whatever_else_it_answers() {
        let made = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        let mut renewed = Renewed::new(move || Ok(counted.fetch_add(1, Ordering::Relaxed) + 1));
        (renewed.failing_limit, renewed.row_gap) = (Duration::from_millis(300), Duration::from_millis(200));
        let fail =
            || -> Result<usize, Error> { renewed.ask(|_| Err(Error::Unavailable("silence".to_owned()))) };
        let which = || renewed.ask(|client| Ok(*client)).unwrap();
        // Now and then is no row, and a refusal is an answer.
        for _ in 0..3 {
            assert!(fail().is_err());
            assert!(renewed.ask(|_| -> Result<(), Error> { Err(Error::Refused("no".to_owned())) }).is_err());
            std::thread::sleep(Duration::from_millis(210));
        }
        assert_eq!(which(), 1);
        let began_at = Instant::now();
        while which() == 1 {
            assert!(fail().is_err());
            assert!(began_at.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(began_at.elapsed() >= Duration::from_millis(300));
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }
}
