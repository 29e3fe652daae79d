//! The file of one bench run: JSON, versioned, and documented here field by field.
//!
//! Names end in their unit: `_ms`, `_s`, `_bytes`, `_per_s`. What a system cannot give is
//! absent or `null`, never 0. Infinite lateness, which is that of messages that were never
//! delivered, is `null` as well, as JSON knows no other way. A reader must pass over keys that
//! it does not know; a change that an older reader would misunderstand raises [`FORMAT`].

mod derived;
pub(crate) mod infinite;
mod lateness;
mod process;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub(crate) use self::derived::ratio;
pub use self::{
    derived::{Derived, FloorRatio},
    lateness::{Bucket, Lateness, Second, Summary, compact},
    process::{Process, Role, Sample, Totals},
};

/// The format that is written, and the only one that is read.
pub const FORMAT: u64 = 1;

/// One run of one system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// What was done: `steady`, `burst`, `seed-experiment`, … Runs of one scenario are compared.
    pub scenario: String,
    /// Who did it: `ksched`, `postgresql-100ms`, `mariadb-60s`, …; one name for all its repeats.
    pub system: String,
    /// When the first message was to be sent, RFC 3339 in UTC.
    pub started_at: String,
    pub versions: Versions,
    pub machine: Machine,
    /// Every setting in force, of whatever part, by a name that says whose it is
    /// (`kafka.linger.ms`, `worker.lanes`); secrets masked.
    #[serde(default)]
    pub configuration: BTreeMap<String, String>,
    pub plan: Plan,
    pub generator: Generator,
    /// Whether the run counts: nothing lost, doubled or early, and the generator on its plan.
    pub valid: bool,
    /// Why not, for people.
    #[serde(default)]
    pub problems: Vec<String>,
    pub counts: Counts,
    pub rates: Rates,
    /// Append time less due time, by the broker's clock; none where the target's timestamps are not
    /// append times.
    #[serde(default)]
    pub append: Option<Lateness>,
    /// When a `read_committed` reader had the message, less its due time; none if it was read
    /// afterwards only.
    #[serde(default)]
    pub visible: Option<Lateness>,
    /// From a message's sending to its acknowledgement.
    #[serde(default)]
    pub acknowledged: Option<Summary>,
    /// By seconds of the run; a second that is absent had none of the three.
    #[serde(default)]
    pub throughput: Vec<Throughput>,
    /// How many messages were promoted how often; none for systems that move nothing.
    #[serde(default)]
    pub hops: Option<Vec<Hops>>,
    /// Every job (a poll, for a database) that ended within the run; none for systems without.
    #[serde(default)]
    pub jobs: Option<Vec<Job>>,
    /// Everything that ran, bench and broker included.
    #[serde(default)]
    pub processes: Vec<Process>,
    #[serde(default)]
    pub broker: Option<Broker>,
    /// What the same broker did in the same session without a scheduler (bench.md's B1, B2, B3).
    #[serde(default)]
    pub floors: Vec<Floor>,
}

/// Of each part as it says itself; none for parts that had no place in the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Of the program that made the run, with its commit if known.
    pub ksched: String,
    #[serde(default)]
    pub kafka: Option<String>,
    #[serde(default)]
    pub etcd: Option<String>,
    /// Name and version: `PostgreSQL 17.2`.
    #[serde(default)]
    pub database: Option<String>,
    #[serde(default)]
    pub librdkafka: Option<String>,
}

/// What all of it ran on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Those this run might use.
    pub cores: u32,
    pub memory_bytes: u64,
    /// `uname -sr`.
    pub kernel: String,
    /// The processor's name.
    #[serde(default)]
    pub cpu: Option<String>,
}

/// What was to be sent; the same for every system that is compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub seed: u64,
    /// Messages.
    pub count: u64,
    /// Messages a second while they are sent; infinite (`null`) if each was sent as soon as it was taken.
    #[serde(with = "infinite")]
    pub rate_per_s: f64,
    /// Bytes of each value.
    pub size_bytes: u64,
    /// The shortest and the longest time from a message's sending to its due time.
    pub delay_min_ms: i64,
    pub delay_max_ms: i64,
    /// How messages were handed over: `unary`, `batch`, `stream`, `intake`, `sql`.
    #[serde(default)]
    pub door: Option<String>,
}

/// Whether the load was the planned one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// From the first message to the last, as planned and as it was.
    pub planned_s: f64,
    pub took_s: f64,
    /// The most that any message was sent after its planned time.
    pub worst_lag_ms: f64,
    /// Whether that is close enough for the run to count.
    pub on_plan: bool,
}

/// Messages, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub planned: u64,
    pub acknowledged: u64,
    /// Known not to have been scheduled.
    pub refused: u64,
    /// They may have been scheduled.
    pub unknown: u64,
    /// Different messages of the plan that came.
    pub delivered: u64,
    /// Acknowledged, and never delivered.
    pub lost: u64,
    /// Copies beyond the first.
    pub doubled: u64,
    /// Delivered before their due time.
    pub early: u64,
    /// Later than the run's bound, if it had one.
    #[serde(default)]
    pub late_beyond_bound: u64,
    /// Key, value or headers other than planned.
    pub corrupted: u64,
    /// Never planned, or known not to have been scheduled.
    pub invented: u64,
    /// Behind a message of their key and partition that they should precede.
    pub reordered: u64,
}

