//! What a long log costs: memory while it grows, time to start again with it.
#![allow(clippy::disallowed_methods, reason = "a benchmark's stopwatch")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::BytesMut;
use quorate_driver::{Options, Setup};
use quorate_raft::{Config, Event, Index, Proposals, Raft, Reply, Request};
use quorate_transport::mem::{Network, NetworkOptions};
use quorate_transport::{
    Cell, Halt, Incarnation, Input, Key, Machine, NodeId, Peer, RequestRange, Sink, Start, StoreOp,
    Ticket, Time, encode_record,
};
use quorate_wal::{RealDisk, Wal};

use crate::driver_trio::Trio;
use crate::puts::runtime;

/// Proposals under way while a log grows.
const UNDER_WAY: u64 = 64;
const KEY: Key = Key::new(1, 1);

/// What is put into a log.
#[derive(Clone, Copy, Debug)]
pub struct Entries {
    /// Bytes of each.
    pub payload: usize,
    /// How many are proposed at once.
    pub batch: usize,
}

impl Entries {
    fn proposals(self) -> Proposals {
        let mut proposals = Proposals::with_capacity(self.payload * self.batch, self.batch);
        let command = vec![7; self.payload];
        (0..self.batch).for_each(|_| proposals.push(&command));
        proposals
    }
}

/// MiB that this process has more than with an empty log, when so many entries are applied by all
/// of three nodes. `marks` rise.
///
/// # Errors
/// The system does not tell.
pub fn memory(entries: Entries, marks: &[u64]) -> anyhow::Result<Vec<f64>> {
    runtime().block_on(async {
        let trio = Trio::<Raft>::start().await;
        let before = resident_mib()?;
        let proposed = Arc::new(AtomicU64::new(0));
        let mut grown = Vec::new();
        for mark in marks {
            let one = |_| {
                let (leader, proposed, mark) = (trio.handles().0.clone(), proposed.clone(), *mark);
                tokio::spawn(async move {
                    let count = entries.batch as u64;
                    while proposed.fetch_add(count, Ordering::Relaxed) < mark {
                        let done = leader.request(Request::Propose(entries.proposals())).await;
                        assert!(matches!(done, Ok(Reply::Committed { .. })), "{done:?}");
                    }
                    proposed.fetch_sub(count, Ordering::Relaxed);
                })
            };
            for client in (0..UNDER_WAY).map(one).collect::<Vec<_>>() {
                client.await.context("a client has failed")?;
            }
            for node in trio.handles().1 {
                while node.look(Raft::commit).await? < Index(*mark) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            grown.push(resident_mib()? - before);
        }
        Ok(grown)
    })
}

/// What this process has of the machine's memory.
fn resident_mib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("no /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}

/// Writes what the machine persists into a journal.
struct Scribe {
    wal: Wal<RealDisk>,
    scratch: BytesMut,
    persisted: Ticket,
    committed: u64,
}

impl Sink<Raft> for Scribe {
    fn persist(&mut self, ticket: Ticket, record: <Raft as Machine>::Record) {
        let frame = encode_record(&record, &mut self.scratch);
        self.wal.append(KEY, ticket, &frame).expect("a record of our own fits");
        self.persisted = ticket;
    }
    fn send(&mut self, _: NodeId, _: <Raft as Machine>::Message) {}
    fn emit(&mut self, event: Event) {
        if let Event::Committed(view) = event {
            self.committed = view.last().0;
        }
    }
    fn answer(&mut self, _: RequestRange, _: Reply) {}
    fn release(&mut self, _: Ticket) {}
    fn store(&mut self, _: StoreOp) {}
    fn halt(&mut self, halt: &Halt) {
        panic!("{halt}");
    }
}

fn start(incarnation: u64) -> (Peer, Config) {
    let me = Peer { node: NodeId(1), incarnation: Incarnation(incarnation) };
    (me, Config::new([me.node]))
}

/// Writes the journal of a one-node group with so many entries, each proposal a record.
///
/// # Errors
/// The disk's.
pub fn write_journal(directory: &Path, entries: Entries, log: u64) -> anyhow::Result<()> {
    let (wal, _) = Wal::open(RealDisk::open(directory)?, quorate_wal::Options::default())?;
    let (me, config) = start(1);
    let Peer { node, incarnation } = me;
    let raft = Raft::new(Start { node, incarnation, seed: 1, now: Time::ZERO }, config)?;
    let mut cell = Cell::new(raft);
    let scratch = BytesMut::new();
    let mut scribe = Scribe { wal, scratch, persisted: Ticket::ZERO, committed: 0 };
    cell.handle(Time::ZERO, Input::Started, &mut scribe);
    let mut synced = 0;
    while scribe.committed < log {
        if cell.machine().is_leader() {
            cell.request(Time::ZERO, Request::Propose(entries.proposals()), &mut scribe);
        }
        cell.settle(Time::ZERO, &mut scribe);
        synced += entries.batch;
        if synced >= 1000 {
            synced = 0;
            scribe.wal.commit()?;
        }
        // As if each burst were on the disk at once: what is measured is how it is read.
        cell.durable(Time::ZERO, scribe.persisted, &mut scribe);
        let index = Index(scribe.committed);
        cell.request(Time::ZERO, Request::Applied { index }, &mut scribe);
    }
    scribe.wal.commit()?;
    scribe.wal.idle()?;
    Ok(())
}

/// Seconds until a node leads again that starts with that journal, and has committed all of it.
///
/// # Errors
/// The disk's, or the node's.
pub fn restart(directory: &Path, incarnation: u64, log: u64) -> anyhow::Result<f64> {
    let snapshots = tempfile::tempdir_in(directory.parent().unwrap_or(directory))?;
    let runtime = runtime();
    runtime.block_on(async {
        let begun = Instant::now();
        let (me, config) = start(incarnation);
        let (journal, snapshots) = (RealDisk::open(directory)?, RealDisk::open(snapshots.path())?);
        // No checkpoint, which would write all of it once more.
        let options = Options { journal_bytes_max: 1 << 30, ..Options::default() };
        let mut setup = Setup::open(me, incarnation, journal, snapshots, options)?;
        let node = setup.add_with::<Raft>(KEY, config, |event, asks| {
            if let Event::Committed(view) = event {
                asks.push(Request::Applied { index: view.last() });
            }
        })?;
        let network = Network::new(NetworkOptions::default());
        let driver = setup.run(Arc::new(network.join(me)))?;
        while node.look(Raft::commit).await? < Index(log) {
            ensure!(begun.elapsed() < Duration::from_secs(60), "it does not come back");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let took = begun.elapsed().as_secs_f64();
        driver.stop().await?;
        Ok(took)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_comes_back_with_the_journal_that_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let journal = directory.path().join("journal");
        write_journal(&journal, Entries { payload: 3, batch: 7 }, 1000).unwrap();
        for incarnation in [2, 3] {
            restart(&journal, incarnation, 1000).unwrap();
        }
    }

    #[test]
    fn memory_is_told_at_each_mark() {
        let grown = memory(Entries { payload: 16, batch: 4 }, &[100, 1000]).unwrap();
        assert_eq!(grown.len(), 2);
    }
}
