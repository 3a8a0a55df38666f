//! Three of our nodes in one runtime, each run by `quorate-driver`: the network, the journals and
//! the snapshots are in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_driver::{Driver, Handle, Options, Setup};
use quorate_raft::{Event, Index, Proposals, Raft};
use quorate_smr::{Commands, Outputs, Pieces, RestoreError, Smr, StateMachine};
use quorate_transport::mem::{Network, NetworkOptions};
use quorate_transport::{Incarnation, Key, Machine, NodeId, Peer};
use quorate_wal::MemDisk;

use crate::puts::Client;

/// Entries from one snapshot to the next: what openraft does by default.
const SNAPSHOT_EVERY: u64 = 5000;
const NODES: std::ops::RangeInclusive<u64> = 1..=3;

/// A running cluster; its clones are the same one.
pub struct Trio<M: Machine> {
    leader: Handle<M>,
    nodes: Arc<[Node<M>]>,
}

struct Node<M: Machine> {
    handle: Handle<M>,
    _driver: Driver,
}

impl<M: Machine> Clone for Trio<M> {
    fn clone(&self) -> Self {
        Self { leader: self.leader.clone(), nodes: Arc::clone(&self.nodes) }
    }
}

impl<M: Machine> std::fmt::Debug for Trio<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trio").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

impl<M: Machine> Trio<M> {
    /// Starts the nodes and waits for one that `leads`.
    async fn run(
        add: impl Fn(&mut Setup<MemDisk>) -> Handle<M>,
        leads: impl Fn(&M) -> bool + Copy + Send + 'static,
    ) -> Self {
        let network = Network::new(NetworkOptions::default());
        let node = |node| {
            let me = Peer { node: NodeId(node), incarnation: Incarnation(1) };
            let options = Options { journal_here: true, ..Options::default() };
            let setup = Setup::open(me, node, MemDisk::new(), MemDisk::new(), options);
            let mut setup = setup.expect("disks in memory open");
            let handle = add(&mut setup);
            let driver = setup.run(Arc::new(network.join(me))).expect("a fresh node starts");
            Node { handle, _driver: driver }
        };
        let nodes: Arc<[_]> = NODES.map(node).collect();
        for _ in 0..1000 {
            for node in nodes.iter() {
                if node.handle.look(move |machine| leads(machine)).await == Ok(true) {
                    return Self { leader: node.handle.clone(), nodes };
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no leader in time");
    }

    /// The machine of the leader, and those of all nodes.
    pub fn handles(&self) -> (&Handle<M>, impl Iterator<Item = &Handle<M>>) {
        (&self.leader, self.nodes.iter().map(|node| &node.handle))
    }
}

/// As openraft has it here: no election while the machine is busy with others.
fn patient() -> quorate_raft::Config {
    let mut config = quorate_raft::Config::new(NODES.map(NodeId));
    config.election_timeout_min = Duration::from_millis(1000);
    config.election_timeout_max = Duration::from_millis(2000);
    config
}

/// Looks at every command, and has the log compacted.
fn apply() -> impl FnMut(Event, &mut Vec<quorate_raft::Request>) + Send {
    use quorate_raft::Request;
    let (mut bytes, mut kept) = (0, Index(0));
    move |event, asks| {
        let Event::Committed(view) = event else { return };
        bytes = std::hint::black_box(view.entries().map(<[u8]>::len).sum::<usize>() + bytes);
        let index = view.last();
        if index.0 >= kept.0 + SNAPSHOT_EVERY {
            kept = index;
            asks.push(Request::Applied { index });
            asks.push(Request::Compact { index, contents: Default::default() });
        }
    }
}

impl Trio<Raft> {
    /// Raft alone: what is committed is applied by a listener on each node.
    ///
    /// # Panics
    /// When there is no leader within ten seconds.
    pub async fn start() -> Self {
        let add = |setup: &mut Setup<MemDisk>| {
            let handle = setup.add_with::<Raft>(Key::new(1, 1), patient(), apply());
            handle.expect("a valid configuration")
        };
        Self::run(add, Raft::is_leader).await
    }
}

impl Client for Trio<Raft> {
    async fn put(&self) {
        let request = quorate_raft::Request::Propose(Proposals::one(&[]));
        match self.leader.request(request).await {
            Ok(quorate_raft::Reply::Committed { .. }) => {}
            other => panic!("the leader does not stay: {other:?}"),
        }
    }
}

/// A state machine that answers every command with nothing.
#[derive(Clone, Debug)]
pub struct Nothing;

impl StateMachine for Nothing {
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        commands.for_each(|_| outputs.push(&[]));
    }

    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::new()
    }

    fn snapshot(&self) -> Pieces {
        Pieces::new([])
    }

    fn restore(&mut self, _: &[u8]) -> Result<(), RestoreError> {
        Err(RestoreError) // there are no pieces
    }
}

impl Trio<Smr<Nothing>> {
    /// A replicated state machine, with all that comes with it.
    ///
    /// # Panics
    /// When there is no leader within ten seconds.
    pub async fn start() -> Self {
        let add = |setup: &mut Setup<MemDisk>| {
            let mut config = quorate_smr::Config::new([], Nothing);
            config.raft = patient();
            config.snapshot_bytes = SNAPSHOT_EVERY * 17; // what an empty command counts as
            setup.add::<Smr<Nothing>>(Key::new(1, 1), config).expect("a valid configuration")
        };
        Self::run(add, |replica: &Smr<Nothing>| replica.raft().is_leader()).await
    }
}

impl Client for Trio<Smr<Nothing>> {
    async fn put(&self) {
        let request = quorate_smr::Request::Apply(Commands::one(&[]));
        match self.leader.request(request).await {
            Ok(quorate_smr::Reply::Applied { .. }) => {}
            other => panic!("the leader does not stay: {other:?}"),
        }
    }
}
