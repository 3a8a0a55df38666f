//! A batch is never rewritten: what happens inside one, each with every kind of restart after it.

#[path = "support/stage.rs"]
mod stage;

use std::time::Duration;

use quorate_raft::{Proposals, Request};
use quorate_sim::script::Crash;
use quorate_transport::{NodeId, Ticket};
use stage::{N1, N2, N3, Stage, applied, compact, elect, log, propose, stage_with};

fn batch(stage: &mut Stage, node: NodeId, commands: &[&str]) {
    let mut proposals = Proposals::default();
    commands.iter().for_each(|command| proposals.push(command.as_bytes()));
    stage.request(node, Request::Propose(proposals));
}

/// n1 leads a group whose logs all hold `a b` in one batch.
fn begun() -> Stage {
    let mut stage = stage_with(3, |_| {});
    elect(&mut stage, N1);
    batch(&mut stage, N1, &["a", "b"]);
    stage.run();
    stage
}

fn catch_up(stage: &mut Stage, leader: NodeId) {
    stage.heal();
    for _ in 0..3 {
        stage.advance(Duration::from_millis(160));
        stage.timer(leader);
        stage.run();
    }
}

/// Every node restarts in the way given; the leader wins again.
fn restart(stage: &mut Stage, how: Option<Crash>, leader: NodeId) {
    let Some(how) = how else { return };
    for node in [N1, N2, N3] {
        stage.sync(node);
        stage.crash(node, how);
    }
    [N1, N2, N3].into_iter().for_each(|node| stage.start(node));
    stage.lose(|_| true);
    stage.advance(Duration::from_millis(900));
    elect(stage, leader);
    catch_up(stage, leader);
}

fn agree(stage: &Stage, want: &[&str]) {
    for node in [N1, N2, N3] {
        let entries = log(stage, node);
        let commands: Vec<_> = entries.iter().filter_map(|entry| entry.split(':').nth(1)).collect();
        let commands: Vec<_> = commands.into_iter().filter(|command| !command.is_empty()).collect();
        assert_eq!(commands, want, "{node}");
    }
}

const RESTARTS: [Option<Crash>; 3] = [None, Some(Crash::Kill), Some(Crash::Power)];

#[test]
fn a_conflict_inside_a_batch_cuts_it_there() {
    for how in RESTARTS {
        let mut stage = begun();
        // n2 has `c d e` in one batch; n3, which will lead, has only `c` of it, sent as a view.
        batch(&mut stage, N1, &["c"]);
        stage.settle(N1);
        stage.deliver(N1, N3);
        stage.sync(N3);
        stage.isolate(N1);
        stage.lose(|_| true);
        stage.advance(Duration::from_millis(900));
        // n1 freezes two more behind it, which n2 never sees.
        batch(&mut stage, N1, &["d", "e"]);
        stage.sync(N1);
        elect(&mut stage, N3);
        propose(&mut stage, N3, "f");
        stage.run();
        catch_up(&mut stage, N3);
        agree(&stage, &["a", "b", "c", "f"]);
        restart(&mut stage, how, N3);
        agree(&stage, &["a", "b", "c", "f"]);
        propose(&mut stage, N3, "g");
        stage.run();
        agree(&stage, &["a", "b", "c", "f", "g"]);
        assert_eq!(applied(&stage, N3).last().map(|(_, c)| c.as_str()), Some("g"));
    }
}

/// n2 alone holds the batch `c d e`, which n1 sent and has lost with its power.
fn cut_inside() -> Stage {
    let mut stage = begun();
    batch(&mut stage, N1, &["c", "d", "e"]);
    stage.settle(N1);
    stage.deliver(N1, N2);
    stage.sync(N2);
    stage.lose(|_| true);
    stage.crash(N1, Crash::Power); // n1 had not synced it; n2 has
    stage.start(N1);
    stage.advance(Duration::from_millis(900));
    stage
}

#[test]
fn a_batch_that_was_cut_is_sent_again_by_a_new_leader() {
    for how in RESTARTS {
        // n3 wins without it and replaces it from its first entry on; n2's batch goes.
        let mut stage = cut_inside();
        stage.isolate(N2);
        elect(&mut stage, N3);
        stage.heal();
        catch_up(&mut stage, N3);
        agree(&stage, &["a", "b"]);
        restart(&mut stage, how, N3);
        propose(&mut stage, N3, "x");
        stage.run();
        agree(&stage, &["a", "b", "x"]);
        // n2 wins with it, and sends the whole batch again to both others.
        let mut stage = cut_inside();
        elect(&mut stage, N2);
        catch_up(&mut stage, N2);
        agree(&stage, &["a", "b", "c", "d", "e"]);
        restart(&mut stage, how, N1);
        agree(&stage, &["a", "b", "c", "d", "e"]);
    }
}

#[test]
fn compaction_inside_a_batch_keeps_the_batch_over_a_restart() {
    for how in RESTARTS {
        let mut stage = begun();
        batch(&mut stage, N1, &["c", "d", "e"]);
        stage.run();
        // n2 has applied up to `c`, in the middle of the batch, and compacts there.
        let index = quorate_raft::Index(4);
        stage.request(N2, Request::Applied { index });
        let contents = [bytes::Bytes::from_static(b"a b c")].into_iter().collect();
        stage.request(N2, Request::Compact { index, contents });
        stage.sync(N2);
        assert_eq!(stage.node(N2).snapshot().map(|id| id.index), Some(4));
        assert_eq!(log(&stage, N2), ["1:c", "1:d", "1:e"], "the batch stays whole");
        restart(&mut stage, how, N2);
        let commands = log(&stage, N2);
        assert_eq!(&commands[..3], ["1:c", "1:d", "1:e"]);
        // After a restart it is restored from the snapshot, and told the rest of the batch alone.
        if how.is_some() {
            let told = applied(&stage, N2);
            let again = told.iter().rev().take_while(|(index, _)| *index > 4).count();
            assert_eq!(told[told.len() - again].0, 5, "{told:?}");
        }
        let leader = if how.is_some() { N2 } else { N1 };
        propose(&mut stage, leader, "f");
        stage.run();
        agree_tail(&stage, "f");
    }
}

fn agree_tail(stage: &Stage, want: &str) {
    for node in [N1, N2, N3] {
        assert_eq!(applied(stage, node).last().map(|(_, c)| c.as_str()), Some(want), "{node}");
    }
}

#[test]
fn a_journal_may_begin_inside_what_a_checkpoint_moved() {
    for how in RESTARTS {
        let mut stage = begun();
        batch(&mut stage, N1, &["c", "d", "e"]);
        stage.run();
        compact(&mut stage, N3, "all");
        propose(&mut stage, N1, "f");
        stage.run();
        let last = stage.journal(N3).last().expect("records").0;
        stage.checkpoint(N3, Ticket(last.0 + 1));
        stage.sync(N3);
        let first = stage.journal(N3).first().expect("records").0;
        restart(&mut stage, how, N1);
        propose(&mut stage, N1, "g");
        stage.run();
        agree_tail(&stage, "g");
        if how.is_some() {
            assert!(stage.journal(N3).first().expect("records").0 > first, "what moved is gone");
        }
    }
}
