//! etcd, one member.

use std::{fs, path::Path, time::Duration};

use crate::{
    Error, Result, http,
    parts::{self, Progress},
    ports::Ports,
    process::{Process, Spec},
};

const NAME: &str = "etcd";
/// It answers within a second; the rest is for busy machines.
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What may differ from one member on chosen ports.
#[derive(Clone, Debug)]
pub struct Options {
    /// The client port, else a free one.
    pub port: Option<u16>,
    /// Added to the command line.
    pub args: Vec<String>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    pub progress: Progress,
}

impl Default for Options {
    fn default() -> Self {
        Self { port: None, args: Vec::new(), env: Vec::new(), progress: parts::silent }
    }
}

/// The member, running or not. Dropping it kills it; its data stays in the directory.
#[derive(Debug)]
pub struct Etcd {
    process: Process,
    port: u16,
}

impl Etcd {
    /// Starts it with its data under `dir/etcd` and returns when it answers.
    pub fn start(dir: &Path, options: &Options) -> Result<Self> {
        let etcd = Self::prepare(dir, options)?;
        etcd.start_again()?;
        Ok(etcd)
    }

    /// Starts it on the same port and data if it does not run, and returns when it answers.
    pub fn start_again(&self) -> Result<()> {
        if self.pid().is_none() {
            self.process.start()?;
        }
        self.process.wait_ready(READY_WITHIN, || http::is_ok(self.port, "/health"))
    }

    /// `HOST:PORT` of the client endpoint, which speaks plain HTTP/2.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    /// `SIGKILL`; returns when it is gone.
    pub fn kill(&self) -> Result<()> {
        self.process.kill()
    }

    /// A clean end.
    pub fn stop(&self) -> Result<()> {
        self.process.stop(STOP_WITHIN)
    }

    pub fn pause(&self) -> Result<()> {
        self.process.pause()
    }

    pub fn resume(&self) -> Result<()> {
        self.process.resume()
    }

    pub(crate) fn prepare(dir: &Path, options: &Options) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io(format!("make {}", dir.display())))?;
        let dir = dir.canonicalize().map_err(Error::io(format!("find {}", dir.display())))?;
        let program = parts::etcd(options.progress)?;
        let mut ports = Ports::open(&dir)?;
        let port = ports.of(NAME, options.port)?;
        let peer = format!("http://127.0.0.1:{}", ports.of("etcd-peer", None)?);
        let client = format!("http://127.0.0.1:{port}");
        let args = [
            format!("--name={NAME}"),
            format!("--data-dir={}", dir.join(NAME).display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={NAME}={peer}"),
            "--log-level=warn".to_owned(),
        ];
        let args = args.into_iter().chain(options.args.iter().cloned()).map(Into::into).collect();
        let spec = Spec { program, args, env: options.env.clone(), ..Spec::default() };
        Ok(Self { process: Process::new(NAME, &dir, spec), port })
    }
}
