//! One stream for all messages.

use std::sync::Arc;

use super::{Pace, Work};
use crate::{Client, bench::report::Generated, client::stream::Answers};

/// Unsettled messages at once: one second without answers at 100,000/s, twenty
/// at 5,000/s.
const WINDOW: usize = 100_000;
/// Outcomes taken at once.
const TAKE: usize = 1_024;

pub(super) async fn send(work: Work, mut pace: Pace, client: Client) -> Generated {
    let (mut sender, mut outcomes) = client.stream(Answers::Coalesced, WINDOW);
    let (ledger, first) = (Arc::clone(&work.ledger), work.first);
    let settle = async move {
        let mut taken = Vec::with_capacity(TAKE);
        while outcomes.next_many(&mut taken, TAKE).await > 0 {
            for outcome in taken.drain(..) {
                // Sequences count from 0.
                ledger.settles(first + outcome.sequence, outcome.result.as_ref().map(|_| ()));
            }
        }
    };
    let generate = async move {
        while let Some(numbers) = pace.due(256).await {
            for number in numbers.clone() {
                if let Err(error) = sender.send(work.message(number)).await {
                    work.ledger.settles(number, Err(&error));
                }
            }
            pace.sent(&numbers);
        }
        drop(sender);
        pace.generated()
    };
    tokio::join!(generate, settle).0
}
