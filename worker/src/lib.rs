//! The worker: leases jobs from the coordinators and runs them.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`settings`] | what an operator may set |
//! | `session` | registers, keeps the lease, takes jobs and gives them back |
//! | [`coordinator`] | the seam to the coordinators, and the calls to whichever answers |
//! | `job` | a job on its own thread, and what it may ask |
//! | `attempt` | what every job does when a transaction does not end well |
//! | `lane` | lane jobs: fire what is due |
//! | `drain`, `intake` | promote a bucket; take over records of the intake topic |
//! | `mover` | the transactional move that both are made of |
//! | `targets`, `dead_letter` | what is known of targets; what cannot be delivered |
//! | `memory`, `clock` | the bound on held messages; the guarded clock |
//! | `figures` | what the lanes are doing, for people to look at |

mod attempt;
mod clock;
pub mod coordinator;
mod dead_letter;
mod drain;
mod figures;
mod intake;
mod job;
mod lane;
mod memory;
mod mover;
mod node;
mod process;
mod session;
pub mod settings;
mod targets;

pub use clock::Machine;
pub use process::{Parts, StartError, run, work};
pub use settings::Config;
