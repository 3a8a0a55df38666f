//! Applying in steps: a replica is not deaf while it applies much, and answers in log order.

mod trio;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quorate_smr::{
    Commands, Freshness, Outcome, Outputs, Pieces, Reply, Request, RestoreError, StateMachine,
};
use quorate_transport::NodeId;
use trio::Group;

/// Numbers its commands, and counts those that any replica applies.
#[derive(Clone, Default)]
struct Count {
    own: u64,
    all: Arc<AtomicU64>,
}

impl StateMachine for Count {
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        for _ in commands {
            self.own += 1;
            self.all.fetch_add(1, Ordering::Relaxed);
            outputs.push(&self.own.to_le_bytes());
        }
    }
    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&self.own.to_le_bytes())
    }
    fn snapshot(&self) -> Pieces {
        Pieces::one(self.query(&[]))
    }
    fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        self.own = u64::from_le_bytes(piece.try_into().map_err(|_| RestoreError)?);
        Ok(())
    }
}

const ONE: NodeId = NodeId(1);
/// Commands of one step: each costs 100 bytes, 1 for its kind, and 16 more.
const STEP: u64 = 8;

fn commands(count: u64) -> Commands {
    let mut commands = Commands::default();
    (0..count).for_each(|_| commands.push(&[7; 100]));
    commands
}

fn outputs(reply: &Reply) -> Vec<u64> {
    let Reply::Applied { outcomes, .. } = reply else { panic!("{reply:?}") };
    let output = |outcome: &Outcome| match outcome {
        Outcome::Done(output) => u64::from_le_bytes(output[..].try_into().unwrap()),
        other => panic!("{other:?}"),
    };
    outcomes.iter().map(output).collect()
}

#[test]
fn much_is_applied_in_steps_others_are_served_between_and_answers_come_in_log_order() {
    let state = Count::default();
    let mut group = Group::new(1, state.clone(), |_, config| config.apply_step_bytes = 8 * 117);
    let first = group.ask(ONE, Request::Apply(commands(1000)));
    let second = group.ask(ONE, Request::Apply(commands(10)));
    let (mut steps, mut before) = (1, 0);
    let any = || Request::Query { query: Bytes::new(), freshness: Freshness::Any };
    loop {
        let all = state.all.load(Ordering::Relaxed);
        assert!(all - before <= STEP, "{} commands in one step", all - before);
        before = all;
        // A question is answered at once, with what is applied by then.
        let asked = group.ask(ONE, any());
        let Some(Reply::Answer { answer, .. }) = group.answer(ONE, asked) else { panic!() };
        assert_eq!(answer, all.to_le_bytes()[..]);
        if all == 1010 {
            break;
        }
        assert_eq!(group.answer(ONE, second), None, "it comes after the first");
        group.pass(Duration::from_nanos(1));
        steps += 1;
    }
    assert!(steps >= 1010 / STEP, "{steps} steps");
    let answer = group.answer(ONE, first).unwrap();
    assert_eq!(outputs(&answer), (1..=1000).collect::<Vec<_>>());
    let answer = group.answer(ONE, second).unwrap();
    assert_eq!(outputs(&answer), (1001..=1010).collect::<Vec<_>>());
}

#[test]
fn what_is_applied_in_steps_is_what_is_applied_at_once() {
    let stands = |bytes: usize| {
        let mut group = Group::new(1, Count::default(), |_, config| {
            config.apply_step_bytes = bytes;
        });
        let mut all = Commands::default();
        all.push_open();
        (0..50).for_each(|_| all.push(b"command"));
        group.ask(ONE, Request::Apply(all));
        group.pass(Duration::from_millis(10));
        let status = group.replica(1).status();
        (status.applied, status.digest, status.sessions)
    };
    let whole = stands(1 << 20);
    for bytes in [1, 17, 100, 500] {
        assert_eq!(stands(bytes), whole, "in steps of {bytes}");
    }
}
