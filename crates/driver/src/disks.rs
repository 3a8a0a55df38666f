//! The journal and the snapshot store, each on a thread of its own, unless the journal never waits.

use std::time::Duration;

use quorate_transport::{BurstId, Frame, Key, StoreOp, Stored, Ticket, Time, Worked};
use quorate_wal::{Disk, DiskError, SnapshotStore, Wal, WalError};
use tokio::sync::mpsc;

use crate::clock::boot_time;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{recv_many, sleep};

/// One burst on its way to the journal.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) burst: Option<BurstId>,
    pub(crate) records: Vec<(Key, Ticket, Frame)>,
    pub(crate) releases: Vec<(Key, Ticket)>,
}

/// What the disk threads say.
#[derive(Debug)]
pub(crate) enum Done {
    /// Every burst up to this one is durable; what the journal needs on disk, and who pins it.
    Durable {
        upto: BurstId,
        needed_bytes: u64,
        oldest: Option<(Key, Ticket)>,
        stats: quorate_wal::Stats,
    },
    /// The journal has failed: the node must stop.
    Failed(WalError),
    /// So has the snapshot store: the node must stop.
    StoreFailed(DiskError),
    Stored {
        key: Key,
        stored: Stored,
    },
    /// Work of a machine came to this; `None` where it panicked.
    Worked {
        key: Key,
        worked: Option<Worked>,
    },
}

/// How long the journal waits before it marks itself as wholly synced.
const IDLE_AFTER: Duration = Duration::from_millis(100);

/// Where bursts go.
pub(crate) enum Journal {
    /// To a thread that writes and syncs them.
    Thread(mpsc::Sender<Batch>),
    /// Nowhere: the engine writes and syncs them.
    Here(Box<dyn Here>),
}

/// A journal that the engine writes itself.
pub(crate) trait Here: Send {
    /// Writes and syncs a burst.
    fn commit(&mut self, now: Time, batch: Batch) -> Option<Done>;
    /// When it wants to mark itself as wholly synced.
    fn deadline(&self) -> Option<Time>;
    /// Does so.
    fn idle(&mut self) -> Option<Done>;
}

struct HereWal<D: Disk> {
    wal: Wal<D>,
    idle_at: Option<Time>,
}

impl<D: Disk> Here for HereWal<D>
where
    Wal<D>: Send,
{
    fn commit(&mut self, now: Time, batch: Batch) -> Option<Done> {
        self.idle_at = Some(now + IDLE_AFTER);
        commit(&mut self.wal, std::iter::once(batch))
            .unwrap_or_else(|error| Some(Done::Failed(error)))
    }

    fn deadline(&self) -> Option<Time> {
        self.idle_at
    }

    fn idle(&mut self) -> Option<Done> {
        self.idle_at = None;
        self.wal.idle().err().map(Done::Failed)
    }
}

/// A journal that the engine writes itself.
pub(crate) fn here<D>(wal: Wal<D>) -> Journal
where
    D: Disk + 'static,
    Wal<D>: Send,
{
    Journal::Here(Box::new(HereWal { wal, idle_at: None }))
}

/// Writes and syncs everything that waits, together, until the sender is gone; then leaves a mark.
pub(crate) fn journal<D>(
    mut wal: Wal<D>,
    mut batches: mpsc::Receiver<Batch>,
    done: mpsc::Sender<Done>,
) -> std::io::Result<JoinHandle<()>>
where
    D: Disk + Send + 'static,
    Wal<D>: Send,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    thread::Builder::new().name("quorate-journal".into()).spawn(move || {
        runtime.block_on(async {
            let mut waiting = Vec::new();
            let mut marked = true;
            loop {
                let next = recv_many(&mut batches, &mut waiting, 1024);
                let count = if marked {
                    next.await
                } else {
                    match tokio::time::timeout(IDLE_AFTER, next).await {
                        Ok(count) => count,
                        Err(_) => {
                            marked = true;
                            if let Err(error) = wal.idle() {
                                let _ = done.send(Done::Failed(error)).await;
                                return;
                            }
                            continue;
                        }
                    }
                };
                if count == 0 {
                    let _ = wal.idle();
                    return;
                }
                marked = false;
                match commit(&mut wal, waiting.drain(..)) {
                    Ok(Some(durable)) => {
                        if done.send(durable).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => {}
                    Err(error) => {
                        let _ = done.send(Done::Failed(error)).await;
                        return;
                    }
                }
            }
        });
    })
}

fn commit<D: Disk>(
    wal: &mut Wal<D>,
    batches: impl Iterator<Item = Batch>,
) -> Result<Option<Done>, WalError> {
    let mut last = None;
    for batch in batches {
        for (key, ticket, frame) in &batch.records {
            wal.append(*key, *ticket, frame)?;
        }
        for (key, upto) in batch.releases {
            wal.release(key, upto);
        }
        last = batch.burst.or(last);
    }
    let Some(upto) = last else { return Ok(None) };
    wal.commit()?;
    let (needed_bytes, oldest, stats) = (wal.needed_bytes(), wal.oldest_live(), wal.stats());
    Ok(Some(Done::Durable { upto, needed_bytes, oldest, stats }))
}

/// Carries out snapshot work in order, away from the journal and no faster than `pace` lets it.
pub(crate) fn snapshots<D>(
    mut store: SnapshotStore<D>,
    mut work: mpsc::Receiver<(Key, StoreOp)>,
    done: mpsc::Sender<Done>,
    mut pace: Pace,
) -> std::io::Result<JoinHandle<()>>
where
    D: Disk + Send + 'static,
    SnapshotStore<D>: Send,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    thread::Builder::new().name("quorate-snapshots".into()).spawn(move || {
        runtime.block_on(async {
            while let Some((key, op)) = work.recv().await {
                // Nobody hears the answer any more, and what is not finished is void.
                if work.is_closed() && !matches!(op, StoreOp::RemoveBefore { .. }) {
                    continue;
                }
                let written = if let StoreOp::Write { bytes, .. } = &op { bytes.len() } else { 0 };
                if let Some(stored) = store.apply(key, op)
                    && done.send(Done::Stored { key, stored }).await.is_err()
                {
                    return;
                }
                if store.failure().is_some() {
                    break;
                }
                let pause = pace.after(boot_time(), written as u64);
                if !pause.is_zero() {
                    sleep(pause).await;
                }
            }
            if let Some(failure) = store.into_failure() {
                let _ = done.send(Done::StoreFailed(failure)).await;
            }
        });
    })
}

/// How fast snapshots may be written, so that the journal has its share of the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    bytes_per_second: u64,
    free_at: Time,
}

impl Pace {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_at: Time::ZERO }
    }

    /// How long to pause now that these bytes are written.
    fn after(&mut self, now: Time, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.free_at = self.free_at.max(now) + Duration::from_nanos(nanos);
        self.free_at.since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_kept_however_the_bytes_come_and_rest_is_not_saved_up() {
        for pieces in [1, 7, 1000] {
            let mut pace = Pace::new(1_000_000);
            let mut now = Time::from_nanos(5_000_000_000);
            let begun = now;
            for _ in 0..pieces {
                now = now + pace.after(now, 2_000_000 / pieces);
            }
            let took = now.since(begun).as_secs_f64();
            assert!((1.99..=2.0).contains(&took), "{pieces}: {took}");
            now = now + Duration::from_secs(100);
            assert_eq!(pace.after(now, 500_000), Duration::from_millis(500));
            assert_eq!(pace.after(now, 0), Duration::from_millis(500));
        }
    }
}
