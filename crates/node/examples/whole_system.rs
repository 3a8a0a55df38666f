//! A whole distributed system in a few lines: three nodes over TCP on this computer, each with all
//! machines on one transport and one journal, and every system used once.

use bytes::Bytes;
use quorate_dmutex::{Name, Request as Lock};
use quorate_node::{Builder, Cluster, Node, Resource, chronicle};
use quorate_smr::{Commands, Outputs, Pieces, Reply, Request, RestoreError, StateMachine};
use quorate_transport::ClusterId;
use quorate_txn::{Request as Transaction, TxnId, Vote};

/// A replicated number: every command adds its length.
#[derive(Clone, Default)]
struct Sum([u8; 8]);

impl StateMachine for Sum {
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        for command in commands {
            self.0 = (u64::from_le_bytes(self.0) + command.len() as u64).to_le_bytes();
            outputs.push(&self.0);
        }
    }
    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
    fn snapshot(&self) -> Pieces {
        Pieces::new([self.query(&[])])
    }
    fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        self.0 = piece.try_into().map_err(|_| RestoreError)?;
        Ok(())
    }
}

/// What takes part in transactions here: it can always commit, and says when it does.
struct Willing;

impl Resource for Willing {
    fn prepare(&mut self, _: TxnId, _: &Bytes) -> Option<Vote> {
        Some(Vote::Yes)
    }
    fn recover(&mut self, _: TxnId, _: &Bytes) {}
    fn commit(&mut self, txn: TxnId) {
        println!("{txn} is carried out");
    }
    fn abort(&mut self, _: TxnId) {}
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let cluster = Cluster::on_loopback(ClusterId(7), 3)?;
    let start = |id| {
        let data = directory.path().join(format!("{id}"));
        Builder::new(&cluster, id, data, Sum::default()).start_with(Willing)
    };
    let nodes = cluster.nodes().map(start).collect::<Result<Vec<Node<Sum>>, _>>()?;

    for node in nodes.iter().cycle() {
        let applied = node.replica.request(Request::Apply(Commands::one(b"four"))).await?;
        if let Reply::Applied { first, .. } = applied {
            println!("replicated by {}, entry {first}", node.identity().node);
            break; // the others do not lead, or nobody does yet
        }
    }
    let (name, patience) = (Name::try_from("printer")?, None);
    let (id, held) = nodes[0].mutex.request_numbered(Lock::Acquire { name, patience }).await?;
    println!("mutual exclusion: {held:?}");
    nodes[0].mutex.request(Lock::Release { acquired: id }).await?;
    let parts = cluster.nodes().map(|node| (node, Bytes::from_static(b"a part"))).collect();
    println!("{:?}", nodes[1].transactions.request(Transaction::Begin { parts }).await?);
    let say = chronicle::Request::Say { to: nodes[1].identity().node, word: "hello".into() };
    println!("clocks: {:?}", nodes[0].chronicle.request(say).await?);
    println!("members: {:#?}", nodes[1].members().await?);
    for node in nodes {
        node.stop().await?;
    }
    Ok(())
}
