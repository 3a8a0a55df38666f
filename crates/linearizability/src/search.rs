//! The search over one partition: try, remember, take back; without recursion.

use std::collections::BTreeMap;

use quorate_transport::Time;

use super::seen::Seen;
use super::{Model, Operation};

/// How a search ended.
pub(super) enum Outcome {
    /// Every answered operation found its place.
    Legal,
    /// No order gets past the return at `stuck_at`, whatever was called after it.
    Illegal {
        /// When that operation returned.
        stuck_at: Time,
    },
    /// Too many steps.
    OutOfBudget,
}

/// Before the first event and behind the last one.
const HEAD: u32 = 0;

/// One call or return, linked into the list of those not yet dealt with.
#[derive(Clone, Copy)]
struct Node {
    operation: u32,
    /// Of a call: the node of its return, or `HEAD` where it never returned.
    /// Of a return: itself.
    mate: u32,
    prev: u32,
    next: u32,
}

/// The bits of the operations that have their place, one set for each kind.
///
/// Answered operations and open ones are numbered apart, by time of call: then all answered ones
/// below `low` are placed, those from `reach` on cannot be yet, and what lies between is a narrow
/// window even in a long history. The window alone tells one configuration from another.
#[derive(Default)]
struct Placed {
    answered: Vec<u64>,
    open: Vec<u64>,
    /// The first answered operation without a place.
    low: usize,
    /// For each answered operation: how many answered and open ones were called before it returned.
    reach: Vec<(usize, usize)>,
}

/// One operation that was given its place, to be taken back.
struct Lift {
    call: u32,
    state_before: u32,
    /// Nothing is gained by trying another operation here.
    only: bool,
}

/// The search over one partition.
pub(super) struct Search<'a, M: Model> {
    operations: &'a [&'a Operation<M>],
    nodes: Vec<Node>,
    /// The number of each operation among those of its kind.
    numbers: Vec<usize>,
    placed: Placed,
    /// Answered operations still without a place.
    waiting: usize,
    states: Vec<M::State>,
    state_ids: BTreeMap<M::State, u32>,
    seen: Seen,
    stack: Vec<Lift>,
}

