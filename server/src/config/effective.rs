//! What is in force, as it would be written: for the web page.

use std::fmt;

use ksched_core::cluster::{DeliveredHeaders, Delivery};
use ksched_kafka::topics::{IntakeStart, Replication};
use ksched_telemetry::{http::Exposure, logging, settings::masked};

use super::{Config, StoreAddress};

impl Config {
    /// Every setting's name and value, secrets masked, in the order of `config show`.
    pub fn effective(&self) -> Vec<(String, String)> {
        let (cluster, geometry) = (&self.cluster, &self.cluster.geometry);
        let replication = match self.replication {
            Replication::Auto => "auto".to_owned(),
            Replication::Factor(factor) => factor.to_string(),
        };
        let intake_start = match self.intake_start {
            IntakeStart::End => "latest",
            IntakeStart::Earliest => "earliest",
        };
        let store = match &self.store {
            StoreAddress::Memory => "memory".to_owned(),
            StoreAddress::Etcd { endpoints, user } => {
                let user = user.as_ref().map_or("", |_| "***@");
                format!("etcd://{user}{}", endpoints.join(","))
            }
        };
        let delivery = match cluster.delivery {
            Delivery::ExactlyOnce => "exactly-once",
            Delivery::AtLeastOnce => "at-least-once",
        };
        let delivered_headers = match cluster.delivered_headers {
            DeliveredHeaders::All => "all",
            DeliveredHeaders::Id => "id",
            DeliveredHeaders::None => "none",
        };
        let log_format = match self.log_format {
            logging::Format::Text => "text",
            logging::Format::Json => "json",
        };
        let ours: [(&str, &dyn fmt::Display); 24] = [
            ("name", &self.name),
            ("listen", &self.listen),
            ("http", &self.http),
            ("insecure", &(self.exposure == Exposure::Anywhere)),
            ("kafka", &self.kafka),
            ("replication", &replication),
            ("store", &store),
            ("cluster", &cluster.name),
            ("slot-width", &span(geometry.slot_width_ms)),
            ("ratio", &geometry.ratio),
            ("levels", &geometry.levels),
            ("lanes", &geometry.lanes),
            ("lease-ttl", &span(geometry.lease_ttl_ms)),
            ("delivery", &delivery),
            ("delivered.headers", &delivered_headers),
            ("topic-prefix", &cluster.topic_prefix),
            ("intake.topic", &cluster.intake_topic),
            ("intake.partitions", &cluster.intake_partitions),
            ("intake.start", &intake_start),
            ("dead-letter.topic", &cluster.dead_letter_topic),
            ("compat.stamps", &cluster.compat_stamps),
            ("web.form", &self.web_form),
            ("log.format", &log_format),
            ("log.filter", &self.log_filter),
        ];
        let ours = ours.into_iter().map(|(name, value)| (name.to_owned(), value.to_string()));
        let properties = self.kafka_properties.iter();
        let properties = properties.map(|(name, value)| (format!("kafka.{name}"), masked(name, value)));
        ours.chain(properties).collect()
    }
}

fn span(ms: i64) -> String {
    if ms % 1_000 == 0 { format!("{}s", ms / 1_000) } else { format!("{ms}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SETTINGS, Secret};

    #[test]
    fn every_setting_is_there_as_help_writes_it() {
        let told = Config::default().effective();
        let help: Vec<_> = SETTINGS.iter().map(|s| (s.name.to_owned(), s.default.to_owned())).collect();
        assert_eq!(told, help);
    }

    #[test]
    fn secrets_are_masked() {
        let user = Some(("root".to_owned(), Secret("hush".to_owned())));
        let config = Config {
            store: StoreAddress::Etcd { endpoints: vec!["a:1".to_owned()], user },
            kafka_properties: [("sasl.password".to_owned(), "hush".to_owned())].into(),
            ..Config::default()
        };
        let told = config.effective();
        assert!(told.contains(&("store".to_owned(), "etcd://***@a:1".to_owned())));
        assert!(told.contains(&("kafka.sasl.password".to_owned(), "***".to_owned())));
        assert!(!format!("{told:?}").contains("hush"));
    }
}
