//! What the nemesis does, and what becomes of a node that dies.

use quorate_transport::{Incarnation, LinkState, NodeId, Peer, Shell, Start};
use quorate_wal::Fault as DiskFault;

use super::{Ask, Event, Stop, System, Violation, World};
use crate::nemesis::Fault;
use crate::node::boot;

impl<S: System> World<S> {
    /// Faults that wait for a leader or an election.
    pub(super) fn strike_armed(&mut self, node: NodeId, spoke: bool) {
        let leader = self.system.leader();
        let changed = std::mem::replace(&mut self.known_leader, leader) != leader;
        if let Some(node) = leader.filter(|_| changed && self.stop_new_leaders > 0 && self.chaos) {
            self.stop_new_leaders -= 1;
            let rng = &mut self.streams.nemesis;
            let how = [Stop::Kill, Stop::Power, Stop::Isolate][rng.below(3) as usize];
            let soon = [1_000_000, 10_000_000, 60_000_000][rng.below(3) as usize];
            let delay = rng.below(soon);
            self.push(delay, Event::Stop { node, how });
        }
        if self.crash_voters > 0 && self.chaos && self.system.is_electing() {
            let rng = &mut self.streams.nemesis;
            if spoke && rng.below(2) == 0 {
                self.crash_voters -= 1;
                let delay = rng.below(300_000);
                self.push(delay, Event::Stop { node, how: Stop::Blink });
            }
        }
    }

    pub(super) fn stop(&mut self, node: NodeId, how: Stop) -> Result<(), Violation> {
        if !self.chaos {
            return Ok(());
        }
        match how {
            Stop::Kill => self.kill(node, None),
            Stop::Power => self.power_loss(node),
            Stop::Blink => {
                let down = self.streams.nemesis.between(10_000, 2_000_000);
                self.kill(node, Some(down));
            }
            Stop::Isolate => {
                let rest: Vec<_> = self.ids().into_iter().filter(|id| *id != node).collect();
                self.net.split(&[node], &rest);
            }
        }
        Ok(())
    }

    /// Ends a life; the node comes back after `down` nanoseconds, or after a while.
    pub(super) fn kill(&mut self, node: NodeId, down: Option<u64>) {
        let Some(slot) = self.nodes.get_mut(&node) else { return };
        let Some(life) = slot.life.take() else { return };
        self.system.died(node, life.app);
        drop(life.hands);
        slot.disk.kill();
        slot.snapshots.kill();
        slot.paused_until = 0;
        let millis = match self.streams.nemesis.below(10) {
            0 => self.streams.nemesis.between(1_000, 8_000),
            1..5 => self.streams.nemesis.between(1, 50),
            _ => self.streams.nemesis.between(50, 1_500),
        };
        self.push(down.unwrap_or(millis * 1_000_000), Event::Restart { node });
        for peer in self.ids() {
            if peer != node && self.streams.net.chance_ppm(700_000) {
                let delay = self.streams.net.between(10_000, 3_000_000);
                self.push(delay, Event::Link { node: peer, peer: node, state: LinkState::Down });
            }
        }
    }

    pub(super) fn power_loss(&mut self, node: NodeId) {
        self.kill(node, None);
        let seed = self.streams.disk.next_u64();
        let other = self.streams.disk.next_u64();
        if let Some(slot) = self.nodes.get_mut(&node) {
            slot.disk.power_loss(seed);
            slot.snapshots.power_loss(other);
        }
    }

    pub(super) fn restart(&mut self, node: NodeId) -> Result<(), Violation> {
        let true_now = self.now;
        let Some(slot) = self.nodes.get_mut(&node) else { return Ok(()) };
        if slot.life.is_some() {
            return Ok(());
        }
        slot.incarnation += 1;
        self.counts.restarts += u64::from(slot.incarnation > 1);
        let peer = Peer { node, incarnation: Incarnation(slot.incarnation) };
        let now = slot.clock.local(true_now);
        let seed = self.streams.seeds.next_u64();
        let start = Start { node, incarnation: peer.incarnation, seed, now };
        let system = &mut self.system;
        let booted = boot(start, &slot.disk, &slot.snapshots, |host| system.boot(peer, host));
        match booted {
            Ok(life) => slot.life = Some(life),
            Err(what) => return Err(self.violation(node, format!("cannot restart: {what}"))),
        }
        for other in self.ids() {
            if other != node && self.nodes[&other].life.is_some() {
                let delay = self.streams.net.between(10_000, 3_000_000);
                self.push(delay, Event::Link { node: other, peer: node, state: LinkState::Up });
            }
        }
        self.step(node, |life, now| life.host.start(now, &mut life.hands))
    }

