//! Runs as they might be, for the page's tests and for looking at it: ksched and three database
//! pollers on one plan of 100,000 messages over six minutes. Nothing here was measured.

use std::collections::BTreeMap;

use ksched_report::run::{
    Broker, Counts, Floor, Generator, Hops, Job, Lateness, Machine, Plan, Process, Rates, Role, Run, Sample,
    Second, Summary, Throughput, Totals, Versions, compact,
};

const COUNT: u64 = 100_000;
const SECONDS: u32 = 360;

/// Three repeats of each of four systems.
pub(crate) fn four_systems() -> Vec<Run> {
    let mut runs = Vec::new();
    for repeat in 0..3 {
        runs.push(ksched(repeat));
        runs.push(poller("postgresql-100ms", "PostgreSQL 17.2", 0.1, repeat));
        runs.push(poller("postgresql-60s", "PostgreSQL 17.2", 60.0, repeat));
        runs.push(poller("mariadb-100ms", "MariaDB 11.8.3", 0.1, repeat));
    }
    runs
}

pub(crate) fn ksched(repeat: u64) -> Run {
    let mut random = Random(repeat + 1);
    // Log-normal about 9 ms, now and then a pause of the machine.
    let late = lateness(&mut random, |random, due_s| {
        let pause = if (due_s as u64) % 97 == 13 { 25.0 * random.uniform() } else { 0.0 };
        (2.2 + 0.38 * random.normal()).exp() + 1.5 + pause
    });
    let mut run = outline("ksched", repeat, &late);
    run.versions.etcd = Some("3.6.6".to_owned());
    run.plan.door = Some("batch".to_owned());
    run.hops = Some(vec![
        Hops { hops: 0, count: 6_120 },
        Hops { hops: 1, count: 58_940 },
        Hops { hops: 2, count: 34_940 },
    ]);
    run.jobs = Some(jobs(&mut random));
    let processes = [
        ("kafka-1", Role::Kafka, 0.19, 610e6, 210e3, 330e3),
        ("etcd", Role::Store, 0.015, 38e6, 9e3, 14e3),
        ("coordinator-1", Role::Coordinator, 0.034, 31e6, 0.0, 120e3),
        ("coordinator-2", Role::Coordinator, 0.006, 24e6, 0.0, 9e3),
        ("worker-1", Role::Worker, 0.041, 42e6, 0.0, 160e3),
        ("worker-2", Role::Worker, 0.037, 40e6, 0.0, 150e3),
        ("worker-3", Role::Worker, 0.024, 36e6, 0.0, 90e3),
        ("bench", Role::Bench, 0.06, 55e6, 0.0, 140e3),
    ];
    run.processes = processes.into_iter().map(|p| process(&mut random, p, |_| 1.0)).collect();
    run.broker = Some(Broker {
        written_bytes: Some(98_000_000),
        produce_requests: Some(41_000),
        fetch_requests: Some(122_000),
        requests: [("Produce", 41_000), ("Fetch", 122_000), ("TxnOffsetCommit", 8_100), ("EndTxn", 8_050)]
            .map(|(api, count)| (api.to_owned(), count))
            .into(),
        in_bytes: Some(66_000_000),
        out_bytes: Some(97_000_000),
        record_bytes: Some(32_400_000),
    });
    run.floors = vec![
        floor("B2", "librdkafka copy with transactions", Some(349_800.0), None),
        floor("B3", "bare fire loop at the same rate", None, Some((7.1, 17.2))),
    ];
    run
}

