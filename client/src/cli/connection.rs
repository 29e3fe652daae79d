//! The options that say where the coordinators and Kafka are.

use std::{collections::BTreeMap, sync::Arc};

use clap::Args;
use ksched_client::{Client, Settings, kafka};
use ksched_kafka::Librdkafka;

use crate::output::Failure;

#[derive(Debug, Args)]
pub(crate) struct ServerArguments {
    /// Coordinators; the next one is tried when one fails.
    #[arg(
        long,
        value_name = "HOST:PORT[,HOST:PORT]",
        env = "KSCHED_SERVER",
        default_value = "127.0.0.1:50051",
        value_delimiter = ','
    )]
    server: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct KafkaArguments {
    /// Where Kafka is; the coordinator is asked if this is not given.
    #[arg(long, value_name = "HOST:PORT[,HOST:PORT]", env = "KSCHED_KAFKA")]
    kafka: Option<String>,
    /// A librdkafka property; may be repeated.
    #[arg(short = 'X', value_name = "PROPERTY=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
}

impl ServerArguments {
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::connect(&self.server, Settings::default())?)
    }
}

impl KafkaArguments {
    pub(crate) async fn connect(&self, server: &ServerArguments) -> Result<Arc<Librdkafka>, Failure> {
        let address = match &self.kafka {
            Some(address) => address.clone(),
            None => server.client()?.cluster().await?.cluster.unwrap_or_default().kafka,
        };
        if address.is_empty() {
            return Err(Failure::Refused(
                "the coordinator does not tell where Kafka is: use --kafka".to_owned(),
            ));
        }
        let properties: BTreeMap<_, _> = self.properties.iter().cloned().collect();
        Ok(Arc::new(kafka::connect(&address, properties)?))
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected PROPERTY=VALUE".to_owned()),
    }
}
