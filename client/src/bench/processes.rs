//! What processes use while a run lasts, looked up in `/proc` and among the kernel's sockets.

use std::{
    collections::BTreeMap,
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use ksched_report::run::{Process, Role, Sample, Totals};
use procfs::process as proc;

use super::sockets::Sockets;

/// Nothing finer is plotted.
const EACH: Duration = Duration::from_secs(2);

/// A process to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Stays the same when the process is restarted.
    pub name: String,
    pub role: Role,
    pub pid: u32,
}

/// Looks each two seconds, on a thread of its own, until [`stop`](Self::stop).
#[derive(Debug)]
pub struct Sampler {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Vec<Process>>,
}

impl Sampler {
    /// `who` is asked before each look, so that what is restarted is found again.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(mut who: impl FnMut() -> Vec<Watched> + Send + 'static) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let watch = move || {
            let start = Instant::now();
            let mut rows: BTreeMap<String, Row> = BTreeMap::new();
            let mut sockets = Sockets::default();
            let mut look_at_all = || {
                let (watched, through) = (who(), sockets.look());
                for watched in watched {
                    let pids = match watched.role {
                        Role::Database => family(watched.pid),
                        _ => vec![watched.pid],
                    };
                    let network =
                        through.map(|through| sum_of(pids.iter().filter_map(|pid| through.get(pid))));
                    if let Some(look) = Look::of(&pids, network) {
                        let row = rows.entry(watched.name).or_insert_with(|| Row::new(watched.role));
                        row.add(start.elapsed().as_secs_f64(), watched.pid, look);
                    }
                }
            };
            look_at_all();
            while stopped.recv_timeout(EACH) == Err(RecvTimeoutError::Timeout) {
                look_at_all();
            }
            look_at_all();
            rows.into_iter().map(|(name, row)| row.told(name)).collect()
        };
        Ok(Self { stop, thread: thread::Builder::new().name("processes".to_owned()).spawn(watch)? })
    }

    /// One last look, and what was seen.
    pub fn stop(self) -> Vec<Process> {
        // A thread that is gone has nothing more to tell.
        let _ = self.stop.send(());
        self.thread.join().unwrap_or_default()
    }
}

/// Counters of a process since its own start.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    cpu_s: f64,
    rss_bytes: u64,
    disk: Option<[u64; 2]>,
    network: Option<[u64; 2]>,
    fds: Option<u32>,
}

impl Look {
    /// All of them together; `None` if there is no such process as the first.
    fn of(pids: &[u32], network: Option<[u64; 2]>) -> Option<Self> {
        let (first, others) = pids.split_first()?;
        let mut sum = Self::at(*first, others.is_empty())?;
        sum.network = network;
        for other in others.iter().filter_map(|pid| Self::at(*pid, false)) {
            sum.cpu_s += other.cpu_s;
            sum.rss_bytes += other.rss_bytes;
            sum.disk = sum.disk.zip(other.disk).map(|(sum, other)| sum_of([&sum, &other]));
            sum.fds = sum.fds.zip(other.fds).map(|(sum, other)| sum + other);
        }
        Some(sum)
    }

    /// One process, with what its children that have ended had used. Of one that is not `alone` only its part of
    /// the memory that it shares counts.
    fn at(pid: u32, alone: bool) -> Option<Self> {
        let process = proc::Process::new(i32::try_from(pid).ok()?).ok()?;
        let stat = process.stat().ok()?;
        let ended = u64::try_from(stat.cutime + stat.cstime).unwrap_or(0);
        let shared = || {
            let maps = process.smaps_rollup().ok()?.memory_map_rollup;
            maps.0.first()?.extension.map.get("Pss").copied()
        };
        Some(Self {
            cpu_s: (stat.utime + stat.stime + ended) as f64 / procfs::ticks_per_second() as f64,
            rss_bytes: if alone { None } else { shared() }.unwrap_or(stat.rss * procfs::page_size()),
            disk: process.io().ok().map(|io| [io.read_bytes, io.write_bytes]),
            network: None,
            fds: process.fd_count().ok().and_then(|count| u32::try_from(count).ok()),
        })
    }
}

/// A process and all that descend from it: PostgreSQL has one for each connection.
fn family(pid: u32) -> Vec<u32> {
    let all = proc::all_processes().into_iter().flatten().flatten();
    let parents: Vec<(i32, i32)> =
        all.filter_map(|process| process.stat().ok()).map(|stat| (stat.pid, stat.ppid)).collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        let is_child = |(_, its): &&(i32, i32)| u32::try_from(*its) == Ok(parent);
        family.extend(parents.iter().filter(is_child).filter_map(|(pid, _)| u32::try_from(*pid).ok()));
        next += 1;
    }
    family
}

fn sum_of<'a>(pairs: impl IntoIterator<Item = &'a [u64; 2]>) -> [u64; 2] {
    pairs.into_iter().fold([0; 2], |[a, b], [c, d]| [a + c, b + d])
}

