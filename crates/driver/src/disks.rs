//! The journal and the snapshot store, each on a thread of its own.

use std::thread::JoinHandle;
use std::time::Duration;

use quorate_transport::{BurstId, Frame, Key, StoreOp, Stored, Ticket};
use quorate_wal::{Disk, SnapshotStore, Wal, WalError};
use tokio::sync::mpsc;

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
    },
    /// The journal has failed: the node must stop.
    Failed(WalError),
    Stored {
        key: Key,
        stored: Stored,
    },
}

/// How long the journal waits before it marks itself as wholly synced.
const IDLE_AFTER: Duration = Duration::from_millis(100);

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
    std::thread::Builder::new().name("quorate-journal".into()).spawn(move || {
        runtime.block_on(async {
            let mut waiting = Vec::new();
            let mut marked = true;
            loop {
                let next = batches.recv_many(&mut waiting, 1024);
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
                match commit(&mut wal, &mut waiting) {
                    Ok(Some(upto)) => {
                        let (needed_bytes, oldest) = (wal.needed_bytes(), wal.oldest_live());
                        let durable = Done::Durable { upto, needed_bytes, oldest };
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
    waiting: &mut Vec<Batch>,
) -> Result<Option<BurstId>, WalError> {
    let mut last = None;
    for batch in waiting.drain(..) {
        for (key, ticket, frame) in &batch.records {
            wal.append(*key, *ticket, frame)?;
        }
        for (key, upto) in batch.releases {
            wal.release(key, upto);
        }
        last = batch.burst.or(last);
    }
    if last.is_some() {
        wal.commit()?;
    }
    Ok(last)
}

/// Carries out snapshot work in order, away from the journal.
pub(crate) fn snapshots<D>(
    mut store: SnapshotStore<D>,
    mut work: mpsc::Receiver<(Key, StoreOp)>,
    done: mpsc::Sender<Done>,
) -> std::io::Result<JoinHandle<()>>
where
    D: Disk + Send + 'static,
    SnapshotStore<D>: Send,
{
    std::thread::Builder::new().name("quorate-snapshots".into()).spawn(move || {
        while let Some((key, op)) = work.blocking_recv() {
            if let Some(stored) = store.apply(key, op)
                && done.blocking_send(Done::Stored { key, stored }).is_err()
            {
                return;
            }
        }
    })
}
