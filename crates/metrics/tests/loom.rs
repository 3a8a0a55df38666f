//! Every interleaving of threads that record and threads that read: `cargo xtask loom metrics`.
#![cfg(loom)]

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use quorate_metrics::{Counter, Gauge, Histogram};

/// G1: the sum is that of all additions, in one cell and in two; what is read never falls.
#[test]
fn a_counter_loses_nothing() {
    loom::model(|| {
        let counter = Arc::new(Counter::with_stripes(2));
        let adders: Vec<_> = [0, 1]
            .map(|stripe| {
                let counter = Arc::clone(&counter);
                thread::spawn(move || {
                    counter.add_at(stripe, 1);
                    counter.add_at(0, 2);
                })
            })
            .into();
        let (one, two) = (counter.get(), counter.get());
        assert!(one <= two && two <= 6, "{one} {two}");
        adders.into_iter().for_each(|adder| adder.join().unwrap());
        assert_eq!(counter.get(), 6);
    });
}

#[test]
fn a_gauge_takes_every_change() {
    loom::model(|| {
        let gauge = Arc::new(Gauge::new());
        let other = Arc::clone(&gauge);
        let adder = thread::spawn(move || {
            other.add(5);
            other.sub(2);
        });
        gauge.add(1);
        adder.join().unwrap();
        assert_eq!(gauge.get(), 4);
    });
}

/// G2, G3: a snapshot holds what ended before it, nothing twice, and adds up; a later one holds all
/// of it.
#[test]
fn a_histogram_loses_nothing_and_is_never_torn() {
    loom::model(|| {
        let histogram = Arc::new(Histogram::with(2, 2));
        histogram.record(0);
        let recorders: Vec<_> = [0, 1]
            .map(|stripe| {
                let histogram = Arc::clone(&histogram);
                thread::spawn(move || {
                    histogram.record_at(stripe, 1, 1);
                    histogram.record_at(0, 2, 1);
                })
            })
            .into();
        let (one, two) = (histogram.snapshot(), histogram.snapshot());
        for snapshot in [&one, &two] {
            let by_value = [0, 1, 2].map(|bound| snapshot.at_most(bound));
            assert!(by_value[0] == 1 && by_value[1] <= 3 && by_value[2] <= 5, "{by_value:?}");
            assert_eq!(snapshot.count(), by_value[2], "the count is that of the buckets");
        }
        assert!((0..3).all(|bound| one.at_most(bound) <= two.at_most(bound)));
        recorders.into_iter().for_each(|recorder| recorder.join().unwrap());
        let all = histogram.snapshot();
        assert_eq!((all.count(), all.at_most(1)), (5, 3));
    });
}

/// What the article counts in variables of their own does not add up while it is read.
#[test]
#[should_panic(expected = "torn")]
fn the_articles_request_counters_are_torn() {
    loom::model(|| {
        let counters = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let other = Arc::clone(&counters);
        let request = thread::spawn(move || {
            let [total, success] = &*other;
            total.fetch_add(1, Ordering::SeqCst);
            success.fetch_add(1, Ordering::SeqCst);
        });
        let [total, success] = &*counters;
        let (total, success) = (total.load(Ordering::SeqCst), success.load(Ordering::SeqCst));
        assert_eq!(total, success, "torn");
        request.join().unwrap();
    });
}
