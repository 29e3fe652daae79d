//! What a lane says and remembers, case by case; that it loses and repeats nothing
//! is for the model to judge.

use super::*;

const CAP: Cap = Cap { count: 1_000, bytes: usize::MAX };
const SETTINGS: Settings = Settings { far_ahead_ms: 60_000, window_ms: 1_000 };

fn lane() -> Lane<&'static str> {
    Lane::new(&Default::default(), SETTINGS, 0).unwrap()
}

fn plain(offset: i64, due_ms: i64) -> Arrival<&'static str> {
    Arrival {
        inlet: Inlet::Direct,
        offset,
        timestamp_ms: 0,
        due_ms,
        scheduled_at_us: 0,
        origin: 0,
        identity: None,
        body_hash: 0,
        size: 100,
        payload: "",
    }
}

fn attempt(offset: i64, due_ms: i64, number: u32) -> Arrival<&'static str> {
    Arrival {
        identity: Some(Identity::Attempt { id: [9; 16], number, first_at_ms: 5 }),
        ..plain(offset, due_ms)
    }
}

fn request(offset: i64, due_ms: i64, body_hash: u64) -> Arrival<&'static str> {
    Arrival { identity: Some(Identity::Request("r".into())), body_hash, ..plain(offset, due_ms) }
}