impl<'a, M: Model> Search<'a, M> {
    /// Links calls and returns by time, calls first where times are equal.
    pub(super) fn new(operations: &'a [&'a Operation<M>]) -> Self {
        assert!(operations.len() < 1 << 30, "a history of 2^30 operations");
        let mut events = Vec::with_capacity(operations.len() * 2);
        for (id, operation) in (0_u32..).zip(operations) {
            events.push((operation.called, false, id));
            events.extend(operation.returned.iter().map(|(at, _)| (*at, true, id)));
        }
        events.sort_unstable();
        let mut search = Self {
            operations,
            nodes: vec![Node { operation: 0, mate: HEAD, prev: HEAD, next: HEAD }],
            numbers: vec![0; operations.len()],
            placed: Placed::default(),
            waiting: 0,
            states: vec![M::init()],
            state_ids: BTreeMap::from([(M::init(), 0)]),
            seen: Seen::new(),
            stack: Vec::new(),
        };
        search.link(&events);
        search
    }

    fn link(&mut self, events: &[(Time, bool, u32)]) {
        let mut call_nodes = vec![HEAD; self.operations.len()];
        let mut called = (0, 0);
        for (node, &(_, is_return, operation)) in (1_u32..).zip(events) {
            let mut mate = HEAD;
            if is_return {
                mate = node;
                self.nodes[call_nodes[operation as usize] as usize].mate = node;
                self.placed.reach[self.numbers[operation as usize]] = called;
            } else {
                call_nodes[operation as usize] = node;
                let answered = self.operations[operation as usize].returned.is_some();
                let number = if answered { &mut called.0 } else { &mut called.1 };
                self.numbers[operation as usize] = *number;
                *number += 1;
                if answered {
                    self.placed.reach.push((0, 0));
                }
            }
            self.nodes.push(Node { operation, mate, prev: node - 1, next: node + 1 });
        }
        let last = self.nodes.len() - 1;
        // A ring through the head; where nothing happened, the head alone.
        self.nodes[last].next = HEAD;
        self.nodes[HEAD as usize].next = u32::from(last > 0);
        self.nodes[HEAD as usize].prev = last as u32;
        self.waiting = called.0;
        self.placed.answered = vec![0; called.0.div_ceil(64)];
        self.placed.open = vec![0; called.1.div_ceil(64)];
    }

    /// Runs to the end, or until `steps_left` is used up.
    pub(super) fn run(&mut self, steps_left: &mut u64) -> Outcome {
        let mut furthest = HEAD;
        let mut state = 0;
        let mut at = self.nodes[HEAD as usize].next;
        while self.waiting > 0 {
            let node = self.nodes[at as usize];
            debug_assert_ne!(at, HEAD, "an operation without a place has its return in the list");
            if node.mate == at {
                // Nothing may be placed behind this return before its own operation is.
                furthest = furthest.max(at);
                let Some(lift) = self.take_back() else {
                    return Outcome::Illegal { stuck_at: self.return_time(furthest) };
                };
                state = lift.state_before;
                at = self.nodes[lift.call as usize].next;
                continue;
            }
            if *steps_left == 0 {
                return Outcome::OutOfBudget;
            }
            *steps_left -= 1;
            match self.place(at, state) {
                Some(after) => {
                    let only = self.is_read(at);
                    self.stack.push(Lift { call: at, state_before: state, only });
                    state = after;
                    at = self.nodes[HEAD as usize].next;
                }
                None => at = node.next,
            }
        }
        Outcome::Legal
    }

    /// Gives the operation called at `call` its place in `state`, if that is legal and new.
    fn place(&mut self, call: u32, state: u32) -> Option<u32> {
        let node = self.nodes[call as usize];
        let operation = self.operations[node.operation as usize];
        let output = operation.output();
        let after = M::step(&self.states[state as usize], &operation.op, output)?;
        let after = self.intern(after);
        // An open operation that changes nothing may as well never have happened.
        if node.mate == HEAD && after == state {
            return None;
        }
        self.lift(call);
        if self.is_read(call) {
            // It may as well happen now: in any order that has it later it can be moved here.
            debug_assert_eq!(after, state, "a read changes nothing");
            return Some(after);
        }
        let key = self.placed.configuration(after);
        if self.seen.insert(&key) {
            return Some(after);
        }
        self.unlift(call);
        None
    }

    fn is_read(&self, call: u32) -> bool {
        M::is_read(&self.operations[self.nodes[call as usize].operation as usize].op)
    }

    /// Takes back the latest choice, and what followed from it alone.
    fn take_back(&mut self) -> Option<Lift> {
        loop {
            let lift = self.stack.pop()?;
            self.unlift(lift.call);
            if !lift.only {
                return Some(lift);
            }
        }
    }

    fn intern(&mut self, state: M::State) -> u32 {
        if let Some(id) = self.state_ids.get(&state) {
            return *id;
        }
        let id = self.states.len() as u32;
        self.states.push(state.clone());
        self.state_ids.insert(state, id);
        id
    }

    fn lift(&mut self, call: u32) {
        let Node { operation, mate, .. } = self.nodes[call as usize];
        let number = self.numbers[operation as usize];
        self.unlink(call);
        if mate == HEAD {
            set(&mut self.placed.open, number);
        } else {
            self.unlink(mate);
            self.placed.place_answered(number);
            self.waiting -= 1;
        }
    }

    fn unlift(&mut self, call: u32) {
        let Node { operation, mate, .. } = self.nodes[call as usize];
        let number = self.numbers[operation as usize];
        if mate == HEAD {
            clear(&mut self.placed.open, number);
        } else {
            self.relink(mate);
            self.placed.take_back_answered(number);
            self.waiting += 1;
        }
        self.relink(call);
    }

    fn unlink(&mut self, node: u32) {
        let Node { prev, next, .. } = self.nodes[node as usize];
        self.nodes[prev as usize].next = next;
        self.nodes[next as usize].prev = prev;
    }

    /// The reverse of the latest `unlink`: the node still knows its neighbours.
    fn relink(&mut self, node: u32) {
        let Node { prev, next, .. } = self.nodes[node as usize];
        self.nodes[prev as usize].next = node;
        self.nodes[next as usize].prev = node;
    }

    fn return_time(&self, node: u32) -> Time {
        let operation = self.operations[self.nodes[node as usize].operation as usize];
        operation.returned.as_ref().map_or(operation.called, |(at, _)| *at)
    }
}

impl Placed {
    fn place_answered(&mut self, number: usize) {
        set(&mut self.answered, number);
        while self.low < self.reach.len() && is_set(&self.answered, self.low) {
            self.low += 1;
        }
    }

    fn take_back_answered(&mut self, number: usize) {
        clear(&mut self.answered, number);
        self.low = self.low.min(number);
    }

    /// What tells this configuration, with the object in `state`, from every other one.
    fn configuration(&self, state: u32) -> Vec<u64> {
        let (answered, open) = match self.reach.get(self.low) {
            Some(&(answered, open)) => (answered.div_ceil(64), open.div_ceil(64)),
            None => (self.answered.len(), self.open.len()),
        };
        let mut key = Vec::with_capacity(2 + answered.saturating_sub(self.low / 64) + open);
        key.push((self.low as u64) << 32 | u64::from(state));
        key.extend_from_slice(&self.answered[(self.low / 64).min(answered)..answered]);
        key.extend_from_slice(&self.open[..open]);
        key
    }
}

fn set(bits: &mut [u64], bit: usize) {
    bits[bit / 64] |= 1 << (bit % 64);
}

fn clear(bits: &mut [u64], bit: usize) {
    bits[bit / 64] &= !(1 << (bit % 64));
}

fn is_set(bits: &[u64], bit: usize) -> bool {
    bits[bit / 64] >> (bit % 64) & 1 == 1
}
