//! The machine: who may enter, decided by the stamps of the requests. [Ricart and Agrawala 1981]

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use quorate_transport::{
    Digest, Incarnation, Input, LinkState, Machine, NodeId, Outbox, Peer, Rename, RequestId, Start,
    Ticket, Time,
};

use crate::config::{Config, Error};
use crate::join::Joining;
use crate::lock::{Lock, Phase, Waiter, Wanted};
use crate::message::Message;
use crate::name::Name;
use crate::record::Record;
use crate::request::{Event, Fence, Rejection, Reply, Request};
use crate::stats::{Stats, Status};

/// No honest group gets here: later stamps are refused before they can end the clock.
pub(crate) const STAMP_MAX: u64 = 1 << 62;

/// One node of one group that takes turns.
#[derive(Clone, Debug)]
pub struct RicartAgrawala {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) config: Config,
    /// At least every stamp this node has asked with or heard of.
    pub(crate) clock: u64,
    /// Stamps up to here may be used once the record of the ticket is durable.
    pub(crate) reserved: (u64, Ticket),
    pub(crate) joining: Option<Joining>,
    /// What this node holds or wants.
    pub(crate) locks: BTreeMap<Name, Lock>,
    /// Where a request of the local application is: held or waiting.
    places: BTreeMap<RequestId, Name>,
    pub(crate) lives: BTreeMap<NodeId, Life>,
    /// When something is due; never too late, at times too early.
    pub(crate) due: Option<Time>,
    /// Who was reported as silent.
    pub(crate) silent: Vec<NodeId>,
    pub(crate) stats: Stats,
}

/// A peer, as far as it has been heard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) incarnation: Incarnation,
    pub(crate) heard: Time,
}

type Out<'a> = &'a mut Outbox<RicartAgrawala>;

impl Machine for RicartAgrawala {
    type Config = Config;
    type Error = Error;
    type Message = Message;
    type Record = Record;
    type Request = Request;
    type Reply = Reply;
    type Event = Event;

    fn new(start: Start, config: Config) -> Result<Self, Error> {
        config.validate(start.node)?;
        Ok(Self {
            node: start.node,
            incarnation: start.incarnation,
            config,
            clock: 0,
            reserved: (0, Ticket::ZERO),
            joining: None,
            locks: BTreeMap::new(),
            places: BTreeMap::new(),
            lives: BTreeMap::new(),
            due: None,
            silent: Vec::new(),
            stats: Stats::default(),
        })
    }

    fn replay(&mut self, at: Ticket, record: Record) -> Result<(), Error> {
        let Record::Reserved { upto } = record;
        if upto < self.reserved.0 {
            return Err(Error::Journal { at, rule: "stamps are reserved in rising order" });
        }
        self.reserved = (upto, at);
        self.clock = upto;
        Ok(())
    }

    fn handle(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Started => self.begin_joining(now, out),
            Input::Timer => self.on_timer(now, out),
            Input::Message { from, message } => self.on_message(now, from, message, out),
            Input::Link { peer, state: LinkState::Up } => self.ask_again(peer, out),
            Input::Checkpoint { before } => self.on_checkpoint(before, out),
            Input::Request { id, request } => self.on_request(now, id, request, out),
            Input::Link { .. } | Input::Durable { .. } | Input::Stored(_) | Input::Worked(_) => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.due
    }

    fn digest(&self, now: Time, rename: &Rename, into: &mut Digest) {
        self.write_digest(now, rename, into);
    }
}

