//! Every disk call of a scripted workload is a crash point: whatever was acknowledged is there
//! afterwards, in order, and nothing else.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};

use common::{Model, Pair, seeds};
use quorate_transport::{Key, Ticket};
use quorate_wal::{Fault, OpenError, Recovery, SimDisk, Tail, WalError};

static TRIED: AtomicU64 = AtomicU64::new(0);

const STEPS: usize = 120;

/// How a crash ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The process died; the page cache lives.
    Death,
    /// Power was lost.
    Power(u64),
}

impl End {
    fn strike(self, disk: &SimDisk) {
        match self {
            Self::Death => disk.kill(),
            Self::Power(seed) => disk.power_loss(seed),
        }
        TRIED.fetch_add(1, Ordering::Relaxed);
    }

    fn all() -> impl Iterator<Item = Self> {
        [Self::Death].into_iter().chain((0..8).map(Self::Power))
    }
}

/// The workload until it fails; what it was promised.
fn run(disk: &SimDisk, seed: u64) -> Model {
    let Ok((mut pair, _)) = Pair::open(disk) else {
        return Model::recovered(&nothing());
    };
    let _ = pair.work(seed, STEPS);
    pair.model
}

fn nothing() -> Recovery {
    Recovery { records: Vec::new(), released: Vec::new(), tail: Tail::Clean, fresh: true }
}

/// The calls of the workload when nothing fails.
fn calls(seed: u64) -> u64 {
    let disk = SimDisk::new(seed);
    let (mut pair, _) = Pair::open(&disk).unwrap();
    pair.work(seed, STEPS).unwrap();
    let stats = pair.wal.stats();
    assert!(stats.segments_recycled > 0, "a dull workload: {stats:?}");
    disk.calls()
}

/// What one opening hands out survives an immediate loss of power, and the journal works on.
fn check_handed_out(disk: &SimDisk, model: &Model, what: &str) {
    let later = disk.fork(1);
    let opened = Pair::open(disk);
    let (pair, first) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    model.check(&first, what);
    drop(pair);
    let (mut pair, _) = Pair::open(&later).unwrap_or_else(|error| panic!("{what}: {error}"));
    pair.work(98, 8).unwrap();
    End::Power(0).strike(&later);
    let (_, found) = Pair::open(&later).unwrap_or_else(|error| panic!("{what}: {error}"));
    pair.model.check(&found, &format!("{what}, then more work, then power loss"));
    for seed in 0..4 {
        let later = disk.fork(seed);
        End::Power(seed).strike(&later);
        let (mut pair, second) = Pair::open(&later).unwrap_or_else(|e| panic!("{what}: {e}"));
        let what = format!("{what}, then handed out, then power loss {seed}");
        assert_eq!(second.records, first.records, "{what}");
        assert_eq!(second.released, first.released, "{what}");
        if seed == 2 {
            pair.work(99, 6).unwrap();
            let model = pair.model.clone();
            End::Power(seed).strike(&later);
            let (_, third) = Pair::open(&later).unwrap_or_else(|e| panic!("{what}: {e}"));
            model.check(&third, &format!("{what}, then more work"));
        }
    }
}

#[test]
fn whatever_call_a_crash_strikes_all_that_was_acknowledged_is_there() {
    for seed in 1..=seeds(2) {
        for call in 1..=calls(seed) + 1 {
            let disk = SimDisk::new(seed ^ call);
            disk.fail_at(call, Fault::Crash);
            let model = run(&disk, seed);
            for end in End::all() {
                let disk = disk.fork(call);
                let what = format!("seed {seed}, {} (call {call}), {end:?}", disk.last_call());
                end.strike(&disk);
                check_handed_out(&disk, &model, &what);
            }
        }
    }
    println!("crash points tried: {}", TRIED.load(Ordering::Relaxed));
}

#[test]
fn a_crash_during_open_harms_nothing_whatever_call_it_strikes() {
    let seed = 3;
    for call in 1..=calls(seed) + 1 {
        let disk = SimDisk::new(call);
        disk.fail_at(call, Fault::Crash);
        let model = run(&disk, seed);
        for first in [End::Death, End::Power(call)] {
            for second in [End::Death, End::Power(call * 7 + 2)] {
                for at in 1.. {
                    let disk = disk.fork(at);
                    first.strike(&disk);
                    disk.fail_at(disk.calls() + at, Fault::Crash);
                    if Pair::open(&disk).is_ok() {
                        break;
                    }
                    let at = disk.last_call();
                    let what = format!("call {call}, {first:?}, open until {at}, {second:?}");
                    second.strike(&disk);
                    let opened = Pair::open(&disk);
                    let (_, found) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
                    model.check(&found, &what);
                }
            }
        }
    }
    println!("crash points tried: {}", TRIED.load(Ordering::Relaxed));
}

