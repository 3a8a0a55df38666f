//! Networks in which some reach each other and others do not: who is elected, and how soon.
//! [Ng et al., Omni-Paxos, EuroSys 2023, section 2; the outage of Cloudflare of 2020-11-02]

#[path = "support/stage.rs"]
mod stage;

use std::time::Duration;

use quorate_raft::{Message, Reply};
use quorate_transport::{Machine, NodeId, Time};
use stage::{N1, N2, N3, Stage, applied, elect, log, propose, stage_with};

const N4: NodeId = NodeId(4);
const N5: NodeId = NodeId(5);

/// Five nodes with timeouts of 300 to 600 ms, led by n1.
fn five() -> Stage {
    let mut stage = stage_with(5, |config| {
        config.election_timeout_max = Duration::from_millis(600);
    });
    elect_now(&mut stage, N1);
    stage
}

fn elect_now(stage: &mut Stage, node: NodeId) {
    stage.advance(Duration::from_millis(600));
    elect(stage, node);
}

/// Only these links work, in both directions.
fn only(stage: &mut Stage, links: &[(NodeId, NodeId)]) {
    stage.heal();
    for (a, b) in stage.nodes().flat_map(|a| stage.nodes().map(move |b| (a, b))).collect::<Vec<_>>()
    {
        if !links.contains(&(a, b)) && !links.contains(&(b, a)) {
            stage.cut(a, b);
        }
    }
}

/// Timers fire as they are due and messages arrive, until `done` or for ten seconds; how long.
fn live(stage: &mut Stage, done: impl Fn(&Stage) -> bool) -> Duration {
    let begun = stage.now();
    while !done(stage) {
        let due = |node: &NodeId| stage.node(*node).deadline().unwrap_or(Time::MAX);
        let next = stage.nodes().min_by_key(due).expect("there are nodes");
        stage.timer(next);
        stage.run();
        assert!(stage.now().since(begun) < Duration::from_secs(10), "nothing comes of it");
    }
    stage.now().since(begun)
}

/// In units of the greatest election timeout.
fn timeouts(time: Duration) -> f64 {
    time.as_secs_f64() / 0.6
}

fn serves(stage: &mut Stage, node: NodeId, command: &str) {
    let id = propose(stage, node, command);
    stage.run();
    live(stage, |stage| stage.answer(node, id).is_some());
    assert!(matches!(stage.answer(node, id), Some(Reply::Committed { .. })), "{node} serves");
}

const HUB: [(NodeId, NodeId); 4] = [(N1, N2), (N3, N2), (N4, N2), (N5, N2)];

#[test]
fn quorum_loss_only_one_node_reaches_a_majority_and_it_leads() {
    // The leader still reaches it, and nobody else.
    let mut stage = five();
    only(&mut stage, &HUB);
    let time = live(&mut stage, |stage| stage.node(N2).is_leader());
    assert!(timeouts(time) <= 3.0, "{time:?}");
    serves(&mut stage, N2, "a");
}

#[test]
fn constrained_the_only_node_that_reaches_a_majority_lacks_entries_and_gets_them() {
    // Raft alone waits for ever: n2 is refused for its log, and nobody else reaches three.
    let mut stage = five();
    stage.isolate(N2);
    stage.isolate(N5);
    ["a", "b", "c"].iter().for_each(|command| {
        propose(&mut stage, N1, command);
        stage.run();
    });
    let committed = stage.node(N1).commit();
    only(&mut stage, &HUB[1..]);
    let time = live(&mut stage, |stage| stage.node(N2).is_leader());
    assert!(timeouts(time) <= 4.0, "{time:?}");
    assert!(stage.node(N2).status().stats.fetched >= 3);
    serves(&mut stage, N2, "d");
    let commands: Vec<_> = applied(&stage, N2).into_iter().map(|(_, text)| text).collect();
    assert_eq!(commands, ["", "a", "b", "c", "", "d"], "nothing committed is lost");
    assert!(stage.node(N2).commit() > committed);
}