/// One name's samples.
#[derive(Debug)]
struct Row {
    role: Role,
    pid: u32,
    /// When this process was first seen; counters count from there.
    first: Look,
    /// What processes of this name before it had used.
    before: Sample,
    samples: Vec<Sample>,
}

impl Row {
    fn new(role: Role) -> Self {
        Self { role, pid: 0, first: Look::default(), before: Sample::default(), samples: Vec::new() }
    }

    fn add(&mut self, at_s: f64, pid: u32, look: Look) {
        if self.pid != pid {
            self.before = self.samples.last().copied().unwrap_or_default();
            self.first = if self.pid == 0 { look } else { Look::default() };
            self.pid = pid;
        }
        let since = |of: fn(&Look) -> Option<u64>, before: Option<u64>| {
            let (now, first) = (of(&look)?, of(&self.first).unwrap_or(0));
            Some(now.saturating_sub(first) + before.unwrap_or(0))
        };
        self.samples.push(Sample {
            at_s,
            cpu_s: self.before.cpu_s + (look.cpu_s - self.first.cpu_s).max(0.0),
            rss_bytes: look.rss_bytes,
            read_bytes: since(|look| Some(look.disk?[0]), self.before.read_bytes),
            written_bytes: since(|look| Some(look.disk?[1]), self.before.written_bytes),
            received_bytes: since(|look| Some(look.network?[0]), self.before.received_bytes),
            sent_bytes: since(|look| Some(look.network?[1]), self.before.sent_bytes),
            fds: look.fds,
        });
    }

    fn told(self, name: String) -> Process {
        let totals = Totals::of(&self.samples);
        Process { name, role: self.role, samples: thinned(self.samples), totals }
    }
}

/// Some hundreds at most, the last one among them.
fn thinned(samples: Vec<Sample>) -> Vec<Sample> {
    const MOST: usize = 600;
    let step = samples.len().div_ceil(MOST).max(1);
    let last = samples.len().saturating_sub(1);
    samples.into_iter().enumerate().filter(|(n, _)| n % step == 0 || *n == last).map(|(_, s)| s).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_itself() {
        let me = || vec![Watched { name: "me".to_owned(), role: Role::Bench, pid: std::process::id() }];
        let processes = Sampler::start(me).expect("a thread").stop();
        let [process] = processes.as_slice() else { panic!("{processes:?}") };
        assert!(process.totals.peak_rss_bytes > 1 << 20 && process.totals.peak_fds.is_some_and(|n| n > 2));
    }

    #[test]
    fn a_family_counts_as_one() {
        let mut shell = std::process::Command::new("sh");
        let busy = "(i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo; sleep 60) & wait";
        let mut shell = shell.args(["-c", busy]).stdout(std::process::Stdio::piped()).spawn().expect("sh");
        let mut line = [0; 1];
        let output = shell.stdout.as_mut().expect("its output");
        std::io::Read::read_exact(output, &mut line).expect("the child has counted");
        let pids = family(shell.id());
        let (alone, all) = (Look::at(shell.id(), true), Look::of(&pids, None));
        for pid in pids.iter().rev().filter_map(|pid| i32::try_from(*pid).ok()) {
            let _ = std::process::Command::new("kill").arg(pid.to_string()).status();
        }
        let _ = shell.wait();
        assert!(pids.len() >= 2, "{pids:?}");
        let (alone, all) = (alone.expect("the shell"), all.expect("all"));
        assert!(all.cpu_s > alone.cpu_s + 0.02 && all.fds > alone.fds, "{alone:?} {all:?}");
    }

    #[test]
    fn a_restarted_process_goes_on_counting() {
        let look = |cpu_s, bytes| Look {
            cpu_s,
            rss_bytes: 1,
            disk: Some([bytes, bytes]),
            network: Some([bytes, 0]),
            fds: None,
        };
        let mut row = Row::new(Role::Worker);
        row.add(0.0, 7, look(100.0, 50));
        row.add(1.0, 7, look(101.0, 60));
        row.add(2.0, 8, look(0.5, 5));
        let told: Vec<_> = row.samples.iter().map(|s| (s.cpu_s, s.written_bytes, s.received_bytes)).collect();
        assert_eq!(told, [(0.0, Some(0), Some(0)), (1.0, Some(10), Some(10)), (1.5, Some(15), Some(15))]);
        assert_eq!(row.samples[2].sent_bytes, Some(0));
    }

    #[test]
    fn long_runs_are_thinned() {
        let samples: Vec<_> =
            (0..10_001).map(|n| Sample { at_s: f64::from(n), ..Sample::default() }).collect();
        let thin = thinned(samples);
        assert!(thin.len() <= 602 && thin.last().is_some_and(|s| s.at_s == 10_000.0));
    }
}
