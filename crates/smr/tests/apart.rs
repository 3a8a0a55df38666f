//! Applying on another thread: what goes on meanwhile, what waits, and that it makes no difference.

mod trio;

use std::time::Duration;

use bytes::Bytes;
use quorate_smr::{
    Commands, Filter, Freshness, Outcome, Outputs, Pieces, Rejection, Reply, Request, RestoreError,
    StateMachine, Watch,
};
use quorate_transport::NodeId;
use trio::Group;

/// Numbers its commands, and knows no `bad` one.
#[derive(Clone, Debug, Default, PartialEq)]
struct Count(u64);

impl StateMachine for Count {
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        for command in commands {
            assert_ne!(command, b"bad", "no such command is known");
            self.0 += 1;
            outputs.change(b"count", &[&self.0.to_le_bytes()]);
            outputs.push(&self.0.to_le_bytes());
        }
    }
    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&self.0.to_le_bytes())
    }
    fn snapshot(&self) -> Pieces {
        Pieces::one(self.query(&[]))
    }
    fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        self.0 = u64::from_le_bytes(piece.try_into().map_err(|_| RestoreError)?);
        Ok(())
    }
}

const ONE: NodeId = NodeId(1);
const MILLI: Duration = Duration::from_millis(1);

/// So many nodes that apply apart; the work of node 1 is done when the test says so.
fn group(count: u64) -> Group<Count> {
    let mut group = Group::new(count, Count::default(), |_, config| {
        config.apply_apart = true;
        config.queries_max = 3;
    });
    while group.work(ONE) {}
    group.nodes.get_mut(&ONE).unwrap().waits = true;
    group
}

fn commands(count: u64) -> Request {
    let mut commands = Commands::default();
    (0..count).for_each(|_| commands.push(b"command"));
    Request::Apply(commands)
}

fn query(freshness: Freshness) -> Request {
    Request::Query { query: Bytes::new(), freshness }
}

fn outputs(reply: Option<Reply>) -> Vec<u64> {
    let Some(Reply::Applied { outcomes, .. }) = reply else { panic!("{reply:?}") };
    let output = |outcome: &Outcome| match outcome {
        Outcome::Done(output) => u64::from_le_bytes(output[..].try_into().unwrap()),
        other => panic!("{other:?}"),
    };
    outcomes.iter().map(output).collect()
}

fn counted(reply: Option<Reply>) -> u64 {
    let Some(Reply::Answer { answer, .. }) = reply else { panic!("{reply:?}") };
    u64::from_le_bytes(answer[..].try_into().unwrap())
}

#[test]
fn a_leader_leads_and_commits_while_a_command_takes_long_and_answers_in_log_order() {
    let mut group = group(3);
    let first = group.ask(ONE, commands(2));
    assert!(group.replica(1).state().is_none(), "it is being applied to");
    let commit = group.replica(1).raft().commit();
    let second = group.ask(ONE, commands(3));
    // Ten election timeouts: nobody else becomes leader, and what is asked for is committed.
    group.pass(10_000 * MILLI);
    assert_eq!(group.leader(), Some(ONE));
    assert_eq!(group.replica(1).raft().commit().0, commit.0 + 3);
    assert_eq!(group.replica(2).state(), Some(&Count(5)), "the others have applied it all");
    assert_eq!((group.answer(ONE, first), group.answer(ONE, second)), (None, None));
    assert!(group.work(ONE));
    assert_eq!(outputs(group.answer(ONE, first)), [1, 2]);
    assert_eq!(group.answer(ONE, second), None);
    assert!(group.work(ONE));
    assert_eq!(outputs(group.answer(ONE, second)), [3, 4, 5]);
    assert!(!group.work(ONE));
    assert_eq!(group.replica(1).state(), Some(&Count(5)));
}

#[test]
fn all_that_was_committed_meanwhile_is_the_next_work() {
    let mut group = group(1);
    group.ask(ONE, commands(1));
    let later: Vec<_> = (0..50).map(|_| group.ask(ONE, commands(2))).collect();
    assert!(group.work(ONE) && group.work(ONE));
    assert!(!group.work(ONE), "it was one batch");
    let all: Vec<u64> = later.iter().flat_map(|id| outputs(group.answer(ONE, *id))).collect();
    assert_eq!(all, (2..=101).collect::<Vec<_>>());
}

