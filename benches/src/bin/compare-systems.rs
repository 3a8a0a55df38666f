//! Rows P7 to P10 and P12 to P14: clocks and metrics beside their peers, by one thread and by two;
//! messages and forced writes of mutual exclusion and of two-phase commit beside the formulas.
#![allow(clippy::disallowed_methods, reason = "a benchmark's stopwatch, and what a clock costs")]

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::Parser;
use prometheus_client::metrics::counter::Counter as PeerCounter;
use prometheus_client::metrics::histogram::{Histogram as PeerHistogram, exponential_buckets};
use quorate_benches::group::Group;
use quorate_benches::measure::in_turns;
use quorate_benches::progress::Progress;
use quorate_benches::report::{Better, Options, Report, Subject};
use quorate_clocks::{AtomicLamport, Hlc, LamportTime, WallTime};
use quorate_dmutex::{Name, Reply as Held, Request as Lock, RicartAgrawala};
use quorate_metrics::{Counter, Histogram};
use quorate_transport::{Machine, NodeId};
use quorate_txn::{Event, Reply, Request, TwoPhaseCommit, Vote};

const PROMETHEUS: &str = "prometheus-client 0.25";
const FORMULA: &str = "formula";

/// Compare clocks, metrics, mutual exclusion and two-phase commit with peers and formulas
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// Not used: nothing is written to disk
    #[arg(long, default_value = "target")]
    directory: PathBuf,
}

/// What the run is made of, and what came of it.
struct Bench {
    rounds: usize,
    calls: u64,
    report: Report,
    progress: Progress,
}

impl Bench {
    fn lower(
        &mut self,
        name: &'static str,
        params: &[(&'static str, u64)],
        values: &[Vec<f64>],
        peers: &[&str],
    ) {
        let subject = Subject { name, better: Better::Lower, params };
        let theirs = values[1..].iter().map(Vec::as_slice);
        let peers: Vec<_> = peers.iter().copied().zip(theirs).collect();
        self.progress.step(&self.report.add(&subject, &values[0], &peers));
    }

    /// Nanoseconds a call of each piece of work, by so many threads at once, in turns.
    fn turns(&self, threads: u64, sides: &[&(dyn Fn(u64) + Sync)]) -> Vec<Vec<f64>> {
        let calls = self.calls;
        let mut sides: Vec<_> =
            sides.iter().map(|work| move || nanos_a_call(threads, calls, work)).collect();
        let mut sides: Vec<&mut dyn FnMut() -> f64> =
            sides.iter_mut().map(|side| side as &mut dyn FnMut() -> f64).collect();
        in_turns(1, &mut sides);
        in_turns(self.rounds, &mut sides)
    }
}

/// So many calls on each thread; the time of the slowest counts.
fn nanos_a_call(threads: u64, calls: u64, work: &(dyn Fn(u64) + Sync)) -> f64 {
    let barrier = Barrier::new(threads as usize);
    let run = || {
        barrier.wait();
        let begun = Instant::now();
        work(calls);
        begun.elapsed()
    };
    let slowest = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mine = run();
        let others = others.into_iter().map(|other| other.join().expect("no panic"));
        others.fold(mine, Duration::max)
    });
    slowest.as_nanos() as f64 / calls as f64
}

fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    WallTime::from_nanos(since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos()))
}

fn repeat<T>(calls: u64, mut work: impl FnMut() -> T) {
    for _ in 0..calls {
        black_box(work());
    }
}

/// P7 and P8.
fn clocks(bench: &mut Bench) {
    for threads in [1, 2] {
        let params = [("threads", threads)];
        let (clock, word) = (AtomicLamport::new(), AtomicU64::new(0));
        let tick = |calls| repeat(calls, || clock.tick());
        let bare = |calls| repeat(calls, || word.fetch_add(1, Ordering::Relaxed));
        let values = bench.turns(threads, &[&tick, &bare]);
        bench.lower("systems/lamport", &params, &values, &["fetch_add"]);

        let old = |calls| {
            repeat(calls, || clock.observe(black_box(LamportTime(1))));
        };
        let values = bench.turns(threads, &[&old]);
        bench.lower("systems/lamport-old", &params, &values, &[]);

        let (hybrid, peer) = (Hlc::new(wall, Duration::from_millis(500)), uhlc::HLC::default());
        let now = |calls| repeat(calls, || hybrid.now());
        let theirs = |calls| repeat(calls, || peer.new_timestamp());
        let clock = |calls| repeat(calls, wall);
        let values = bench.turns(threads, &[&now, &theirs, &clock]);
        bench.lower("systems/hybrid", &params, &values, &["uhlc 0.9", "SystemTime::now"]);
    }
}

