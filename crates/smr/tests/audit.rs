//! Audits, and state machines that do not keep their promises: who stops, with what report, and
//! what becomes of the others.

mod trio;

use std::time::Duration;

use bytes::Bytes;
use quorate_smr::{
    Commands, Event, Outputs, Pieces, Rejection, Reply, Request, RestoreError, Retry, StateMachine,
};
use quorate_transport::{Input, NodeId};
use trio::Group;

/// A sum of the bytes of its commands, with faults that are planted in one replica.
#[derive(Clone, Debug, Default)]
struct Sum {
    sum: u64,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(not(feature = "std"), expect(dead_code, reason = "panics are caught with std alone"))]
enum Fault {
    #[default]
    None,
    /// It adds one more to this command's bytes, and answers as all do.
    Hidden(u8),
    /// It answers this command as it likes.
    Shown(u8),
    /// It panics in this command.
    Panics(u8),
    /// It pushes no output for this command.
    Silent(u8),
    /// It tells of a change after its last output.
    Late(u8),
    /// It panics when it is asked this.
    Query(u8),
    /// It panics in the making of pieces.
    Pieces,
    /// It takes over one less than was saved.
    Restore,
}

impl StateMachine for Sum {
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        for command in commands {
            let byte = command[0];
            self.sum += u64::from(byte);
            let mut answer = u64::from(byte);
            match self.fault {
                Fault::Hidden(bad) if bad == byte => self.sum += 1,
                Fault::Shown(bad) if bad == byte => answer += 1,
                Fault::Panics(bad) if bad == byte => panic!("no {byte} is known here"),
                Fault::Silent(bad) if bad == byte => continue,
                _ => {}
            }
            outputs.push(&answer.to_le_bytes());
            if self.fault == Fault::Late(byte) {
                outputs.change(b"late", &[]);
            }
        }
    }
    fn query(&self, query: &[u8]) -> Bytes {
        assert!(self.fault != Fault::Query(query[0]), "no such question");
        Bytes::copy_from_slice(&self.sum.to_le_bytes())
    }
    fn snapshot(&self) -> Pieces {
        let (sum, fault) = (self.sum, self.fault);
        Pieces::new((0..4_u64).map(move |at| {
            assert!(fault != Fault::Pieces || at < 2, "no third piece");
            Bytes::copy_from_slice(&[at, sum].map(u64::to_le_bytes).concat())
        }))
    }
    fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        let sum = piece.get(8..).and_then(|sum| sum.first_chunk()).ok_or(RestoreError)?;
        self.sum = u64::from_le_bytes(*sum) - u64::from(self.fault == Fault::Restore);
        Ok(())
    }
}

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);
const DAY: Duration = Duration::from_secs(86_400);

/// Node 2 has the fault; audits come when they are asked for.
fn group(fault: Fault) -> Group<Sum> {
    Group::new(3, Sum::default(), |node, config| {
        config.audit_interval = DAY;
        if node == TWO {
            config.state.fault = fault;
        }
    })
}

fn apply(group: &mut Group<Sum>, byte: u8) {
    let leader = group.leader().unwrap();
    let reply = group.get(leader, Request::Apply(Commands::one(&[byte])));
    assert!(matches!(reply, Reply::Applied { .. }), "{reply:?}");
    group.pass(Duration::from_millis(100));
}

fn audit(group: &mut Group<Sum>) -> (u64, u128) {
    let leader = group.leader().unwrap();
    let reply = group.get(leader, Request::Audit);
    let Reply::Audited { index, digest } = reply else { panic!("{reply:?}") };
    group.pass(Duration::from_millis(100));
    (index.0, digest)
}

/// Nodes 1 and 3 serve on, and are of one state.
fn check_rest(group: &mut Group<Sum>) {
    assert_eq!((group.halt(1), group.halt(3)), (None, None));
    apply(group, 7);
    let (index, digest) = audit(group);
    for node in [1, 3] {
        let audited = group.replica(node).status().audited.unwrap();
        assert_eq!((audited.0.0, audited.1), (index, digest), "node {node}");
    }
}

#[test]
fn replicas_of_one_state_find_that_they_are_and_say_its_digest() {
    let mut group = group(Fault::None);
    (1..9).for_each(|byte| apply(&mut group, byte));
    let (index, digest) = audit(&mut group);
    for node in 1..=3 {
        let status = group.replica(node).status();
        assert_eq!(status.audited.map(|(at, digest)| (at.0, digest)), Some((index, digest)));
        assert_eq!(status.audits_agreed, 2, "node {node} has heard of both others");
    }
    apply(&mut group, 9);
    assert_ne!(audit(&mut group).1, digest, "it is of the state");
}

