//! Every order of events within bounds: breadth-first over the real machines, by digest.
//!
//! A state is all nodes with their journals, and the messages under way. From each state every
//! message may be delivered, dropped or doubled, every timer may fire, every journal may be synced,
//! every node may crash and come back with what it had synced, and clients may ask. States of one
//! digest are one; what is found first is found by a shortest trace.

//!
//! Nodes and messages are interned, and what an input does to a node is worked out once: a state is
//! a handful of numbers, and most events are looked up.

mod group;
mod table;

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use group::{Event, Group, Packed};
use quorate_transport::{Machine, NodeId, Start};
use table::Set;

/// How far to go. Each number is for a whole run of events, not for one node.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Timers that fire.
    pub timers: u8,
    /// Messages dropped or doubled.
    pub losses: u8,
    /// Crashes.
    pub crashes: u8,
    /// Requests of clients.
    pub requests: u8,
    /// Messages under way at a time; states with more are not followed.
    pub messages_max: usize,
    /// States to visit at the most; reaching it means that the search is not complete.
    pub states_max: usize,
}

/// What is explored.
pub struct Model<'a, M: Machine> {
    /// How many nodes, numbered from 1.
    pub nodes: u64,
    /// Makes a node that remembers nothing.
    pub make: &'a dyn Fn(Start) -> M,
    /// What a client might ask a node in this state.
    pub request: &'a dyn Fn(&M) -> Option<M::Request>,
    /// False for states that need not be followed further.
    pub within: &'a dyn Fn(&M) -> bool,
    /// Which records survive a crash: all, unless a bug is planted.
    pub keeps: &'a dyn Fn(&M::Record) -> bool,
    /// What has happened before the search begins; nothing where `None`.
    pub prelude: Option<Prelude<'a, M>>,
}

/// A calm beginning: one timer fires, and what follows is delivered and synced in order.
pub struct Prelude<'a, M: Machine> {
    /// Whose timer.
    pub timer_of: NodeId,
    /// Nothing reaches this node.
    pub cut_off: Option<NodeId>,
    /// It ends when a machine is so, or when nothing is left to do.
    pub until: &'a dyn Fn(&M) -> bool,
}

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Different states seen.
    pub states: usize,
    /// Events tried.
    pub events: u64,
    /// The longest shortest way to a state.
    pub depth: u32,
    /// True when every state within the bounds was seen.
    pub complete: bool,
    /// What is wrong, and the shortest way there.
    pub violation: Option<(String, Vec<String>)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, events, depth, complete, violation } = self;
        let how = if *complete { "complete" } else { "NOT complete" };
        write!(f, "{states} states, {events} events, depth {depth}, {how}")?;
        if let Some((what, trace)) = violation {
            write!(f, "\n{what}")?;
            trace.iter().try_for_each(|line| write!(f, "\n  {line}"))?;
        }
        Ok(())
    }
}

/// One state of the whole group, for a checker.
pub struct State<M: Machine> {
    machines: Vec<Rc<group::Node<M>>>,
    /// What the checker remembers of the way here; part of the state.
    pub ghost: Vec<(u64, u64)>,
}

impl<M: Machine> State<M> {
    /// Each node's machine.
    pub fn machines(&self) -> impl Iterator<Item = &M> {
        self.machines.iter().map(|node| node.machine())
    }
}

/// Searches all states within the bounds. `check` may note what it must remember in the ghost.
///
/// # Panics
/// A machine cannot replay what it has persisted.
pub fn explore<M: Machine>(
    model: &Model<'_, M>,
    bounds: Bounds,
    check: &dyn Fn(&mut State<M>) -> Result<(), String>,
) -> Report {
    let mut group = Group::new(model);
    let first = group.first(bounds);
    let mut seen = Set::new();
    let mut ways: Vec<(u32, Event)> = vec![(0, Event::START)];
    let mut queue = VecDeque::from([(0u32, 0u32, first.clone())]);
    seen.insert(first.digest());
    let mut report = Report { states: 0, events: 0, depth: 0, complete: true, violation: None };
    while let Some((number, depth, state)) = queue.pop_front() {
        for event in group.events(&state) {
            let Some((wrong, mut next)) = group.apply(&state, event) else { continue };
            report.events += 1;
            let wrong = wrong.or_else(|| group.check(&mut next, check).err());
            if wrong.is_none() && !seen.insert(next.digest()) {
                continue;
            }
            report.depth = report.depth.max(depth + 1);
            report.states = seen.len();
            ways.push((number, event));
            if let Some(what) = wrong {
                report.violation = Some((what, story(&mut group, first, &ways)));
                report.complete = false;
                return report;
            }
            if seen.len() >= bounds.states_max {
                report.complete = false;
                return report;
            }
            if group.is_within(&next, bounds) {
                queue.push_back((ways.len() as u32 - 1, depth + 1, next));
            }
        }
    }
    report.states = seen.len();
    report
}

/// The way to the last state, in words: all of it happens again.
fn story<M: Machine>(
    group: &mut Group<'_, '_, M>,
    first: Packed,
    ways: &[(u32, Event)],
) -> Vec<String> {
    let mut events = Vec::new();
    let mut at = ways.len() - 1;
    while at != 0 {
        events.push(ways[at].1);
        at = ways[at].0 as usize;
    }
    let mut state = first;
    let mut lines = Vec::new();
    for event in events.into_iter().rev() {
        lines.push(group.name(&state, event));
        if let Some((_, next)) = group.apply(&state, event) {
            state = next;
        }
    }
    lines
}
