//! Steering a cluster from another process, as `ksched local kill worker-1` does.
//!
//! The cluster's owner runs [`supervise`]; others send it one [`Request`] a connection over a socket in the
//! cluster's directory. The owner does everything itself, so what it starts is its child and ends with it.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, cluster::Cluster, cluster::Record, database, process::State};

/// How often the owner looks for requests and for the word to stop.
const TICK: Duration = Duration::from_millis(50);
/// How often it looks after its processes.
const ROUND: Duration = Duration::from_millis(500);
/// Longer than the slowest request, a restart of Kafka.
const ANSWER_WITHIN: Duration = Duration::from_secs(180);
/// Time for whoever connects to say what it wants.
const ASK_WITHIN: Duration = Duration::from_secs(5);
/// Ending everything, each part within its own bound.
const DOWN_WITHIN: Duration = Duration::from_secs(90);
/// No request and no answer is longer.
const LONGEST: u64 = 64 * 1024;

/// What can be asked of a cluster's owner.
///
/// Names are those of the cluster's processes; they are checked before anything is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Request {
    /// `SIGKILL`.
    Kill {
        name: String,
    },
    /// `SIGTERM`, then `SIGKILL` if that is not heeded.
    Stop {
        name: String,
    },
    Pause {
        name: String,
    },
    Resume {
        name: String,
    },
    /// Ends it if it runs, and starts it again.
    Restart {
        name: String,
    },
    /// Ends everything; answered at once, see [`down`].
    Down,
}

/// Nothing is said for "done".
#[derive(Debug, Default, Serialize, Deserialize)]
struct Answer {
    error: Option<String>,
}

impl Request {
    /// The process that is asked for; none for the whole.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Kill { name }
            | Self::Stop { name }
            | Self::Pause { name }
            | Self::Resume { name }
            | Self::Restart { name } => Some(name),
            Self::Down => None,
        }
    }
}

/// Owns `cluster` until `stop` is set, or until it is asked to end; then ends it in good order. Meanwhile it serves
/// requests and tells `notice` what has ended by itself.
pub fn supervise(cluster: &Cluster, stop: &AtomicBool, notice: impl Fn(&str)) -> Result<()> {
    let listener = listen(cluster.dir())?;
    let mut seen = states(cluster);
    let mut looked = Instant::now();
    thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => {
                    // An answer may take minutes (a restart of Kafka), and others want to be served.
                    scope.spawn(move || serve(cluster, stop, stream));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(TICK),
                Err(error) => return Err(Error::io("accept a request")(error)),
            }
            if looked.elapsed() < ROUND {
                continue;
            }
            looked = Instant::now();
            let now = states(cluster);
            if now != seen {
                cluster.record()?;
                for (name, state) in now.iter().filter(|state| !seen.contains(state)) {
                    notice(&format!("{name} is {}", word(*state)));
                }
                seen = now;
            }
        }
        Ok(())
    })?;
    let ended = cluster.shut_down();
    // Whoever connects from now on is told that there is no cluster.
    let _ = fs::remove_file(cluster.dir().join(SOCKET));
    ended
}

/// Sends `request` to the owner of the cluster in `dir` and waits until it is done.
///
/// # Errors
/// [`Error::NoCluster`]; [`Error::Unknown`]; [`Error::Refused`] with the owner's reason.
pub fn ask(dir: &Path, request: &Request) -> Result<()> {
    let processes = Record::read(dir)?.description.processes;
    if let Some(name) = request.name()
        && !processes.iter().any(|entry| entry.name == name)
    {
        let known: Vec<_> = processes.into_iter().map(|entry| entry.name).collect();
        return Err(Error::Unknown { name: name.to_owned(), known: known.join(", ") });
    }
    let mut stream = connect(dir)?;
    let answer = exchange(&mut stream, request).map_err(Error::io("ask the cluster's owner"))?;
    answer.error.map_or(Ok(()), |reason| Err(Error::Refused(reason)))
}

/// Ends the cluster in `dir` and returns when its owner, and so everything, is gone.
///
/// # Errors
/// [`Error::NoCluster`]; [`Error::Refused`] if it did not end in time.
pub fn down(dir: &Path) -> Result<()> {
    let owner = Record::read(dir)?.owner;
    ask(dir, &Request::Down)?;
    let start = Instant::now();
    while owner.is_alive() {
        if start.elapsed() > DOWN_WITHIN {
            return Err(Error::Refused(format!("process {} did not end within {DOWN_WITHIN:?}", owner.pid)));
        }
        thread::sleep(TICK);
    }
    Ok(())
}

