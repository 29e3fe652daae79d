//! What follows from a run's figures.

use serde::Serialize;

use super::{Floor, Role, Run};

/// None where a run lacks what it follows from.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Derived {
    /// CPU-seconds of all processes but the bench, for each million of messages delivered.
    pub cpu_seconds_per_million: Option<f64>,
    /// Of those without Kafka's: what the system adds to the broker.
    pub own_cpu_seconds_per_million: Option<f64>,
    /// Produce and fetch requests that Kafka answered, for each message delivered.
    pub requests_per_message: Option<f64>,
    /// Bytes that Kafka wrote for each byte of a delivered record.
    pub bytes_ratio: Option<f64>,
    /// Sum of the peaks of all processes but the bench and Kafka.
    pub own_peak_rss_bytes: Option<u64>,
    pub floors: Vec<FloorRatio>,
}

/// A run against one of its floors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FloorRatio {
    pub name: String,
    /// Delivered a second ÷ the floor's rate.
    pub rate: Option<f64>,
    /// Visible lateness ÷ the floor's.
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

impl Run {
    /// Ratios and costs.
    pub fn derived(&self) -> Derived {
        let delivered = self.counts.delivered as f64;
        let processes = |role: fn(Role) -> bool| self.processes.iter().filter(move |p| role(p.role));
        let own = |role| !matches!(role, Role::Bench | Role::Kafka);
        let cpu_per_million = |role: fn(Role) -> bool| {
            processes(role).next()?;
            ratio(processes(role).map(|p| p.totals.cpu_s).sum::<f64>() * 1e6, delivered)
        };
        Derived {
            cpu_seconds_per_million: cpu_per_million(|role| role != Role::Bench),
            own_cpu_seconds_per_million: cpu_per_million(own),
            requests_per_message: self
                .broker
                .as_ref()
                .and_then(|b| ratio((b.produce_requests? + b.fetch_requests?) as f64, delivered)),
            bytes_ratio: self
                .broker
                .as_ref()
                .and_then(|b| ratio(b.written_bytes? as f64, b.record_bytes? as f64)),
            own_peak_rss_bytes: processes(own).map(|p| p.totals.peak_rss_bytes).reduce(|a, b| a + b),
            floors: self.floors.iter().map(|floor| self.against(floor)).collect(),
        }
    }

    fn against(&self, floor: &Floor) -> FloorRatio {
        let visible = self.visible.as_ref().map(|v| v.summary).zip(floor.visible);
        FloorRatio {
            name: floor.name.clone(),
            rate: floor.rate_per_s.and_then(|rate| ratio(self.rates.delivered_per_s?, rate)),
            p50: visible.and_then(|(own, floor)| ratio(own.p50_ms, floor.p50_ms)),
            p99: visible.and_then(|(own, floor)| ratio(own.p99_ms, floor.p99_ms)),
        }
    }
}

/// Nothing unless it is a finite number.
pub(crate) fn ratio(of: f64, to: f64) -> Option<f64> {
    Some(of / to).filter(|ratio| ratio.is_finite())
}
