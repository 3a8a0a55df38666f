//! Who replicates the map: the transport follows the group as it changes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use quorate_driver::Handle;
use quorate_smr::{Event, Smr, StateMachine};
use quorate_transport::NodeId;
use quorate_transport::tcp::TcpTransport;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::sleep;

use crate::Cluster;

/// How long whom the group has let go may still hear that it has.
const FAREWELL: Duration = Duration::from_secs(10);

/// Dials whom the group takes in, wherever the change said that it listens, and forgets whom it
/// has let go, unless it belongs to the cluster for other reasons; until the node stops. `events`
/// must have been subscribed to before the node ran.
pub(crate) async fn track<S: StateMachine>(
    replica: Handle<Smr<S>>,
    mut events: Receiver<Event>,
    transport: Weak<TcpTransport>,
    founders: Cluster,
) {
    let mut known: Vec<NodeId> = Vec::new();
    loop {
        let (members, committed) = match events.recv().await {
            Ok(Event::Members { members, committed, .. }) => (members, committed),
            Ok(_) => continue,
            // Too slow: whatever was missed, this is how it is.
            Err(RecvError::Lagged(_)) => match replica.look(Smr::status).await {
                Ok(status) => (status.raft.members, false),
                Err(_) => return,
            },
            Err(RecvError::Closed) => return,
        };
        let Some(transport) = transport.upgrade() else { return };
        for node in members.nodes() {
            if let Some(address) = members.address(node) {
                transport.set_peer(node, address);
            }
            if !known.contains(&node) {
                known.push(node);
            }
        }
        if committed {
            known.retain(|node| {
                let stays = members.contains(*node) || founders.members().contains_key(node);
                if !stays {
                    tokio::spawn(forget(replica.clone(), Arc::downgrade(&transport), *node));
                }
                stays
            });
        }
    }
}

async fn forget<S: StateMachine>(
    replica: Handle<Smr<S>>,
    transport: Weak<TcpTransport>,
    node: NodeId,
) {
    sleep(FAREWELL).await;
    let back = replica.look(move |replica| replica.status().raft.members.contains(node)).await;
    if let (Ok(false), Some(transport)) = (back, transport.upgrade()) {
        transport.remove_peer(node);
    }
}
