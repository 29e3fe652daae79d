//! Order within a key (invariant I4).

use std::collections::BTreeMap;

use super::{Acceptance, Observed, Planned};

/// Order is promised for messages acknowledged this long before the due time of
/// the earlier one.
const AHEAD_US: i64 = 1_000_000;

/// Which of the first copies (places in `observed`) were delivered behind a
/// message of their key and partition that they should precede.
pub(super) fn reordered(planned: &[Planned], observed: &[Observed], mut copies: Vec<usize>) -> Vec<usize> {
    let plan = |place: &usize| {
        let number = observed[*place].number.and_then(|n| usize::try_from(n).ok())?;
        planned.get(number)
    };
    let lane = |place: &usize| (plan(place).and_then(|p| p.key), observed[*place].partition);
    copies.retain(|place| plan(place).is_some_and(|p| p.key.is_some()));
    copies.sort_unstable_by_key(|place| (lane(place), observed[*place].offset));
    let mut found = Vec::new();
    for group in copies.chunk_by(|a, b| lane(a) == lane(b)) {
        let mut before = Before::default();
        for place in group {
            if let Some(plan) = plan(place)
                && before.add(plan)
            {
                found.push(*place);
            }
        }
    }
    found
}

/// The messages of one key and partition delivered so far.
#[derive(Default)]
struct Before {
    /// Due time → acknowledged at, of those that no other one makes superfluous:
    /// a later due time with an earlier acknowledgement. Both rise together.
    front: BTreeMap<i64, i64>,
    /// Due time → when the last one of it was sent, of those acknowledged in time.
    last_sent: BTreeMap<i64, i64>,
}

impl Before {
    /// Adds the next one delivered; whether it should have been before an earlier one.
    fn add(&mut self, plan: &Planned) -> bool {
        let Acceptance::Acknowledged { at_us } = plan.acceptance else { return false };
        let due_ms = plan.due_ms;
        let limit_us = due_ms.saturating_mul(1000).saturating_sub(AHEAD_US);
        let mut wrong = false;
        if at_us <= limit_us {
            // Among those due later, the first of the front was acknowledged first.
            let overtaken = self.front.range(due_ms + 1..).next();
            let overtaken_by_later = overtaken.is_some_and(|(_, later_at_us)| *later_at_us <= limit_us);
            // Ties: it was surely scheduled first if its answer was there before
            // the other was sent.
            let last_sent_us = self.last_sent.get(&due_ms).copied().unwrap_or(i64::MIN);
            wrong = overtaken_by_later || last_sent_us > at_us;
            self.last_sent.insert(due_ms, last_sent_us.max(plan.sent_at_us));
        }
        self.put(due_ms, at_us);
        wrong
    }

    fn put(&mut self, due_ms: i64, at_us: i64) {
        if self.front.range(due_ms..).next().is_some_and(|(_, other_at_us)| *other_at_us <= at_us) {
            return;
        }
        while let Some((&other_due_ms, &other_at_us)) = self.front.range(..=due_ms).next_back() {
            if other_at_us < at_us {
                break;
            }
            self.front.remove(&other_due_ms);
        }
        self.front.insert(due_ms, at_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, pair by pair.
    fn by_pairs(plans: &[Planned]) -> Vec<bool> {
        let at = |p: &Planned| match p.acceptance {
            Acceptance::Acknowledged { at_us } => Some(at_us),
            _ => None,
        };
        let in_time = |p: &Planned, due_ms: i64| at(p).is_some_and(|us| us <= due_ms * 1000 - AHEAD_US);
        let overtaken = |i: usize| {
            let late = &plans[i];
            plans[..i].iter().any(|first| {
                in_time(first, late.due_ms)
                    && in_time(late, late.due_ms)
                    && (first.due_ms > late.due_ms
                        || first.due_ms == late.due_ms && at(late).is_some_and(|us| us < first.sent_at_us))
            })
        };
        (0..plans.len()).map(overtaken).collect()
    }

    prop_compose! {
        fn plans()(due_s in 0_i64..8, sent_s in 0_i64..6, took_s in 0_i64..3, known in 0..8) -> Planned {
            let acceptance = if known == 0 {
                Acceptance::Unknown
            } else {
                Acceptance::Acknowledged { at_us: (sent_s + took_s) * 1_000_000 }
            };
            Planned { due_ms: due_s * 1000, key: Some(1), checksum: 0, sent_at_us: sent_s * 1_000_000, acceptance }
        }
    }

    proptest! {
        #[test]
        fn finds_what_the_definition_finds(plans in proptest::collection::vec(plans(), 0..25)) {
            let mut before = Before::default();
            let found: Vec<bool> = plans.iter().map(|plan| before.add(plan)).collect();
            prop_assert_eq!(found, by_pairs(&plans));
        }
    }
}
