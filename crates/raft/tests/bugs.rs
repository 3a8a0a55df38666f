//! What broke other Rafts, a test each. The numbers are those of the catalogue in `docs/bugs.md`.

#[path = "support/stage.rs"]
mod stage;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_raft::{
    Batch, Index, Members, Message, Piece, Proposals, Rejection, Reply, Request, RoleName,
    Snapshot, Term, View, Views,
};
use quorate_sim::script::Crash;
use quorate_transport::{Attachment, LinkState, NodeId, SnapshotId, Ticket, crc32c};
use stage::{N1, N2, N3, Stage, applied, compact, elect, led_by, log, propose, stage, stage_with};

const N4: NodeId = NodeId(4);
const N5: NodeId = NodeId(5);

/// A batch as a leader of `term` would send it.
fn views(first: u64, term: u64, commands: &[&str]) -> Views {
    let mut bytes = Vec::new();
    let payload = commands.concat();
    bytes.extend_from_slice(&term.to_le_bytes());
    bytes.extend_from_slice(&first.to_le_bytes());
    bytes.extend_from_slice(&(commands.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(payload.as_bytes());
    let mut end = 0;
    for command in commands {
        end += command.len() as u32;
        bytes.extend_from_slice(&end.to_le_bytes());
    }
    let batch = Batch::decode(Attachment::new(bytes.into())).expect("a well-formed batch");
    Views::One(View::from(batch))
}

fn append(term: u64, prev: (u64, u64), commit: u64, views: Views) -> Message {
    let (prev, prev_term, commit) = (Index(prev.0), Term(prev.1), Index(commit));
    Message::Append { term: Term(term), prev, prev_term, commit, views }
}

fn acks(stage: &stage::Stage, from: NodeId) -> Vec<u64> {
    let matched = |message: &Message| match message {
        Message::Appended { matched, .. } => Some(matched.0),
        _ => None,
    };
    let sent = stage.wire().iter().filter(|flight| flight.from.node == from);
    sent.filter_map(|flight| matched(&flight.message)).collect()
}

#[test]
fn row_1_an_entry_of_an_older_term_is_not_committed_by_counting_it() {
    // [Raft, figure 8]
    let mut stage = led_by(5, N1);
    stage.isolate(N3);
    stage.isolate(N4);
    stage.isolate(N5);
    propose(&mut stage, N1, "two"); // at #2 on n1 and n2
    stage.run();
    stage.heal();
    stage.isolate(N1);
    stage.isolate(N2);
    stage.lose(|_| true);
    stage.advance(Duration::from_millis(600));
    elect(&mut stage, N5); // with n3 and n4
    stage.isolate(N5);
    propose(&mut stage, N5, "three"); // at #3 on n5 alone, beside its empty #2 elsewhere
    stage.sync(N5);
    stage.heal();
    stage.isolate(N5);
    stage.isolate(N4);
    stage.lose(|_| true);
    stage.advance(Duration::from_millis(600));
    stage.timer(N1);
    stage.run();
    // n3's log ends in a later term: n1 cannot win with the stale entry, whoever holds it.
    assert!(!stage.node(N1).is_leader());
    assert_eq!(stage.node(N1).commit(), Index(1));
    // The leader of three brings a stale term's entry to a majority, and must not count it.
    let mut stage = led_by(3, N1);
    stage.isolate(N1);
    propose(&mut stage, N1, "old");
    stage.sync(N1);
    stage.lose(|_| true);
    stage.advance(Duration::from_millis(900));
    stage.heal();
    stage.timer(N1); // steps down
    stage.lose(|_| true);
    stage.advance(Duration::from_millis(900));
    stage.timer(N1);
    // It leads again with "old" in its log, not yet with its own first entry durable elsewhere.
    while !stage.node(N1).is_leader() {
        stage.sync(N1);
        stage.sync(N2);
        stage.sync(N3);
        let _ = stage.deliver(N1, N2) | stage.deliver(N2, N1);
    }
    let term = stage.node(N1).term();
    stage.inject(N2, N1, Message::Appended { term, matched: Index(2) });
    stage.sync(N1);
    assert_eq!(stage.node(N1).commit(), Index(1), "a majority has it, of an older term");
    stage.inject(N2, N1, Message::Appended { term, matched: Index(3) });
    assert_eq!(stage.node(N1).commit(), Index(3), "its own entry commits all before it");
}

#[test]
fn row_4_a_vote_survives_every_crash_once_it_was_told() {
    for how in [Crash::Kill, Crash::Power] {
        let mut stage = stage(3);
        let ask = |from: NodeId| {
            let (term, last, last_term) = (Term(1), Index(0), Term(0));
            let _ = from;
            Message::Vote { term, last, last_term, transfer: false }
        };
        stage.inject(N1, N2, ask(N1));
        stage.sync(N2);
        let granted = Message::VoteReply { term: Term(1), granted: true };
        assert!(stage.wire().iter().any(|flight| flight.to == N1 && flight.message == granted));
        stage.lose(|_| true);
        stage.crash(N2, how);
        stage.start(N2);
        stage.inject(N3, N2, ask(N3));
        stage.sync(N2);
        let refused = Message::VoteReply { term: Term(1), granted: false };
        assert!(stage.wire().iter().any(|flight| flight.to == N3 && flight.message == refused));
    }
}

#[test]
fn row_5_nothing_is_told_before_it_is_durable() {
    let mut stage = stage(3);
    stage.timer(N1);
    stage.settle(N1);
    stage.deliver(N1, N2);
    stage.deliver(N2, N1); // n1 votes for itself
    stage.settle(N1);
    assert!(!stage.deliver(N1, N2), "a candidate asks once its own vote is durable");
    stage.sync(N1);
    stage.deliver(N1, N2);
    stage.settle(N2);
    assert!(!stage.deliver(N2, N1), "a voter answers once its vote is durable");
    stage.sync(N2);
    stage.deliver(N2, N1);
    stage.sync(N1);
    stage.deliver(N1, N2);
    stage.settle(N2);
    assert_eq!(acks(&stage, N2), [0; 0], "a follower acknowledges what is durable");
    stage.sync(N2);
    assert_eq!(acks(&stage, N2), [1]);
}

#[test]
fn row_6_a_leader_does_not_count_what_its_own_disk_has_not() {
    let mut stage = led_by(3, N1);
    stage.isolate(N3);
    let id = propose(&mut stage, N1, "x");
    stage.settle(N1);
    stage.deliver(N1, N2);
    stage.sync(N2);
    stage.deliver(N2, N1);
    stage.settle(N1);
    assert_eq!((stage.node(N1).commit(), stage.answer(N1, id)), (Index(1), None));
    stage.sync(N1);
    assert_eq!(stage.node(N1).commit(), Index(2));
}

#[test]
fn row_7_a_group_of_one_answers_after_its_own_sync() {
    let mut stage = led_by(1, N1);
    let id = propose(&mut stage, N1, "x");
    stage.settle(N1);
    assert_eq!((stage.answer(N1, id), applied(&stage, N1).len()), (None, 1));
    stage.sync(N1);
    assert!(matches!(stage.answer(N1, id), Some(Reply::Committed { .. })));
}

#[test]
fn row_8_a_sync_of_what_was_replaced_acknowledges_nothing() {
    let mut stage = led_by(3, N1);
    stage.isolate(N1);
    stage.inject(N1, N2, append(1, (1, 1), 1, views(2, 1, &["old"])));
    stage.settle(N2);
    let old = stage.journal(N2).last().expect("it was persisted").0;
    // The next leader replaces it before the disk has caught up.
    stage.inject(N3, N2, append(2, (1, 1), 1, views(2, 2, &["new"])));
    stage.settle(N2);
    stage.sync_upto(N2, Ticket(old.0 + 1)); // the old entry, and the new term's vote record
    stage.settle(N2);
    assert_eq!(acks(&stage, N2), [1], "the same index, another entry");
    assert_eq!(stage.node(N2).durable_index(), Index(1));
    stage.sync(N2);
    assert_eq!(acks(&stage, N2).last(), Some(&2));
    assert_eq!(log(&stage, N2), ["1:", "2:new"]);
}

#[test]
fn row_11_a_vote_that_comes_twice_counts_once() {
    let mut stage = stage(5);
    stage.timer(N1);
    for _ in 0..4 {
        stage.inject(N2, N1, Message::PreVoteReply { term: Term(1), granted: true, ahead: false });
    }
    assert_eq!(stage.node(N1).role_name(), RoleName::PreCandidate);
    stage.inject(N3, N1, Message::PreVoteReply { term: Term(1), granted: true, ahead: false });
    stage.sync(N1);
    for _ in 0..4 {
        stage.inject(N2, N1, Message::VoteReply { term: Term(1), granted: true });
    }
    assert_eq!(stage.node(N1).role_name(), RoleName::Candidate);
    stage.inject(N3, N1, Message::VoteReply { term: Term(1), granted: true });
    assert!(stage.node(N1).is_leader());
}

#[test]
fn row_12_a_late_acknowledgement_moves_nothing() {
    let mut stage = led_by(3, N1);
    stage.isolate(N2);
    stage.isolate(N3);
    propose(&mut stage, N1, "x");
    stage.sync(N1);
    // Of a former term, and beyond the log's end.
    stage.inject(N2, N1, Message::Appended { term: Term(0), matched: Index(2) });
    stage.inject(N3, N1, Message::Appended { term: Term(1), matched: Index(9) });
    assert_eq!(stage.node(N1).commit(), Index(1));
    assert_eq!(stage.node(N1).status().stats.refused, 1);
    // A late conflict does not take back what is known to match.
    stage.inject(N2, N1, Message::Appended { term: Term(1), matched: Index(2) });
    let (prev, hint) = (Index(1), Index(0));
    let late = Message::Conflict { term: Term(1), prev, hint, hint_term: Term(0) };
    stage.inject(N2, N1, late);
    let status = stage.node(N1).status();
    assert_eq!(status.peers[0].matched, Index(2));
    assert_eq!(stage.node(N1).commit(), Index(2));
    stage.take_story();
    for _ in 0..2 {
        propose(&mut stage, N1, "y");
        stage.settle(N1);
    }
    let sent = stage.take_story().matches("n1 -> n2 Append").count();
    assert_eq!(sent, 2, "it is still in pace");
}

/// n3 holds #2 to #4 of its own lost leadership; n1's snapshot covers #2 and #3 of another term.
fn divergent_tail() -> stage::Stage {
    let mut stage = led_by(3, N3);
    stage.isolate(N3);
    propose(&mut stage, N3, "lost");
    stage.sync(N3);
    propose(&mut stage, N3, "lost-too");
    stage.sync(N3);
    propose(&mut stage, N3, "lost-beyond");
    stage.sync(N3);
    stage.lose(|_| true);
    stage.advance(Duration::from_millis(900));
    elect(&mut stage, N1);
    propose(&mut stage, N1, "kept");
    stage.run();
    compact(&mut stage, N1, "state");
    stage
}

fn heal_and_catch_up(stage: &mut stage::Stage) {
    stage.heal();
    for _ in 0..4 {
        stage.advance(Duration::from_millis(160));
        stage.timer(N1);
        stage.run();
    }
}

#[test]
fn rows_14_and_15_a_snapshot_takes_the_place_of_a_tail_that_contradicts_it() {
    for crash in [None, Some(Crash::Kill), Some(Crash::Power)] {
        let mut stage = divergent_tail();
        heal_and_catch_up(&mut stage);
        if let Some(how) = crash {
            stage.crash(N3, how);
            stage.start(N3);
            stage.run();
        }
        propose(&mut stage, N1, "more");
        heal_and_catch_up(&mut stage);
        assert_eq!(log(&stage, N3), ["2:more"], "after {crash:?}");
        assert_eq!(stage.node(N3).commit(), Index(4));
        assert_eq!(stage.node(N1).status().stats.snapshots_sent, 1, "one install is enough");
    }
}

#[test]
fn row_16_an_older_snapshot_truncates_nothing() {
    let mut stage = led_by(3, N1);
    for command in ["a", "b", "c"] {
        propose(&mut stage, N1, command);
    }
    stage.run();
    let bytes = Bytes::from_static(b"old");
    let id = SnapshotId { index: 2, term: 1 };
    let (len, checksum) = (3, crc32c(&bytes));
    let old = Message::Snapshot {
        term: Term(1),
        piece: Box::new(Piece {
            snapshot: Snapshot {
                id,
                len,
                checksum,
                members: Arc::new(Members::new(&[N1, N2, N3])),
            },
            offset: 0,
            bytes,
        }),
    };
    stage.inject(N1, N2, old);
    stage.sync(N2);
    assert_eq!(log(&stage, N2), ["1:", "1:a", "1:b", "1:c"]);
    assert_eq!(acks(&stage, N2), [4], "it is acknowledged, so that the leader stops");
}

#[test]
fn row_17_a_crash_in_an_install_leaves_the_old_log_or_the_new_snapshot() {
    let bytes = Bytes::from_static(b"state");
    let id = SnapshotId { index: 3, term: 2 };
    let (len, checksum) = (5, crc32c(&bytes));
    let piece = Message::Snapshot {
        term: Term(2),
        piece: Box::new(Piece {
            snapshot: Snapshot {
                id,
                len,
                checksum,
                members: Arc::new(Members::new(&[N1, N2, N3])),
            },
            offset: 0,
            bytes,
        }),
    };
    for record_is_durable in [false, true] {
        let mut stage = divergent_tail();
        stage.inject(N1, N3, piece.clone());
        stage.serve_store(N3); // the snapshot is durable, the record that names it is not
        if record_is_durable {
            stage.sync(N3);
        }
        stage.crash(N3, Crash::Power);
        stage.start(N3);
        if record_is_durable {
            assert_eq!(stage.node(N3).snapshot(), Some(id));
            assert_eq!(stage.node(N3).log_bounds(), (Index(3), Index(3)));
        } else {
            assert_eq!(stage.node(N3).snapshot(), None);
            assert_eq!(log(&stage, N3), ["1:", "1:lost", "1:lost-too", "1:lost-beyond"]);
        }
    }
}

#[test]
fn row_18_a_short_or_repeated_append_cuts_nothing_that_matches() {
    let mut stage = led_by(3, N1);
    let mut proposals = Proposals::default();
    ["a", "b", "c"].iter().for_each(|command| proposals.push(command.as_bytes()));
    stage.request(N1, Request::Propose(proposals));
    stage.settle(N1);
    stage.duplicate(N1, N2);
    stage.run();
    stage.inject(N1, N2, append(1, (1, 1), 1, views(2, 1, &["a"])));
    stage.inject(N1, N2, append(1, (0, 0), 0, Views::None));
    stage.sync(N2);
    assert_eq!(log(&stage, N2), ["1:", "1:a", "1:b", "1:c"]);
}

#[test]
fn row_19_what_is_compacted_agrees_and_what_is_missing_does_not() {
    let mut stage = led_by(3, N1);
    propose(&mut stage, N1, "a");
    stage.run();
    compact(&mut stage, N2, "state");
    assert_eq!(stage.node(N2).log_bounds().0, Index(2));
    // The entry before is gone here, and committed: it agrees.
    stage.inject(N1, N2, append(1, (1, 1), 2, views(2, 1, &["a"])));
    stage.sync(N2);
    assert_eq!(acks(&stage, N2), [2]);
    // No entry is not an entry of term 0.
    stage.inject(N1, N2, append(1, (7, 0), 2, views(8, 1, &["h"])));
    stage.sync(N2);
    assert_eq!(stage.node(N2).log_bounds().1, Index(2));
    let conflict = |message: &Message| matches!(message, Message::Conflict { prev: Index(7), .. });
    assert!(stage.wire().iter().any(|flight| conflict(&flight.message)));
}

#[test]
fn row_23_what_is_committed_stays_when_a_leader_becomes_a_follower() {
    let mut stage = led_by(3, N1);
    let id = propose(&mut stage, N1, "kept");
    stage.run();
    assert!(matches!(stage.answer(N1, id), Some(Reply::Committed { .. })));
    stage.advance(Duration::from_millis(900));
    elect(&mut stage, N2);
    assert_eq!(stage.node(N1).role_name(), RoleName::Follower);
    assert_eq!(log(&stage, N1), ["1:", "1:kept", "2:"]);
    assert_eq!(applied(&stage, N1), applied(&stage, N2));
}

#[test]
fn row_24_who_proposed_what_was_replaced_is_told_though_nothing_else_is_proposed() {
    let mut stage = led_by(3, N1);
    stage.isolate(N1);
    let lost = ["one", "two", "three"].map(|command| propose(&mut stage, N1, command));
    stage.sync(N1);
    stage.advance(Duration::from_millis(900));
    elect(&mut stage, N2);
    stage.heal();
    for _ in 0..3 {
        stage.advance(Duration::from_millis(200));
        stage.timer(N2);
        stage.run();
    }
    assert_eq!(log(&stage, N1), ["1:", "2:"], "shorter than what was proposed");
    for id in lost {
        let answer = stage.answer(N1, id);
        assert_eq!(answer, Some(&Reply::Rejected(Rejection::Replaced)), "{id}");
    }
}

#[test]
fn row_24_who_proposed_what_a_snapshot_overtook_is_told_though_the_group_rests() {
    let mut stage = led_by(3, N1);
    stage.isolate(N1);
    let lost = ["one", "two", "three"].map(|command| {
        let id = propose(&mut stage, N1, command);
        stage.sync(N1);
        id
    });
    stage.advance(Duration::from_millis(900));
    elect(&mut stage, N2);
    stage.run();
    compact(&mut stage, N2, "state");
    stage.heal();
    for _ in 0..4 {
        stage.advance(Duration::from_millis(200));
        stage.timer(N2);
        stage.run();
    }
    assert_eq!(log(&stage, N1), [""; 0], "all of it is the snapshot");
    // Of the first, whose place is in the snapshot, this node cannot know; the others are beyond.
    let replaced = Reply::Rejected(Rejection::Replaced);
    for (id, want) in lost.iter().zip([Reply::Unknown, replaced.clone(), replaced]) {
        assert_eq!(stage.answer(N1, *id), Some(&want), "{id}");
    }
}

#[test]
fn row_24_who_campaigned_in_vain_learns_what_is_committed_though_the_group_rests() {
    // Found by seed 5217: the leader counts on its acknowledgement, and sends nothing again.
    let mut stage = led_by(3, N1);
    stage.isolate(N2);
    propose(&mut stage, N1, "a");
    stage.settle(N1);
    assert!(stage.deliver(N1, N3));
    stage.sync(N3);
    stage.settle(N3);
    assert!(stage.deliver(N3, N1));
    stage.settle(N1);
    assert_eq!(stage.node(N1).commit(), Index(1), "its own disk is late");
    stage.link(N3, N1, LinkState::Down);
    stage.advance(Duration::from_millis(60));
    stage.timer(N3);
    assert_eq!(stage.node(N3).role_name(), RoleName::PreCandidate);
    stage.lose(|_| true);
    stage.sync(N1);
    for _ in 0..4 {
        stage.run();
        stage.advance(Duration::from_millis(50));
        stage.timer(N1);
    }
    assert_eq!(stage.node(N1).commit(), Index(2));
    assert_eq!(applied(&stage, N3), applied(&stage, N1));
}

#[test]
fn row_35_a_node_that_was_away_does_not_raise_the_term() {
    let mut stage = led_by(3, N1);
    stage.isolate(N3);
    for _ in 0..5 {
        stage.timer(N3);
        stage.sync(N3);
        stage.timer(N1);
        stage.run();
    }
    assert_eq!(stage.node(N3).term(), Term(1), "it asks before it campaigns");
    stage.heal();
    stage.timer(N1);
    stage.run();
    assert!(stage.node(N1).is_leader());
    assert_eq!(stage.node(N3).role_name(), RoleName::Follower);
}

#[test]
fn row_36_a_loser_with_a_high_term_and_a_stale_log_does_not_stop_elections() {
    let mut stage = led_by(3, N1);
    stage.isolate(N3);
    propose(&mut stage, N1, "x");
    stage.run();
    // n3 has seen a term of 9 somewhere.
    stage.inject(N1, N3, Message::VoteReply { term: Term(9), granted: false });
    stage.sync(N3);
    stage.crash(N1, Crash::Kill);
    stage.heal();
    stage.advance(Duration::from_millis(900));
    stage.timer(N3);
    stage.run();
    assert!(!stage.node(N3).is_leader(), "its log is behind");
    for _ in 0..2 {
        stage.advance(Duration::from_millis(300));
        stage.timer(N2);
        stage.run();
    }
    assert!(stage.node(N2).is_leader(), "once n2 has heard of the term, its second try wins");
    assert!(stage.node(N2).term() > Term(9));
}

#[test]
fn row_37_appends_and_snapshots_count_as_hearing_the_leader() {
    let mut stage = led_by(3, N1);
    let quiet = stage.node(N2).status();
    assert_eq!(quiet.role, RoleName::Follower);
    let deadline = |stage: &stage::Stage| {
        use quorate_transport::Machine;
        stage.node(N2).deadline().expect("a follower has one")
    };
    for turn in 0..3 {
        stage.advance(Duration::from_millis(250));
        let before = deadline(&stage);
        let bytes = Bytes::from_static(b"x");
        let id = SnapshotId { index: 99, term: 1 };
        let message = match turn {
            0 => append(1, (1, 1), 1, views(2, 1, &["a"])),
            1 => append(1, (9, 1), 1, views(10, 1, &["b"])), // a conflict, from the leader
            _ => Message::Snapshot {
                term: Term(1),
                piece: Box::new(Piece {
                    snapshot: Snapshot {
                        id,
                        len: 9,
                        checksum: 0,
                        members: Arc::new(Members::new(&[N1, N2, N3])),
                    },
                    offset: 0,
                    bytes,
                }),
            },
        };
        stage.inject(N1, N2, message);
        assert!(deadline(&stage) > before);
    }
}

#[test]
fn row_38_reads_wait_for_the_first_commit_of_the_term() {
    let mut stage = led_by(3, N1);
    stage.advance(Duration::from_millis(900));
    stage.timer(N2);
    while !stage.node(N2).is_leader() {
        stage.sync(N2);
        stage.sync(N3);
        let _ = stage.deliver(N2, N3) | stage.deliver(N3, N2);
    }
    let id = stage.request(N2, Request::Read);
    assert_eq!(stage.answer(N2, id), Some(&Reply::Rejected(Rejection::NotReady)));
}

#[test]
fn row_39_a_delayed_answer_does_not_confirm_a_later_read() {
    let mut stage = led_by(3, N1);
    let first = stage.request(N1, Request::Read);
    stage.settle(N1);
    stage.deliver(N1, N2);
    stage.settle(N2); // its answer to round 1 is under way
    stage.isolate(N3);
    let second = stage.request(N1, Request::Read);
    stage.settle(N1);
    stage.deliver(N2, N1);
    stage.settle(N1);
    assert!(matches!(stage.answer(N1, first), Some(Reply::ReadAt { .. })));
    assert_eq!(stage.answer(N1, second), None, "round 1 began before this read came");
    stage.deliver(N1, N2);
    stage.deliver(N2, N1);
    assert!(matches!(stage.answer(N1, second), Some(Reply::ReadAt { .. })));
    // Nor does an answer of another leadership, whatever round it names.
    let third = stage.request(N1, Request::Read);
    stage.settle(N1);
    stage.inject(N2, N1, Message::HeartbeatReply { term: Term(0), round: 3 });
    stage.inject(N2, N1, Message::HeartbeatReply { term: Term(1), round: 99 });
    assert_eq!(stage.answer(N1, third), None);
}

#[test]
fn row_40_a_leader_in_the_minority_confirms_no_read() {
    let mut stage = led_by(3, N1);
    stage.isolate(N1);
    let id = stage.request(N1, Request::Read);
    for _ in 0..14 {
        stage.sync(N1);
        stage.timer(N1);
    }
    assert!(!stage.node(N1).is_leader(), "two election timeouts without an answer");
    let refused = Reply::Rejected(Rejection::NotLeader { leader: None });
    assert_eq!(stage.answer(N1, id), Some(&refused));
}

#[test]
fn row_47_room_for_proposals_comes_back() {
    let mut stage = stage_with(3, |config| {
        config.batch_bytes_max = 1 << 10;
        config.uncommitted_bytes_max = 1 << 10;
        config.window_bytes_max = 2 << 10;
        config.unapplied_bytes_max = 1 << 20;
    });
    elect(&mut stage, N1);
    let large = "x".repeat(600);
    for _ in 0..5 {
        stage.isolate(N1);
        propose(&mut stage, N1, &large);
        let busy = propose(&mut stage, N1, &large);
        stage.sync(N1);
        assert_eq!(stage.answer(N1, busy), Some(&Reply::Rejected(Rejection::Busy)));
        // Deposed, its entries are cut off by the next leader; then it leads again.
        stage.lose(|_| true);
        stage.advance(Duration::from_millis(900));
        elect(&mut stage, N2);
        stage.heal();
        for _ in 0..3 {
            stage.advance(Duration::from_millis(160));
            stage.timer(N2);
            stage.run();
        }
        assert_eq!(stage.node(N1).status().last, stage.node(N2).status().last);
        stage.advance(Duration::from_millis(900));
        stage.timer(N2);
        stage.lose(|_| true);
        stage.advance(Duration::from_millis(900));
        elect(&mut stage, N1);
        let fits = propose(&mut stage, N1, &large);
        stage.run();
        assert!(matches!(stage.answer(N1, fits), Some(Reply::Committed { .. })));
    }
}

#[test]
fn commands_without_a_byte_fill_what_is_limited_too() {
    let mut stage = stage_with(3, |config| {
        config.batch_bytes_max = 1 << 10;
        config.uncommitted_bytes_max = 8 << 10;
        config.keep_bytes_max = 4 << 10;
    });
    elect(&mut stage, N1);
    // Kept for slow followers.
    for _ in 0..100 {
        propose(&mut stage, N1, "");
        stage.run();
    }
    compact(&mut stage, N1, "a state");
    let (base, last) = stage.node(N1).log_bounds();
    assert!((10..=22).contains(&base.distance(last)), "{base} to {last}");
    // Taken in beyond what is committed.
    stage.isolate(N1);
    let busy = (1..200).find(|_| {
        let id = propose(&mut stage, N1, "");
        stage.settle(N1);
        stage.answer(N1, id) == Some(&Reply::Rejected(Rejection::Busy))
    });
    assert!(busy.is_some_and(|count| (20..=42).contains(&count)), "{busy:?}");
}

#[test]
fn the_log_after_a_snapshot_that_is_being_sent_is_kept() {
    // Found by a seed of the replicated state machine: a slow follower got one snapshot after the
    // other.
    let mut stage = stage_with(3, |config| config.snapshot_chunk_bytes = 40);
    elect(&mut stage, N1);
    stage.isolate(N3);
    propose(&mut stage, N1, "a");
    stage.run();
    compact(&mut stage, N1, &"a state in pieces of forty bytes".repeat(12));
    stage.heal();
    stage.lose(|_| true);
    stage.advance(Duration::from_millis(200));
    stage.timer(N1);
    let is_reply = |message: &Message| matches!(message, Message::SnapshotReply { .. });
    while !stage.wire().iter().any(|flight| is_reply(&flight.message)) {
        stage.nodes().for_each(|node| stage.sync(node));
        let first = stage.wire().first().map(|flight| (flight.from.node, flight.to));
        let (from, to) = first.expect("something is under way");
        stage.deliver(from, to);
    }
    // In the middle of it the log goes on, and another snapshot is made.
    stage.cut(N1, N3);
    propose(&mut stage, N1, "b");
    stage.run();
    compact(&mut stage, N1, "another state");
    assert_eq!(stage.node(N1).snapshot().map(|id| id.index), Some(3));
    assert!(stage.node(N1).entry(Index(3)).is_some(), "it would be wanted next");
    stage.heal();
    for _ in 0..20 {
        stage.advance(Duration::from_millis(200));
        stage.timer(N1);
        stage.run();
    }
    assert_eq!(stage.node(N3).snapshot().map(|id| id.index), Some(2), "one was enough");
    assert_eq!(applied(&stage, N3).last().unwrap().1, "b");
}

#[test]
fn row_48_one_lost_append_is_sent_again_without_a_new_proposal() {
    for paced in [false, true] {
        let mut stage = led_by(3, N1);
        if !paced {
            stage.link(N1, N3, LinkState::Up); // probing
        }
        stage.isolate(N2);
        propose(&mut stage, N1, "x");
        stage.sync(N1);
        assert_eq!(stage.lose(|flight| flight.to == N3), 1);
        for _ in 0..4 {
            stage.advance(Duration::from_millis(100));
            stage.timer(N1);
            stage.run();
        }
        assert_eq!(log(&stage, N3), ["1:", "1:x"], "in pace: {paced}");
        assert_eq!(stage.node(N3).commit(), Index(2));
    }
}

#[test]
fn row_50_nodes_draw_timeouts_of_their_own_again_and_again() {
    use quorate_transport::Machine;
    let mut stage = stage_with(5, |config| {
        config.election_timeout_max = Duration::from_millis(600);
    });
    let mut drawn = std::collections::BTreeSet::new();
    for _ in 0..10 {
        for node in [N1, N2, N3, N4, N5] {
            stage.timer(node);
            let until = stage.node(node).deadline().expect("a follower has one");
            let span = until.since(stage.now());
            assert!(span >= Duration::from_millis(300) && span <= Duration::from_millis(600));
            drawn.insert(span);
        }
        stage.lose(|_| true);
    }
    assert!(drawn.len() > 45, "fifty draws, {} of them different", drawn.len());
}

#[test]
fn row_52_a_leader_cut_off_from_one_node_keeps_leading_and_serving() {
    // n1 and n2 do not hear each other, both hear n3.
    let mut stage = led_by(3, N1);
    stage.cut(N1, N2);
    stage.cut(N2, N1);
    for turn in 0..10 {
        stage.timer(N2);
        stage.timer(N1);
        let id = propose(&mut stage, N1, "x");
        stage.run();
        let committed = matches!(stage.answer(N1, id), Some(Reply::Committed { .. }));
        assert!(committed, "turn {turn}");
    }
    assert_eq!((stage.node(N1).is_leader(), stage.node(N1).term()), (true, Term(1)));
}

#[test]
fn row_52_quorum_loss_a_leader_that_only_one_of_five_hears_gives_way_to_that_one() {
    let mut stage = led_by(5, N1);
    // All links are cut but those of n5, which hears everyone.
    for one in [N1, N2, N3, N4] {
        for other in [N1, N2, N3, N4] {
            if one != other {
                stage.cut(one, other);
            }
        }
    }
    for _ in 0..6 {
        stage.advance(Duration::from_millis(150));
        for node in [N1, N2, N3, N4] {
            use quorate_transport::Machine;
            if stage.node(node).deadline().is_some_and(|at| at <= stage.now()) {
                stage.timer(node);
            }
        }
        stage.run();
    }
    assert!(!stage.node(N1).is_leader(), "it has lost its majority");
    stage.advance(Duration::from_millis(300));
    stage.timer(N5);
    stage.run();
    assert!(stage.node(N5).is_leader());
}

/// One heartbeat interval: the network and the other nodes' disks work, the leader's disk does not.
fn beat_with_a_hung_disk(stage: &mut Stage, leader: NodeId) {
    stage.advance(Duration::from_millis(50));
    stage.timer(leader);
    stage.settle(leader);
    let others: Vec<_> = stage.nodes().filter(|node| *node != leader).collect();
    loop {
        let mut moved = false;
        for one in &others {
            moved |= stage.deliver(leader, *one);
            for other in &others {
                moved |= one != other && stage.deliver(*one, *other);
            }
            stage.sync(*one);
            moved |= stage.deliver(*one, leader);
        }
        stage.settle(leader);
        if !moved {
            return;
        }
    }
}

#[test]
fn row_51_a_leader_whose_disk_hangs_hands_over_though_its_network_works() {
    let mut stage = led_by(3, N1);
    let id = propose(&mut stage, N1, "x");
    for beat in 1..=39 {
        beat_with_a_hung_disk(&mut stage, N1);
        assert!(stage.node(N1).is_leader(), "beat {beat}");
    }
    // Two others have it durably, so it is committed; but who reads it here waits for the disk.
    assert!(matches!(stage.answer(N1, id), Some(Reply::Committed { .. })));
    for _ in 0..3 {
        beat_with_a_hung_disk(&mut stage, N1);
    }
    assert!(!stage.node(N1).is_leader());
    assert_eq!(stage.node(N1).status().stats.progress_lost, 1);
    let heir = if stage.node(N2).is_leader() { N2 } else { N3 };
    assert!(stage.node(heir).is_leader(), "the hand-over needs no election timeout");
    assert_eq!(stage.node(heir).term(), Term(2));
    assert_eq!(log(&stage, heir)[..2], ["1:", "1:x"]);
}

#[test]
fn row_51_a_slow_disk_that_works_and_an_idle_one_cost_no_leadership() {
    let mut stage = led_by(3, N1);
    for beat in 0..200 {
        if beat % 30 == 0 && beat < 120 {
            propose(&mut stage, N1, "x");
        }
        beat_with_a_hung_disk(&mut stage, N1);
        if beat % 30 == 29 {
            stage.sync(N1); // a second and a half for one sync
        }
    }
    assert!(stage.node(N1).is_leader());
    assert_eq!(stage.node(N1).term(), Term(1));
}

#[test]
fn row_51_a_state_machine_that_hangs_costs_its_leader_the_leadership() {
    let mut stage = stage_with(3, |config| {
        config.batch_bytes_max = 1 << 10;
        config.unapplied_bytes_max = 1 << 10;
    });
    elect(&mut stage, N1);
    for _ in 0..3 {
        propose(&mut stage, N1, &"x".repeat(600));
        stage.run();
    }
    // Two are not applied, which is more than may wait: the third was refused.
    for beat in 0.. {
        stage.advance(Duration::from_millis(50));
        stage.timer(N1);
        stage.run();
        if !stage.node(N1).is_leader() {
            break;
        }
        assert!(beat < 42);
    }
    assert_eq!(stage.node(N1).status().stats.progress_lost, 1);
}

#[test]
fn row_51_a_leader_alone_goes_on_with_its_hung_disk_and_its_timer_still_moves() {
    use quorate_transport::Machine;
    let mut stage = led_by(1, N1);
    propose(&mut stage, N1, "x");
    for _ in 0..60 {
        stage.advance(Duration::from_millis(50));
        stage.timer(N1);
        stage.settle(N1);
        assert!(stage.node(N1).deadline().is_some_and(|at| at > stage.now()), "law 1");
    }
    assert!(stage.node(N1).is_leader(), "nobody could do better");
}

#[test]
fn a_node_with_a_campaign_delay_leaves_the_first_word_to_others() {
    let delay = Duration::from_millis(200);
    let stage = Stage::new(3, move |start| {
        let mut config = quorate_raft::Config::new([N1, N2, N3]);
        config.election_timeout_max = config.election_timeout_min;
        config.campaign_delay = if start.node == N1 { delay } else { Duration::ZERO };
        quorate_raft::Raft::new(start, config).expect("a valid configuration")
    });
    use quorate_transport::Machine;
    let [first, second] = [N1, N2].map(|node| stage.node(node).deadline().expect("it waits"));
    assert_eq!(first, second + delay);
}

#[test]
fn a_node_told_to_forget_its_leader_votes_at_once() {
    let mut stage = led_by(3, N1);
    let grants = |stage: &mut Stage| {
        let last = stage.node(N2).log_bounds().1;
        let ask = Message::PreVote { term: Term(2), last, last_term: Term(1) };
        stage.inject(N3, N2, ask);
        stage.sync(N2);
        let said = |flight: &&quorate_sim::script::Flight<Message>| {
            flight.from.node == N2 && matches!(flight.message, Message::PreVoteReply { .. })
        };
        let granted =
            stage.wire().iter().filter(said).any(|flight| {
                matches!(flight.message, Message::PreVoteReply { granted: true, .. })
            });
        stage.lose(|_| true);
        granted
    };
    assert!(!grants(&mut stage), "it is true to its leader");
    stage.request(N2, Request::ForgetLeader);
    assert!(grants(&mut stage));
    // A leader has nobody to forget.
    stage.request(N1, Request::ForgetLeader);
    assert!(stage.node(N1).is_leader());
}
