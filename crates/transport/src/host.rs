//! Many machines on one node, sans-io: the gates, the bursts, the ticket map, the back-pressure.
//!
//! A shell (the tokio driver, the simulator) feeds a burst of inputs, calls
//! [`settle`](Host::settle) once, writes and syncs what was appended, and says
//! [`durable`](Host::durable) when that is done. Both shells run this same code.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use thiserror::Error;

use crate::cell::Cell;
use crate::frame::Frame;
use crate::ids::{Key, NodeId, Peer, RequestId, RequestRange, Ticket};
use crate::machine::{Halt, LinkState, Machine, Start, StoreOp, Stored};
use crate::rng::Rng;
use crate::time::Time;
use crate::wire::{Class, WireError, message_key};
use crate::work::{Work, Worked};

mod slot;

use slot::{Hosted, Plain, Slot};

/// What the host asks of the world around it, in the order in which it must seem to happen.
pub trait Shell {
    /// Send a frame; it may be refused or lost.
    fn send(&mut self, to: NodeId, class: Class, frame: Frame);
    /// Append a record to the journal's present burst.
    fn append(&mut self, key: Key, ticket: Ticket, frame: Frame);
    /// The journal may drop the machine's records up to `upto`.
    fn release(&mut self, key: Key, upto: Ticket);
    /// Ask the snapshot store.
    fn store(&mut self, key: Key, op: StoreOp);
    /// Do this elsewhere, and tell [`Host::worked`] what it came to.
    fn work(&mut self, key: Key, work: Work);
    /// A machine has stopped itself.
    fn halted(&mut self, key: Key, halt: &Halt);
}

/// The local application's end of one machine.
pub trait Port<M: Machine>: Send + 'static {
    /// These requests are answered; each id comes once.
    fn answer(&mut self, ids: RequestRange, reply: M::Reply);
    /// Something happened.
    fn event(&mut self, event: M::Event);
    /// The machine has stopped: no answer follows.
    fn halted(&mut self, halt: &Halt);
}

/// Limits of a host.
#[derive(Clone, Copy, Debug)]
pub struct HostOptions {
    /// Bytes appended but not yet durable past which only timers, durability and urgent messages
    /// are fed. Larger hides a slow disk longer; smaller stalls a fast one. Default 32 MiB.
    pub unsynced_bytes_max: usize,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self { unsynced_bytes_max: 32 << 20 }
    }
}

/// A burst of appended records that become durable together, numbered from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BurstId(pub u64);

/// A machine of a host, with its types.
pub struct MachineRef<M, P> {
    slot: usize,
    types: PhantomData<fn(M, P)>,
}

impl<M, P> Clone for MachineRef<M, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M, P> Copy for MachineRef<M, P> {}

impl<M, P> fmt::Debug for MachineRef<M, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MachineRef({})", self.slot)
    }
}

/// One machine of a [`Host`], with its types.
pub struct MachineMut<'a, M: Machine, P> {
    slot: &'a mut Slot<M, P>,
}

impl<M: Machine, P: Port<M>> fmt::Debug for MachineMut<'_, M, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineMut").field("cell", self.slot.cell()).finish()
    }
}

impl<M: Machine, P: Port<M>> MachineMut<'_, M, P> {
    /// As [`Host::request`].
    pub fn request(&mut self, now: Time, request: M::Request, shell: &mut dyn Shell) -> RequestId {
        self.slot.request(now, request, shell)
    }

    /// The machine with its gate.
    #[must_use]
    pub fn cell(&self) -> &Cell<M> {
        self.slot.cell()
    }

    /// The local application's end of the machine.
    pub fn port(&mut self) -> &mut P {
        self.slot.port()
    }
}

/// Why a host cannot be set up or recovered.
#[derive(Debug, Error)]
pub enum HostError<E: core::error::Error + Send + Sync + 'static> {
    /// The machine refused its configuration.
    #[error("machine {key}: {source}")]
    Config {
        /// Which machine.
        key: Key,
        /// Its own words.
        source: E,
    },
    /// Two machines of one key: the caller's fault.
    #[error("there are two machines {0}")]
    Taken(Key),
}

/// Why a journal cannot be replayed: the disk's fault, or that of an older or newer build.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The journal holds records of a machine that was not added.
    #[error("the journal holds records of {0}, which this node does not run")]
    Stranger(Key),
    /// A record cannot be read.
    #[error("record {ticket} of {key}: {source}")]
    Record {
        /// Whose.
        key: Key,
        /// Which.
        ticket: Ticket,
        /// What is wrong with it.
        source: WireError,
    },
    /// A record contradicts earlier ones.
    #[error("record {ticket} of {key}: {source}")]
    Refused {
        /// Whose.
        key: Key,
        /// Which.
        ticket: Ticket,
        /// The machine's own words.
        source: Box<dyn core::error::Error + Send + Sync>,
    },
    /// The tickets of one machine do not increase.
    #[error("record {ticket} of {key} follows {last}")]
    Order {
        /// Whose.
        key: Key,
        /// Which.
        ticket: Ticket,
        /// The one before it.
        last: Ticket,
    },
}

