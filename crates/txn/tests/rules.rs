//! Rules and known pitfalls, one by one.

use bytes::Bytes;
use quorate_sim::script::{Crash, Script};
use quorate_transport::{Incarnation, Machine, NodeId, Ticket};
use quorate_txn::{
    Config, Event, Message, Rejection, Reply, Request, Standing, TwoPhaseCommit, TxnId, Vote,
};

type Stage = Script<'static, TwoPhaseCommit>;

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

fn stage_with(change: impl Fn(&mut Config) + 'static) -> Stage {
    Script::new(3, move |start| {
        let mut config = Config::new([N1, N2, N3]);
        change(&mut config);
        TwoPhaseCommit::new(start, config).expect("a valid configuration")
    })
}

fn parts(nodes: &[NodeId]) -> Vec<(NodeId, Bytes)> {
    nodes.iter().map(|node| (*node, Bytes::from_static(b"work"))).collect()
}

fn txn(incarnation: u64, counter: u64) -> TxnId {
    TxnId { node: N1, incarnation: Incarnation(incarnation), counter }
}

fn prepare(txn: TxnId, cut: u64) -> Message {
    heard_prepare(txn, cut, 1)
}

/// When it began, this life of the receiver had been heard.
fn heard_prepare(txn: TxnId, cut: u64, heard: u64) -> Message {
    let (heard, payload) = (Incarnation(heard), Bytes::from_static(b"work"));
    Message::Prepare { txn, cut, heard, peers: vec![N2, N3], payload }
}

/// Node 1 has begun one over nodes 2 and 3, both of which have been asked.
fn asked() -> (Stage, TxnId) {
    let mut stage = stage_with(|_| {});
    stage.request(N1, Request::Begin { parts: parts(&[N2, N3]) });
    stage.run();
    (stage, txn(1, 1))
}

fn vote(stage: &mut Stage, node: NodeId, txn: TxnId, vote: Vote) {
    stage.request(node, Request::Vote { txn, vote });
}

fn standing(stage: &Stage, node: NodeId, txn: TxnId) -> Option<Standing> {
    stage.node(node).held().find(|(held, _)| *held == txn).map(|(_, standing)| standing)
}

fn prepares(stage: &Stage, node: NodeId) -> usize {
    stage.events(node).iter().filter(|event| matches!(event, Event::Prepare { .. })).count()
}

#[test]
fn an_abort_that_overtakes_its_prepare_makes_it_an_echo() {
    let mut stage = stage_with(|_| {});
    stage.inject(N1, N2, Message::Abort { txn: txn(1, 1) });
    stage.inject(N1, N2, prepare(txn(1, 1), 1));
    assert_eq!(prepares(&stage, N2), 0, "nobody is asked to lock anything");
    let told = stage.wire().last().map(|flight| flight.message.clone());
    assert_eq!(told, Some(Message::Voted { txn: txn(1, 1), vote: Vote::No }));
}

#[test]
fn a_question_that_overtakes_its_prepare_settles_nothing() {
    let mut stage = stage_with(|_| {});
    stage.inject(N3, N2, Message::Inquire { txn: txn(1, 1) });
    let told = stage.wire().last().map(|flight| flight.message.clone());
    assert_eq!(told, Some(Message::Uncertain { txn: txn(1, 1) }));
    stage.inject(N1, N2, prepare(txn(1, 1), 1));
    assert_eq!(prepares(&stage, N2), 1);
}

#[test]
fn one_that_has_not_voted_refuses_for_good_when_a_peer_is_in_doubt() {
    let (mut stage, txn) = asked();
    vote(&mut stage, N3, txn, Vote::Yes);
    stage.sync(N3);
    stage.lose(|_| true);
    stage.inject(N3, N2, Message::Inquire { txn });
    assert!(stage.wire().is_empty(), "it tells nobody before that is durable");
    stage.sync(N2);
    stage.lose(|flight| flight.to == N1);
    stage.crash(N2, Crash::Power);
    stage.start(N2);
    stage.inject(N1, N2, prepare(txn, 1));
    assert_eq!(prepares(&stage, N2), 1, "it is not asked again in its next life");
    stage.run();
    assert_eq!(standing(&stage, N3, txn), Some(Standing::Aborted));
    assert_eq!(stage.node(N1).driven().count(), 0, "and the coordinator aborts");
}