    pub(super) fn strike(&mut self) -> Result<(), Violation> {
        if !self.chaos {
            return Ok(());
        }
        let wait = self.streams.nemesis.between(1, 2 * self.plan.interval);
        self.push(wait, Event::Nemesis);
        let fault = self.plan.pick(&mut self.streams.nemesis);
        *self.counts.faults.entry(fault).or_default() += 1;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.6} fault {fault:?}", self.now as f64 / 1e9));
        }
        self.afflict(fault)
    }

    fn afflict(&mut self, fault: Fault) -> Result<(), Violation> {
        let ids = self.ids();
        let node = ids[self.streams.nemesis.below(ids.len() as u64) as usize];
        let other = ids[self.streams.nemesis.below(ids.len() as u64) as usize];
        let now = self.now;
        let rng = &mut self.streams.nemesis;
        match fault {
            Fault::Kill => self.kill(node, None),
            Fault::KillLeader => self.kill(self.system.leader().unwrap_or(node), None),
            Fault::StopNewLeader => self.stop_new_leaders = rng.between(1, 6),
            Fault::CrashVoters => self.crash_voters += rng.between(1, 8),
            Fault::PowerLoss => self.power_loss(node),
            Fault::PowerLossAll => ids.iter().for_each(|node| self.power_loss(*node)),
            Fault::CrashInStep => {
                let left = rng.below(30);
                if let Some(life) = self.life_mut(node) {
                    life.hands.effects_left = Some(left);
                }
            }
            Fault::CrashInDisk | Fault::DiskError => self.fail_disk(fault, node),
            Fault::StoreError => self.fail_store(node),
            Fault::Garbage => {} // drawn a frame
            Fault::DiskStall => {
                let stall = rng.between(10_000_000, 1_000_000_000);
                self.nodes.get_mut(&node).into_iter().for_each(|slot| slot.stall = stall);
            }
            Fault::Partition => {
                let (one, two): (Vec<_>, Vec<_>) = ids.into_iter().partition(|_| rng.below(2) == 0);
                self.net.split(&one, &two);
            }
            Fault::IsolateLeader => {
                let leader = self.system.leader().unwrap_or(node);
                let rest: Vec<_> = ids.into_iter().filter(|id| *id != leader).collect();
                self.net.split(&[leader], &rest);
            }
            Fault::OneWay => self.net.cut(node, other),
            Fault::SlowLink => self.net.slow(node, other, rng.between(1_000_000, 200_000_000)),
            Fault::Heal => self.net.heal(),
            Fault::Pause => {
                let until = now + rng.between(10_000_000, 2_000_000_000);
                self.nodes.get_mut(&node).into_iter().for_each(|slot| slot.paused_until = until);
            }
            Fault::ClockDrift => {
                let ppm = self.plan.drift_ppm;
                let rng = &mut self.streams.nemesis;
                self.nodes.get_mut(&node).into_iter().for_each(|s| s.clock.drift(now, rng, ppm));
                self.reschedule(node);
            }
            Fault::LinkFlap => {
                self.push(0, Event::Link { node, peer: other, state: LinkState::Down });
                self.push(5_000_000, Event::Link { node, peer: other, state: LinkState::Up });
            }
            Fault::System => return self.disturb(node),
        }
        Ok(())
    }

    /// One of the next few calls of a node's disk fails, or is the last of that life.
    fn fail_disk(&mut self, fault: Fault, node: NodeId) {
        let rng = &mut self.streams.nemesis;
        let within = rng.between(1, 12);
        let kind = match (fault, rng.below(2)) {
            (Fault::CrashInDisk, _) => DiskFault::Crash,
            (_, 0) => DiskFault::Io,
            _ => DiskFault::NoSpace,
        };
        if let Some(slot) = self.nodes.get(&node).filter(|slot| slot.life.is_some()) {
            slot.disk.fail_at(slot.disk.calls() + within, kind);
            if kind == DiskFault::Crash {
                slot.snapshots.fail_at(slot.snapshots.calls() + within, kind);
            }
        }
    }

    /// One of the next few calls of a node's snapshot store fails; the process lives on.
    fn fail_store(&mut self, node: NodeId) {
        let rng = &mut self.streams.nemesis;
        let within = rng.between(1, 6);
        let kind = if rng.below(2) == 0 { DiskFault::Io } else { DiskFault::NoSpace };
        let Some(slot) = self.nodes.get_mut(&node) else { return };
        if let Some(life) = &mut slot.life {
            life.store_failed = true;
            slot.snapshots.fail_at(slot.snapshots.calls() + within, kind);
        }
    }

    pub(super) fn disturb(&mut self, node: NodeId) -> Result<(), Violation> {
        let true_now = self.now;
        let Some(slot) = self.nodes.get_mut(&node) else { return Ok(()) };
        let now = slot.clock.local(true_now);
        let Some(life) = &mut slot.life else { return Ok(()) };
        let mut alarms = Vec::new();
        let host = Some((&mut life.host, &mut life.hands as &mut dyn Shell));
        let rng = &mut self.streams.work;
        let mut ask = Ask { host, now, true_now, alarms: &mut alarms, rng };
        self.system.disturb(node, &mut life.app, &mut ask, &mut self.streams.nemesis);
        for (node, nanos, alarm) in alarms {
            self.push(nanos, Event::Alarm { node, alarm });
        }
        self.step(node, |_, _| ())
    }
}
