//! Rules that the simulator breaks on purpose, to see that it would notice: a mutant is
//! ksched without one of them. Only with the feature `mutants`, which nothing that is
//! shipped turns on; without it [`is_on`] is a constant and its branches are gone.

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutant {
    /// Committed positions are read before the producers are initialised (design §4.1).
    PositionsBeforeInit = 1,
    /// The first transaction after an init is on producer b (design §4.1).
    FirstOnB,
    /// What a disconnect makes doubtful is taken as it says (design §4.2).
    NoRecycling,
    /// A position keeps one step of its staircase (design §4.3).
    OneStep,
    /// At-least-once lanes fire beyond their lease (design §6).
    FiresBeyondLease,
    /// A message may be routed to a slot that is open already (design §3).
    RoutesToOpenSlot,
    /// Drains are made from the slots' indices alone (design §3).
    JobsByIndexOnly,
    /// Copies are not recognised (design §4.5).
    NoDedupe,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::PositionsBeforeInit,
        Self::FirstOnB,
        Self::NoRecycling,
        Self::OneStep,
        Self::FiresBeyondLease,
        Self::RoutesToOpenSlot,
        Self::JobsByIndexOnly,
        Self::NoDedupe,
    ];
}

#[cfg(feature = "mutants")]
mod switch {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Mutant;

    static ON: AtomicU8 = AtomicU8::new(0);

    /// Breaks this rule in the whole process, and keeps all others.
    pub fn set(mutant: Option<Mutant>) {
        ON.store(mutant.map_or(0, |m| m as u8), Ordering::Relaxed);
    }

    /// Whether this rule is left out.
    pub fn is_on(mutant: Mutant) -> bool {
        ON.load(Ordering::Relaxed) == mutant as u8
    }
}

#[cfg(feature = "mutants")]
pub use switch::{is_on, set};

/// Whether this rule is left out: never.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn is_on(_: Mutant) -> bool {
    false
}