#[test]
fn who_may_have_voted_read_only_in_a_former_life_frees_nobody_by_an_abort() {
    // Found by seed 1674: the first vote counts, and the transaction was committed without it.
    for second in [None, Some(Vote::Yes)] {
        let (mut stage, txn) = asked();
        vote(&mut stage, N2, txn, Vote::ReadOnly);
        stage.crash(N2, Crash::Power);
        stage.start(N2);
        stage.inject(N1, N2, prepare(txn, 1));
        assert_eq!(prepares(&stage, N2), 2, "nothing was left of the first vote");
        if let Some(second) = second {
            vote(&mut stage, N2, txn, second);
            stage.inject(N1, N2, Message::Abort { txn }); // it has no part in the outcome
        }
        stage.sync(N2);
        stage.lose(|_| true);
        stage.inject(N3, N2, Message::Inquire { txn });
        stage.sync(N2);
        let told: Vec<_> = stage.wire().iter().map(|flight| flight.message.clone()).collect();
        assert_eq!(told, [Message::Uncertain { txn }], "after {second:?}");
    }
}

#[test]
fn who_was_heard_before_the_transaction_began_frees_others_in_any_life() {
    for bound in [false, true] {
        let (mut stage, _) = asked();
        stage.lose(|_| true);
        stage.crash(N2, Crash::Power);
        stage.start(N2);
        let txn = txn(1, 2);
        stage.inject(N1, N2, heard_prepare(txn, 1, 2));
        if bound {
            vote(&mut stage, N2, txn, Vote::Yes);
            stage.sync(N2);
            stage.inject(N1, N2, Message::Abort { txn });
            stage.sync(N2);
            stage.crash(N2, Crash::Power); // it is known of the vote in the journal as well
            stage.start(N2);
        }
        stage.sync(N2);
        stage.lose(|_| true);
        stage.inject(N3, N2, Message::Inquire { txn });
        stage.sync(N2);
        let told: Vec<_> = stage.wire().iter().map(|flight| (flight.to, &flight.message)).collect();
        assert!(told.contains(&(N3, &Message::Abort { txn })), "bound {bound}: {told:?}");
    }
}

#[test]
fn a_prepare_says_which_life_was_heard_when_the_transaction_began() {
    let mut stage = stage_with(|_| {});
    let heard = |stage: &Stage| {
        let of = |message: &Message| match message {
            Message::Prepare { heard, .. } => Some(heard.0),
            _ => None,
        };
        stage.wire().iter().filter_map(|flight| of(&flight.message)).collect::<Vec<_>>()
    };
    stage.request(N1, Request::Begin { parts: parts(&[N2]) });
    assert_eq!(heard(&stage), [0], "nobody was heard");
    stage.run();
    vote(&mut stage, N2, txn(1, 1), Vote::No);
    stage.run();
    stage.request(N1, Request::Begin { parts: parts(&[N2]) });
    assert_eq!(heard(&stage), [1]);
    stage.lose(|_| true);
    stage.crash(N2, Crash::Power);
    stage.start(N2);
    stage.inject(N2, N1, Message::Uncertain { txn: txn(1, 1) });
    stage.advance(std::time::Duration::from_secs(1));
    stage.timer(N1);
    assert!(heard(&stage).iter().all(|heard| *heard == 1), "sent again, it says the same");
}

#[test]
fn a_decision_is_forgotten_only_when_all_have_acknowledged() {
    let (mut stage, txn) = asked();
    vote(&mut stage, N2, txn, Vote::Yes);
    vote(&mut stage, N3, txn, Vote::Yes);
    let awaited = |stage: &Stage| stage.node(N1).awaited().collect::<Vec<_>>();
    assert_eq!(awaited(&stage), [(txn, vec![N2, N3])], "two votes");
    stage.cut(N3, N1);
    stage.inject(N3, N1, Message::Voted { txn, vote: Vote::Yes });
    stage.run();
    assert_eq!(stage.node(N1).driven().collect::<Vec<_>>(), [(txn, true)]);
    assert_eq!(awaited(&stage), [(txn, vec![N3])], "one acknowledgement");
    stage.crash(N1, Crash::Power);
    stage.start(N1);
    stage.inject(N3, N1, Message::Inquire { txn });
    assert!(stage.wire().iter().any(|f| f.to == N3 && f.message == Message::Commit { txn }));
    stage.heal();
    stage.run();
    assert_eq!(stage.node(N1).driven().count(), 0);
}

