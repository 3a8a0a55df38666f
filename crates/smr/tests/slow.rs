//! A command that takes longer than any election timeout, on nodes that run for real.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_driver::{Driver, Handle, Options, Setup};
use quorate_smr::{
    Commands, Config, Outputs, Pieces, Reply, Request, RestoreError, Smr, StateMachine,
};
use quorate_transport::mem::{Network, NetworkOptions};
use quorate_transport::{Incarnation, Key, NodeId, Peer};
use quorate_wal::MemDisk;

/// Takes its time for every command.
#[derive(Clone, Debug)]
struct Slow(Duration);

impl StateMachine for Slow {
    #[expect(clippy::disallowed_methods, reason = "it stands for a command that takes long")]
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        for _ in commands {
            std::thread::sleep(self.0);
            outputs.push(b"done");
        }
    }
    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::new()
    }
    fn snapshot(&self) -> Pieces {
        Pieces::new([])
    }
    fn restore(&mut self, _: &[u8]) -> Result<(), RestoreError> {
        Err(RestoreError)
    }
}

const TAKES: Duration = Duration::from_millis(2500);

fn start(network: &Network, node: u64) -> (Driver, Handle<Smr<Slow>>) {
    let mut config = Config::new((1..=3).map(NodeId), Slow(TAKES));
    config.apply_apart = true;
    config.raft.election_timeout_min = Duration::from_millis(1000);
    config.raft.election_timeout_max = Duration::from_millis(2000);
    let me = Peer { node: NodeId(node), incarnation: Incarnation(1) };
    let setup = Setup::open(me, node, MemDisk::new(), MemDisk::new(), Options::default());
    let mut setup = setup.expect("disks in memory open");
    let handle = setup.add::<Smr<Slow>>(Key::new(1, 1), config).expect("a valid configuration");
    (setup.run(Arc::new(network.join(me))).expect("a fresh node starts"), handle)
}

/// The term, and who leads it.
async fn stands(handle: &Handle<Smr<Slow>>) -> (u64, Option<NodeId>) {
    let look = handle.look(|replica| (replica.status().raft.term.0, replica.status().raft.leader));
    look.await.expect("it runs")
}

#[test]
fn a_command_that_takes_longer_than_an_election_costs_no_leader() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().expect("a machine with threads");
    let test = async {
        let network = Network::new(NetworkOptions::default());
        let nodes: Vec<_> = (1..=3).map(|node| start(&network, node)).collect();
        let before = loop {
            let stands = stands(&nodes[0].1).await;
            if stands.1.is_some() {
                break stands;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let leader = before.1.expect("somebody leads");
        let (_, handle) = &nodes[leader.0 as usize - 1];
        let asked = handle.request(Request::Apply(Commands::one(b"slow")));
        let reply = asked.await.expect("it runs");
        assert!(matches!(reply, Reply::Applied { .. }), "{reply:?}");
        for (_, handle) in &nodes {
            assert_eq!(stands(handle).await, before);
        }
        for (driver, _) in nodes {
            // Whoever applies yet is waited for, but not for ever.
            let _ = driver.stop().await;
        }
    };
    let patience = Duration::from_secs(60);
    runtime.block_on(async { tokio::time::timeout(patience, test).await.expect("it hangs") });
}
