//! The one contract of every protocol: a pure, deterministic state machine.

use alloc::string::String;
use core::fmt;

use bytes::Bytes;
use thiserror::Error;

use crate::digest::{Digest, Rename};
use crate::ids::{Incarnation, NodeId, Peer, RequestId, Ticket};
use crate::outbox::Outbox;
use crate::time::Time;
use crate::wire::Wire;
use crate::work::Worked;

/// A protocol as a state machine: everything that happens comes in as an [`Input`], everything it
/// wants done goes out through an [`Outbox`].
///
/// Inside there is no clock, randomness, thread or I/O, so that the same code runs in a cluster,
/// in the simulator, in the explorer and under the fuzzer. The laws that every machine keeps are
/// listed in the crate's documentation and tested by `quorate-sim`.
///
/// Calling order: [`new`](Self::new), [`replay`](Self::replay) once for each surviving record in
/// order, `handle(Input::Started)`, then any inputs, with [`settle`](Self::settle) at the end of
/// each burst of them.
pub trait Machine: Sized + Clone + Send + 'static {
    /// How to set it up.
    type Config;
    /// Why it cannot start.
    type Error: core::error::Error + Send + Sync + 'static;
    /// What peers tell each other.
    type Message: Wire + Clone + fmt::Debug + Send + 'static;
    /// One durable fact; [`NoRecord`](crate::NoRecord) where nothing must survive a crash.
    type Record: Wire + Clone + fmt::Debug + Send + 'static;
    /// What the local application asks.
    type Request: fmt::Debug + Send + 'static;
    /// What it is answered.
    type Reply: Clone + fmt::Debug + Send + 'static;
    /// What it is told unasked.
    type Event: Clone + fmt::Debug + Send + 'static;

    /// A machine that remembers nothing yet.
    ///
    /// # Errors
    /// The configuration breaks a rule; the error names the field.
    fn new(start: Start, config: Self::Config) -> Result<Self, Self::Error>;

    /// Takes back one of its own surviving records.
    ///
    /// # Errors
    /// The records contradict each other: the journal is damaged beyond what its checksums see.
    fn replay(&mut self, at: Ticket, record: Self::Record) -> Result<(), Self::Error>;

    /// One input, one atomic transition, its effects appended to `out` in order.
    fn handle(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>);

    /// The end of a burst of inputs: emits what was coalesced, such as one append for a thousand
    /// proposals.
    fn settle(&mut self, _now: Time, _out: &mut Outbox<Self>) {}

    /// When [`Input::Timer`] would next do work; `None` when nothing is scheduled.
    fn deadline(&self) -> Option<Time>;

    /// Adds all that influences the future, times as their distance from `now`, node ids through
    /// `rename`: two states of one digest behave alike.
    fn digest(&self, now: Time, rename: &Rename, into: &mut Digest);
}

/// Who a machine is, and when and with what randomness it starts.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The node it runs on.
    pub node: NodeId,
    /// Greater at every start of this node.
    pub incarnation: Incarnation,
    /// All the randomness it will ever have.
    pub seed: u64,
    /// The time of the start.
    pub now: Time,
}

/// Everything that can happen to a machine.
pub enum Input<M: Machine> {
    /// All surviving records have been replayed: begin.
    Started,
    /// The deadline may have come; early and repeated timers are harmless.
    Timer,
    /// A peer said something. It may be lost, late, doubled or out of order.
    Message {
        /// Which life of which node.
        from: Peer,
        /// What it said.
        message: M::Message,
    },
    /// A hint about the connection to a peer; never needed for safety.
    Link {
        /// The peer.
        peer: NodeId,
        /// What became of the connection.
        state: LinkState,
    },
    /// Every record up to this ticket will survive a crash.
    Durable {
        /// The last durable record's ticket.
        upto: Ticket,
    },
    /// The journal is short of space: persist again whatever still matters of the records before
    /// this ticket, then release them.
    Checkpoint {
        /// The first ticket that may stay.
        before: Ticket,
    },
    /// The snapshot store did something that was asked of it.
    Stored(Stored),
    /// Work that was handed over is done; of several, in any order.
    Worked(Worked),
    /// The local application asks something.
    Request {
        /// Under which its answer goes out.
        id: RequestId,
        /// The question.
        request: M::Request,
    },
}

impl<M: Machine> fmt::Debug for Input<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => write!(f, "Started"),
            Self::Timer => write!(f, "Timer"),
            Self::Message { from, message } => {
                write!(f, "Message {{ {}.{}: {message:?} }}", from.node, from.incarnation)
            }
            Self::Link { peer, state } => write!(f, "Link {{ {peer}: {state:?} }}"),
            Self::Durable { upto } => write!(f, "Durable {{ {upto} }}"),
            Self::Checkpoint { before } => write!(f, "Checkpoint {{ {before} }}"),
            Self::Stored(stored) => write!(f, "Stored {{ {stored:?} }}"),
            Self::Worked(worked) => write!(f, "{worked:?}"),
            Self::Request { id, request } => write!(f, "Request {{ {id}: {request:?} }}"),
        }
    }
}

/// What a transport knows of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Connected, by the peer's present life.
    Up,
    /// Closed: the process on the other side has likely died.
    Down,
    /// The queue towards it is full and the newest frame was refused.
    Full,
}

/// One snapshot of one machine, named by the last log entry it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    /// The index of that entry.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// What a machine can ask of the snapshot store. Never gated: a snapshot means nothing before a
/// record names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// Write bytes of a snapshot in the making; offset 0 begins it anew.
    Write {
        /// Which snapshot.
        id: SnapshotId,
        /// Where the bytes belong: the end of what was written so far.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Make it durable under its name; answered by [`Stored::Finished`].
    Finish {
        /// Which snapshot.
        id: SnapshotId,
        /// Its whole length in bytes.
        len: u64,
        /// The CRC-32C of all its bytes.
        checksum: u32,
    },
    /// Read from a finished snapshot; answered by [`Stored::Chunk`].
    Read {
        /// Which snapshot.
        id: SnapshotId,
        /// From where.
        offset: u64,
        /// How many bytes at the most.
        len_max: u32,
        /// Comes back with the answer.
        tag: u64,
    },
    /// Remove every finished snapshot before this one.
    RemoveBefore {
        /// The first that stays.
        id: SnapshotId,
    },
}

/// What the snapshot store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is durable, whole, and its checksum is right.
    Finished {
        /// Which snapshot.
        id: SnapshotId,
    },
    /// Bytes of it.
    Chunk {
        /// Which snapshot.
        id: SnapshotId,
        /// Where the bytes belong.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
        /// The length of the whole snapshot.
        len: u64,
        /// What the read was tagged with.
        tag: u64,
    },
    /// It could not be done; the snapshot in the making is gone.
    Failed {
        /// Which snapshot.
        id: SnapshotId,
        /// Why.
        error: StoreError,
        /// The tag of a failed read; 0 for others.
        tag: u64,
    },
}

/// Why the snapshot store could not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// No such snapshot, or none in the making.
    #[error("there is no such snapshot")]
    Missing,
    /// Written out of order, or the length or checksum is wrong: the sender's fault; state dropped.
    #[error("the snapshot's bytes are not what its length and checksum say")]
    Mismatch,
    /// The disk failed or is full; the machine may go on without this snapshot.
    #[error("the disk refused")]
    Disk,
}

/// Why a machine stopped itself: going on would break a promise.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{rule}: {detail}")]
pub struct Halt {
    /// The rule that could no longer be kept.
    pub rule: &'static str,
    /// What was seen.
    pub detail: String,
}
