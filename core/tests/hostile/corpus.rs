//! The kept corpus, `core/corpus/`: inputs that were once interesting, one a line,
//! with what must come of them. A case that a fuzzer or a user finds is added there.
//!
//! Fields are parted by tabs; a `#` begins a remark; `\xHH` is a byte.

use std::{fs, path::Path};

use jiff::tz::TimeZone;
use ksched_core::{
    cluster::{Cluster, Geometry},
    delivered,
    envelope::Envelope,
    id::MessageId,
    intake::Intake,
    message::{Content, Header},
    time::{parse_at, parse_delay, parse_due},
    validate::{Limits, Stamp},
    wheel::{Inlet, Place},
};

/// 2026-11-18T11:06:40Z, the now of every case.
const NOW_MS: i64 = 1_795_000_000_000;

/// Runs a file's lines through `outcome`, which is given all fields but the first and
/// says what came of them; the first says what must.
fn run(name: &str, outcome: impl Fn(&[&str]) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(!lines.is_empty(), "{name} is empty");
    let wrong: Vec<_> = lines
        .iter()
        .filter_map(|line| {
            let (expected, rest) = line.split_once('\t').unwrap_or((line, ""));
            let got = outcome(&rest.split('\t').collect::<Vec<_>>());
            (got != expected).then(|| format!("{got}\t{rest}   # not {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
}

/// A result as one word or sentence.
fn told<T: ToString, E: ToString>(result: Result<T, E>) -> String {
    result.map_or_else(|error| error.to_string(), |value| value.to_string())
}

/// Text with `\xHH` for bytes that no editor keeps.
fn bytes(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at(2);
        out.push(u8::from_str_radix(hex, 16).unwrap());
        out.extend_from_slice(rest.as_bytes());
    }
    out
}

#[test]
fn times() {
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    run("time.txt", |fields| {
        let text = String::from_utf8(bytes(fields[1])).unwrap();
        match fields[0] {
            "due" => told(parse_due(&text, None)),
            "due in Berlin" => told(parse_due(&text, Some(&berlin))),
            "at" => told(parse_at(&text, NOW_MS, Some(&berlin))),
            "delay" => told(parse_delay(&text)),
            other => panic!("{other}"),
        }
    });
}

#[test]
fn envelopes() {
    run("envelope.txt", |fields| match Envelope::decode(&bytes(fields[0])) {
        Ok(envelope) => {
            assert_eq!(envelope.encode(), bytes(fields[0]));
            format!("due {} to {}", envelope.due_ms, envelope.target.topic)
        }
        Err(error) => error.to_string(),
    });
}

#[test]
fn ids() {
    run("id.txt", |fields| match fields[0].parse::<MessageId>() {
        Ok(id) => {
            assert_eq!(id.to_string(), fields[0]);
            format!("lane {} due {}", id.lane, id.due_ms)
        }
        Err(error) => error.to_string(),
    });
}

#[test]
fn routes() {
    let geometry = Geometry::default();
    run("route.txt", |fields| {
        let [due, now, lane] = fields else { panic!("{fields:?}") };
        let (now_ms, lane) = (NOW_MS.saturating_add(now.parse().unwrap()), lane.parse().unwrap());
        let due_ms = NOW_MS.saturating_add(due.parse().unwrap());
        match geometry.route(due_ms, now_ms, lane) {
            Place::DueLane => format!("due {}", geometry.due_partition(lane, Inlet::Direct)),
            Place::Bucket(bucket) => {
                assert!(geometry.opens_at_ms(bucket) > now_ms);
                format!("wheel {} {}", bucket.level, geometry.bucket_partition(bucket))
            }
        }
    });
}

#[test]
fn intake_records() {
    let (cluster, limits) = (Cluster::default(), Limits::default());
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let intake = Intake { cluster: &cluster, limits: &limits, compat_zone: Some(&berlin) };
    run("intake.txt", |fields| {
        let header = |field: &&str| match field.split_once('=') {
            Some((name, value)) => Header::new(String::from_utf8(bytes(name)).unwrap(), bytes(value)),
            None => Header { name: (*field).into(), value: None },
        };
        let headers = fields.iter().filter(|field| !field.is_empty()).map(header).collect();
        let record = Content { headers, ..Content::default() };
        match intake.decode(&record, NOW_MS, NOW_MS, Stamp { scheduled_at_us: 1, origin: 7 }) {
            Ok(accepted) => {
                let stored = delivered::store(&accepted.envelope, accepted.content.clone());
                assert_eq!(
                    delivered::split(stored),
                    Ok((accepted.envelope.clone(), accepted.content.clone()))
                );
                let kept: Vec<_> = accepted.content.headers.iter().map(|header| &*header.name).collect();
                format!("due {} keeps {}", accepted.envelope.due_ms, kept.join(","))
            }
            Err(rejected) => rejected.code().to_owned(),
        }
    });
}
