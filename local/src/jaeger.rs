//! Jaeger beside the rest, if this machine has one: takes the spans of all processes and finds traces.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::{Error, Result, beside::Beside, ports::Ports, process::Spec};

const NAME: &str = "jaeger";
/// The oldest go.
const TRACES_KEPT: u32 = 50_000;

/// Version 2 of it, which keeps all in memory; and the environment that sends a process's spans there: all of them,
/// unless a sampler is named.
pub(crate) fn prepare(
    program: PathBuf,
    dir: &Path,
    ports: &mut Ports,
) -> Result<(Beside, Vec<(String, String)>)> {
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
    // Of OTLP over HTTP.
    let endpoint = format!("http://127.0.0.1:{otlp_port}");
    let told = [("ENDPOINT", endpoint), ("PROTOCOL", "http/protobuf".to_owned())];
    let env = told.map(|(name, value)| (format!("OTEL_EXPORTER_OTLP_{name}"), value));
    Ok((Beside::new(NAME, dir, spec, port, "/api/services"), env.into()))
}
