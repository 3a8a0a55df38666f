//! Watching: what a watcher is told, where it may go on, and what it is told when it cannot.

mod trio;

use std::time::Duration;

use bytes::Bytes;
use quorate_raft::Index;
use quorate_smr::{
    Commands, Filter, Freshness, Outcome, Outputs, Pieces, Rejection, Reply, Request, RestoreError,
    SharedMap, StateMachine, Watch,
};
use quorate_transport::NodeId;
use trio::Group;

/// A map; a command is a key that is set to its number, or `-key` to remove it.
#[derive(Clone, Default)]
struct Map(SharedMap<Vec<u8>, u64>, u64);

impl StateMachine for Map {
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        for command in commands {
            self.1 += 1;
            match command.strip_prefix(b"-") {
                Some(key) if self.0.remove(key).is_some() => outputs.change(key, &[b"gone"]),
                Some(_) => {}
                None => {
                    self.0.insert(command.to_vec(), self.1);
                    outputs.change(command, &[&self.1.to_le_bytes()]);
                }
            }
            outputs.push(&self.1.to_le_bytes());
        }
    }
    fn query(&self, key: &[u8]) -> Bytes {
        let number = self.0.get(key).copied().unwrap_or_default();
        Bytes::copy_from_slice(&number.to_le_bytes())
    }
    fn snapshot(&self) -> Pieces {
        let count = Bytes::copy_from_slice(&self.1.to_le_bytes());
        let piece =
            |(key, number): (Vec<u8>, u64)| Bytes::from([&number.to_le_bytes()[..], &key].concat());
        Pieces::new(Some(count).into_iter().chain(self.0.clone().into_iter().map(piece)))
    }
    fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        let (number, key) = piece.split_first_chunk().ok_or(RestoreError)?;
        let number = u64::from_le_bytes(*number);
        match key {
            [] => self.1 = number,
            key => drop(self.0.insert(key.to_vec(), number)),
        }
        Ok(())
    }
}

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

fn watch(after: u64, filter: Filter) -> Request {
    Request::Watch(Watch { after: Index(after), filter, wait: Duration::from_secs(1) })
}

fn apply(group: &mut Group<Map>, command: &[u8]) -> u64 {
    let leader = group.leader().unwrap();
    match group.get(leader, Request::Apply(Commands::one(command))) {
        Reply::Applied { first, outcomes } => {
            assert!(matches!(outcomes[..], [Outcome::Done(_)]));
            first.0
        }
        other => panic!("{other:?}"),
    }
}

/// After, upto, and index and key of each change.
fn told(reply: Reply) -> (u64, u64, Vec<(u64, String)>) {
    let Reply::Changes { after, upto, changes } = reply else { panic!("{reply:?}") };
    let change = |change: &quorate_smr::Change| {
        (change.index.0, String::from_utf8_lossy(&change.key).into_owned())
    };
    (after.0, upto.0, changes.iter().map(change).collect())
}

fn keys(told: &[(u64, String)]) -> Vec<&str> {
    told.iter().map(|(_, key)| key.as_str()).collect()
}

#[test]
fn a_watcher_of_a_follower_hears_of_what_is_committed_when_it_is_applied_there() {
    let mut group = Group::new(3, Map::default(), |_, _| {});
    let Reply::ReadIndex { index } = group.get(ONE, Request::ReadIndex) else { panic!() };
    let question = group.ask(TWO, watch(index.0, Filter::All));
    assert_eq!(group.answer(TWO, question), None, "nothing has changed yet");
    assert_eq!(group.replica(2).status().watching, 1);
    let first = apply(&mut group, b"a");
    assert!(first > index.0, "what is answered later is after the index that was read");
    group.pass(Duration::from_millis(100));
    let reply = group.answer(TWO, question).expect("it has changed");
    assert_eq!(told(reply), (index.0, first, vec![(first, "a".into())]));
    assert_eq!(group.replica(2).status().watching, 0);
}

#[test]
fn only_a_leader_that_a_majority_confirms_says_from_where_to_watch() {
    let mut group = Group::new(3, Map::default(), |_, _| {});
    let index = Reply::ReadIndex { index: Index(apply(&mut group, b"a")) };
    assert_eq!(group.get(TWO, Request::ReadIndex), index, "a follower has asked it");
    group.cut.insert(ONE);
    let asked = group.ask(ONE, Request::ReadIndex);
    group.pass(Duration::from_millis(50));
    assert_eq!(group.answer(ONE, asked), None, "it leads in its own eyes, and is not believed");
    group.pass(Duration::from_secs(5));
    assert!(matches!(group.answer(ONE, asked), Some(Reply::Rejected(_))));
}

#[test]
fn a_watch_goes_on_without_gap_or_repetition_across_leaders_and_restarts() {
    let mut group = Group::new(3, Map::default(), |_, _| {});
    let (mut upto, mut all) = (0, Vec::new());
    let mut go_on = |group: &mut Group<Map>, node, want: u64| {
        while upto < want {
            let (after, next, more) = told(group.get(node, watch(upto, Filter::All)));
            assert_eq!(after, upto);
            (upto, all) = (next, [std::mem::take(&mut all), more].concat());
        }
        all.clone()
    };
    let last = apply(&mut group, b"a");
    go_on(&mut group, TWO, last);
    group.transfer(ONE, TWO);
    let last = apply(&mut group, b"b");
    go_on(&mut group, TWO, last);
    go_on(&mut group, THREE, last);
    group.restart(THREE);
    let last = apply(&mut group, b"c");
    go_on(&mut group, THREE, last);
    group.restart(TWO);
    group.pass(Duration::from_secs(5));
    let last = apply(&mut group, b"-a");
    let all = go_on(&mut group, ONE, last);
    assert_eq!(keys(&all), ["a", "b", "c", "a"]);
    assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0), "{all:?}");
}

