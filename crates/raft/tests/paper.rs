//! The rules of the paper and of the thesis, one by one: Ongaro and Ousterhout, "In search of an
//! understandable consensus algorithm", 2014, by section; and Ongaro's thesis, 2014, where said.

#[path = "support/stage.rs"]
mod stage;

use std::time::Duration;

use quorate_raft::{Index, Message, Rejection, Reply, Request, RoleName, Term, Views};
use quorate_sim::script::Crash;
use quorate_transport::{Machine, NodeId};
use stage::{N1, N2, N3, Stage, applied, compact, elect, led_by, log, propose, stage, stage_with};

const N4: NodeId = NodeId(4);
const N5: NodeId = NodeId(5);

fn vote(term: u64, last: u64, last_term: u64) -> Message {
    let (term, last, last_term) = (Term(term), Index(last), Term(last_term));
    Message::Vote { term, last, last_term, transfer: false }
}

fn append(term: u64, prev: u64, prev_term: u64, commit: u64) -> Message {
    let (prev, prev_term, commit) = (Index(prev), Term(prev_term), Index(commit));
    Message::Append { term: Term(term), prev, prev_term, commit, views: Views::None }
}

/// What `from` has sent to `to` and is under way.
fn sent(stage: &Stage, from: NodeId, to: NodeId) -> Vec<Message> {
    let between = |f: &&quorate_sim::script::Flight<Message>| f.from.node == from && f.to == to;
    stage.wire().iter().filter(between).map(|flight| flight.message.clone()).collect()
}

fn granted(stage: &Stage, from: NodeId, to: NodeId) -> Vec<bool> {
    let vote = |message: Message| match message {
        Message::VoteReply { granted, .. } => Some(granted),
        _ => None,
    };
    sent(stage, from, to).into_iter().filter_map(vote).collect()
}

#[test]
fn section_5_1_a_greater_term_makes_anybody_a_follower_of_it() {
    let mut stage = led_by(3, N1);
    stage.inject(N3, N1, append(5, 1, 1, 0));
    assert_eq!((stage.node(N1).role_name(), stage.node(N1).term()), (RoleName::Follower, Term(5)));
    stage.advance(Duration::from_millis(600));
    stage.timer(N2);
    stage.inject(N3, N2, append(7, 1, 1, 0));
    assert_eq!((stage.node(N2).role_name(), stage.node(N2).term()), (RoleName::Follower, Term(7)));
}

#[test]
fn section_5_1_a_message_of_a_former_term_is_refused() {
    let mut stage = led_by(3, N1);
    stage.inject(N1, N2, append(4, 1, 1, 0));
    stage.sync(N2);
    stage.lose(|_| true);
    stage.inject(N3, N2, append(3, 1, 1, 1));
    stage.sync(N2);
    let told = |message: &Message| message.term() == Term(4);
    assert!(sent(&stage, N2, N3).iter().all(told), "and its sender learns the term");
    assert!(!sent(&stage, N2, N3).iter().any(|m| matches!(m, Message::Appended { .. })));
}

#[test]
fn section_5_1_the_term_is_exchanged_whenever_servers_speak() {
    let mut stage = led_by(3, N1);
    propose(&mut stage, N1, "x");
    stage.settle(N1);
    assert!(stage.wire().iter().all(|flight| flight.message.term() == Term(1)));
}

#[test]
fn section_5_2_servers_start_as_followers_and_stay_so_while_they_hear_a_leader() {
    let mut stage = stage(3);
    assert!([N1, N2, N3].iter().all(|n| stage.node(*n).role_name() == RoleName::Follower));
    elect(&mut stage, N1);
    for _ in 0..20 {
        stage.advance(Duration::from_millis(50));
        stage.timer(N1);
        stage.run();
    }
    assert_eq!(stage.node(N2).role_name(), RoleName::Follower);
    assert_eq!(stage.node(N2).term(), Term(1));
}

