//! One input to one node, and everything that follows from it.

use quorate_transport::{BurstId, Class, Frame, HostStats, Key, NodeId, Peer, Shell, Time, Work};

use super::{Ask, Clients, Event, Stop, System, Violation, World};
use crate::limits::Choice;
use crate::luck::For;
use crate::nemesis::Fault;
use crate::net::{Dice, mangle};
use crate::node::{JOURNAL_BYTES_MAX, Life};

/// A node that has stopped itself in so many lives one after the other is of no use any more.
const HALTS_MAX: u64 = 4;
/// Work takes so long at the most.
const WORK_NANOS_MAX: u64 = 300_000_000;
/// Somebody starts it again after so long.
const HALT_NANOS: u64 = 30_000_000;

impl<S: System> World<S> {
    pub(super) fn on_alarm(&mut self, node: NodeId, alarm: u64) -> Result<(), Violation> {
        if let Some(resume) = self.paused(node) {
            self.push(resume, Event::Alarm { node, alarm });
            return Ok(());
        }
        let limits = self.choices.limits();
        let pace = limits.chaos_pace.filter(|_| self.chaos).or(limits.pace);
        if let Some(wait) = pace.and_then(|pace| self.too_soon(pace)) {
            self.push(wait, Event::Alarm { node, alarm });
            return Ok(());
        }
        let true_now = self.now;
        let mut alarms = Vec::new();
        let Some(slot) = self.nodes.get_mut(&node) else { return Ok(()) };
        let now = slot.clock.local(true_now);
        let rng = &mut self.luck.at(true_now, For::Work, node);
        let up = slot.life.is_some();
        let Self { choices, counts, chaos, .. } = self;
        let clients = Some(Clients { asked: &mut counts.asked, choices, chaos: *chaos });
        match &mut slot.life {
            Some(life) => {
                let host = Some((&mut life.host, &mut life.hands as &mut dyn Shell));
                let mut ask = Ask { host, now, true_now, alarms: &mut alarms, rng, clients };
                self.system.alarm(node, alarm, Some(&mut life.app), &mut ask);
            }
            None => {
                let alarms = &mut alarms;
                let mut ask = Ask { host: None, now, true_now, alarms, rng, clients };
                self.system.alarm(node, alarm, None, &mut ask);
            }
        }
        for (node, nanos, alarm) in alarms {
            self.push(nanos, Event::Alarm { node, alarm });
        }
        if up { self.step(node, |_, _| ()) } else { Ok(()) }
    }

    /// How long until clients may ask again, where they may ask so often a second.
    fn too_soon(&self, pace: u64) -> Option<u64> {
        let next = self.counts.asked * 1_000_000_000 / pace.max(1);
        next.checked_sub(self.now).filter(|wait| *wait > 0)
    }

    pub(super) fn on_deliver(
        &mut self,
        to: NodeId,
        from: Peer,
        class: Class,
        frame: Frame,
        sent: u64,
    ) -> Result<(), Violation> {
        if self.net.was_reset(from.node, to, sent) {
            return Ok(());
        }
        if let Some(resume) = self.paused(to) {
            self.push(resume, Event::Deliver { to, from, class, frame, sent });
            return Ok(());
        }
        let bulk = class != Class::Urgent;
        if bulk && self.life(to).is_some_and(|life| !life.host.is_open()) {
            self.push(1_000_000, Event::Deliver { to, from, class, frame, sent });
            return Ok(());
        }
        if from.incarnation.0 < self.nodes[&from.node].incarnation {
            self.count(Fault::FormerLife);
        }
        self.step(to, |life, now| life.host.message(now, from, &frame, &mut life.hands))
    }

