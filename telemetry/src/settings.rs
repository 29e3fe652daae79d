//! Layered settings: flags over `KSCHED_…` environment over a TOML file over defaults.
//!
//! A program lists its settings in a table of [`Setting`]; [`command`] makes its
//! command line of it, [`Given::gather`] collects what was said in all layers, and
//! the program reads each value with its own parser by [`Given::put`]. Nothing stops
//! at the first mistake: [`Given::finish`] tells them all.
//!
//! | setting | in the file | in the environment | flag |
//! | --- | --- | --- | --- |
//! | `lease-ttl` | `lease-ttl = "5s"` | `KSCHED_LEASE_TTL` | `--lease-ttl 5s` |
//! | `delivered.headers` | `delivered.headers = "id"` | `KSCHED_DELIVERED_HEADERS` | `--delivered-headers id` |
//! | any Kafka property | `kafka.linger.ms = 5` | `KSCHED_KAFKA__LINGER_MS` | `-X linger.ms=5` |
//!
//! The Kafka property `bootstrap.servers` is the setting `kafka`, however it is
//! given. The libraries `config` and `figment` stop at the first mistake, which is
//! why this is our own.

mod command;
mod layers;
mod values;

use std::{collections::BTreeMap, fmt, path::PathBuf};

pub use command::{Task, command, task};
pub use layers::environment;
pub use values::{address, addresses, byte_count, duration_ms, switch};

/// One setting of a program.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its key in the file.
    pub name: &'static str,
    pub kind: Kind,
    /// As it would be written; for `--help` and `config show` only.
    pub default: &'static str,
    pub help: &'static str,
}

/// How a setting is written as a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `--flag VALUE`
    Value,
    /// `--flag` alone means true.
    Switch,
}

/// Settings that every process has.
pub const LOG_FORMAT: Setting =
    Setting { name: "log.format", kind: Kind::Value, default: "text", help: "text or json" };
/// See [`logging::init`](crate::logging::init).
pub const LOG_FILTER: Setting = Setting {
    name: "log.filter",
    kind: Kind::Value,
    default: "info,librdkafka=error",
    help: "which log lines are written: info, or ksched_server=debug,info",
};
/// See [`http::Exposure`](crate::http::Exposure).
pub const INSECURE: Setting = Setting {
    name: "insecure",
    kind: Kind::Switch,
    default: "false",
    help: "listen on other addresses than loopback although there is no TLS",
};
/// Where Kafka is.
pub const KAFKA: Setting = Setting {
    name: "kafka",
    kind: Kind::Value,
    default: "127.0.0.1:9092",
    help: "Kafka's bootstrap servers, HOST:PORT[,HOST:PORT]; kafka.bootstrap.servers in the file",
};

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    File(PathBuf),
    Environment(String),
    Flag(String),
}

/// What was given in all layers, the stronger layer's value where several gave one.
#[derive(Debug)]
pub struct Given {
    table: &'static [Setting],
    values: BTreeMap<&'static str, (String, Origin)>,
    kafka: BTreeMap<String, (String, Origin)>,
    mistakes: Vec<String>,
    notes: Vec<String>,
}

/// Everything that is wrong with the settings, a line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Mistakes(pub Vec<String>);

impl Given {
    /// Reads a setting into `into`, which keeps its default where nothing was given.
    /// A value that does not parse is noted as a mistake.
    pub fn put<T, E: fmt::Display>(
        &mut self,
        name: &'static str,
        into: &mut T,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) {
        debug_assert!(self.table.iter().any(|s| s.name == name), "{name} is not in the table");
        let Some((text, origin)) = self.values.get(name) else { return };
        match parse(text) {
            Ok(value) => *into = value,
            Err(why) => self.mistakes.push(format!("{name}: {:?} ({origin}): {why}", masked(name, text))),
        }
    }

    /// The Kafka properties to pass through.
    pub fn kafka_properties(&self) -> BTreeMap<String, String> {
        self.kafka.iter().map(|(name, (value, _))| (name.clone(), value.clone())).collect()
    }

    /// Notes a mistake that lies between several settings.
    pub fn mistake(&mut self, what: impl fmt::Display) {
        self.mistakes.push(what.to_string());
    }

    /// What is odd but not wrong, for the log.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// All mistakes of all layers and values.
    ///
    /// # Errors
    /// There is a mistake.
    pub fn finish(&self) -> Result<(), Mistakes> {
        if self.mistakes.is_empty() { Ok(()) } else { Err(Mistakes(self.mistakes.clone())) }
    }

    /// What is in force, as a TOML file with the origin of each value, secrets masked.
    pub fn show(&self) -> String {
        let line = |name: &str, text: &str, origin: &dyn fmt::Display| {
            format!("{name} = {:?}  # {origin}\n", masked(name, text))
        };
        let mut out = String::new();
        for setting in self.table {
            let key = if setting.name == KAFKA.name { "kafka.bootstrap.servers" } else { setting.name };
            out += &match self.values.get(setting.name) {
                Some((text, origin)) => line(key, text, origin),
                None if setting.default.is_empty() => format!("# {key} is not set\n"),
                None => line(key, setting.default, &"default"),
            };
        }
        for (name, (text, origin)) in &self.kafka {
            out += &line(&format!("kafka.{name}"), text, origin);
        }
        out
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "in {}", path.display()),
            Self::Environment(name) => write!(f, "in {name}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// Hides passwords: of properties that hold one, and in front of the `@` of a URL.
pub fn masked(name: &str, text: &str) -> String {
    const SECRET: [&str; 7] =
        ["password", "passphrase", "secret", "token", "key.pem", "oauthbearer.config", "kinit.cmd"];
    if SECRET.iter().any(|s| name.contains(s)) {
        return "***".to_owned();
    }
    match text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, host)) => format!("{scheme}://***@{host}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
