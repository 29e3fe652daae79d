//! The table and its pollers on real PostgreSQL and MariaDB, producing to the embedded broker.
//!
//! Each server is started once for the whole run; tests of one server take turns, for they share its table.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails, and needs the time"
)]

mod bed;
mod delivery;
mod killed;
mod table;

/// Makes a test of each function on each server.
macro_rules! on_both {
    ($($module:ident :: $test:ident),*) => {
        mod postgresql {
            $(#[test] fn $test() { crate::bed::run(ksched_local::database::Kind::Postgresql, crate::$module::$test); })*
        }
        mod mariadb {
            $(#[test] fn $test() { crate::bed::run(ksched_local::database::Kind::Mariadb, crate::$module::$test); })*
        }
    };
}

on_both! {
    table::rows_come_back_as_they_were,
    table::what_is_taken_is_passed_over_by_others_and_free_when_dropped,
    table::more_rows_than_a_statement_takes_are_several,
    delivery::each_is_delivered_once_and_none_early,
    delivery::what_kafka_refuses_does_not_stand_before_the_rest,
    delivery::an_ended_poller_loses_nothing,
    killed::a_killed_process_loses_nothing
}

/// What the copy of this binary does that is killed in `killed`.
#[test]
fn poller_to_be_killed() {
    killed::play_victim();
}
