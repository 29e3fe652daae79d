//! Each anomaly is injected once into a clean run and must be reported, alone.

use super::*;

const BOUNDS: Bounds = Bounds { clock_ms: 2, late_ms: Some(1_000) };
const START_MS: i64 = 1_795_000_000_000;

/// Ten messages of two keys, due a second apart, acknowledged well before.
fn plan() -> Vec<Planned> {
    (0..10)
        .map(|n| Planned {
            due_ms: START_MS + 10_000 + n * 1_000,
            key: Some((n % 2) as u32),
            checksum: 1_000 + n as u64,
            sent_at_us: (START_MS + n) * 1_000,
            acceptance: Acceptance::Acknowledged { at_us: (START_MS + n + 5) * 1_000 },
        })
        .collect()
}

/// Each delivered once, 3 ms late, visible after 8 ms.
fn clean(plan: &[Planned]) -> Vec<Observed> {
    let each = plan.iter().enumerate().map(|(n, planned)| Observed {
        number: Some(n as u64),
        checksum: planned.checksum,
        partition: (n % 2) as i32,
        offset: 100 + n as i64,
        append_ms: planned.due_ms + 3,
        received_at_us: Some((planned.due_ms + 8) * 1_000),
    });
    each.collect()
}

/// (lost, doubled, early, late, reordered, corrupted, invented)
fn counts(v: &Verification) -> [u64; 7] {
    [v.lost, v.doubled, v.early, v.late_beyond_bound, v.reordered, v.corrupted, v.invented]
}

#[test]
fn a_clean_run_is_valid() {
    let plan = plan();
    let result = verify(&plan, &clean(&plan), BOUNDS);
    assert!(result.valid, "{result:?}");
    assert_eq!(counts(&result), [0; 7]);
    assert_eq!((result.planned, result.acknowledged, result.delivered), (10, 10, 10));
    let (visible, append) = (result.visible_ms.expect("read live"), result.append_ms.expect("read"));
    assert!((visible.p50 - 8.0).abs() < 0.02 && (append.max - 3.0).abs() < 0.01, "{visible:?} {append:?}");
}

#[test]
fn nothing_read_is_not_valid() {
    assert!(!verify(&plan(), &[], BOUNDS).valid);
    assert!(!verify(&[], &[], BOUNDS).valid);
    // Not even if nothing was acknowledged, so that nothing is missing.
    let mut unknown = plan();
    unknown.iter_mut().for_each(|p| p.acceptance = Acceptance::Unknown);
    let result = verify(&unknown, &[], BOUNDS);
    assert_eq!((result.valid, result.lost), (false, 0));
}