/// A table that is polled each `every_s`.
pub(crate) fn poller(system: &str, database: &str, every_s: f64, repeat: u64) -> Run {
    let mut random = Random(every_s.to_bits() ^ repeat ^ system.len() as u64);
    let late = lateness(&mut random, |random, due_s| {
        // Until the next poll, and what that poll takes.
        let wait_s = (due_s / every_s).ceil() * every_s - due_s;
        let batch_ms = if every_s > 1.0 { 900.0 * random.uniform() } else { 6.0 };
        wait_s * 1000.0 + batch_ms + (1.2 + 0.5 * random.normal()).exp()
    });
    let mut run = outline(system, repeat, &late);
    run.versions.database = Some(database.to_owned());
    run.plan.door = Some("sql".to_owned());
    run.configuration.insert("database.poll_every".to_owned(), format!("{every_s}s"));
    let count = (f64::from(SECONDS) / every_s) as u64;
    let job = |n: u64, random: &mut Random| {
        let moved = COUNT / count.max(1);
        let took_s = to_us((0.002 + moved as f64 * 4e-5) * (0.2 * random.normal()).exp());
        Job { kind: "poll".to_owned(), started_s: to_us(n as f64 * every_s), took_s, moved }
    };
    run.jobs = Some((0..count).map(|n| job(n, &mut random)).collect());
    let burst = move |t: f64| match every_s > 1.0 {
        true if t.rem_euclid(60.0) < 4.0 => 9.0,
        true => 0.45,
        false => 1.0,
    };
    let name = database.split(' ').next().unwrap_or_default().to_lowercase();
    let busy = if every_s > 1.0 { 0.05 } else { 0.21 };
    let processes = [
        ("kafka-1", Role::Kafka, 0.07, 560e6, 110e3, 140e3),
        (name.as_str(), Role::Database, busy, 190e6, 900e3, 260e3),
        ("poller-1", Role::Worker, busy / 5.0, 21e6, 0.0, 110e3),
        ("poller-2", Role::Worker, busy / 5.5, 21e6, 0.0, 100e3),
        ("bench", Role::Bench, 0.08, 58e6, 0.0, 150e3),
    ];
    run.processes = processes.into_iter().map(|p| process(&mut random, p, burst)).collect();
    run.broker = Some(Broker {
        written_bytes: Some(31_000_000),
        produce_requests: Some(if every_s > 1.0 { 700 } else { 7_900 }),
        fetch_requests: Some(14_000),
        record_bytes: Some(28_000_000),
        ..Broker::default()
    });
    run
}

/// Of each message its due time and how late it was.
type Late = Vec<(f64, f64)>;

fn lateness(random: &mut Random, late_ms: impl Fn(&mut Random, f64) -> f64) -> Late {
    let due = |n: u64, random: &mut Random| {
        let sent_s = n as f64 * f64::from(SECONDS) / COUNT as f64;
        sent_s + random.uniform() * (f64::from(SECONDS) - sent_s)
    };
    (0..COUNT)
        .map(|n| {
            let due_s = due(n, random);
            (due_s, late_ms(random, due_s))
        })
        .collect()
}

fn outline(system: &str, repeat: u64, late: &Late) -> Run {
    let configuration = [("kafka.linger.ms", "1"), ("kafka.heap", "1g"), ("kafka.partitions", "4")];
    let seed_and_time = 20_261_124 + repeat;
    let (visible, throughput) = (measured(late, 0.0), throughput(late));
    Run {
        scenario: "seed-experiment".to_owned(),
        system: system.to_owned(),
        started_at: format!("2026-11-24T1{repeat}:05:00Z"),
        versions: Versions {
            ksched: "0.1.0".to_owned(),
            kafka: Some("4.4.0".to_owned()),
            etcd: None,
            database: None,
            librdkafka: Some("2.12.1".to_owned()),
        },
        machine: Machine {
            cores: 2,
            memory_bytes: 24_000_000_000,
            kernel: "Linux 6.12.0".to_owned(),
            cpu: Some("AMD EPYC 9R14".to_owned()),
        },
        configuration: configuration.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect(),
        plan: Plan {
            seed: seed_and_time,
            count: COUNT,
            rate_per_s: 277.8,
            size_bytes: 200,
            delay_min_ms: 0,
            delay_max_ms: 360_000,
            door: None,
        },
        generator: Generator { planned_s: 360.0, took_s: 360.04, worst_lag_ms: 3.4, on_plan: true },
        valid: true,
        counts: Counts { planned: COUNT, acknowledged: COUNT, delivered: COUNT, ..Counts::default() },
        rates: Rates { acknowledged_per_s: Some(277.7), delivered_per_s: Some(277.4), sustained_per_s: None },
        append: Some(measured(late, -1.8)),
        visible: Some(visible),
        throughput,
        ..Run::default()
    }
}

