//! The list.

use std::time::Duration;

use crate::{
    bed::Bed, brokers, clocks, control_plane, disk, failpoints, faults, hostile, limits, links, loads,
    memory, open_jobs, recovery, replays, restarts, soak, streams, targets, versions, wheel, zombies,
};

/// One fault. A panic says that something does not hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Its number in the list of faults.
    pub(crate) fault: u8,
    /// Part of every CI run.
    pub(crate) is_short: bool,
    /// From the end of the fault (of a kill or a stop: from that) until all is on time again.
    pub(crate) heals_in: Duration,
    pub(crate) run: fn(&Bed),
}

/// A cluster and what is done to it.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) start: fn() -> Bed,
    pub(crate) scenarios: Vec<Scenario>,
}

/// Names a scenario after its module and function: fault, short or long, seconds to heal.
macro_rules! scenario {
    ($module:ident::$name:ident, $fault:literal, short, $heal:literal) => {
        scenario!(@ $module, $name, $fault, true, $heal)
    };
    ($module:ident::$name:ident, $fault:literal, long, $heal:literal) => {
        scenario!(@ $module, $name, $fault, false, $heal)
    };
    (@ $module:ident, $name:ident, $fault:literal, $short:literal, $heal:literal) => {
        Scenario {
            name: concat!(stringify!($module), "::", stringify!($name)),
            fault: $fault,
            is_short: $short,
            heals_in: Duration::from_secs($heal),
            run: $module::$name,
        }
    };
}

pub(crate) fn all() -> Vec<Stage> {
    let linked = vec![
        scenario!(replays::end_txn, 3, short, 10),
        scenario!(replays::produce, 3, short, 10),
        scenario!(replays::one_of_two_times_out, 3, short, 10),
        scenario!(replays::txn_offset_commit, 3, long, 10),
        scenario!(replays::end_txn_on_hold, 3, long, 10),
        scenario!(zombies::stopped_inside_a_commit, 2, short, 15),
        scenario!(zombies::two_holders, 7, short, 15),
        scenario!(zombies::nobody_takes_over, 1, long, 15),
        scenario!(links::answers_lost, 6, short, 10),
        scenario!(links::worker_from_kafka, 6, short, 10),
        scenario!(links::worker_from_kafka_one_way, 6, long, 15),
        scenario!(links::worker_from_coordinators, 6, short, 10),
        scenario!(links::worker_from_coordinators_one_way, 6, long, 10),
        scenario!(links::coordinators_from_kafka, 6, long, 15),
        scenario!(links::coordinators_from_kafka_one_way, 6, long, 15),
        scenario!(links::coordinators_from_etcd, 6, short, 10),
        scenario!(links::coordinators_from_etcd_one_way, 6, long, 10),
        scenario!(clocks::an_hour_ahead, 8, short, 10),
        scenario!(clocks::an_hour_behind, 8, long, 10),
        scenario!(clocks::starts_an_hour_ahead, 8, long, 10),
        scenario!(clocks::drifting, 8, long, 10),
        scenario!(clocks::suspended, 8, long, 20),
        scenario!(targets::deleted_and_narrowed, 10, short, 5),
        scenario!(targets::recreated_and_grown, 10, long, 5),
        scenario!(loads::a_thousand_for_one_key, 9, short, 5),
        scenario!(loads::faster_than_kafka, 13, long, 15),
        scenario!(loads::intake_flooded, 14, long, 15),
        scenario!(hostile::claims_finished, 14, long, 15),
        scenario!(hostile::never_finishes, 14, short, 15),
        scenario!(streams::coordinator_stopped, 12, long, 5),
        scenario!(limits::worker_out_of_files, 13, long, 15),
        scenario!(limits::coordinator_out_of_files, 13, long, 15),
        scenario!(limits::worker_out_of_threads, 13, long, 20),
        scenario!(limits::coordinator_out_of_threads, 13, long, 20),
        scenario!(control_plane::compacted_under_watch, 5, long, 5),
        scenario!(control_plane::two_leaders, 7, long, 5),
        scenario!(control_plane::gone_for_a_minute, 5, long, 5),
        scenario!(recovery::worker_killed, 1, long, 15),
        scenario!(recovery::worker_stopped, 12, long, 5),
        scenario!(recovery::kafka_back, 4, long, 20),
        scenario!(recovery::control_plane_back, 5, long, 5),
        scenario!(loads::a_million_in_one_second, 9, long, 45),
        scenario!(soak::random_mix, 15, long, 60),
        // The end-to-end tests' own. Those measure from the beginning of the fault.
        scenario!(faults::worker_killed, 1, long, 20),
        scenario!(faults::worker_paused, 2, long, 25),
        scenario!(faults::leading_coordinator_killed, 5, long, 20),
        scenario!(faults::etcd_killed, 5, long, 45),
        scenario!(faults::kafka_killed, 4, long, 60),
        scenario!(restarts::worker_stopped_cleanly, 12, long, 10),
        scenario!(restarts::everything_rolling, 11, long, 60),
    ];
    let small = vec![
        scenario!(wheel::crosses_all_levels, 7, long, 5),
        scenario!(wheel::worker_killed_while_it_drains, 1, long, 30),
        scenario!(wheel::what_is_no_message_is_dead_lettered, 1, long, 5),
        scenario!(wheel::everything_stopped_for_three_slots, 7, long, 60),
        scenario!(control_plane::all_stopped_beyond_level_two, 7, long, 15),
        scenario!(memory::stays_bounded, 13, long, 60),
    ];
    let three = vec![
        scenario!(brokers::one_killed_in_a_loop, 4, long, 10),
        scenario!(brokers::rolling_restart, 4, long, 10),
    ];
    let disk = vec![scenario!(disk::full, 13, long, 30)];
    let guarded = vec![
        scenario!(brokers::lone_one_stays, 4, long, 5),
        scenario!(targets::read_only, 10, short, 5),
        scenario!(targets::own_topics_forbidden, 10, long, 10),
        scenario!(targets::settings_hidden, 10, long, 5),
        scenario!(targets::unknown_with_auto_creation, 10, long, 5),
        scenario!(targets::thousands_refuse, 10, long, 15),
    ];
    let strict = vec![
        scenario!(brokers::lone_one_resigns, 4, long, 5),
        scenario!(targets::unknown_without_auto_creation, 10, long, 5),
    ];
    let many = vec![scenario!(open_jobs::coordinator_restarted, 14, long, 60)];
    let failing = vec![scenario!(failpoints::each_place_of_each_job, 1, long, 10)];
    let mut stages = vec![
        Stage { start: Bed::linked, scenarios: linked },
        Stage { start: Bed::small, scenarios: small },
        Stage { start: brokers::three, scenarios: three },
        Stage { start: disk::bed, scenarios: disk },
        Stage { start: targets::guarded, scenarios: guarded },
        Stage { start: targets::strict, scenarios: strict },
        Stage { start: open_jobs::bed, scenarios: many },
        Stage { start: failpoints::bed, scenarios: failing },
    ];
    // Without it that would be a rolling restart once more.
    if std::env::var_os(versions::EARLIER).is_some() {
        let scenarios = vec![scenario!(versions::rolled_forth_and_back, 11, long, 10)];
        stages.push(Stage { start: versions::bed, scenarios });
    }
    stages
}
