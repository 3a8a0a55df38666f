//! A few Raft nodes moved by hand.
#![allow(dead_code, reason = "each test uses some of it")]

use std::time::Duration;

use bytes::Bytes;
use quorate_raft::{Change, Config, Event, Index, Proposals, Raft, Request};
use quorate_sim::script::Script;
use quorate_transport::{Machine, NodeId, RequestId};

pub(crate) type Stage = Script<'static, Raft>;

pub(crate) const N1: NodeId = NodeId(1);
pub(crate) const N2: NodeId = NodeId(2);
pub(crate) const N3: NodeId = NodeId(3);

/// `count` nodes of this configuration, which `change` adapts.
pub(crate) fn stage_with(count: u64, change: impl Fn(&mut Config) + 'static) -> Stage {
    stage_of(count, count, change)
}

/// `count` nodes, of which the first `founders` make up the group; the others may join it.
pub(crate) fn stage_of(founders: u64, count: u64, change: impl Fn(&mut Config) + 'static) -> Stage {
    Script::new(count, move |start| {
        let mut config = Config::joining();
        if start.node.0 <= founders {
            config.voters = (1..=founders).map(NodeId).collect();
        }
        // One length: who times out is the test's choice.
        config.election_timeout_min = Duration::from_millis(300);
        config.election_timeout_max = Duration::from_millis(300);
        config.keep_bytes_max = 0;
        change(&mut config);
        Raft::new(start, config).expect("a valid configuration")
    })
}

pub(crate) fn stage(count: u64) -> Stage {
    stage_with(count, |_| {})
}

/// A group that `node` leads, all at rest.
pub(crate) fn led_by(count: u64, node: NodeId) -> Stage {
    let mut stage = stage(count);
    elect(&mut stage, node);
    stage
}

/// `node` times out, and wins if the others let it.
pub(crate) fn elect(stage: &mut Stage, node: NodeId) {
    stage.advance(Duration::from_millis(300));
    stage.timer(node);
    stage.run();
    assert!(stage.node(node).is_leader(), "{node} should lead");
}

/// Proposes one command.
pub(crate) fn propose(stage: &mut Stage, node: NodeId, command: &str) -> RequestId {
    stage.request(node, Request::Propose(Proposals::one(command.as_bytes())))
}

/// Every command that a node has been told to apply, in order, with its index.
pub(crate) fn applied(stage: &Stage, node: NodeId) -> Vec<(u64, String)> {
    let mut applied = Vec::new();
    for event in stage.events(node) {
        if let Event::Committed(view) = event {
            for (at, entry) in view.entries().enumerate() {
                let text = String::from_utf8_lossy(entry).into_owned();
                applied.push((view.first().0 + at as u64, text));
            }
        }
    }
    applied
}

/// The commands of a log in memory, `term:command`.
pub(crate) fn log(stage: &Stage, node: NodeId) -> Vec<String> {
    let raft = stage.node(node);
    let (base, last) = raft.log_bounds();
    let indices = (base.0 + 1)..=last.0;
    let entry = |index| raft.entry(Index(index)).expect("it is in memory");
    indices
        .map(|index| {
            let (term, bytes) = entry(index);
            format!("{term}:{}", String::from_utf8_lossy(&bytes))
        })
        .collect()
}

/// All is applied, and a snapshot of it is asked for.
pub(crate) fn compact(stage: &mut Stage, node: NodeId, state: &str) -> RequestId {
    let index = stage.node(node).commit();
    stage.request(node, Request::Applied { index });
    let contents = [Bytes::copy_from_slice(state.as_bytes())].into_iter().collect();
    let id = stage.request(node, Request::Compact { index, contents });
    stage.sync(node);
    id
}

/// Plays one command of a story.
pub(crate) fn play(stage: &mut Stage, words: &[&str]) -> Result<(), String> {
    if let Some(played) = quorate_sim::script::golden::common(stage, words) {
        return played;
    }
    let node = words.get(1).and_then(|word| word.parse().ok()).map(NodeId);
    let node = node.ok_or(format!("`{}` wants a node", words[0]))?;
    match words[0] {
        "propose" => {
            let mut proposals = Proposals::default();
            words[2..].iter().for_each(|word| proposals.push(word.as_bytes()));
            stage.request(node, Request::Propose(proposals));
        }
        "read" => {
            stage.request(node, Request::Read);
        }
        "change" => {
            let change = change(&words[2..]).ok_or(format!("no change: {words:?}"))?;
            stage.request(node, Request::Change(change));
        }
        "read_here" => {
            let within = words.get(2).and_then(|word| word.parse().ok());
            let within = Duration::from_millis(within.ok_or("`read_here` wants milliseconds")?);
            stage.request(node, Request::ReadHere { within });
        }
        "transfer" => {
            let to = words.get(2).and_then(|word| word.parse().ok()).map(NodeId);
            stage.request(node, Request::Transfer { to });
        }
        "compact" => {
            compact(stage, node, words.get(2).unwrap_or(&"state"));
        }
        other => return Err(format!("`{other}` is no command")),
    }
    Ok(())
}

fn change(words: &[&str]) -> Option<Change> {
    let node = |at: usize| words.get(at).and_then(|word| word.parse().ok()).map(NodeId);
    let address = String::new();
    Some(match *words.first()? {
        "add" => Change::Add { node: node(1)?, address },
        "learner" => Change::AddLearner { node: node(1)?, address },
        "promote" => Change::Promote { node: node(1)? },
        "demote" => Change::Demote { node: node(1)? },
        "remove" => Change::Remove { node: node(1)? },
        "replace" => Change::Replace { old: node(1)?, new: node(2)?, address },
        "cancel" => Change::Cancel,
        _ => return None,
    })
}

/// `voters | outgoing + learners -> target`, as a node has them.
pub(crate) fn members(stage: &Stage, node: NodeId) -> String {
    format!("{:?}", stage.node(node).members()).replace(['n', '[', ']'], "")
}

/// Where every node stands, a line each.
pub(crate) fn status(stage: &Stage) -> String {
    let mut lines = String::new();
    for node in stage.nodes().filter(|node| stage.is_up(*node)) {
        let raft = stage.node(node);
        let (base, last) = raft.log_bounds();
        let role = format!("{:?}", raft.role_name()).to_lowercase();
        lines += &format!(
            "{node} {role} of {:?}, log {base}..{last}, commit {}\n",
            raft.term(),
            raft.commit()
        );
        if raft.members_index() > Index::ZERO {
            lines += &format!("   members {}\n", members(stage, node));
        }
    }
    lines
}