/// Latencies from one to about two thousand microseconds, in nanoseconds, without much arithmetic.
fn latencies(calls: u64, mut record: impl FnMut(u64)) {
    let mut state = 1u64;
    for _ in 0..calls {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        record(1_000 + (state >> 43));
    }
}

/// P9 and P10.
fn metrics(bench: &mut Bench) {
    for threads in [1, 2] {
        let params = [("threads", threads)];
        let (own, peer) = (Counter::new(), PeerCounter::<u64>::default());
        let add = |calls| repeat(calls, || own.add(black_box(1)));
        let theirs = |calls| repeat(calls, || peer.inc_by(black_box(1)));
        let values = bench.turns(threads, &[&add, &theirs]);
        bench.lower("systems/counter", &params, &values, &[PROMETHEUS]);

        let own = Histogram::new();
        let peer = PeerHistogram::new(exponential_buckets(4e-6, 2.0, 24));
        let record = |calls| latencies(calls, |nanos| own.record(nanos));
        let theirs = |calls| latencies(calls, |nanos| peer.observe(nanos as f64 / 1e9));
        let owned = |calls| {
            let hour = 3_600_000_000_000;
            let mut peer =
                hdrhistogram::Histogram::<u64>::new_with_bounds(1, hour, 2).expect("valid bounds");
            latencies(calls, |nanos| peer.record(nanos).expect("within its bounds"));
            black_box(peer.len());
        };
        let peers = [PROMETHEUS, "hdrhistogram 7.6, one a thread"];
        let values = bench.turns(threads, &[&record, &theirs, &owned]);
        bench.lower("systems/histogram", &params, &values, &peers);
    }
    let own = Histogram::new();
    latencies(100_000, |nanos| own.record(nanos));
    let snapshot = |calls: u64| repeat(calls / 1000 + 1, || own.snapshot());
    let values: Vec<_> = bench.turns(1, &[&snapshot]);
    let calls = bench.calls as f64 / (bench.calls / 1000 + 1) as f64;
    let values = vec![values[0].iter().map(|nanos| nanos * calls).collect()];
    bench.lower("systems/snapshot", &[("bytes", own.byte_len() as u64)], &values, &[]);
}

fn mutexes(nodes: u64) -> Group<RicartAgrawala> {
    let config = quorate_dmutex::Config::new((1..=nodes).map(NodeId));
    Group::new(nodes, |start| RicartAgrawala::new(start, config.clone()).expect("valid"))
}

/// Enters and leaves once.
fn enter(group: &mut Group<RicartAgrawala>, node: u64, name: &Name) {
    let id = group.request(node, Lock::Acquire { name: name.clone(), patience: None });
    group.run();
    let answer = group.hands(node).answers.pop_front();
    assert!(matches!(answer, Some((_, Held::Held { .. }))), "{answer:?}");
    group.request(node, Lock::Release { acquired: id });
    group.run();
    group.hands(node).answers.clear();
}

/// P12: messages an entry, as counted, and what an entry costs.
fn exclusion(bench: &mut Bench) {
    let name = Name::try_from("resource").expect("a short name");
    for nodes in [2, 3, 5, 8, 16, 32, 64] {
        let params = [("nodes", nodes)];
        let mut group = mutexes(nodes);
        let entries = 10 * nodes;
        let before = group.cost().0;
        (0..entries).for_each(|entry| enter(&mut group, 1 + entry % nodes, &name));
        let sent = (group.cost().0 - before) as f64 / entries as f64;
        let values = [vec![sent], vec![(2 * (nodes - 1)) as f64]];
        bench.lower("systems/mutex-messages", &params, &values, &[FORMULA]);
    }
    for nodes in [3, 16, 64] {
        let mut group = mutexes(nodes);
        let entries = (bench.calls / (20 * nodes)).max(20);
        let mut time = || {
            let begun = Instant::now();
            (0..entries).for_each(|_| enter(&mut group, 1, &name));
            begun.elapsed().as_nanos() as f64 / entries as f64
        };
        let values = in_turns(bench.rounds, &mut [&mut time]);
        bench.lower("systems/mutex-entry", &[("nodes", nodes)], &values, &[]);
    }
}

