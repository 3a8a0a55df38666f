//! Putting a node together, and taking it apart.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quorate_transport::{
    Frame, Halt, Host, HostOptions, HostStats, Key, Machine, Peer, ReplayError, Start, Ticket,
    Transport,
};
use quorate_wal::{Disk, DiskError, OpenError, SnapshotStore, Wal, WalError};
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::clock::boot_time;
use crate::desk::{Desk, Feed, Listener, Post};
use crate::disks::{self, Journal, Pace};
use crate::engine::{Engine, Hands};
use crate::handle::{Gone, Handle};
use crate::mailbox::mailbox;
use crate::sync::Notify;
use crate::sync::thread::JoinHandle;

/// Limits of a node.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What the journal needs on disk, in bytes, spares aside, past which the machine that pins it
    /// is asked to do without its oldest records. Default 256 MiB.
    pub journal_bytes_max: u64,
    /// How fast snapshots are written, in bytes a second: less leaves more of the disk to the
    /// journal, and keeps what a snapshot will free for longer. Default 64 MiB.
    pub snapshot_bytes_per_second: u64,
    /// The engine itself writes and syncs the journal, in place of a thread: for disks in memory,
    /// which never make it wait. With another disk the node is deaf during every sync, and whatever
    /// shares its runtime may be. Default false.
    pub journal_here: bool,
    /// Requests that may wait in one machine's mailbox, all of which one burst takes. Default 4096.
    pub mailbox_max: usize,
    /// Events that a slow listener may fall behind. Default 1024.
    pub events_max: usize,
    /// Of the host.
    pub host: HostOptions,
    /// Of the journal.
    pub journal: quorate_wal::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            journal_bytes_max: 256 << 20,
            snapshot_bytes_per_second: 64 << 20,
            journal_here: false,
            mailbox_max: 4096,
            events_max: 1024,
            host: HostOptions::default(),
            journal: quorate_wal::Options::default(),
        }
    }
}

/// Why a node cannot start. What is on its disks is unchanged, but for a repaired tail.
#[derive(Debug, Error)]
pub enum StartError {
    /// The journal or the snapshots cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The journal is not what this node wrote.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A machine refused its configuration, or its key is taken: the caller's fault.
    #[error("{0}")]
    Machine(String),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why a node stopped by itself.
#[derive(Debug, Error)]
pub enum DriverError {
    /// The journal failed: going on could break a promise.
    #[error("the journal has failed: {0}")]
    Journal(WalError),
    /// A snapshot could not be named or removed: none can be kept until the store is opened anew.
    #[error("the snapshot store has failed: {0}")]
    Snapshots(DiskError),
    /// While stopping, the disk did not take what was appended in time: who waited for that was
    /// not answered.
    #[error("the disk did not take within {0:?} what was to be synced before the end")]
    Slow(Duration),
    /// The engine panicked: a bug.
    #[error("the engine has failed: {0}")]
    Engine(String),
}

/// A node being put together: disks open, machines added, nothing running.
pub struct Setup<D: Disk> {
    host: Host,
    wal: Wal<D>,
    store: SnapshotStore<D>,
    records: Vec<(Key, Ticket, Frame)>,
    released: Vec<(Key, Ticket)>,
    mailboxes: Vec<Box<dyn Feed>>,
    wake: Arc<Notify>,
    halts: broadcast::Sender<(Key, Halt)>,
    options: Options,
}

impl<D: Disk> fmt::Debug for Setup<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("host", &self.host).finish_non_exhaustive()
    }
}