#[test]
fn the_echo_of_a_prepare_is_not_asked_again_after_a_restart_or_a_checkpoint() {
    let (mut stage, txn) = asked();
    vote(&mut stage, N2, txn, Vote::Yes);
    vote(&mut stage, N3, txn, Vote::Yes);
    stage.run();
    stage.request(N2, Request::Done { txn });
    stage.sync(N2);
    stage.crash(N2, Crash::Power);
    stage.start(N2);
    stage.inject(N1, N2, prepare(txn, 1));
    assert_eq!(prepares(&stage, N2), 1, "after a restart");
    let last = stage.journal(N2).last().expect("records").0;
    stage.checkpoint(N2, last.next());
    stage.sync(N2);
    stage.crash(N2, Crash::Power);
    assert!(stage.journal(N2).iter().all(|(ticket, _)| *ticket > last));
    stage.start(N2);
    stage.inject(N1, N2, prepare(txn, 1));
    assert_eq!(prepares(&stage, N2), 1, "after a checkpoint");
}

#[test]
fn below_the_cut_and_of_a_former_life_a_prepare_is_an_echo() {
    let mut stage = stage_with(|_| {});
    stage.inject(N1, N2, prepare(txn(2, 9), 8));
    assert_eq!(prepares(&stage, N2), 1);
    stage.inject(N1, N2, prepare(txn(2, 7), 1));
    stage.inject(N1, N2, prepare(txn(1, 70), 1));
    assert_eq!(prepares(&stage, N2), 1);
    assert_eq!(stage.node(N2).stats().ignored, 2);
}

#[test]
fn a_checkpoint_keeps_what_is_in_doubt_decided_and_committed() {
    let (mut stage, txn) = asked();
    vote(&mut stage, N2, txn, Vote::Yes);
    vote(&mut stage, N3, txn, Vote::Yes);
    stage.sync(N2);
    stage.sync(N3);
    stage.deliver(N2, N1);
    stage.deliver(N3, N1);
    stage.sync(N1);
    stage.deliver(N1, N2);
    stage.lose(|_| true);
    for node in [N1, N2, N3] {
        let last = stage.journal(node).last().expect("a record").0;
        stage.checkpoint(node, last.next());
        stage.sync(node);
        stage.lose(|_| true);
        stage.crash(node, Crash::Power);
        assert!(stage.journal(node).iter().all(|(ticket, _)| *ticket > Ticket(last.0)));
        stage.start(node);
    }
    stage.lose(|_| true);
    assert_eq!(stage.node(N1).driven().collect::<Vec<_>>(), [(txn, true)]);
    assert_eq!(standing(&stage, N2, txn), Some(Standing::Committed));
    assert_eq!(standing(&stage, N3, txn), Some(Standing::Prepared));
    let of_two = stage.events(N2).iter().filter(|e| matches!(e, Event::Commit { .. })).count();
    assert_eq!(of_two, 2, "an outcome that is not done comes again");
}