#[test]
fn what_needs_the_state_waits_for_it_and_no_more_than_may() {
    let mut group = group(1);
    group.ask(ONE, commands(1));
    let fresh = group.ask(ONE, query(Freshness::Linearizable));
    let any = group.ask(ONE, query(Freshness::Any));
    let digest = group.ask(ONE, Request::Digest);
    let (after, filter) = (group.replica(1).status().applied, Filter::All);
    let watch = group.ask(ONE, Request::Watch(Watch { after, filter, wait: 1000 * MILLI }));
    let refused = group.ask(ONE, query(Freshness::Any));
    assert_eq!(group.answer(ONE, refused), Some(Reply::Rejected(Rejection::Busy)));
    for id in [fresh, any, digest, watch] {
        assert_eq!(group.answer(ONE, id), None, "{id}");
    }
    assert!(group.work(ONE));
    assert_eq!(counted(group.answer(ONE, fresh)), 1);
    assert_eq!(counted(group.answer(ONE, any)), 1);
    let status = group.replica(1).status();
    let want = Reply::Digest { index: status.applied, digest: status.digest };
    assert_eq!(group.answer(ONE, digest), Some(want));
    let changes = group.answer(ONE, watch);
    assert!(matches!(changes, Some(Reply::Changes { .. })), "{changes:?}");
}

#[test]
fn whoever_has_waited_for_the_state_comes_before_it_goes_again() {
    let mut group = group(1);
    group.ask(ONE, commands(1));
    group.ask(ONE, commands(1));
    let any = group.ask(ONE, query(Freshness::Any));
    assert!(group.work(ONE));
    assert!(group.replica(1).state().is_none(), "it has gone again");
    assert_eq!(counted(group.answer(ONE, any)), 1);
}

#[test]
fn a_snapshot_is_made_though_the_state_is_never_here_for_long() {
    let mut group = Group::new(1, Count::default(), |_, config| {
        config.apply_apart = true;
        config.apply_step_bytes = 1;
        config.snapshot_bytes = 1000;
        config.snapshot_interval = 50 * MILLI;
    });
    group.nodes.get_mut(&ONE).unwrap().waits = true;
    for _ in 0..200 {
        group.ask(ONE, commands(2));
        assert!(group.replica(1).state().is_none());
        group.pass(MILLI);
        assert!(group.work(ONE));
    }
    let made = group.nodes[&ONE].hands.snapshots.len();
    assert!(made > 0, "{made}");
    group.nodes.get_mut(&ONE).unwrap().waits = false;
    group.pass(100 * MILLI);
    let before = group.replica(1).status();
    group.restart(ONE);
    group.pass(2000 * MILLI);
    let after = group.replica(1).status();
    assert_eq!(group.replica(1).state(), Some(&Count(400)));
    assert!(after.applied > before.applied && after.sessions == before.sessions);
}

#[test]
fn a_snapshot_is_taken_over_by_a_replica_that_applies_apart() {
    let mut group = Group::new(3, Count::default(), |_, config| {
        config.apply_apart = true;
        config.raft.keep_bytes_max = 0;
        config.snapshot_bytes = 300;
    });
    group.cut.insert(NodeId(3));
    for _ in 0..100 {
        group.ask(ONE, commands(3));
        group.pass(5 * MILLI);
    }
    group.cut.clear();
    group.pass(3000 * MILLI);
    assert_eq!(group.replica(3).state(), Some(&Count(300)));
    assert!(group.replica(3).raft().stats().snapshots_installed > 0);
    let digest = |id| (group.replica(id).status().applied, group.replica(id).status().digest);
    assert_eq!(digest(3), digest(1));
}

#[test]
fn applied_apart_is_what_is_applied_here() {
    let stands = |apart: bool, bytes: usize| {
        let mut group = Group::new(1, Count::default(), |_, config| {
            (config.apply_apart, config.apply_step_bytes) = (apart, bytes);
        });
        let mut all = Commands::default();
        all.push_open();
        (0..50).for_each(|_| all.push(b"command"));
        group.ask(ONE, Request::Apply(all));
        group.pass(10 * MILLI);
        let status = group.replica(1).status();
        (status.applied, status.digest, status.sessions)
    };
    let here = stands(false, 1 << 20);
    for bytes in [1, 17, 100, 1 << 20] {
        assert_eq!(stands(true, bytes), here, "in steps of {bytes}");
    }
}

#[test]
#[cfg_attr(not(feature = "std"), ignore = "panics are caught with std alone")]
fn a_state_machine_that_panics_elsewhere_stops_its_replica_with_a_report() {
    let mut group = group(1);
    let mut bad = Commands::default();
    bad.push(b"bad");
    let asked = group.ask(ONE, Request::Apply(bad));
    assert!(group.halt(1).is_none());
    assert!(group.work(ONE));
    let halt = group.halt(1).expect("it has stopped").to_string();
    assert!(halt.starts_with("a state machine does not panic: in the entries"), "{halt}");
    assert!(halt.contains("no such command is known"), "{halt}");
    assert_eq!(group.answer(ONE, asked), None, "it has stopped");
}
