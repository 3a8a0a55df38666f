//! What must be true in the end: nothing acknowledged is lost, all replicas are equal, and one copy
//! of the data could have answered as the cluster did.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use quorate_linearizability::{Budget, Model, Operation, Verdict, check};
use tokio::time::Instant;

use crate::cluster::{Cluster, alarms};
use crate::workload::{Seen, since, value_name};

/// How long replicas may take to be equal, and a last look at everything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Steps that the check of one key may take; a gigabyte at the very most.
const STEPS_MAX: u64 = 20_000_000;

/// A key that no client's history tells of.
pub(crate) const PROBE: &str = "probe";

/// A map whose writes say whether the key was there before, or as expected.
pub(crate) enum Kv {}

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Get {
        key: String,
    },
    Put {
        key: String,
        value: String,
    },
    Delete {
        key: String,
    },
    /// Sets the key if it has this value, or is not there.
    Swap {
        key: String,
        expected: Option<String>,
        value: String,
    },
}

/// What it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Value(Option<String>),
    /// The key was there before the write.
    Existed(bool),
    /// It was as expected, and was set.
    Swapped(bool),
}

/// One operation of a history.
pub(crate) type Event = Operation<Kv>;

impl Model for Kv {
    type Key = String;
    type State = Option<String>;
    type Op = Op;
    type Output = Output;

    fn init() -> Option<String> {
        None
    }

    fn step(state: &Option<String>, op: &Op, output: Option<&Output>) -> Option<Option<String>> {
        let fits = match (op, output) {
            (_, None) => true,
            (Op::Get { .. }, Some(Output::Value(seen))) => seen == state,
            (Op::Put { .. } | Op::Delete { .. }, Some(Output::Existed(existed))) => {
                *existed == state.is_some()
            }
            (Op::Swap { expected, .. }, Some(Output::Swapped(swapped))) => {
                *swapped == (expected == state)
            }
            _ => false,
        };
        fits.then(|| match op {
            Op::Get { .. } => state.clone(),
            Op::Put { value, .. } => Some(value.clone()),
            Op::Delete { .. } => None,
            Op::Swap { expected, .. } if expected != state => state.clone(),
            Op::Swap { value, .. } => Some(value.clone()),
        })
    }

    fn partition_key(op: &Op) -> String {
        match op {
            Op::Get { key } | Op::Put { key, .. } | Op::Delete { key } | Op::Swap { key, .. } => {
                key.clone()
            }
        }
    }

    fn is_read(op: &Op) -> bool {
        matches!(op, Op::Get { .. })
    }

    fn feeds(op: &Op, observer: &Op, observed: &Output) -> bool {
        let left = match op {
            Op::Get { .. } => return false,
            Op::Put { value, .. } | Op::Swap { value, .. } => Some(value),
            Op::Delete { .. } => None,
        };
        match (observer, observed) {
            (_, Output::Value(seen)) => seen.as_ref() == left,
            (_, Output::Existed(existed)) => *existed == left.is_some(),
            (Op::Swap { expected, .. }, Output::Swapped(swapped)) => {
                (expected.as_ref() == left) == *swapped
            }
            _ => false,
        }
    }
}

/// What a check came to: a line for the reader, or why it failed.
pub(crate) type Finding = Result<String, String>;

/// Every check, in order.
pub(crate) async fn judge(
    cluster: &Cluster,
    mut seen: Seen,
    begun: Instant,
) -> (Seen, Vec<Finding>) {
    let mut findings = Vec::new();
    let client = cluster.client(PATIENCE);
    let called = since(begun);
    match client.list(b"").await {
        Ok(pairs) => {
            let returned = since(begun);
            let mut have = BTreeMap::new();
            for (key, value) in pairs {
                let key = String::from_utf8_lossy(&key).into_owned();
                match value_name(&value) {
                    Ok(name) => drop(have.insert(key, name)),
                    Err(error) => findings.push(Err(format!("{key}: {error}"))),
                }
            }
            findings.push(nothing_lost(&seen, &have));
            let last_reads = last_reads(&seen.history, &have);
            seen.history.extend(
                last_reads
                    .map(|(op, output)| Event {
                        client: u64::MAX,
                        called,
                        returned: Some((returned, output)),
                        op,
                    })
                    .collect::<Vec<_>>(),
            );
        }
        Err(error) => findings.push(Err(format!("cannot read everything back: {error}"))),
    }
    findings.push(match client.equal_digests(PATIENCE).await {
        Ok((index, digest)) => {
            Ok(format!("all replicas have digest {digest:032x} at index {index}"))
        }
        Err(error) => Err(error.to_string()),
    });
    findings.push(linearizable(&seen.history, STEPS_MAX));
    findings.extend(seen.wrong.iter().map(|wrong| Err(wrong.clone())));
    for node in cluster.numbers() {
        let alarms = alarms(&cluster.plan.path(node, "log"));
        findings.extend(alarms.into_iter().map(|line| Err(format!("node {node} says: {line}"))));
    }
    (seen, findings)
}

fn nothing_lost(seen: &Seen, have: &BTreeMap<String, String>) -> Finding {
    let lost = |(key, name): &&(String, String)| have.get(key) != Some(name);
    let lost: Vec<_> = seen.acknowledged.iter().filter(lost).map(|(key, _)| &key[..]).collect();
    if lost.is_empty() {
        return Ok(format!(
            "all {} keys that were acknowledged once are there",
            seen.acknowledged.len()
        ));
    }
    let some = lost[..lost.len().min(5)].join(", ");
    Err(format!("{} acknowledged writes are lost: {some} …", lost.len()))
}

