//! Rows P1, P2 and P17: our core beside omnipaxos and raft-rs, in turns, in one run; with the
//! feature `system-allocator` P1 and P2 alone.
//!
//! The nodes share one thread and keep all in memory. An entry counts once all nodes have applied
//! it. All sides are given the same payloads in the same batches, and compact at the same points.
#![allow(clippy::disallowed_methods, reason = "a benchmark's stopwatch")]

use std::time::Instant;

use clap::Parser;
use quorate_benches::measure::in_turns;
use quorate_benches::progress::Progress;
use quorate_benches::report::{Better, Options, Report, Subject};
use quorate_benches::{omnipaxos_trio, quorate_trio, raft_rs_trio};
use quorate_raft::Proposals;

const PAYLOADS: [usize; 2] = [16, 256];
const BATCHES: [usize; 3] = [1, 64, 1024];
const NODES: [u64; 4] = [3, 5, 7, 9];
const SYSTEM: bool = cfg!(feature = "system-allocator");

/// Compare the Raft core with its peers
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

/// How much is done a round.
#[derive(Clone, Copy)]
struct Work {
    payload: usize,
    batch: usize,
    batches: usize,
}

impl Work {
    fn new(payload: usize, batch: usize, quick: bool) -> Self {
        let entries = if quick { 20_480 } else { 204_800 };
        Self { payload, batch, batches: entries / batch }
    }

    fn entries(self) -> u64 {
        (self.batch * self.batches) as u64
    }

    /// Calls `propose` for each batch and `compact` now and then; ns an entry.
    fn time<S>(self, side: &mut S, propose: impl Fn(&mut S), compact: impl Fn(&mut S)) -> f64 {
        let until_compact = (1 << 12).min(65_536 / self.batch);
        let begun = Instant::now();
        for round in 1..=self.batches {
            propose(side);
            if round % until_compact == 0 {
                compact(side);
            }
        }
        begun.elapsed().as_nanos() as f64 / self.entries() as f64
    }

    fn ours(self, trio: &mut quorate_trio::Trio) -> f64 {
        let command = vec![7u8; self.payload];
        let propose = |trio: &mut quorate_trio::Trio| {
            let mut proposals = Proposals::with_capacity(self.payload * self.batch, self.batch);
            (0..self.batch).for_each(|_| proposals.push(&command));
            trio.propose(proposals);
        };
        self.time(trio, propose, quorate_trio::Trio::compact)
    }

    fn omnipaxos(self, trio: &mut omnipaxos_trio::Trio) -> f64 {
        let command = vec![7u8; self.payload];
        let propose = |trio: &mut omnipaxos_trio::Trio| {
            trio.propose((0..self.batch).map(|_| command.clone()));
        };
        self.time(trio, propose, omnipaxos_trio::Trio::compact)
    }

    fn raft_rs(self, trio: &mut raft_rs_trio::Trio) -> f64 {
        let command = vec![7u8; self.payload];
        let propose = |trio: &mut raft_rs_trio::Trio| {
            trio.propose((0..self.batch).map(|_| command.clone()));
        };
        self.time(trio, propose, raft_rs_trio::Trio::compact)
    }
}

fn beside_peers(rounds: usize, work: Work, report: &mut Report) -> String {
    let (mut plain, mut coded) = (quorate_trio::Trio::new(3), quorate_trio::Trio::with_codec(3));
    let mut omnipaxos = omnipaxos_trio::Trio::new(3);
    let mut raft_rs = raft_rs_trio::Trio::new(3);
    let values = in_turns(
        rounds,
        &mut [
            &mut || work.ours(&mut plain),
            &mut || work.omnipaxos(&mut omnipaxos),
            &mut || work.raft_rs(&mut raft_rs),
            &mut || work.ours(&mut coded),
        ],
    );
    let done = work.entries() * rounds as u64;
    assert!(plain.applied() >= done && coded.applied() >= done, "ours applied all");
    assert_eq!(plain.answered(), (work.batches * rounds) as u64, "ours answered all, once each");
    assert!(omnipaxos.applied() as u64 >= done && raft_rs.applied() >= done, "peers applied all");
    let params = [("payload", work.payload as u64), ("batch", work.batch as u64)];
    let name = if SYSTEM { "system/propose" } else { "raft/propose" };
    let subject = Subject { name, better: Better::Lower, params: &params };
    let peers = [("omnipaxos 0.2.4", &values[1][..]), ("raft-rs 0.7.0", &values[2][..])];
    let line = report.add(&subject, &values[0], &peers);
    if SYSTEM {
        return line;
    }
    let subject = Subject { name: "raft/verified", ..subject };
    format!("{line}\n{}", report.add(&subject, &values[3], &[]))
}

fn by_nodes(rounds: usize, work: Work, report: &mut Report) -> String {
    let mut groups: Vec<_> = NODES.iter().map(|nodes| quorate_trio::Trio::new(*nodes)).collect();
    let mut sides: Vec<_> = groups.iter_mut().map(|group| move || work.ours(group)).collect();
    let mut sides: Vec<_> = sides.iter_mut().map(|side| side as &mut dyn FnMut() -> f64).collect();
    let values = in_turns(rounds, &mut sides);
    let lines = NODES.iter().zip(&values).map(|(nodes, values)| {
        let params = [("batch", work.batch as u64), ("nodes", *nodes)];
        let subject = Subject { name: "raft/nodes", better: Better::Lower, params: &params };
        report.add(&subject, values, &[])
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn main() -> anyhow::Result<()> {
    let options = Cli::parse().options;
    let rounds = if options.quick { 3 } else { 21 };
    let mut report = Report::default();
    let nodes = if SYSTEM { &[][..] } else { &BATCHES };
    let mut progress = Progress::new(PAYLOADS.len() * BATCHES.len() + nodes.len());
    for payload in PAYLOADS {
        for batch in BATCHES {
            let work = Work::new(payload, batch, options.quick);
            progress.step(&beside_peers(rounds, work, &mut report));
        }
    }
    for batch in nodes {
        let work = Work::new(16, *batch, options.quick);
        progress.step(&by_nodes(rounds, work, &mut report));
    }
    report.write(options.json.as_deref())
}
