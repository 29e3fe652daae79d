//! A client that is made anew when it is of no use.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::log::Error;

/// A client that had no answer for so long is made anew: now and then one does not find its way back to a broker
/// that answers others (seen after everything had stood still: for minutes, `BrokerTransportFailure` each time).
const SILENT_LIMIT: Duration = Duration::from_secs(15);

/// A client made when it is first needed, and made anew when it has been of no use for [`SILENT_LIMIT`].
pub(super) struct Renewed<T> {
    make: Box<dyn Fn() -> Result<T, Error> + Send + Sync>,
    silent_limit: Duration,
    state: Mutex<Made<T>>,
}

struct Made<T> {
    client: Option<Arc<T>>,
    /// Since when no question was answered.
    silent_since: Option<Instant>,
}

impl<T> Renewed<T> {
    pub(super) fn new(make: impl Fn() -> Result<T, Error> + Send + Sync + 'static) -> Self {
        Self {
            make: Box::new(make),
            silent_limit: SILENT_LIMIT,
            state: Mutex::new(Made { client: None, silent_since: None }),
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
        let answer = question(&*self.get()?);
        let mut state = self.state.lock();
        if !matches!(answer, Err(Error::Unavailable(_))) {
            state.silent_since = None;
        } else if state.silent_since.get_or_insert_with(Instant::now).elapsed() >= self.silent_limit {
            tracing::info!("a Kafka client that had no answer for long is made anew");
            // Whoever asks just now still has it.
            *state = Made { client: None, silent_since: None };
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_client_is_kept_as_long_as_it_has_answers() {
        let made = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        let mut renewed = Renewed::new(move || Ok(counted.fetch_add(1, Ordering::Relaxed) + 1));
        renewed.silent_limit = Duration::from_millis(50);
        let silent =
            || -> Result<usize, Error> { renewed.ask(|_| Err(Error::Unavailable("silence".to_owned()))) };
        let which = || renewed.ask(|client| Ok(*client)).unwrap();
        assert!(silent().is_err());
        std::thread::sleep(Duration::from_millis(60));
        // An answer lies between: the silence begins anew, and a refusal is an answer.
        assert_eq!(which(), 1);
        assert!(silent().is_err());
        assert!(renewed.ask(|_| -> Result<(), Error> { Err(Error::Refused("no".to_owned())) }).is_err());
        std::thread::sleep(Duration::from_millis(60));
        assert!(silent().is_err());
        assert_eq!(which(), 1);
        assert!(silent().is_err());
        std::thread::sleep(Duration::from_millis(60));
        assert!(silent().is_err());
        assert_eq!(which(), 2);
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }
}
