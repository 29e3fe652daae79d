//! The paths of "Message Scheduler for Apache Kafka" in its shapes, for scripts that read
//! them. A job there drains one bucket; here a lane, a bucket or an intake partition.
//! Times are UTC in its format; ids are ours.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ksched_core::{
    cluster::Cluster,
    jobs::{Finished, JobName},
};
use serde_json::{Map, Value, json};

use super::status::{Job, Status, WorkerState};
use crate::config::Config;

/// Columns of the job log, as there.
const COLUMNS: [&str; 8] =
    ["job_id", "name", "lower", "upper", "creation_time", "status", "workers", "finish_time"];

/// `/config`: its keys as far as they mean something here, then all of our settings.
pub(super) fn config(config: &Config) -> Value {
    let cluster = &config.cluster;
    let geometry = &cluster.geometry;
    let buckets: Vec<_> = (1..=geometry.levels)
        .map(|level| {
            let (lower, upper) = level_bounds(cluster, level);
            json!({ "name": cluster.wheel_topic(level), "lower": lower, "upper": upper })
        })
        .collect();
    let names: Vec<_> = (1..=geometry.levels).map(|level| cluster.wheel_topic(level)).collect();
    let settings: Map<String, Value> =
        config.effective().into_iter().map(|(name, value)| (name, value.into())).collect();
    json!({
        "sm_topic": cluster.intake_topic,
        "sm_topic_partitions": cluster.intake_partitions,
        "sm_partitions_per_bucket": geometry.wheel_partitions(),
        "bucket_list": names,
        "bucket_object_list": buckets,
        "kafka_server": config.kafka,
        "sm_consumer_group_prefix": cluster.group(),
        "sm_time_format": "%Y-%m-%d %H:%M:%S",
        "sm_miniumum_delay": geometry.slot_width_ms / 1_000,
        "sm_maximum_delay": level_bounds(cluster, geometry.levels).1,
        "sm_buckets_multiplication_ratio": geometry.ratio,
        "sm_bucket_topic_format": format!("{}wheel.$level$", cluster.topic_prefix),
        "sm_header_mh_timestamp_key": "__sm_mh_timestamp",
        "sm_header_job_id_key": "__sm_job_id",
        "sm_header_worker_timestamp_key": "__sm_worker_timestamp",
        "sm_header_message_hopcount_key": "__sm_message_hopcount",
        "worker_status_list.ready": "READY",
        "worker_status_list.working": "WORKING",
        "worker_status_list.done": "DONE",
        "worker_status_list.error": "ERROR",
        "ksched": settings,
    })
}

/// `/api/jq`.
pub(super) fn job_queue(cluster: &Cluster, status: &Status) -> Value {
    let jobs: Vec<_> = status.jobs.iter().map(|job| queued(cluster, job)).collect();
    json!({ "job_queue": jobs })
}

/// `/api/wq`.
pub(super) fn worker_queue(cluster: &Cluster, status: &Status) -> Value {
    let mut held = BTreeMap::<&str, Vec<&Job>>::new();
    for job in &status.jobs {
        held.entry(&job.worker_id).or_default().push(job);
    }
    let present = status.workers.iter().filter(|worker| worker.state != WorkerState::Gone);
    let workers = present.map(|worker| {
        let held = held.get(&*worker.id).map_or(&[][..], |held| held);
        // Drains first: they are what a job was there.
        let job = held.iter().max_by_key(|job| job.kind == "drain");
        let host = worker.http.rsplit_once(':').map_or("", |(host, _)| host);
        let told = json!({
            "worker_id": worker.id,
            "name": worker.name,
            "join_time": time(worker.registered_at_ms),
            "ip": host,
            "last_heartbeat": worker.silent_for_ms.map(|ms| time(status.at_ms - ms)),
            "status": if job.is_some() { "WORKING" } else { "READY" },
            "job_id": job.map(|job| &job.name),
            "job": job.map(|job| queued(cluster, job)),
            "jobs": held.iter().map(|job| &job.name).collect::<Vec<_>>(),
        });
        (worker.id.clone(), told)
    });
    json!({ "worker_queue": workers.collect::<Map<_, _>>() })
}

/// `/api/job_log`: finished jobs, the oldest first, under a line with the columns' names.
pub(super) fn job_log_csv(cluster: &Cluster, finished: &[Finished]) -> String {
    let mut text = COLUMNS.join(", ") + "\n";
    for job in finished.iter().rev() {
        let (lower, upper) = bounds(cluster, &job.job);
        let (begun, ended) = (time(job.begun_at_ms), time(job.finished_at_ms));
        let (id, name, worker) = (field(&job.job), topic(cluster, &job.job), field(&job.worker_id));
        text += &format!("{id}, {name}, {lower}, {upper}, {begun}, DONE, ['{worker}'], {ended}\n");
    }
    text
}

/// The same as JSON, with what the columns leave out.
pub(super) fn job_log_json(cluster: &Cluster, finished: &[Finished]) -> Value {
    let jobs = finished.iter().rev().map(|job| {
        let (lower, upper) = bounds(cluster, &job.job);
        json!({
            "job_id": job.job,
            "name": topic(cluster, &job.job),
            "lower": lower,
            "upper": upper,
            "creation_time": time(job.begun_at_ms),
            "status": "DONE",
            "workers": [job.worker_id],
            "worker_names": [job.worker],
            "finish_time": time(job.finished_at_ms),
            "moved": job.moved,
        })
    });
    json!({ "job_log": jobs.collect::<Vec<_>>() })
}

