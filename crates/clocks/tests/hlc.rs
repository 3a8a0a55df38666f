//! The hybrid clock, rule by rule (K4): what it promises of wall clocks that step and stand still.
#![cfg(not(loom))]

use std::cell::Cell;
use std::time::Duration;

use proptest::prelude::*;
use quorate_clocks::{Error, Hlc, HlcTime, Physical, WallTime};

const UNIT: u64 = 1 << HlcTime::COUNTER_BITS;
const AHEAD_MAX: Duration = Duration::from_millis(500);
const AHEAD_MAX_NANOS: u64 = 500_000_000;
/// A reading on no border of a unit.
const NOON: u64 = 1_700_000_000_123_456_789;

/// A wall clock that the test sets.
struct Wall<'a>(&'a Cell<u64>);

impl Physical for Wall<'_> {
    fn now(&self) -> WallTime {
        WallTime(self.0.get())
    }
}

fn clock(wall: &Cell<u64>) -> Hlc<Wall<'_>> {
    Hlc::new(Wall(wall), AHEAD_MAX)
}

fn unit_of(wall: u64) -> WallTime {
    HlcTime::at(WallTime(wall)).wall()
}

#[test]
fn a_stamp_is_the_wall_time_and_the_counter_begins_anew_with_each_unit() {
    let wall = Cell::new(NOON);
    let clock = clock(&wall);
    for unit in 0..3 {
        wall.set(NOON + unit * UNIT);
        for counter in 0..3 {
            let time = clock.now().unwrap();
            assert_eq!((time.wall(), time.counter()), (unit_of(wall.get()), counter));
        }
    }
    assert_eq!(clock.ahead(), Duration::ZERO);
}

#[test]
fn stamps_rise_while_the_wall_clock_stands_still_and_steps_back() {
    let wall = Cell::new(NOON);
    let clock = clock(&wall);
    let mut latest = clock.now().unwrap();
    for back in [0, 1, UNIT, 3_600_000_000_000, NOON] {
        wall.set(NOON - back);
        for _ in 0..100 {
            let next = clock.now().unwrap();
            assert!(next > latest);
            assert_eq!(next.wall(), unit_of(NOON), "the time stands still, the counter rises");
            latest = next;
        }
    }
    assert_eq!(clock.ahead(), Duration::from_nanos(unit_of(NOON).0), "by all of its time");
}

#[test]
fn an_old_stamp_is_never_refused() {
    let wall = Cell::new(NOON);
    let clock = clock(&wall);
    let mut latest = clock.now().unwrap();
    for old in [0, 1, UNIT, NOON - 3_600_000_000_000, NOON] {
        clock.observe(HlcTime::at(WallTime(old))).unwrap();
        assert_eq!(clock.latest(), latest);
        let received = clock.receive(HlcTime::at(WallTime(old))).unwrap();
        assert_eq!(received.to_bits(), latest.to_bits() + 1);
        latest = received;
    }
    // Nor is one that the clock is past while its wall clock has stepped back.
    wall.set(0);
    clock.observe(latest).unwrap();
    assert!(clock.receive(latest).unwrap() > latest);
}

#[test]
fn a_stamp_too_far_ahead_is_refused_and_changes_nothing() {
    let wall = Cell::new(NOON);
    let clock = clock(&wall);
    let latest = clock.now().unwrap();
    let far = HlcTime::at(WallTime(NOON + AHEAD_MAX_NANOS + UNIT));
    for stamp in [far, HlcTime::from_bits(u64::MAX)] {
        let ahead = Duration::from_nanos(stamp.wall().0 - NOON);
        let refused = Error::HlcTooFarAhead { stamp, ahead, ahead_max: AHEAD_MAX };
        assert_eq!(clock.receive(stamp), Err(refused));
        assert_eq!(clock.observe(stamp), Err(refused));
        assert_eq!(clock.latest(), latest);
    }
    let near = HlcTime::at(WallTime(NOON + AHEAD_MAX_NANOS));
    assert!(clock.receive(near).unwrap() > near);
    assert!(clock.ahead() <= AHEAD_MAX);
}

#[test]
fn the_wall_clock_is_followed_again_once_it_has_caught_up() {
    let wall = Cell::new(NOON);
    let clock = clock(&wall);
    let stamp = HlcTime::at(WallTime(NOON + AHEAD_MAX_NANOS));
    let received = clock.receive(stamp).unwrap();
    assert_eq!((received.wall(), received.counter()), (stamp.wall(), 1));
    wall.set(NOON + AHEAD_MAX_NANOS + UNIT);
    let time = clock.now().unwrap();
    assert_eq!((time.wall(), time.counter()), (unit_of(wall.get()), 0));
}

