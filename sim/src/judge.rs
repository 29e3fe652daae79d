//! What must hold (faults.md): read from the target topic as a `read_committed` consumer
//! would, and compared with the plan.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use ksched_core::{cluster::Delivery, message::Content};
use ksched_kafka::{
    TopicPartition,
    memory::{Entry, Standing, What},
};
use ksched_telemetry::metrics::WorkerMetrics;

use crate::{
    faults::Clocks,
    users::{Fate, Planned, TARGET, TARGET_PARTITIONS, Users},
    world::{START_MS, World},
};

/// A worker that is ahead of its coordinators waits until they are there (design §5), but
/// for what the time that their answer took leaves open: at most this (`core::clock`).
const CLOCK_BOUND_MS: i64 = ksched_core::clock::BOUND_MS;

/// In fair weather, with some milliseconds to the broker and a drain now and then.
const LATE_BOUND_MS: i64 = 250;
/// Until workers have found their lanes.
const STARTED_MS: i64 = 3_000;

/// A record on the target.
struct Delivered {
    partition: i32,
    offset: i64,
    at_ms: i64,
    content: Content,
}

/// Accepted messages that no reader sees yet.
pub(crate) fn missing(world: &World, users: &Users) -> Vec<usize> {
    let seen = by_number(delivered(world));
    let fates = users.fates.lock();
    let is_missing = |n: &usize| matches!(fates[*n], Fate::Accepted { .. }) && !seen.contains_key(n);
    (0..users.plan.len()).filter(is_missing).collect()
}

/// The last word on a run that has come to rest. In fair weather the order is judged as well.
pub(crate) fn judge(world: &World, users: &Users, fair: bool) {
    for number in missing(world, users) {
        let Planned { due_ms, door, .. } = &users.plan[number];
        world.violated(format!("I1: message {number} ({door:?}, due {}) is lost", due_ms - START_MS));
    }
    let dead = entries(world, &world.cluster.dead_letter_topic, 4);
    if let Some((_, entry)) = dead.first() {
        world.violated(format!("I1: dead letters: {entry:?}"));
    }
    let exactly_once = world.cluster.delivery == Delivery::ExactlyOnce;
    let seen = by_number(delivered(world));
    for (number, copies) in &seen {
        let Some(planned) = users.plan.get(*number) else {
            world.violated(format!("I6: number {number} was never scheduled"));
            continue;
        };
        if (exactly_once || fair) && copies.len() > 1 {
            let at: Vec<_> = copies.iter().map(|c| (c.partition, c.offset, c.at_ms - START_MS)).collect();
            world.violated(format!("I2: message {number} ({:?}) was delivered at {at:?}", planned.door));
        }
        for copy in copies {
            let bound_ms = early_bound_ms(&world.weather.clocks);
            if copy.at_ms < planned.due_ms - bound_ms {
                world.violated(format!("I3: message {number} came {} ms early", planned.due_ms - copy.at_ms));
            }
            judge_content(world, planned, copy);
        }
    }
    judge_open(world);
    judge_counters(world, fair);
    judge_acceptance(users, world, fair);
    if fair {
        judge_lateness(world, users, &seen);
    }
    if fair && exactly_once {
        judge_order(world, users, &seen);
    }
}

/// How early a message may be that is not by the clock of its lane's holder.
fn early_bound_ms(clocks: &Clocks) -> i64 {
    let coordinators_ms = (clocks.coordinators_us.end() / 1_000).max(0);
    if clocks.differ() { coordinators_ms + CLOCK_BOUND_MS } else { 0 }
}

fn judge_content(world: &World, planned: &Planned, copy: &Delivered) {
    let wanted = planned.content();
    let ours = |name: &str| name.starts_with("ksched-");
    let users: Vec<_> = copy.content.headers.iter().filter(|h| !ours(&h.name)).cloned().collect();
    if copy.content.key != wanted.key || copy.content.value != wanted.value || users != wanted.headers {
        world.violated(format!("I5: message {} was changed: {:?}", planned.number, copy.content));
    }
    let hops = copy.content.headers.iter().find(|h| &*h.name == "ksched-hops");
    let hops = hops.and_then(|h| std::str::from_utf8(h.value.as_deref()?).ok()?.parse::<u32>().ok());
    // One for each level, and one for a bucket that was drained for what was left in it.
    let astray = world.coordinator_was_wrong.load(Ordering::Relaxed);
    if hops.is_none_or(|hops| hops > world.cluster.geometry.levels + 1 && !astray) {
        world.violated(format!("message {} took {hops:?} hops", planned.number));
    }
}