#[test]
fn filters_leave_out_keys_and_still_say_how_far_the_log_has_come() {
    let mut group = Group::new(1, Map::default(), |_, _| {});
    for key in ["a/1", "b", "a/2", "c"] {
        apply(&mut group, key.as_bytes());
    }
    let last = apply(&mut group, b"-nothing");
    let prefix = Filter::Prefix(Bytes::from_static(b"a/"));
    let (_, upto, changes) = told(group.get(ONE, watch(0, prefix.clone())));
    assert_eq!((upto, keys(&changes)), (last, vec!["a/1", "a/2"]));
    let (_, upto, changes) = told(group.get(ONE, watch(0, Filter::Key(Bytes::from_static(b"b")))));
    assert_eq!((upto, keys(&changes)), (last, vec!["b"]));
    // While it waits, others' changes pass by; after its time it hears how many.
    let question = group.ask(ONE, watch(last, prefix));
    let later = apply(&mut group, b"d");
    assert_eq!(group.answer(ONE, question), None);
    group.pass(Duration::from_millis(1001));
    assert_eq!(told(group.answer(ONE, question).unwrap()), (last, later, vec![]));
}

#[test]
fn a_watcher_that_has_come_further_than_a_replica_waits_for_it() {
    let mut group = Group::new(3, Map::default(), |_, _| {});
    apply(&mut group, b"a");
    group.cut.insert(THREE);
    let last = apply(&mut group, b"b");
    let question = group.ask(THREE, watch(last, Filter::All));
    group.pass(Duration::from_millis(1001));
    let reply = group.answer(THREE, question).unwrap();
    assert_eq!(told(reply), (last, last, vec![]), "no repetition, and no step back");
}

#[test]
fn a_slow_watcher_is_told_what_is_gone_and_goes_on_from_the_state() {
    let mut group = Group::new(1, Map::default(), |_, config| config.history_bytes_max = 1000);
    for number in 0..200 {
        apply(&mut group, format!("key-{}", number % 10).as_bytes());
    }
    let Reply::Compacted { first } = group.get(ONE, watch(3, Filter::All)) else { panic!() };
    assert!(first > Index(100), "{first} is the first that is kept");
    assert_eq!(first, group.replica(1).status().history_first);
    let (_, upto, changes) = told(group.get(ONE, watch(first.0 - 1, Filter::All)));
    assert_eq!(changes.first().map(|(index, _)| *index), Some(first.0));
    // The state's own index is where a watch after it begins.
    let query = Bytes::from_static(b"key-3");
    let freshness = Freshness::Linearizable;
    let reply = group.get(ONE, Request::Query { query, freshness });
    let Reply::Answer { index, .. } = reply else { panic!("{reply:?}") };
    assert_eq!(index.0, upto);
    let next = apply(&mut group, b"key-3");
    let (_, _, changes) = told(group.get(ONE, watch(index.0, Filter::All)));
    assert_eq!(changes, [(next, "key-3".into())]);
}

#[test]
fn what_a_snapshot_brought_is_said_to_be_gone_to_who_waits_and_to_who_asks() {
    let mut group = Group::new(3, Map::default(), |_, config| {
        (config.snapshot_bytes, config.raft.keep_bytes_max) = (200, 0);
    });
    let early = apply(&mut group, b"early");
    group.pass(Duration::from_millis(100));
    group.cut.insert(THREE);
    let waits = group.ask(THREE, watch(early, Filter::All));
    for number in 0..100 {
        apply(&mut group, format!("key-{number}").as_bytes());
        group.pass(Duration::from_millis(5));
    }
    group.cut.clear();
    for _ in 0..100 {
        group.pass(Duration::from_millis(10));
    }
    let status = group.replica(3).status();
    assert!(status.applied.0 > 100 && status.history_first.0 > early + 1, "{status:?}");
    let gone = Reply::Compacted { first: status.history_first };
    assert_eq!(group.answer(THREE, waits), Some(gone.clone()));
    assert_eq!(group.get(THREE, watch(early, Filter::All)), gone);
    // The others applied every entry: there it goes on.
    let (_, _, changes) = told(group.get(TWO, watch(early, Filter::All)));
    assert_eq!(changes.len(), 100);
}

#[test]
fn watchers_are_capped_and_a_replica_that_keeps_nothing_says_so() {
    let mut group = Group::new(1, Map::default(), |_, config| config.watches_max = 2);
    let last = apply(&mut group, b"a");
    let waiting = [(); 2].map(|()| group.ask(ONE, watch(last, Filter::All)));
    let busy = Reply::Rejected(Rejection::Busy);
    assert_eq!(group.get(ONE, watch(last, Filter::All)), busy);
    assert_eq!(told(group.get(ONE, watch(0, Filter::All))).2.len(), 1, "it need not wait");
    apply(&mut group, b"b");
    assert!(waiting.into_iter().all(|question| group.answer(ONE, question).is_some()));

    let mut group = Group::new(1, Map::default(), |_, config| config.history_bytes_max = 0);
    let none = Reply::Rejected(Rejection::NoHistory);
    assert_eq!(group.get(ONE, watch(0, Filter::All)), none);
}
