//! One child process: started, signalled, watched, and never left behind.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, spawner};

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(20);
/// A killed process is gone at once, unless the kernel still writes for it.
const REAP: Duration = Duration::from_secs(20);
/// How much of a log goes into an error.
const TAIL_BYTES: u64 = 4_000;

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// Added to the environment that is inherited.
    pub env: Vec<(String, String)>,
    /// Run as this user; none: as we are.
    pub user: Option<&'static str>,
    pub stop_by: StopBy,
}

/// The signal for a clean end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopBy {
    /// `SIGTERM`, for nearly everyone.
    #[default]
    Terminate,
    /// `SIGINT`: with the other, PostgreSQL waits for its clients to go.
    Interrupt,
}

/// A process under its name. It keeps what it needs to be started again after it ended; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    spec: Spec,
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

/// What a process is doing, as the kernel sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Running,
    Paused,
    Dead,
}

impl Process {
    /// Not started yet. Standard output and error go to `<dir>/logs/<name>.log`, appended.
    pub fn new(name: impl Into<String>, dir: &Path, spec: Spec) -> Self {
        let name = name.into();
        let log = dir.join("logs").join(format!("{name}.log"));
        Self { name, spec, log, child: Mutex::new(None) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its process id while it runs or is paused.
    pub fn pid(&self) -> Option<u32> {
        live(&mut self.lock()).map(|child| child.id())
    }

    /// Resident memory, from `/proc`.
    pub fn rss_bytes(&self) -> Option<u64> {
        rss_bytes(self.pid()?)
    }

    pub fn state(&self) -> State {
        self.pid().map_or(State::Dead, state)
    }

    /// Starts it and returns at once; [`Process::wait_ready`] waits for an answer.
    pub fn start(&self) -> Result<()> {
        let mut child = self.lock();
        if let Some(running) = live(&mut child) {
            return Err(Error::Running { name: self.name.clone(), pid: running.id() });
        }
        let dir = self.log.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir).map_err(Error::io(format!("make {}", dir.display())))?;
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.map_err(Error::io(format!("open {}", self.log.display())))?;
        let errors = log.try_clone().map_err(Error::io("share a log"))?;

        let mut command = match self.spec.user {
            Some(user) => spawner::guarded_as(user, &self.spec.program),
            None => spawner::guarded(&self.spec.program),
        };
        command.args(&self.spec.args);
        command.envs(self.spec.env.iter().map(|(name, value)| (name, value)));
        // Ours, and no setting of theirs.
        for ours in ["KSCHED_CACHE", "KSCHED_LOCAL_DIR", "KSCHED_COMMIT"] {
            command.env_remove(ours);
        }
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        // A group of its own: Ctrl-C at the terminal reaches the owner, who ends the children in order.
        command.process_group(0);
        let started =
            spawner::spawn(command).map_err(Error::io(format!("start {} by setpriv", self.name)))?;
        *child = Some(started);
        Ok(())
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// [`Error::Ended`] when the process ends first, [`Error::NotReady`] when `within` is over; both with the end
    /// of the log.
    pub fn wait_ready(&self, within: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            if self.pid().is_none() {
                return Err(Error::Ended {
                    name: self.name.clone(),
                    log: self.log.clone(),
                    tail: self.tail(),
                });
            }
            if ready() {
                return Ok(());
            }
            if start.elapsed() > within {
                let (name, log) = (self.name.clone(), self.log.clone());
                return Err(Error::NotReady { name, within, log, tail: self.tail() });
            }
            thread::sleep(POLL);
        }
    }

    /// `SIGKILL`, and waits until it is gone. Fine for a process that is dead already.
    pub fn kill(&self) -> Result<()> {
        self.end(Signal::KILL, REAP)
    }

    /// Asks for a clean end without waiting, so that several can end side by side; [`Process::stop`] waits.
    pub fn terminate(&self) -> Result<()> {
        let signal = match self.spec.stop_by {
            StopBy::Terminate => Signal::TERM,
            StopBy::Interrupt => Signal::INT,
        };
        match live(&mut self.lock()) {
            // A paused process would never see it.
            Some(child) => send(child, Signal::CONT).and_then(|()| send(child, signal)),
            None => Ok(()),
        }
    }

    /// Asks for a clean end, waits up to `within` for it, then `SIGKILL`. Fine for a process that is dead already.
    pub fn stop(&self, within: Duration) -> Result<()> {
        self.terminate()?;
        if self.wait_end(within) { Ok(()) } else { self.kill() }
    }

    /// `SIGSTOP`.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// `SIGCONT`.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Waits for it to end by itself; false if it still runs when `within` is over.
    pub fn wait_end(&self, within: Duration) -> bool {
        let start = Instant::now();
        while self.pid().is_some() {
            if start.elapsed() > within {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    fn tail(&self) -> String {
        tail(&self.log).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        match live(&mut self.lock()) {
            Some(child) => send(child, signal),
            None => Err(Error::NotRunning { name: self.name.clone() }),
        }
    }

    fn end(&self, signal: Signal, within: Duration) -> Result<()> {
        if let Some(child) = live(&mut self.lock()) {
            send(child, signal)?;
        }
        if self.wait_end(within) {
            return Ok(());
        }
        Err(Error::Io {
            doing: format!("wait for the end of {}", self.name),
            source: io::ErrorKind::TimedOut.into(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing to be done about a failure here; the kernel sends the same signal when we end.
        let _ = self.kill();
    }
}

/// What the process `pid` of this machine is doing. A zombie is dead.
pub fn state(pid: u32) -> State {
    // After the name, which is in parentheses and may hold anything: the state's letter.
    match stat_fields(pid).and_then(|fields| fields.first().cloned()).as_deref() {
        None | Some("Z" | "X" | "x") => State::Dead,
        Some("T" | "t") => State::Paused,
        Some(_) => State::Running,
    }
}

/// When `pid` was started, in clock ticks since boot: with the pid it names one process for good.
pub fn started_ticks(pid: u32) -> Option<u64> {
    // Field 22 of /proc/PID/stat; what follows the name begins with field 3.
    stat_fields(pid)?.get(19)?.parse().ok()
}

pub fn rss_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_ascii_whitespace().map(str::to_owned).collect())
}

/// The child if it still runs; reaps it if it does not.
fn live(child: &mut Option<Child>) -> Option<&mut Child> {
    if matches!(child.as_mut()?.try_wait(), Ok(Some(_))) {
        *child = None;
    }
    child.as_mut()
}

fn send(child: &Child, signal: Signal) -> Result<()> {
    // It has not been waited for, so the id cannot belong to anyone else.
    kill_process(Pid::from_child(child), signal)
        .map_err(|errno| Error::Io { doing: format!("signal process {}", child.id()), source: errno.into() })
}

/// The end of a log; only explains, so a log that cannot be read is as good as an empty one.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
