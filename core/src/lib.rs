//! The pure part of ksched: no runtime, no I/O, no clock. `now` is an argument.
//!
//! | module | what it decides |
//! | --- | --- |
//! | [`cluster`] | the settings all parts of a cluster share, topic and transactional-id names |
//! | [`message`] | what a user schedules, and its parts |
//! | [`packed`] | a record's content while it waits in memory |
//! | [`id`] | the id that Schedule returns |
//! | [`envelope`] | the compact binary header a message carries inside ksched |
//! | [`delivered`] | the readable headers a message is delivered with |
//! | [`wheel`] | geometry of the timing wheel; where a message goes now |
//! | [`lane`] | the due lane: what fires next, what is settled, what is committed, which copies are one |
//! | [`lateness`] | its buckets, and quantiles estimated from them |
//! | [`jobs`] | which buckets need a drain, who should hold which job |
//! | [`trace`] | W3C trace context: which span stands for a message's scheduling |
//! | [`time`] | due times and delays as users write them |
//! | [`words`] | numbers, spans and instants as people read them |
//! | [`validate`] | what is accepted from users: topics, headers, sizes, due times |
//! | [`intake`] | the header dialects of the intake topic |
//! | [`clock`] | when a wall clock may be believed |
//! | [`mutant`] | rules that the simulator breaks on purpose |
//! | [`host`] | the seam to the machine: wall clock, sleep, threads |

pub mod clock;
pub mod cluster;
pub mod delivered;
pub mod envelope;
pub mod host;
pub mod id;
pub mod intake;
pub mod jobs;
pub mod lane;
pub mod lateness;
pub mod message;
pub mod mutant;
pub mod packed;
pub mod time;
pub mod trace;
pub mod validate;
pub mod wheel;
pub mod words;
