//! What an operator may set on a coordinator.
//!
//! [`SETTINGS`] is the list; [`Config::read`] checks all of it at once. How the
//! layers come together is told in [`ksched_telemetry::settings`].

mod effective;

use std::{collections::BTreeMap, fmt};

use ksched_core::cluster::{Cluster, DeliveredHeaders, Delivery};
use ksched_kafka::topics::{IntakeStart, Replication};
use ksched_telemetry::{
    http::Exposure,
    logging,
    settings::{self, Given, Kind, Mistakes, Setting},
};

/// A coordinator's settings.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// Names this coordinator to people and to the others.
    pub name: String,
    /// HOST:PORT of the gRPC door; port 0 takes a free one.
    pub listen: String,
    /// HOST:PORT of `/metrics`, `/healthz` and `/readyz`.
    pub http: String,
    pub exposure: Exposure,
    /// Kafka's bootstrap servers.
    pub kafka: String,
    /// librdkafka properties, passed through as they are.
    pub kafka_properties: BTreeMap<String, String>,
    /// Copies of the topics ksched makes.
    pub replication: Replication,
    /// From where an intake topic is read that existed before ksched.
    pub intake_start: IntakeStart,
    pub store: StoreAddress,
    /// What all coordinators must agree on; kept in the store at first start.
    pub cluster: Cluster,
    pub log_format: logging::Format,
    pub log_filter: String,
    /// Whether the web page can schedule a message.
    pub web_form: bool,
}

/// Where the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAddress {
    /// In this process: for one coordinator, forgotten with it.
    Memory,
    Etcd {
        /// `HOST:PORT` each.
        endpoints: Vec<String>,
        /// User name and password, where etcd asks for them.
        user: Option<(String, Secret)>,
    },
}

/// A text that is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

/// As an operator knows it, without the password.
impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Etcd { endpoints, .. } => write!(f, "etcd at {}", endpoints.join(",")),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Every setting, in the order of `--help` and `config show`.
pub const SETTINGS: &[Setting] = &[
    value("name", "coordinator-1", "name of this coordinator"),
    value("listen", "127.0.0.1:50051", "HOST:PORT of the gRPC door"),
    value("http", "127.0.0.1:8000", "HOST:PORT of the web page, /metrics, /healthz and /readyz"),
    settings::INSECURE,
    settings::KAFKA,
    value("replication", "auto", "replicas of the topics ksched makes: a number, or auto for up to three"),
    value(
        "store",
        "memory",
        "etcd://[USER:PASSWORD@]HOST:PORT[,HOST:PORT], or memory for one coordinator alone",
    ),
    value("cluster", "ksched", "name of the cluster, part of its consumer group and transactional ids"),
    value("slot-width", "10s", "width of a slot of the wheel's level 1"),
    value("ratio", "32", "slots of one level in a slot of the next; even"),
    value("levels", "4", "levels of the wheel"),
    value("lanes", "4", "independent streams of work"),
    value("lease-ttl", "5s", "how long a worker's lease lasts without a heartbeat"),
    value("delivery", "exactly-once", "exactly-once or at-least-once"),
    value("delivered.headers", "all", "headers added to delivered messages: all, id or none"),
    value("topic-prefix", "ksched.", "prefix of the wheel, due and control topics"),
    value("intake.topic", "SCHEDULED_MESSAGES", "topic from which plain Kafka records are taken"),
    value("intake.partitions", "16", "partitions of the intake topic, if ksched makes it"),
    value("intake.start", "latest", "from where an older intake topic is read: latest or earliest"),
    value("dead-letter.topic", "ksched.dlq", "topic for what cannot be delivered or understood"),
    value(
        "compat.stamps",
        "false",
        "true adds the earlier system's __sm_ stamps to all delivered messages, not only to those with its headers",
    ),
    Setting {
        name: "web.form",
        kind: Kind::Switch,
        default: "false",
        help: "offer a form on the web page by which whoever sees it can schedule a message",
    },
    settings::LOG_FORMAT,
    settings::LOG_FILTER,
];

const fn value(name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { name, kind: Kind::Value, default, help }
}

