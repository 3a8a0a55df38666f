//! The machine: tells peers that this node lives, and judges their silence.

use alloc::collections::BTreeMap;

use quorate_transport::{
    Digest, Incarnation, Input, LinkState, Machine, NoRecord, NodeId, Outbox, Peer, Rename,
    RequestId, Start, Ticket, Time,
};

use crate::config::Config;
use crate::message::Message;
use crate::monitor::Monitor;
use crate::types::{Error, Event, PeerStatus, Reply, Request, Stats, Status};

type Out<'a> = &'a mut Outbox<Heartbeats>;

/// Heartbeats to all peers, and a verdict on each. See the crate's documentation.
#[derive(Clone, Debug)]
pub struct Heartbeats {
    config: Config,
    peers: BTreeMap<NodeId, Watch>,
    number: u64,
    beat_at: Time,
    started: bool,
    stats: Stats,
}

#[derive(Clone, Debug)]
struct Watch {
    monitor: Monitor,
    incarnation: Incarnation,
    number: u64,
    last_heartbeat: Option<Time>,
    /// Since when it is silent: the last heartbeat, or the start of watching.
    since: Time,
    status: Status,
    /// Until when its silence is no reason, judged by the monitor alone.
    patient_until: Time,
    /// The next change of the verdict; hints may bring suspicion forward.
    due: Time,
}

impl Watch {
    fn new(monitor: Monitor, now: Time) -> Self {
        let until = now + monitor.patience();
        Self {
            monitor,
            incarnation: Incarnation(0),
            number: 0,
            last_heartbeat: None,
            since: now,
            status: Status::Alive,
            patient_until: until,
            due: until,
        }
    }

    fn deadline(&self) -> Option<Time> {
        (self.status != Status::Failed).then_some(self.due)
    }
}

impl Heartbeats {
    /// What is thought of a peer; `None` for a stranger.
    #[must_use]
    pub fn status(&self, now: Time, node: NodeId) -> Option<PeerStatus> {
        let watch = self.peers.get(&node)?;
        Some(PeerStatus {
            node,
            status: watch.status,
            level: watch.monitor.level(now.since(watch.since)),
            last_heartbeat: watch.last_heartbeat,
            incarnation: watch.incarnation,
        })
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn on_started(&mut self, now: Time, out: Out<'_>) {
        self.started = true;
        let peers = &self.config.peers;
        let watch = || Watch::new(self.config.monitor, now);
        self.peers = peers.iter().map(|peer| (*peer, watch())).collect();
        self.beat(now, out);
    }

    fn beat(&mut self, now: Time, out: Out<'_>) {
        self.number += 1;
        for peer in self.peers.keys() {
            // A heartbeat speaks of this life alone, which no record stands behind.
            out.send_eager(*peer, Message::Heartbeat { number: self.number });
        }
        self.beat_at = now + self.config.heartbeat_interval;
    }

    fn on_timer(&mut self, now: Time, out: Out<'_>) {
        if now >= self.beat_at {
            self.beat(now, out);
        }
        let failure_after = self.config.failure_after;
        for (node, watch) in &mut self.peers {
            if watch.deadline().is_none_or(|due| now < due) {
                continue;
            }
            let (node, last_heartbeat) = (*node, watch.last_heartbeat);
            if watch.status == Status::Alive {
                watch.status = Status::Suspect;
                // A hint may have come first: the verdict still takes all of the monitor's time.
                watch.due = watch.patient_until.max(now) + failure_after;
                self.stats.suspicions += 1;
                out.emit(Event::Suspected { node, last_heartbeat });
            } else {
                watch.status = Status::Failed;
                self.stats.failures += 1;
                out.emit(Event::Failed { node, last_heartbeat });
            }
        }
    }

    /// An own timer that is late means that this node stood still: the silence is its own.
    fn guard_against_stall(&mut self, now: Time) {
        let late = self.deadline().map_or(core::time::Duration::ZERO, |due| now.since(due));
        if late <= self.config.stall_max {
            return;
        }
        self.stats.stalls += 1;
        for watch in self.peers.values_mut() {
            match watch.status {
                Status::Alive => {
                    watch.patient_until = now + watch.monitor.patience();
                    watch.due = watch.patient_until;
                }
                // A hint may have come first: the verdict still takes all of the monitor's time.
                Status::Suspect => {
                    watch.due = watch.patient_until.max(now) + self.config.failure_after;
                }
                Status::Failed => {}
            }
        }
    }

    fn on_heartbeat(&mut self, now: Time, from: Peer, number: u64, out: Out<'_>) {
        let Some(watch) = self.peers.get_mut(&from.node) else {
            self.stats.refused += 1;
            return;
        };
        if (from.incarnation, number) <= (watch.incarnation, watch.number) {
            self.stats.refused += 1;
            return;
        }
        let (node, incarnation) = (from.node, from.incarnation);
        if incarnation == watch.incarnation && watch.last_heartbeat.is_some() {
            watch.monitor.learn(now.since(watch.since));
        } else if watch.last_heartbeat.is_some() {
            out.emit(Event::Restarted { node, incarnation });
        }
        (watch.incarnation, watch.number) = (incarnation, number);
        (watch.last_heartbeat, watch.since) = (Some(now), now);
        watch.patient_until = now + watch.monitor.patience();
        watch.due = watch.patient_until;
        let was = core::mem::replace(&mut watch.status, Status::Alive);
        if was != Status::Alive {
            out.emit(Event::Trusted { node, was });
        }
    }

    fn on_link(&mut self, now: Time, peer: NodeId, state: LinkState) {
        if let Some(watch) = self.peers.get_mut(&peer)
            && watch.status == Status::Alive
            && state == LinkState::Down
        {
            // One interval's grace: a connection may be made anew at once.
            watch.due = watch.due.min(now + self.config.heartbeat_interval);
        }
    }

    fn on_request(&mut self, now: Time, id: RequestId, request: Request, out: Out<'_>) {
        let reply = match request {
            Request::Status(node) => {
                self.status(now, node).map_or(Reply::NoSuchPeer(node), Reply::Status)
            }
            Request::Members => {
                Reply::Members(self.peers.keys().filter_map(|n| self.status(now, *n)).collect())
            }
        };
        out.answer_eager(id, reply);
    }
}

impl Machine for Heartbeats {
    type Config = Config;
    type Error = Error;
    type Message = Message;
    type Record = NoRecord;
    type Request = Request;
    type Reply = Reply;
    type Event = Event;

