//! Where a machine's effects go: one ordered list, owned by the caller.
//!
//! By default an effect waits until everything that its machine persisted before it is durable.
//! So "persist before you send" is data that a host carries out, not prose that it may forget.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::ids::{NodeId, RequestRange, Ticket};
use crate::machine::{Halt, Machine, StoreOp};
use crate::work::Work;

/// One thing a machine wants done. `after` names the record that must be durable first;
/// [`Ticket::ZERO`] waits for nothing.
pub enum Effect<M: Machine> {
    /// Append a record to the journal.
    Persist {
        /// Its ticket.
        ticket: Ticket,
        /// The record.
        record: M::Record,
    },
    /// Tell a peer.
    Send {
        /// Whom.
        to: NodeId,
        /// What.
        message: M::Message,
        /// Durable first.
        after: Ticket,
    },
    /// Tell the local application, unasked.
    Emit {
        /// What.
        event: M::Event,
        /// Durable first.
        after: Ticket,
    },
    /// Answer requests of the local application.
    Answer {
        /// Which.
        ids: RequestRange,
        /// With what.
        reply: M::Reply,
        /// Durable first.
        after: Ticket,
    },
    /// The records up to `upto` are needed no more.
    Release {
        /// The last that may go.
        upto: Ticket,
        /// Durable first.
        after: Ticket,
    },
    /// Ask the snapshot store.
    Store(StoreOp),
    /// Do this elsewhere.
    Work(Work),
    /// Stop this machine for good.
    Halt(Halt),
}

impl<M: Machine> Effect<M> {
    /// The ticket it waits for; `None` for those that are never gated.
    #[must_use]
    pub fn gate(&self) -> Option<Ticket> {
        match self {
            Self::Send { after, .. }
            | Self::Emit { after, .. }
            | Self::Answer { after, .. }
            | Self::Release { after, .. } => Some(*after),
            Self::Persist { .. } | Self::Store(_) | Self::Work(_) | Self::Halt(_) => None,
        }
    }
}

impl<M: Machine> Clone for Effect<M> {
    fn clone(&self) -> Self {
        match self {
            Self::Persist { ticket, record } => {
                Self::Persist { ticket: *ticket, record: record.clone() }
            }
            Self::Send { to, message, after } => {
                Self::Send { to: *to, message: message.clone(), after: *after }
            }
            Self::Emit { event, after } => Self::Emit { event: event.clone(), after: *after },
            Self::Answer { ids, reply, after } => {
                Self::Answer { ids: *ids, reply: reply.clone(), after: *after }
            }
            Self::Release { upto, after } => Self::Release { upto: *upto, after: *after },
            Self::Store(op) => Self::Store(op.clone()),
            Self::Work(work) => Self::Work(work.clone()),
            Self::Halt(halt) => Self::Halt(halt.clone()),
        }
    }
}

impl<M: Machine> fmt::Debug for Effect<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Persist { ticket, record } => write!(f, "persist {ticket} {record:?}"),
            Self::Send { to, message, after } => write!(f, "send {to} {message:?} after {after}"),
            Self::Emit { event, after } => write!(f, "emit {event:?} after {after}"),
            Self::Answer { ids, reply, after } => {
                write!(f, "answer {}..={} {reply:?} after {after}", ids.first, ids.last)
            }
            Self::Release { upto, after } => write!(f, "release {upto} after {after}"),
            Self::Store(op) => write!(f, "store {op:?}"),
            Self::Work(_) => write!(f, "work"),
            Self::Halt(halt) => write!(f, "halt {halt}"),
        }
    }
}

/// The ordered list of effects, and the counter of tickets.
pub struct Outbox<M: Machine> {
    effects: Vec<Effect<M>>,
    last: Ticket,
    /// One of them is a halt.
    halts: bool,
}

impl<M: Machine> Default for Outbox<M> {
    fn default() -> Self {
        Self::new(Ticket::ZERO)
    }
}

impl<M: Machine> fmt::Debug for Outbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("effects", &self.effects).field("last", &self.last).finish()
    }
}

impl<M: Machine> Outbox<M> {
    /// An empty outbox; the next record gets the ticket after `last`.
    #[must_use]
    pub fn new(last: Ticket) -> Self {
        Self { effects: Vec::new(), last, halts: false }
    }

    /// The ticket of the last record persisted.
    #[must_use]
    pub fn last(&self) -> Ticket {
        self.last
    }

    /// Appends a record to the journal.
    pub fn persist(&mut self, record: M::Record) -> Ticket {
        self.last = self.last.next();
        self.effects.push(Effect::Persist { ticket: self.last, record });
        self.last
    }

    /// As [`persist`](Self::persist), with a record that is made where it is to lie.
    pub fn persist_with(&mut self, record: impl FnOnce() -> M::Record) -> Ticket {
        self.last = self.last.next();
        let ticket = self.last;
        let effect = || Effect::Persist { ticket, record: record() };
        self.effects.extend(core::iter::once_with(effect));
        ticket
    }

