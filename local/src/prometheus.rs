//! Prometheus beside the rest: scrapes what everything tells, with the alerts of `deploy/prometheus`.

use std::{fs, path::Path, time::Duration};

use serde_json::json;

use crate::{
    Error, Result, http, parts,
    ports::Ports,
    process::{Process, Spec},
};

const NAME: &str = "prometheus";
const READY_WITHIN: Duration = Duration::from_secs(60);
const ALERTS: &str = include_str!("../../deploy/prometheus/alerts.yml");

/// A scrape job's name and what it asks, each `HOST:PORT`.
pub(crate) type Job = (&'static str, Vec<String>);

/// The server, running or not. Dropping it kills it; what it has scraped stays in the directory.
#[derive(Debug)]
pub(crate) struct Prometheus {
    process: Process,
    port: u16,
}

impl Prometheus {
    pub(crate) fn prepare(dir: &Path, jobs: Vec<Job>, ports: &mut Ports) -> Result<Self> {
        let program = parts::prometheus()?;
        let own = dir.join(NAME);
        fs::create_dir_all(&own).map_err(Error::io(format!("make {}", own.display())))?;
        let write = |name: &str, text: &str| {
            fs::write(own.join(name), text).map_err(Error::io(format!("write {}/{name}", own.display())))
        };
        // As prometheus.yml of deploy/; JSON is YAML.
        let scrape = |(name, targets)| json!({"job_name": name, "static_configs": [{"targets": targets}]});
        let config = json!({
            "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
            "rule_files": ["alerts.yml"],
            "scrape_configs": jobs.into_iter().map(scrape).collect::<Vec<_>>(),
        });
        write("prometheus.yml", &config.to_string())?;
        write("alerts.yml", ALERTS)?;
        let port = ports.of(NAME, None)?;
        let args = [
            format!("--config.file={}", own.join("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", own.join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--enable-feature=exemplar-storage".to_owned(),
            "--log.level=warn".to_owned(),
        ];
        let spec = Spec { program, args: args.into_iter().map(Into::into).collect(), ..Spec::default() };
        Ok(Self { process: Process::new(NAME, dir, spec), port })
    }

    /// `HOST:PORT` of its page and of its API.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Starts it on the same port and data if it does not run, and returns when it answers.
    pub(crate) fn start_again(&self) -> Result<()> {
        if self.process.pid().is_none() {
            self.process.start()?;
        }
        self.process.wait_ready(READY_WITHIN, || http::is_ok(self.port, "/-/ready"))
    }
}
