//! Timings of what lies around the machines: frames, the journal in memory, the linearizability
//! checker.
#![allow(missing_docs, reason = "criterion's macros write functions without documentation")]

use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use quorate_sim::linearizability::{Budget, Map, MapOp, MapOutput, Operation, Verdict, check};
use quorate_transport::{Attachment, Attachments, Frame, Key, Rng, Ticket, Time};
use quorate_wal::{Options, SimDisk, Wal};

const SIZES: [usize; 2] = [256, 64 << 10];
const APPENDS: usize = 64;
const OPERATIONS: u64 = 1000;

fn frame_of(bytes: usize) -> Frame {
    let attachment = Attachment::new(Bytes::from(vec![7; bytes]));
    Frame { head: Bytes::from_static(&[1; 24]), attachments: Attachments::One(attachment) }
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    for bytes in SIZES {
        let frame = frame_of(bytes);
        let mut out = BytesMut::new();
        frame.put_flat(&mut out);
        let flat = out.split().freeze();
        group.throughput(Throughput::Bytes(flat.len() as u64));
        group.bench_function(format!("encode {bytes} B, checksum known"), |bencher| {
            bencher.iter(|| {
                out.clear();
                frame.put_flat(&mut out);
                black_box(&out);
            });
        });
        group.bench_function(format!("decode and verify {bytes} B"), |bencher| {
            bencher.iter(|| Frame::from_flat(black_box(&flat)).expect("a frame of our own"));
        });
    }
    group.finish();
}

fn wal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal");
    let frame = frame_of(256);
    group.throughput(Throughput::Elements(APPENDS as u64));
    group.bench_function(format!("{APPENDS} appends of 256 B and one write, no sync"), |bencher| {
        let open = || {
            let options = Options { segment_bytes: 1 << 20, ..Options::default() };
            Wal::open(SimDisk::new(1), options).expect("an empty disk").0
        };
        let append = |mut wal: Wal<SimDisk>| {
            for ticket in 1..=APPENDS as u64 {
                wal.append(Key::new(1, 1), Ticket(ticket), &frame).expect("an append");
            }
            wal.write().expect("a write");
            wal
        };
        bencher.iter_batched(open, append, BatchSize::LargeInput);
    });
    group.finish();
}

/// What clients of a map of ten keys saw: each operation has its effect at one instant, and is
/// open for some time before and after it, so that several always overlap.
fn history() -> Vec<Operation<Map<u64, u64>>> {
    const STEP: u64 = 100;
    let mut rng = Rng::new(7);
    let mut state = [None; 10];
    let mut history = Vec::new();
    for n in 1..=OPERATIONS {
        let key = rng.below(10);
        let at = n * STEP;
        let called = Time::from_nanos(at - rng.below(STEP * 3).min(at));
        let returned = Time::from_nanos(at + 1 + rng.below(STEP * 3));
        let (op, output) = if rng.below(2) == 0 {
            (MapOp::Get { key }, MapOutput::Value(state[key as usize]))
        } else {
            state[key as usize] = Some(n);
            (MapOp::Put { key, value: n }, MapOutput::Done)
        };
        history.push(Operation::returned(n, called, returned, op, output));
    }
    history
}

fn linearizability(criterion: &mut Criterion) {
    let history = history();
    let mut group = criterion.benchmark_group("linearizability");
    group.throughput(Throughput::Elements(OPERATIONS));
    group.bench_function(format!("check {OPERATIONS} operations"), |bencher| {
        bencher.iter(|| {
            let verdict = check(black_box(&history), Budget::default());
            assert!(matches!(verdict, Verdict::Ok), "the history is linearizable");
        });
    });
    group.finish();
}

criterion_group! {
    name = parts;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = frames, wal, linearizability
}
criterion_main!(parts);