#[test]
fn a_replica_whose_state_differs_stops_with_a_report_and_the_rest_serves_on() {
    for fault in [Fault::Hidden(5), Fault::Shown(5)] {
        let mut group = group(fault);
        (1..9).for_each(|byte| apply(&mut group, byte));
        let (index, digest) = audit(&mut group);
        let halt = group.halt(2).expect("node 2 has stopped");
        assert_eq!(halt.rule, "replicas of one log have one state");
        let report = format!("at {index} the states are n1 {digest:032x} n2 ");
        assert!(halt.detail.starts_with(&report), "{halt}");
        assert!(halt.detail.ends_with(&format!("n3 {digest:032x}")), "{halt}");
        for node in [ONE, THREE] {
            let differs = |event: &Event| matches!(event, Event::Differs { node: TWO, .. });
            assert!(group.nodes[&node].hands.events.iter().any(differs), "{node} is told");
        }
        check_rest(&mut group);
    }
}

#[test]
fn a_leader_whose_state_differs_stops_and_another_leads() {
    let mut group = group(Fault::Hidden(5));
    group.transfer(ONE, TWO);
    (1..9).for_each(|byte| apply(&mut group, byte));
    group.ask(TWO, Request::Audit);
    group.pass(Duration::from_secs(5));
    assert!(group.halt(2).is_some());
    assert_ne!(group.leader(), Some(TWO));
    check_rest(&mut group);
}

/// Seed 2556: the clock jumped in a burst that had begun with an audit.
#[test]
fn a_leader_that_gives_up_in_the_burst_of_an_audit_is_not_due_at_once() {
    let millis = Duration::from_millis;
    let mut group = Group::new(3, Sum::default(), |_, config| config.audit_interval = millis(300));
    apply(&mut group, 1);
    group.pass(millis(150));
    let node = group.nodes.get_mut(&ONE).unwrap();
    for now in [group.now + millis(100), group.now + millis(60_000)] {
        assert!(node.cell.machine().raft().is_leader(), "at {now:?}");
        node.cell.handle(now, Input::Timer, &mut node.hands);
        assert!(node.cell.deadline().is_some_and(|at| at > now), "law 1");
    }
    assert!(!node.cell.machine().raft().is_leader(), "it has heard nobody for a minute");
}

#[test]
fn without_a_third_voice_nobody_is_convicted() {
    let mut group = group(Fault::Hidden(5));
    apply(&mut group, 5);
    group.cut.insert(THREE);
    let (index, _) = audit(&mut group);
    assert_eq!((group.halt(1), group.halt(2)), (None, None));
    assert!(group.nodes[&ONE].hands.events.iter().any(|event| matches!(
        event,
        Event::Differs { node: TWO, index: at } if at.0 == index
    )));
    group.cut.clear();
    group.pass(Duration::from_secs(1));
    audit(&mut group);
    assert!(group.halt(2).is_some(), "the third has spoken");
    check_rest(&mut group);
}

#[test]
fn audits_begin_by_themselves_while_commands_come() {
    let mut group = Group::new(3, Sum::default(), |node, config| {
        config.audit_interval = Duration::from_secs(1);
        if node == TWO {
            config.state.fault = Fault::Hidden(5);
        }
    });
    (1..5).for_each(|byte| apply(&mut group, byte));
    group.pass(Duration::from_secs(3));
    let audited = group.replica(2).status().audited.unwrap().0;
    let last = group.replica(1).status().raft.last;
    group.pass(Duration::from_secs(30));
    assert_eq!(
        group.replica(1).status().raft.last,
        last,
        "nothing has changed: nothing is written"
    );
    assert_eq!(group.replica(2).status().audited.unwrap().0, audited);
    apply(&mut group, 5);
    group.pass(Duration::from_secs(3));
    assert!(group.halt(2).is_some());
    check_rest(&mut group);
}

