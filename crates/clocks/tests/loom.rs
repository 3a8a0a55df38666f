//! Every interleaving of the clocks that threads share: `cargo xtask loom clocks`.
#![cfg(loom)]

use std::sync::Mutex;
use std::time::Duration;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use quorate_clocks::{AtomicLamport, Error, Hlc, HlcTime, LamportTime, WallTime};

/// What the models ask of a Lamport clock.
trait Clock: Send + Sync + 'static {
    fn new() -> Self;
    fn tick(&self) -> u64;
    fn receive(&self, stamp: u64) -> u64;
}

impl Clock for AtomicLamport {
    fn new() -> Self {
        AtomicLamport::new()
    }
    fn tick(&self) -> u64 {
        AtomicLamport::tick(self).unwrap().0
    }
    fn receive(&self, stamp: u64) -> u64 {
        AtomicLamport::receive(self, LamportTime(stamp)).unwrap().0
    }
}

/// The receipt as it is often written: a load, a maximum, a store.
struct LoadMaxStore(AtomicU64);

impl Clock for LoadMaxStore {
    fn new() -> Self {
        Self(AtomicU64::new(0))
    }
    fn tick(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
    fn receive(&self, stamp: u64) -> u64 {
        let time = self.0.load(Ordering::SeqCst).max(stamp) + 1;
        self.0.store(time, Ordering::SeqCst);
        time
    }
}

/// The stamps of every interleaving of a thread that ticks twice and one that receives `stamp`.
fn outcomes<C: Clock>(stamp: u64) -> Vec<[u64; 3]> {
    let seen: &'static Mutex<Vec<[u64; 3]>> = Box::leak(Box::default());
    loom::model(move || {
        let clock = Arc::new(C::new());
        let ticker = thread::spawn({
            let clock = Arc::clone(&clock);
            move || [clock.tick(), clock.tick()]
        });
        let received = clock.receive(stamp);
        let [first, second] = ticker.join().unwrap();
        seen.lock().unwrap().push([first, second, received]);
    });
    std::mem::take(&mut *seen.lock().unwrap())
}

/// K1 of one process: its events have stamps of their own, rising in each thread, and a receipt is
/// later than its message.
fn lamport_rule(stamp: u64, [first, second, received]: [u64; 3]) -> bool {
    first < second && received != first && received != second && received > stamp
}

#[test]
fn no_interleaving_of_ticks_and_a_receipt_loses_an_update() {
    for stamp in [0, 1, 2, 7] {
        let outcomes = outcomes::<AtomicLamport>(stamp);
        assert!(outcomes.len() > 2, "there are interleavings to look at");
        for outcome in outcomes {
            assert!(lamport_rule(stamp, outcome), "{stamp}: {outcome:?}");
        }
    }
}

#[test]
fn the_receipt_by_load_maximum_and_store_loses_updates_and_the_model_finds_it() {
    let outcomes = outcomes::<LoadMaxStore>(1);
    let broken = outcomes.iter().filter(|outcome| !lamport_rule(1, **outcome)).count();
    assert!(broken > 0, "the lost update was not found in {} interleavings", outcomes.len());
    assert!(broken < outcomes.len(), "it is a race, not a rule");
}

#[test]
fn two_receipts_have_two_stamps_and_the_clock_ends_at_the_later() {
    loom::model(|| {
        let clock = Arc::new(AtomicLamport::new());
        let other = thread::spawn({
            let clock = Arc::clone(&clock);
            move || Clock::receive(&*clock, 5)
        });
        let (mine, other) = (Clock::receive(&*clock, 3), other.join().unwrap());
        assert!(mine > 3 && other > 5 && mine != other);
        assert_eq!(clock.latest(), LamportTime(mine.max(other)));
    });
}

#[test]
fn an_observation_is_never_lost_whatever_runs_beside_it() {
    loom::model(|| {
        let clock = Arc::new(AtomicLamport::new());
        let observer = thread::spawn({
            let clock = Arc::clone(&clock);
            move || {
                clock.observe(LamportTime(4)).unwrap();
                clock.latest()
            }
        });
        clock.observe(LamportTime(9)).unwrap();
        assert!(Clock::tick(&*clock) > 9);
        assert!(observer.join().unwrap() >= LamportTime(4));
        assert!(Clock::tick(&*clock) > 10);
    });
}

#[test]
fn stamps_follow_what_one_thread_tells_another() {
    loom::model(|| {
        let clock = Arc::new(AtomicLamport::new());
        let told = Arc::new(AtomicU64::new(0));
        let teller = thread::spawn({
            let (clock, told) = (Arc::clone(&clock), Arc::clone(&told));
            move || told.store(Clock::tick(&*clock), Ordering::Release)
        });
        let heard = told.load(Ordering::Acquire);
        assert!(Clock::tick(&*clock) > heard);
        teller.join().unwrap();
    });
}

const UNIT: u64 = 1 << HlcTime::COUNTER_BITS;
const AHEAD_MAX: Duration = Duration::from_millis(500);

fn unit(units: u64) -> HlcTime {
    HlcTime::at(WallTime(units * UNIT))
}

/// A clock whose wall time stands still at so many units.
fn frozen(units: u64) -> Arc<Hlc<impl Fn() -> WallTime>> {
    Arc::new(Hlc::new(move || WallTime(units * UNIT), AHEAD_MAX))
}

#[test]
fn hybrid_stamps_of_two_threads_differ_and_rise_in_each() {
    loom::model(|| {
        let clock = frozen(3);
        let other = thread::spawn({
            let clock = Arc::clone(&clock);
            move || [clock.now().unwrap(), clock.now().unwrap()]
        });
        let mine = [clock.now().unwrap(), clock.now().unwrap()];
        let other = other.join().unwrap();
        assert!(mine[0] < mine[1] && other[0] < other[1]);
        let mut all = [mine, other].concat();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
        assert_eq!(all.iter().map(|time| time.counter()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    });
}

#[test]
fn a_hybrid_receipt_beside_a_local_event_is_after_its_message_and_overwrites_nothing() {
    loom::model(|| {
        let clock = frozen(3);
        let other = thread::spawn({
            let clock = Arc::clone(&clock);
            move || [clock.now().unwrap(), clock.now().unwrap()]
        });
        let received = clock.receive(unit(5)).unwrap();
        let later = clock.now().unwrap();
        let other = other.join().unwrap();
        assert!(received > unit(5) && later > received);
        assert!(other[0] < other[1] && !other.contains(&received) && !other.contains(&later));
        assert_eq!(clock.latest(), later.max(other[1]));
    });
}

#[test]
fn a_hybrid_observation_survives_a_local_event_that_began_before_it() {
    loom::model(|| {
        let clock = frozen(3);
        let other = thread::spawn({
            let clock = Arc::clone(&clock);
            move || clock.now().unwrap()
        });
        clock.observe(unit(7)).unwrap();
        let later = clock.now().unwrap();
        assert!(later > unit(7));
        assert_ne!(other.join().unwrap(), later);
        assert!(clock.latest() >= later);
    });
}

#[test]
fn a_wall_clock_that_moves_under_the_threads_never_takes_a_stamp_back() {
    loom::model(|| {
        let wall = Arc::new(AtomicU64::new(9 * UNIT));
        let reading = Arc::clone(&wall);
        let clock = Hlc::new(move || WallTime(reading.load(Ordering::Relaxed)), AHEAD_MAX);
        let clock = Arc::new(clock);
        let other = thread::spawn({
            let clock = Arc::clone(&clock);
            move || [clock.now().unwrap(), clock.now().unwrap()]
        });
        wall.store(4 * UNIT, Ordering::Relaxed);
        let mine = clock.now().unwrap();
        let other = other.join().unwrap();
        assert!(other[0] < other[1] && !other.contains(&mine));
        assert!(clock.now().unwrap() > mine.max(other[1]));
    });
}

#[test]
fn the_last_counter_goes_to_one_thread_and_never_carries_into_the_time() {
    loom::model(|| {
        let last = HlcTime::from_bits(unit(3).to_bits() + u64::from(HlcTime::COUNTER_MAX));
        let bound = HlcTime::from_bits(last.to_bits() - 1);
        let clock = Arc::new(Hlc::resume_after(bound, || WallTime(3 * UNIT), AHEAD_MAX));
        let other = thread::spawn({
            let clock = Arc::clone(&clock);
            move || clock.now()
        });
        let mut results = [clock.now(), other.join().unwrap()];
        results.sort_by_key(Result::is_err);
        assert_eq!(results, [Ok(last), Err(Error::HlcCounterFull { latest: last })]);
        assert_eq!(clock.latest(), last);
    });
}

#[test]
fn a_refused_stamp_changes_nothing_whatever_runs_beside_it() {
    loom::model(|| {
        let clock = frozen(3);
        let other = thread::spawn({
            let clock = Arc::clone(&clock);
            move || clock.now().unwrap()
        });
        assert!(clock.receive(unit(3000)).is_err());
        assert!(clock.observe(unit(3000)).is_err());
        assert_eq!(clock.now().unwrap().wall(), unit(3).wall());
        assert_eq!(other.join().unwrap().wall(), unit(3).wall());
    });
}