#[test]
fn constrained_a_tail_that_contradicts_is_given_up_for_what_was_committed() {
    let mut stage = five();
    // n2 leads for a moment and has a tail of its own that nobody else gets.
    elect_now(&mut stage, N2);
    stage.isolate(N2);
    ["x", "y", "z"].iter().for_each(|command| {
        propose(&mut stage, N2, command);
    });
    stage.sync(N2);
    stage.isolate(N5);
    stage.advance(Duration::from_millis(700));
    stage.timer(N2);
    assert!(!stage.node(N2).is_leader());
    elect_now(&mut stage, N3);
    serves(&mut stage, N3, "a");
    assert_eq!(log(&stage, N2).len(), 5);
    only(&mut stage, &[(N1, N2), (N4, N2), (N5, N2)]);
    live(&mut stage, |stage| stage.node(N2).is_leader());
    serves(&mut stage, N2, "b");
    let commands: Vec<_> = applied(&stage, N1).into_iter().map(|(_, text)| text).collect();
    assert_eq!(commands, ["", "", "", "a", "", "b"]);
    assert_eq!(log(&stage, N2)[..4], log(&stage, N4)[..4]);
}

#[test]
fn entries_acknowledged_in_this_term_are_given_up_in_a_later_one_only() {
    // Found by seed 3131: a leader went on counting on them, and never sent them again.
    let mut stage = five();
    elect_now(&mut stage, N2);
    stage.isolate(N2);
    propose(&mut stage, N2, "x");
    stage.sync(N2);
    stage.advance(Duration::from_millis(700));
    stage.timer(N2);
    stage.isolate(N5);
    elect_now(&mut stage, N3);
    serves(&mut stage, N3, "a");
    only(&mut stage, &[(N1, N2), (N4, N2), (N5, N2)]);
    let term = stage.node(N2).term();
    live(&mut stage, |stage| stage.node(N2).is_leader());
    let spent = stage.node(N2).term().0 - term.0;
    assert_eq!(spent, 3, "one it learns, one to give its own entry up, one to campaign");
}

#[test]
fn chained_a_node_that_does_not_reach_the_leader_disturbs_nobody() {
    let mut stage = stage_with(3, |config| {
        config.election_timeout_max = Duration::from_millis(600);
    });
    elect_now(&mut stage, N1);
    let term = stage.node(N1).term();
    only(&mut stage, &[(N1, N3), (N3, N2)]);
    let begun = stage.now();
    live(&mut stage, |stage| stage.now().since(begun) > Duration::from_secs(5));
    assert!(stage.node(N1).is_leader());
    assert_eq!(stage.node(N1).term(), term, "no term was spent");
    serves(&mut stage, N1, "a");
}

#[test]
fn chained_the_middle_takes_over_when_the_end_that_led_loses_it() {
    let mut stage = stage_with(3, |config| {
        config.election_timeout_max = Duration::from_millis(600);
    });
    elect_now(&mut stage, N1);
    only(&mut stage, &[(N3, N2)]);
    let led = |stage: &Stage| stage.node(N2).is_leader() || stage.node(N3).is_leader();
    let time = live(&mut stage, led);
    assert!(timeouts(time) <= 3.0, "{time:?}");
}

#[test]
fn a_peer_is_asked_for_entries_from_the_second_campaign_on_and_only_without_a_leader() {
    let mut stage = five();
    stage.isolate(N5);
    propose(&mut stage, N1, "a");
    stage.run();
    stage.isolate(N1);
    stage.heal();
    stage.isolate(N1);
    stage.advance(Duration::from_millis(700));
    let fetches = |stage: &Stage| {
        let asks = |message: &Message| matches!(message, Message::Fetch { .. });
        stage.wire().iter().filter(|flight| asks(&flight.message)).count()
    };
    let refuse = |stage: &mut Stage| {
        stage.timer(N5);
        while stage.deliver(N5, N2) {}
        stage.settle(N2);
        while stage.deliver(N2, N5) {}
        stage.lose(|flight| matches!(flight.message, Message::PreVote { .. }));
    };
    refuse(&mut stage);
    assert_eq!(fetches(&stage), 0, "the first campaign");
    stage.advance(Duration::from_millis(700));
    refuse(&mut stage);
    assert_eq!(fetches(&stage), 1, "the second");
    // n2 hears a leader in the meantime: it is no longer its affair.
    let term = stage.node(N2).term();
    let heartbeat = Message::Heartbeat { term, commit: stage.node(N2).commit(), round: 0 };
    stage.inject(N1, N2, heartbeat);
    assert!(stage.deliver(N5, N2));
    let told = |message: &Message| matches!(message, Message::Fetched { .. });
    assert!(!stage.wire().iter().any(|flight| told(&flight.message)));
}