/// Without the Kafka properties: there are secrets among them.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("listen", &self.listen)
            .field("kafka", &self.kafka)
            .field("store", &self.store)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "coordinator-1".to_owned(),
            listen: "127.0.0.1:50051".to_owned(),
            http: "127.0.0.1:8000".to_owned(),
            exposure: Exposure::default(),
            kafka: "127.0.0.1:9092".to_owned(),
            kafka_properties: BTreeMap::new(),
            replication: Replication::default(),
            intake_start: IntakeStart::default(),
            store: StoreAddress::Memory,
            cluster: Cluster::default(),
            log_format: logging::Format::default(),
            log_filter: "info,librdkafka=error".to_owned(),
            web_form: false,
        }
    }
}

impl Config {
    /// Reads and checks what was given.
    ///
    /// # Errors
    /// All mistakes, of all layers, of single values and between them.
    pub fn read(given: &mut Given) -> Result<Self, Mistakes> {
        let mut config = Self::default();
        let cluster = &mut config.cluster;
        given.put("name", &mut config.name, name);
        given.put("listen", &mut config.listen, settings::address);
        given.put("http", &mut config.http, settings::address);
        given.put("insecure", &mut config.exposure, exposure);
        given.put("kafka", &mut config.kafka, settings::addresses);
        given.put("replication", &mut config.replication, replication);
        given.put("store", &mut config.store, store);
        given.put("cluster", &mut cluster.name, name);
        given.put("slot-width", &mut cluster.geometry.slot_width_ms, settings::duration_ms);
        given.put("ratio", &mut cluster.geometry.ratio, str::parse);
        given.put("levels", &mut cluster.geometry.levels, str::parse);
        given.put("lanes", &mut cluster.geometry.lanes, str::parse);
        given.put("lease-ttl", &mut cluster.geometry.lease_ttl_ms, settings::duration_ms);
        given.put("delivery", &mut cluster.delivery, delivery);
        given.put("delivered.headers", &mut cluster.delivered_headers, delivered_headers);
        given.put("topic-prefix", &mut cluster.topic_prefix, name);
        given.put("intake.topic", &mut cluster.intake_topic, name);
        given.put("intake.partitions", &mut cluster.intake_partitions, at_least_one);
        given.put("intake.start", &mut config.intake_start, intake_start);
        given.put("dead-letter.topic", &mut cluster.dead_letter_topic, name);
        given.put("compat.stamps", &mut cluster.compat_stamps, settings::switch);
        given.put("web.form", &mut config.web_form, settings::switch);
        given.put("log.format", &mut config.log_format, str::parse);
        given.put("log.filter", &mut config.log_filter, |t| logging::check(t).map(|_| t.to_owned()));
        for (setting, address) in [("listen", &config.listen), ("http", &config.http)] {
            if let Err(why) = config.exposure.check(address) {
                given.mistake(format_args!("{setting}: {why}"));
            }
        }
        if let Err(why) = cluster.geometry.check() {
            given.mistake(format_args!("geometry of the wheel: {why}"));
        }
        for why in cluster.topic_errors() {
            given.mistake(why);
        }
        if config.listen == config.http && !config.listen.ends_with(":0") {
            given.mistake(format_args!("listen and http are both {}", config.listen));
        }
        config.kafka_properties = given.kafka_properties();
        for why in ksched_kafka::property_mistakes(&config.kafka_properties) {
            given.mistake(why);
        }
        given.finish().map(|()| config)
    }
}

/// Part of topic names and ids: what Kafka allows in a topic's name.
fn name(text: &str) -> Result<String, &'static str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !text.is_empty() && text.len() <= 100 && text.chars().all(legal) {
        Ok(text.to_owned())
    } else {
        Err("1 to 100 letters, digits, dots, dashes and underscores are expected")
    }
}

fn at_least_one(text: &str) -> Result<i32, &'static str> {
    text.parse().ok().filter(|n| *n >= 1).ok_or("a number from 1 on is expected")
}

fn replication(text: &str) -> Result<Replication, &'static str> {
    match (text, text.parse()) {
        ("auto", _) => Ok(Replication::Auto),
        (_, Ok(factor)) if factor >= 1 => Ok(Replication::Factor(factor)),
        _ => Err("auto or a number from 1 on is expected"),
    }
}

fn exposure(text: &str) -> Result<Exposure, &'static str> {
    Ok(if settings::switch(text)? { Exposure::Anywhere } else { Exposure::LoopbackOnly })
}

