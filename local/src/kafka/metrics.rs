//! What Kafka counts, as the Prometheus JMX exporter inside each node tells it.

use std::{collections::BTreeMap, io, net::SocketAddr};

use crate::http;

/// Only these are looked up in the node, and only when somebody asks: what [`read`] and the dashboards want. Their
/// names are those that the exporter's own `examples/kafka-kraft-3_0_0.yml` gives them.
pub(super) const RULES: &str = r#"lowercaseOutputName: true
includeObjectNames:
  - kafka.controller:type=KafkaController,name=OfflinePartitionsCount
  - kafka.log:type=Log,name=Size,*
  - kafka.log:type=LogManager,name=OfflineLogDirectoryCount
  - kafka.network:type=RequestMetrics,name=RequestsPerSec,*
  - kafka.network:type=RequestMetrics,name=TotalTimeMs,*
  - kafka.network:type=SocketServer,name=NetworkProcessorAvgIdlePercent
  - kafka.server:type=BrokerTopicMetrics,name=BytesInPerSec
  - kafka.server:type=BrokerTopicMetrics,name=BytesOutPerSec
  - kafka.server:type=ReplicaManager,name=LeaderCount
  - kafka.server:type=ReplicaManager,name=PartitionsWithLateTransactionsCount
  - kafka.server:type=ReplicaManager,name=UnderReplicatedPartitions
rules:
  - pattern: kafka.network<type=RequestMetrics, name=RequestsPerSec, request=(\w+), version=(\d+)><>Count
    name: kafka_network_requestmetrics_requests_total
    type: COUNTER
    labels:
      request: $1
      version: $2
  - pattern: kafka.network<type=RequestMetrics, name=TotalTimeMs, request=(\w+)><>99thPercentile
    name: kafka_network_requestmetrics_totaltimems
    type: GAUGE
    labels:
      request: $1
      quantile: "0.99"
  - pattern: kafka.server<type=BrokerTopicMetrics, name=(\w+)PerSec><>Count
    name: kafka_server_brokertopicmetrics_$1_total
    type: COUNTER
  - pattern: kafka.log<type=Log, name=Size, topic=(.+), partition=(\d+)><>Value
    name: kafka_log_log_size
    type: GAUGE
    labels:
      topic: $1
      partition: $2
  - pattern: kafka.(\w+)<type=(\w+), name=(\w+)><>Value
    name: kafka_$1_$2_$3
    type: GAUGE
"#;

const REQUESTS: &str = "kafka_network_requestmetrics_requests_total";
const IN_BYTES: &str = "kafka_server_brokertopicmetrics_bytesin_total";
const OUT_BYTES: &str = "kafka_server_brokertopicmetrics_bytesout_total";

/// An answer has some 100 KiB, with a line for each partition and the Java machine's own figures.
const LONGEST: u64 = 1 << 20;
/// Kafka counts a fetch twice, under `Fetch` and under one of these.
const AGAIN: [&str; 2] = ["FetchConsumer", "FetchFollower"];

/// Counters since the nodes' start, all nodes together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Requests by API: `Produce`, `Fetch`, …
    pub requests: BTreeMap<String, u64>,
    /// Record batches as clients sent them.
    pub in_bytes: u64,
    /// Record batches as consumers fetched them.
    pub out_bytes: u64,
}

impl Counted {
    /// What was counted since `before`; none if a node has begun anew meanwhile.
    pub fn since(&self, before: &Self) -> Option<Self> {
        let had = |api: &String| before.requests.get(api).copied().unwrap_or(0);
        let is_known = before.requests.keys().all(|api| self.requests.contains_key(api));
        let grown = self.requests.iter().map(|(api, now)| Some((api.clone(), now.checked_sub(had(api))?)));
        let requests = grown.collect::<Option<BTreeMap<_, _>>>().filter(|_| is_known)?;
        Some(Self {
            requests: requests.into_iter().filter(|(_, count)| *count > 0).collect(),
            in_bytes: self.in_bytes.checked_sub(before.in_bytes)?,
            out_bytes: self.out_bytes.checked_sub(before.out_bytes)?,
        })
    }

    fn add(&mut self, text: &str) {
        for (series, value) in text.lines().filter_map(|line| line.rsplit_once(' ')) {
            // Whole numbers, written as 1.2E7.
            let Ok(count) = value.parse::<f64>().map(|value| value as u64) else { continue };
            match series.split_once('{') {
                None if series == IN_BYTES => self.in_bytes += count,
                None if series == OUT_BYTES => self.out_bytes += count,
                Some((REQUESTS, labels)) => {
                    let api = labels.split_once("request=\"").and_then(|(_, rest)| rest.split_once('"'));
                    if let Some((api, _)) = api.filter(|(api, _)| !AGAIN.contains(api)) {
                        *self.requests.entry(api.to_owned()).or_default() += count;
                    }
                }
                _ => {}
            }
        }
    }
}

/// Asks each node, at what [`Kafka::metrics`](super::Kafka::metrics) says.
///
/// # Errors
/// A node that does not answer.
pub fn read(addresses: &[String]) -> io::Result<Counted> {
    let mut counted = Counted::default();
    for address in addresses {
        let address: SocketAddr = address.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        counted.add(&http::fetch(address, "/metrics", LONGEST)?);
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "HTTP/1.0 200 OK\r\n\r\n# TYPE kafka_network_requestmetrics_requests_total counter\n\
        kafka_network_requestmetrics_requests_total{request=\"Produce\",version=\"12\"} 1.2E7\n\
        kafka_network_requestmetrics_requests_total{request=\"Produce\",version=\"13\"} 3.0\n\
        kafka_network_requestmetrics_requests_total{request=\"Fetch\",version=\"17\"} 40.0\n\
        kafka_network_requestmetrics_requests_total{request=\"FetchConsumer\",version=\"17\"} 40.0\n\
        kafka_server_brokertopicmetrics_bytesin_total 500.0\njvm_threads_current 70.0\n\
        kafka_server_brokertopicmetrics_bytesout_total 20.0\n";

    fn told() -> Counted {
        let mut counted = Counted::default();
        counted.add(TOLD);
        counted
    }

    #[test]
    fn all_versions_of_a_request_are_one() {
        let requests: Vec<_> = told().requests.into_iter().collect();
        assert_eq!(requests, [("Fetch".to_owned(), 40), ("Produce".to_owned(), 12_000_003)]);
        assert_eq!((told().in_bytes, told().out_bytes), (500, 20));
    }

    #[test]
    fn a_node_that_began_anew_has_not_counted_all() {
        let (before, mut now) = (told(), told());
        now.add("kafka_network_requestmetrics_requests_total{request=\"Fetch\",version=\"17\"} 2.0\n");
        let grown = now.since(&before).expect("nobody began anew");
        assert_eq!(grown.requests.into_iter().collect::<Vec<_>>(), [("Fetch".to_owned(), 2)]);
        assert_eq!(before.since(&now), None);
        assert_eq!(Counted::default().since(&before), None);
    }
}
