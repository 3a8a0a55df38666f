//! Changing who replicates the map, from the command line.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Subcommand;
use quorate_node::client::{Client, ClientError};
use quorate_node::wire::{GroupChange, GroupInfo};

/// What to do with the group; shows it if nothing is given.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum Verb {
    /// A new voter, once it has caught up; it runs with `serve --join`
    Add {
        node: u64,
        /// Where it listens for other nodes, as host:port
        address: String,
    },
    /// A new learner: it gets everything and counts for nothing
    Learner {
        node: u64,
        /// Where it listens for other nodes, as host:port
        address: String,
    },
    /// A learner becomes a voter, once it has caught up
    Promote { node: u64 },
    /// A voter becomes a learner
    Demote { node: u64 },
    /// A node leaves
    Remove { node: u64 },
    /// A voter leaves as another takes its place
    Replace {
        old: u64,
        new: u64,
        /// Where the new one listens for other nodes, as host:port
        address: String,
    },
    /// Wait no longer for nodes to catch up: they stay learners
    Cancel,
}

impl From<Verb> for GroupChange {
    fn from(verb: Verb) -> Self {
        match verb {
            Verb::Add { node, address } => Self::Add { node, address },
            Verb::Learner { node, address } => Self::AddLearner { node, address },
            Verb::Promote { node } => Self::Promote { node },
            Verb::Demote { node } => Self::Demote { node },
            Verb::Remove { node } => Self::Remove { node },
            Verb::Replace { old, new, address } => Self::Replace { old, new, address },
            Verb::Cancel => Self::Cancel,
        }
    }
}

/// Asks for a change, waits until it is complete, and shows the group.
pub(crate) async fn run(
    client: &Client,
    nodes: &BTreeMap<u64, String>,
    verb: Option<Verb>,
    patience: Duration,
) -> anyhow::Result<()> {
    if let Some(verb) = verb {
        match client.change_group(verb.into()).await {
            Ok(_) => {}
            Err(ClientError::NoQuorum(_)) => {
                let group = newest(client, nodes).await;
                if let Some(group) = group.filter(|group| !group.target.is_empty()) {
                    anyhow::bail!(
                        "not complete after {patience:.0?}: {} (it goes on; `quorate group \
                         cancel` gives it up)",
                        words(&group)
                    );
                }
                anyhow::bail!("no leader with a majority answered within {patience:.0?}");
            }
            Err(error) => return Err(error.into()),
        }
    }
    let Some(group) = newest(client, nodes).await else { anyhow::bail!("no node answers") };
    println!("{}", words(&group));
    Ok(())
}

/// As the node has it that knows most.
async fn newest(client: &Client, nodes: &BTreeMap<u64, String>) -> Option<GroupInfo> {
    let mut best: Option<GroupInfo> = None;
    for node in nodes.keys() {
        if let Some(group) = client.group(*node).await
            && best
                .as_ref()
                .is_none_or(|best| (best.index, best.committed) < (group.index, group.committed))
        {
            best = Some(group);
        }
    }
    best
}

/// The group in a line.
fn words(group: &GroupInfo) -> String {
    let list = |nodes: &[u64]| nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    let mut text = format!("voters {}", list(&group.voters));
    for (name, nodes) in [
        ("still with", &group.outgoing),
        ("learners", &group.learners),
        ("to be voters once they have caught up", &group.target),
    ] {
        if !nodes.is_empty() {
            text += &format!(", {name} {}", list(nodes));
        }
    }
    if !group.committed {
        text += ", not committed";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_told_in_a_line() {
        let mut group = GroupInfo { voters: vec![1, 2, 3], committed: true, ..Default::default() };
        assert_eq!(words(&group), "voters 1 2 3");
        (group.learners, group.target, group.committed) = (vec![4], vec![1, 2, 4], false);
        let want = "voters 1 2 3, learners 4, to be voters once they have caught up 1 2 4, \
                    not committed";
        assert_eq!(words(&group), want);
    }
}
