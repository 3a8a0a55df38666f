//! Rows P1 and P2: our core beside omnipaxos, interleaved in one run.
#![allow(clippy::disallowed_methods, reason = "a benchmark's stopwatch")]

use std::time::Instant;

use quorate_benches::{omnipaxos_trio, quorate_trio};
use quorate_raft::Proposals;

const ROUNDS: usize = 7;

fn ours(trio: &mut quorate_trio::Trio, payload: usize, batch: usize, rounds: usize) -> f64 {
    let command = vec![7u8; payload];
    let begun = Instant::now();
    for round in 0..rounds {
        let mut proposals = Proposals::with_capacity(payload * batch, batch);
        (0..batch).for_each(|_| proposals.push(&command));
        trio.propose(proposals);
        if (round + 1) % (1 << 12).min(65_536 / batch) == 0 {
            trio.compact();
        }
    }
    begun.elapsed().as_nanos() as f64 / (rounds * batch) as f64
}

fn theirs(trio: &mut omnipaxos_trio::Trio, payload: usize, batch: usize, rounds: usize) -> f64 {
    let command = vec![7u8; payload];
    let begun = Instant::now();
    for round in 0..rounds {
        trio.propose((0..batch).map(|_| command.clone()));
        if (round + 1) % (1 << 12).min(65_536 / batch) == 0 {
            trio.compact();
        }
    }
    begun.elapsed().as_nanos() as f64 / (rounds * batch) as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    println!("3 nodes in one thread, in memory, propose to applied on all three; ns an entry,");
    println!("medians of {ROUNDS} interleaved rounds; ours with the leader's checksum");
    println!("payload  batch   quorate  omnipaxos  ratio");
    for payload in [16, 256] {
        for batch in [1, 64, 1024] {
            let rounds = 200_000 / batch;
            let (mut one, mut two) = (quorate_trio::Trio::new(3), omnipaxos_trio::Trio::new(3));
            let (mut a, mut b) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                a.push(ours(&mut one, payload, batch, rounds));
                b.push(theirs(&mut two, payload, batch, rounds));
            }
            let done = (ROUNDS * rounds * batch) as u64;
            assert!(one.applied() >= done && two.applied() as u64 >= done, "all was applied");
            let (a, b) = (median(a), median(b));
            println!("{payload:>5} B  {batch:>5}  {a:>8.1}  {b:>9.1}  {:>5.1}", b / a);
        }
    }
}