#[test]
fn section_5_2_a_candidate_raises_its_term_votes_for_itself_and_asks_everybody() {
    let mut stage = stage(5);
    stage.advance(Duration::from_millis(300));
    stage.timer(N1);
    for peer in [N2, N3] {
        while stage.deliver(N1, peer) {}
        stage.sync(peer);
        while stage.deliver(peer, N1) {}
    }
    assert_eq!(stage.node(N1).role_name(), RoleName::Candidate);
    assert_eq!((stage.node(N1).term(), stage.node(N1).vote()), (Term(1), Some(N1)));
    stage.lose(|_| true);
    stage.sync(N1);
    let asks = |message: &Message| matches!(message, Message::Vote { term: Term(1), .. });
    for peer in [N2, N3, N4, N5] {
        assert!(sent(&stage, N1, peer).iter().any(asks), "{peer}");
    }
}

#[test]
fn section_5_2_each_server_votes_once_a_term_first_come_first_served() {
    let mut stage = stage(3);
    stage.inject(N1, N3, vote(1, 0, 0));
    stage.inject(N2, N3, vote(1, 0, 0));
    stage.inject(N1, N3, vote(1, 0, 0));
    stage.sync(N3);
    assert_eq!(granted(&stage, N3, N1), [true, true], "the same answer to the same question");
    assert_eq!(granted(&stage, N3, N2), [false]);
    stage.crash(N3, Crash::Power);
    stage.start(N3);
    stage.lose(|_| true);
    stage.inject(N2, N3, vote(1, 0, 0));
    stage.sync(N3);
    assert_eq!(granted(&stage, N3, N2), [false], "and across a restart");
}

#[test]
fn section_5_2_a_candidate_wins_with_a_majority_and_tells_everybody() {
    let mut stage = led_by(5, N1);
    stage.advance(Duration::from_millis(50));
    stage.timer(N1);
    for peer in [N2, N3, N4, N5] {
        let beat = |message: &Message| matches!(message, Message::Heartbeat { .. });
        assert!(sent(&stage, N1, peer).iter().any(beat));
    }
    let mut minority = stage_with(5, |_| {});
    [N3, N4, N5].iter().for_each(|node| minority.isolate(*node));
    minority.advance(Duration::from_millis(300));
    minority.timer(N1);
    minority.run();
    assert!(!minority.node(N1).is_leader(), "two of five");
}

#[test]
fn section_5_2_a_candidate_follows_a_leader_of_its_term_and_ignores_one_of_a_former() {
    let mut stage = stage(3);
    stage.advance(Duration::from_millis(300));
    stage.timer(N1);
    stage.deliver(N1, N2);
    stage.sync(N2);
    stage.deliver(N2, N1);
    assert_eq!(stage.node(N1).role_name(), RoleName::Candidate);
    stage.inject(N3, N1, append(0, 0, 0, 0));
    assert_eq!(stage.node(N1).role_name(), RoleName::Candidate);
    stage.inject(N3, N1, append(1, 0, 0, 0));
    assert_eq!(stage.node(N1).role_name(), RoleName::Follower);
    assert_eq!(stage.node(N1).status().leader, Some(N3));
}

#[test]
fn section_5_2_timeouts_are_drawn_anew_from_the_whole_interval() {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let mut stage = stage_with(5, |config| {
            config.election_timeout_max = Duration::from_millis(600);
        });
        for _ in 0..5 {
            for node in stage.nodes().collect::<Vec<_>>() {
                let rest = stage.node(node).deadline().unwrap().since(stage.now());
                assert!(rest <= Duration::from_millis(600));
                seen.insert(rest.as_millis() / 50);
            }
            let next = stage.nodes().min_by_key(|n| stage.node(*n).deadline()).unwrap();
            stage.timer(next);
            stage.lose(|_| true);
        }
    }
    assert!(seen.len() >= 6, "{seen:?}");
}

#[test]
fn section_5_3_an_entry_is_committed_once_a_majority_has_it_and_so_is_all_before_it() {
    let mut stage = led_by(5, N1);
    [N4, N5].iter().for_each(|node| stage.isolate(*node));
    stage.isolate(N3);
    propose(&mut stage, N1, "a");
    stage.run();
    assert_eq!(stage.node(N1).commit(), Index(1), "two of five have it");
    stage.heal();
    [N4, N5].iter().for_each(|node| stage.isolate(*node));
    propose(&mut stage, N1, "b");
    stage.advance(Duration::from_millis(200));
    stage.timer(N1);
    stage.run();
    stage.advance(Duration::from_millis(200));
    stage.timer(N1);
    stage.run();
    assert_eq!(stage.node(N1).commit(), Index(3));
    assert_eq!(applied(&stage, N2), applied(&stage, N1), "in order, everywhere");
}

