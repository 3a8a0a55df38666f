//! Reads: from a lease, on a follower, within a bound of staleness. [Raft §8, thesis §6.4]

#[path = "support/stage.rs"]
mod stage;

use std::time::Duration;

use quorate_raft::{Index, Message, Rejection, Reply, Request, RoleName, Term};
use quorate_sim::script::Crash;
use quorate_transport::{LinkState, NodeId, RequestId, Time};
use stage::{N1, N2, N3, Stage, elect, propose, stage_with};

const MS: fn(u64) -> Duration = Duration::from_millis;

/// Three nodes that n1 leads, with leases.
fn leased() -> Stage {
    let mut stage = stage_with(3, |config| config.clock_drift_ppm = Some(100_000));
    elect(&mut stage, N1);
    stage
}

fn beat(stage: &mut Stage) {
    stage.advance(MS(50));
    stage.timer(N1);
    stage.run();
}

fn read(stage: &mut Stage, node: NodeId) -> RequestId {
    stage.request(node, Request::Read)
}

fn read_here(stage: &mut Stage, node: NodeId, within: u64) -> RequestId {
    stage.request(node, Request::ReadHere { within: MS(within) })
}

fn index(stage: &Stage, node: NodeId, id: RequestId) -> Option<u64> {
    match stage.answer(node, id) {
        Some(Reply::ReadAt { index }) => Some(index.0),
        _ => None,
    }
}

fn refusal(stage: &Stage, node: NodeId, id: RequestId) -> Option<Rejection> {
    match stage.answer(node, id) {
        Some(Reply::Rejected(rejection)) => Some(*rejection),
        _ => None,
    }
}

fn apply_all(stage: &mut Stage, node: NodeId) {
    let index = stage.node(node).commit();
    stage.request(node, Request::Applied { index });
}

#[test]
fn a_lease_answers_at_once_for_a_part_of_the_election_timeout() {
    let mut stage = leased();
    let early = read(&mut stage, N1);
    assert_eq!(index(&stage, N1, early), None, "nobody has promised anything yet");
    stage.run();
    assert_eq!(index(&stage, N1, early), Some(1));
    let (begun, second) = (stage.now(), read(&mut stage, N1));
    assert_eq!(index(&stage, N1, second), Some(1), "the round of the first was a promise");
    // 300 ms less a tenth.
    stage.advance(MS(269));
    let third = read(&mut stage, N1);
    assert_eq!(index(&stage, N1, third), Some(1));
    stage.advance(MS(1));
    assert_eq!(stage.now(), begun + MS(270));
    let late = read(&mut stage, N1);
    assert_eq!(index(&stage, N1, late), None, "the lease has ended");
    stage.run();
    assert_eq!(index(&stage, N1, late), Some(1), "and a round confirms it");
    assert_eq!(stage.node(N1).status().stats.lease_reads, 2);
}

#[test]
fn heartbeats_extend_a_lease_from_when_they_were_sent() {
    let mut stage = leased();
    stage.advance(MS(50));
    stage.timer(N1);
    let sent = stage.now();
    stage.advance(MS(100)); // on the way
    stage.run();
    stage.advance(MS(169));
    let id = read(&mut stage, N1);
    assert_eq!(index(&stage, N1, id), Some(1));
    stage.advance(MS(1));
    assert_eq!(stage.now(), sent + MS(270));
    let late = read(&mut stage, N1);
    assert_eq!(index(&stage, N1, late), None);
}

#[test]
fn without_a_declared_bound_there_is_no_lease() {
    let mut stage = stage_with(3, |_| {});
    elect(&mut stage, N1);
    beat(&mut stage);
    let id = read(&mut stage, N1);
    assert_eq!(index(&stage, N1, id), None);
    stage.run();
    assert_eq!(index(&stage, N1, id), Some(1));
}

#[test]
fn a_minority_gives_no_lease() {
    let mut stage = leased();
    stage.isolate(N2);
    stage.isolate(N3);
    stage.advance(MS(50));
    stage.timer(N1);
    stage.run();
    let id = read(&mut stage, N1);
    assert_eq!(index(&stage, N1, id), None);
}

