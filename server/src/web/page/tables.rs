//! The page's tables. Of long ones, what wants a look comes first and the rest is counted.

use askama::Template;
use ksched_core::{
    lateness::Quantiles,
    words::{UNKNOWN, clock, count, date, decimal, instant, rate, span},
};
use ksched_proto::activity::BEHIND_MS;

use crate::web::status::{Job, Lane, Level, Status, Worker, WorkerState};

/// Rows of tables that tell of single jobs and messages.
const ROWS: usize = 12;
/// Rows of lanes and of workers.
const ROWS_MANY: usize = 50;

#[derive(Template)]
#[template(path = "table.html")]
pub(super) struct Table {
    caption: &'static str,
    head: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
    /// Said instead of rows.
    empty: &'static str,
    /// Said below them.
    more: String,
}

struct Cell {
    text: String,
    class: &'static str,
}

pub(super) fn lanes(status: &Status) -> Table {
    // Before the store was seen, nobody is known to hold nothing.
    let unheld = if status.jobs.is_empty() { (UNKNOWN, "") } else { ("nobody", "bad") };
    let row = |lane: &&Lane| {
        let next = match lane.next_due_ms {
            Some(due) if due > status.at_ms => format!("in {}", span(due.saturating_sub(status.at_ms))),
            Some(_) if lane.overdue_ms > BEHIND_MS => format!("{} ago", span(lane.overdue_ms)),
            Some(_) => "now".to_owned(),
            None => UNKNOWN.to_owned(),
        };
        let holder = if lane.worker.is_empty() { unheld } else { (&*lane.worker, "") };
        vec![
            plain(lane.lane.to_string()),
            toned(holder.0.to_owned(), holder.1),
            number(lane.lag.map_or_else(unknown, count)),
            number(lane.held.map_or_else(unknown, |held| count(signed(held)))),
            toned(next, if lane.overdue_ms > BEHIND_MS { "num warn" } else { "num" }),
            number(rate(lane.delivered_per_s)),
            number(lateness(lane.lateness_ms)),
        ]
    };
    let is_fine = |lane: &Lane| !lane.worker.is_empty() && lane.overdue_ms <= BEHIND_MS;
    let (rows, more) = rows(&status.lanes, ROWS_MANY, is_fine, row);
    Table {
        caption: "Lanes",
        head: &["Lane", "Holder", "Lag", "In memory", "Next due", "Delivered /s", "Late p50 / p99, ms"],
        rows,
        empty: "There are no lanes.",
        more,
    }
}

pub(super) fn workers(status: &Status) -> Table {
    let row = |worker: &&Worker| {
        let tone = match worker.state {
            WorkerState::Up => "badge good",
            WorkerState::Silent => "badge warn",
            WorkerState::Gone => "badge bad",
        };
        vec![
            plain(worker.name.clone()),
            toned(state_of(worker), tone),
            toned(numbers(&worker.lanes), "wrap"),
            number(worker.intakes.to_string()),
            number(worker.drains.to_string()),
            number(count(signed(worker.held))),
            number(rate(worker.delivered_per_s)),
            number(lateness(worker.lateness_ms)),
            plain(date(worker.registered_at_ms)),
        ]
    };
    let (rows, more) =
        rows(&status.workers, ROWS_MANY, |worker: &Worker| worker.state == WorkerState::Up, row);
    Table {
        caption: "Workers",
        head: &[
            "Worker",
            "State",
            "Lanes",
            "Intakes",
            "Drains",
            "In memory",
            "Delivered /s",
            "Late p50 / p99, ms",
            "Registered",
        ],
        rows,
        empty: "No worker is known.",
        more,
    }
}

/// What the bars show, for those who cannot point at one.
pub(super) fn slots(status: &Status) -> Table {
    let filled = |level: &Level| {
        let width_ms = level.slot_width_ms;
        let filled = level.slots.iter().filter(|slot| slot.records > 0);
        filled.map(move |slot| (*slot, width_ms)).collect::<Vec<_>>()
    };
    let all: Vec<_> = status.pending.iter().flat_map(filled).collect();
    let (rows, more) = rows(
        &all,
        ROWS_MANY,
        |_| true,
        |(slot, width_ms)| {
            vec![plain(instant(slot.starts_at_ms)), plain(span(*width_ms)), number(count(slot.records))]
        },
    );
    Table {
        caption: "Pending, by slot",
        head: &["Slot from", "Width", "Records"],
        rows,
        empty: if status.pending.is_empty() {
            "Not known: no coordinator tells."
        } else {
            "No slot holds any; what is due next is in the lanes."
        },
        more,
    }
}

/// Lanes have a table of their own; intake partitions, which are many and stay, come last.
pub(super) fn jobs(status: &Status) -> Table {
    let mut jobs: Vec<_> = status.jobs.iter().filter(|job| job.kind != "lane").collect();
    jobs.sort_by_key(|job| (job.kind == "intake" && !job.worker_id.is_empty(), job.opened_at_ms));
    let row = |job: &&&Job| {
        let holder = if job.worker.is_empty() { ("nobody yet", "warn") } else { (&*job.worker, "") };
        vec![
            plain(job.name.clone()),
            toned(holder.0.to_owned(), holder.1),
            number(job.fence.map_or_else(unknown, |fence| fence.to_string())),
        ]
    };
    let (rows, more) = rows(&jobs, ROWS, |_| true, row);
    Table { caption: "Jobs", head: &["Job", "Holder", "Fence"], rows, empty: "No job is open.", more }
}