fn measured(late: &Late, offset_ms: f64) -> Lateness {
    let lateness = |ms: f64| to_us((ms + offset_ms).max(0.1));
    let mut all: Vec<f64> = late.iter().map(|(_, ms)| lateness(*ms)).collect();
    all.sort_by(f64::total_cmp);
    let at = |values: &[f64], q: f64| values[((values.len() - 1) as f64 * q) as usize];
    let mut seconds: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for (due_s, ms) in late {
        seconds.entry(*due_s as u32).or_default().push(lateness(*ms));
    }
    let second = |(second, mut values): (u32, Vec<f64>)| {
        values.sort_by(f64::total_cmp);
        let [p50_ms, p99_ms, max_ms] = [0.5, 0.99, 1.0].map(|q| at(&values, q));
        Second { second, count: values.len() as u64, p50_ms, p99_ms, max_ms }
    };
    let [p50_ms, p90_ms, p99_ms, p999_ms, max_ms] = [0.5, 0.9, 0.99, 0.999, 1.0].map(|q| at(&all, q));
    let mean_ms = to_us(all.iter().sum::<f64>() / all.len() as f64);
    Lateness {
        summary: Summary { p50_ms, p90_ms, p99_ms, p999_ms, max_ms, mean_ms },
        histogram: compact(all.iter().map(|ms| (*ms, 1))),
        early: 0,
        series: seconds.into_iter().map(second).collect(),
    }
}

fn throughput(late: &Late) -> Vec<Throughput> {
    let mut delivered: BTreeMap<u32, u64> = BTreeMap::new();
    for (due_s, ms) in late {
        *delivered.entry((due_s + ms / 1000.0) as u32).or_default() += 1;
    }
    let last = delivered.keys().last().copied().unwrap_or(0).max(SECONDS);
    let second = |second: u32| {
        let sent = if second < SECONDS { 277 + u64::from(!second.is_multiple_of(4)) } else { 0 };
        let delivered = delivered.get(&second).copied().unwrap_or(0);
        Throughput { second, sent, acknowledged: sent, delivered }
    };
    (0..=last).map(second).collect()
}

fn jobs(random: &mut Random) -> Vec<Job> {
    let mut jobs = Vec::new();
    for n in 0..96 {
        let moved = 700 + (500.0 * random.uniform()) as u64;
        let took_s = to_us(0.12 * (0.5 * random.normal()).exp());
        jobs.push(Job { kind: "drain".to_owned(), started_s: to_us(f64::from(n) * 3.7), took_s, moved });
    }
    for n in 0..24 {
        let took_s = to_us(28.0 + 4.0 * random.normal());
        jobs.push(Job { kind: "lane".to_owned(), started_s: f64::from(n) * 15.0, took_s, moved: 4_100 });
    }
    jobs
}

type Used<'a> = (&'a str, Role, f64, f64, f64, f64);

fn process(
    random: &mut Random,
    (name, role, cores, rss, disk, network): Used<'_>,
    load: impl Fn(f64) -> f64,
) -> Process {
    let (mut cpu_s, mut written, mut sent, mut level) = (0.0, 0.0, 0.0, 0.8);
    let mut samples = Vec::new();
    for step in 0..=186 {
        let at_s = f64::from(step) * 2.0;
        let now = load(at_s) * (1.0 + 0.12 * random.normal()).max(0.1);
        cpu_s += cores * now * 2.0;
        written += disk * now * 2.0;
        sent += network * now * 2.0;
        level += (1.0 - level) * 0.03;
        samples.push(Sample {
            at_s,
            // Of ticks.
            cpu_s: (cpu_s * 100.0).round() / 100.0,
            rss_bytes: (rss * level * (1.0 + 0.004 * random.normal())) as u64,
            read_bytes: Some(0),
            written_bytes: Some(written as u64),
            received_bytes: Some((sent * 0.9) as u64),
            sent_bytes: Some(sent as u64),
            fds: Some(64),
        });
    }
    Process { name: name.to_owned(), role, totals: Totals::of(&samples), samples }
}

fn floor(name: &str, what: &str, rate_per_s: Option<f64>, late: Option<(f64, f64)>) -> Floor {
    let summary = |(p50_ms, p99_ms)| Summary { p50_ms, p99_ms, ..Summary::default() };
    Floor { name: name.to_owned(), what: what.to_owned(), rate_per_s, visible: late.map(summary) }
}

/// As clocks measure: three digits behind the point.
fn to_us(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}
