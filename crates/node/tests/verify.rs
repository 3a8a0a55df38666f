//! Replicas that compare their states, on real nodes; and nodes whose state machine breaks its
//! promises.

mod support;

use std::time::Duration;

use bytes::Bytes;
use quorate_node::{Builder, Cluster as Members, Node, keys};
use quorate_smr::{
    Commands, Outputs, Pieces, Rejection, Reply, Request, RestoreError, Smr, StateMachine,
};
use quorate_transport::{ClusterId, NodeId};
use support::*;

#[test]
fn the_command_line_verifies_replicas_while_commands_come() {
    run(async {
        let cluster = Cluster::start(3);
        cluster.leader(None);
        let client = cluster.client(PATIENCE);
        let session = client.session().await.unwrap();
        let writes = tokio::spawn(async move {
            for number in 0.. {
                if session.put(b"key", &u32::to_le_bytes(number)).await.is_err() {
                    break; // the cluster is gone
                }
            }
        });
        for _ in 0..3 {
            let output = tokio::task::block_in_place(|| cluster.ask(&["verify"]));
            let said = text(&output);
            assert!(output.status.success(), "{said}");
            assert!(said.starts_with("all replicas have the state "), "{said}");
        }
        writes.abort();
    });
}

/// Sums of bytes. In one replica 5 counts as 6, and 9 panics.
#[derive(Clone)]
struct Sum {
    sum: u64,
    broken: bool,
}

impl StateMachine for Sum {
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        for command in commands {
            assert!(!self.broken || command[0] != 9, "nine is too much");
            self.sum += u64::from(command[0]) + u64::from(self.broken && command[0] == 5);
            outputs.push(&[]);
        }
    }
    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&self.sum.to_le_bytes())
    }
    fn snapshot(&self) -> Pieces {
        Pieces::one(self.query(&[]))
    }
    fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        self.sum = u64::from_le_bytes(piece.try_into().map_err(|_| RestoreError)?);
        Ok(())
    }
}

fn nodes(directory: &tempfile::TempDir) -> Vec<Node<Sum>> {
    let members = Members::on_loopback(ClusterId(3), 3).unwrap();
    let start = |node: NodeId| {
        let state = Sum { sum: 0, broken: node == NodeId(2) };
        Builder::new(&members, node, directory.path().join(node.to_string()), state).start()
    };
    members.nodes().map(|node| start(node).unwrap()).collect()
}

/// Asks whoever leads, and is not node 2.
async fn ask(nodes: &[Node<Sum>], request: impl Fn() -> Request) -> Reply {
    loop {
        for node in [&nodes[0], &nodes[2]] {
            match node.replica.request(request()).await.unwrap() {
                Reply::Rejected(Rejection::NotLeader { .. } | Rejection::Busy) => {}
                reply => return reply,
            }
        }
        // Where node 2 leads it is asked to hand over.
        let _ = nodes[1].replica.request(Request::Transfer { to: Some(NodeId(1)) }).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn apply(nodes: &[Node<Sum>], byte: u8) {
    let reply = ask(nodes, || Request::Apply(Commands::one(&[byte]))).await;
    assert!(matches!(reply, Reply::Applied { .. }), "{reply:?}");
}

#[test]
fn a_replica_that_is_not_deterministic_is_found_and_the_others_serve_on() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let nodes = nodes(&directory);
        let mut halts = nodes[1].halts();
        apply(&nodes, 5).await;
        let reply = ask(&nodes, || Request::Audit).await;
        let Reply::Audited { index, digest } = reply else { panic!("{reply:?}") };
        let (key, halt) = halts.recv().await.unwrap();
        assert_eq!((key, halt.rule), (keys::REPLICA, "replicas of one log have one state"));
        assert!(halt.detail.contains(&format!("at {index} the states are n1 {digest:032x} n2 ")));
        apply(&nodes, 1).await;
        assert!(nodes[1].members().await.is_ok(), "the other machines of that node run on");
        let said = nodes[1].replica.look(Smr::status).await.unwrap().audited.unwrap();
        assert!(said.0 == index && said.1 != digest, "and its replica can be looked at");
        assert!(nodes[1].replica.request(Request::Digest).await.is_err(), "but not asked");
    });
}

#[test]
fn a_state_machine_that_panics_stops_its_replica_with_a_report_and_the_others_serve_on() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let nodes = nodes(&directory);
        let mut halts = nodes[1].halts();
        apply(&nodes, 9).await;
        let (key, halt) = halts.recv().await.unwrap();
        assert_eq!((key, halt.rule), (keys::REPLICA, "a state machine does not panic"));
        assert!(halt.detail.ends_with("nine is too much"), "{halt}");
        apply(&nodes, 1).await;
        let stats = nodes[1].probe().stats().await.unwrap();
        assert_eq!(stats.halted.len(), 1, "the node lives, and says so");
    });
}
