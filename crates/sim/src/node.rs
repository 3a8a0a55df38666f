//! One simulated node: a real `Host` over a real `Wal` on a simulated disk.

use quorate_transport::{
    BurstId, Class, Frame, Halt, Host, HostOptions, Incarnation, Key, NodeId, Peer, Shell, Start,
    StoreOp, Stored, Ticket, Time, Work,
};
use quorate_wal::{OpenError, Options, SimDisk, SnapshotStore, Wal};

use crate::clock::Clock;
use crate::limits::is_small;
use crate::world::Memory;

/// What one life of a node holds; gone when it dies.
pub(crate) struct Life<A> {
    pub(crate) host: Host,
    pub(crate) hands: Hands,
    pub(crate) app: A,
    /// The last burst written, and the one being synced.
    pub(crate) written: Option<BurstId>,
    pub(crate) syncing: Option<BurstId>,
    /// When the next timer event is due, in true time.
    pub(crate) timer_at: Option<u64>,
    /// An end of the present burst is scheduled.
    pub(crate) settle_due: bool,
    /// Its snapshot store was made to fail: a machine may stop itself for that.
    pub(crate) store_failed: bool,
}

/// A node through all its lives.
pub(crate) struct Node<A> {
    pub(crate) id: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) disk: SimDisk,
    pub(crate) snapshots: SimDisk,
    pub(crate) clock: Clock,
    pub(crate) life: Option<Life<A>>,
    pub(crate) paused_until: u64,
    /// Until when each of its steps takes so long.
    pub(crate) slow: (u64, u64),
    /// Until when each of its syncs takes so many times as long.
    pub(crate) slow_disk: (u64, u64),
    /// How many more of its lives end soon after they began.
    pub(crate) crash_loop: u64,
    /// It does not come back before the calm.
    pub(crate) gone: bool,
    /// It has lost its disk, and may stop itself.
    pub(crate) wiped: bool,
    /// It has done so, and does not come back at all.
    pub(crate) lost: bool,
    /// The next sync takes at least this much longer.
    pub(crate) stall: u64,
    /// It loses power between its next write and the sync.
    /// So many lives in a row have ended with the node stopping itself.
    pub(crate) halts: u64,
    pub(crate) power_at_write: bool,
    /// What was sent to it, where frames come again.
    pub(crate) memory: Memory,
}

impl<A> Node<A> {
    pub(crate) fn peer(&self) -> Peer {
        Peer { node: self.id, incarnation: Incarnation(self.incarnation) }
    }
}

/// The host's world: what it sends is collected, what it appends goes to the journal at once.
pub(crate) struct Hands {
    pub(crate) wal: Wal<SimDisk>,
    pub(crate) store: SnapshotStore<SimDisk>,
    pub(crate) sent: Vec<(NodeId, Class, Frame)>,
    pub(crate) stored: Vec<(Key, Stored)>,
    pub(crate) work: Vec<(Key, Work)>,
    /// The process dies after this many more effects.
    pub(crate) effects_left: Option<u64>,
    /// Why the process is dead, once it is.
    pub(crate) dead: Option<String>,
    /// A machine has stopped itself.
    pub(crate) halted: Option<String>,
}

impl Hands {
    /// Counts one effect; true once the process is dead.
    fn dies(&mut self) -> bool {
        if self.dead.is_none() {
            match &mut self.effects_left {
                Some(0) => self.dead = Some("crash between two effects".into()),
                Some(left) => *left -= 1,
                None => {}
            }
        }
        self.dead.is_some()
    }
}

impl Shell for Hands {
    fn send(&mut self, to: NodeId, class: Class, frame: Frame) {
        if !self.dies() {
            self.sent.push((to, class, frame));
        }
    }

    fn append(&mut self, key: Key, ticket: Ticket, frame: Frame) {
        if !self.dies()
            && let Err(error) = self.wal.append(key, ticket, &frame)
        {
            self.dead = Some(format!("journal: {error}"));
        }
    }

    fn release(&mut self, key: Key, upto: Ticket) {
        if !self.dies() {
            self.wal.release(key, upto);
        }
    }

    fn store(&mut self, key: Key, op: StoreOp) {
        if self.dies() {
            return;
        }
        self.stored.extend(self.store.apply(key, op).map(|stored| (key, stored)));
        if let Some(failure) = self.store.failure() {
            self.dead.get_or_insert_with(|| format!("snapshots: {failure}"));
        }
    }

    fn work(&mut self, key: Key, work: Work) {
        if !self.dies() {
            self.work.push((key, work));
        }
    }

    fn halted(&mut self, key: Key, halt: &Halt) {
        self.halted = Some(format!("{key}: {halt}"));
    }
}

/// A journal small enough that segments are recycled within a run, also within a small one.
pub(crate) fn options() -> Options {
    let segment_bytes = if is_small() { 8 << 10 } else { 64 << 10 };
    Options { segment_bytes, ..Options::default() }
}

/// The journal passes this size: its oldest owner must do without the oldest records.
pub(crate) const JOURNAL_BYTES_MAX: u64 = 512 << 10;

/// Opens the disks and brings the machines back, up to but without `Host::start`.
pub(crate) fn boot<A>(
    start: Start,
    disk: &SimDisk,
    snapshots: &SimDisk,
    add: impl FnOnce(&mut Host) -> A,
) -> Result<Life<A>, String> {
    let open = |error: OpenError| format!("journal: {error}");
    let (wal, recovery) = Wal::open(disk.clone(), options()).map_err(open)?;
    let store =
        SnapshotStore::open(snapshots.clone()).map_err(|error| format!("snapshots: {error}"))?;
    let mut host = Host::new(start, HostOptions { unsynced_bytes_max: 1 << 20 });
    let app = add(&mut host);
    for (key, ticket, frame) in &recovery.records {
        host.replay(*key, *ticket, frame).map_err(|error| error.to_string())?;
    }
    for (key, upto) in &recovery.released {
        host.skip_released(*key, *upto);
    }
    let hands = Hands {
        wal,
        store,
        sent: Vec::new(),
        stored: Vec::new(),
        work: Vec::new(),
        effects_left: None,
        dead: None,
        halted: None,
    };
    Ok(Life {
        host,
        hands,
        app,
        written: None,
        syncing: None,
        timer_at: None,
        settle_due: false,
        store_failed: false,
    })
}

impl<A> Life<A> {
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.host.deadline()
    }
}
