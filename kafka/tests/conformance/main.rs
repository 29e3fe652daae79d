//! What the log's contract says, checked on the log in memory, on the embedded broker
//! and on real Kafka.
//!
//! Real Kafka is started once for the whole run, or is the one at
//! `KSCHED_TEST_KAFKA=HOST:PORT`. Every test uses topics of its own.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails"
)]

mod appending;
mod bed;
mod clean;
mod proxy;
mod reading;
mod speed;
mod targets;
mod topics;
mod transactions;

/// Makes a test of each function on each broker it is meant for.
macro_rules! points {
    (
        everywhere: $($all:ident :: $on_all:ident),*;
        served: $($served:ident :: $on_served:ident),*;
        strict: $($strict:ident :: $on_strict:ident),*;
        real: $($real:ident :: $on_real:ident),*;
    ) => {
        mod memory {
            $(#[test] fn $on_all() { crate::$all::$on_all(crate::bed::memory()); })*
            $(#[test] fn $on_strict() { crate::$strict::$on_strict(crate::bed::memory()); })*
        }
        mod embedded {
            $(#[test] fn $on_all() { crate::$all::$on_all(crate::bed::embedded()); })*
            $(#[test] fn $on_served() { crate::$served::$on_served(crate::bed::embedded()); })*
        }
        mod real {
            $(#[test] fn $on_all() { crate::$all::$on_all(crate::bed::real()); })*
            $(#[test] fn $on_served() { crate::$served::$on_served(crate::bed::real()); })*
            $(#[test] fn $on_strict() { crate::$strict::$on_strict(crate::bed::real()); })*
            $(#[test] fn $on_real() { crate::$real::$on_real(crate::bed::real()); })*
        }
    };
}

points! {
    everywhere:
    reading::content_survives_byte_for_byte,
    reading::position_passes_markers_and_aborted_records,
    reading::position_is_the_new_one_after_assigning_again,
    reading::an_offset_out_of_range_is_an_error,
    reading::paused_partitions_are_not_fetched,
    reading::offsets_of_hundreds_of_partitions,
    reading::deleted_records_move_the_start,
    transactions::a_move_is_atomic,
    transactions::a_newer_holder_fences_the_older,
    transactions::an_open_transaction_holds_the_stable_end,
    transactions::two_holders_never_both_fire,
    targets::an_unknown_partition_is_told_from_its_neighbours,
    targets::a_record_too_large_is_told_only_when_alone,
    targets::a_topic_that_is_not_there_stays_so,
    targets::partitions_are_java_s_choice;
    // What needs a protocol to speak, not only the log's contract.
    served:
    appending::every_record_gets_its_own_result,
    appending::too_much_in_flight_is_refused_at_once,
    topics::a_first_start_makes_what_a_later_one_finds_right,
    topics::everything_wrong_is_told;
    // The embedded broker makes unknown topics,
    strict:
    targets::an_unknown_topic_is_told_from_its_neighbours,
    targets::a_target_deleted_under_a_producer_is_told;
    // and answers the old position.
    real:
    transactions::committed_waits_for_a_pending_commit,
    appending::an_unknown_topic_is_refused;
}