    pub(super) fn on_timer(&mut self, node: NodeId, life: u64, at: u64) -> Result<(), Violation> {
        if self.is_stale(node, life) || self.life(node).is_none_or(|l| l.timer_at != Some(at)) {
            return Ok(());
        }
        if let Some(resume) = self.paused(node) {
            let at = self.now + resume;
            if let Some(life) = self.life_mut(node) {
                life.timer_at = Some(at);
            }
            self.push(resume, Event::Timer { node, life, at });
            return Ok(());
        }
        if let Some(life) = self.life_mut(node) {
            life.timer_at = None;
        }
        if !self.is_due(node) {
            self.reschedule(node);
            return Ok(());
        }
        self.step(node, |life, now| life.host.timer(now, &mut life.hands))?;
        if self.is_due(node) && self.nodes[&node].incarnation == life {
            return Err(self.violation(node, "law 1: a timer that fired is due".into()));
        }
        Ok(())
    }

    /// Whether a timer of the node is due by its own clock.
    fn is_due(&self, node: NodeId) -> bool {
        let Some(slot) = self.nodes.get(&node) else { return false };
        let deadline = slot.life.as_ref().and_then(|life| life.deadline());
        deadline.is_some_and(|deadline| deadline <= slot.clock.local(self.now))
    }

    /// Bytes that are no message change nothing but a count.
    pub(super) fn on_garbage(
        &mut self,
        to: NodeId,
        from: Peer,
        frame: &Frame,
    ) -> Result<(), Violation> {
        if self.paused(to).is_some() {
            return Ok(()); // lost: whether it comes now or later makes no difference
        }
        let mut refused = true;
        self.step(to, |life, now| {
            let before = life.host.stats();
            life.host.message(now, from, frame, &mut life.hands);
            let after = life.host.stats();
            let counted = |stats: HostStats| stats.malformed + stats.strangers;
            refused = counted(after) == counted(before) + 1;
        })?;
        self.count(Fault::Garbage);
        if refused { Ok(()) } else { Err(self.violation(to, "law 4: garbage was taken in".into())) }
    }

    /// One input to one node, and everything that follows from it at once.
    pub(super) fn step(
        &mut self,
        node: NodeId,
        input: impl FnOnce(&mut Life<S::App>, Time),
    ) -> Result<(), Violation> {
        let true_now = self.now;
        let Some(slot) = self.nodes.get_mut(&node) else { return Ok(()) };
        let now = slot.clock.local(true_now);
        let Some(life) = &mut slot.life else { return Ok(()) };
        input(life, now);
        let mut burst = self.luck.at(true_now, For::Burst, node);
        if burst.below(2) == 0 {
            life.host.flush(&mut life.hands);
        }
        self.drain(node);
        if burst.chance_ppm(self.plan.settle_ppm) {
            return self.settle(node);
        }
        let life_number = self.nodes[&node].incarnation;
        if let Some(life) = self.life_mut(node)
            && !std::mem::replace(&mut life.settle_due, true)
        {
            let delay = burst.between(1_000, 500_000);
            self.push(delay, Event::Settle { node, life: life_number });
        }
        self.finish(node)
    }

    pub(super) fn settle(&mut self, node: NodeId) -> Result<(), Violation> {
        let true_now = self.now;
        let Some(slot) = self.nodes.get_mut(&node) else { return Ok(()) };
        let now = slot.clock.local(true_now);
        let Some(life) = &mut slot.life else { return Ok(()) };
        life.settle_due = false;
        if let Some(burst) = life.host.settle(now, &mut life.hands) {
            life.written = Some(burst);
        }
        self.drain(node);
        self.write(node);
        self.finish(node)
    }

    /// Writes what was appended and begins a sync, unless one is under way.
    pub(super) fn write(&mut self, node: NodeId) {
        let Some(slot) = self.nodes.get_mut(&node) else { return };
        let Some(life) = &mut slot.life else { return };
        if life.hands.dead.is_some() || life.written.is_none() || life.syncing.is_some() {
            return;
        }
        if let Err(error) = life.hands.wal.write() {
            life.hands.dead = Some(format!("journal: {error}"));
            return;
        }
        life.syncing = life.written.take();
        let stall = std::mem::take(&mut slot.stall);
        let (slow_until, factor) = slot.slow_disk;
        let factor = if slow_until > self.now { factor } else { 1 };
        let mut disk = self.luck.at(self.now, For::Disk, node);
        let nanos = stall + factor * disk.between(50_000, self.plan.sync_max);
        let life = slot.incarnation;
        let power = std::mem::take(&mut slot.power_at_write);
        self.push(nanos, Event::Synced { node, life });
        if power {
            let mut dice = self.dice(Fault::PowerLoss);
            let soon = dice.below(nanos.max(1));
            self.push(soon, Event::Stop { node, how: Stop::Power });
            // And soon after a leader that may count on what is lost with it.
            if let Some(leader) = self.system.leader().filter(|_| dice.below(3) == 0) {
                let soon = soon + dice.below(10_000_000);
                self.push(soon, Event::Stop { node: leader, how: Stop::Isolate });
            }
        }
    }

