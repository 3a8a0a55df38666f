//! Timings of the clocks beside their peers: Lamport's beside a bare fetch-and-add, the hybrid one
//! beside `uhlc` and a bare reading of the wall clock; by one thread and by two on one clock.
#![allow(missing_docs, reason = "criterion's macros write functions without documentation")]
#![allow(clippy::disallowed_methods, reason = "a stopwatch, and what a real clock costs")]

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use criterion::{Criterion, criterion_group, criterion_main};
use quorate_clocks::{AtomicLamport, Hlc, HlcTime, Lamport, LamportTime, VectorClock, WallTime};
use quorate_transport::{Incarnation, NodeId, Peer};

const AHEAD_MAX: Duration = Duration::from_millis(500);

fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    WallTime::from_nanos(since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos()))
}

/// Times `work` by so many threads at once: a measurement is one call of one thread.
fn by_threads(criterion: &mut Criterion, name: &str, work: impl Fn() + Sync) {
    for threads in [1, 2] {
        let mut group = criterion.benchmark_group(format!("clocks, {threads} on one"));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|calls| elapsed(threads, calls, &work));
        });
        group.finish();
    }
}

fn elapsed(threads: usize, calls: u64, work: &(impl Fn() + Sync)) -> Duration {
    let barrier = Barrier::new(threads);
    let run = || {
        barrier.wait();
        let begin = Instant::now();
        for _ in 0..calls {
            work();
        }
        begin.elapsed()
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mine = run();
        let others = others.into_iter().map(|other| other.join().expect("no panic"));
        others.fold(mine, Duration::max)
    })
}

fn lamport(criterion: &mut Criterion) {
    let word = AtomicU64::new(0);
    by_threads(criterion, "bare fetch_add", || {
        black_box(word.fetch_add(1, Ordering::Relaxed));
    });
    let clock = AtomicLamport::new();
    by_threads(criterion, "Lamport tick", || {
        black_box(clock.tick().is_ok());
    });
    by_threads(criterion, "Lamport observe, old stamp", || {
        black_box(clock.observe(black_box(LamportTime(1))).is_ok());
    });
    by_threads(criterion, "Lamport receive, old stamp", || {
        black_box(clock.receive(black_box(LamportTime(1))).is_ok());
    });
    criterion.bench_function("clocks/plain Lamport tick", |bencher| {
        let mut clock = Lamport::new();
        bencher.iter(|| black_box(clock.tick().is_ok()));
    });
}

fn hybrid(criterion: &mut Criterion) {
    by_threads(criterion, "bare SystemTime::now", || {
        black_box(wall());
    });
    let clock = Hlc::new(wall, AHEAD_MAX);
    by_threads(criterion, "Hlc now", || {
        black_box(clock.now().expect("a moving clock"));
    });
    let old = HlcTime::at(WallTime(1));
    by_threads(criterion, "Hlc observe, old stamp", || {
        black_box(clock.observe(black_box(old)).is_ok());
    });
    by_threads(criterion, "Hlc receive, old stamp", || {
        black_box(clock.receive(black_box(old)).expect("a moving clock"));
    });
    let peer = uhlc::HLC::default();
    by_threads(criterion, "uhlc new_timestamp", || {
        black_box(peer.new_timestamp());
    });
}

fn vectors(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("clocks, vectors");
    for nodes in [3, 8, 64] {
        let peers = (1..=nodes).map(|n| Peer { node: NodeId(n), incarnation: Incarnation(1) });
        let (mut a, mut b) = (VectorClock::new(), VectorClock::new());
        for peer in peers {
            a.tick(peer).expect("few processes");
            b.tick(peer).expect("few processes");
        }
        let own = Peer { node: NodeId(nodes), incarnation: Incarnation(1) };
        b.tick(own).expect("few events");
        group.bench_function(format!("compare, {nodes} nodes"), |bencher| {
            bencher.iter(|| black_box(black_box(&a).compare(black_box(&b))));
        });
        group.bench_function(format!("receive, {nodes} nodes"), |bencher| {
            bencher.iter(|| black_box(b.receive(own, black_box(&a)).is_ok()));
        });
    }
    group.finish();
}

criterion_group!(benches, lamport, hybrid, vectors);
criterion_main!(benches);
