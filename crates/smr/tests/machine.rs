//! One replica by hand: what must hold without a cluster around it.

use std::time::Duration;

use bytes::Bytes;
use quorate_raft::Message;
use quorate_smr::{
    Config, Freshness, Outputs, Pieces, Rejection, Reply, Request, RestoreError, Smr, StateMachine,
};
use quorate_transport::{
    Cell, Halt, Incarnation, Input, Machine, NodeId, Peer, RequestRange, Sink, Start, StoreOp,
    Ticket, Time,
};

#[derive(Clone)]
struct Nothing;

impl StateMachine for Nothing {
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        commands.for_each(|_| outputs.push(&[]));
    }
    fn query(&self, query: &[u8]) -> Bytes {
        Bytes::copy_from_slice(query)
    }
    fn snapshot(&self) -> Pieces {
        Pieces::new([])
    }
    fn restore(&mut self, _: &[u8]) -> Result<(), RestoreError> {
        Ok(())
    }
}

#[derive(Default)]
struct World {
    sent: Vec<(NodeId, Message)>,
    answers: Vec<Reply>,
}

impl Sink<Smr<Nothing>> for World {
    fn persist(&mut self, _: Ticket, _: quorate_raft::Record) {}
    fn send(&mut self, to: NodeId, message: quorate_smr::Message) {
        if let quorate_smr::Message::Raft(message) = message {
            self.sent.push((to, message));
        }
    }
    fn emit(&mut self, _: quorate_smr::Event) {}
    fn answer(&mut self, _: RequestRange, reply: Reply) {
        self.answers.push(reply);
    }
    fn release(&mut self, _: Ticket) {}
    fn store(&mut self, _: StoreOp) {}
    fn halt(&mut self, halt: &Halt) {
        panic!("{halt}");
    }
}

/// Node 1 of three, with voters 2 and 3 played by the test.
struct One {
    cell: Cell<Smr<Nothing>>,
    world: World,
    now: Time,
}

impl One {
    fn new(queries_max: usize) -> Self {
        let start =
            Start { node: NodeId(1), incarnation: Incarnation(1), seed: 1, now: Time::ZERO };
        let mut config = Config::new([1, 2, 3].map(NodeId), Nothing);
        config.queries_max = queries_max;
        let cell = Cell::new(Smr::new(start, config).unwrap());
        let mut one = Self { cell, world: World::default(), now: Time::ZERO };
        one.feed(Input::Started);
        one
    }

    fn feed(&mut self, input: Input<Smr<Nothing>>) {
        self.cell.handle(self.now, input, &mut self.world);
        self.cell.settle(self.now, &mut self.world);
        let last = self.cell.last();
        self.cell.durable(self.now, last, &mut self.world);
        self.cell.settle(self.now, &mut self.world);
    }

    fn hear(&mut self, from: u64, message: Message) {
        let from = Peer { node: NodeId(from), incarnation: Incarnation(1) };
        self.feed(Input::Message { from, message: message.into() });
    }

    fn ask(&mut self, freshness: Freshness) {
        let request = Request::Query { query: Bytes::from_static(b"?"), freshness };
        self.cell.request(self.now, request, &mut self.world);
    }

    fn is_fresh(&mut self, millis: u64) -> bool {
        self.ask(Freshness::Within(Duration::from_millis(millis)));
        match self.world.answers.pop() {
            Some(Reply::Answer { .. }) => true,
            Some(Reply::Rejected(Rejection::NotFresh)) => false,
            other => panic!("{other:?}"),
        }
    }

    /// Elected by node 2, with everything it wrote acknowledged.
    fn lead(&mut self) {
        self.now = self.cell.deadline().unwrap();
        self.feed(Input::Timer);
        for _ in 0..4 {
            for (to, message) in std::mem::take(&mut self.world.sent) {
                let reply = match message {
                    Message::PreVote { term, .. } => {
                        Message::PreVoteReply { term, granted: true, ahead: false }
                    }
                    Message::Vote { term, .. } => Message::VoteReply { term, granted: true },
                    Message::Append { term, .. } => {
                        let matched = self.cell.machine().status().raft.last;
                        Message::Appended { term, matched }
                    }
                    _ => continue,
                };
                if to == NodeId(2) {
                    self.hear(2, reply);
                }
            }
        }
        let status = self.cell.machine().status();
        assert!(self.cell.machine().raft().is_leader() && status.applied == status.raft.last);
    }
}

#[test]
fn a_leader_that_hears_no_majority_soon_answers_no_bounded_stale_query() {
    let mut one = One::new(10);
    assert!(!one.is_fresh(1000), "nobody leads yet");
    one.lead();
    assert!(one.is_fresh(100));
    one.now = one.now + Duration::from_millis(101);
    assert!(one.cell.machine().raft().is_leader(), "in its own eyes");
    assert!(!one.is_fresh(100));
    let term = one.cell.machine().status().raft.term;
    one.hear(9, Message::HeartbeatReply { term, round: 0 });
    assert!(!one.is_fresh(100), "a stranger is no voter");
    one.hear(3, Message::HeartbeatReply { term, round: 0 });
    assert!(one.is_fresh(100));
}

#[test]
fn a_follower_answers_bounded_stale_queries_while_it_hears_its_leader() {
    let mut one = One::new(10);
    let heartbeat = |term| Message::Heartbeat {
        term: quorate_raft::Term(term),
        commit: quorate_raft::Index::ZERO,
        round: 1,
    };
    one.hear(2, heartbeat(5));
    assert!(one.is_fresh(0));
    one.now = one.now + Duration::from_millis(50);
    one.hear(3, heartbeat(4));
    assert!(!one.is_fresh(49), "a leader of a former term does not count");
    assert!(one.is_fresh(50));
}

#[test]
fn linearizable_queries_are_capped_before_their_index_is_known() {
    let mut one = One::new(2);
    one.lead();
    (0..3).for_each(|_| one.ask(Freshness::Linearizable));
    assert_eq!(one.world.answers, [Reply::Rejected(Rejection::Busy)]);
}
