//! A quick look at our own core: ns an entry.
#![allow(clippy::disallowed_methods, reason = "a stopwatch")]

use std::time::Instant;

use quorate_benches::quorate_trio::Trio;
use quorate_raft::Proposals;

fn main() {
    let only: Option<usize> = std::env::args().nth(1).and_then(|text| text.parse().ok());
    for payload in [16usize, 256] {
        for batch in [1usize, 64, 1024] {
            if only.is_some_and(|only| only != batch) {
                continue;
            }
            let mut trio = Trio::new(3);
            let command = vec![7u8; payload];
            let rounds = if only.is_some() { 4_000 } else { 400_000 / batch.max(4) };
            let mut best = f64::MAX;
            for _ in 0..5 {
                let begun = Instant::now();
                for round in 0..rounds {
                    let mut proposals = Proposals::with_capacity(payload * batch, batch);
                    (0..batch).for_each(|_| proposals.push(&command));
                    trio.propose(proposals);
                    if round % 1000 == 999 || (batch > 1 && round % 50 == 49) {
                        trio.compact();
                    }
                }
                best = best.min(begun.elapsed().as_nanos() as f64 / (rounds * batch) as f64);
            }
            let want = 5 * (rounds * batch) as u64;
            assert!(trio.applied() >= want, "{} of {want}", trio.applied());
            println!("{payload} B, batch {batch}: {best:.1} ns an entry");
        }
    }
}