#[test]
fn section_5_3_an_append_that_does_not_fit_is_refused_and_a_conflict_is_replaced() {
    let mut stage = led_by(3, N1);
    stage.isolate(N3);
    propose(&mut stage, N1, "a");
    stage.run();
    stage.heal();
    stage.lose(|_| true);
    stage.inject(N1, N3, append(1, 2, 1, 2));
    stage.sync(N3);
    assert!(matches!(sent(&stage, N3, N1)[..], [Message::Conflict { prev: Index(2), .. }]));
    assert_eq!(stage.node(N3).commit(), Index(1), "and commits nothing it does not have");
}

#[test]
fn section_5_3_a_leader_never_replaces_or_removes_its_own_entries() {
    let mut stage = led_by(3, N1);
    ["a", "b"].iter().for_each(|command| {
        propose(&mut stage, N1, command);
    });
    stage.sync(N1);
    let before = log(&stage, N1);
    stage.inject(N2, N1, append(1, 1, 1, 0));
    stage.run();
    assert_eq!(log(&stage, N1), before);
}

#[test]
fn section_5_3_logs_that_agree_in_index_and_term_agree_in_all_before() {
    let mut stage = led_by(3, N1);
    stage.isolate(N1);
    ["x", "y"].iter().for_each(|command| {
        propose(&mut stage, N1, command);
    });
    stage.sync(N1);
    stage.advance(Duration::from_millis(700));
    stage.timer(N1);
    elect(&mut stage, N2);
    propose(&mut stage, N2, "a");
    stage.run();
    stage.heal();
    for _ in 0..3 {
        stage.advance(Duration::from_millis(200));
        stage.timer(N2);
        stage.run();
    }
    assert_eq!(log(&stage, N1), log(&stage, N2));
}

#[test]
fn section_5_4_1_a_vote_is_refused_to_a_log_that_is_behind() {
    // The later last term first, then the longer log.
    for (last, last_term, want) in [(9, 0, false), (0, 1, false), (1, 1, true), (1, 2, true)] {
        let mut stage = led_by(3, N1);
        stage.advance(Duration::from_millis(700));
        stage.inject(N3, N2, vote(9, last, last_term));
        stage.sync(N2);
        assert_eq!(granted(&stage, N2, N3), [want], "{last}@{last_term}");
    }
}

#[test]
fn section_5_4_2_entries_of_former_terms_are_committed_through_one_of_the_own() {
    let mut stage = led_by(3, N1);
    stage.isolate(N2);
    stage.isolate(N3);
    propose(&mut stage, N1, "old");
    stage.sync(N1);
    stage.heal();
    stage.lose(|_| true);
    stage.advance(Duration::from_millis(700));
    stage.timer(N1);
    elect(&mut stage, N1);
    assert_eq!(log(&stage, N1), ["1:", "1:old", "2:"]);
    assert_eq!(stage.node(N1).commit(), Index(3), "the empty entry carries it");
}

#[test]
fn section_5_5_a_request_that_comes_twice_is_answered_alike() {
    let mut stage = led_by(3, N1);
    propose(&mut stage, N1, "a");
    stage.settle(N1);
    stage.duplicate(N1, N2);
    stage.run();
    assert_eq!(log(&stage, N2), ["1:", "1:a"]);
    assert_eq!(applied(&stage, N2), applied(&stage, N1));
}

#[test]
fn section_6_a_server_that_hears_a_leader_gives_no_vote() {
    let mut stage = led_by(3, N1);
    stage.advance(Duration::from_millis(299));
    stage.inject(N3, N2, vote(9, 9, 9));
    stage.sync(N2);
    assert!(granted(&stage, N2, N3).is_empty());
    assert_eq!(stage.node(N2).term(), Term(1), "and its term stays");
}

