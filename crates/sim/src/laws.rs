//! The laws of `quorate-transport`, tested on any machine with inputs that make little sense.
//!
//! A subject supplies messages, requests and store answers, the more absurd the better; the kit
//! supplies time, durability, links, checkpoints and crashes, and watches the laws.

use std::collections::BTreeSet;

use quorate_transport::{
    Cell, Halt, Incarnation, Input, LinkState, Machine, NodeId, Peer, RequestRange, Rng, Sink,
    Start, StoreOp, Stored, Ticket, Time, Work,
};

/// Says how what was sent contradicts a machine that has replayed what a crash left.
pub type Contradiction<M> = dyn Fn(&M, &[Sent<M>]) -> Result<(), String>;

/// What was sent, and to whom.
pub type Sent<M> = (NodeId, <M as Machine>::Message);

/// A machine under test, as one node among peers numbered 2 to 5.
pub struct Subject<'a, M: Machine> {
    /// Makes a node that remembers nothing.
    pub make: &'a dyn Fn(Start) -> M,
    /// Some message.
    pub message: &'a dyn Fn(&mut Rng) -> M::Message,
    /// Some request.
    pub request: &'a dyn Fn(&mut Rng) -> M::Request,
    /// Some answer of the snapshot store, to what was asked of it last or to nothing.
    pub stored: &'a dyn Fn(&mut Rng, Option<&StoreOp>) -> Option<Stored>,
    /// Law 3: what was sent may not be contradicted by what a crash left.
    pub contradiction: &'a Contradiction<M>,
    /// Effects of one input at the most.
    pub effects_max: usize,
}

struct Hands<M: Machine> {
    journal: Vec<(Ticket, M::Record)>,
    sent: Vec<(NodeId, M::Message)>,
    asked: Option<StoreOp>,
    work: Vec<Work>,
    answered: BTreeSet<u64>,
    log: String,
    effects: usize,
    halted: bool,
    twice: Option<u64>,
}

impl<M: Machine> Hands<M> {
    fn new() -> Self {
        Self {
            journal: Vec::new(),
            sent: Vec::new(),
            asked: None,
            work: Vec::new(),
            answered: BTreeSet::new(),
            log: String::new(),
            effects: 0,
            halted: false,
            twice: None,
        }
    }

    fn note(&mut self, what: String) {
        self.effects += 1;
        self.log.push_str(&what);
        self.log.push('\n');
    }
}

impl<M: Machine> Sink<M> for Hands<M> {
    fn persist(&mut self, ticket: Ticket, record: M::Record) {
        self.note(format!("persist {ticket} {record:?}"));
        self.journal.push((ticket, record));
    }
    fn send(&mut self, to: NodeId, message: M::Message) {
        self.note(format!("send {to} {message:?}"));
        self.sent.push((to, message));
    }
    fn emit(&mut self, event: M::Event) {
        self.note(format!("emit {event:?}"));
    }
    fn answer(&mut self, ids: RequestRange, reply: M::Reply) {
        self.note(format!("answer {ids:?} {reply:?}"));
        for id in ids.iter() {
            if !self.answered.insert(id.0) {
                self.twice = Some(id.0);
            }
        }
    }
    fn release(&mut self, upto: Ticket) {
        self.note(format!("release {upto}"));
    }
    fn store(&mut self, op: StoreOp) {
        self.note(format!("store {op:?}"));
        self.asked = Some(op);
    }
    fn work(&mut self, work: Work) {
        self.note("work".to_owned());
        self.work.push(work);
    }
    fn halt(&mut self, halt: &Halt) {
        self.note(format!("halt {halt}"));
        self.halted = true;
    }
}

/// One run: everything that happened to one life after another.
struct Run<'a, M: Machine> {
    subject: &'a Subject<'a, M>,
    rng: Rng,
    now: Time,
    incarnation: u64,
    cell: Cell<M>,
    hands: Hands<M>,
    /// What the world knows: sent in any life.
    sent: Vec<(NodeId, M::Message)>,
}

/// Runs `steps` inputs of one seed twice.
///
/// # Errors
/// The law that is broken, and how.
pub fn check<M: Machine>(subject: &Subject<'_, M>, seed: u64, steps: usize) -> Result<(), String> {
    let mut one = Run::new(subject, seed);
    let mut two = Run::new(subject, seed);
    for step in 0..steps {
        let broken = |what: String| format!("seed {seed}, step {step}: {what}");
        one.step().map_err(broken)?;
        two.step().map_err(broken)?;
        if one.hands.log != two.hands.log {
            let (one, two) = (&one.hands.log, &two.hands.log);
            return Err(broken(format!("law 2: same inputs, other effects:\n{one}--\n{two}")));
        }
        one.hands.log.clear();
        two.hands.log.clear();
    }
    Ok(())
}

