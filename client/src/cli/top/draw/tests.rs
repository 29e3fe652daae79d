use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};

use super::*;
use crate::view::tests::answers;

fn drawn(shown: &Shown, (width, height): (u16, u16), now: Instant, ink: Ink) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, shown, now, Duration::from_secs(1), ink)).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(shown: &Shown, size: (u16, u16), now: Instant) -> Vec<String> {
    let buffer = drawn(shown, size, now, Ink::Colours);
    let rows = buffer.content().chunks(usize::from(size.0));
    rows.map(|cells| cells.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned())
        .collect()
}

fn shown(now: Instant) -> Shown {
    let mut shown = Shown::new(now);
    shown.note(Ok(View::of(&answers())), now);
    shown
}

#[test]
fn all_of_it_fits_80_by_24() {
    let now = Instant::now();
    let lines = lines(&shown(now), (80, 24), now);
    let text = lines.join("\n");
    assert_eq!(lines[0].split("  ").next(), Some("cluster demo 0.1.0, 2 coordinators ready, a makes jobs"));
    assert!(lines[0].ends_with(" 00:16:40Z"), "{text}");
    assert_eq!(lines[1], "look here; worker w-2 is silent; 1 lane without a worker");
    assert_eq!(lines[3], "scheduled –/s   delivered 10/s   late p50/p99 375 / 498 ms");
    assert_eq!(lines[4], "pending 107   jobs 1 held, 2 free   dead-lettered by these workers 2");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(&lines[6]), "0 w-1 7 in 9 s 10 375 / 498 ms");
    assert_eq!(words(&lines[7]), "1 nobody 0 – 0 –");
    assert_eq!(
        (&*words(&lines[10]), &*words(&lines[11])),
        ("w-1 400 ms 10 lane/0 intake/0", "w-2 3 s: silent 0 -")
    );
    assert!(lines[13].contains("delivered/s: 5 min, highest 10") && lines[22].contains('█'), "{text}");
    assert!(lines[23].starts_with("q, Esc or Ctrl-C ends"), "{text}");
}

#[test]
fn what_is_missing_is_said_and_all_is_not_well() {
    let (now, mut answers) = (Instant::now(), answers());
    answers.told.remove(0);
    (answers.ready, answers.jobs, answers.workers) = (1, Ok(Vec::new()), Ok(Vec::new()));
    answers.cluster.cluster = None;
    answers.unknown = vec!["a at h:1 does not answer".to_owned()];
    let mut shown = Shown::new(now);
    shown.note(Ok(View::of(&answers)), now);
    let lines = lines(&shown, (80, 24), now);
    assert!(lines[0].contains("1 of 2 coordinators ready, a makes jobs"), "{}", lines[0]);
    assert!(
        lines[1].starts_with("partly unknown; a at h:1 does not answer; what is pending"),
        "{}",
        lines[1]
    );
    assert!(lines.iter().any(|line| line == "none"), "{}", lines.join("\n"));
}

#[test]
fn much_room_is_used() {
    let now = Instant::now();
    let lines = lines(&shown(now), (200, 50), now);
    let heading = lines.iter().find(|line| line.starts_with("LANE")).unwrap();
    assert!(
        heading.contains("IN MEMORY") && heading.contains("WORKER") && heading.ends_with("JOBS"),
        "{heading}"
    );
}

#[test]
fn a_small_terminal_is_told_what_is_needed() {
    let now = Instant::now();
    let text = lines(&shown(now), (30, 5), now).join(" ");
    assert!(text.contains("top needs") && text.contains("70x16") && text.contains("q ends it"), "{text}");
}

#[test]
fn of_many_lanes_those_in_trouble_are_shown() {
    let (now, mut answers) = (Instant::now(), answers());
    let geometry = answers.cluster.cluster.as_mut().and_then(|cluster| cluster.geometry.as_mut()).unwrap();
    geometry.lanes = 300;
    let jobs = answers.jobs.as_mut().unwrap();
    let held = jobs[0].clone();
    jobs.extend((1..299).map(|lane| {
        let mut job = held.clone();
        job.job.as_mut().unwrap().lane = lane;
        job
    }));
    let mut shown = Shown::new(now);
    shown.note(Ok(View::of(&answers)), now);
    let lines = lines(&shown, (80, 24), now);
    assert!(lines[6].starts_with("299  nobody"), "{}", lines.join("\n"));
    assert!(
        lines.iter().any(|line| line.starts_with("and 29") && line.ends_with(" more")),
        "{}",
        lines.join("\n")
    );
}

#[test]
fn an_absence_is_said_above_what_was_seen_last() {
    let now = Instant::now();
    let mut shown = shown(now);
    shown.note(Err("h:1: refused".to_owned()), now);
    let lines = lines(&shown, (80, 24), now + Duration::from_secs(5));
    assert!(
        lines[1].starts_with("no coordinator answers since 5 s: h:1: refused; this is what"),
        "{}",
        lines[1]
    );
    assert!(lines.iter().any(|line| line.starts_with("0    w-1")), "{}", lines.join("\n"));
}

#[test]
fn colours_are_left_out_where_they_are_not_wanted() {
    let now = Instant::now();
    let coloured = |ink| {
        let buffer = drawn(&shown(now), (80, 24), now, ink);
        buffer.content().iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(coloured(Ink::Colours) && !coloured(Ink::None));
    assert_eq!(Ink::wanted(Some(OsStr::new("1"))), Ink::None);
    assert_eq!((Ink::wanted(Some(OsStr::new(""))), Ink::wanted(None)), (Ink::Colours, Ink::Colours));
}