/// How fast, over the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Messages, from the first sent to the last acknowledged.
    #[serde(default)]
    pub acknowledged_per_s: Option<f64>,
    /// Messages, from the first delivered to the last.
    #[serde(default)]
    pub delivered_per_s: Option<f64>,
    /// Messages, from the run's start to the last delivered.
    #[serde(default)]
    pub sustained_per_s: Option<f64>,
}

/// Messages in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throughput {
    /// Whole seconds since the run's start.
    pub second: u32,
    pub sent: u64,
    pub acknowledged: u64,
    pub delivered: u64,
}

/// Messages that were promoted this often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hops {
    pub hops: u32,
    pub count: u64,
}

/// One job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// `lane`, `drain`, `intake`, `poll`.
    pub kind: String,
    /// Since the run's start; below 0 if it began before.
    pub started_s: f64,
    pub took_s: f64,
    /// Messages.
    pub moved: u64,
}

/// What Kafka did from the run's start to its end, all brokers together; what nobody counted is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// Into its logs, batch headers, markers and its own topics included; each replica counts.
    #[serde(default)]
    pub written_bytes: Option<u64>,
    #[serde(default)]
    pub produce_requests: Option<u64>,
    #[serde(default)]
    pub fetch_requests: Option<u64>,
    /// All requests that were answered, whoever sent them (the bench's reader, and fetches that waited in vain,
    /// included), by API: `Produce`, `Fetch`, `AddPartitionsToTxn`, …; empty if nobody counted.
    #[serde(default)]
    pub requests: BTreeMap<String, u64>,
    /// Record batches as clients sent them.
    #[serde(default)]
    pub in_bytes: Option<u64>,
    /// Record batches as consumers fetched them, the bench's reader included.
    #[serde(default)]
    pub out_bytes: Option<u64>,
    /// Of the records as users get them (key, value, all headers), once each: what
    /// `written_bytes` is compared with.
    #[serde(default)]
    pub record_bytes: Option<u64>,
}

/// What bounds the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// `B1`, `B2`, `B3`.
    pub name: String,
    /// What it is, for people: `librdkafka copy with transactions`.
    pub what: String,
    /// Messages a second; for floors of speed.
    #[serde(default)]
    pub rate_per_s: Option<f64>,
    /// For floors of lateness.
    #[serde(default)]
    pub visible: Option<Summary>,
}

/// A run's file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    /// It is not JSON, or not that of a run.
    #[error("{path} is not the file of a bench run: {source}")]
    Content { path: PathBuf, source: serde_json::Error },
    /// It has no `format`: some other JSON.
    #[error("{path} is not the file of a bench run: it has no \"format\"")]
    NoFormat { path: PathBuf },
    /// Another version of this program wrote it.
    #[error("{path} has format {found}, and this program reads format {FORMAT}")]
    Format { path: PathBuf, found: u64 },
}

/// A run as it stands in its file: with its format, and with what follows from it, which
/// is there for those who read it with other tools and passed over by [`Run::read`].
#[derive(Serialize)]
struct Written<'a> {
    format: u64,
    #[serde(flatten)]
    run: &'a Run,
    derived: Derived,
}

impl Run {
    /// Writes the file, complete or not at all.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let error = |source| Error::Write { path: path.to_owned(), source };
        let written = Written { format: FORMAT, run: self, derived: self.derived() };
        let mut text = serde_json::to_vec(&written).map_err(|e| error(e.into()))?;
        text.push(b'\n');
        // A run takes minutes; a full disk must not leave half a file under its name.
        let mut aside = path.as_os_str().to_owned();
        aside.push(".part");
        fs::write(&aside, text).and_then(|()| fs::rename(&aside, path)).map_err(error)
    }

    /// Reads a file that [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// Any but [`Error::Write`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let content = |source| Error::Content { path: path.to_owned(), source };
        let text = fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let json: serde_json::Value = serde_json::from_slice(&text).map_err(content)?;
        // Looked at first: the shape of another format says nothing.
        match json.get("format").and_then(serde_json::Value::as_u64) {
            Some(FORMAT) => serde_json::from_value(json).map_err(content),
            Some(found) => Err(Error::Format { path: path.to_owned(), found }),
            None => Err(Error::NoFormat { path: path.to_owned() }),
        }
    }

    /// The visible lateness, else that by the broker's clock.
    pub fn lateness(&self) -> Option<&Lateness> {
        self.visible.as_ref().or(self.append.as_ref())
    }

    /// The last instant that anything is known of, in seconds since the run's start.
    pub fn ends_s(&self) -> f64 {
        let seconds = self.throughput.iter().map(|t| f64::from(t.second) + 1.0);
        let lateness = self.lateness().into_iter().flat_map(|l| &l.series).map(|s| f64::from(s.second) + 1.0);
        let samples = self.processes.iter().filter_map(|p| p.samples.last()).map(|s| s.at_s);
        seconds.chain(lateness).chain(samples).filter(|s| s.is_finite()).fold(0.0, f64::max)
    }
}