impl<'a, M: Machine> Run<'a, M> {
    fn new(subject: &'a Subject<'a, M>, seed: u64) -> Self {
        let start = Start { node: NodeId(1), incarnation: Incarnation(1), seed, now: Time::ZERO };
        let mut run = Self {
            subject,
            rng: Rng::new(seed).fork(9),
            now: Time::ZERO,
            incarnation: 1,
            cell: Cell::new((subject.make)(start)),
            hands: Hands::new(),
            sent: Vec::new(),
        };
        run.cell.handle(Time::ZERO, Input::Started, &mut run.hands);
        run
    }

    fn step(&mut self) -> Result<(), String> {
        self.hands.effects = 0;
        let (now, hands) = (self.now, &mut self.hands);
        match self.rng.below(100) {
            0..40 => {
                let node = NodeId(self.rng.between(1, 6));
                let from = Peer { node, incarnation: Incarnation(self.rng.below(4)) };
                let message = (self.subject.message)(&mut self.rng);
                self.cell.handle(now, Input::Message { from, message }, hands);
            }
            40..55 => {
                let request = (self.subject.request)(&mut self.rng);
                self.cell.request(now, request, hands);
            }
            55..70 => self.timer()?,
            70..80 => {
                let last = hands.journal.last().map(|(ticket, _)| *ticket);
                if let Some(last) = last {
                    self.cell.durable(now, last, hands);
                }
            }
            80..85 => {
                let state = [LinkState::Up, LinkState::Down, LinkState::Full];
                let state = state[self.rng.below(3) as usize];
                let peer = NodeId(self.rng.between(1, 6));
                self.cell.handle(now, Input::Link { peer, state }, hands);
            }
            85..90 => {
                let asked = hands.asked.take();
                if let Some(stored) = (self.subject.stored)(&mut self.rng, asked.as_ref()) {
                    self.cell.handle(now, Input::Stored(stored), hands);
                }
            }
            90 | 91 => {
                // In any order.
                let at = self.rng.below(hands.work.len().max(1) as u64) as usize;
                if at < hands.work.len() {
                    let worked = hands.work.swap_remove(at).run();
                    self.cell.handle(now, Input::Worked(worked), hands);
                }
            }
            92 => {
                let before = Ticket(self.rng.below(self.cell.last().0 + 2));
                self.cell.handle(now, Input::Checkpoint { before }, hands);
            }
            93..97 => self.now = now + core::time::Duration::from_millis(self.rng.below(50)),
            _ => return self.crash(),
        }
        if self.rng.below(3) > 0 {
            self.cell.settle(self.now, &mut self.hands);
        }
        self.watch()
    }

    /// Law 1.
    fn timer(&mut self) -> Result<(), String> {
        let Some(deadline) = self.cell.deadline() else { return Ok(()) };
        if self.now < deadline {
            self.cell.settle(self.now, &mut self.hands); // what was due anyway is out of the way
            let deadline = self.cell.deadline();
            if deadline.is_none_or(|deadline| deadline <= self.now) {
                return Ok(());
            }
            let before = self.hands.effects;
            self.cell.handle(self.now, Input::Timer, &mut self.hands);
            if self.hands.effects != before || self.cell.deadline() != deadline {
                return Err("law 1: an early timer did something".into());
            }
        }
        let Some(deadline) = self.cell.deadline() else { return Ok(()) };
        self.now = self.now.max(deadline);
        self.cell.handle(self.now, Input::Timer, &mut self.hands);
        match self.cell.deadline() {
            Some(next) if next <= self.now => Err("law 1: a due timer left its deadline".into()),
            _ => Ok(()),
        }
    }

    /// Law 3: whatever part of what was not synced is lost.
    fn crash(&mut self) -> Result<(), String> {
        self.sent.append(&mut self.hands.sent);
        let durable = self.cell.durable_upto();
        let journal = std::mem::take(&mut self.hands.journal);
        let sure = journal.iter().filter(|(ticket, _)| *ticket <= durable).count();
        let kept = self.rng.between(sure as u64, journal.len() as u64) as usize;
        self.incarnation += 1;
        let start = Start {
            node: NodeId(1),
            incarnation: Incarnation(self.incarnation),
            seed: self.rng.next_u64(),
            now: self.now,
        };
        let mut cell = Cell::new((self.subject.make)(start));
        for (ticket, record) in &journal[..kept] {
            let replayed = cell.replay(*ticket, record.clone());
            replayed.map_err(|error| format!("law 3: record {ticket} is refused: {error}"))?;
        }
        (self.subject.contradiction)(cell.machine(), &self.sent)
            .map_err(|what| format!("law 3: {what}"))?;
        let log = std::mem::take(&mut self.hands.log);
        self.hands = Hands { journal: journal[..kept].to_vec(), log, ..Hands::new() };
        self.cell = cell;
        self.cell.handle(self.now, Input::Started, &mut self.hands);
        Ok(())
    }

    fn watch(&mut self) -> Result<(), String> {
        if let Some(id) = self.hands.twice {
            return Err(format!("law 8: request {id} was answered twice"));
        }
        if self.hands.effects > self.subject.effects_max {
            return Err(format!("law 4: {} effects of one input", self.hands.effects));
        }
        if self.hands.halted {
            // A halt is a legal answer to nonsense; the next life goes on.
            return self.crash();
        }
        Ok(())
    }
}
