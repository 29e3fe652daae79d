//! PostgreSQL and MariaDB from Debian's packages, for the bench to compare with. One server each, its data its own.
//!
//! Their settings are their defaults: every commit is on disk before it is answered (`fsync`, `synchronous_commit`;
//! `innodb_flush_log_at_trx_commit=1`), 128 MiB of buffers. Only on loopback, without a password.

mod place;

use std::{
    ffi::OsString,
    fs,
    io::Read,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use self::place::Place;
use crate::{
    Error, Result,
    parts::{self, Progress},
    ports::Ports,
    process::{Process, Spec, StopBy},
    spawner,
};

/// A server that recovers what it was killed with takes longer than one that starts.
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// For one question on loopback.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// The user that the bench connects as.
const CLIENT: &str = "ksched";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Postgresql,
    Mariadb,
}

impl Kind {
    /// Of its process, its folder and its port.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgresql => "postgresql",
            Self::Mariadb => "mariadb",
        }
    }

    /// Who it runs as where we are root, as its package made it.
    fn user(self) -> &'static str {
        match self {
            Self::Postgresql => "postgres",
            Self::Mariadb => "mysql",
        }
    }
}

/// A server, running or not. Dropping it kills it; its data stays.
#[derive(Debug)]
pub struct Database {
    kind: Kind,
    process: Process,
    port: u16,
}

impl Database {
    /// Starts it with its data under `dir` and returns when it answers.
    ///
    /// # Errors
    /// [`Error::Missing`] if it is not installed, and those of starting it.
    pub fn start(dir: &Path, kind: Kind, progress: Progress) -> Result<Self> {
        let database = Self::prepare(dir, kind, progress)?;
        database.start_again()?;
        Ok(database)
    }

    /// Starts it on the same port and data if it does not run, and returns when it answers.
    pub fn start_again(&self) -> Result<()> {
        if self.process.pid().is_none() {
            self.process.start()?;
        }
        self.process.wait_ready(READY_WITHIN, || self.answers())
    }

    /// As `ksched-client bench --database-url` takes it.
    pub fn url(&self) -> String {
        match self.kind {
            Kind::Postgresql => format!("postgres://{CLIENT}@127.0.0.1:{}/postgres", self.port),
            Kind::Mariadb => format!("mariadb://{CLIENT}@127.0.0.1:{}/ksched", self.port),
        }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A clean end.
    pub fn stop(&self) -> Result<()> {
        self.process.stop(STOP_WITHIN)
    }

    /// Makes its data folder if there is none, and chooses its port.
    pub(crate) fn prepare(dir: &Path, kind: Kind, progress: Progress) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io(format!("make {}", dir.display())))?;
        let dir = dir.canonicalize().map_err(Error::io(format!("find {}", dir.display())))?;
        let server = Server::find(kind)?;
        let port = Ports::open(&dir)?.of(kind.name(), None)?;
        let place = Place::of(&dir, kind)?;
        if !place.is_made() {
            progress(&format!("making an empty {} in {}", kind.name(), place.data().display()));
            server.make_data(&place)?;
        }
        let spec = Spec {
            program: server.program.clone(),
            args: server.args(&place, port),
            user: place.user(),
            stop_by: match kind {
                Kind::Postgresql => StopBy::Interrupt,
                Kind::Mariadb => StopBy::Terminate,
            },
            ..Spec::default()
        };
        Ok(Self { kind, process: Process::new(kind.name(), &dir, spec), port })
    }

    fn answers(&self) -> bool {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let Ok(mut stream) = TcpStream::connect_timeout(&address, ANSWER_WITHIN) else { return false };
        match self.kind {
            // It listens while it still recovers, and says so.
            Kind::Postgresql => {
                let asked = Server::find(self.kind).map(|server| {
                    let port = self.port.to_string();
                    let mut ask = Command::new(server.tools.join("pg_isready"));
                    ask.args(["-q", "-h", "127.0.0.1", "-p", &port, "-t", "1"]).status()
                });
                asked.is_ok_and(|status| status.is_ok_and(|status| status.success()))
            }
            // It speaks first, when it is ready.
            Kind::Mariadb => {
                let _ = stream.set_read_timeout(Some(ANSWER_WITHIN));
                stream.read_exact(&mut [0; 5]).is_ok()
            }
        }
    }
}

/// Removes the data that servers have left for `dir`, where that is not in it.
pub(crate) fn purge(dir: &Path) -> Result<()> {
    [Kind::Postgresql, Kind::Mariadb].into_iter().try_for_each(|kind| place::remove(dir, kind))
}

