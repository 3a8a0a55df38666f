//! What the nemesis does, and what becomes of a node that dies.

use quorate_transport::{Incarnation, LinkState, NodeId, Peer, Rng, Shell, Start};
use quorate_wal::{Fault as DiskFault, SimDisk};

use super::{Ask, Event, Stop, System, Violation, World};
use crate::limits::Choice;
use crate::luck::For;
use crate::nemesis::Fault;
use crate::node::boot;

const SECOND: u64 = 1_000_000_000;

impl<S: System> World<S> {
    /// Faults that wait for a leader or an election.
    pub(super) fn strike_armed(&mut self, node: NodeId, spoke: bool) {
        let leader = self.system.leader();
        let changed = std::mem::replace(&mut self.known_leader, leader) != leader;
        if changed {
            self.turn_memories();
            leader.into_iter().for_each(|leader| self.begin_turn(leader));
        }
        self.meet_who_is_out(node);
        if let Some(node) = leader.filter(|_| changed && self.stop_new_leaders > 0 && self.chaos) {
            self.stop_new_leaders -= 1;
            let mut rng = self.dice(Fault::StopNewLeader);
            let how = [Stop::Kill, Stop::Power, Stop::Isolate][rng.below(3) as usize];
            let soon = [1_000_000, 10_000_000, 60_000_000][rng.below(3) as usize];
            let delay = rng.below(soon);
            self.push(delay, Event::Stop { node, how });
        }
        if let Some(leader) = leader.filter(|_| changed && self.power_new_leaders > 0 && self.chaos)
        {
            self.power_new_leaders -= 1;
            let mut rng = self.dice(Fault::PowerAtElection);
            let soon = [1_000_000, 10_000_000, 60_000_000][rng.below(3) as usize];
            let delay = rng.below(soon);
            if rng.below(2) == 0 {
                self.push(delay, Event::Stop { node, how: Stop::PowerAll });
            } else {
                let others = self.nodes.values_mut().filter(|slot| slot.id != leader);
                others.for_each(|slot| slot.power_at_write = true);
            }
        }
        let wavers = self.waverer.is_some_and(|(waverer, _)| waverer == node);
        if (self.crash_voters > 0 || wavers) && self.chaos && self.system.is_electing() {
            let mut dice = self.dice(Fault::CrashVoters);
            let (strikes, delay) = (dice.below(2) == 0, dice.below(300_000));
            if spoke && strikes {
                match &mut self.waverer {
                    Some((_, left)) if wavers && *left > 1 => *left -= 1,
                    waverer if wavers => *waverer = None,
                    _ => self.crash_voters -= 1,
                }
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
            Stop::PowerAll => self.ids().into_iter().for_each(|node| self.power_loss(node)),
            Stop::Blink => {
                let down = self.dice(Fault::CrashVoters).between(10_000, 2_000_000);
                self.kill(node, Some(down));
            }
            Stop::Isolate => {
                let rest: Vec<_> = self.ids().into_iter().filter(|id| *id != node).collect();
                self.net.split(&[node], &rest);
            }
            Stop::IsolateWith(with) => {
                let mut rest = self.ids();
                rest.retain(|id| ![node, with].contains(id));
                self.net.split(&[node, with], &rest);
            }
            Stop::Turn => return self.turn(node),
            Stop::Rejoin => self.rejoin(node),
            Stop::Together => self.come_together(),
        }
        Ok(())
    }

    /// Ends a life; the node comes back after `down` nanoseconds, or after a while.
    pub(super) fn kill(&mut self, node: NodeId, down: Option<u64>) {
        let Some(slot) = self.nodes.get_mut(&node) else { return };
        let Some(life) = slot.life.take() else { return };
        self.system.ends(node, &life.app, &life.host);
        self.system.died(node, life.app);
        drop(life.hands);
        slot.disk.kill();
        slot.snapshots.kill();
        slot.paused_until = 0;
        let mut rng = self.dice(Fault::Kill);
        let millis = match rng.below(10) {
            0 => rng.between(1_000, 4_000),
            1..5 => rng.between(1, 50),
            _ => rng.between(50, 1_500),
        };
        self.push(down.unwrap_or(millis * 1_000_000), Event::Restart { node });
        for peer in self.ids() {
            let mut rng = self.draw(For::Links, peer);
            if peer != node && rng.chance_ppm(700_000) {
                let delay = rng.between(10_000, 3_000_000);
                self.push(delay, Event::Link { node: peer, peer: node, state: LinkState::Down });
            }
        }
    }

    pub(super) fn power_loss(&mut self, node: NodeId) {
        self.kill(node, None);
        let mut rng = self.draw(For::Disk, node);
        let (seed, other) = (rng.next_u64(), rng.next_u64());
        if let Some(slot) = self.nodes.get_mut(&node) {
            slot.power_at_write = false;
            slot.disk.power_loss(seed);
            slot.snapshots.power_loss(other);
        }
    }

    /// A node loses its disk, and comes back under its old name.
    fn wipe(&mut self, node: NodeId) {
        self.kill(node, None);
        let mut rng = self.draw(For::Disk, node);
        let disks = [rng.next_u64(), rng.next_u64()].map(SimDisk::new);
        if let Some(slot) = self.nodes.get_mut(&node) {
            [slot.disk, slot.snapshots] = disks;
            let birth = Incarnation(slot.incarnation).birth() + 1;
            slot.incarnation = Incarnation::of(birth, 0).0;
            slot.wiped = true;
        }
    }

    /// A machine has stopped itself; true where its node had lost its disk and is out of the world.
    pub(super) fn lose(&mut self, node: NodeId) -> bool {
        let lost = self.nodes.get(&node).is_some_and(|slot| slot.wiped);
        if lost {
            self.kill(node, None);
            self.nodes.get_mut(&node).into_iter().for_each(|slot| slot.lost = true);
        }
        lost
    }

    pub(super) fn restart(&mut self, node: NodeId) -> Result<(), Violation> {
        let true_now = self.now;
        let Some(slot) = self.nodes.get_mut(&node) else { return Ok(()) };
        if slot.life.is_some()
            || slot.gone
            || slot.lost
            || self.choices.limits().absent.contains(&node)
        {
            return Ok(());
        }
        slot.incarnation += 1;
        self.counts.restarts += u64::from(Incarnation(slot.incarnation).life() > 1);
        let peer = Peer { node, incarnation: Incarnation(slot.incarnation) };
        let now = slot.clock.local(true_now);
        let seed = self.luck.of_life(node, slot.incarnation).next_u64();
        let start = Start { node, incarnation: peer.incarnation, seed, now };
        let system = &mut self.system;
        let booted = boot(start, &slot.disk, &slot.snapshots, |host| system.boot(peer, host));
        match booted {
            Ok(life) => slot.life = Some(life),
            Err(what) => {
                let what = format!("law 3: a node cannot start again: {what}");
                let ends = self.choices.limits().ends(&what);
                return if ends { Err(self.violation(node, what)) } else { Ok(()) };
            }
        }
        for other in self.ids() {
            if other != node && self.nodes[&other].life.is_some() {
                let delay = self.draw(For::Links, other).between(10_000, 3_000_000);
                self.push(delay, Event::Link { node: other, peer: node, state: LinkState::Up });
            }
        }
        if self.chaos && self.nodes[&node].crash_loop > 0 {
            let soon = self.dice(Fault::CrashLoop).below(30_000_000);
            self.nodes.get_mut(&node).into_iter().for_each(|slot| slot.crash_loop -= 1);
            self.push(soon, Event::Stop { node, how: Stop::Blink });
        }
        self.echo_to_newborn(node);
        self.step(node, |life, now| life.host.start(now, &mut life.hands))
    }

    pub(super) fn strike(&mut self) -> Result<(), Violation> {
        if !self.chaos {
            return Ok(());
        }
        let hurry = self.choices.limits().hurry.max(1);
        let mut wait = self.nemesis.between(1, 2 * self.plan.interval / hurry);
        let fault = self.plan.pick(&mut self.nemesis);
        let ids = self.ids();
        let node = ids[self.nemesis.below(ids.len() as u64) as usize];
        let other = ids[self.nemesis.below(ids.len() as u64) as usize];
        let quiet = self.dice(Fault::Quiet).between(2 * SECOND, 4 * SECOND);
        let number = self.strikes;
        self.strikes += 1;
        let masked = self.now < self.turns.busy_until
            || self.plan.masked.contains(&fault)
            || !self.choices.happens(Choice::Strike, number);
        if fault == Fault::Quiet && !masked {
            wait += quiet;
        }
        self.push(wait, Event::Nemesis);
        if masked || (fault == Fault::Wipe && !self.system.wipe(node)) {
            return Ok(());
        }
        self.count(fault);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.6} fault {fault:?} {node} {other}", self.now as f64 / 1e9));
        }
        match fault {
            Fault::Clog
            | Fault::Partition
            | Fault::MinorityCut
            | Fault::IsolateLeader
            | Fault::Ring
            | Fault::Bridge
            | Fault::OneWay
            | Fault::FlappingLink
            | Fault::SlowLink
            | Fault::NarrowLink
            | Fault::LinkFlap
            | Fault::Contest
            | Fault::Reset
            | Fault::HalfOpen
            | Fault::QueueFull
            | Fault::Heal
            | Fault::Quiet => self.afflict_net(fault, node, other),
            Fault::Usurp => self.begin_usurping(node),
            Fault::Echo => self.echo(node),
            Fault::System => return self.disturb(node),
            Fault::ClockDrift
            | Fault::ClockJump
            | Fault::ClockFreeze
            | Fault::Suspend
            | Fault::Pause
            | Fault::SlowProcess => self.afflict_time(fault, node),
            _ => self.afflict_process(fault, node),
        }
        Ok(())
    }

    /// What a kind of fault draws from.
    pub(super) fn dice(&mut self, fault: Fault) -> Rng {
        self.draw(For::Kind(fault), NodeId(0))
    }

    fn afflict_net(&mut self, fault: Fault, node: NodeId, other: NodeId) {
        let ids = self.ids();
        let leader = self.system.leader();
        let mut rng = self.dice(fault);
        match fault {
            Fault::Partition | Fault::Bridge => {
                let (mut one, mut two): (Vec<_>, Vec<_>) =
                    ids.into_iter().partition(|_| rng.below(2) == 0);
                if fault == Fault::Bridge {
                    one.retain(|id| *id != node);
                    two.retain(|id| *id != node);
                }
                self.net.split(&one, &two);
            }
            Fault::MinorityCut => {
                let from = rng.below(ids.len() as u64) as usize;
                let most = (ids.len() - 1) / 2;
                let size = rng.between(1, most.max(1) as u64) as usize;
                let mut ids = ids;
                ids.rotate_left(from);
                // Who was cut off before has something that nobody else has, perhaps.
                let reaches =
                    |id: &NodeId| ids.iter().filter(|other| !self.net.is_cut(*id, **other)).count();
                let mut order = ids.clone();
                order.sort_by_key(|id| reaches(id) > ids.len() / 2);
                let rest = order.split_off(size);
                self.net.split(&order, &rest);
                for (one, other) in order.iter().flat_map(|a| order.iter().map(move |b| (a, b))) {
                    self.net.mend(*one, *other);
                }
            }
            Fault::IsolateLeader => {
                let leader = leader.unwrap_or(node);
                let rest: Vec<_> = ids.into_iter().filter(|id| *id != leader).collect();
                self.net.split(&[leader], &rest);
            }
            Fault::Ring => {
                for (at, one) in ids.iter().enumerate() {
                    for (away, two) in ids.iter().enumerate().skip(at + 2) {
                        if away - at != ids.len() - 1 {
                            self.net.split(&[*one], &[*two]);
                        }
                    }
                }
            }
            Fault::Heal | Fault::Quiet => self.net.heal(),
            _ => self.afflict_link(fault, node, other),
        }
    }

    /// What befalls one link, or the connections to one node.
    fn afflict_link(&mut self, fault: Fault, node: NodeId, other: NodeId) {
        let (ids, now) = (self.ids(), self.now);
        let leader = self.system.leader();
        let mut rng = self.dice(fault);
        match fault {
            Fault::OneWay => self.net.cut(node, other),
            Fault::HalfOpen => self.net.split(&[node], &[other]),
            Fault::SlowLink => {
                let nanos = rng.between(1_000_000, 200_000_000);
                self.net.slow(node, other, nanos);
            }
            Fault::NarrowLink => {
                let nanos = [100, 1_000, 20_000][rng.below(3) as usize];
                self.net.narrow(node, other, nanos);
            }
            Fault::Clog => {
                let until = now + rng.between(1_000_000, 3 * SECOND);
                self.net.clog(node, other, until);
            }
            Fault::FlappingLink => {
                let period = rng.between(50_000_000, 500_000_000);
                let left = rng.between(4, 12);
                self.flap((node, other), left, period);
            }
            Fault::LinkFlap | Fault::Reset => {
                if fault == Fault::Reset {
                    self.net.reset(node, other, now);
                    self.link(other, node, LinkState::Down, 0);
                    self.link(other, node, LinkState::Up, 5_000_000);
                }
                self.link(node, other, LinkState::Down, 0);
                self.link(node, other, LinkState::Up, 5_000_000);
            }
            Fault::Contest => {
                self.crash_voters += rng.between(0, 4);
                let leader = leader.unwrap_or(node);
                let two_sides = rng.below(3) == 0;
                if two_sides {
                    let mut one: Vec<_> = ids.iter().copied().filter(|id| *id != leader).collect();
                    let other = one.split_off(one.len() / 2);
                    self.net.split(&one, &other);
                    self.waverer = Some((leader, 4));
                }
                if two_sides || rng.below(2) == 0 {
                    let soon = rng.below(1_000_000);
                    self.push(soon, Event::Stop { node: leader, how: Stop::Blink });
                }
                for id in ids {
                    self.link(id, leader, LinkState::Down, 0);
                    self.link(id, leader, LinkState::Up, 1_000_000);
                }
            }
            _ => self.link(node, other, LinkState::Full, 0), // QueueFull
        }
    }

    fn link(&mut self, node: NodeId, peer: NodeId, state: LinkState, delay: u64) {
        if node != peer {
            self.push(delay, Event::Link { node, peer, state });
        }
    }

    /// Cuts or mends a link, and comes back.
    pub(super) fn flap(&mut self, link: (NodeId, NodeId), left: u64, period: u64) {
        let (one, other) = link;
        if !self.chaos {
            return;
        }
        if left > 0 && left.is_multiple_of(2) {
            self.net.split(&[one], &[other]);
        } else {
            self.net.mend(one, other);
            self.net.mend(other, one);
        }
        if left > 0 {
            self.push(period, Event::Flap { link, left: left - 1, period });
        }
    }

    /// One node does not hear the leader any more.
    fn begin_usurping(&mut self, node: NodeId) {
        let mut rng = self.dice(Fault::Usurp);
        let leader = self.system.leader().unwrap_or(node);
        let rest: Vec<_> = self.ids().into_iter().filter(|id| *id != leader).collect();
        if rest.is_empty() {
            return;
        }
        let heir = rest[rng.below(rest.len() as u64) as usize];
        let delay = rng.between(1_000_000, 500_000_000);
        self.net.split(&[leader], &[heir]);
        self.push(delay, Event::Usurp { leader, heir });
    }

    /// Nor do the others; what they had promised it they may have forgotten.
    pub(super) fn usurp(&mut self, leader: NodeId, heir: NodeId) {
        if !self.chaos {
            return;
        }
        let mut rng = self.dice(Fault::Usurp);
        let how = rng.below(3);
        for other in self.ids().into_iter().filter(|id| *id != leader) {
            self.net.split(&[leader], &[other]);
            let soon = rng.below(5_000_000);
            match how {
                0 if other != heir => {
                    self.push(soon, Event::Stop { node: other, how: Stop::Blink })
                }
                1 => self.link(other, leader, LinkState::Down, soon),
                _ => {}
            }
        }
    }

    fn afflict_time(&mut self, fault: Fault, node: NodeId) {
        let (now, ppm) = (self.now, self.plan.drift_ppm);
        let mut rng = self.dice(fault);
        let short = rng.between(10_000_000, 2 * SECOND);
        let (millis, seconds) = (rng.between(1, 30), rng.between(1, 3));
        let mut drift = rng.fork(short);
        let Some(slot) = self.nodes.get_mut(&node) else { return };
        match fault {
            Fault::Pause => slot.paused_until = slot.paused_until.max(now + short),
            Fault::Suspend => {
                slot.paused_until = slot.paused_until.max(now + short);
                slot.clock.stop(now);
                self.push(short, Event::ClockRuns { node, ahead: 0 });
            }
            Fault::ClockFreeze => {
                slot.clock.stop(now);
                self.push(short, Event::ClockRuns { node, ahead: short });
            }
            Fault::ClockJump => slot.clock.jump(now, short),
            Fault::SlowProcess => slot.slow = (now + seconds * SECOND, millis * 100_000),
            _ => slot.clock.drift(now, &mut drift, ppm), // ClockDrift
        }
        self.reschedule(node);
    }

    fn afflict_process(&mut self, fault: Fault, node: NodeId) {
        let (ids, now) = (self.ids(), self.now);
        let leader = self.system.leader();
        let mut rng = self.dice(fault);
        let (few, down) = (rng.between(1, 6), rng.between(3 * SECOND, 10 * SECOND));
        let (effects, stall) = (rng.below(30), rng.between(10_000_000, SECOND));
        match fault {
            Fault::Kill => self.kill(node, None),
            Fault::KillLeader => self.kill(leader.unwrap_or(node), None),
            Fault::StopNewLeader => self.stop_new_leaders = few,
            Fault::TakeTurns => {
                self.turns.left = few + 1;
                leader.into_iter().for_each(|leader| self.begin_turn(leader));
            }
            Fault::CrashVoters => self.crash_voters += few + 1,
            Fault::LongOutage => self.kill(node, Some(down)),
            Fault::Wipe => self.wipe(node),
            Fault::CrashLoop => {
                self.nodes.get_mut(&node).into_iter().for_each(|slot| slot.crash_loop = few);
                self.kill(node, Some(1_000_000));
            }
            Fault::PowerLoss if rng.below(3) == 0 => self.power_loss(node),
            Fault::PowerLoss => {
                self.nodes.get_mut(&node).into_iter().for_each(|slot| slot.power_at_write = true);
            }
            Fault::PowerAtElection => self.power_new_leaders = few,
            Fault::PowerLossAll => ids.iter().for_each(|node| self.power_loss(*node)),
            Fault::CrashInStep => {
                if let Some(life) = self.life_mut(node) {
                    life.hands.effects_left = Some(effects);
                }
            }
            Fault::CrashInDisk | Fault::DiskError | Fault::DiskFull => self.fail_disk(fault, node),
            Fault::StoreError => self.fail_store(node),
            Fault::DiskStall => {
                self.nodes.get_mut(&node).into_iter().for_each(|slot| slot.stall = stall);
            }
            _ => {
                // SlowDisk
                let until = now + few * SECOND;
                let slow = (until, 5 * few);
                self.nodes.get_mut(&node).into_iter().for_each(|slot| slot.slow_disk = slow);
            }
        }
    }

    /// One of the next few calls of a node's disk fails, or is the last of that life.
    fn fail_disk(&mut self, fault: Fault, node: NodeId) {
        let within = self.dice(fault).between(1, 12);
        let kind = match fault {
            Fault::CrashInDisk => DiskFault::Crash,
            Fault::DiskFull => DiskFault::NoSpace,
            _ => DiskFault::Io,
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
        let mut rng = self.dice(Fault::StoreError);
        let within = rng.between(1, 6);
        let kind = if rng.below(2) == 0 { DiskFault::Io } else { DiskFault::NoSpace };
        let Some(slot) = self.nodes.get_mut(&node) else { return };
        if let Some(life) = &mut slot.life {
            life.store_failed = true;
            slot.snapshots.fail_at(slot.snapshots.calls() + within, kind);
        }
    }

    pub(super) fn disturb(&mut self, node: NodeId) -> Result<(), Violation> {
        let mut dice = self.dice(Fault::System);
        let node = self.system.leader().filter(|_| dice.below(2) == 0).unwrap_or(node);
        let soon = [1_000_000, 10_000_000, 30_000_000][dice.below(3) as usize];
        let (cut, delay) = (dice.below(2) == 0, dice.below(soon));
        if cut {
            self.push(delay, Event::Stop { node, how: Stop::Isolate });
        }
        self.ask_system(node)
    }

    /// The system does something to a node.
    pub(super) fn ask_system(&mut self, node: NodeId) -> Result<(), Violation> {
        let true_now = self.now;
        let Some(slot) = self.nodes.get_mut(&node) else { return Ok(()) };
        let now = slot.clock.local(true_now);
        let Some(life) = &mut slot.life else { return Ok(()) };
        let mut alarms = Vec::new();
        let host = Some((&mut life.host, &mut life.hands as &mut dyn Shell));
        let mut of_system = self.luck.at(true_now, For::Kind(Fault::System), node);
        let rng = &mut self.luck.at(true_now, For::Work, node);
        let mut ask = Ask { host, now, true_now, alarms: &mut alarms, rng, clients: None };
        self.system.disturb(node, &mut life.app, &mut ask, &mut of_system);
        for (node, nanos, alarm) in alarms {
            self.push(nanos, Event::Alarm { node, alarm });
        }
        self.step(node, |_, _| ())
    }
}
