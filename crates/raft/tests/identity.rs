//! Row 46: nodes that come back with an empty or an older disk under their old name.

#[path = "support/stage.rs"]
mod stage;

use std::time::Duration;

use quorate_raft::{Change, Message, Reply, Request, Term};
use quorate_sim::script::Crash;
use quorate_transport::{NodeId, Ticket};
use stage::{N1, N2, N3, Stage, elect, propose, stage_of};

const N4: NodeId = NodeId(4);

/// A group that n1 leads, whose disks are told apart.
fn known(founders: u64, count: u64) -> Stage {
    let mut stage = stage_of(founders, count, |_| {});
    for node in stage.nodes().collect::<Vec<_>>() {
        stage.crash(node, Crash::Disk);
        stage.start(node);
    }
    elect(&mut stage, N1);
    stage
}

fn beat(stage: &mut Stage, times: u32) {
    for _ in 0..times {
        stage.advance(Duration::from_millis(50));
        stage.timer(N1);
        stage.run();
    }
}

fn wipe(stage: &mut Stage, node: NodeId) {
    stage.crash(node, Crash::Disk);
    stage.start(node);
}

fn halts_with(stage: &Stage, node: NodeId, what: &str) {
    let halt = stage.halted(node).unwrap_or_else(|| panic!("{node} should stop"));
    assert!(halt.detail.contains(what), "{halt:?}");
    assert!(halt.detail.contains("add it again"), "and says what to do: {halt:?}");
}

#[test]
fn the_disks_of_all_voters_are_in_the_configuration_once_they_were_heard() {
    let stage = known(3, 3);
    for node in [N1, N2, N3] {
        assert_eq!([N1, N2, N3].map(|of| stage.node(node).members().birth(of)), [Some(1); 3]);
    }
    assert_eq!(stage.node(N1).status().stats.configurations, 1, "in one entry");
}

#[test]
fn row_46_an_empty_disk_under_an_old_name_elects_nobody_and_acknowledges_nothing() {
    let mut stage = known(3, 3);
    stage.isolate(N3);
    let id = propose(&mut stage, N1, "committed by n1 and n2");
    stage.run();
    assert!(matches!(stage.answer(N1, id), Some(Reply::Committed { .. })));
    stage.isolate(N1);
    stage.heal();
    stage.isolate(N1);
    wipe(&mut stage, N2);
    // n3 lacks the entry: with the vote of a node that has forgotten it, it would be lost.
    stage.advance(Duration::from_millis(700));
    for _ in 0..3 {
        stage.timer(N3);
        stage.run();
    }
    assert!(!stage.node(N3).is_leader());
    assert!(stage.node(N3).stats().strangers > 0);
    halts_with(&stage, N2, "another data directory");
}

#[test]
fn row_46_an_empty_disk_is_not_counted_by_the_leader() {
    let mut stage = known(3, 3);
    stage.isolate(N3);
    wipe(&mut stage, N2);
    let commit = stage.node(N1).commit();
    propose(&mut stage, N1, "x");
    beat(&mut stage, 3);
    assert_eq!(stage.node(N1).commit(), commit, "two of three, but one is nobody");
    halts_with(&stage, N2, "another data directory");
}

#[test]
fn removed_and_added_again_the_same_name_is_welcome_with_its_new_disk() {
    let mut stage = known(3, 4);
    wipe(&mut stage, N4);
    stage.request(N1, Request::Change(Change::Remove { node: N3 }));
    beat(&mut stage, 1);
    stage.crash(N3, Crash::Disk);
    stage.start(N3);
    let add = Change::Add { node: N3, address: String::new() };
    let id = stage.request(N1, Request::Change(add));
    beat(&mut stage, 4);
    assert!(matches!(stage.answer(N1, id), Some(Reply::Changed { .. })));
    assert_eq!(stage.node(N1).members().birth(N3), Some(2));
    assert!(stage.halted(N3).is_none());
    stage.isolate(N2);
    let id = propose(&mut stage, N1, "x");
    stage.run();
    assert!(matches!(stage.answer(N1, id), Some(Reply::Committed { .. })), "it counts");
}

#[test]
fn row_46_an_older_copy_of_the_disk_is_found_when_it_lacks_what_it_acknowledged() {
    let mut stage = known(3, 3);
    propose(&mut stage, N1, "a");
    stage.run();
    let last = stage.journal(N2).last().expect("it has written").0;
    propose(&mut stage, N1, "b");
    stage.run();
    // Its directory is replaced by a copy from before the last entry.
    stage.crash(N2, Crash::Kill);
    stage.lose_records(N2, Ticket(last.0 + 1));
    stage.start(N2);
    beat(&mut stage, 1);
    stage.link(N1, N2, quorate_transport::LinkState::Up);
    propose(&mut stage, N1, "c");
    beat(&mut stage, 2);
    halts_with(&stage, N2, "which it had acknowledged");
    assert!(stage.halted(N1).is_none() && stage.halted(N3).is_none());
}

#[test]
fn a_lagging_peer_that_knows_the_former_disk_stops_nobody() {
    // n3 was replaced while n2 was away; n2 believes the old disk's name.
    let mut stage = known(3, 3);
    stage.isolate(N2);
    // A word of n2's about n3's former disk reaches the new one, which the group knows.
    stage.inject(N2, N3, Message::Disowned { term: Term(1), birth: 9, lost: None });
    assert!(stage.halted(N3).is_none(), "about another disk than its own");
    stage.inject(N2, N3, Message::Disowned { term: Term(1), birth: 1, lost: None });
    assert!(stage.halted(N3).is_none(), "its own log knows better");
}