/// The program and what comes with it.
struct Server {
    kind: Kind,
    program: PathBuf,
    tools: PathBuf,
}

impl Server {
    fn find(kind: Kind) -> Result<Self> {
        match kind {
            Kind::Postgresql => {
                let tools = newest_postgresql().ok_or(Error::Missing {
                    program: "postgres",
                    purpose: "run PostgreSQL",
                    remedy: "scripts/install-parts databases; Debian: apt-get install postgresql",
                })?;
                Ok(Self { kind, program: tools.join("postgres"), tools })
            }
            Kind::Mariadb => {
                let program = PathBuf::from("/usr/sbin/mariadbd");
                let program = Some(program).filter(|file| file.is_file());
                let program = program.or_else(|| parts::on_path("mariadbd")).ok_or(Error::Missing {
                    program: "mariadbd",
                    purpose: "run MariaDB",
                    remedy: "scripts/install-parts databases; Debian: apt-get install mariadb-server",
                })?;
                Ok(Self { kind, program, tools: PathBuf::from("/usr/bin") })
            }
        }
    }

    /// An interrupted attempt leaves nothing that counts as made.
    fn make_data(&self, place: &Place) -> Result<()> {
        let data = place.empty()?;
        let mut command = match self.kind {
            Kind::Postgresql => {
                let mut command = guarded(place.user(), &self.tools.join("initdb"));
                command.args(["--username", CLIENT, "--auth", "trust", "--encoding", "UTF8"]);
                command.args(["--locale", "C.UTF-8", "--no-instructions", "--pgdata"]).arg(data);
                command
            }
            Kind::Mariadb => {
                let mut command = guarded(place.user(), &self.tools.join("mariadb-install-db"));
                command.args(["--no-defaults", "--auth-root-authentication-method=normal"]);
                command.args(["--skip-test-db", "--skip-name-resolve"]);
                command.arg(joined("--datadir=", data));
                command
            }
        };
        // Not where we are: that may be out of the other user's reach.
        command.current_dir("/");
        parts::run(command)?;
        place.finish(match self.kind {
            Kind::Postgresql => "",
            Kind::Mariadb => {
                "CREATE DATABASE IF NOT EXISTS ksched CHARACTER SET utf8mb4;\n\
                 CREATE USER IF NOT EXISTS ksched@'127.0.0.1';\n\
                 GRANT ALL ON ksched.* TO ksched@'127.0.0.1';\n"
            }
        })
    }

    fn args(&self, place: &Place, port: u16) -> Vec<OsString> {
        let data = place.data();
        match self.kind {
            Kind::Postgresql => {
                let settings = [
                    "listen_addresses=127.0.0.1".to_owned(),
                    format!("port={port}"),
                    "unix_socket_directories=".to_owned(),
                    // What is in force anyway, to be seen.
                    "fsync=on".to_owned(),
                    "synchronous_commit=on".to_owned(),
                    "shared_buffers=128MB".to_owned(),
                ];
                let settings = settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]);
                ["-D".into(), data.into()].into_iter().chain(settings.map(Into::into)).collect()
            }
            Kind::Mariadb => vec![
                "--no-defaults".into(),
                joined("--datadir=", data),
                joined("--init-file=", &place.first_words()),
                "--bind-address=127.0.0.1".into(),
                format!("--port={port}").into(),
                // In the data folder: a path of its own may be too long for a socket.
                "--socket=mariadb.sock".into(),
                "--pid-file=mariadb.pid".into(),
                "--skip-name-resolve".into(),
                "--innodb-flush-log-at-trx-commit=1".into(),
                "--innodb-buffer-pool-size=128M".into(),
            ],
        }
    }
}

fn guarded(user: Option<&str>, program: &Path) -> Command {
    match user {
        Some(user) => spawner::guarded_as(user, program),
        None => spawner::guarded(program),
    }
}

fn joined(flag: &str, path: &Path) -> OsString {
    let mut text = OsString::from(flag);
    text.push(path);
    text
}

/// Debian keeps its servers side by side, a folder a major version.
fn newest_postgresql() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
        path.join("bin/postgres").is_file().then(|| (version, path.join("bin")))
    });
    versions.max().map(|(_, tools)| tools).or_else(|| {
        let postgres = parts::on_path("postgres")?;
        Some(postgres.parent()?.to_owned())
    })
}