#[test]
fn a_failing_call_poisons_the_journal_and_a_new_opening_finds_what_was_acknowledged() {
    let seed = 5;
    let mut poisoned = 0;
    for call in 1..=calls(seed) {
        for fault in [Fault::Io, Fault::NoSpace] {
            let disk = SimDisk::new(call);
            disk.fail_at(call, fault);
            let what = format!("{fault:?} at call {call}");
            let Ok((mut pair, _)) = Pair::open(&disk) else {
                let (_, found) = Pair::open(&disk).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(found.records, [], "{what}");
                continue;
            };
            let error = pair.work(seed, STEPS).expect_err("the fault has struck");
            assert!(matches!(error, WalError::Disk(_)), "{what}: {error}");
            assert!(pair.wal.is_poisoned());
            let what = format!("{what} {}, {error}", disk.last_call());
            poisoned += 1;
            let calls = disk.calls();
            let key = Key::new(9, 9);
            let refused = [
                pair.wal.append(key, Ticket(1), &common::frame(1, 1)),
                pair.wal.write().map(drop),
                pair.wal.sync().map(drop),
                pair.wal.commit().map(drop),
                pair.wal.idle().map(drop),
            ];
            for refusal in refused {
                assert!(matches!(refusal, Err(WalError::Poisoned { .. })), "{what}: {refusal:?}");
            }
            assert_eq!(disk.calls(), calls, "{what}: tried again");
            let model = pair.model.clone();
            drop(pair.wal);
            for end in End::all() {
                let disk = disk.fork(call);
                end.strike(&disk);
                check_handed_out(&disk, &model, &format!("{what}, {end:?}"));
            }
        }
    }
    assert!(poisoned > 100, "only {poisoned} faults struck the journal itself");
}

#[test]
fn a_failing_call_during_open_is_typed_and_the_next_opening_makes_up_for_it() {
    let seed = 8;
    for call in (1..=calls(seed)).step_by(5) {
        let disk = SimDisk::new(call);
        disk.fail_at(call, Fault::Crash);
        let model = run(&disk, seed);
        disk.power_loss(call);
        for at in 1.. {
            let disk = disk.fork(at);
            disk.fail_at(disk.calls() + at, Fault::Io);
            match Pair::open(&disk) {
                Ok(_) => break,
                Err(OpenError::Disk(_)) => {}
                Err(other) => panic!("call {call}, open failing at {at}: {other}"),
            }
            let what = format!("call {call}, open failing at {at}");
            check_handed_out(&disk, &model, &what);
        }
    }
}

#[test]
fn a_vote_read_back_after_process_death_survives_the_power_loss_after_it() {
    let disk = SimDisk::new(1);
    let machine = Key::new(1, 1);
    let (mut pair, _) = Pair::open(&disk).unwrap();
    pair.append(machine, 0).unwrap();
    pair.commit().unwrap();
    pair.append(machine, 0).unwrap();
    pair.write().unwrap();
    disk.kill();
    // The second vote was never synced, and is read back from the page cache.
    let (pair, recovery) = Pair::open(&disk).unwrap();
    assert_eq!(recovery.records.len(), 2);
    assert!(matches!(recovery.tail, Tail::Ambiguous { .. }), "{:?}", recovery.tail);
    drop(pair);
    // Seed 0 loses everything that was not synced.
    disk.power_loss(0);
    let (_, after) = Pair::open(&disk).unwrap();
    assert_eq!(after.records, recovery.records);
}

#[test]
fn a_burst_dropped_as_torn_never_comes_back() {
    let machine = Key::new(1, 1);
    let mut dropped = 0;
    for seed in 0..seeds(60).max(60) {
        let disk = SimDisk::new(seed);
        let (mut pair, _) = Pair::open(&disk).unwrap();
        pair.append(machine, 10).unwrap();
        pair.commit().unwrap();
        for _ in 0..4 {
            pair.append(machine, 450).unwrap();
            pair.write().unwrap();
        }
        disk.power_loss(seed);
        let (pair, first) = Pair::open(&disk).unwrap();
        dropped += u64::from(matches!(first.tail, Tail::Torn { .. }));
        drop(pair);
        // The same records again, fewer of them: the same bytes up to their end.
        disk.power_loss(0);
        let (mut pair, second) = Pair::open(&disk).unwrap();
        assert_eq!(second.records, first.records, "seed {seed}");
        assert!(!matches!(second.tail, Tail::Torn { .. }), "seed {seed}: {:?}", second.tail);
        pair.append(machine, 450).unwrap();
        pair.commit().unwrap();
        let model = pair.model.clone();
        disk.power_loss(1);
        let (_, third) = Pair::open(&disk).unwrap();
        model.check(&third, &format!("seed {seed}"));
        assert_eq!(third.records.len(), second.records.len() + 1, "seed {seed}");
    }
    assert!(dropped > 5, "only {dropped} torn tails");
}

#[test]
fn options_of_the_sweep_make_it_rotate_and_recycle() {
    let disk = SimDisk::new(1);
    let (mut pair, _) = Pair::open(&disk).unwrap();
    pair.work(1, 400).unwrap();
    let stats = pair.wal.stats();
    assert!(stats.segments_created > 4 && stats.segments_recycled > 10, "{stats:?}");
    assert!(stats.marks > 5, "{stats:?}");
    assert_eq!(pair.wal.disk_bytes(), disk.bytes(), "and to know its size");
}
