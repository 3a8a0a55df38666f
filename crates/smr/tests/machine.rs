//! One replica by hand: what must hold without a cluster around it.

use std::time::Duration;

use bytes::Bytes;
use quorate_raft::{Batch, Index, Message, View, Views};
use quorate_smr::{
    Config, Freshness, Outputs, Pieces, Rejection, Reply, Request, RestoreError, Smr, StateMachine,
};
use quorate_transport::{
    Attachment, Cell, Halt, Incarnation, Input, Machine, NodeId, Peer, RequestRange, Sink, Start,
    StoreOp, Ticket, Time,
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
        Self::with(|config| config.queries_max = queries_max)
    }

    fn with(change: impl Fn(&mut Config<Nothing>)) -> Self {
        let start =
            Start { node: NodeId(1), incarnation: Incarnation(1), seed: 1, now: Time::ZERO };
        let mut config = Config::new([1, 2, 3].map(NodeId), Nothing);
        change(&mut config);
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

    /// Asks for an answer that is no staler than this; whether there is one at once.
    fn is_fresh(&mut self, millis: u64) -> bool {
        self.ask(Freshness::Within(Duration::from_millis(millis)));
        self.cell.settle(self.now, &mut self.world);
        self.is_answered()
    }

    fn is_answered(&mut self) -> bool {
        match self.world.answers.pop() {
            Some(Reply::Answer { .. }) => true,
            None => false,
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
fn a_leader_answers_a_query_once_a_majority_has_heard_it_since() {
    let mut one = One::new(10);
    one.ask(Freshness::Within(Duration::from_secs(1)));
    let nobody = Reply::Rejected(Rejection::NotLeader { leader: None });
    assert_eq!(one.world.answers.pop(), Some(nobody), "nobody leads yet");
    one.lead();
    assert!(!one.is_fresh(100));
    let term = one.cell.machine().status().raft.term;
    one.hear(9, Message::HeartbeatReply { term, round: 1 });
    assert!(!one.is_answered(), "a stranger is no voter");
    one.hear(3, Message::HeartbeatReply { term, round: 0 });
    assert!(!one.is_answered(), "that was before");
    one.hear(3, Message::HeartbeatReply { term, round: 1 });
    assert!(one.is_answered());
}

#[test]
fn a_follower_asks_its_leader_and_what_it_is_told_serves_for_a_while() {
    let mut one = One::new(10);
    let term = quorate_raft::Term(5);
    one.hear(2, Message::Heartbeat { term, commit: Index::ZERO, round: 1 });
    one.world.sent.clear();
    assert!(!one.is_fresh(50), "nothing is known yet");
    let asked = |one: &mut One| {
        let number = |(to, message)| match message {
            Message::Read { number, .. } if to == NodeId(2) => Some(number),
            _ => None,
        };
        std::mem::take(&mut one.world.sent).into_iter().find_map(number)
    };
    let number = asked(&mut one).expect("its leader is asked");
    one.hear(2, Message::ReadReply { term, number, index: Some(Index::ZERO) });
    assert!(one.is_answered());
    one.now = one.now + Duration::from_millis(50);
    assert!(one.is_fresh(50), "asked so long ago");
    assert_eq!(asked(&mut one), None);
    assert!(!one.is_fresh(49));
    assert!(asked(&mut one).is_some());
}

#[test]
fn a_query_is_refused_when_its_replica_has_left_before_it_had_what_to_answer_from() {
    // Found by seed 704: it waited for an entry that nobody was to send any more.
    let mut one = One::new(1);
    let term = quorate_raft::Term(5);
    one.hear(2, Message::Heartbeat { term, commit: Index::ZERO, round: 1 });
    one.ask(Freshness::Linearizable);
    one.cell.settle(one.now, &mut one.world);
    let number = one.world.sent.iter().find_map(|(_, message)| match message {
        Message::Read { number, .. } => Some(*number),
        _ => None,
    });
    let number = number.expect("its leader is asked");
    one.hear(2, Message::ReadReply { term, number, index: Some(Index(7)) });
    assert!(!one.is_answered(), "entry 7 is not here");
    one.now = one.cell.deadline().unwrap();
    one.feed(Input::Timer);
    assert!(!one.is_answered(), "another leader may send it");
    one.hear(3, Message::Removed { term, commit: Index(9), commit_term: term });
    let nobody = Reply::Rejected(Rejection::NotLeader { leader: None });
    assert_eq!(one.world.answers.pop(), Some(nobody));
    one.hear(2, Message::Heartbeat { term, commit: Index::ZERO, round: 2 });
    one.ask(Freshness::Linearizable);
    assert_eq!(one.world.answers, [], "there is room for the next");
}

#[test]
fn linearizable_queries_are_capped_before_their_index_is_known() {
    let mut one = One::new(2);
    one.lead();
    (0..3).for_each(|_| one.ask(Freshness::Linearizable));
    assert_eq!(one.world.answers, [Reply::Rejected(Rejection::Busy)]);
}

/// What a leader would send: so many commands of a byte, from index 1.
fn commands(count: u32) -> View {
    let mut bytes = Vec::new();
    bytes.extend([1u64, 1].iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend([count, 2 * count].iter().flat_map(|number| number.to_le_bytes()));
    bytes.extend([0; 8]);
    bytes.extend((0..count).flat_map(|_| [0, 7]));
    bytes.extend((1..=count).flat_map(|at| (2 * at).to_le_bytes()));
    Batch::decode(Attachment::new(bytes.into())).unwrap().into()
}

#[test]
fn a_replica_that_has_much_to_apply_answers_its_leader_between_two_steps() {
    // A command costs its two bytes and 16 more: ten a step.
    let mut one = One::with(|config| config.apply_step_bytes = 180);
    let term = quorate_raft::Term(1);
    let (prev, prev_term, commit) = (Index::ZERO, quorate_raft::Term::ZERO, Index(1000));
    let views = Views::One(commands(1000));
    one.hear(2, Message::Append { term, prev, prev_term, commit, views });
    let mut steps = 0;
    loop {
        let applied = one.cell.machine().status().applied;
        assert_eq!(applied, Index(10 * (steps + 1)), "a step at a time");
        if applied == commit {
            break;
        }
        one.world.sent.clear();
        one.hear(2, Message::Heartbeat { term, commit, round: steps });
        let reply = Message::HeartbeatReply { term, round: steps };
        assert_eq!(one.world.sent, [(NodeId(2), reply)], "it is not deaf");
        one.now = one.cell.deadline().unwrap();
        one.feed(Input::Timer);
        steps += 1;
    }
    assert_eq!(steps, 99);
}