#[test]
fn section_7_a_snapshot_replaces_the_log_up_to_its_last_entry() {
    let mut stage = led_by(3, N1);
    propose(&mut stage, N1, "a");
    stage.run();
    compact(&mut stage, N1, "state");
    assert_eq!(stage.node(N1).log_bounds(), (Index(2), Index(2)));
    propose(&mut stage, N1, "b");
    stage.run();
    assert_eq!(applied(&stage, N2).last().unwrap().1, "b", "and appends go on from there");
    stage.crash(N1, Crash::Power);
    stage.start(N1);
    assert_eq!(stage.node(N1).commit(), Index(2), "what it covers is committed");
}

#[test]
fn section_8_a_leader_begins_with_an_empty_entry_and_reads_after_its_commit() {
    let mut stage = led_by(3, N1);
    assert_eq!(log(&stage, N1), ["1:"]);
    let id = stage.request(N1, Request::Read);
    assert_eq!(stage.answer(N1, id), None, "not before a majority has answered");
    stage.run();
    assert_eq!(stage.answer(N1, id), Some(&Reply::ReadAt { index: Index(1) }));
}

#[test]
fn section_8_a_client_is_told_the_leader() {
    let mut stage = led_by(3, N1);
    let id = propose(&mut stage, N2, "a");
    let told = Reply::Rejected(Rejection::NotLeader { leader: Some(N1) });
    assert_eq!(stage.answer(N2, id), Some(&told));
}

#[test]
fn thesis_3_10_a_hand_over_waits_for_the_log_and_ends_in_a_timeout() {
    let mut stage = led_by(3, N1);
    stage.isolate(N2);
    let id = stage.request(N1, Request::Transfer { to: Some(N2) });
    let late = propose(&mut stage, N1, "x");
    let refused = Reply::Rejected(Rejection::Transferring);
    assert_eq!(stage.answer(N1, late), Some(&refused));
    stage.advance(Duration::from_millis(300));
    stage.timer(N1);
    stage.run();
    let failed = Reply::Rejected(Rejection::TransferFailed);
    assert_eq!(stage.answer(N1, id), Some(&failed));
    let after = propose(&mut stage, N1, "y");
    stage.run();
    assert!(matches!(stage.answer(N1, after), Some(Reply::Committed { .. })), "it leads on");
}

#[test]
fn thesis_4_1_and_4_2_are_rule_by_rule_in_membership() {
    // The tests of `membership.rs` name their sections; here only that one that is not of a group
    // asks nobody for votes.
    let mut stage = stage::stage_of(3, 4, |_| {});
    stage.advance(Duration::from_secs(1));
    stage.timer(N4);
    assert!(stage.wire().is_empty());
}

#[test]
fn thesis_6_4_one_round_confirms_all_reads_before_it() {
    let mut stage = led_by(3, N1);
    let ids: Vec<_> = (0..5).map(|_| stage.request(N1, Request::Read)).collect();
    stage.settle(N1);
    let beats = |m: &Message| matches!(m, Message::Heartbeat { round: 1, .. });
    assert_eq!(sent(&stage, N1, N2).iter().filter(|m| beats(m)).count(), 1);
    stage.run();
    assert!(ids.iter().all(|id| stage.answer(N1, *id).is_some()));
}

#[test]
fn thesis_9_6_a_pre_vote_changes_nothing_and_needs_a_majority() {
    let mut stage = led_by(3, N1);
    stage.isolate(N3);
    for _ in 0..5 {
        stage.advance(Duration::from_millis(400));
        stage.timer(N3);
    }
    assert_eq!((stage.node(N3).term(), stage.node(N3).vote()), (Term(1), Some(N1)));
    assert_eq!(stage.node(N3).role_name(), RoleName::PreCandidate);
}

#[test]
fn thesis_6_2_a_leader_without_a_majority_steps_down() {
    let mut stage = led_by(3, N1);
    stage.isolate(N1);
    let id = stage.request(N1, Request::Read);
    stage.advance(Duration::from_millis(301));
    stage.timer(N1);
    stage.advance(Duration::from_millis(300));
    stage.timer(N1);
    assert!(!stage.node(N1).is_leader());
    let gone = Reply::Rejected(Rejection::NotLeader { leader: None });
    assert_eq!(stage.answer(N1, id), Some(&gone));
}