impl RicartAgrawala {
    /// Where this node stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let held = self.locks.values().filter(|lock| matches!(lock.phase, Phase::Held { .. }));
        let held = held.count();
        let wanted = self.locks.len() - held;
        let (joined, clock) = (self.joining.is_none(), self.clock);
        Status { joined, clock, held, wanted, stats: self.stats }
    }

    /// What this node holds, with the fences.
    pub fn held(&self) -> impl Iterator<Item = (&Name, Fence)> {
        self.locks.iter().filter_map(|(name, lock)| match lock.phase {
            Phase::Held { stamp, .. } => Some((name, Fence { stamp, node: self.node })),
            _ => None,
        })
    }

    /// The stamp of this node's request for a resource, while it waits for permissions.
    #[must_use]
    pub fn wants(&self, name: &Name) -> Option<u64> {
        match &self.locks.get(name)?.phase {
            Phase::Wanted(wanted) => Some(wanted.stamp),
            _ => None,
        }
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.config.nodes.iter().copied().filter(|node| *node != self.node)
    }

    fn on_request(&mut self, now: Time, id: RequestId, request: Request, out: Out<'_>) {
        match request {
            Request::Acquire { name, patience } => self.acquire(now, id, name, patience, out),
            Request::Release { acquired } => self.release(now, id, acquired, out),
            Request::Cancel { waiting } => self.cancel(now, id, waiting, out),
        }
    }

    fn acquire(
        &mut self,
        now: Time,
        id: RequestId,
        name: Name,
        patience: Option<Duration>,
        out: Out<'_>,
    ) {
        let full = self.locks.len() >= self.config.resources_max && !self.locks.contains_key(&name);
        let queue = self.locks.get(&name).map_or(0, |lock| lock.waiters.len());
        if full || queue >= self.config.waiters_max {
            self.stats.busy += 1;
            return out.answer_eager(id, Reply::Rejected(Rejection::Busy)); // nothing was done
        }
        let expires = patience.map(|patience| now + patience);
        let is_new = !self.locks.contains_key(&name);
        let lock = self.locks.entry(name.clone()).or_insert_with(Lock::joining);
        lock.waiters.push_back(Waiter { id, expires });
        self.places.insert(id, name.clone());
        self.wake(expires);
        if is_new && self.joining.is_none() {
            self.next_turn(now, &name, out);
        }
    }

    /// The first of this node's waiters asks all peers; where none waits, the resource is
    /// forgotten. What was deferred has been answered before.
    pub(crate) fn next_turn(&mut self, now: Time, name: &Name, out: Out<'_>) {
        let Some(waiter) = self.locks.get_mut(name).and_then(|lock| lock.waiters.pop_front())
        else {
            self.locks.remove(name);
            return;
        };
        let Waiter { id, expires } = waiter;
        let Some(gate) = self.draw_stamp(out) else {
            self.places.remove(&id);
            out.answer_eager(id, Reply::Rejected(Rejection::ClockExhausted)); // nothing was done
            return self.next_turn(now, name, out);
        };
        let stamp = self.clock;
        let retry_at = now + self.config.retry_interval;
        let missing: BTreeSet<_> = self.peers().collect();
        for peer in &missing {
            let request = Message::Request { name: name.clone(), stamp, again: false };
            // The stamp must be reserved before anyone hears of it; the gate is that record's.
            out.send_after(gate, *peer, request);
            self.stats.requests_sent += 1;
        }
        let wanted = Wanted { id, stamp, missing, since: now, retry_at, tries: 0, expires };
        if let Some(lock) = self.locks.get_mut(name) {
            lock.phase = Phase::Wanted(wanted);
        }
        self.wake(Some(retry_at));
        self.wake(expires);
        self.maybe_enter(name, out);
    }

    /// Advances the clock to a fresh stamp; gives back the record that reserves it.
    fn draw_stamp(&mut self, out: Out<'_>) -> Option<Ticket> {
        if self.clock >= STAMP_MAX {
            return None;
        }
        self.clock += 1;
        if self.clock > self.reserved.0 {
            let upto = self.clock + self.config.reserve;
            self.reserved = (upto, out.persist(Record::Reserved { upto }));
            let before = self.reserved.1;
            if before > Ticket(1) {
                out.release(Ticket(before.0 - 1));
            }
        }
        Some(self.reserved.1)
    }

    fn maybe_enter(&mut self, name: &Name, out: Out<'_>) {
        let gate = self.reserved.1;
        let Some(lock) = self.locks.get_mut(name) else { return };
        let Phase::Wanted(wanted) = &lock.phase else { return };
        if wanted.missing.is_empty() {
            let (id, stamp) = (wanted.id, wanted.stamp);
            lock.phase = Phase::Held { id, stamp };
            self.stats.granted += 1;
            let fence = Fence { stamp, node: self.node };
            out.answer_after(gate, id, Reply::Held { fence });
        }
    }

    fn release(&mut self, now: Time, id: RequestId, acquired: RequestId, out: Out<'_>) {
        let name = self.places.get(&acquired).filter(|name| {
            let phase = self.locks.get(*name).map(|lock| &lock.phase);
            matches!(phase, Some(Phase::Held { id, .. }) if *id == acquired)
        });
        let Some(name) = name.cloned() else {
            return out.answer_eager(id, Reply::Rejected(Rejection::NotHeld)); // nothing was done
        };
        self.places.remove(&acquired);
        out.answer_eager(id, Reply::Released); // what it did while it held is its own affair
        self.leave(now, &name, out);
    }

    /// Permits all that was deferred, and lets the next waiter of this node ask.
    fn leave(&mut self, now: Time, name: &Name, out: Out<'_>) {
        if let Some(lock) = self.locks.get_mut(name) {
            for (peer, (life, stamp)) in core::mem::take(&mut lock.deferred) {
                self.permit(peer, life, name.clone(), stamp, out);
            }
        }
        self.next_turn(now, name, out);
    }

    fn permit(&mut self, peer: NodeId, to: Incarnation, name: Name, stamp: u64, out: Out<'_>) {
        self.stats.permissions_sent += 1;
        // It rests on no record: a later life of this node asks everyone before it competes.
        out.send_eager(peer, Message::Permission { name, stamp, to });
    }

    fn cancel(&mut self, now: Time, id: RequestId, waiting: RequestId, out: Out<'_>) {
        if self.give_up(now, waiting, Rejection::Cancelled, out) {
            out.answer_eager(id, Reply::Cancelled); // it will never be granted
        } else {
            out.answer_eager(id, Reply::Rejected(Rejection::NotWaiting)); // nothing was done
        }
    }

    /// Takes a waiting request back; false where it does not wait.
    pub(crate) fn give_up(
        &mut self,
        now: Time,
        id: RequestId,
        why: Rejection,
        out: Out<'_>,
    ) -> bool {
        let Some(name) = self.places.get(&id).cloned() else { return false };
        let Some(lock) = self.locks.get_mut(&name) else { return false };
        let current = match &lock.phase {
            Phase::Held { id: held, .. } if *held == id => return false,
            Phase::Wanted(wanted) => wanted.id == id,
            _ => false,
        };
        lock.waiters.retain(|waiter| waiter.id != id);
        self.places.remove(&id);
        out.answer_eager(id, Reply::Rejected(why)); // permissions that still come mean nothing
        if current || (lock.waiters.is_empty() && matches!(lock.phase, Phase::Joining)) {
            self.leave(now, &name, out);
        }
        true
    }

    fn on_message(&mut self, now: Time, from: Peer, message: Message, out: Out<'_>) {
        if from.node == self.node || !self.config.nodes.contains(&from.node) {
            self.stats.refused += 1;
            return;
        }
        if !self.meet(now, from, out) {
            self.stats.stale += 1;
            return;
        }
        let (peer, life) = (from.node, from.incarnation);
        match message {
            Message::Hello => self.on_hello(peer, life, out),
            Message::Welcome { to, clock } => self.on_welcome(now, peer, to, clock, out),
            Message::Request { name, stamp, again } => self.on_ask(from, name, stamp, again, out),
            Message::Permission { name, stamp, to } => {
                self.on_permission(peer, &name, stamp, to, out);
            }
            Message::Deferred { .. } => {} // it lives: that is all it says
        }
    }

    /// Hears a peer; false if it is a former life of one that has been heard since.
    fn meet(&mut self, now: Time, from: Peer, out: Out<'_>) -> bool {
        let known = self.lives.get(&from.node).map(|life| life.incarnation);
        if known.is_some_and(|known| from.incarnation < known) {
            return false;
        }
        self.lives.insert(from.node, Life { incarnation: from.incarnation, heard: now });
        if let Some(at) = self.silent.iter().position(|peer| *peer == from.node) {
            self.silent.remove(at);
            out.emit_eager(Event::Silent { peers: self.silent.clone() }); // a guess taken back
        }
        if known.is_some_and(|known| from.incarnation > known) {
            // The former life's requests are void, and what it deferred is forgotten.
            self.locks.values_mut().for_each(|lock| {
                lock.deferred.remove(&from.node);
            });
            self.ask_again(from.node, out);
        }
        true
    }

    fn on_ask(&mut self, from: Peer, name: Name, stamp: u64, again: bool, out: Out<'_>) {
        if stamp > STAMP_MAX {
            self.stats.refused += 1;
            return;
        }
        self.clock = self.clock.max(stamp);
        let (peer, to) = (from.node, from.incarnation);
        let own = self.node;
        match self.locks.get_mut(&name).filter(|lock| lock.precedes(own, stamp, peer)) {
            Some(lock) => {
                let latest = lock.deferred.entry(peer).or_insert((to, 0));
                self.stats.deferred += u64::from(latest.1 < stamp);
                *latest = (to, latest.1.max(stamp));
                if again {
                    // Says that this node lives, and promises nothing.
                    out.send_eager(peer, Message::Deferred { name, stamp, to });
                }
            }
            None => self.permit(peer, to, name, stamp, out),
        }
    }

    fn on_permission(
        &mut self,
        peer: NodeId,
        name: &Name,
        stamp: u64,
        to: Incarnation,
        out: Out<'_>,
    ) {
        let own = self.incarnation;
        let wanted = self.locks.get_mut(name).and_then(|lock| match &mut lock.phase {
            Phase::Wanted(wanted) if wanted.stamp == stamp && to == own => Some(wanted),
            _ => None,
        });
        if wanted.is_some_and(|wanted| wanted.missing.remove(&peer)) {
            self.maybe_enter(name, out);
        } else {
            self.stats.stale += 1;
        }
    }

    /// Asks one peer everything that it has not answered.
    fn ask_again(&mut self, peer: NodeId, out: Out<'_>) {
        if self.joining.as_ref().is_some_and(|joining| joining.missing.contains(&peer)) {
            out.send_eager(peer, Message::Hello); // promises nothing
        }
        let gate = self.reserved.1;
        for (name, lock) in &self.locks {
            let Phase::Wanted(wanted) = &lock.phase else { continue };
            if wanted.missing.contains(&peer) {
                self.stats.requests_again += 1;
                let (name, stamp) = (name.clone(), wanted.stamp);
                out.send_after(gate, peer, Message::Request { name, stamp, again: true });
            }
        }
    }

    fn on_checkpoint(&mut self, before: Ticket, out: Out<'_>) {
        let (upto, at) = self.reserved;
        if at < before && at > Ticket::ZERO {
            let moved = out.persist(Record::Reserved { upto });
            out.release(Ticket(moved.0 - 1));
            // What was reserved stays so: the old record is durable or the new one will be.
            self.reserved = (upto, moved);
        }
    }
}
