//! One machine with its gate: what [`Host`](crate::Host) keeps of each, and what a user who
//! drives a single machine by hand needs.

use alloc::collections::VecDeque;
use core::fmt;

use crate::ids::{NodeId, RequestId, RequestRange, Ticket};
use crate::machine::{Halt, Input, Machine, StoreOp};
use crate::outbox::{Effect, Outbox};
use crate::time::Time;
use crate::work::Work;

/// Where effects go once their gate is open.
pub trait Sink<M: Machine> {
    /// Append this record to the journal, after all earlier ones.
    fn persist(&mut self, ticket: Ticket, record: M::Record);
    /// Tell a peer.
    fn send(&mut self, to: NodeId, message: M::Message);
    /// Tell the local application.
    fn emit(&mut self, event: M::Event);
    /// Answer requests.
    fn answer(&mut self, ids: RequestRange, reply: M::Reply);
    /// The journal may drop this machine's records up to `upto`.
    fn release(&mut self, upto: Ticket);
    /// Ask the snapshot store.
    fn store(&mut self, op: StoreOp);
    /// Do this elsewhere, and tell the machine what it came to. The default is for machines that
    /// hand no work over.
    ///
    /// # Panics
    /// The default: the machine does hand work over.
    fn work(&mut self, work: Work) {
        panic!("nobody is there to do the {work:?} of this machine");
    }
    /// The machine has stopped; nothing of it follows.
    fn halt(&mut self, halt: &Halt);
}

/// A machine, its outbox, and the effects that wait for the journal.
#[derive(Clone)]
pub struct Cell<M: Machine> {
    machine: M,
    outbox: Outbox<M>,
    /// Sorted by ticket; of one ticket, in order of emission.
    gated: VecDeque<(Ticket, Effect<M>)>,
    durable: Ticket,
    requests: u64,
    halted: Option<Halt>,
}

impl<M: Machine> Clone for Outbox<M> {
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.last());
        self.as_slice().iter().for_each(|effect| copy.push(effect.clone()));
        copy
    }
}

impl<M: Machine> fmt::Debug for Cell<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell")
            .field("durable", &self.durable)
            .field("last", &self.outbox.last())
            .field("gated", &self.gated)
            .field("halted", &self.halted)
            .finish_non_exhaustive()
    }
}

impl<M: Machine> Cell<M> {
    /// A cell of a machine that has replayed nothing yet.
    pub fn new(machine: M) -> Self {
        Self {
            machine,
            outbox: Outbox::default(),
            gated: VecDeque::new(),
            durable: Ticket::ZERO,
            requests: 0,
            halted: None,
        }
    }

    /// Gives the machine back one of its surviving records.
    ///
    /// # Errors
    /// The machine's own: the records contradict each other.
    pub fn replay(&mut self, at: Ticket, record: M::Record) -> Result<(), M::Error> {
        self.machine.replay(at, record)?;
        self.skip_to(at);
        Ok(())
    }

    /// Tickets up to `at` are used up, their records durable or released.
    pub fn skip_to(&mut self, at: Ticket) {
        let at = at.max(self.outbox.last());
        self.outbox = Outbox::new(at);
        self.durable = at;
    }

    /// One input; effects that wait for nothing go to `sink`, in order. Does nothing once halted.
    pub fn handle(&mut self, now: Time, input: Input<M>, sink: &mut impl Sink<M>) {
        self.feed(now, input, sink);
        self.flush(sink);
    }

    /// One input of a burst; its effects wait in the outbox for [`settle`](Self::settle), which
    /// ends it. Fewer walks than [`handle`](Self::handle), and what was just written has come to
    /// rest before it is moved: that is much faster.
    pub fn feed(&mut self, now: Time, input: Input<M>, sink: &mut impl Sink<M>) {
        if self.halted.is_none() {
            self.machine.handle(now, input, &mut self.outbox);
            if self.outbox.halts() {
                self.come_to_rest(sink);
            }
        }
    }

    /// A request of the local application, as [`feed`](Self::feed) takes an input; its id comes
    /// back with the one answer.
    pub fn feed_request(
        &mut self,
        now: Time,
        request: M::Request,
        sink: &mut impl Sink<M>,
    ) -> RequestId {
        let id = RequestId(self.requests);
        self.requests += 1;
        self.feed(now, Input::Request { id, request }, sink);
        id
    }

    /// A request of the local application; its id comes back with the one answer.
    pub fn request(
        &mut self,
        now: Time,
        request: M::Request,
        sink: &mut impl Sink<M>,
    ) -> RequestId {
        let id = self.feed_request(now, request, sink);
        self.flush(sink);
        id
    }

    /// The end of a burst of inputs.
    pub fn settle(&mut self, now: Time, sink: &mut impl Sink<M>) {
        if self.halted.is_none() {
            self.machine.settle(now, &mut self.outbox);
            self.flush(sink);
        }
    }