/// A run that schedules nothing proves nothing.
fn judge_acceptance(users: &Users, world: &World, fair: bool) {
    let fates = users.fates.lock();
    let accepted = fates.iter().filter(|fate| matches!(fate, Fate::Accepted { .. })).count();
    let least = if fair { fates.len() } else { 1 };
    if accepted < least {
        world.violated(format!("only {accepted} of {} messages were accepted", fates.len()));
    }
    // One that is hours wrong may call a message overdue.
    let astray = world.coordinator_was_wrong.load(Ordering::Relaxed);
    for planned in users.plan.iter().filter(|planned| planned.late.is_some() && !astray) {
        if fates[planned.number] == Fate::Unknown {
            world.violated(format!("message {} was not taken although all had healed", planned.number));
        }
    }
}

/// In fair weather nothing is late.
fn judge_lateness(world: &World, users: &Users, seen: &BTreeMap<usize, Vec<Delivered>>) {
    let fates = users.fates.lock();
    for planned in &users.plan {
        let Fate::Accepted { at_ms } = fates[planned.number] else { continue };
        let Some(copy) = seen.get(&planned.number).and_then(|copies| copies.first()) else { continue };
        let late_ms = copy.at_ms - planned.due_ms.max(at_ms);
        if late_ms > LATE_BOUND_MS && copy.at_ms > START_MS + STARTED_MS {
            world.violated(format!("message {} is {late_ms} ms late in fair weather", planned.number));
        }
    }
}

/// What workers count is what a reader sees: not the records of a transaction that was aborted or done again. One that
/// died, or never heard how its transaction ended, has counted less.
fn judge_counters(world: &World, fair: bool) {
    // Taken: they hold what they observe, and that the world.
    let counted = std::mem::take(&mut *world.counted.lock());
    let sum = |count: fn(&WorkerMetrics) -> u64| counted.iter().map(count).sum::<u64>();
    let intake = entries(world, &world.cluster.intake_topic, world.cluster.intake_partitions);
    let taken = intake.iter().filter(|(_, entry)| matches!(entry.what, What::Record { .. })).count();
    for (what, counted, there) in [
        ("delivered", sum(|worker| worker.delivered.get()), delivered(world).len()),
        ("taken in", sum(|worker| worker.intake_moved.get()), taken),
    ] {
        if counted > there as u64 || fair && counted < there as u64 {
            world.violated(format!("{counted} were counted as {what}, {there} there are"));
        }
    }
}

/// I8: nothing holds the target's readers up.
fn judge_open(world: &World) {
    let is_open = |e: &Entry| matches!(e.what, What::Record { standing: Standing::Open, .. });
    if let Some((partition, entry)) =
        entries(world, TARGET, TARGET_PARTITIONS).iter().find(|(_, e)| is_open(e))
    {
        world.violated(format!(
            "I8: a transaction hangs at {partition}/{}: {:?}",
            entry.offset, entry.producer
        ));
    }
}

/// I4: messages of one key in due order, where both were accepted a second before.
fn judge_order(world: &World, users: &Users, seen: &BTreeMap<usize, Vec<Delivered>>) {
    let fates = users.fates.lock();
    let place = |n: &usize| seen.get(n).and_then(|copies| copies.first()).map(|c| (c.partition, c.offset));
    for first in &users.plan {
        for second in users.plan.iter().filter(|s| s.key == first.key && first.due_ms < s.due_ms) {
            let in_time =
                |n: usize| matches!(fates[n], Fate::Accepted { at_ms } if at_ms + 1_000 < first.due_ms);
            if in_time(first.number)
                && in_time(second.number)
                && let (Some(a), Some(b)) = (place(&first.number), place(&second.number))
                && a > b
            {
                world.violated(format!("I4: message {} came after {}", first.number, second.number));
            }
        }
    }
}

fn entries(world: &World, topic: &str, partitions: i32) -> Vec<(i32, Entry)> {
    let of = |partition| {
        let at = TopicPartition { topic: topic.into(), partition };
        world.broker.entries(&at).into_iter().map(move |entry| (partition, entry))
    };
    (0..partitions).flat_map(of).collect()
}

/// What a reader sees: behind an open transaction nothing.
fn delivered(world: &World) -> Vec<Delivered> {
    let mut seen = Vec::new();
    let mut held_up = None;
    for (partition, entry) in entries(world, TARGET, TARGET_PARTITIONS) {
        let What::Record { content, standing } = entry.what else { continue };
        match standing {
            Standing::Open => held_up = Some(partition),
            Standing::Plain | Standing::Committed if held_up != Some(partition) => {
                seen.push(Delivered { partition, offset: entry.offset, at_ms: entry.timestamp_ms, content });
            }
            Standing::Plain | Standing::Committed | Standing::Aborted => {}
        }
    }
    seen
}

fn by_number(delivered: Vec<Delivered>) -> BTreeMap<usize, Vec<Delivered>> {
    let mut all: BTreeMap<usize, Vec<Delivered>> = BTreeMap::new();
    for one in delivered {
        let first = one.content.headers.iter().find(|h| &*h.name == "n");
        let number = first.and_then(|h| std::str::from_utf8(h.value.as_deref()?).ok()?.parse().ok());
        all.entry(number.unwrap_or(usize::MAX)).or_default().push(one);
    }
    all
}