/// What a host has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostStats {
    /// Message frames taken in.
    pub frames: u64,
    /// Frames for a machine that is not here.
    pub strangers: u64,
    /// Frames that are no message.
    pub malformed: u64,
    /// Records appended.
    pub records: u64,
    /// Bytes of them.
    pub record_bytes: u64,
    /// Bursts that held a record.
    pub bursts: u64,
}

#[derive(Debug)]
struct Burst {
    id: BurstId,
    bytes: usize,
    /// The last ticket of each slot that appended.
    tickets: Vec<(usize, Ticket)>,
}

/// The machines of one node.
pub struct Host {
    start: Start,
    options: HostOptions,
    slots: Vec<Box<dyn Hosted>>,
    keys: BTreeMap<Key, usize>,
    touched: Vec<usize>,
    unsynced: VecDeque<Burst>,
    unsynced_bytes: usize,
    last_burst: BurstId,
    spare: Vec<Vec<(usize, Ticket)>>,
    stats: HostStats,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("start", &self.start)
            .field("machines", &self.keys.len())
            .field("unsynced_bytes", &self.unsynced_bytes)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// A host without machines.
    #[must_use]
    pub fn new(start: Start, options: HostOptions) -> Self {
        Self {
            start,
            options,
            slots: Vec::new(),
            keys: BTreeMap::new(),
            touched: Vec::new(),
            unsynced: VecDeque::new(),
            unsynced_bytes: 0,
            last_burst: BurstId(0),
            spare: Vec::new(),
            stats: HostStats::default(),
        }
    }

    /// Adds a machine, before the journal is replayed.
    ///
    /// # Errors
    /// The key is taken, or the machine refuses its configuration.
    pub fn add<M: Machine, P: Port<M>>(
        &mut self,
        key: Key,
        config: M::Config,
        port: P,
    ) -> Result<MachineRef<M, P>, HostError<M::Error>> {
        let slot = self.slots.len();
        if self.keys.contains_key(&key) {
            return Err(HostError::Taken(key));
        }
        let stream = key.group.0.rotate_left(16) ^ u64::from(key.protocol.0);
        let seed = Rng::new(self.start.seed).fork(stream).next_u64();
        let start = Start { seed, ..self.start };
        let machine = M::new(start, config).map_err(|source| HostError::Config { key, source })?;
        self.slots.push(Box::new(Slot::new(key, Cell::new(machine), port)));
        self.keys.insert(key, slot);
        Ok(MachineRef { slot, types: PhantomData })
    }

    /// Gives a machine back one of its surviving records.
    ///
    /// # Errors
    /// [`ReplayError`]: the journal is not what this node wrote. The node must not start.
    pub fn replay(&mut self, key: Key, ticket: Ticket, frame: &Frame) -> Result<(), ReplayError> {
        let slot = *self.keys.get(&key).ok_or(ReplayError::Stranger(key))?;
        self.slots[slot].replay(ticket, frame)
    }

    /// Tickets of `key` up to `upto` were released in a former life and are used up.
    pub fn skip_released(&mut self, key: Key, upto: Ticket) {
        if let Some(slot) = self.keys.get(&key) {
            self.slots[*slot].skip_to(upto);
        }
    }

    /// All records have been replayed: the machines begin.
    pub fn start(&mut self, now: Time, shell: &mut dyn Shell) {
        self.each(now, shell, || Plain::Started);
    }

    /// A frame arrived. Malformed ones and those for nobody are counted.
    pub fn message(&mut self, now: Time, from: Peer, frame: &Frame, shell: &mut dyn Shell) {
        self.stats.frames += 1;
        let Ok(key) = message_key(frame) else {
            self.stats.malformed += 1;
            return;
        };
        let Some(&slot) = self.keys.get(&key) else {
            self.stats.strangers += 1;
            return;
        };
        match self.slots[slot].message(now, from, frame, shell) {
            Ok(()) => self.after(slot),
            Err(_) => self.stats.malformed += 1,
        }
    }

    /// A connection changed.
    pub fn link(&mut self, now: Time, peer: NodeId, state: LinkState, shell: &mut dyn Shell) {
        self.each(now, shell, || Plain::Link { peer, state });
    }