    /// The journal is durable up to `upto`: opens gates, then tells the machine.
    pub fn durable(&mut self, now: Time, upto: Ticket, sink: &mut impl Sink<M>) {
        self.feed_durable(now, upto, sink);
        self.flush(sink);
    }

    /// As [`durable`](Self::durable), as an input of a burst: what waited for these records leaves
    /// at once, what the machine adds waits for [`settle`](Self::settle).
    pub fn feed_durable(&mut self, now: Time, upto: Ticket, sink: &mut impl Sink<M>) {
        if upto <= self.durable {
            return;
        }
        debug_assert!(upto <= self.outbox.last(), "only what was persisted can be durable");
        self.durable = upto;
        while let Some((_, effect)) = self.gated.pop_front_if(|(after, _)| *after <= upto) {
            deliver(effect, sink);
        }
        self.feed(now, Input::Durable { upto }, sink);
    }

    /// The machine, for its status and for checkers.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The last ticket that is durable.
    pub fn durable_upto(&self) -> Ticket {
        self.durable
    }

    /// The last ticket that was issued.
    pub fn last(&self) -> Ticket {
        self.outbox.last()
    }

    /// No effect waits for [`settle`](Self::settle).
    pub fn is_settled(&self) -> bool {
        self.outbox.as_slice().is_empty()
    }

    /// How many effects wait for the journal.
    pub fn gated_len(&self) -> usize {
        self.gated.len()
    }

    /// The effects that wait for the journal, in the order in which they will leave.
    pub fn gated(&self) -> impl Iterator<Item = &Effect<M>> {
        self.gated.iter().map(|(_, effect)| effect)
    }

    /// When the machine wants a timer; never once halted.
    pub fn deadline(&self) -> Option<Time> {
        if self.halted.is_some() { None } else { self.machine.deadline() }
    }

    /// Why the machine stopped, if it did.
    pub fn halted(&self) -> Option<&Halt> {
        self.halted.as_ref()
    }

    /// In the middle of a burst: what was asked for so far goes to `sink` already, in order.
    #[inline]
    pub fn flush(&mut self, sink: &mut impl Sink<M>) {
        if !self.outbox.as_slice().is_empty() {
            self.carry_out(sink);
        }
    }

    /// The machine has stopped itself: nothing may be fed to it any more.
    #[cold]
    #[inline(never)]
    fn come_to_rest(&mut self, sink: &mut impl Sink<M>) {
        self.carry_out(sink);
    }

    #[inline(always)]
    fn carry_out(&mut self, sink: &mut impl Sink<M>) {
        let durable = self.durable;
        for effect in self.outbox.drain() {
            // Spelled out, so that what is not gated moves once, from the outbox to the sink.
            match effect {
                Effect::Persist { ticket, record } => persist(sink, ticket, record),
                Effect::Send { to, message, after } if after <= durable => sink.send(to, message),
                Effect::Emit { event, after } if after <= durable => sink.emit(event),
                Effect::Answer { ids, reply, after } if after <= durable => sink.answer(ids, reply),
                Effect::Release { upto, after } if after <= durable => sink.release(upto),
                Effect::Store(op) => sink.store(op),
                Effect::Work(work) => sink.work(work),
                Effect::Halt(halt) => {
                    sink.halt(&halt);
                    self.halted = Some(halt);
                    break;
                }
                gated => gate(&mut self.gated, gated),
            }
        }
        if self.halted.is_some() {
            self.gated.clear();
        }
    }
}

/// Apart: what a sink does to be rid of a record, in line, would have every effect copied twice.
#[inline(never)]
fn persist<M: Machine>(sink: &mut impl Sink<M>, ticket: Ticket, record: M::Record) {
    sink.persist(ticket, record);
}

/// Keeps the queue sorted; nearly always the effect belongs at the end.
fn gate<M: Machine>(queue: &mut VecDeque<(Ticket, Effect<M>)>, effect: Effect<M>) {
    let after = effect.gate().unwrap_or(Ticket::ZERO);
    if queue.back().is_none_or(|(last, _)| *last <= after) {
        queue.push_back((after, effect));
    } else {
        let at = queue.partition_point(|(ticket, _)| *ticket <= after);
        queue.insert(at, (after, effect));
    }
}

/// Carries out an effect whose gate has opened.
fn deliver<M: Machine>(effect: Effect<M>, sink: &mut impl Sink<M>) {
    match effect {
        Effect::Send { to, message, .. } => sink.send(to, message),
        Effect::Emit { event, .. } => sink.emit(event),
        Effect::Answer { ids, reply, .. } => sink.answer(ids, reply),
        Effect::Release { upto, .. } => sink.release(upto),
        Effect::Persist { .. } | Effect::Store(_) | Effect::Work(_) | Effect::Halt(_) => {
            debug_assert!(false, "these are never gated");
        }
    }
}
