//! What Kafka counts, as the Prometheus JMX exporter inside each node tells it.

use std::{collections::BTreeMap, io, net::SocketAddr};

use crate::http;

/// Only these are looked up in the node, and only when somebody asks.
pub(super) const RULES: &str = r#"includeObjectNames:
  - kafka.network:type=RequestMetrics,name=RequestsPerSec,*
  - kafka.server:type=BrokerTopicMetrics,name=BytesInPerSec
  - kafka.server:type=BrokerTopicMetrics,name=BytesOutPerSec
rules:
  - pattern: kafka.network<type=RequestMetrics, name=RequestsPerSec, request=(\w+), version=(\d+)><>Count
    name: kafka_requests_total
    type: COUNTER
    labels:
      api: $1
      version: $2
  - pattern: kafka.server<type=BrokerTopicMetrics, name=BytesInPerSec><>Count
    name: kafka_in_bytes_total
    type: COUNTER
  - pattern: kafka.server<type=BrokerTopicMetrics, name=BytesOutPerSec><>Count
    name: kafka_out_bytes_total
    type: COUNTER
"#;

/// An answer has some 15 KiB, the Java machine's own figures included.
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
                None if series == "kafka_in_bytes_total" => self.in_bytes += count,
                None if series == "kafka_out_bytes_total" => self.out_bytes += count,
                Some(("kafka_requests_total", labels)) => {
                    let api = labels.split_once("api=\"").and_then(|(_, rest)| rest.split_once('"'));
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

    const TOLD: &str = "HTTP/1.0 200 OK\r\n\r\n# TYPE kafka_requests_total counter\n\
        kafka_requests_total{api=\"Produce\",version=\"12\"} 1.2E7\n\
        kafka_requests_total{api=\"Produce\",version=\"13\"} 3.0\n\
        kafka_requests_total{api=\"Fetch\",version=\"17\"} 40.0\n\
        kafka_requests_total{api=\"FetchConsumer\",version=\"17\"} 40.0\n\
        kafka_in_bytes_total 500.0\njvm_threads_current 70.0\nkafka_out_bytes_total 20.0\n";

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
        now.add("kafka_requests_total{api=\"Fetch\",version=\"17\"} 2.0\n");
        let grown = now.since(&before).expect("nobody began anew");
        assert_eq!(grown.requests.into_iter().collect::<Vec<_>>(), [("Fetch".to_owned(), 2)]);
        assert_eq!(before.since(&now), None);
        assert_eq!(Counted::default().since(&before), None);
    }
}