    pub(super) fn synced(&mut self, node: NodeId) -> Result<(), Violation> {
        let Some(life) = self.life_mut(node) else { return Ok(()) };
        let Some(burst) = life.syncing.take() else { return Ok(()) };
        if let Err(error) = life.hands.wal.sync() {
            life.hands.dead = Some(format!("journal: {error}"));
            return self.finish(node);
        }
        let pin = (life.hands.wal.disk_bytes() > JOURNAL_BYTES_MAX)
            .then(|| life.hands.wal.oldest_live())
            .flatten();
        self.step(node, |life, now| {
            life.host.durable(now, BurstId(burst.0), &mut life.hands);
            if let Some((key, before)) = pin {
                life.host.checkpoint(now, key, before, &mut life.hands);
            }
        })?;
        self.write(node);
        self.finish(node)
    }

    /// Lets the application take what was said until nothing more is.
    pub(super) fn drain(&mut self, node: NodeId) {
        let true_now = self.now;
        let Some(slot) = self.nodes.get_mut(&node) else { return };
        let now = slot.clock.local(true_now);
        let Some(life) = &mut slot.life else { return };
        if life.hands.dead.is_some() {
            return; // a dead process hears nothing
        }
        let mut alarms = Vec::new();
        let host = Some((&mut life.host, &mut life.hands as &mut dyn Shell));
        let rng = &mut self.luck.at(true_now, For::Work, node);
        let mut ask = Ask { host, now, true_now, alarms: &mut alarms, rng, clients: None };
        self.system.drain(node, &mut life.app, &mut ask);
        for (node, nanos, alarm) in alarms {
            self.push(nanos, Event::Alarm { node, alarm });
        }
    }

    /// After a step: frames leave, the dead are buried, invariants are checked, timers are set.
    pub(super) fn finish(&mut self, node: NodeId) -> Result<(), Violation> {
        let Some(slot) = self.nodes.get_mut(&node) else { return Ok(()) };
        let from = slot.peer();
        let life_number = slot.incarnation;
        let Some(life) = &mut slot.life else { return Ok(()) };
        let sent = std::mem::take(&mut life.hands.sent);
        let stored = std::mem::take(&mut life.hands.stored);
        let work = std::mem::take(&mut life.hands.work);
        let spoke = !sent.is_empty();
        let in_disk = slot.disk.is_down() || slot.snapshots.is_down();
        let mut dead = life.hands.dead.take().or(in_disk.then(|| "crash in a disk call".into()));
        let mut halted = life.hands.halted.take();
        if life.store_failed && halted.take().is_some() {
            dead = Some("it stopped itself: its snapshot store failed".into());
        }
        for (to, class, frame) in sent {
            self.send(from, to, class, &frame);
        }
        let halts = halted.is_some();
        if let Some(what) = halted {
            let what = format!("halted: {what}");
            if self.lose(node) {
                return Ok(());
            }
            self.judge_halt(node, &what)?;
            dead = Some(what);
        } else if let Some(slot) = self.nodes.get_mut(&node)
            && dead.is_some()
        {
            slot.halts = 0;
        }
        if let Some(why) = dead {
            if let Some(trace) = &mut self.trace {
                trace.push(format!("{:>12} {node} died: {why}", ""));
            }
            self.kill(node, halts.then_some(HALT_NANOS));
            return Ok(());
        }
        for (key, stored) in stored {
            let delay = self.draw(For::Disk, node).between(20_000, self.plan.sync_max);
            self.push(delay, Event::Stored { node, life: life_number, key, stored });
        }
        self.do_work(node, life_number, work);
        if let Some(life) = self.nodes[&node].life.as_ref()
            && let Some(trace) = &mut self.trace
        {
            let status = self.system.status(&life.app, &life.host);
            if !status.is_empty() {
                trace.push(format!("{:>12} {node} {status}", ""));
            }
        }
        let life = self.nodes[&node].life.as_ref();
        if let Some(life) = life
            && let Err(what) = self.system.check(node, &life.app, &life.host)
            && self.choices.limits().ends(&what)
        {
            return Err(self.violation(node, what));
        }
        self.reschedule(node);
        self.strike_armed(node, spoke);
        if let Some(slot) = self.nodes.get_mut(&node)
            && slot.slow.0 > self.now
        {
            slot.paused_until = slot.paused_until.max(self.now + slot.slow.1);
        }
        Ok(())
    }