fn fire(lane: &mut Lane<&'static str>, now_ms: i64) -> Batch<&'static str> {
    lane.take(now_ms, CAP, |_| Gate::Fire).unwrap()
}

fn actions(batch: &Batch<&str>) -> Vec<Action> {
    batch.entries.iter().map(|e| e.action).collect()
}

#[test]
fn takes_nothing_before_its_due_time() {
    let mut lane = lane();
    lane.arrive(plain(0, 70));
    assert_eq!(lane.next_due_ms(), Some(70));
    assert!(lane.take(69, CAP, |_| Gate::Fire).is_none());
    assert_eq!(actions(&fire(&mut lane, 70)), [Action::Fire]);
    assert_eq!(lane.next_due_ms(), None);
}

#[test]
fn far_ahead_goes_back_to_the_wheel_unless_it_is_due_by_then() {
    let mut lane = lane();
    lane.arrive(plain(0, 60_000));
    lane.arrive(plain(1, 60_001));
    assert_eq!(actions(&fire(&mut lane, 1)), [Action::ReturnToWheel]);
    lane.arrive(plain(2, 60_001));
    assert_eq!(actions(&fire(&mut lane, 60_001)), [Action::Fire, Action::Fire]);
}

#[test]
fn a_first_attempt_that_is_never_retried_leaves_no_marker() {
    let mut lane = lane();
    lane.arrive(attempt(0, 70, 1));
    let batch = fire(&mut lane, 70);
    assert_eq!((actions(&batch), batch.markers, lane.markers()), (vec![Action::Fire], vec![], 0));
    assert_eq!(lane.lookups(), []);
}

#[test]
fn copies_pending_together_collapse_without_a_lookup() {
    for numbers in [[1, 2, 3], [3, 1, 2], [2, 3, 1]] {
        let mut lane = lane();
        // The first attempt was read first, wherever it stands in the order.
        for (offset, number) in (0..).zip(1..=3) {
            let place = numbers.iter().position(|n| *n == number).unwrap();
            lane.arrive(Arrival { scheduled_at_us: place as i64, ..attempt(offset, 70, number) });
        }
        let batch = fire(&mut lane, 70);
        assert_eq!(actions(&batch), [Action::Fire, Action::Duplicate, Action::Duplicate]);
        assert_eq!(batch.markers, [Marker { id: MarkerId::Attempt([9; 16]), body_hash: 0 }]);
        assert_eq!(lane.lookups(), []);
    }
}

#[test]
fn a_retry_whose_first_attempt_is_unknown_waits_for_the_answer() {
    for (answer, action) in [(Answer::Absent, Action::Fire), (Answer::Found, Action::Duplicate)] {
        let mut lane = lane();
        lane.arrive(attempt(0, 70, 2));
        assert_eq!(lane.lookups(), [Lookup { id: [9; 16], first_at_ms: 5 }]);
        let batch = fire(&mut lane, 70);
        assert_eq!((actions(&batch), batch.markers.len()), (vec![Action::AwaitAnswer], 0));
        lane.lookup_answer([9; 16], answer);
        lane.arrive(attempt(1, 80, 2));
        let batch = fire(&mut lane, 80);
        assert_eq!(
            (actions(&batch), batch.markers.len()),
            (vec![action], usize::from(answer == Answer::Absent))
        );
        assert_eq!(lane.lookups(), [], "asked once");
    }
}

#[test]
fn a_question_is_kept_until_answered_and_the_answer_for_the_window() {
    let mut lane = lane();
    lane.arrive(attempt(0, 70, 2));
    assert_eq!(lane.lookups().len(), 1);
    lane.arrive(plain(1, 5_000));
    fire(&mut lane, 5_000);
    lane.arrive(attempt(2, 5_000, 2));
    fire(&mut lane, 5_000);
    assert_eq!(lane.lookups(), [], "asked still");
    lane.lookup_answer([9; 16], Answer::Absent);
    lane.arrive(plain(3, 9_000));
    fire(&mut lane, 9_000);
    lane.lookup_answer([9; 16], Answer::Absent);
    lane.arrive(attempt(4, 9_000, 2));
    assert_eq!(actions(&fire(&mut lane, 9_000)), [Action::AwaitAnswer], "forgotten by then");
    assert_eq!(lane.lookups().len(), 1);
}

#[test]
fn a_request_id_is_kept_for_the_window_and_told_by_its_body() {
    let mut lane = lane();
    lane.arrive(request(0, 70, 1));
    lane.arrive(request(1, 70, 1));
    lane.arrive(request(2, 70, 2));
    let batch = fire(&mut lane, 100);
    assert_eq!(actions(&batch), [Action::Fire, Action::Duplicate, Action::Conflict]);
    assert_eq!(batch.markers, [Marker { id: MarkerId::Request("r".into()), body_hash: 1 }]);

    // Not forgotten while something due is left that may be a copy.
    lane.arrive(plain(3, 2_000));
    lane.arrive(request(4, 2_001, 1));
    let batch = lane.take(3_000, Cap { count: 1, ..CAP }, |_| Gate::Fire).unwrap();
    assert_eq!(batch.forgotten, []);
    let batch = fire(&mut lane, 3_000);
    assert_eq!(actions(&batch), [Action::Duplicate]);
    assert_eq!((batch.forgotten, lane.markers()), (vec![MarkerId::Request("r".into())], 0));
    lane.arrive(request(5, 70, 2));
    assert_eq!(actions(&fire(&mut lane, 3_000)), [Action::Fire]);
}

#[test]
fn remembered_markers_are_kept_for_a_window_from_the_take_over() {
    let mut lane = Lane::new(&Default::default(), SETTINGS, 50_000).unwrap();
    lane.remember(Marker { id: MarkerId::Request("r".into()), body_hash: 1 });
    lane.arrive(plain(0, 70));
    assert_eq!(fire(&mut lane, 51_000).forgotten, []);
    lane.arrive(request(1, 70, 1));
    let batch = fire(&mut lane, 51_001);
    assert_eq!((actions(&batch), batch.forgotten.len()), (vec![Action::Duplicate], 1));
}

#[test]
fn the_gate_is_asked_before_a_message_counts_as_handled() {
    let mut lane = lane();
    lane.arrive(Arrival { payload: "sick", ..request(0, 70, 1) });
    lane.arrive(request(1, 71, 1));
    lane.arrive(Arrival { payload: "stop", ..plain(2, 72) });
    let batch = lane.take(100, CAP, |p| match *p {
        "sick" => Gate::PutOff,
        "stop" => Gate::Stop,
        _ => Gate::Fire,
    });
    let batch = batch.unwrap();
    assert_eq!(actions(&batch), [Action::PutOff, Action::Fire]);
    assert_eq!((batch.markers.len(), lane.pending()), (1, 1));
    assert!(lane.take(100, CAP, |_| Gate::Stop).is_none());
}

#[test]
fn says_what_it_holds_and_which_inlet_is_the_furthest_from_due() {
    let mut lane = lane();
    assert_eq!(lane.bytes(), 0);
    lane.arrive(plain(0, 70));
    lane.arrive(Arrival { inlet: Inlet::Promoted, ..plain(0, 90) });
    lane.arrive(Arrival { inlet: Inlet::Intake, ..plain(0, 80) });
    assert_eq!(lane.furthest_from_due(), [Inlet::Promoted, Inlet::Intake, Inlet::Direct]);
    assert_eq!(lane.pending(), 3);
    assert!(lane.bytes() > 300);
    fire(&mut lane, 100);
    assert_eq!(lane.bytes(), 0);
}

#[test]
fn says_how_much_of_what_was_read_waits_no_more() {
    let mut lane = lane();
    lane.arrive(plain(0, 9_000));
    (1..=3).for_each(|offset| lane.arrive(plain(offset, 70)));
    // A transaction's marker.
    lane.read_up_to(Inlet::Direct, 5);
    assert_eq!((lane.pending(), lane.settled_beyond()), (4, 1));
    fire(&mut lane, 100);
    assert_eq!((lane.pending(), lane.settled_beyond()), (1, 4));
    // Whoever takes over reads them again, and knows them for settled.
    let mut next = Lane::new(&lane.positions(), SETTINGS, 100).unwrap();
    (0..=3).for_each(|offset| next.arrive(plain(offset, if offset == 0 { 9_000 } else { 70 })));
    next.read_up_to(Inlet::Direct, 5);
    assert_eq!((next.pending(), next.settled_beyond()), (1, 4));
    fire(&mut lane, 9_000);
    assert_eq!((lane.pending(), lane.settled_beyond()), (0, 0));
}

#[test]
fn positions_move_past_what_is_not_a_record() {
    let mut lane = lane();
    assert_eq!(lane.moved(), None);
    lane.read_up_to(Inlet::Intake, 7);
    assert_eq!(lane.moved().unwrap().map(|p| p.offset), [0, 7, 0]);
    assert_eq!(lane.moved(), None);
    lane.arrive(plain(3, 70));
    lane.read_up_to(Inlet::Direct, 9);
    assert_eq!(lane.moved().unwrap().map(|p| p.offset), [3, 7, 0]);
    assert_eq!(
        fire(&mut lane, 70).positions.map(|p| (p.offset, p.metadata)),
        [9, 7, 0].map(|o| (o, String::new()))
    );
    assert_eq!(lane.moved(), None);
}

#[test]
fn refuses_metadata_that_no_holder_wrote() {
    let position = Committed { offset: 3, metadata: "me".to_owned() };
    let positions = [Committed::default(), position, Committed::default()];
    assert_eq!(Lane::<()>::new(&positions, SETTINGS, 0).err(), Some(DecodeError::Version));
}

/// A batch costs what it takes, not what is pending: a scan of the lane for each
/// batch would take minutes here.
#[test]
fn a_million_pending_make_no_batch_slow() {
    let mut lane = lane();
    let started = std::time::Instant::now();
    for offset in 0..1_000_000 {
        // Near the reverse of the order they are due in.
        lane.arrive(plain(offset, 50_000 - offset / 20));
    }
    let mut taken = 0;
    while let Some(batch) = lane.take(50_000, Cap { count: 10, ..CAP }, |_| Gate::Fire) {
        taken += batch.entries.len();
    }
    assert_eq!(taken, 1_000_000);
    println!("{:?} for a million messages", started.elapsed());
    assert!(started.elapsed().as_secs() < 60);
}
