//! Both transports pass the tests for all.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use quorate_transport::conformance::{FRAME_BYTES_MAX, Fabric, conformance, queue_caps};
use quorate_transport::mem::{Network, NetworkOptions};
use quorate_transport::tcp::{TcpConfig, TcpTransport};
use quorate_transport::{ClusterId, Peer, Transport};

struct Mem(Network);

#[async_trait]
impl Fabric for Mem {
    async fn start(&self, me: Peer) -> Arc<dyn Transport> {
        Arc::new(self.0.join(me))
    }
}

#[derive(Default)]
struct Tcp(Mutex<Vec<Weak<TcpTransport>>>);

#[async_trait]
impl Fabric for Tcp {
    async fn start(&self, me: Peer) -> Arc<dyn Transport> {
        let mut started = self.0.lock().unwrap();
        let others: Vec<_> = started.iter().filter_map(Weak::upgrade).collect();
        let mut config = TcpConfig::new(ClusterId(7), me);
        config.frame_bytes_max = FRAME_BYTES_MAX;
        config.queues = queue_caps();
        // A busy machine loses no connection, and with it frames, to a time limit.
        config.write_timeout = Duration::from_secs(60);
        config.idle_timeout = Duration::from_secs(60);
        config.flush_timeout = Duration::from_secs(60);
        for other in others.iter().filter(|other| other.me().node != me.node) {
            let address = other.local_addr().to_string();
            config.peers.insert(other.me().node, address);
        }
        let transport = Arc::new(TcpTransport::bind(config).unwrap());
        for other in others {
            other.set_peer(me.node, transport.local_addr().to_string());
        }
        started.push(Arc::downgrade(&transport));
        transport
    }
}

fn mem() -> Mem {
    Mem(Network::new(NetworkOptions { queues: queue_caps(), frame_bytes_max: FRAME_BYTES_MAX }))
}

#[tokio::test]
async fn mem_conforms() {
    conformance(mem).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mem_conforms_on_two_threads() {
    conformance(mem).await;
}

#[tokio::test]
async fn tcp_conforms() {
    conformance(Tcp::default).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_conforms_on_two_threads() {
    conformance(Tcp::default).await;
}
