//! What an operator may set on a worker. What a cluster must agree on is not
//! here: the coordinators tell it.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use ksched_core::validate::Limits;
use ksched_telemetry::{
    http::Exposure,
    logging,
    settings::{self, Given, Kind, Mistakes, Setting},
};

/// A worker's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names this worker to people; need not be unique.
    pub name: String,
    /// The coordinators, `HOST:PORT` each.
    pub coordinators: Vec<String>,
    /// HOST:PORT of `/metrics`, `/healthz` and `/readyz`.
    pub http: String,
    pub exposure: Exposure,
    /// Kafka's bootstrap servers; `None`: as the coordinators say.
    pub kafka: Option<String>,
    /// librdkafka properties, passed through as they are.
    pub kafka_properties: BTreeMap<String, String>,
    /// Bytes for messages that wait in memory for their due time.
    pub memory_limit: usize,
    pub intake: IntakeSettings,
    pub log_format: logging::Format,
    pub log_filter: String,
}

/// How records of the intake topic are read.
#[derive(Clone, Debug)]
pub struct IntakeSettings {
    /// In which zone the earlier system's zone-less `time` header is read.
    pub zone: TimeZone,
    pub limits: Limits,
}

impl Default for IntakeSettings {
    fn default() -> Self {
        Self { zone: TimeZone::system(), limits: Limits::default() }
    }
}

/// Every setting, in the order of `--help` and `config show`.
pub const SETTINGS: &[Setting] = &[
    value("name", "", "name of this worker; this machine's if not set"),
    value("coordinators", "127.0.0.1:50051", "the coordinators, HOST:PORT[,HOST:PORT]"),
    value("http", "127.0.0.1:8001", "HOST:PORT of /metrics, /healthz and /readyz"),
    settings::INSECURE,
    Setting {
        default: "",
        help: "Kafka's bootstrap servers; as the coordinators say if not set",
        ..settings::KAFKA
    },
    value("memory.limit", "256MiB", "memory for messages that are due soon"),
    value(
        "compat.zone",
        "",
        "zone of the earlier system's time header, such as Europe/Berlin; this machine's if not set",
    ),
    settings::LOG_FORMAT,
    Setting {
        help: "which log lines are written: info, or ksched_worker=debug,info",
        ..settings::LOG_FILTER
    },
];

/// A lane needs room for a batch or two.
const MEMORY_MIN: usize = 16 << 20;

const fn value(name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { name, kind: Kind::Value, default, help }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: host_name(),
            coordinators: vec!["127.0.0.1:50051".to_owned()],
            http: "127.0.0.1:8001".to_owned(),
            exposure: Exposure::default(),
            kafka: None,
            kafka_properties: BTreeMap::new(),
            memory_limit: 256 << 20,
            intake: IntakeSettings::default(),
            log_format: logging::Format::default(),
            log_filter: "info,librdkafka=error".to_owned(),
        }
    }
}

impl Config {
    /// Reads and checks what was given.
    ///
    /// # Errors
    /// All mistakes, of all layers, together.
    pub fn read(given: &mut Given) -> Result<Self, Mistakes> {
        let mut config = Self::default();
        given.put("name", &mut config.name, |t| Ok::<_, &str>(t.to_owned()));
        given.put("coordinators", &mut config.coordinators, |t| {
            settings::addresses(t).map(|all| all.split(',').map(|a| a.trim().to_owned()).collect())
        });
        given.put("http", &mut config.http, settings::address);
        given.put("insecure", &mut config.exposure, |t| {
            settings::switch(t).map(|yes| if yes { Exposure::Anywhere } else { Exposure::LoopbackOnly })
        });
        given.put("kafka", &mut config.kafka, |t| settings::addresses(t).map(Some));
        given.put("memory.limit", &mut config.memory_limit, memory);
        given.put("compat.zone", &mut config.intake.zone, |t| {
            TimeZone::get(t).map_err(|_| "an IANA zone such as Europe/Berlin is expected")
        });
        given.put("log.format", &mut config.log_format, str::parse);
        given.put("log.filter", &mut config.log_filter, |t| logging::check(t).map(|_| t.to_owned()));
        if let Err(why) = config.exposure.check(&config.http) {
            given.mistake(format_args!("http: {why}"));
        }
        config.kafka_properties = given.kafka_properties();
        for why in ksched_kafka::property_mistakes(&config.kafka_properties) {
            given.mistake(why);
        }
        given.finish().map(|()| config)
    }
}

/// As the kernel has it: a container's or a pod's is its own.
fn host_name() -> String {
    let told = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match told.trim() {
        "" => "worker".to_owned(),
        name => name.to_owned(),
    }
}

fn memory(text: &str) -> Result<usize, &'static str> {
    match settings::byte_count(text)? {
        bytes if bytes >= MEMORY_MIN => Ok(bytes),
        _ => Err("at least 16MiB is expected"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &[&str]) -> Result<Config, Mistakes> {
        let command = settings::command("ksched-worker", "", "0", SETTINGS);
        let matches = command.no_binary_name(true).get_matches_from(flags);
        Config::read(&mut Given::gather(SETTINGS, &matches, []))
    }

    #[test]
    fn every_flag_is_read() {
        let flags = [
            "--name",
            "w-2",
            "--coordinators",
            "a:1, b:2",
            "--http",
            "127.0.0.1:3",
            "--insecure",
            "--kafka",
            "k:9092",
            "--memory-limit",
            "1GiB",
            "--compat-zone",
            "Europe/Berlin",
            "--log-format",
            "json",
            "-X",
            "linger.ms=3",
        ];
        let config = read(&flags).unwrap();
        assert_eq!(config.name, "w-2");
        assert_eq!(config.coordinators, ["a:1", "b:2"]);
        assert_eq!(config.exposure, Exposure::Anywhere);
        assert_eq!(config.kafka.as_deref(), Some("k:9092"));
        assert_eq!(config.memory_limit, 1 << 30);
        assert_eq!(config.intake.zone.iana_name(), Some("Europe/Berlin"));
        assert_eq!(config.kafka_properties.len(), 1);
    }

    #[test]
    fn a_worker_is_named_after_its_machine() {
        let name = read(&[]).unwrap().name;
        assert!(!name.is_empty() && !name.contains(char::is_whitespace), "{name:?}");
    }

    #[test]
    fn mistakes_are_told_together() {
        let Mistakes(mistakes) =
            read(&["--memory-limit", "1MiB", "--compat-zone", "CET/1", "--http", "x"]).unwrap_err();
        let expected = [
            "http: \"x\" (--http): HOST:PORT is expected",
            "memory.limit: \"1MiB\" (--memory-limit): at least 16MiB is expected",
            "compat.zone: \"CET/1\" (--compat-zone): an IANA zone such as Europe/Berlin is expected",
        ];
        assert_eq!(mistakes, expected);
    }

    #[test]
    fn a_door_in_the_open_is_a_mistake_unless_insecure_says_so() {
        let Mistakes(mistakes) = read(&["--http", "0.0.0.0:8001"]).unwrap_err();
        assert!(mistakes[0].starts_with("http: ") && mistakes[0].contains("--insecure"), "{mistakes:?}");
        assert!(read(&["--http", "0.0.0.0:8001", "--insecure"]).is_ok());
    }
}
