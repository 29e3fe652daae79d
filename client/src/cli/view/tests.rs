use std::time::Duration;

use super::*;

const NOW_MS: i64 = 1_000_000;

fn span_of(ms: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: ms / 1_000, nanos: (ms % 1_000 * 1_000_000) as i32 })
}

fn at(ms: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: ms / 1_000, nanos: 0 })
}

/// `delivered` messages in 10 s, each 250 to 500 ms late.
fn lane_activity(lane: u32, delivered: u64) -> v1::LaneActivity {
    let figures = v1::LaneFigures { lane, held: 5, next_due_time: at(NOW_MS + 9_000), ..Default::default() };
    let mut delivered_by_lateness = vec![0; 18];
    delivered_by_lateness[8] = delivered;
    v1::LaneActivity { figures: Some(figures), delivered_by_lateness, window: span_of(10_000) }
}

fn job(kind: v1::JobKind, lane: u32, worker: &str) -> v1::JobState {
    let job = v1::Job { kind: kind.into(), lane, ..Default::default() };
    v1::JobState { job: Some(job), worker_id: worker.to_owned(), worker_name: worker.to_owned() }
}

/// Coordinator a makes jobs; b heard w-2 last, which is silent, and knows older things of w-1.
/// Nobody holds lane 1.
pub(crate) fn answers() -> Answers {
    let coordinator = |name: &str| v1::Coordinator {
        name: name.to_owned(),
        version: "0.1.0".to_owned(),
        ..Default::default()
    };
    let geometry = v1::Geometry { lanes: 2, lease_ttl: span_of(5_000), ..Default::default() };
    let cluster = v1::Cluster { name: "demo".to_owned(), geometry: Some(geometry), ..Default::default() };
    let worker = |id: &str, jobs: &[&str]| v1::Worker {
        worker_id: id.to_owned(),
        name: id.to_owned(),
        registered_time: at(0),
        jobs: jobs.iter().map(|job| (*job).to_owned()).collect(),
        ..Default::default()
    };
    let heard = |id: &str, silent_for_ms, lanes, dead_lettered| v1::WorkerActivity {
        worker_id: id.to_owned(),
        silent_for: span_of(silent_for_ms),
        lanes,
        dead_lettered,
    };
    let pending = |level, records| v1::PendingRecords { level, records, ..Default::default() };
    let a = v1::GetActivityResponse {
        workers: vec![heard("w-1", 400, vec![lane_activity(0, 100)], 0)],
        makes_jobs: true,
        pending: vec![pending(0, 7), pending(1, 100)],
        ..Default::default()
    };
    let b = v1::GetActivityResponse {
        workers: vec![
            heard("w-1", 2_900, vec![lane_activity(0, 9_999)], 0),
            heard("w-2", 3_500, Vec::new(), 2),
        ],
        ..Default::default()
    };
    Answers {
        at_ms: NOW_MS,
        cluster: v1::GetClusterResponse {
            cluster: Some(cluster),
            coordinators: vec![coordinator("a"), coordinator("b")],
            leader: "a".to_owned(),
        },
        workers: Ok(vec![worker("w-1", &["lane/0", "intake/S/0"]), worker("w-2", &[])]),
        jobs: Ok(vec![
            job(v1::JobKind::Lane, 0, "w-1"),
            job(v1::JobKind::Lane, 1, ""),
            job(v1::JobKind::Drain, 1, ""),
        ]),
        told: vec![a, b],
        ready: 2,
        scheduled_per_s: None,
        unknown: Vec::new(),
    }
}

#[test]
fn answers_add_up_and_the_fresher_one_counts() {
    let view = View::of(&answers());
    assert_eq!((view.delivered_per_s, view.pending, view.jobs), (10.0, Some(107), Some((1, 2))));
    assert_eq!((view.dead_lettered, &*view.leader, &*view.versions), (2, "a", "0.1.0"));
    assert_eq!(view.lanes[0].cells(NOW_MS), ["0", "w-1", "7", "5", "in 9 s", "10", "375 / 498 ms"]);
    assert_eq!(view.lanes[1].cells(NOW_MS), ["1", "nobody", "0", "–", "–", "0", "–"]);
    let workers = view.workers.unwrap();
    assert_eq!(workers[0].cells(), ["w-1", "400 ms", "5", "10", "375 / 498 ms", "lane/0 intake/0"]);
    assert_eq!(workers[1].cells(), ["w-2", "3 s: silent", "0", "0", "–", "-"]);
    assert_eq!(view.alarms, ["worker w-2 is silent", "1 lane without a worker"]);
}

#[test]
fn what_is_not_known_is_no_alarm_and_is_not_shown_as_nothing() {
    let mut answers = answers();
    (answers.workers, answers.jobs) = (Err("store away".to_owned()), Err("store away".to_owned()));
    answers.told.remove(0);
    answers.ready = 1;
    let view = View::of(&answers);
    assert_eq!((view.pending, view.jobs, view.lanes[1].worker.as_deref()), (None, None, None));
    assert!(view.workers.is_none() && view.alarms.is_empty(), "{view:?}");
    assert_eq!(view.unknown[..2], ["workers: store away", "jobs: store away"]);
    assert!(view.unknown[2].starts_with("what is pending"), "{:?}", view.unknown);
}

#[test]
fn charts_show_the_highest_of_each_step_and_gaps_as_gaps() {
    let mut history = History::default();
    for (at_ms, delivered_per_s) in [(500, 9.0), (20_000, 3.0), (20_900, 1.0), (40_000, 2.0)] {
        history.note(&View { at_ms, delivered_per_s, ..View::default() });
    }
    let highest = history.highest(4, 10_000, |sample| Some(sample.delivered_per_s));
    assert_eq!(highest, [None, Some(3.0), None, Some(2.0)]);
}

#[test]
fn an_absence_is_told_with_its_reason_until_it_ends() {
    let start = Instant::now();
    let later = |s| start + Duration::from_secs(s);
    let mut shown = Shown::new(start);
    assert_eq!(shown.away(later(2)), None);
    shown.note(Ok(View::default()), later(3));
    shown.note(Err("h:1: refused".to_owned()), later(6));
    assert_eq!(shown.away(later(8)).as_deref(), Some("no coordinator answers since 5 s: h:1: refused"));
    assert!(shown.view.is_some(), "what was seen last stays");
    shown.note(Ok(View::default()), later(9));
    assert_eq!(shown.away(later(9)), None);
}