#[test]
fn row_41_no_lease_holds_once_another_was_asked_to_campaign() {
    // The word to campaign may be late; the one asked needs nobody's patience.
    let mut stage = leased();
    beat(&mut stage);
    stage.request(N1, Request::Transfer { to: Some(N2) });
    let told = |flight: &&quorate_sim::script::Flight<Message>| {
        matches!(flight.message, Message::TimeoutNow { .. })
    };
    assert_eq!(stage.wire().iter().filter(told).count(), 1);
    let during = read(&mut stage, N1);
    assert_eq!(index(&stage, N1, during), None);
    // The hand-over fails, with the word still on the way.
    let late: Vec<_> = stage.wire().iter().filter(told).cloned().collect();
    stage.lose(|flight| matches!(flight.message, Message::TimeoutNow { .. }));
    for _ in 0..8 {
        beat(&mut stage);
    }
    assert!(stage.node(N1).is_leader());
    let after = read(&mut stage, N1);
    assert_eq!(index(&stage, N1, after), None, "it asks a majority for the rest of the term");
    stage.run();
    assert!(index(&stage, N1, after).is_some());
    stage.inject(N1, N2, late[0].message.clone());
    assert_eq!(stage.node(N2).role_name(), RoleName::Candidate);
}

#[test]
fn row_42_a_leader_that_has_slept_trusts_no_former_promise() {
    let mut stage = leased();
    beat(&mut stage);
    // Its clock says 230 ms, within the lease; it should have woken after 50.
    stage.advance(MS(230));
    stage.timer(N1);
    let id = read(&mut stage, N1);
    assert_eq!(index(&stage, N1, id), None);
    stage.run();
    assert_eq!(index(&stage, N1, id), Some(1));
}