pub(super) fn job_log(status: &Status) -> Table {
    let all = status.job_log.as_deref().unwrap_or_default();
    let (rows, more) = rows(
        all,
        ROWS,
        |_| true,
        |job| {
            vec![
                plain(clock(job.finished_at_ms)),
                plain(job.job.clone()),
                plain(if job.worker.is_empty() { job.worker_id.clone() } else { job.worker.clone() }),
                number(count(signed(job.moved))),
                number(span(job.finished_at_ms.saturating_sub(job.begun_at_ms).max(0))),
            ]
        },
    );
    Table {
        caption: "Job log",
        head: &["Finished", "Job", "Worker", "Moved", "Took"],
        rows,
        empty: if status.job_log.is_some() { "The job log is empty." } else { NOT_KNOWN },
        more,
    }
}

pub(super) fn dead_letters(status: &Status) -> Table {
    let all = status.dead_letters.as_deref().unwrap_or_default();
    let (rows, more) = rows(
        all,
        ROWS,
        |_| true,
        |letter| {
            vec![
                plain(instant(letter.at_ms)),
                plain(letter.code.clone()),
                plain(letter.topic.clone().unwrap_or_else(unknown)),
                toned(letter.reason.clone(), "text"),
                plain(letter.origin.clone()),
                plain(letter.place.clone()),
            ]
        },
    );
    Table {
        caption: "Dead letters",
        head: &["At", "Code", "Target", "Reason", "Came from", "Is at"],
        rows,
        empty: if status.dead_letters.is_some() { "There are none." } else { NOT_KNOWN },
        more,
    }
}

pub(super) fn coordinators(status: &Status) -> Table {
    let rows = status.coordinators.iter().map(|coordinator| {
        vec![
            plain(coordinator.name.clone()),
            plain(if coordinator.makes_jobs { "makes jobs".to_owned() } else { "serves".to_owned() }),
            plain(coordinator.grpc.clone()),
            plain(coordinator.http.clone()),
            plain(coordinator.version.clone()),
        ]
    });
    Table {
        caption: "Coordinators",
        head: &["Coordinator", "Role", "gRPC", "HTTP", "Version"],
        rows: rows.collect(),
        empty: "None is known.",
        more: String::new(),
    }
}

const NOT_KNOWN: &str = "Not known: Kafka has not told yet.";

/// As many as are shown, those that are not fine first if not all are, and what is said of the rest.
fn rows<T>(
    all: &[T],
    shown: usize,
    is_fine: impl Fn(&T) -> bool,
    row: impl Fn(&&T) -> Vec<Cell>,
) -> (Vec<Vec<Cell>>, String) {
    let left = all.len().saturating_sub(shown);
    let mut all: Vec<&T> = all.iter().collect();
    if left > 0 {
        all.sort_by_key(|each| is_fine(each));
    }
    let more = if left > 0 { format!("and {left} more") } else { String::new() };
    (all.iter().take(shown).map(row).collect(), more)
}

fn state_of(worker: &Worker) -> String {
    match (worker.state, worker.silent_for_ms) {
        (WorkerState::Up, _) => "up".to_owned(),
        (WorkerState::Silent, None) => "not heard".to_owned(),
        (WorkerState::Silent, Some(ms)) => format!("silent for {}", span(ms)),
        (WorkerState::Gone, ms) => format!("gone for {}", span(ms.unwrap_or(0))),
    }
}

fn numbers(lanes: &[u16]) -> String {
    match lanes {
        [] => unknown(),
        _ => lanes.iter().map(u16::to_string).collect::<Vec<_>>().join(" "),
    }
}

fn plain(text: String) -> Cell {
    Cell { text, class: "" }
}

fn number(text: String) -> Cell {
    Cell { text, class: "num" }
}

fn toned(text: String, class: &'static str) -> Cell {
    Cell { text, class }
}

fn unknown() -> String {
    UNKNOWN.to_owned()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn lateness(quantiles: Option<Quantiles>) -> String {
    quantiles.map_or_else(unknown, |q| format!("{} / {}", decimal(q.p50), decimal(q.p99)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::status::{DeadLetter, Slot};

    #[test]
    fn what_users_wrote_is_text_and_not_markup() {
        let letter = DeadLetter {
            at_ms: 0,
            code: "<script>alert(1)</script>".to_owned(),
            reason: "a & b".to_owned(),
            topic: Some("<b>".to_owned()),
            message_id: None,
            origin: String::new(),
            place: String::new(),
        };
        let status = Status { dead_letters: Some(vec![letter]), ..Status::default() };
        let html = dead_letters(&status).render().unwrap();
        assert!(!html.contains("<script") && html.contains("&#38; b"), "{html}");
    }

    #[test]
    fn slots_that_hold_something_are_listed() {
        let level = Level {
            level: 1,
            slot_width_ms: 10_000,
            slots: [(0, 0), (10_000, 7)]
                .map(|(starts_at_ms, records)| Slot { starts_at_ms, records })
                .to_vec(),
            overdue: 0,
        };
        let table = slots(&Status { pending: vec![level], ..Status::default() });
        let cells: Vec<_> = table.rows.iter().flatten().map(|cell| &*cell.text).collect();
        assert_eq!(cells, ["Jan 1 00:00:10", "10 s", "7"]);
        // Not the same as nothing.
        assert!(slots(&Status::default()).empty.starts_with("Not known"));
    }

    #[test]
    fn of_a_thousand_lanes_those_in_trouble_are_shown() {
        let lane = |lane| Lane { lane, worker: "w".to_owned(), ..Lane::default() };
        let mut status = Status { lanes: (0..1_000).map(lane).collect(), ..Status::default() };
        status.lanes[777].overdue_ms = 9_000;
        let table = lanes(&status);
        assert_eq!(
            (table.rows.len(), &*table.rows[0][0].text, &*table.rows[1][0].text),
            (ROWS_MANY, "777", "0")
        );
        assert_eq!(table.more, "and 950 more");
    }
}