    /// Tells a peer, once all that was persisted before is durable.
    pub fn send(&mut self, to: NodeId, message: M::Message) {
        self.send_after(self.last, to, message);
    }

    /// Tells a peer, once the record of `after` is durable, whatever was persisted since.
    pub fn send_after(&mut self, after: Ticket, to: NodeId, message: M::Message) {
        self.effects.push(Effect::Send { to, message, after });
    }

    /// As [`send_after`](Self::send_after), with a message that is made where it is to lie.
    pub fn send_after_with(
        &mut self,
        after: Ticket,
        to: NodeId,
        message: impl FnOnce() -> M::Message,
    ) {
        let effect = || Effect::Send { to, message: message(), after };
        self.effects.extend(core::iter::once_with(effect));
    }

    /// Tells a peer at once. Each use says why nothing durable stands behind the message.
    pub fn send_eager(&mut self, to: NodeId, message: M::Message) {
        self.send_after(Ticket::ZERO, to, message);
    }

    /// Tells the local application, once all that was persisted before is durable.
    pub fn emit(&mut self, event: M::Event) {
        self.emit_after(self.last, event);
    }

    /// Tells the local application, once the record of `after` is durable.
    pub fn emit_after(&mut self, after: Ticket, event: M::Event) {
        self.effects.push(Effect::Emit { event, after });
    }

    /// As [`emit_after`](Self::emit_after), with an event that is made where it is to lie.
    pub fn emit_after_with(&mut self, after: Ticket, event: impl FnOnce() -> M::Event) {
        let effect = || Effect::Emit { event: event(), after };
        self.effects.extend(core::iter::once_with(effect));
    }

    /// Tells the local application at once. Each use says why.
    pub fn emit_eager(&mut self, event: M::Event) {
        self.emit_after(Ticket::ZERO, event);
    }

    /// Answers requests, once all that was persisted before is durable.
    pub fn answer(&mut self, ids: impl Into<RequestRange>, reply: M::Reply) {
        self.answer_after(self.last, ids, reply);
    }

    /// Answers requests, once the record of `after` is durable.
    pub fn answer_after(&mut self, after: Ticket, ids: impl Into<RequestRange>, reply: M::Reply) {
        self.effects.push(Effect::Answer { ids: ids.into(), reply, after });
    }

    /// As [`answer_after`](Self::answer_after), with a reply that is made where it is to lie.
    pub fn answer_after_with(
        &mut self,
        after: Ticket,
        ids: RequestRange,
        reply: impl FnOnce() -> M::Reply,
    ) {
        let effect = || Effect::Answer { ids, reply: reply(), after };
        self.effects.extend(core::iter::once_with(effect));
    }

    /// Answers requests at once: a refusal, say, which promises nothing.
    pub fn answer_eager(&mut self, ids: impl Into<RequestRange>, reply: M::Reply) {
        self.answer_after(Ticket::ZERO, ids, reply);
    }

    /// Lets go of the records up to `upto`, once all that was persisted before is durable.
    pub fn release(&mut self, upto: Ticket) {
        self.effects.push(Effect::Release { upto, after: self.last });
    }

    /// Asks the snapshot store.
    pub fn store(&mut self, op: StoreOp) {
        self.effects.push(Effect::Store(op));
    }

    /// Hands work over; it comes back as [`Input::Worked`](crate::Input::Worked).
    pub fn work(&mut self, work: Work) {
        self.effects.push(Effect::Work(work));
    }

    /// Stops this machine: `rule` can no longer be kept.
    pub fn halt(&mut self, rule: &'static str, detail: impl Into<String>) {
        self.push(Effect::Halt(Halt { rule, detail: detail.into() }));
    }

    pub(crate) fn halts(&self) -> bool {
        self.halts
    }

    /// Adds an effect as it is.
    pub fn push(&mut self, effect: Effect<M>) {
        self.halts |= matches!(effect, Effect::Halt(_));
        self.effects.push(effect);
    }

    /// Runs an inner machine inside an outer one. The inner outbox is lent the ticket counter, so
    /// that tickets stay one sequence; its effects come out through `wrap`, in order.
    pub fn nest<N: Machine>(
        &mut self,
        inner: &mut Outbox<N>,
        run: impl FnOnce(&mut Outbox<N>),
        mut wrap: impl FnMut(Effect<N>, &mut Self),
    ) {
        debug_assert!(inner.effects.is_empty(), "an inner outbox is drained after every use");
        inner.last = self.last;
        run(inner);
        self.last = inner.last;
        for effect in inner.effects.drain(..) {
            wrap(effect, self);
        }
    }

    /// Takes the effects out, in order, keeping the capacity.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect<M>> + '_ {
        self.effects.drain(..)
    }

    /// The effects so far: what tests look at.
    #[must_use]
    pub fn as_slice(&self) -> &[Effect<M>] {
        &self.effects
    }
}
