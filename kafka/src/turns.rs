//! The two transactional producers of one job, used in turn (design §4.1).
//!
//! Two, because a producer that begins while its last markers are still written
//! meets CONCURRENT_TRANSACTIONS (traps.md, rust-rdkafka, point 1). In turn, and
//! **the first transaction after any init on a**, because take-overs can overlap:
//! one holder may end up with a valid a, another with a valid b. Whoever lacks a
//! valid a then fails before it has fired anything, and whoever has one fails at
//! its second transaction: no two holders ever both fire.

use crate::log::{Error, Outgoing, Position, TopicPartition, TransactionError, TransactionalProducer};

/// Which of the two producers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    A,
    B,
}

impl Turn {
    fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not initialised, or something went wrong: only `take_over` helps, and after
    /// an error not even that: new producers are needed.
    Unusable,
    /// The last commit is known to have succeeded.
    Ready,
    Open,
}

/// Producers a and b of one job, and whose turn it is.
#[derive(Debug)]
pub struct Turns<P> {
    a: P,
    b: P,
    first: Turn,
    turn: Turn,
    state: State,
}

impl<P: TransactionalProducer> Turns<P> {
    /// Two producers that are not yet initialised.
    pub fn new(a: P, b: P) -> Self {
        Self::with_first(a, b, Turn::A)
    }

    /// For the test that shows why a must be first.
    #[doc(hidden)]
    pub fn with_first(a: P, b: P, first: Turn) -> Self {
        Self { a, b, first, turn: first, state: State::Unusable }
    }

    /// Initialises a, then b: fences the old holder and ends its open transactions.
    /// Afterwards, not before, committed positions may be read.
    pub fn take_over(&mut self) -> Result<(), Error> {
        self.state = State::Unusable;
        self.a.init()?;
        self.b.init()?;
        self.turn = self.first;
        self.state = State::Ready;
        Ok(())
    }

    /// Begins a transaction on the producer whose turn it is. Refused unless the
    /// last commit is known to have succeeded.
    pub fn begin(&mut self) -> Result<(), TransactionError> {
        if self.state != State::Ready {
            return Err(TransactionError::Unclean("the last transaction did not end well".to_owned()));
        }
        self.state = State::Unusable;
        self.current().begin()?;
        self.state = State::Open;
        Ok(())
    }

    /// Hands a record over within the open transaction.
    pub fn send(&mut self, tag: usize, record: Outgoing<'_>) -> Result<(), TransactionError> {
        self.within(|producer| producer.send(tag, record))
    }

    /// Waits until all records of the open transaction are acknowledged.
    pub fn flush(&mut self) -> Result<(), TransactionError> {
        self.within(P::flush)
    }

    /// Commits the open transaction; the next one is the other producer's.
    pub fn commit(&mut self, positions: &[(TopicPartition, Position)]) -> Result<(), TransactionError> {
        self.within(|producer| producer.commit(positions))?;
        self.turn = self.turn.other();
        self.state = State::Ready;
        Ok(())
    }

    fn current(&mut self) -> &mut P {
        match self.turn {
            Turn::A => &mut self.a,
            Turn::B => &mut self.b,
        }
    }

    /// Does something in the open transaction; an error ends the use of both producers.
    fn within(
        &mut self,
        act: impl FnOnce(&mut P) -> Result<(), TransactionError>,
    ) -> Result<(), TransactionError> {
        if self.state != State::Open {
            return Err(TransactionError::Unclean("no transaction is open".to_owned()));
        }
        let result = act(self.current());
        if result.is_err() {
            self.state = State::Unusable;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Writes down what it is told to do; fails at commit if told so.
    struct Scribe {
        name: char,
        said: Arc<Mutex<Vec<String>>>,
        fails_at_commit: Arc<Mutex<bool>>,
    }

    impl Scribe {
        fn say(&self, what: &str) {
            self.said.lock().unwrap().push(format!("{what} {}", self.name));
        }
    }

    impl TransactionalProducer for Scribe {
        fn init(&mut self) -> Result<(), Error> {
            self.say("init");
            Ok(())
        }

        fn begin(&mut self) -> Result<(), TransactionError> {
            self.say("begin");
            Ok(())
        }

        fn send(&mut self, _: usize, _: Outgoing<'_>) -> Result<(), TransactionError> {
            Ok(())
        }

        fn flush(&mut self) -> Result<(), TransactionError> {
            Ok(())
        }

        fn commit(&mut self, _: &[(TopicPartition, Position)]) -> Result<(), TransactionError> {
            if *self.fails_at_commit.lock().unwrap() {
                return Err(TransactionError::Unclean("as told".to_owned()));
            }
            Ok(())
        }
    }

    #[test]
    fn a_first_after_every_take_over_then_in_turn_and_nothing_after_a_failure() {
        let (said, fails) = (Arc::default(), Arc::default());
        let scribe = |name| Scribe { name, said: Arc::clone(&said), fails_at_commit: Arc::clone(&fails) };
        let mut turns = Turns::new(scribe('a'), scribe('b'));
        assert!(turns.begin().is_err(), "begun before any init");
        let fire = |turns: &mut Turns<Scribe>| turns.begin().and_then(|()| turns.commit(&[]));
        turns.take_over().unwrap();
        fire(&mut turns).unwrap();
        turns.take_over().unwrap();
        for _ in 0..3 {
            fire(&mut turns).unwrap();
        }
        *fails.lock().unwrap() = true;
        assert!(fire(&mut turns).is_err());
        *fails.lock().unwrap() = false;
        assert!(fire(&mut turns).is_err(), "begun after a failure");
        assert!(turns.commit(&[]).is_err(), "committed without a begin");
        let expected = "init a,init b,begin a,init a,init b,begin a,begin b,begin a,begin b";
        assert_eq!(said.lock().unwrap().join(","), expected);
    }
}