#[test]
fn outcomes_come_again_in_the_order_in_which_they_were_taken() {
    let mut stage = stage_with(|_| {});
    for counter in [1, 2] {
        stage.inject(N1, N2, prepare(txn(1, counter), 1));
        vote(&mut stage, N2, txn(1, counter), Vote::Yes);
    }
    stage.sync(N2);
    for counter in [2, 1] {
        stage.inject(N1, N2, Message::Commit { txn: txn(1, counter) });
    }
    stage.sync(N2);
    let before = stage.events(N2).len();
    stage.crash(N2, Crash::Power);
    stage.start(N2);
    let commits = stage.events(N2)[before..].iter().filter_map(|event| match event {
        Event::Commit { txn } => Some(txn.counter),
        _ => None,
    });
    assert_eq!(commits.collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn an_abort_is_in_the_journal_before_any_later_vote() {
    let mut stage = stage_with(|_| {});
    stage.inject(N1, N2, prepare(txn(1, 1), 1));
    vote(&mut stage, N2, txn(1, 1), Vote::Yes);
    stage.inject(N1, N2, Message::Abort { txn: txn(1, 1) });
    stage.inject(N1, N2, prepare(txn(1, 2), 2));
    vote(&mut stage, N2, txn(1, 2), Vote::Yes);
    stage.sync(N2);
    stage.crash(N2, Crash::Power);
    stage.start(N2);
    let (one, two) = (standing(&stage, N2, txn(1, 1)), standing(&stage, N2, txn(1, 2)));
    assert_eq!((one, two), (Some(Standing::Aborted), Some(Standing::Prepared)));
    let work = Bytes::from_static(b"work");
    let story = [
        Event::Recovered { txn: txn(1, 1), payload: work.clone() },
        Event::Abort { txn: txn(1, 1) },
        Event::Recovered { txn: txn(1, 2), payload: work },
    ];
    assert!(stage.events(N2).ends_with(&story), "what is decided lets go first");
}

#[test]
fn a_transaction_of_the_next_life_has_another_name() {
    let (mut stage, first) = asked();
    stage.crash(N1, Crash::Power);
    stage.start(N1);
    stage.request(N1, Request::Begin { parts: parts(&[N2]) });
    let (second, _) = stage.node(N1).driven().next().expect("one is open");
    assert_ne!(first, second);
}

#[test]
fn nothing_is_said_about_a_transaction_that_has_not_begun() {
    let mut stage = stage_with(|_| {});
    stage.inject(N2, N1, Message::Inquire { txn: txn(1, 1) });
    assert!(stage.wire().is_empty());
    stage.request(N1, Request::Begin { parts: parts(&[N3]) });
    stage.lose(|_| true);
    stage.inject(N2, N1, Message::Inquire { txn: txn(0, 5) });
    assert_eq!(stage.wire()[0].message, Message::Abort { txn: txn(0, 5) });
}

#[test]
fn what_breaks_a_limit_is_refused_by_name() {
    let mut stage = stage_with(|config| {
        (config.open_max, config.payload_bytes_max, config.held_max) = (1, 8, 1);
    });
    let mut begin = |parts| {
        let id = stage.request(N1, Request::Begin { parts });
        stage.answer(N1, id).cloned()
    };
    let rejected = |rejection| Some(Reply::Rejected(rejection));
    let large = vec![(N2, Bytes::from_static(b"nine bytes"))];
    assert_eq!(begin(vec![]), rejected(Rejection::Empty));
    assert_eq!(begin(parts(&[N2, N2])), rejected(Rejection::Twice(N2)));
    assert_eq!(begin(parts(&[NodeId(7)])), rejected(Rejection::Stranger(NodeId(7))));
    assert_eq!(begin(large), rejected(Rejection::Payload(10)));
    assert_eq!(begin(parts(&[N2])), None);
    assert_eq!(begin(parts(&[N2])), rejected(Rejection::Open(1)));
    stage.inject(
        N3,
        N2,
        Message::Prepare {
            txn: TxnId { node: N3, incarnation: Incarnation(1), counter: 1 },
            cut: 1,
            heard: Incarnation(1),
            peers: vec![N2],
            payload: Bytes::new(),
        },
    );
    stage.run();
    assert_eq!(stage.node(N2).stats().refused, 1, "a full participant votes no");
    assert_eq!(prepares(&stage, N2), 1);
    let id = stage.request(N2, Request::Done { txn: txn(1, 1) });
    assert_eq!(stage.answer(N2, id), Some(&Reply::Rejected(Rejection::NotDecided(txn(1, 1)))));
}

#[test]
fn an_old_undecided_transaction_bounds_how_far_newer_ones_go() {
    let mut stage = stage_with(|config| config.window_max = 3);
    stage.request(N1, Request::Begin { parts: parts(&[N2]) });
    stage.lose(|_| true);
    for _ in 0..2 {
        stage.request(N1, Request::Begin { parts: parts(&[N3]) });
        stage.run();
        let (open, _) = stage.node(N3).held().next().expect("it was asked");
        vote(&mut stage, N3, open, Vote::ReadOnly);
        stage.run();
    }
    let id = stage.request(N1, Request::Begin { parts: parts(&[N3]) });
    assert_eq!(stage.answer(N1, id), Some(&Reply::Rejected(Rejection::Window(3))));
}