fn queued(cluster: &Cluster, job: &Job) -> Value {
    let (lower, upper) = bounds(cluster, &job.name);
    let workers: Vec<_> = [&job.worker_id].into_iter().filter(|id| !id.is_empty()).collect();
    json!({
        "job_id": job.name,
        "name": topic(cluster, &job.name),
        "lower": lower,
        "upper": upper,
        // Lanes and intakes are always there.
        "creation_time": job.opened_at_ms.map(time),
        "status": if workers.is_empty() { "READY" } else { "WORKING" },
        "workers": workers,
    })
}

fn topic(cluster: &Cluster, job: &str) -> String {
    match job.parse::<JobName>() {
        Ok(name) => name.source(cluster).0.as_ref().to_owned(),
        Err(_) => job.to_owned(),
    }
}

/// Remaining delays, in seconds, of what the job's partition holds.
fn bounds(cluster: &Cluster, job: &str) -> (i64, i64) {
    match job.parse() {
        Ok(JobName::Drain { topic, .. }) => {
            let level = (1..=cluster.geometry.levels).find(|level| cluster.wheel_topic(*level) == *topic);
            level_bounds(cluster, level.unwrap_or(1))
        }
        _ => (0, cluster.geometry.slot_width_ms / 1_000),
    }
}

fn level_bounds(cluster: &Cluster, level: u32) -> (i64, i64) {
    let width = |level| cluster.geometry.slot_width_ms(level) / 1_000;
    (width(level), width(level + 1))
}

/// Nothing of ours holds a comma, but names are chosen by people.
fn field(text: &str) -> String {
    text.replace([',', '\n', '\r', '\''], "_")
}

fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms)
        .map_or_else(|_| String::new(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::status::Worker;

    const AT: i64 = 1_693_593_600_000;

    fn finished() -> Finished {
        Finished {
            job: "drain/ksched.wheel.2/17".to_owned(),
            worker: "worker-1".to_owned(),
            worker_id: "7".to_owned(),
            begun_at_ms: AT,
            finished_at_ms: AT + 2_000,
            moved: 40,
        }
    }

    fn status() -> Status {
        let job = |name: &str, kind, worker_id: &str| Job {
            name: name.to_owned(),
            kind,
            worker: String::new(),
            worker_id: worker_id.to_owned(),
            fence: None,
            opened_at_ms: (kind == "drain").then_some(AT),
        };
        let worker = Worker {
            id: "7".to_owned(),
            name: "worker-1".to_owned(),
            version: String::new(),
            http: "10.0.0.1:9100".to_owned(),
            registered_at_ms: AT,
            state: WorkerState::Up,
            silent_for_ms: Some(1_000),
            lanes: vec![0],
            intakes: 0,
            drains: 1,
            held: 0,
            delivered_per_s: 0.0,
            lateness_ms: None,
            dead_lettered: 0,
        };
        Status {
            at_ms: AT + 5_000,
            jobs: vec![job("lane/0", "lane", ""), job("drain/ksched.wheel.1/3", "drain", "7")],
            workers: vec![worker],
            ..Status::default()
        }
    }

    #[test]
    fn the_job_log_is_the_csv_it_was() {
        let text = job_log_csv(&Cluster::default(), &[finished()]);
        assert_eq!(
            text,
            "job_id, name, lower, upper, creation_time, status, workers, finish_time\n\
             drain/ksched.wheel.2/17, ksched.wheel.2, 320, 10240, \
             2023-09-01 18:40:00, DONE, ['7'], 2023-09-01 18:40:02\n"
        );
        let json = job_log_json(&Cluster::default(), &[finished()]);
        assert_eq!(json["job_log"][0]["finish_time"], "2023-09-01 18:40:02");
        assert_eq!(json["job_log"][0]["moved"], 40);
    }

    #[test]
    fn queues_have_the_keys_they_had() {
        let (cluster, status) = (Cluster::default(), status());
        let queue = job_queue(&cluster, &status);
        assert_eq!(
            queue["job_queue"][1],
            json!({
                "job_id": "drain/ksched.wheel.1/3", "name": "ksched.wheel.1", "lower": 10, "upper": 320,
                "creation_time": "2023-09-01 18:40:00", "status": "WORKING", "workers": ["7"],
            })
        );
        assert_eq!(queue["job_queue"][0]["status"], "READY");
        let workers = worker_queue(&cluster, &status);
        let worker = &workers["worker_queue"]["7"];
        for (key, value) in [
            ("worker_id", json!("7")),
            ("join_time", json!("2023-09-01 18:40:00")),
            ("ip", json!("10.0.0.1")),
            ("last_heartbeat", json!("2023-09-01 18:40:04")),
            ("status", json!("WORKING")),
            ("job_id", json!("drain/ksched.wheel.1/3")),
        ] {
            assert_eq!(worker[key], value, "{key}");
        }
        assert_eq!(worker["job"], queue["job_queue"][1]);
    }

    #[test]
    fn the_configuration_has_the_keys_it_had() {
        let told = config(&Config::default());
        assert_eq!(told["sm_topic"], "SCHEDULED_MESSAGES");
        assert_eq!(told["sm_topic_partitions"], 16);
        assert_eq!(told["bucket_list"][0], "ksched.wheel.1");
        assert_eq!(
            told["bucket_object_list"][0],
            json!({"name": "ksched.wheel.1", "lower": 10, "upper": 320})
        );
        assert_eq!(told["sm_miniumum_delay"], 10);
        assert_eq!(told["ksched"]["lease-ttl"], "5s");
    }
}