fn store(text: &str) -> Result<StoreAddress, String> {
    if text == "memory" {
        return Ok(StoreAddress::Memory);
    }
    let addresses =
        text.strip_prefix("etcd://").ok_or("memory or etcd://HOST:PORT[,HOST:PORT] is expected")?;
    let (user, addresses) = match addresses.rsplit_once('@') {
        Some((user, addresses)) => {
            let (name, password) = user.split_once(':').ok_or("USER:PASSWORD@ is expected before @")?;
            (Some((name.to_owned(), Secret(password.to_owned()))), addresses)
        }
        None => (None, addresses),
    };
    settings::addresses(addresses)?;
    let endpoints = addresses.split(',').map(|a| a.trim().to_owned()).collect();
    Ok(StoreAddress::Etcd { endpoints, user })
}

fn delivery(text: &str) -> Result<Delivery, &'static str> {
    match text {
        "exactly-once" => Ok(Delivery::ExactlyOnce),
        "at-least-once" => Ok(Delivery::AtLeastOnce),
        _ => Err("exactly-once or at-least-once is expected"),
    }
}

fn delivered_headers(text: &str) -> Result<DeliveredHeaders, &'static str> {
    match text {
        "all" => Ok(DeliveredHeaders::All),
        "id" => Ok(DeliveredHeaders::Id),
        "none" => Ok(DeliveredHeaders::None),
        _ => Err("all, id or none is expected"),
    }
}