fn transactions(participants: u64) -> Group<TwoPhaseCommit> {
    let nodes = participants + 1;
    let config = quorate_txn::Config::new((1..=nodes).map(NodeId));
    Group::new(nodes, |start| TwoPhaseCommit::new(start, config.clone()).expect("valid"))
}

/// Begins so many transactions at once, whose coordinator takes no part; `no` votes no. Runs until
/// all are forgotten, and gives how many were committed.
fn carry_out(
    group: &mut Group<TwoPhaseCommit>,
    participants: u64,
    count: u64,
    no: Option<u64>,
) -> u64 {
    let payload = Bytes::from_static(b"sixteen bytes...");
    for _ in 0..count {
        let parts = (2..=participants + 1).map(|node| (NodeId(node), payload.clone())).collect();
        group.request(1, Request::Begin { parts });
    }
    let mut committed = 0;
    loop {
        group.run();
        let mut moved = false;
        for node in 2..=participants + 1 {
            while let Some(event) = group.hands(node).events.pop_front() {
                moved = true;
                let request = match event {
                    Event::Prepare { txn, .. } => {
                        let vote = if no == Some(node) { Vote::No } else { Vote::Yes };
                        Request::Vote { txn, vote }
                    }
                    Event::Commit { txn } | Event::Abort { txn } => Request::Done { txn },
                    other => panic!("nothing is lost here: {other:?}"),
                };
                group.request(node, request);
            }
            group.hands(node).answers.clear();
        }
        while let Some((ids, reply)) = group.hands(1).answers.pop_front() {
            committed += u64::from(matches!(reply, Reply::Committed { .. })) * ids.count();
        }
        if !moved {
            return committed;
        }
    }
}

/// P13: messages and forced writes a transaction, as counted; P14: transactions a second.
fn commitment(bench: &mut Bench) {
    for participants in [1, 2, 4, 8, 16] {
        let params = [("participants", participants)];
        let mut group = transactions(participants);
        let before = group.cost();
        assert_eq!(carry_out(&mut group, participants, 1, None), 1);
        let after = group.cost();
        let (messages, forced) = ((after.0 - before.0) as f64, (after.1 - before.1) as f64);
        let formula = vec![(4 * participants) as f64];
        bench.lower("systems/txn-messages", &params, &[vec![messages], formula], &[FORMULA]);
        let formula = vec![(2 * participants + 1) as f64];
        bench.lower("systems/txn-forced", &params, &[vec![forced], formula], &[FORMULA]);
        if participants > 1 {
            let before = group.cost().0;
            assert_eq!(carry_out(&mut group, participants, 1, Some(participants + 1)), 0);
            let messages = (group.cost().0 - before) as f64;
            let formula = vec![(3 * participants - 1) as f64];
            let name = "systems/txn-messages-no";
            bench.lower(name, &params, &[vec![messages], formula], &[FORMULA]);
        }
    }
    for participants in [2, 4] {
        let mut group = transactions(participants);
        let (batch, batches) = (128, (bench.calls / 20_000).max(2));
        let mut rate = || {
            let begun = Instant::now();
            for _ in 0..batches {
                assert_eq!(carry_out(&mut group, participants, batch, None), batch);
            }
            (batch * batches) as f64 / begun.elapsed().as_secs_f64()
        };
        let values = in_turns(bench.rounds, &mut [&mut rate]);
        let params = [("participants", participants)];
        let subject = Subject { name: "systems/txn-rate", better: Better::Higher, params: &params };
        bench.progress.step(&bench.report.add(&subject, &values[0], &[]));
    }
}

fn main() -> anyhow::Result<()> {
    let Cli { options, .. } = Cli::parse();
    let (rounds, calls) = if options.quick { (3, 100_000) } else { (15, 2_000_000) };
    let (report, progress) = (Report::default(), Progress::new(37));
    let mut bench = Bench { rounds, calls, report, progress };
    clocks(&mut bench);
    metrics(&mut bench);
    exclusion(&mut bench);
    commitment(&mut bench);
    bench.report.write(options.json.as_deref())
}
