//! Sessions over a group: once each, whoever leads; and for how long they are remembered.

mod trio;

use std::time::Duration;

use bytes::Bytes;
use quorate_smr::{
    Commands, Outcome, Outputs, Pieces, Reply, Request, RestoreError, SessionId, Stamp,
    StateMachine,
};
use quorate_transport::NodeId;
use trio::Group;

/// Counts commands: applying one twice shows.
#[derive(Clone, Debug, Default, PartialEq)]
struct Count(u64);

impl StateMachine for Count {
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        for _ in commands {
            self.0 += 1;
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
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);
const TTL: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_secs(1);

fn group(count: u64) -> Group<Count> {
    Group::new(count, Count::default(), |_, config| {
        (config.session_ttl, config.tick_interval) = (TTL, TICK);
    })
}

fn outcomes(group: &mut Group<Count>, commands: Commands) -> Vec<Outcome> {
    let leader = group.leader().unwrap();
    match group.get(leader, Request::Apply(commands)) {
        Reply::Applied { outcomes, .. } => outcomes.into_iter().collect(),
        other => panic!("{other:?}"),
    }
}

fn open(group: &mut Group<Count>) -> SessionId {
    let mut commands = Commands::default();
    commands.push_open();
    match outcomes(group, commands)[..] {
        [Outcome::Opened(session)] => session,
        ref other => panic!("{other:?}"),
    }
}

fn stamped(session: SessionId, sequences: &[u64]) -> Commands {
    let mut commands = Commands::default();
    for sequence in sequences {
        let stamp = Stamp { session, sequence: *sequence, answered: 0 };
        commands.push_stamped(stamp, b"count");
    }
    commands
}

fn apply(group: &mut Group<Count>, session: SessionId, sequences: &[u64]) -> Vec<Outcome> {
    outcomes(group, stamped(session, sequences))
}

fn done(count: u64) -> Outcome {
    Outcome::Done(Bytes::copy_from_slice(&count.to_le_bytes()))
}

#[test]
fn several_commands_of_a_session_are_under_way_and_each_is_applied_once() {
    let mut group = group(3);
    let session = open(&mut group);
    assert_eq!(apply(&mut group, session, &[3, 1]), [done(1), done(2)]);
    // Again, with new ones between them, through another leader.
    group.transfer(ONE, TWO);
    assert_eq!(apply(&mut group, session, &[1, 2, 3, 4]), [done(2), done(3), done(1), done(4)]);
    group.restart(TWO);
    group.pass(Duration::from_secs(3));
    assert_eq!(apply(&mut group, session, &[4, 3]), [done(4), done(1)]);
    assert_eq!(group.replica(3).state(), Some(&Count(4)));
}

#[test]
fn an_unknown_outcome_is_resolved_by_asking_again_within_the_session() {
    let mut group = group(3);
    let session = open(&mut group);
    group.cut.insert(ONE);
    let lost = group.ask(ONE, Request::Apply(stamped(session, &[1])));
    group.pass(Duration::from_secs(5));
    assert_ne!(group.leader(), Some(ONE));
    assert_eq!(apply(&mut group, session, &[1]), [done(1)], "it was in no other log");
    group.cut.clear();
    group.pass(Duration::from_secs(5));
    let told = group.answer(ONE, lost);
    assert!(matches!(told, Some(Reply::Unknown | Reply::Rejected(_))), "{told:?}");
    assert_eq!(apply(&mut group, session, &[1]), [done(1)]);
}

#[test]
fn a_session_in_use_lives_and_one_that_is_not_expires_alike_on_all_replicas() {
    let mut group = group(3);
    let (used, idle) = (open(&mut group), open(&mut group));
    for sequence in 1..30 {
        group.pass(Duration::from_millis(900));
        assert_eq!(apply(&mut group, used, &[sequence]), [done(sequence)]);
    }
    group.pass(Duration::from_secs(1));
    for node in 1..=3 {
        let status = group.replica(node).status();
        assert_eq!((status.sessions, status.sessions_expired), (1, 1), "node {node}");
        assert_eq!(status.log_time, group.replica(1).status().log_time);
        assert_eq!(status.digest, group.replica(1).status().digest);
    }
    assert_eq!(apply(&mut group, idle, &[1]), [Outcome::Expired]);
    assert_eq!(group.replica(1).state(), Some(&Count(29)), "and is not applied");
}

#[test]
fn no_session_expires_before_its_time_and_each_soon_after() {
    for offset in 0..20 {
        let mut group = group(1);
        let _other = open(&mut group); // so that log time goes on
        group.pass(Duration::from_millis(offset * 53));
        let opened = group.now;
        let session = open(&mut group);
        assert_eq!(apply(&mut group, session, &[1]), [done(1)]);
        while group.replica(1).status().sessions > 0 {
            group.pass(Duration::from_millis(100));
        }
        let lived = group.now.since(opened);
        assert!(lived > TTL && lived <= TTL + 4 * TICK, "{lived:?}");
    }
}

#[test]
fn a_command_that_comes_again_after_its_session_expired_is_not_applied_again() {
    let mut group = group(3);
    let session = open(&mut group);
    assert_eq!(apply(&mut group, session, &[1]), [done(1)]);
    group.pass(TTL + 5 * TICK);
    assert_eq!(group.replica(1).status().sessions, 0);
    assert_eq!(apply(&mut group, session, &[1, 2]), [Outcome::Expired, Outcome::Expired]);
    assert_eq!(group.replica(1).state(), Some(&Count(1)));
    assert_ne!(open(&mut group), session, "no session has the name of another");
}

#[test]
fn log_time_is_at_most_the_time_that_leaders_served_and_survives_them() {
    let mut group = group(3);
    open(&mut group);
    let begun = group.now;
    group.pass(Duration::from_secs(3));
    let time = |group: &Group<Count>, node| group.replica(node).status().log_time;
    let first = time(&group, 2);
    assert!(first >= TICK && first <= group.now.since(begun), "{first:?}");
    group.transfer(ONE, TWO);
    group.pass(Duration::from_secs(3));
    let second = time(&group, 2);
    assert!(second > first && second <= group.now.since(begun), "{second:?}");
    // Without a majority nobody serves, and no time passes.
    group.cut.extend([ONE, THREE]);
    group.pass(Duration::from_secs(60));
    group.cut.clear();
    group.pass(Duration::from_secs(2));
    let third = time(&group, 2);
    assert!(third <= second + 5 * TICK, "{third:?} after {second:?}");
    assert_eq!(group.replica(2).status().sessions, 1, "it could not be used, and has not expired");
    // From a journal, too.
    group.restart(TWO);
    group.pass(Duration::from_secs(1));
    assert!(time(&group, 2) >= third);
}

#[test]
fn sessions_and_log_time_are_in_the_snapshot() {
    let mut group = Group::new(3, Count::default(), |_, config| {
        (config.session_ttl, config.tick_interval) = (TTL, TICK);
        (config.snapshot_bytes, config.raft.keep_bytes_max) = (500, 0);
    });
    let session = open(&mut group);
    group.cut.insert(THREE);
    assert_eq!(apply(&mut group, session, &[1]), [done(1)]);
    for sequence in 2..50 {
        apply(&mut group, session, &[sequence]);
        group.pass(Duration::from_millis(100));
    }
    group.cut.clear();
    group.pass(Duration::from_secs(2));
    let (one, three) = (group.replica(1).status(), group.replica(3).status());
    assert!(three.history_first.0 > 10, "it took over a snapshot");
    assert_eq!((three.digest, three.log_time), (one.digest, one.log_time));
    assert!(three.log_time > TICK);
    group.transfer(ONE, THREE);
    assert_eq!(apply(&mut group, session, &[1, 49]), [done(1), done(49)]);
}

#[test]
fn where_there_are_no_sessions_nothing_is_written() {
    let mut group = group(1);
    let last = group.replica(1).status().raft.last;
    group.pass(Duration::from_secs(100));
    assert_eq!(group.replica(1).status().raft.last, last);
}
