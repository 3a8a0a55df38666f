//! Three raft-rs nodes in one thread, over its own in-memory storage.

use std::collections::VecDeque;

use raft::eraftpb::{Entry, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};

struct Node {
    raw: RawNode<MemStorage>,
    applied: u64,
    bytes: u64,
    last: u64,
}

/// A group of nodes in one thread.
pub struct Trio {
    nodes: Vec<Node>,
    leader: usize,
    wire: VecDeque<Message>,
}

impl Trio {
    /// Elects a leader.
    ///
    /// # Panics
    /// When the peer refuses its own configuration.
    #[must_use]
    pub fn new(count: u64) -> Self {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let voters: Vec<u64> = (1..=count).collect();
        let node = |id| {
            // A window as wide as ours; messages are only limited in number of bytes.
            let config = Config {
                id,
                election_tick: 10,
                heartbeat_tick: 3,
                max_size_per_msg: 1 << 20,
                max_inflight_msgs: 256,
                ..Config::default()
            };
            let storage = MemStorage::new_with_conf_state((voters.clone(), Vec::new()));
            let mut raw = RawNode::new(&config, storage, &logger).expect("a valid configuration");
            raw.set_batch_append(true);
            Node { raw, applied: 0, bytes: 0, last: 0 }
        };
        let nodes = (1..=count).map(node).collect();
        let mut trio = Self { nodes, leader: 0, wire: VecDeque::new() };
        trio.nodes[0].raw.campaign().expect("a voter may campaign");
        trio.run();
        assert_eq!(trio.nodes[0].raw.raft.state, StateRole::Leader, "nobody campaigns against it");
        trio
    }

    /// Proposes all commands, and runs until all nodes have applied them.
    ///
    /// # Panics
    /// When the peer refuses a proposal.
    pub fn propose(&mut self, commands: impl Iterator<Item = Vec<u8>>) {
        let leader = &mut self.nodes[self.leader].raw;
        for command in commands {
            leader.propose(Vec::new(), command).expect("a leader takes commands");
        }
        self.run();
    }

    /// The least number of commands that a node has applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.nodes.iter().map(|node| node.applied).min().unwrap_or(0)
    }

    /// Drops what all have applied.
    ///
    /// # Panics
    /// When the storage refuses.
    pub fn compact(&mut self) {
        for node in &mut self.nodes {
            node.raw.store().wl().compact(node.last).expect("what is applied can be dropped");
        }
    }

    /// One round of messages and readies after the other, until all is quiet.
    ///
    /// A follower hears of a commit with the next append or heartbeat; raft-rs sends an empty
    /// append at once.
    fn run(&mut self) {
        loop {
            while let Some(message) = self.wire.pop_front() {
                let to = message.to as usize - 1;
                self.nodes[to].raw.step(message).expect("a message of a peer");
            }
            let mut busy = false;
            for node in &mut self.nodes {
                while node.raw.has_ready() {
                    node.ready(&mut self.wire);
                    busy = true;
                }
            }
            if !busy && self.wire.is_empty() {
                break;
            }
        }
    }
}

impl Node {
    fn ready(&mut self, wire: &mut VecDeque<Message>) {
        let mut ready = self.raw.ready();
        wire.extend(ready.take_messages());
        self.apply(ready.take_committed_entries());
        {
            let mut store = self.raw.store().wl();
            store.append(ready.entries()).expect("entries that follow");
            if let Some(hard_state) = ready.hs() {
                store.set_hardstate(hard_state.clone());
            }
        }
        wire.extend(ready.take_persisted_messages());
        let mut light = self.raw.advance(ready);
        if let Some(commit) = light.commit_index() {
            self.raw.store().wl().mut_hard_state().set_commit(commit);
        }
        wire.extend(light.take_messages());
        self.apply(light.take_committed_entries());
        self.raw.advance_apply();
    }

    /// Looks at every command, as ours does.
    fn apply(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.last = entry.index;
            if let Some(first) = entry.data.first() {
                self.bytes += entry.data.len() as u64 + u64::from(*first);
                self.applied += 1;
            }
        }
    }
}