/// Once more if something was still written into it, as by a process that was killed a moment ago.
fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            thread::sleep(Duration::from_secs(1));
            fs::remove_dir_all(path)
        }
        removed => removed,
    }
}

/// Removes what clusters have left in `dir`, and `dir` itself if that leaves it empty.
///
/// # Errors
/// [`Error::Taken`] while a cluster is running there.
pub fn purge(dir: &Path) -> Result<()> {
    if Record::read(dir).is_ok() {
        return Err(Error::Taken { dir: dir.to_owned() });
    }
    database::purge(dir)?;
    for name in LEFT_BEHIND {
        let path = dir.join(name);
        let removed =
            if path.is_dir() && !path.is_symlink() { remove_dir(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(format!("remove {}", path.display()))(error));
            }
            _ => {}
        }
    }
    // Refused if there is anything of the user's.
    let _ = fs::remove_dir(dir);
    Ok(())
}

const SOCKET: &str = "control.sock";

/// Everything this crate and `ksched local` write into a cluster's directory.
const LEFT_BEHIND: [&str; 18] = [
    "kafka-1",
    "kafka-2",
    "kafka-3",
    "kafka-cluster-id",
    "kafka-log4j2.properties",
    "kafka-metrics.yml",
    "etcd",
    "postgresql",
    "mariadb",
    "prometheus",
    "jaeger",
    "logs",
    "ports.json",
    "options.json",
    "state.json",
    "state.json.part",
    SOCKET,
    "lock",
];

fn states(cluster: &Cluster) -> Vec<(String, State)> {
    cluster.processes().map(|process| (process.name().to_owned(), process.state())).collect()
}

fn word(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Paused => "paused",
        State::Dead => "dead",
    }
}

fn serve(cluster: &Cluster, stop: &AtomicBool, mut stream: UnixStream) {
    // Whoever asks and goes away, or sends nonsense, gets no answer; there is nobody else to tell.
    let _ = answer(cluster, stop, &mut stream);
}

fn answer(cluster: &Cluster, stop: &AtomicBool, stream: &mut UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(ASK_WITHIN))?;
    stream.set_write_timeout(Some(ASK_WITHIN))?;
    let request: Request = receive(stream)?;
    let done = match &request {
        Request::Kill { name } => cluster.kill(name),
        Request::Stop { name } => cluster.stop(name),
        Request::Pause { name } => cluster.pause(name),
        Request::Resume { name } => cluster.resume(name),
        Request::Restart { name } => cluster.restart(name),
        Request::Down => {
            stop.store(true, Ordering::Relaxed);
            Ok(())
        }
    };
    send(stream, &Answer { error: done.err().map(|error| error.to_string()) })
}

fn exchange(stream: &mut UnixStream, request: &Request) -> io::Result<Answer> {
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ASK_WITHIN))?;
    send(stream, request)?;
    receive(stream)
}

/// One line of JSON.
fn send(stream: &mut UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn receive<T: for<'de> Deserialize<'de>>(stream: &mut UnixStream) -> io::Result<T> {
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn listen(dir: &Path) -> Result<UnixListener> {
    let (path, _open) = socket(dir)?;
    // Left by an owner that was killed; a living one would hold the directory's lock, which we have.
    let _ = fs::remove_file(dir.join(SOCKET));
    let listener = UnixListener::bind(path).map_err(Error::io("listen for requests"))?;
    listener.set_nonblocking(true).map_err(Error::io("listen for requests"))?;
    Ok(listener)
}

fn connect(dir: &Path) -> Result<UnixStream> {
    let none = |_| Error::NoCluster { dir: dir.to_owned() };
    let (path, _open) = socket(dir).map_err(|_| Error::NoCluster { dir: dir.to_owned() })?;
    UnixStream::connect(path).map_err(none)
}

/// The socket's path by way of the open directory: a socket's path may have 107 bytes only, a directory's more.
fn socket(dir: &Path) -> Result<(PathBuf, fs::File)> {
    let open = fs::File::open(dir).map_err(Error::io(format!("open {}", dir.display())))?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd())), open))
}