/// One read of every key that was ever written, as the last look at everything saw it.
fn last_reads<'a>(
    history: &[Event],
    have: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (Op, Output)> + use<'a> {
    let written = history.iter().filter(|event| !Kv::is_read(&event.op));
    let mut keys: Vec<_> = written.map(|event| Kv::partition_key(&event.op)).collect();
    keys.extend(have.keys().filter(|key| *key != PROBE).cloned());
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().map(|key| {
        let output = Output::Value(have.get(&key).cloned());
        (Op::Get { key }, output)
    })
}

/// Whether one copy of the data could have answered so. What cannot be decided does not pass.
pub(crate) fn linearizable(history: &[Event], steps_max: u64) -> Finding {
    let mut keys: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    for event in history {
        keys.entry(Kv::partition_key(&event.op)).or_default().push(event.clone());
    }
    let open = history.iter().filter(|event| event.returned.is_none()).count();
    for (key, events) in &keys {
        match check(events, Budget { steps_max }) {
            Verdict::Ok => {}
            Verdict::Illegal(example) => {
                return Err(format!("the history is not linearizable: {example}"));
            }
            Verdict::Unknown => {
                let count = events.len();
                return Err(format!(
                    "whether the {count} operations on {key} are linearizable could not be decided"
                ));
            }
        }
    }
    Ok(format!(
        "the history of {} operations on {} keys, {open} of them with an unknown outcome, is \
         linearizable",
        history.len(),
        keys.len()
    ))
}

/// A history as text: a line an operation, by the time of its call.
pub(crate) fn written_down(history: &[Event]) -> String {
    let mut order: Vec<_> = history.iter().collect();
    order.sort_by_key(|event| event.called);
    let mut text = String::new();
    for event in order {
        let _ = writeln!(text, "{event}"); // a String takes everything
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_transport::Time;

    fn put(value: &str) -> Op {
        Op::Put { key: "k".into(), value: value.into() }
    }

    fn get() -> Op {
        Op::Get { key: "k".into() }
    }

    fn at(called: u64, op: Op, answer: Option<(u64, Output)>) -> Event {
        let time = Time::from_nanos;
        let returned = answer.map(|(at, output)| (time(at), output));
        Event { client: 0, called: time(called), returned, op }
    }

    fn value(value: Option<&str>) -> Output {
        Output::Value(value.map(str::to_owned))
    }

    #[test]
    fn good_histories_pass_and_broken_ones_do_not() {
        let first = at(0, put("a"), Some((1, Output::Existed(false))));
        let second = at(2, put("b"), Some((3, Output::Existed(true))));
        let open = at(2, put("b"), None);
        let swap = |called, expected: Option<&str>, swapped: Option<bool>| {
            let op = Op::Swap {
                key: "k".into(),
                expected: expected.map(str::to_owned),
                value: "c".into(),
            };
            at(called, op, swapped.map(|swapped| (called + 1, Output::Swapped(swapped))))
        };
        let (alone, missed) = (swap(2, Some("a"), Some(true)), swap(2, None, Some(false)));
        let read = |seen| at(4, get(), Some((5, value(seen))));
        let gone =
            |existed| at(6, Op::Delete { key: "k".into() }, Some((7, Output::Existed(existed))));
        for (holds, history) in [
            (true, vec![first.clone(), second.clone(), read(Some("b")), gone(true)]),
            (true, vec![first.clone(), open.clone(), read(Some("a"))]),
            (true, vec![first.clone(), open, read(Some("b"))]),
            // A stale read, a lost write, a value nobody wrote, a write carried out twice.
            (false, vec![first.clone(), second, read(Some("a"))]),
            (false, vec![first.clone(), read(None)]),
            (false, vec![first.clone(), read(Some("c"))]),
            (true, vec![first.clone(), alone.clone(), read(Some("c"))]),
            (true, vec![first.clone(), missed.clone(), read(Some("a"))]),
            (true, vec![first.clone(), swap(2, Some("a"), None), read(Some("c"))]),
            (true, vec![first.clone(), swap(2, Some("a"), None), read(Some("a"))]),
            // A swap of a value that was not there, one that failed though it was, one that set
            // something though it failed, and two that both had the same value.
            (false, vec![first.clone(), swap(2, Some("b"), None), read(Some("c"))]),
            (false, vec![first.clone(), swap(2, Some("a"), Some(false)), read(Some("a"))]),
            (false, vec![first.clone(), missed, read(Some("c"))]),
            (false, vec![first.clone(), alone, swap(4, Some("a"), Some(true))]),
            (false, vec![first.clone(), gone(false)]),
        ] {
            let finding = linearizable(&history, STEPS_MAX);
            assert_eq!(finding.is_ok(), holds, "{finding:?}");
        }
    }

    #[test]
    fn what_cannot_be_decided_does_not_pass() {
        let history: Vec<_> = (0..10).map(|n| at(n, put("a"), None)).collect();
        let read = [at(20, get(), Some((21, value(Some("a")))))];
        let history = [history, read.to_vec()].concat();
        assert!(linearizable(&history, STEPS_MAX).is_ok());
        assert!(linearizable(&history, 1).unwrap_err().contains("could not be decided"));
    }

    #[test]
    fn a_lost_write_is_named() {
        let acknowledged = vec![("once-a".to_owned(), "a".to_owned())];
        let seen = Seen { acknowledged, ..Seen::default() };
        let have = |value: &str| BTreeMap::from([("once-a".to_owned(), value.to_owned())]);
        assert!(nothing_lost(&seen, &have("a")).is_ok());
        for have in [have("b"), BTreeMap::new()] {
            assert!(nothing_lost(&seen, &have).unwrap_err().contains("once-a"));
        }
    }
}