fn intake_start(text: &str) -> Result<IntakeStart, &'static str> {
    match text {
        "latest" => Ok(IntakeStart::End),
        "earliest" => Ok(IntakeStart::Earliest),
        _ => Err("latest or earliest is expected"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &[&str]) -> Result<Config, Mistakes> {
        let command = settings::command("ksched-server", "", "0", SETTINGS);
        let matches = command.no_binary_name(true).get_matches_from(flags);
        Config::read(&mut Given::gather(SETTINGS, &matches, []))
    }

    #[test]
    fn nothing_given_means_the_defaults_that_help_tells() {
        assert_eq!(read(&[]), Ok(Config::default()));
        // Every default of the table, given as a flag, changes nothing.
        let told: Vec<String> = SETTINGS
            .iter()
            .filter(|s| !s.default.is_empty())
            .map(|s| format!("--{}={}", s.name.replace('.', "-"), s.default))
            .collect();
        assert_eq!(read(&told.iter().map(String::as_str).collect::<Vec<_>>()), Ok(Config::default()));
    }

    #[test]
    fn every_flag_is_read() {
        let config = read(&[
            "--name",
            "c-2",
            "--listen",
            "127.0.0.1:1",
            "--http",
            "127.0.0.1:2",
            "--insecure",
            "--kafka",
            "k:9092",
            "--replication",
            "3",
            "--store",
            "etcd://u:p@a:2379,b:2379",
            "--cluster",
            "other",
            "--slot-width",
            "4s",
            "--ratio",
            "4",
            "--levels",
            "3",
            "--lanes",
            "2",
            "--lease-ttl",
            "2s",
            "--delivery",
            "at-least-once",
            "--delivered-headers",
            "none",
            "--topic-prefix",
            "o.",
            "--intake-topic",
            "in",
            "--intake-partitions",
            "2",
            "--intake-start",
            "earliest",
            "--dead-letter-topic",
            "dead",
            "--compat-stamps",
            "true",
            "--web-form",
            "--log-format",
            "json",
            "--log-filter",
            "debug",
            "-X",
            "linger.ms=3",
        ])
        .unwrap();
        let default = Config::default();
        let user = Some(("u".to_owned(), Secret("p".to_owned())));
        let endpoints = vec!["a:2379".to_owned(), "b:2379".to_owned()];
        assert_eq!(config.store.to_string(), "etcd at a:2379,b:2379");
        assert_eq!(config.store, StoreAddress::Etcd { endpoints, user });
        assert_eq!(config.replication, Replication::Factor(3));
        assert_eq!(config.exposure, Exposure::Anywhere);
        assert_eq!(config.intake_start, IntakeStart::Earliest);
        assert_eq!(config.log_format, logging::Format::Json);
        assert_eq!(config.kafka_properties.len(), 1);
        assert!(config.web_form);
        let (new, old) = (config.cluster, default.cluster);
        assert_eq!(new.geometry.slot_width_ms, 4_000);
        assert_ne!(new.name, old.name);
        assert_ne!(new.delivery, old.delivery);
        assert_ne!(new.delivered_headers, old.delivered_headers);
        assert_ne!(new.compat_stamps, old.compat_stamps);
        assert_ne!(new.intake_partitions, old.intake_partitions);
        assert_ne!(new.dead_letter_topic, old.dead_letter_topic);
    }

    #[test]
    fn doors_in_the_open_are_a_mistake_unless_insecure_says_so() {
        let open = ["--listen", "0.0.0.0:1", "--http", "[::]:2"];
        let Mistakes(mistakes) = read(&open).unwrap_err();
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert!(mistakes[0].starts_with("listen: ") && mistakes[0].contains("--insecure"), "{mistakes:?}");
        assert!(read(&[&open[..], &["--insecure"]].concat()).is_ok());
    }

    #[test]
    fn mistakes_of_values_and_between_them_are_told_together() {
        let Mistakes(mistakes) =
            read(&["--store", "mysql://a:1", "--ratio", "5", "--name", "a b", "--log-filter", "a=b=c"])
                .unwrap_err();
        assert_eq!(mistakes.len(), 4, "{mistakes:?}");
        assert!(mistakes[3].contains("ratio must be an even number"), "{mistakes:?}");
    }

    #[test]
    fn settings_that_contradict_each_other_are_told_together() {
        let Mistakes(mistakes) = read(&[
            "--intake-topic=q",
            "--dead-letter-topic=q",
            "--listen=127.0.0.1:9",
            "--http=127.0.0.1:9",
            "--lanes=1024",
            "--slot-width=1s",
            "--lease-ttl=60s",
            "-Xacks=1",
            "-Xtransactional.id=mine",
        ])
        .unwrap_err();
        let expected = [
            "kafka.acks (-X): ksched itself sets it to all",
            "kafka.transactional.id (-X): ksched itself sets it",
            "geometry of the wheel: level 1 opens 63999 ms ahead, further than its slots of 1000 ms reach",
            "intake.topic and dead-letter.topic are both q: dead letters would be taken in again for ever",
            "listen and http are both 127.0.0.1:9",
        ];
        assert_eq!(mistakes, expected);
    }

    #[test]
    fn topics_that_would_feed_on_themselves_are_refused() {
        let cases = [
            ("--intake-topic=ksched.due", "intake.topic is ksched.due, where messages under way are kept"),
            (
                "--dead-letter-topic=ksched.wheel.2",
                "dead-letter.topic is ksched.wheel.2, where messages under way are kept",
            ),
            (
                "--intake-topic=__consumer_offsets",
                "intake.topic is __consumer_offsets: names that begin with __ are Kafka's own",
            ),
            ("--intake-topic=..", "intake.topic is .., which is no name for a topic"),
            (
                "--dead-letter-topic=SCHEDULED_MESSAGES",
                "intake.topic and dead-letter.topic are both SCHEDULED_MESSAGES: dead letters would be taken in again for ever",
            ),
        ];
        for (flag, mistake) in cases {
            assert_eq!(read(&[flag]), Err(Mistakes(vec![mistake.to_owned()])), "{flag}");
        }
    }

    #[test]
    fn wrong_types_are_told_with_the_value() {
        let cases = [
            ("--lanes=many", "lanes: \"many\" (--lanes): invalid digit found in string"),
            ("--lanes=-1", "lanes: \"-1\" (--lanes): invalid digit found in string"),
            ("--lanes=65536", "lanes: \"65536\" (--lanes): number too large to fit in target type"),
            ("--slot-width=10", "slot-width: \"10\" (--slot-width): a span such as 10s or 1m30s is expected"),
            ("--slot-width=-10s", "slot-width: \"-10s\" (--slot-width): it must not be negative"),
            (
                "--intake-partitions=0",
                "intake.partitions: \"0\" (--intake-partitions): a number from 1 on is expected",
            ),
            ("--listen=50051", "listen: \"50051\" (--listen): HOST:PORT is expected"),
            ("--listen=a:65536", "listen: \"a:65536\" (--listen): HOST:PORT is expected"),
            (
                "--delivery=twice",
                "delivery: \"twice\" (--delivery): exactly-once or at-least-once is expected",
            ),
            ("--compat-stamps=yes", "compat.stamps: \"yes\" (--compat-stamps): true or false is expected"),
            ("--replication=0", "replication: \"0\" (--replication): auto or a number from 1 on is expected"),
            (
                "--store=etcd://root:hush@nowhere",
                "store: \"etcd://***@nowhere\" (--store): HOST:PORT is expected",
            ),
        ];
        for (flag, mistake) in cases {
            assert_eq!(read(&[flag]), Err(Mistakes(vec![mistake.to_owned()])), "{flag}");
        }
    }
}
