//! Prometheus beside the rest: scrapes what everything tells, with the alerts of `deploy/prometheus`.

use std::{fs, path::Path};

use serde_json::json;

use crate::{Error, Result, beside::Beside, parts, ports::Ports, process::Spec};

const NAME: &str = "prometheus";
const ALERTS: &str = include_str!("../../deploy/prometheus/alerts.yml");

/// A scrape job's name and what it asks, each `HOST:PORT`.
pub(crate) type Job = (&'static str, Vec<String>);

/// What it has scraped stays in the directory.
pub(crate) fn prepare(dir: &Path, jobs: Vec<Job>, ports: &mut Ports) -> Result<Beside> {
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
    Ok(Beside::new(NAME, dir, spec, port, "/-/ready"))
}
