//! Watchers of the simulated group: each asks any node, goes on elsewhere when that one dies, and
//! keeps all that it was told.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_raft::Index;
use quorate_sim::sometimes;
use quorate_smr::{Change, Filter, Outputs, Reply, Request, StateMachine, Watch};
use quorate_transport::Rng;

use super::ledger::{Ledger, Made};

/// What a watcher was told between two places where it lost the thread.
#[derive(Default)]
struct Stretch {
    start: Index,
    upto: Index,
    told: Vec<(Index, Made)>,
}

pub(crate) struct Watcher {
    filter: Filter,
    stretches: Vec<Stretch>,
    /// It must find out where to begin.
    lost: bool,
    /// Changes with its question: an answer to an older one is not heard.
    pub(crate) question: u64,
}

/// All of them, and every change that any of them was told of, by its place among all changes.
pub(crate) struct Watchers {
    pub(crate) all: Vec<Watcher>,
    known: BTreeMap<u64, (Index, Made)>,
    pub(crate) told: u64,
}

impl Watchers {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let byte = |rng: &mut Rng| rng.below(12) as u8;
        let filters = [
            Filter::All,
            Filter::All,
            Filter::Prefix(Bytes::from(vec![byte(rng)])),
            Filter::Key(Bytes::copy_from_slice(&u64::from(byte(rng)).to_le_bytes())),
        ];
        let watcher = |filter| {
            // They begin before the first entry, or where they find the log.
            let lost = rng.below(2) == 0;
            Watcher { filter, stretches: vec![Stretch::default()], lost, question: 0 }
        };
        Self { all: filters.map(watcher).into(), known: BTreeMap::new(), told: 0 }
    }

    /// The next question of a watcher.
    pub(crate) fn question(&mut self, watcher: usize, rng: &mut Rng) -> Request {
        let Watcher { filter, stretches, lost, question } = &mut self.all[watcher];
        *question += 1;
        if *lost {
            return Request::ReadIndex;
        }
        let after = stretches.last().map_or(Index::ZERO, |stretch| stretch.upto);
        let wait = Duration::from_millis(rng.below(1500));
        Request::Watch(Watch { after, filter: filter.clone(), wait })
    }

    /// Takes an answer to a watcher's last question.
    pub(crate) fn hear(&mut self, watcher: usize, reply: Reply) -> Result<(), String> {
        let one = &mut self.all[watcher];
        match reply {
            Reply::ReadIndex { index } => {
                one.lost = false;
                one.stretches.push(Stretch { start: index, upto: index, told: Vec::new() });
            }
            Reply::Changes { after, upto, changes } => {
                let Some(stretch) = one.stretches.last_mut() else { return Ok(()) };
                if after != stretch.upto || upto < after {
                    return Err(format!("M8 {after} to {upto} was told after {}", stretch.upto));
                }
                stretch.upto = upto;
                for change in changes {
                    if change.index <= after || change.index > upto {
                        return Err(format!("M8 {change:?} is not in {after} to {upto}"));
                    }
                    if !one.filter.wants(&change.key) {
                        return Err(format!("M8 {change:?} was not asked for"));
                    }
                    let made = Made::decode(&change);
                    let known = self.known.entry(made.place).or_insert((change.index, made));
                    if *known != (change.index, made) {
                        return Err(format!("M8 {known:?} and {:?}", (change.index, made)));
                    }
                    stretch.told.push((change.index, made));
                    self.told += 1;
                }
            }
            Reply::Compacted { first } => {
                sometimes!(true, "a watcher came too late");
                let upto = one.stretches.last().map_or(Index::ZERO, |stretch| stretch.upto);
                if first <= upto.next() {
                    return Err(format!("M8 compacted up to {first}, asked for after {upto}"));
                }
                one.lost = true;
            }
            Reply::Rejected(_) => {}
            other => return Err(format!("a watcher was answered {other:?}")),
        }
        Ok(())
    }

    /// How far every watcher has come that knows where it is.
    pub(crate) fn upto(&self) -> Option<Index> {
        let upto = |one: &Watcher| {
            let last = one.stretches.last().map(|stretch| stretch.upto);
            last.filter(|_| !one.lost).unwrap_or(Index::ZERO)
        };
        self.all.iter().map(upto).min()
    }

    /// Each stretch is the sequence of committed changes from its start: no gap, no repetition.
    /// `exact` holds operations whose index is certain.
    pub(crate) fn check_end(
        &self,
        ledger: &Ledger,
        exact: &BTreeMap<u64, Index>,
    ) -> Result<(), String> {
        let log: Vec<Made> = ledger.log.iter().map(|(_, made)| *made).collect();
        let index = |made: &Made| {
            let known = self.known.get(&made.place).map(|(index, _)| *index);
            known.or_else(|| exact.get(&made.number).copied())
        };
        for one in &self.all {
            for (at, stretch) in one.stretches.iter().enumerate() {
                let (start, upto) = (stretch.start, stretch.upto);
                let told: Vec<Made> = stretch.told.iter().map(|(_, made)| *made).collect();
                let is_last = at + 1 == one.stretches.len();
                let wanted = log.iter().filter(|made| one.filter.wants(&made.key.to_le_bytes()));
                let (first, last) = (told.first(), told.last());
                let within = |made: &&Made| match index(made) {
                    Some(index) => start < index && index <= upto,
                    // Nobody knows where it is but for its place among the others.
                    None => {
                        first.is_some_and(|first| first.place <= made.place)
                            && (is_last || last.is_some_and(|last| made.place <= last.place))
                    }
                };
                let want: Vec<Made> = wanted.filter(within).copied().collect();
                if want != told {
                    let differs = want.iter().zip(&told).position(|(want, told)| want != told);
                    return Err(format!(
                        "M8 {:?} was told {} changes of {} after {start} up to {upto}: {differs:?}",
                        one.filter,
                        told.len(),
                        want.len()
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Made {
    fn decode(change: &Change) -> Self {
        let [place, number, key, sum] =
            std::array::from_fn(|at| super::ledger::word(&change.change, at));
        Self { place, number, key, sum }
    }
}

/// What is checked of watchers fails where it should: called by a test.
#[allow(dead_code, reason = "the example has no tests")]
pub(crate) fn self_test() {
    let mut ledger = Ledger::default();
    let commands: Vec<Vec<u8>> =
        (1..=6).map(|number| super::ledger::command(number, number % 2, 1)).collect();
    ledger.apply(&mut commands.iter().map(|command| &command[..]), &mut Outputs::default());
    let made = |at: u64| (Index(10 + at), *ledger.log.get(&at).expect("one a command"));
    let change = |(index, made): (Index, Made)| Change {
        index,
        key: Bytes::copy_from_slice(&made.key.to_le_bytes()),
        change: [made.place, made.number, made.key, made.sum].map(u64::to_le_bytes).concat().into(),
    };
    let told = |after: u64, upto: u64, places: &[u64]| Reply::Changes {
        after: Index(after),
        upto: Index(upto),
        changes: places.iter().map(|at| change(made(*at))).collect(),
    };
    let verdict = |replies: &[Reply]| {
        let mut rng = Rng::new(1);
        let mut watchers = Watchers::new(&mut rng);
        watchers.all.truncate(1);
        for reply in replies {
            watchers.hear(0, reply.clone())?;
        }
        watchers.check_end(&ledger, &BTreeMap::new())
    };
    assert_eq!(verdict(&[told(0, 13, &[1, 2, 3]), told(13, 99, &[4, 5, 6])]), Ok(()));
    let compacted = Reply::Compacted { first: Index(15) };
    let begin = Reply::ReadIndex { index: Index(15) };
    assert_eq!(verdict(&[told(0, 13, &[1, 2, 3]), compacted, begin, told(15, 99, &[6])]), Ok(()));
    for (what, replies) in [
        ("a gap", vec![told(0, 12, &[1]), told(12, 99, &[3, 4, 5, 6])]),
        ("a gap between answers", vec![told(0, 11, &[1]), told(12, 99, &[3, 4, 5, 6])]),
        ("a repetition", vec![told(0, 13, &[1, 2, 3]), told(13, 99, &[3, 4, 5, 6])]),
        ("another order", vec![told(0, 99, &[1, 3, 2, 4, 5, 6])]),
        ("an end too soon", vec![told(0, 99, &[1, 2, 3, 4, 5])]),
        ("compaction of what is to come", vec![Reply::Compacted { first: Index(1) }]),
        ("too much", vec![told(0, 11, &[1, 2])]),
    ] {
        assert!(verdict(&replies).is_err(), "{what} goes unnoticed");
    }
}
