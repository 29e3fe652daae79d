//! Jaeger beside the rest, if this machine has one: takes the spans of all processes and finds traces.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;

use crate::{
    Error, Result, http,
    ports::Ports,
    process::{Process, Spec},
};

const NAME: &str = "jaeger";
const READY_WITHIN: Duration = Duration::from_secs(60);
/// In memory; the oldest go.
const TRACES_KEPT: u32 = 50_000;

/// Version 2 of it, running or not. Dropping it kills it, and what it has is gone with it.
#[derive(Debug)]
pub(crate) struct Jaeger {
    process: Process,
    /// Of OTLP over HTTP.
    otlp_port: u16,
    /// Of its page and of its API.
    port: u16,
}

impl Jaeger {
    pub(crate) fn prepare(program: PathBuf, dir: &Path, ports: &mut Ports) -> Result<Self> {
        let own = dir.join(NAME);
        fs::create_dir_all(&own).map_err(Error::io(format!("make {}", own.display())))?;
        let (otlp_port, port, grpc_port) =
            (ports.of(NAME, None)?, ports.of("jaeger-http", None)?, ports.of("jaeger-grpc", None)?);
        let at = |port: u16| json!({"endpoint": format!("127.0.0.1:{port}")});
        // As an OpenTelemetry Collector, which it is, wants it; JSON is YAML.
        let config = json!({
            "service": {
                "extensions": ["jaeger_storage", "jaeger_query"],
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
                "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "warn"}},
            },
            "extensions": {
                "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": TRACES_KEPT}}}},
                "jaeger_query": {"storage": {"traces": "memory"}, "http": at(port), "grpc": at(grpc_port)},
            },
            "receivers": {"otlp": {"protocols": {"http": at(otlp_port)}}},
            "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
        });
        let file = own.join("jaeger.yml");
        fs::write(&file, config.to_string()).map_err(Error::io(format!("write {}", file.display())))?;
        let args = vec!["--config".into(), file.into()];
        let spec = Spec { program, args, ..Spec::default() };
        Ok(Self { process: Process::new(NAME, dir, spec), otlp_port, port })
    }

    /// What sends a process's spans there: all of them, unless a sampler is named.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.otlp_port);
        let told = [("ENDPOINT", endpoint), ("PROTOCOL", "http/protobuf".to_owned())];
        told.map(|(name, value)| (format!("OTEL_EXPORTER_OTLP_{name}"), value)).into()
    }

    /// `HOST:PORT` of its page and of its API.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Starts it on the same ports if it does not run, and returns when it answers.
    pub(crate) fn start_again(&self) -> Result<()> {
        if self.process.pid().is_none() {
            self.process.start()?;
        }
        self.process.wait_ready(READY_WITHIN, || http::is_ok(self.port, "/api/services"))
    }
}
