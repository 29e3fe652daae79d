//! When a wall clock may be believed (design §5, Time).
//!
//! *Now* is the last confirmed wall clock plus monotonic time. Peers (the
//! coordinators, for a worker) are asked for theirs with every heartbeat: by how
//! much we are surely ahead of them we hold back; a jump of our own wall clock, or
//! a difference beyond [`BOUND_MS`], makes our time doubtful until a peer confirms
//! it again. While doubtful nothing may fire.

/// Clocks of one cluster agree to within this, or the one who notices stops.
pub const BOUND_MS: i64 = 250;
const BOUND_US: i64 = BOUND_MS * 1_000;

/// How far the wall clock may move against monotonic time between two looks
/// before that counts as a jump and not as slewing (NTP slews 0.5 ms a second).
const JUMP_US: i64 = 20_000;

/// By how much caution is let go with each answer, so that one slow answer does not undo it.
const EASE_US: i64 = 1_000;

/// May work be done by this clock?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Confirmed,
    /// The wall clock jumped or differs too much from a peer's.
    Doubtful,
}

/// A wall clock that is checked against monotonic time and against peers.
///
/// All arguments are microseconds: `mono` since any fixed instant of this process,
/// `wall` since the Unix epoch. (In milliseconds, two numbers cut off to whole ones could
/// make it a millisecond fast.) Where both are read, `mono` is read last: what passes
/// between makes it slow, never fast.
#[derive(Clone, Debug)]
pub struct GuardedClock {
    /// Confirmed wall clock at `mono` = 0.
    base_us: i64,
    /// Our own wall clock at `mono` = 0 as last seen, confirmed or not.
    seen_us: i64,
    /// How much later than our own clock says we act, because a peer's is behind.
    hold_back_us: i64,
    /// How far slewing was followed since a peer was last heard.
    slewed_us: i64,
    standing: Standing,
}

impl GuardedClock {
    /// Doubtful until a peer has confirmed it.
    pub fn unconfirmed(mono: i64, wall: i64) -> Self {
        Self {
            base_us: wall - mono,
            seen_us: wall - mono,
            hold_back_us: 0,
            slewed_us: 0,
            standing: Standing::Doubtful,
        }
    }

    /// For a process without peers: its own wall clock is the only one there is.
    pub fn alone(mono: i64, wall: i64) -> Self {
        Self { standing: Standing::Confirmed, ..Self::unconfirmed(mono, wall) }
    }

    /// Milliseconds since the Unix epoch; never ahead of a peer heard from.
    pub fn now_ms(&self, mono: i64) -> i64 {
        (self.base_us + mono - self.hold_back_us).div_euclid(1_000)
    }

    /// May work be done by this clock now?
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Compares with the own wall clock: follows slewing, notices jumps.
    /// To be called often (each second), so that slewing stays below a jump.
    pub fn look(&mut self, mono: i64, wall: i64) -> Standing {
        let moved = wall - mono - self.seen_us;
        self.seen_us += moved;
        self.slewed_us += moved.abs();
        if moved.abs() > JUMP_US || self.slewed_us > BOUND_US {
            self.standing = Standing::Doubtful;
        } else if self.standing == Standing::Confirmed {
            self.base_us += moved;
        }
        self.standing
    }

