//! One definite answer a proposal, whatever becomes of the leader that took it in.

use quorate_raft::{Config, Event, Index, Message, Proposals, Raft, Record, Reply, Request, Term};
use quorate_transport::{
    Cell, Halt, Incarnation, Input, Machine, NodeId, Peer, RequestId, RequestRange, Sink, Start,
    StoreOp, Ticket, Time,
};

#[derive(Default)]
struct Hands {
    last: Ticket,
    sent: Vec<(NodeId, Message)>,
    answers: Vec<(RequestRange, Reply)>,
}

impl Sink<Raft> for Hands {
    fn persist(&mut self, ticket: Ticket, _: Record) {
        self.last = ticket;
    }
    fn send(&mut self, to: NodeId, message: Message) {
        self.sent.push((to, message));
    }
    fn emit(&mut self, _: Event) {}
    fn answer(&mut self, ids: RequestRange, reply: Reply) {
        self.answers.push((ids, reply));
    }
    fn release(&mut self, _: Ticket) {}
    fn store(&mut self, _: StoreOp) {}
    fn halt(&mut self, halt: &Halt) {
        panic!("{halt}");
    }
}

/// One node whose disk is instant and whose peers are the test.
struct Node {
    cell: Cell<Raft>,
    hands: Hands,
    now: Time,
}

impl Node {
    fn new(id: u64) -> Self {
        let now = Time::ZERO;
        let start = Start { node: NodeId(id), incarnation: Incarnation(1), seed: id, now };
        let raft = Raft::new(start, Config::new((1..=3).map(NodeId))).unwrap();
        let mut node = Self { cell: Cell::new(raft), hands: Hands::default(), now };
        node.cell.handle(now, Input::Started, &mut node.hands);
        node
    }

    fn hear(&mut self, from: u64, message: Message) {
        let from = Peer { node: NodeId(from), incarnation: Incarnation(1) };
        self.cell.handle(self.now, Input::Message { from, message }, &mut self.hands);
        self.sync();
    }

    fn sync(&mut self) {
        self.cell.settle(self.now, &mut self.hands);
        let last = self.hands.last;
        self.cell.durable(self.now, last, &mut self.hands);
        self.cell.settle(self.now, &mut self.hands);
    }

    /// Times out, and gets the vote of `voter`.
    fn win(&mut self, voter: u64) {
        self.now = self.cell.deadline().expect("a follower has one");
        self.cell.handle(self.now, Input::Timer, &mut self.hands);
        let term = Term(self.cell.machine().term().0 + 1);
        self.hear(voter, Message::PreVoteReply { term, granted: true, ahead: false });
        self.hear(voter, Message::VoteReply { term, granted: true });
        assert!(self.cell.machine().is_leader());
    }

    fn propose(&mut self, command: &[u8]) -> RequestId {
        let request = Request::Propose(Proposals::one(command));
        let id = self.cell.request(self.now, request, &mut self.hands);
        self.sync();
        id
    }

    fn answer(&self, id: RequestId) -> Option<&Reply> {
        let holds = |ids: &RequestRange| ids.iter().any(|held| held == id);
        self.hands.answers.iter().find(|(ids, _)| holds(ids)).map(|(_, reply)| reply)
    }
}

/// Node 1 led term 1 and took two proposals in; node 3 led term 2 and cut them off; node 1 leads
/// term 3.
fn led_twice() -> (Node, [RequestId; 2]) {
    let (mut one, mut three) = (Node::new(1), Node::new(3));
    one.win(2);
    let early = [one.propose(b"first"), one.propose(b"second")];
    three.hear(2, Message::Heartbeat { term: Term(1), commit: Index(0), round: 0 });
    three.win(2);
    let append = three.hands.sent.iter().find_map(|(to, message)| {
        let append = *to == NodeId(1) && matches!(message, Message::Append { .. });
        append.then(|| message.clone())
    });
    one.hear(3, append.expect("a new leader sends its first entry"));
    one.win(2);
    (one, early)
}

#[test]
fn a_proposal_that_was_cut_off_is_not_refused_for_good_while_others_may_hold_it() {
    let (mut one, early) = led_twice();
    one.hear(3, Message::Heartbeat { term: Term(9), commit: Index(0), round: 0 });
    assert!(!one.cell.machine().is_leader());
    for id in early {
        assert_eq!(one.answer(id), None, "another node may still commit it");
    }
}

#[test]
fn newer_proposals_are_answered_though_older_ones_wait_for_their_fate() {
    let (mut one, early) = led_twice();
    let late = one.propose(b"late");
    let (term, matched) = (Term(3), Index(3));
    one.hear(2, Message::Appended { term, matched });
    assert_eq!(one.answer(late), Some(&Reply::Committed { first: Index(3), term }));
    // Both early ones are decided by now: other entries hold their places.
    for id in early {
        assert!(matches!(one.answer(id), Some(Reply::Rejected(_))), "{:?}", one.answer(id));
    }
}
