//! Numbers that are found out when they are scraped, not before.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

/// A gauge, or a counter without a label, that is read when it is scraped.
pub(super) struct Scraped {
    pub(super) name: &'static str,
    pub(super) kind: MetricType,
    pub(super) unit: Option<Unit>,
    pub(super) help: &'static str,
    pub(super) label: Option<&'static str>,
    /// The label's values, and the number for each.
    pub(super) read: Box<dyn Fn() -> Vec<(String, f64)> + Send + Sync>,
}

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), self.kind)?;
        (self.read)().iter().try_for_each(|(value, number)| match (self.label, self.kind) {
            (Some(label), _) => metric.encode_family(&[(label, &**value)])?.encode_gauge(number),
            (None, MetricType::Counter) => metric.encode_counter::<NoLabelSet, _, f64>(number, None),
            (None, _) => metric.encode_gauge(number),
        })
    }
}

/// What every process tells of itself, under the names that all Prometheus clients use.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Without /proc there is nothing to tell.
        let Ok(process) = procfs::process::Process::myself() else { return Ok(()) };
        let ticks_per_s = procfs::ticks_per_second() as f64;
        let mut gauge = |name: &str, unit, help: &str, number: Option<f64>| {
            let encode = |mut gauge: MetricEncoder<'_>, number| gauge.encode_gauge(&number);
            let gauge = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            number.map_or(Ok(()), |number| encode(gauge, number))
        };
        let descriptors = process.fd_count().ok().map(|open| open as f64);
        gauge("process_open_fds", None, "Open file descriptors", descriptors)?;
        let most = process.limits().ok().map(|limits| match limits.max_open_files.soft_limit {
            procfs::process::LimitValue::Value(most) => most as f64,
            procfs::process::LimitValue::Unlimited => f64::INFINITY,
        });
        gauge("process_max_fds", None, "File descriptors that may be open", most)?;
        let Ok(stat) = process.stat() else { return Ok(()) };
        let resident = (stat.rss * procfs::page_size()) as f64;
        gauge("process_resident_memory", Some(&Unit::Bytes), "Resident memory", Some(resident))?;
        let started =
            procfs::boot_time_secs().ok().map(|boot| boot as f64 + stat.starttime as f64 / ticks_per_s);
        gauge(
            "process_start_time",
            Some(&Unit::Seconds),
            "Start of the process since the Unix epoch",
            started,
        )?;
        let cpu_s = (stat.utime + stat.stime) as f64 / ticks_per_s;
        encoder
            .encode_descriptor(
                "process_cpu",
                "Time on a core, user and system",
                Some(&Unit::Seconds),
                MetricType::Counter,
            )?
            .encode_counter::<NoLabelSet, _, f64>(&cpu_s, None)
    }
}

impl fmt::Debug for Scraped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scraped").field("name", &self.name).finish_non_exhaustive()
    }
}