    /// Fires every timer that is due.
    pub fn timer(&mut self, now: Time, shell: &mut dyn Shell) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].deadline().is_some_and(|at| at <= now) {
                self.slots[slot].plain(now, Plain::Timer, shell);
                self.after(slot);
            }
        }
    }

    /// Every burst up to `upto` is durable.
    pub fn durable(&mut self, now: Time, upto: BurstId, shell: &mut dyn Shell) {
        while let Some(burst) = self.unsynced.pop_front_if(|burst| burst.id <= upto) {
            self.unsynced_bytes -= burst.bytes;
            let mut tickets = burst.tickets;
            for (slot, ticket) in tickets.drain(..) {
                self.slots[slot].plain(now, Plain::Durable { upto: ticket }, shell);
                self.after(slot);
            }
            self.spare.push(tickets);
        }
    }

    /// The journal is over its size: `key` owns its oldest record and must do without what lies
    /// before the ticket.
    pub fn checkpoint(&mut self, now: Time, key: Key, before: Ticket, shell: &mut dyn Shell) {
        if let Some(&slot) = self.keys.get(&key) {
            self.slots[slot].plain(now, Plain::Checkpoint { before }, shell);
            self.after(slot);
        }
    }

    /// The snapshot store answers.
    pub fn stored(&mut self, now: Time, key: Key, stored: Stored, shell: &mut dyn Shell) {
        if let Some(&slot) = self.keys.get(&key) {
            self.slots[slot].plain(now, Plain::Stored(stored), shell);
            self.after(slot);
        }
    }

    /// Work that a machine has handed over is done.
    pub fn worked(&mut self, now: Time, key: Key, worked: Worked, shell: &mut dyn Shell) {
        if let Some(&slot) = self.keys.get(&key) {
            self.slots[slot].plain(now, Plain::Worked(worked), shell);
            self.after(slot);
        }
    }

    /// The local application asks; the answer goes to the machine's port.
    pub fn request<M: Machine, P: Port<M>>(
        &mut self,
        now: Time,
        to: MachineRef<M, P>,
        request: M::Request,
        shell: &mut dyn Shell,
    ) -> RequestId {
        let id = self.slot_mut(to).request(now, request, shell);
        self.after(to.slot);
        id
    }

    /// The machine and its port, for a shell that has several requests for it in this burst.
    pub fn at<M: Machine, P: Port<M>>(&mut self, of: MachineRef<M, P>) -> MachineMut<'_, M, P> {
        self.after(of.slot);
        MachineMut { slot: self.slot_mut(of) }
    }

    /// In the middle of a burst: what the machines have asked for so far is carried out already, in
    /// order. For a shell that has more inputs to feed, and others that wait for the answers.
    pub fn flush(&mut self, shell: &mut dyn Shell) {
        self.touched.sort_unstable();
        self.touched.dedup();
        for slot in &self.touched {
            self.slots[*slot].flush(shell);
        }
    }

    /// Ends a burst of inputs. What was appended since the last call is one burst of the journal,
    /// to be written and synced; `None` where nothing was.
    pub fn settle(&mut self, now: Time, shell: &mut dyn Shell) -> Option<BurstId> {
        let mut tickets = self.spare.pop().unwrap_or_default();
        let mut bytes = 0;
        self.touched.sort_unstable();
        self.touched.dedup();
        for slot in self.touched.drain(..) {
            let hosted = &mut self.slots[slot];
            hosted.settle(now, shell);
            let appended = hosted.take_appended();
            if let Some(last) = appended.last {
                tickets.push((slot, last));
                bytes += appended.bytes;
                self.stats.records += appended.records;
            }
        }
        if tickets.is_empty() {
            self.spare.push(tickets);
            return None;
        }
        self.last_burst.0 += 1;
        self.stats.bursts += 1;
        self.stats.record_bytes += bytes as u64;
        self.unsynced_bytes += bytes;
        self.unsynced.push_back(Burst { id: self.last_burst, bytes, tickets });
        Some(self.last_burst)
    }

    /// When the next timer is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.slots.iter().filter_map(|slot| slot.deadline()).min()
    }

    /// False while too much waits for the disk: feed only timers, durability and urgent messages.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.unsynced_bytes < self.options.unsynced_bytes_max
    }

    /// True while something appended is not yet durable.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// The machine, for its status and for checkers.
    #[must_use]
    pub fn machine<M: Machine, P: Port<M>>(&self, of: MachineRef<M, P>) -> &M {
        self.slot(of).cell().machine()
    }

    /// The machine with its gate.
    #[must_use]
    pub fn cell<M: Machine, P: Port<M>>(&self, of: MachineRef<M, P>) -> &Cell<M> {
        self.slot(of).cell()
    }

    /// The local application's end of the machine.
    pub fn port<M: Machine, P: Port<M>>(&mut self, of: MachineRef<M, P>) -> &mut P {
        self.slot_mut(of).port()
    }

    /// What this host has seen.
    #[must_use]
    pub fn stats(&self) -> HostStats {
        self.stats
    }

    fn each(&mut self, now: Time, shell: &mut dyn Shell, input: impl Fn() -> Plain) {
        for slot in 0..self.slots.len() {
            self.slots[slot].plain(now, input(), shell);
            self.after(slot);
        }
    }

    fn after(&mut self, slot: usize) {
        if self.touched.last() != Some(&slot) {
            self.touched.push(slot);
        }
    }

    fn slot<M: Machine, P: Port<M>>(&self, of: MachineRef<M, P>) -> &Slot<M, P> {
        let any = self.slots[of.slot].as_any();
        any.downcast_ref().expect("a reference is made with its slot's types")
    }

    fn slot_mut<M: Machine, P: Port<M>>(&mut self, of: MachineRef<M, P>) -> &mut Slot<M, P> {
        let any = self.slots[of.slot].as_any_mut();
        any.downcast_mut().expect("a reference is made with its slot's types")
    }
}