#[test]
fn a_full_counter_is_an_error_until_the_wall_clock_moves_and_never_moves_the_time() {
    let wall = Cell::new(NOON);
    let clock = clock(&wall);
    let mut latest = clock.now().unwrap();
    for counter in 1..=HlcTime::COUNTER_MAX {
        latest = clock.now().unwrap();
        assert_eq!(latest.counter(), counter);
    }
    let full = Err(Error::HlcCounterFull { latest });
    assert_eq!((clock.now(), clock.now()), (full, full));
    assert_eq!(clock.receive(HlcTime::ZERO), full);
    assert_eq!(clock.latest(), latest);
    assert_eq!(latest.wall(), unit_of(NOON));
    wall.set(NOON + UNIT);
    assert_eq!(clock.now(), Ok(HlcTime::at(WallTime(NOON + UNIT))));
}

#[test]
fn a_stamp_with_a_full_counter_is_refused_for_a_receipt_and_changes_nothing() {
    let wall = Cell::new(NOON);
    let clock = clock(&wall);
    let ahead = HlcTime::at(WallTime(NOON + 4 * UNIT)).to_bits();
    let stamp = HlcTime::from_bits(ahead | u64::from(HlcTime::COUNTER_MAX));
    assert_eq!(clock.receive(stamp), Err(Error::HlcCounterFull { latest: stamp }));
    assert_eq!(clock.latest(), HlcTime::ZERO);
    assert_eq!(clock.now(), Ok(HlcTime::at(WallTime(NOON))));
}

#[test]
fn a_restart_after_a_persisted_bound_is_never_behind_its_former_life() {
    let wall = Cell::new(NOON);
    let first = clock(&wall);
    let bound = first.now().unwrap().bound_after(Duration::from_secs(1));
    wall.set(NOON + 1_000_000_000);
    let last = (0..1000).map(|_| first.now().unwrap()).last().unwrap();
    assert!(last < bound);
    // The node comes back with a wall clock that is an hour slow, at once, and later.
    for now in [NOON - 3_600_000_000_000, NOON, NOON + 3_000_000_000] {
        wall.set(now);
        let second = Hlc::resume_after(bound, Wall(&wall), AHEAD_MAX);
        assert!(second.now().unwrap() > bound);
        assert!(second.now().unwrap() > last);
    }
}

#[test]
fn the_ends_of_the_wall_clock_are_no_panic() {
    for end in [0, u64::MAX] {
        let wall = Cell::new(end);
        let clock = Hlc::new(Wall(&wall), Duration::MAX);
        assert_eq!(clock.now().is_ok(), clock.latest() > HlcTime::ZERO);
        assert!(clock.observe(HlcTime::from_bits(u64::MAX)).is_ok());
        assert!(clock.now().is_err());
    }
}

/// The clock as the paper writes it, in two words.
#[derive(Clone, Copy, Default)]
struct Paper {
    l: u64,
    c: u64,
}

impl Paper {
    fn local(&mut self, pt: u64) {
        let l = self.l.max(pt);
        self.c = if l == self.l { self.c + 1 } else { 0 };
        self.l = l;
    }

    fn receive(&mut self, pt: u64, m: Self) {
        let l = self.l.max(m.l).max(pt);
        self.c = match (l == self.l, l == m.l) {
            (true, true) => self.c.max(m.c) + 1,
            (true, false) => self.c + 1,
            (false, true) => m.c + 1,
            (false, false) => 0,
        };
        self.l = l;
    }
}

proptest! {
    #[test]
    fn packed_in_one_word_it_is_still_the_clock_of_the_paper(
        steps in proptest::collection::vec(
            (1..6_u64, 0..UNIT, any::<bool>(), 1..6_u64, 0..4_u64), 1..60,
        ),
    ) {
        let wall = Cell::new(0);
        let clock = clock(&wall);
        let mut paper = Paper::default();
        for (pt, nanos, receipt, l, c) in steps {
            wall.set(pt * UNIT + nanos);
            let time = if receipt {
                paper.receive(pt, Paper { l, c });
                clock.receive(HlcTime::from_bits(l * UNIT + c)).unwrap()
            } else {
                paper.local(pt);
                clock.now().unwrap()
            };
            prop_assert_eq!((time.wall().0 / UNIT, u64::from(time.counter())), (paper.l, paper.c));
        }
    }
}
