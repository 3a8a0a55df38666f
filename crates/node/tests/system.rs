//! A node as a library: its lives, its refusals, and what takes part in transactions on it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quorate_node::{Builder, Cluster, Lifecycle, Node, NodeError, Resource, Standing};
use quorate_smr::{Outputs, Pieces, RestoreError, StateMachine};
use quorate_transport::{ClusterId, NodeId};
use quorate_txn::{AbortReason, Reply, Request, TxnId, Vote};

/// A state that nothing changes.
#[derive(Clone)]
struct Nothing;

impl StateMachine for Nothing {
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        commands.for_each(|_| outputs.push(&[]));
    }
    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::new()
    }
    fn snapshot(&self) -> Pieces {
        Pieces::new([Bytes::new()])
    }
    fn restore(&mut self, _: &[u8]) -> Result<(), RestoreError> {
        Ok(())
    }
}

/// Votes as it is told, and remembers what became of it.
#[derive(Clone, Default)]
struct Ledger {
    refuses: bool,
    committed: Arc<Mutex<BTreeSet<TxnId>>>,
    aborted: Arc<Mutex<BTreeSet<TxnId>>>,
}

impl Resource for Ledger {
    fn prepare(&mut self, _: TxnId, _: &Bytes) -> Option<Vote> {
        Some(if self.refuses { Vote::No } else { Vote::Yes })
    }
    fn recover(&mut self, _: TxnId, _: &Bytes) {}
    fn commit(&mut self, txn: TxnId) {
        self.committed.lock().unwrap().insert(txn);
    }
    fn abort(&mut self, txn: TxnId) {
        self.aborted.lock().unwrap().insert(txn);
    }
}

/// Runs a test; one that hangs fails.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let patience = Duration::from_secs(60);
    runtime.block_on(async { tokio::time::timeout(patience, test).await.expect("it hangs") });
}

#[test]
fn a_node_lives_stops_and_lives_again_as_the_next_generation() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::on_loopback(ClusterId(3), 1).unwrap();
        for generation in 1..=3 {
            let node =
                Builder::new(&cluster, NodeId(1), directory.path(), Nothing).start().unwrap();
            assert_eq!(node.identity().incarnation.life(), generation);
            assert_eq!(node.address().to_string(), cluster.members()[&NodeId(1)]);
            let mut lifecycle = node.lifecycle();
            assert_eq!(*lifecycle.borrow(), Lifecycle::Active);
            let members = node.members().await.unwrap();
            assert_eq!((members.len(), members[0].standing), (1, Standing::Active));
            node.stop().await.unwrap();
            assert_eq!(*lifecycle.borrow_and_update(), Lifecycle::Stopped);
        }
    });
}

#[test]
fn what_cannot_start_says_why() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::on_loopback(ClusterId(3), 2).unwrap();
        let build = |cluster: &Cluster, node| {
            Builder::new(cluster, NodeId(node), directory.path(), Nothing).start()
        };
        let stranger = build(&cluster, 9).unwrap_err();
        assert_eq!(stranger.to_string(), "the cluster has no member n9");
        let nowhere = cluster.clone().with(NodeId(1), "nowhere");
        let address = build(&nowhere, 1).unwrap_err();
        assert_eq!(address.to_string(), "member n1: `nowhere` is no address to listen on");
        let node = build(&cluster, 1).unwrap();
        assert_eq!(node.identity().incarnation.life(), 1, "nobody lived here before");
        let twice = build(&cluster, 1).unwrap_err();
        assert!(matches!(twice, NodeError::Start { .. }), "{twice}");
        node.stop().await.unwrap();
        let other = build(&cluster, 2).unwrap_err();
        assert!(matches!(other, NodeError::Identity(_)), "{other}");
        let mut builder = Builder::new(&cluster, NodeId(1), directory.path(), Nothing);
        builder.detector.heartbeat_interval = Duration::ZERO;
        let rule = builder.start().unwrap_err().to_string();
        assert!(rule.contains("heartbeat_interval: is 1 ms to a year"), "{rule}");
    });
}

#[test]
fn transactions_are_carried_out_by_all_or_by_none() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::on_loopback(ClusterId(3), 3).unwrap();
        let ledgers: Vec<_> =
            (1..=3).map(|node| Ledger { refuses: node == 3, ..Ledger::default() }).collect();
        let start = |(node, ledger): (NodeId, &Ledger)| {
            let data = directory.path().join(node.to_string());
            Builder::new(&cluster, node, data, Nothing).start_with(ledger.clone()).unwrap()
        };
        let nodes: Vec<Node<Nothing>> = cluster.nodes().zip(&ledgers).map(start).collect();
        let begin = |members: &[u64]| {
            let part = |node: &u64| (NodeId(*node), Bytes::from_static(b"x"));
            let parts = members.iter().map(part).collect();
            nodes[0].transactions.request(Request::Begin { parts })
        };
        let Reply::Committed { txn } = begin(&[1, 2]).await.unwrap() else { panic!("committed") };
        for ledger in &ledgers[..2] {
            while !ledger.committed.lock().unwrap().contains(&txn) {
                tokio::task::yield_now().await;
            }
        }
        let reply = begin(&[1, 2, 3]).await.unwrap();
        let Reply::Aborted { txn, reason } = reply else { panic!("{reply:?}") };
        assert_eq!(reason, AbortReason::No(NodeId(3)));
        for node in nodes {
            node.stop().await.unwrap();
        }
        for ledger in &ledgers {
            assert!(!ledger.committed.lock().unwrap().contains(&txn));
        }
    });
}