    /// Compares with a peer's clock `peer`, read by the peer between our instants
    /// `sent` and `received` (monotonic); `wall` is our wall clock when received.
    pub fn hear(&mut self, sent: i64, received: i64, wall: i64, peer: i64) -> Standing {
        self.seen_us = wall - received;
        // An answer this slow could hide a difference beyond the bound.
        if received - sent > BOUND_US {
            return self.standing;
        }
        // Either clock of ours may be the right one after a jump: the wall clock if
        // it was set right, the old one carried on if it was set wrong.
        for base in [self.seen_us, self.base_us] {
            let (ahead, behind) = (base + sent - peer, peer - base - received);
            if ahead <= BOUND_US && behind <= BOUND_US {
                self.base_us = base;
                self.slewed_us = 0;
                self.hold_back_us = ahead.max(self.hold_back_us - EASE_US).max(0);
                self.standing = Standing::Confirmed;
                return self.standing;
            }
        }
        self.standing = Standing::Doubtful;
        self.standing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same in milliseconds, as these tests reckon.
    #[derive(Clone)]
    struct Clock(GuardedClock);

    impl Clock {
        fn unconfirmed(mono: i64, wall: i64) -> Self {
            Self(GuardedClock::unconfirmed(mono * 1_000, wall * 1_000))
        }

        fn now_ms(&self, mono: i64) -> i64 {
            self.0.now_ms(mono * 1_000)
        }

        fn standing(&self) -> Standing {
            self.0.standing()
        }

        fn look(&mut self, mono: i64, wall: i64) -> Standing {
            self.0.look(mono * 1_000, wall * 1_000)
        }

        fn hear(&mut self, sent: i64, received: i64, wall: i64, peer: i64) -> Standing {
            self.0.hear(sent * 1_000, received * 1_000, wall * 1_000, peer * 1_000)
        }
    }

    const WALL: i64 = 1_795_000_000_000;

    fn confirmed() -> Clock {
        let mut clock = Clock::unconfirmed(1_000, WALL);
        assert_eq!(clock.standing(), Standing::Doubtful);
        assert_eq!(clock.hear(1_000, 1_002, WALL + 2, WALL + 1), Standing::Confirmed);
        clock
    }

    #[test]
    fn an_hour_ahead_or_behind_is_never_confirmed() {
        for off in [3_600_000, -3_600_000] {
            let mut clock = Clock::unconfirmed(0, WALL + off);
            assert_eq!(clock.hear(0, 5, WALL + off + 5, WALL), Standing::Doubtful);
        }
    }

    #[test]
    fn a_wrong_step_keeps_the_old_time_once_a_peer_says_so() {
        let mut clock = confirmed();
        assert_eq!(clock.look(2_000, WALL + 61_000), Standing::Doubtful);
        assert_eq!(clock.now_ms(2_000), WALL + 1_000);
        assert_eq!(clock.hear(2_000, 2_001, WALL + 61_001, WALL + 1_001), Standing::Confirmed);
        assert_eq!(clock.now_ms(2_001), WALL + 1_001);
        // The wrong wall clock carries on evenly: no further jump.
        assert_eq!(clock.look(3_000, WALL + 62_000), Standing::Confirmed);
        assert_eq!(clock.now_ms(3_000), WALL + 2_000);
    }

    #[test]
    fn after_a_suspend_the_wall_clock_is_taken_once_a_peer_says_so() {
        let mut clock = confirmed();
        assert_eq!(clock.look(2_000, WALL + 61_000), Standing::Doubtful);
        assert_eq!(clock.hear(2_000, 2_001, WALL + 61_001, WALL + 61_000), Standing::Confirmed);
        assert_eq!(clock.now_ms(2_001), WALL + 61_001 - clock.0.hold_back_us / 1_000);
    }

    #[test]
    fn slewing_is_followed() {
        let mut clock = confirmed();
        for second in 1..1_000 {
            let (mono, wall) = (1_000 + second * 1_000, WALL + second * 1_001);
            assert_eq!(clock.look(mono, wall), Standing::Confirmed);
            if second % 100 == 0 {
                assert_eq!(clock.hear(mono, mono, wall, wall), Standing::Confirmed);
            }
        }
        assert_eq!(clock.now_ms(1_000_000), WALL + 999 * 1_001);
        // With nobody to ask it is followed only so far.
        let alone =
            (1_000..1_500).map(|second| clock.look(1_000 + second * 1_000, WALL + second * 1_001)).last();
        assert_eq!(alone, Some(Standing::Doubtful));
    }

    #[test]
    fn what_is_cut_off_to_whole_milliseconds_makes_nothing_early() {
        // 0.9 ms into one millisecond of the wall clock and 0.1 ms into one of the other.
        for (mono, wall) in [(1_100, 900), (1_900, 100), (1_999, 1)] {
            let mut clock = GuardedClock::unconfirmed(mono, WALL * 1_000 + wall);
            let true_us = |later: i64| WALL * 1_000 + wall + later - mono;
            assert_eq!(clock.hear(mono, mono, WALL * 1_000 + wall, true_us(mono)), Standing::Confirmed);
            for later in mono..mono + 3_000 {
                assert!(clock.now_ms(later) * 1_000 <= true_us(later));
            }
        }
    }

    #[test]
    fn a_slow_answer_confirms_nothing() {
        let mut clock = confirmed();
        assert_eq!(clock.look(2_000, WALL + 2_000), Standing::Doubtful);
        assert_eq!(clock.hear(2_000, 3_000, WALL + 3_000, WALL + 2_000), Standing::Doubtful);
    }

    proptest! {
        #[test]
        fn a_confirmed_clock_is_never_surely_ahead_of_its_last_peer(
            off in -400_i64..400, there in 0_i64..50, back in 0_i64..50,
        ) {
            let mut clock = confirmed();
            let peer = WALL + 10_000 + off;
            let (sent, received) = (11_000 - there, 11_000 + back);
            if clock.hear(sent, received, WALL + 10_000 + back, peer) == Standing::Confirmed {
                prop_assert!(clock.now_ms(sent) <= peer);
            } else {
                prop_assert!(off.abs() > BOUND_MS - there.max(back));
            }
        }
    }
}
