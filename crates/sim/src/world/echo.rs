//! Frames of the past that come again: a new leader hears what was said to it in older terms, a
//! node that has just started what was said to its former life.

use std::collections::VecDeque;

use quorate_transport::{Class, Frame, NodeId, Peer};

use super::{Event, System, World};
use crate::limits::Choice;
use crate::nemesis::Fault;

/// So many frames are kept of the time since the leader changed, and so many of the time before.
const LATELY: usize = 48;
const BEFORE: usize = 192;

/// A frame that was sent to a node, whether it arrived or not.
pub(super) struct Heard {
    from: Peer,
    class: Class,
    frame: Frame,
}

/// What was sent to one node.
#[derive(Default)]
pub(crate) struct Memory {
    lately: VecDeque<Heard>,
    before: VecDeque<Heard>,
}

impl Memory {
    fn note(&mut self, heard: Heard) {
        if self.lately.len() == LATELY {
            self.lately.pop_front();
        }
        self.lately.push_back(heard);
    }

    /// Another leads: what was heard belongs to the past.
    fn turn(&mut self) {
        self.before.append(&mut self.lately);
        self.before.drain(..self.before.len().saturating_sub(BEFORE));
    }
}

impl<S: System> World<S> {
    fn is_on(&self, fault: Fault) -> bool {
        self.chaos && self.plan.kinds.iter().any(|(kind, _)| *kind == fault)
    }

    pub(super) fn remember(&mut self, from: Peer, to: NodeId, class: Class, frame: &Frame) {
        let on = [Fault::Echo, Fault::Contest, Fault::TakeTurns].map(|kind| self.is_on(kind));
        if on.contains(&true)
            && let Some(slot) = self.nodes.get_mut(&to)
        {
            slot.memory.note(Heard { from, class, frame: frame.clone() });
        }
    }

    pub(super) fn turn_memories(&mut self) {
        self.nodes.values_mut().for_each(|slot| slot.memory.turn());
    }

    /// The leader, or another, hears the past again; most often it hears nothing else then.
    pub(super) fn echo(&mut self, node: NodeId) {
        let mut rng = self.dice(Fault::Echo);
        let node = self.system.leader().filter(|_| rng.below(4) > 0).unwrap_or(node);
        if rng.below(4) > 0 {
            let rest: Vec<_> = self.ids().into_iter().filter(|id| *id != node).collect();
            self.net.split(&[node], &rest);
        }
        let within = [1_000_000, 20_000_000, 300_000_000][rng.below(3) as usize];
        self.repeat(node, within, true);
    }

    /// A life begins: often its first words are those that its predecessor heard last.
    pub(super) fn echo_to_newborn(&mut self, node: NodeId) {
        let masked = self.plan.masked.contains(&Fault::Echo);
        let wavers = self.waverer.is_some_and(|(waverer, _)| waverer == node);
        let draws = self.is_on(Fault::Echo) && self.dice(Fault::Echo).below(2) == 0;
        if (draws || wavers) && self.chaos && !masked {
            let number = self.frames;
            self.frames += 1;
            if self.choices.happens(Choice::Frame(Fault::Echo), number) {
                self.count(Fault::Echo);
                self.repeat(node, 1_000_000, false);
            }
        }
    }

    /// A leader that is being cut off hears the past again.
    pub(super) fn hear_again(&mut self, leader: NodeId, within: u64) {
        let number = self.frames;
        self.frames += 1;
        if self.choices.happens(Choice::Frame(Fault::Echo), number) {
            self.count(Fault::Echo);
            self.repeat(leader, within, true);
        }
    }

    /// Sends again what was sent to a node, within so many nanoseconds.
    fn repeat(&mut self, node: NodeId, within: u64, all: bool) {
        let Some(slot) = self.nodes.get_mut(&node) else { return };
        let before = if all { slot.memory.before.iter() } else { Default::default() };
        let frames: Vec<_> = before
            .chain(&slot.memory.lately)
            .map(|heard| (heard.from, heard.class, heard.frame.clone()))
            .collect();
        let mut rng = self.dice(Fault::Echo);
        for (from, class, frame) in frames {
            let (delay, sent) = (rng.below(within), self.now);
            self.push(delay, Event::Deliver { to: node, from, class, frame, sent });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_transport::Incarnation;

    #[test]
    fn a_memory_keeps_the_latest_of_each_age() {
        let mut memory = Memory::default();
        let from = |n| Peer { node: NodeId(n), incarnation: Incarnation(1) };
        for n in 0..500 {
            let frame = Frame::default();
            memory.note(Heard { from: from(n), class: Class::Urgent, frame });
            if n % 100 == 99 {
                memory.turn();
            }
        }
        assert!(memory.lately.is_empty() && memory.before.len() == BEFORE);
        let latest: Vec<_> = memory.before.iter().map(|heard| heard.from.node.0).collect();
        assert_eq!((latest[0], latest[BEFORE - 1]), (152, 499));
    }
}