    fn new(start: Start, config: Config) -> Result<Self, Error> {
        config.validate(start.node)?;
        Ok(Self {
            config,
            peers: BTreeMap::new(),
            number: 0,
            beat_at: start.now,
            started: false,
            stats: Stats::default(),
        })
    }

    fn replay(&mut self, _: Ticket, record: NoRecord) -> Result<(), Error> {
        match record {}
    }

    fn handle(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        self.guard_against_stall(now);
        match input {
            Input::Started => self.on_started(now, out),
            Input::Timer => self.on_timer(now, out),
            Input::Message { from, message: Message::Heartbeat { number } } => {
                self.on_heartbeat(now, from, number, out);
            }
            Input::Link { peer, state } => self.on_link(now, peer, state),
            Input::Request { id, request } => self.on_request(now, id, request, out),
            Input::Durable { .. }
            | Input::Checkpoint { .. }
            | Input::Stored(_)
            | Input::Worked(_) => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        let verdicts = self.peers.values().filter_map(Watch::deadline);
        self.started.then(|| verdicts.fold(self.beat_at, Time::min))
    }

    fn digest(&self, now: Time, rename: &Rename, into: &mut Digest) {
        let ahead = |at: Time| at.as_nanos().wrapping_sub(now.as_nanos());
        into.bool(self.started);
        into.u64(self.number);
        into.u64(ahead(self.beat_at));
        for (node, watch) in &self.peers {
            into.u64(rename.node(*node).0);
            watch.monitor.digest(into);
            into.u64(watch.incarnation.0);
            into.u64(watch.number);
            into.option(watch.last_heartbeat.map(ahead));
            into.u64(ahead(watch.since));
            into.u64(watch.status as u64);
            into.u64(ahead(watch.patient_until));
            into.u64(ahead(watch.due));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_costs_as_many_bytes_as_the_readme_says() {
        assert_eq!(size_of::<Watch>(), 144);
    }
}
