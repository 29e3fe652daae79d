//! The options that say where the coordinators and Kafka are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use clap::Args;
use ksched_client::{Client, Error, Settings, kafka};
use ksched_kafka::Librdkafka;

use crate::output::{self, Failure};

/// Somebody waits for the answer to a single question: not as long as a program's
/// client would be patient, but longer than a coordinator needs to start again.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// After so long without an answer it is told what is waited for.
const TELL_AFTER: Duration = Duration::from_millis(1_500);

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
    /// Where Kafka is; a coordinator is asked if this is not given (floors and baseline, which have none, need it).
    #[arg(long, value_name = "HOST:PORT[,HOST:PORT]", env = "KSCHED_KAFKA")]
    kafka: Option<String>,
    /// A librdkafka property; may be repeated.
    #[arg(short = 'X', value_name = "PROPERTY=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
}

impl ServerArguments {
    /// A client that outlasts a coordinator's restart, for runs of some length.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        self.client_with(Settings::default())
    }

    /// A client that is as patient as the settings say.
    pub(crate) fn client_with(&self, settings: Settings) -> Result<Client, Failure> {
        Ok(Client::connect(&self.server, settings)?)
    }

    /// As they were given.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.server
    }

    /// Asks one thing, and says so if the answer does not come at once.
    pub(crate) async fn ask<T, F>(&self, ask: impl FnOnce(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let settings = Settings { deadline: GIVE_UP_AFTER, ..Settings::default() };
        let client = Client::connect(&self.server, settings)?;
        let waiting = format!(
            "no answer from {} yet; trying for {} s in all",
            self.server.join(", "),
            GIVE_UP_AFTER.as_secs()
        );
        patiently(&waiting, ask(client)).await.map_err(|error| match error.is_unanswered() {
            true => {
                Failure::MayPass(format!("{error}; is a coordinator there? --server HOST:PORT or KSCHED_SERVER names another, `ksched local status` those that run here"))
            }
            false => error.into(),
        })
    }

    /// Fails if no coordinator answers: before a run, so that it does not begin with a
    /// long silence.
    pub(crate) async fn reach(&self) -> Result<(), Failure> {
        let reached = self.ask(|client| async move {
            match client.cluster().await {
                Err(error) if error.is_retryable() => Err(error),
                // Whatever it says, it is there.
                _ => Ok(()),
            }
        });
        reached.await
    }
}

/// Waits, and after a while tells on stderr for what.
pub(crate) async fn patiently<T>(waiting: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = tokio::time::sleep(TELL_AFTER) => output::note(waiting),
    }
    work.await
}

impl KafkaArguments {
    /// The way to Kafka, and the address it goes to.
    pub(crate) async fn connect(
        &self,
        server: &ServerArguments,
    ) -> Result<(Arc<Librdkafka>, String), Failure> {
        let address = match &self.kafka {
            Some(address) => address.clone(),
            None => {
                server
                    .ask(|client| async move { client.cluster().await })
                    .await?
                    .cluster
                    .unwrap_or_default()
                    .kafka
            }
        };
        if address.is_empty() {
            return Err(Failure::Refused(
                "the coordinator does not tell where Kafka is: use --kafka".to_owned(),
            ));
        }
        self.connect_to(address)
    }

    /// Fails if only a coordinator could tell where Kafka is.
    pub(crate) fn is_told(&self) -> Result<&String, Failure> {
        let unknown =
            || Failure::Refused("there is no coordinator that tells where Kafka is: use --kafka".to_owned());
        self.kafka.as_ref().ok_or_else(unknown)
    }

    /// As [`connect`](Self::connect), without a coordinator.
    pub(crate) fn connect_directly(&self) -> Result<Arc<Librdkafka>, Failure> {
        Ok(self.connect_to(self.is_told()?.clone())?.0)
    }

    /// The same again, for a program that is started.
    #[cfg(feature = "experiment")]
    pub(crate) fn to_flags(&self) -> Vec<String> {
        let kafka = self.kafka.iter().flat_map(|address| ["--kafka".to_owned(), address.clone()]);
        let properties = self.properties.iter();
        let properties = properties.flat_map(|(name, value)| ["-X".to_owned(), format!("{name}={value}")]);
        kafka.chain(properties).collect()
    }

    fn connect_to(&self, address: String) -> Result<(Arc<Librdkafka>, String), Failure> {
        let properties: BTreeMap<_, _> = self.properties.iter().cloned().collect();
        Ok((Arc::new(kafka::connect(&address, properties)?), address))
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected PROPERTY=VALUE".to_owned()),
    }
}
