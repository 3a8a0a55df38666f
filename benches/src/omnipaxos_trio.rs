//! Three omnipaxos nodes in one thread, over its own in-memory storage.

use omnipaxos::macros::Entry;
use omnipaxos::util::LogEntry;
use omnipaxos::{ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;

/// A command.
#[derive(Clone, Debug, Entry)]
pub struct Command(pub Vec<u8>);

type Node = OmniPaxos<Command, MemoryStorage<Command>>;

/// A group of nodes in one thread.
pub struct Trio {
    nodes: Vec<(Node, usize, u64)>,
    leader: usize,
}

impl Trio {
    /// Elects a leader.
    #[must_use]
    pub fn new(count: u64) -> Self {
        let node = |pid| {
            let cluster_config = ClusterConfig {
                configuration_id: 1,
                nodes: (1..=count).collect(),
                flexible_quorum: None,
            };
            let server_config = ServerConfig { pid, ..ServerConfig::default() };
            let config = OmniPaxosConfig { cluster_config, server_config };
            (config.build(MemoryStorage::default()).expect("a valid configuration"), 0, 0)
        };
        let mut trio = Self { nodes: (1..=count).map(node).collect(), leader: 0 };
        loop {
            trio.nodes.iter_mut().for_each(|(node, ..)| node.tick());
            trio.run();
            if let Some((leader, true)) = trio.nodes[0].0.get_current_leader() {
                trio.leader = leader as usize - 1;
                return trio;
            }
        }
    }

    /// Appends all commands, and runs until all nodes have applied them.
    pub fn propose(&mut self, commands: impl Iterator<Item = Vec<u8>>) {
        let leader = self.leader;
        for command in commands {
            self.nodes[leader].0.append(Command(command)).expect("a leader takes commands");
        }
        self.run();
    }

    /// The least number of commands that a node has applied.
    #[must_use]
    pub fn applied(&self) -> usize {
        self.nodes.iter().map(|(_, applied, _)| *applied).min().unwrap_or(0)
    }

    /// Drops what all have decided.
    pub fn compact(&mut self) {
        let _ = self.nodes[self.leader].0.trim(None);
        self.run();
    }

    fn run(&mut self) {
        let mut wire = Vec::new();
        loop {
            for (node, ..) in &mut self.nodes {
                node.take_outgoing_messages(&mut wire);
            }
            if wire.is_empty() {
                break;
            }
            for message in wire.drain(..) {
                let to = message.get_receiver() as usize - 1;
                self.nodes[to].0.handle_incoming(message);
            }
        }
        for (node, applied, bytes) in &mut self.nodes {
            if node.get_decided_idx() > *applied {
                for entry in node.read_decided_suffix(*applied).into_iter().flatten() {
                    if let LogEntry::Decided(command) = entry {
                        *bytes += command.0.len() as u64 + u64::from(command.0[0]);
                    }
                }
                *applied = node.get_decided_idx();
            }
        }
    }
}