#[test]
fn an_audit_is_of_one_index_while_commands_are_applied() {
    let mut group = Group::new(3, Sum::default(), |_, config| {
        (config.snapshot_step_bytes, config.audit_interval) = (1, DAY);
    });
    apply(&mut group, 1);
    let first = group.ask(ONE, Request::Audit);
    let second = group.ask(ONE, Request::Audit);
    for byte in 2..9 {
        let reply = group.get(ONE, Request::Apply(Commands::one(&[byte])));
        assert!(matches!(reply, Reply::Applied { .. }));
        group.pass(Duration::from_micros(100));
    }
    group.pass(Duration::from_secs(1));
    let Some(Reply::Audited { index, .. }) = group.answer(ONE, first) else { panic!() };
    let left_out = group.answer(ONE, second).unwrap();
    assert_eq!(left_out, Reply::Rejected(Rejection::Busy), "one at a time");
    assert_eq!(left_out.retry(), Some(Retry::Safe));
    for node in 1..=3 {
        let status = group.replica(node).status();
        assert_eq!((status.audited.unwrap().0, status.audits_agreed), (index, 2), "node {node}");
    }
}

#[test]
fn only_a_leader_begins_an_audit() {
    let mut group = group(Fault::None);
    let reply = group.get(TWO, Request::Audit);
    assert_eq!(reply, Reply::Rejected(Rejection::NotLeader { leader: Some(ONE) }));
}

#[test]
fn a_snapshot_that_is_not_taken_over_as_it_was_saved_stops_its_replica() {
    let mut group = Group::new(3, Sum::default(), |node, config| {
        (config.snapshot_bytes, config.raft.keep_bytes_max) = (100, 0);
        config.audit_interval = DAY;
        if node == TWO {
            config.state.fault = Fault::Restore;
        }
    });
    group.cut.insert(TWO);
    (1..100).for_each(|byte| apply(&mut group, byte));
    group.cut.clear();
    group.pass(Duration::from_secs(2));
    let halt = group.halt(2).expect("node 2 has stopped");
    assert_eq!(halt.rule, "a restored state is the one that its snapshot was made of");
    assert!(halt.detail.starts_with("at "), "{halt}");
    check_rest(&mut group);
}

#[test]
fn two_outputs_too_few_or_a_change_of_no_command_stop_the_replica() {
    for (fault, report) in
        [(Fault::Silent(5), "0 of 1, in the entries "), (Fault::Late(5), "1 of 1, in the entries ")]
    {
        let mut group = group(fault);
        apply(&mut group, 5);
        let halt = group.halt(2).expect("node 2 has stopped");
        assert_eq!(halt.rule, "a state machine pushes one output a command");
        assert!(halt.detail.starts_with(report), "{halt}");
        check_rest(&mut group);
    }
}

#[cfg(feature = "std")]
mod panics {
    use quorate_smr::Freshness;

    use super::*;

    #[test]
    fn a_state_machine_that_panics_stops_its_replica_with_the_entry_and_its_words() {
        let mut group = group(Fault::Panics(5));
        (1..5).for_each(|byte| apply(&mut group, byte));
        let index = group.replica(1).status().applied.0 + 1;
        apply(&mut group, 5);
        let halt = group.halt(2).expect("node 2 has stopped");
        assert_eq!(halt.rule, "a state machine does not panic");
        let want = format!("in the entries {index} to {index}: no 5 is known here");
        assert_eq!(halt.detail, want);
        assert_eq!(group.replica(2).status().applied.0, index - 1, "it says what it had applied");
        check_rest(&mut group);
        // Again, from its journal, and never past the entry.
        group.restart(TWO);
        group.pass(Duration::from_secs(1));
        assert_eq!(group.halt(2).expect("again").detail, want);
        check_rest(&mut group);
    }

    #[test]
    fn a_panic_in_a_query_or_in_a_piece_stops_its_replica() {
        let mut group = group(Fault::Query(9));
        let query = |byte| Request::Query {
            query: Bytes::copy_from_slice(&[byte]),
            freshness: Freshness::Any,
        };
        assert!(matches!(group.get(TWO, query(8)), Reply::Answer { .. }));
        group.ask(TWO, query(9));
        assert!(group.halt(2).unwrap().detail.ends_with("no such question"));
        check_rest(&mut group);

        let mut group = super::group(Fault::Pieces);
        apply(&mut group, 1);
        audit(&mut group);
        let halt = group.halt(2).expect("node 2 has stopped");
        assert!(halt.detail.starts_with("in an audit, at "), "{halt}");
        assert!(halt.detail.ends_with("no third piece"), "{halt}");
        check_rest(&mut group);
    }
}