    /// What machines have handed over is done, sooner or, now and then before the calm, much later.
    fn do_work(&mut self, node: NodeId, life: u64, work: Vec<(Key, Work)>) {
        for (key, work) in work {
            let mut rng = self.draw(For::Disk, node);
            let is_long = rng.below(32) == 0 && self.chaos;
            let most = if is_long { WORK_NANOS_MAX } else { self.plan.sync_max / 4 };
            let delay = rng.between(1_000, most);
            let worked = work.run(); // when makes no difference to what it comes to
            self.push(delay, Event::Worked { node, life, key, worked });
        }
    }

    /// A node has stopped itself. Where nobody minds, somebody starts it again; but what it does in
    /// one life after the other is no way to live.
    fn judge_halt(&mut self, node: NodeId, what: &str) -> Result<(), Violation> {
        let Some(slot) = self.nodes.get_mut(&node) else { return Ok(()) };
        slot.halts += 1;
        let again = format!("law 3: a node stops itself again and again: {what}");
        let is_again = slot.halts >= HALTS_MAX;
        let limits = self.choices.limits();
        if limits.ends(what) {
            Err(self.violation(node, what.to_owned()))
        } else if is_again && limits.ends(&again) {
            Err(self.violation(node, again))
        } else {
            Ok(())
        }
    }

    /// One frame and all that becomes of it.
    fn send(&mut self, from: Peer, to: NodeId, class: Class, frame: &Frame) {
        let (now, link) = (self.now, (from.node, to));
        self.remember(from, to, class, frame);
        let number = self.frames;
        self.frames += 1;
        let chaos = self.chaos;
        let mut dice = Dice::new(&self.draw(For::Net, NodeId(from.node.0 << 8 | to.0)));
        let Self { net, counts, choices, .. } = self;
        let count = |fault| *counts.faults.entry(fault).or_default() += 1;
        let happens = |fault| !chaos || choices.happens(Choice::Frame(fault), number);
        let what = (class, frame.flat_len());
        let copies = net.routes(now, link, what, &mut dice, happens, count);
        for delay in copies.as_slice() {
            let frame = frame.clone();
            self.push(*delay, Event::Deliver { to, from, class, frame, sent: now });
        }
        let dice = &mut dice.garbage;
        if dice.chance_ppm(self.net.garbage_ppm) {
            let delay = dice.between(self.net.delay_min, self.net.delay_max);
            let frame = mangle(frame, dice);
            if self.choices.happens(Choice::Frame(Fault::Garbage), number) {
                self.push(delay, Event::Garbage { to, from, frame });
            }
        }
    }

    pub(super) fn reschedule(&mut self, node: NodeId) {
        let now = self.now;
        let Some(slot) = self.nodes.get_mut(&node) else { return };
        let life_number = slot.incarnation;
        let Some(life) = &mut slot.life else { return };
        let at = life.deadline().map(|deadline| slot.clock.true_time(deadline).max(now));
        let Some(at) = at else { return };
        // An earlier event that is on its way will look again: deadlines nearly always move on.
        if life.timer_at.is_none_or(|known| at < known) {
            life.timer_at = Some(at);
            self.push(at - now, Event::Timer { node, life: life_number, at });
        }
    }
}