impl<D> Setup<D>
where
    D: Disk + Send + 'static,
    Wal<D>: Send,
    SnapshotStore<D>: Send,
{
    /// Opens the disks of a node, and repairs the journal's tail.
    ///
    /// # Errors
    /// [`StartError::Open`].
    pub fn open(
        me: Peer,
        seed: u64,
        journal: D,
        snapshots: D,
        options: Options,
    ) -> Result<Self, StartError> {
        let (wal, recovery) = Wal::open(journal, options.journal)?;
        let store = SnapshotStore::open(snapshots)?;
        let start = Start { node: me.node, incarnation: me.incarnation, seed, now: boot_time() };
        tracing::info!(records = recovery.records.len(), tail = ?recovery.tail, "journal opened");
        Ok(Self {
            host: Host::new(start, options.host),
            wal,
            store,
            records: recovery.records,
            released: recovery.released,
            mailboxes: Vec::new(),
            wake: Arc::new(Notify::new()),
            halts: broadcast::channel(HALTS_MAX).0,
            options,
        })
    }

    /// Adds a machine.
    ///
    /// # Errors
    /// [`StartError::Machine`].
    pub fn add<M: Machine>(
        &mut self,
        key: Key,
        config: M::Config,
    ) -> Result<Handle<M>, StartError> {
        self.put(key, config, None)
    }

    /// Adds a machine whose events, each of them and in order, are told to `listen` as well: a
    /// state machine that may not miss what is committed. It runs in the middle of a burst, so it
    /// must not wait; what it asks in return, in its second argument, is fed in the next burst and
    /// the answer dropped.
    ///
    /// # Errors
    /// [`StartError::Machine`].
    pub fn add_with<M: Machine>(
        &mut self,
        key: Key,
        config: M::Config,
        listen: impl FnMut(M::Event, &mut Vec<M::Request>) + Send + 'static,
    ) -> Result<Handle<M>, StartError> {
        self.put(key, config, Some(Box::new(listen)))
    }

    fn put<M: Machine>(
        &mut self,
        key: Key,
        config: M::Config,
        listener: Option<Listener<M>>,
    ) -> Result<Handle<M>, StartError> {
        let (events, _) = broadcast::channel(self.options.events_max);
        let (slit, mail) = mailbox(self.options.mailbox_max, Arc::clone(&self.wake));
        let desk = Desk::new(events.clone(), listener, Arc::clone(&self.wake));
        let machine = self
            .host
            .add::<M, Desk<M>>(key, config, desk)
            .map_err(|error| StartError::Machine(error.to_string()))?;
        self.mailboxes.push(Box::new(Post { mail, machine, taken: Vec::new() }));
        Ok(Handle::new(slit, events))
    }

    /// Replays the journal and begins. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn run(mut self, transport: Arc<dyn Transport>) -> Result<Driver, StartError> {
        for (key, ticket, frame) in std::mem::take(&mut self.records) {
            self.host.replay(key, ticket, &frame)?;
        }
        for (key, upto) in &self.released {
            self.host.skip_released(*key, *upto);
        }
        let pace = Pace::new(self.options.snapshot_bytes_per_second);
        let (done_in, done) = mpsc::channel(4096);
        let (store, store_out) = mpsc::channel(1024);
        let mut threads = Vec::new();
        let journal = if self.options.journal_here {
            disks::here(self.wal)
        } else {
            let (batches, batches_out) = mpsc::channel(4096);
            threads.push(disks::journal(self.wal, batches_out, done_in.clone())?);
            Journal::Thread(batches)
        };
        threads.push(disks::snapshots(self.store, store_out, done_in, pace)?);
        let (stop, stopped) = watch::channel(false);
        let (probe, probes) = mpsc::channel(PROBES_MAX);
        let (halts, wake) = (self.halts, self.wake);
        let probe = Probe { probe, wake: Arc::clone(&wake), halts: halts.clone() };
        let engine = Engine {
            host: self.host,
            hands: Hands {
                transport,
                records: Vec::new(),
                releases: Vec::new(),
                ops: VecDeque::new(),
                work: Vec::new(),
                halts,
                halted: Vec::new(),
            },
            mailboxes: self.mailboxes,
            wake,
            journal,
            said: Vec::new(),
            store,
            done,
            worked: Arc::default(),
            working: 0,
            stop: stopped,
            probes,
            journal_stats: quorate_wal::Stats::default(),
            journal_bytes: 0,
            options: self.options,
            held: VecDeque::new(),
            batches_waiting: VecDeque::new(),
            asked: None,
        };
        Ok(Driver { engine: Some(tokio::spawn(engine.run())), stop, threads, probe })
    }
}

/// Halts that a slow listener may fall behind, and looks that wait, at the most.
const HALTS_MAX: usize = 64;
const PROBES_MAX: usize = 64;

/// What a node has counted since it started, machines aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverStats {
    /// By the host.
    pub host: HostStats,
    /// By the journal, as of its last sync.
    pub journal: quorate_wal::Stats,
    /// What the journal needs on disk, in bytes, spares aside, as of its last sync.
    pub journal_bytes: u64,
    /// Bulk frames that wait until the disk has caught up.
    pub frames_held: usize,
    /// Machines that have stopped themselves, and why.
    pub halted: Vec<(Key, Halt)>,
}

/// Looks at a running node. Clones look at the same.
#[derive(Clone, Debug)]
pub struct Probe {
    probe: mpsc::Sender<oneshot::Sender<DriverStats>>,
    wake: Arc<Notify>,
    halts: broadcast::Sender<(Key, Halt)>,
}

impl Probe {
    /// What was counted, between two bursts. That an answer comes shows that the node lives.
    ///
    /// # Errors
    /// [`Gone`] when the node has stopped.
    ///
    /// # Cancel safety
    /// Safe: a look changes nothing.
    pub async fn stats(&self) -> Result<DriverStats, Gone> {
        let (sender, stats) = oneshot::channel();
        self.probe.send(sender).await.map_err(|_| Gone)?;
        self.wake.notify_one();
        stats.await.map_err(|_| Gone)
    }

    /// Machines that stop themselves from now on, and why. The others run on.
    #[must_use]
    pub fn halts(&self) -> broadcast::Receiver<(Key, Halt)> {
        self.halts.subscribe()
    }
}

/// A running node. Dropping it stops the node too, without waiting for its end.
#[derive(Debug)]
pub struct Driver {
    /// None once its end was told.
    engine: Option<tokio::task::JoinHandle<Result<(), DriverError>>>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    probe: Probe,
}

impl Driver {
    /// A way to see what the node has counted, for as long as it runs.
    #[must_use]
    pub fn probe(&self) -> Probe {
        self.probe.clone()
    }

    /// Waits until the node stops by itself.
    ///
    /// # Errors
    /// [`DriverError`] says why it did; it is told once.
    ///
    /// # Cancel safety
    /// Safe: the node runs on.
    pub async fn stopped(&mut self) -> Result<(), DriverError> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let ended = engine.await;
        self.engine = None;
        ended.unwrap_or_else(|error| Err(DriverError::Engine(error.to_string())))
    }

    /// Stops: takes no more requests, lets everything appended reach the disk and everything that
    /// waited for it leave, closes connections and files.
    ///
    /// # Errors
    /// [`DriverError`] when the node had already failed and nobody was told, or fails on the way.
    pub async fn stop(mut self) -> Result<(), DriverError> {
        self.stop.send_replace(true);
        let result = self.stopped().await;
        let threads = std::mem::take(&mut self.threads);
        // The engine has dropped its ends: the threads finish what they have and end.
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().all(|thread| thread.join().is_ok())
        });
        match joined.await {
            Ok(true) => result,
            _ => Err(DriverError::Engine("a disk thread has panicked".into())),
        }
    }
}