#[test]
fn whoever_has_answered_a_heartbeat_elects_nobody_else_for_a_timeout() {
    let votes = |stage: &mut Stage, term: u64| {
        let vote = Message::Vote {
            term: Term(term),
            last: Index(9),
            last_term: Term(term - 1),
            transfer: false,
        };
        stage.inject(N3, N2, vote);
        stage.sync(N2);
        let granted =
            |message: &Message| matches!(message, Message::VoteReply { granted: true, .. });
        stage.wire().iter().any(|flight| flight.to == N3 && granted(&flight.message))
    };
    type Case = (&'static str, fn(&mut Stage));
    let cases: [Case; 4] = [
        ("a closed connection", |stage| stage.link(N2, N1, LinkState::Down)),
        ("an operator's word", |stage| {
            stage.request(N2, Request::ForgetLeader);
        }),
        ("a restart", |stage| {
            stage.crash(N2, Crash::Power);
            stage.start(N2);
        }),
        ("a late word of a higher term", |stage| {
            stage.inject(
                N3,
                N2,
                Message::PreVoteReply { term: Term(5), granted: false, ahead: false },
            );
        }),
    ];
    for (what, happens) in cases {
        let mut stage = leased();
        beat(&mut stage);
        let heard = stage.now();
        stage.advance(MS(100));
        happens(&mut stage);
        stage.advance(MS(100));
        assert!(!votes(&mut stage, 8), "after {what} it has promised all the same");
        stage.advance(MS(300));
        assert!(stage.now() > heard + MS(300));
        assert!(votes(&mut stage, 9), "after {what} the promise ends");
    }
    // Where no lease is declared a closed connection frees it at once.
    let mut stage = stage_with(3, |_| {});
    elect(&mut stage, N1);
    beat(&mut stage);
    stage.link(N2, N1, LinkState::Down);
    assert!(votes(&mut stage, 8));
}

#[test]
fn a_follower_asks_its_leader_once_for_all_reads_of_a_burst() {
    let mut stage = stage_with(3, |_| {});
    elect(&mut stage, N1);
    propose(&mut stage, N1, "a");
    stage.run();
    for node in [N1, N2, N3] {
        apply_all(&mut stage, node);
    }
    let ids = [read_here(&mut stage, N2, 0), read_here(&mut stage, N2, 0)];
    stage.settle(N2);
    let asks = |message: &Message| matches!(message, Message::Read { .. });
    assert_eq!(stage.wire().iter().filter(|flight| asks(&flight.message)).count(), 1);
    stage.run();
    assert_eq!(ids.map(|id| index(&stage, N2, id)), [Some(2), Some(2)]);
    let own = read_here(&mut stage, N1, 0);
    stage.run();
    assert_eq!(index(&stage, N1, own), Some(2), "the leader reads as ever");
}

#[test]
fn a_read_on_a_follower_sees_what_was_acknowledged_before_it() {
    let mut stage = stage_with(3, |_| {});
    elect(&mut stage, N1);
    stage.cut(N1, N2);
    propose(&mut stage, N1, "a");
    stage.run();
    stage.heal();
    let id = read_here(&mut stage, N2, 0);
    stage.run();
    assert_eq!(index(&stage, N2, id), Some(2), "though it has not heard of it");
}

#[test]
fn an_answer_serves_again_within_the_bound() {
    let mut stage = stage_with(3, |_| {});
    elect(&mut stage, N1);
    let first = read_here(&mut stage, N2, 0);
    let asked = stage.now();
    stage.run();
    assert_eq!(index(&stage, N2, first), Some(1));
    apply_all(&mut stage, N2);
    propose(&mut stage, N1, "later");
    stage.run();
    stage.advance(MS(200));
    let stale = read_here(&mut stage, N2, 200);
    assert_eq!(index(&stage, N2, stale), Some(1), "nobody was asked");
    assert_eq!(stage.now(), asked + MS(200));
    stage.advance(MS(1));
    let fresh = read_here(&mut stage, N2, 200);
    assert_eq!(index(&stage, N2, fresh), None);
    stage.run();
    assert_eq!(index(&stage, N2, fresh), Some(2));
}

#[test]
fn a_follower_that_lags_refuses_at_once() {
    let mut stage = stage_with(3, |config| config.read_lag_max = 2);
    elect(&mut stage, N1);
    ["a", "b"].iter().for_each(|command| {
        propose(&mut stage, N1, command);
    });
    stage.run();
    let id = read_here(&mut stage, N2, 0);
    stage.run();
    assert_eq!(refusal(&stage, N2, id), Some(Rejection::Lagging { entries: 3 }));
    apply_all(&mut stage, N2);
    let id = read_here(&mut stage, N2, 0);
    stage.run();
    assert_eq!(index(&stage, N2, id), Some(3));
}

#[test]
fn a_read_that_nobody_answers_is_refused_in_time() {
    let mut stage = stage_with(3, |_| {});
    let none = read_here(&mut stage, N2, 0);
    assert_eq!(refusal(&stage, N2, none), Some(Rejection::NotLeader { leader: None }));
    elect(&mut stage, N1);
    let lost = read_here(&mut stage, N2, 0);
    stage.settle(N2);
    stage.lose(|flight| matches!(flight.message, Message::Read { .. }));
    stage.advance(MS(250));
    stage.inject(N1, N2, Message::Commit { term: Term(1), commit: Index(1) });
    stage.timer(N2);
    assert_eq!(stage.now(), Time::ZERO + MS(600));
    assert_eq!(refusal(&stage, N2, lost), Some(Rejection::NotReady));
    let gone = read_here(&mut stage, N2, 0);
    stage.isolate(N1);
    stage.advance(MS(300));
    stage.timer(N2);
    assert!(matches!(refusal(&stage, N2, gone), Some(Rejection::NotReady)), "it waited as long");
    let deposed = read_here(&mut stage, N3, 0);
    stage.inject(N2, N3, Message::Heartbeat { term: Term(7), commit: Index(0), round: 0 });
    assert_eq!(refusal(&stage, N3, deposed), Some(Rejection::NotLeader { leader: None }));
}

#[test]
fn row_39_a_late_answer_to_a_former_life_answers_nothing() {
    let mut stage = stage_with(3, |_| {});
    elect(&mut stage, N1);
    read_here(&mut stage, N2, 0);
    stage.settle(N2);
    assert!(stage.deliver(N2, N1));
    stage.settle(N1);
    while stage.deliver(N1, N3) {}
    stage.sync(N3);
    while stage.deliver(N3, N1) {}
    let reply = stage.wire().iter().find(|f| matches!(f.message, Message::ReadReply { .. }));
    let late = reply.expect("a majority has confirmed it").message.clone();
    propose(&mut stage, N1, "in between");
    stage.crash(N2, Crash::Power);
    stage.run();
    stage.start(N2);
    beat(&mut stage);
    let id = read_here(&mut stage, N2, 0);
    stage.settle(N2);
    stage.inject(N1, N2, late);
    assert_eq!(index(&stage, N2, id), None, "it knows nothing of what came in between");
    stage.run();
    assert_eq!(index(&stage, N2, id), Some(2));
}

#[test]
fn a_leader_of_a_minority_confirms_nobodys_reads() {
    let mut stage = stage_with(5, |_| {});
    elect(&mut stage, N1);
    stage.isolate(N3);
    stage.isolate(NodeId(4));
    stage.isolate(NodeId(5));
    let id = read_here(&mut stage, N2, 0);
    stage.run();
    assert_eq!(index(&stage, N2, id), None);
}
