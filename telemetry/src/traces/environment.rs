//! What the `OTEL_*` variables say of traces.
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>
//!
//! Time-out and headers are read by the exporter itself, which passes over what it does not understand; limits of spans by the
//! SDK, `OTEL_RESOURCE_ATTRIBUTES` by its detector.

use std::time::Duration;

use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SpanExporter as _},
};

use super::{Error, queue};
use crate::settings::masked;

const DISABLED: &str = "OTEL_SDK_DISABLED";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
const QUEUE_SIZE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const BATCH_SIZE: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
const DELAY: &str = "OTEL_BSP_SCHEDULE_DELAY";
const EXPORT_TIMEOUT: &str = "OTEL_BSP_EXPORT_TIMEOUT";

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Grpc,
    Http,
}

/// What is to be done with spans.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) protocol: Protocol,
    /// A URL; with HTTP down to the path.
    pub(super) endpoint: String,
    pub(super) service_name: Option<String>,
    pub(super) sampler: Sampler,
    pub(super) queue: queue::Settings,
}

impl Settings {
    /// `None` if no traces are wanted: they are with an exporter or an endpoint.
    ///
    /// # Errors
    /// The first variable that is wrong: a sampler that is misspelt must not record everything.
    pub(super) fn read(variable: impl Fn(&'static str) -> Option<String>) -> Result<Option<Self>, Error> {
        // An empty one counts as none.
        let given = |name| variable(name).filter(|value| !value.is_empty());
        if given(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let endpoint = [TRACES_ENDPOINT, ENDPOINT].into_iter().find_map(|name| Some((name, given(name)?)));
        match given(EXPORTER).as_deref() {
            None if endpoint.is_none() => return Ok(None),
            Some("none") => return Ok(None),
            None | Some("otlp") => {}
            Some(value) => return Err(wrong(EXPORTER, value, "otlp or none")),
        }
        let protocol = [TRACES_PROTOCOL, PROTOCOL].into_iter().find_map(|name| Some((name, given(name)?)));
        let protocol = match protocol {
            None => Protocol::Http,
            Some((_, value)) if value == "http/protobuf" => Protocol::Http,
            Some((_, value)) if value == "grpc" => Protocol::Grpc,
            Some((name, value)) => return Err(wrong(name, &value, "grpc or http/protobuf")),
        };
        let number = |name, default: u32| match given(name) {
            None => Ok(default),
            Some(value) => match value.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(wrong(name, &value, "a number above 0")),
            },
        };
        let ms = |name, default| number(name, default).map(|ms| Duration::from_millis(ms.into()));
        let room = number(QUEUE_SIZE, 2_048)? as usize;
        let queue = queue::Settings {
            room,
            batch: (number(BATCH_SIZE, 512)? as usize).min(room),
            delay: ms(DELAY, 5_000)?,
            limit: ms(EXPORT_TIMEOUT, 30_000)?,
        };
        let sampler = sampler(given(SAMPLER).as_deref(), given(SAMPLER_ARG).as_deref())?;
        let endpoint = address(protocol, endpoint)?;
        Ok(Some(Self { protocol, endpoint, service_name: given(SERVICE_NAME), sampler, queue }))
    }

    /// # Errors
    /// The endpoint is no URL, or a variable asks for what is not built in.
    pub(super) fn exporter(&self, resource: &Resource) -> Result<SpanExporter, Error> {
        let builder = SpanExporter::builder();
        let mut exporter = match self.protocol {
            Protocol::Grpc => builder.with_tonic().with_endpoint(&self.endpoint).build()?,
            Protocol::Http => builder
                .with_http()
                .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                .with_endpoint(&self.endpoint)
                .build()?,
        };
        exporter.set_resource(resource);
        Ok(exporter)
    }
}

fn wrong(name: &'static str, value: &str, expected: &'static str) -> Error {
    Error::Variable { name, value: masked(name, value), expected }
}

/// Where spans are sent, as the variable says or at the usual port of this machine.
fn address(protocol: Protocol, given: Option<(&'static str, String)>) -> Result<String, Error> {
    let Some((name, value)) = given else {
        return Ok(match protocol {
            Protocol::Grpc => "http://localhost:4317".to_owned(),
            Protocol::Http => "http://localhost:4318/v1/traces".to_owned(),
        });
    };
    match value.split_once("://") {
        Some(("http", _)) if protocol == Protocol::Http && name == ENDPOINT => {
            Ok(format!("{}/v1/traces", value.trim_end_matches('/')))
        }
        Some(("http", _)) => Ok(value),
        None if protocol == Protocol::Grpc => Ok(format!("http://{value}")),
        _ => Err(wrong(name, &value, "a URL with http:// (TLS is left to a collector on this machine)")),
    }
}

fn sampler(name: Option<&str>, argument: Option<&str>) -> Result<Sampler, Error> {
    const RATIO: &str = "a number from 0 to 1";
    let ratio = || {
        let argument = argument.unwrap_or("1");
        let ratio = argument.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.map(Sampler::TraceIdRatioBased).ok_or_else(|| wrong(SAMPLER_ARG, argument, RATIO))
    };
    let parent_based = |root| Sampler::ParentBased(Box::new(root));
    Ok(match name {
        None | Some("parentbased_always_on") => parent_based(Sampler::AlwaysOn),
        Some("parentbased_always_off") => parent_based(Sampler::AlwaysOff),
        Some("parentbased_traceidratio") => parent_based(ratio()?),
        Some("always_on") => Sampler::AlwaysOn,
        Some("always_off") => Sampler::AlwaysOff,
        Some("traceidratio") => ratio()?,
        Some(other) => {
            let known = "always_on, always_off, traceidratio, or one of these behind parentbased_";
            return Err(wrong(SAMPLER, other, known));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, Error> {
        let value =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        Settings::read(value)
    }

    fn told(variables: &[(&str, &str)]) -> Settings {
        read(variables).unwrap().unwrap()
    }

    #[test]
    fn traces_are_off_unless_something_says_where_to() {
        for off in [
            &[][..],
            &[(SAMPLER, "always_on"), (SERVICE_NAME, "s")],
            &[(ENDPOINT, "")],
            &[(ENDPOINT, "http://c"), (DISABLED, "TRUE")],
            &[(ENDPOINT, "http://c"), (EXPORTER, "none")],
        ] {
            assert!(read(off).unwrap().is_none(), "{off:?}");
        }
    }

    #[test]
    fn where_spans_go_and_how() {
        let to = |variables: &[(&str, &str)]| {
            let settings = told(variables);
            (settings.protocol, settings.endpoint)
        };
        let http = |to: &str| (Protocol::Http, to.to_owned());
        let grpc = |to: &str| (Protocol::Grpc, to.to_owned());
        assert_eq!(to(&[(EXPORTER, "otlp")]), http("http://localhost:4318/v1/traces"));
        assert_eq!(to(&[(EXPORTER, "otlp"), (PROTOCOL, "grpc")]), grpc("http://localhost:4317"));
        assert_eq!(to(&[(ENDPOINT, "http://c:1/")]), http("http://c:1/v1/traces"));
        assert_eq!(to(&[(ENDPOINT, "http://c:1"), (TRACES_ENDPOINT, "http://t:2/x")]), http("http://t:2/x"));
        assert_eq!(to(&[(ENDPOINT, "c:1"), (PROTOCOL, "grpc")]), grpc("http://c:1"));
        let mixed = [(ENDPOINT, "http://c:1"), (PROTOCOL, "grpc"), (TRACES_PROTOCOL, "http/protobuf")];
        assert_eq!(to(&mixed), http("http://c:1/v1/traces"));
    }

    #[test]
    fn what_is_wrong_is_told_and_not_guessed() {
        for (name, value) in [
            (EXPORTER, "jaeger"),
            (PROTOCOL, "http/json"),
            (TRACES_ENDPOINT, "https://c"),
            (TRACES_ENDPOINT, "c:4318"),
            (SAMPLER, "parentbased"),
            (QUEUE_SIZE, "0"),
            (DELAY, "5s"),
        ] {
            let variables = [(name, value), (ENDPOINT, "http://c")];
            let error = read(&variables).unwrap_err();
            assert!(matches!(error, Error::Variable { name: told, .. } if told == name), "{error}");
        }
        for argument in ["1.5", "-0.1", "NaN", "all"] {
            let ratio = [(ENDPOINT, "http://c"), (SAMPLER, "traceidratio"), (SAMPLER_ARG, argument)];
            assert!(matches!(read(&ratio), Err(Error::Variable { name: SAMPLER_ARG, .. })), "{argument}");
        }
    }

    #[test]
    fn samplers_and_sizes_are_as_told() {
        let sampler = |name, argument| {
            let variables = [(ENDPOINT, "http://c"), (SAMPLER, name), (SAMPLER_ARG, argument)];
            format!("{:?}", told(&variables).sampler)
        };
        assert_eq!(sampler("", ""), "ParentBased(AlwaysOn)");
        assert_eq!(sampler("parentbased_always_off", ""), "ParentBased(AlwaysOff)");
        assert_eq!(sampler("parentbased_traceidratio", "0.01"), "ParentBased(TraceIdRatioBased(0.01))");
        assert_eq!(sampler("traceidratio", ""), "TraceIdRatioBased(1.0)");
        let queue = told(&[(ENDPOINT, "http://c"), (QUEUE_SIZE, "100"), (DELAY, "250")]).queue;
        assert_eq!((queue.room, queue.batch, queue.delay), (100, 100, Duration::from_millis(250)));
    }
}