#[test]
fn a_lost_message_is_reported() {
    let plan = plan();
    let mut read = clean(&plan);
    read.remove(4);
    let result = verify(&plan, &read, BOUNDS);
    assert!(!result.valid);
    assert_eq!(counts(&result), [1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        result.examples[0],
        Anomaly { kind: AnomalyKind::Lost, number: Some(4), partition: None, offset: None }
    );
    assert!(result.visible_ms.expect("read").max.is_infinite());
}

#[test]
fn a_doubled_message_is_reported() {
    let plan = plan();
    let mut read = clean(&plan);
    read.push(Observed { offset: 200, ..read[4] });
    let result = verify(&plan, &read, BOUNDS);
    assert!(!result.valid);
    assert_eq!(counts(&result), [0, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn an_early_append_is_reported() {
    let plan = plan();
    let mut read = clean(&plan);
    read[4].append_ms = plan[4].due_ms - BOUNDS.clock_ms - 1;
    let result = verify(&plan, &read, BOUNDS);
    assert!(!result.valid);
    assert_eq!(counts(&result), [0, 0, 1, 0, 0, 0, 0]);
    read[4].append_ms = plan[4].due_ms - BOUNDS.clock_ms;
    assert!(verify(&plan, &read, BOUNDS).valid, "within the clock bound");
}

#[test]
fn a_record_seen_before_it_is_due_is_reported() {
    let plan = plan();
    let mut read = clean(&plan);
    read[4].received_at_us = Some((plan[4].due_ms - 10) * 1_000);
    assert_eq!(counts(&verify(&plan, &read, BOUNDS)), [0, 0, 1, 0, 0, 0, 0]);
}

#[test]
fn a_late_message_is_reported() {
    let plan = plan();
    let mut read = clean(&plan);
    read[9].received_at_us = Some((plan[9].due_ms + 1_001) * 1_000);
    let result = verify(&plan, &read, BOUNDS);
    assert!(!result.valid);
    assert_eq!(counts(&result), [0, 0, 0, 1, 0, 0, 0]);
    assert!(verify(&plan, &read, Bounds { late_ms: None, ..BOUNDS }).valid, "without a bound");
}

#[test]
fn what_was_accepted_late_is_late_from_then_on() {
    let mut plan = plan();
    let accepted_ms = plan[9].due_ms + 5_000;
    plan[9].acceptance = Acceptance::Acknowledged { at_us: accepted_ms * 1_000 };
    let mut read = clean(&plan);
    read[9].received_at_us = Some((accepted_ms + 900) * 1_000);
    assert!(verify(&plan, &read, BOUNDS).valid);
}

#[test]
fn a_reordered_key_is_reported() {
    let plan = plan();
    let mut read = clean(&plan);
    // 2 and 4 have the same key; 4 is due later, and comes first.
    let (offset, later) = (read[2].offset, read[4].offset);
    read[2].offset = later;
    read[4].offset = offset;
    let result = verify(&plan, &read, BOUNDS);
    assert!(!result.valid);
    assert_eq!(counts(&result), [0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(result.examples[0].number, Some(2));
}

#[test]
fn a_reordered_tie_is_reported() {
    let mut plan = plan();
    plan[4].due_ms = plan[2].due_ms;
    // 4 is sent only after 2 was acknowledged.
    plan[4].sent_at_us = plan[2].sent_at_us + 10_000;
    plan[4].acceptance = Acceptance::Acknowledged { at_us: plan[4].sent_at_us + 5_000 };
    let mut read = clean(&plan);
    assert!(verify(&plan, &read, BOUNDS).valid);
    (read[2].offset, read[4].offset) = (read[4].offset, read[2].offset);
    assert_eq!(counts(&verify(&plan, &read, BOUNDS)), [0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn order_is_not_asked_of_what_was_acknowledged_too_late() {
    let mut plan = plan();
    plan[2].acceptance = Acceptance::Acknowledged { at_us: plan[2].due_ms * 1_000 - 500_000 };
    let mut read = clean(&plan);
    (read[2].offset, read[4].offset) = (read[4].offset, read[2].offset);
    assert!(verify(&plan, &read, BOUNDS).valid);
}

#[test]
fn a_corrupted_message_is_reported() {
    let plan = plan();
    let mut read = clean(&plan);
    read[4].checksum ^= 1;
    let result = verify(&plan, &read, BOUNDS);
    assert!(!result.valid);
    assert_eq!(counts(&result), [0, 0, 0, 0, 0, 1, 0]);
}

#[test]
fn invented_messages_are_reported() {
    let plan = plan();
    for number in [None, Some(10), Some(u64::MAX)] {
        let mut read = clean(&plan);
        read.push(Observed { number, offset: 300, ..read[9] });
        let result = verify(&plan, &read, BOUNDS);
        assert!(!result.valid);
        assert_eq!(counts(&result), [0, 0, 0, 0, 0, 0, 1], "{number:?}");
    }
}

#[test]
fn a_refused_message_that_is_delivered_is_invented() {
    let mut plan = plan();
    plan[4].acceptance = Acceptance::Not;
    let mut read = clean(&plan);
    assert_eq!(counts(&verify(&plan, &read, BOUNDS)), [0, 0, 0, 0, 0, 0, 1]);
    read.remove(4);
    assert!(verify(&plan, &read, BOUNDS).valid, "and is not missed");
}

#[test]
fn an_unknown_outcome_may_be_delivered_once_or_not() {
    let mut plan = plan();
    plan[4].acceptance = Acceptance::Unknown;
    let mut read = clean(&plan);
    let delivered = verify(&plan, &read, BOUNDS);
    assert!(delivered.valid);
    assert_eq!((delivered.acknowledged, delivered.unknown, delivered.unknown_delivered), (9, 1, 1));
    let copy = read.remove(4);
    let absent = verify(&plan, &read, BOUNDS);
    assert!(absent.valid);
    assert_eq!((absent.unknown, absent.unknown_delivered, absent.lost), (1, 0, 0));
    read.extend([copy, Observed { offset: 300, ..copy }]);
    assert_eq!(counts(&verify(&plan, &read, BOUNDS)), [0, 1, 0, 0, 0, 0, 0], "but not twice");
}

#[test]
fn read_afterwards_there_is_no_visible_lateness() {
    let plan = plan();
    let mut read = clean(&plan);
    read.iter_mut().for_each(|r| r.received_at_us = None);
    let result = verify(&plan, &read, BOUNDS);
    assert!(result.valid && result.visible_ms.is_none() && result.append_ms.is_some());
}
