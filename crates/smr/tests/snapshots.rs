//! When snapshots are made, that nothing waits for them, and that a state is taken over whole, with
//! its index, or not at all.

mod trio;

use std::time::Duration;

use bytes::Bytes;
use quorate_smr::{
    Commands, Outputs, Pieces, Reply, Request, RestoreError, SharedMap, StateMachine,
};
use quorate_transport::NodeId;
use trio::Group;

/// Keeps every command by its number, so that state and applied index can be compared.
#[derive(Clone, Debug, Default)]
struct Kept(SharedMap<u64, Vec<u8>>);

impl StateMachine for Kept {
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        for command in commands {
            self.0.insert(self.0.len() as u64, command.to_vec());
            outputs.push(&[]);
        }
    }
    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::new()
    }
    fn snapshot(&self) -> Pieces {
        Pieces::new(self.0.clone().into_iter().map(|(_, command)| Bytes::from(command)))
    }
    fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        self.0.insert(self.0.len() as u64, piece.to_vec());
        Ok(())
    }
}

const ONE: NodeId = NodeId(1);
const DAY: Duration = Duration::from_secs(86_400);

/// A group of one that makes snapshots after so many bytes and so much time.
fn alone(bytes: u64, interval: Duration) -> Group<Kept> {
    Group::new(1, Kept::default(), |_, config| {
        (config.snapshot_bytes, config.snapshot_interval) = (bytes, interval);
        config.audit_interval = DAY;
    })
}

fn apply(group: &mut Group<Kept>) -> u64 {
    match group.get(ONE, Request::Apply(Commands::one(&[7; 100]))) {
        Reply::Applied { first, .. } => first.0,
        other => panic!("{other:?}"),
    }
}

fn snapshot(group: &Group<Kept>) -> u64 {
    group.replica(1).status().raft.snapshot.0
}

#[test]
fn a_snapshot_is_made_after_so_many_bytes() {
    let mut group = alone(1000, DAY);
    for count in 1..=8 {
        apply(&mut group);
        group.pass(Duration::from_millis(50));
        assert_eq!(snapshot(&group), 0, "of {count}");
    }
    let index = apply(&mut group);
    group.pass(Duration::from_millis(50));
    assert_eq!(snapshot(&group), index);
}

#[test]
fn a_snapshot_is_made_after_so_much_time_if_anything_was_applied() {
    let mut group = alone(1 << 20, Duration::from_secs(10));
    let first = apply(&mut group);
    group.pass(Duration::from_millis(9_900));
    assert_eq!(snapshot(&group), 0);
    group.pass(Duration::from_millis(200));
    assert_eq!(snapshot(&group), first);
    let journal = group.replica(1).status().raft.log_bytes;
    group.pass(Duration::from_secs(100));
    assert_eq!(snapshot(&group), first, "nothing was applied since");
    assert_eq!(group.replica(1).status().raft.log_bytes, journal);
    let second = apply(&mut group);
    group.pass(Duration::from_millis(10_100));
    assert_eq!(snapshot(&group), second, "the time is that since the first command after it");
}

#[test]
fn commands_are_answered_while_a_snapshot_is_written_and_are_not_in_it() {
    let mut group = Group::new(1, Kept::default(), |_, config| {
        (config.snapshot_bytes, config.audit_interval) = (10_000, DAY);
        (config.snapshot_step_bytes, config.snapshot_bytes_max) = (1, 1 << 30);
    });
    let mut index = 0;
    while snapshot(&group) == 0 {
        index = apply(&mut group); // panics unless it is answered
        group.pass(Duration::from_millis(1));
    }
    let of = snapshot(&group);
    assert!(index > of + 50, "{index} were applied while that of {of} was written");
    let (id, bytes) = group.nodes[&ONE].hands.snapshots.last_key_value().unwrap();
    // Not in it: the leader's own first entry.
    let pieces = of as usize - 1;
    assert_eq!((id.index, bytes.len()), (of, 44 + pieces * 104 + 20));
}

#[test]
fn a_state_is_taken_over_with_its_index_or_not_at_all() {
    let mut group = alone(1000, DAY);
    for _ in 0..30 {
        apply(&mut group);
        group.pass(Duration::from_millis(50));
    }
    let applied = group.replica(1).status().applied.0;
    let (of, whole) = {
        let snapshots = &group.nodes[&ONE].hands.snapshots;
        let (id, bytes) = snapshots.last_key_value().unwrap();
        (*id, bytes.clone())
    };
    assert!(of.index > 10);
    let stands = |group: &Group<Kept>| {
        let replica = group.replica(1);
        (replica.status().applied.0, replica.state().unwrap().0.len() as u64)
    };
    for at in (0..whole.len()).step_by(7) {
        for cut in [false, true] {
            let bytes = group.nodes.get_mut(&ONE).unwrap().hands.snapshots.get_mut(&of).unwrap();
            bytes.clone_from(&whole);
            match cut {
                true => bytes.truncate(at),
                false => bytes[at] ^= 1,
            }
            group.restart(ONE);
            let halt = group.halt(1).expect("it is not that state");
            assert_eq!(halt.rule, "a snapshot restores the state it was made of", "at {at}");
            assert_eq!(stands(&group), (0, 0), "at {at}");
        }
    }
    let snapshots = &mut group.nodes.get_mut(&ONE).unwrap().hands.snapshots;
    snapshots.insert(of, whole);
    group.restart(ONE);
    group.pass(Duration::from_secs(2));
    let (index, count) = stands(&group);
    assert_eq!(count, applied - 1, "every command once: all but the first leader's own entry");
    assert_eq!(index, group.replica(1).status().raft.last.0);
}
