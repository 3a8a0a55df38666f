//! What a TCP transport is told, and the rules its fields keep.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::frame::FRAME_BYTES_MAX;
use crate::ids::{ClusterId, NodeId, Peer};
use crate::shell::QueueCaps;
use crate::tcp::TcpError;
use crate::wire::Class;

/// What a [`TcpTransport`](crate::tcp::TcpTransport) is told.
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Only nodes of this cluster are talked to.
    pub cluster: ClusterId,
    /// Who this node is; its incarnation must be greater than in all its former lives.
    pub me: Peer,
    /// Where each other node listens, as `host:port`; a host name is looked up at every dial.
    pub peers: BTreeMap<NodeId, String>,
    /// The longest flat frame, in bytes: the same on all nodes. A longer one is refused when
    /// sent, and closes the connection when received.
    pub frame_bytes_max: usize,
    /// How much waits for each peer and class: towards it, and, again, from it.
    pub queues: QueueCaps,
    /// How many accepted connections may be in their handshake; the oldest gives way.
    pub handshakes_max: usize,
    /// How long a dial with its handshake may take.
    pub handshake_timeout: Duration,
    /// A connection that is silent for so long is closed; a ping goes out every third of it.
    pub idle_timeout: Duration,
    /// A connection that takes no byte for so long, while some wait, is closed.
    pub write_timeout: Duration,
    /// How long `close` tries to send what is queued.
    pub flush_timeout: Duration,
    /// The first pause before a peer is dialed again; doubled after each failure.
    pub backoff_min: Duration,
    /// The longest pause before a peer is dialed again.
    pub backoff_max: Duration,
    /// Spreads the pauses; unlike on other nodes, so that they do not dial in step.
    pub seed: u64,
}

impl TcpConfig {
    /// The defaults: listens on a port of 127.0.0.1 that the system chooses, knows no peer;
    /// handshake 5 s, idle 10 s, write 10 s, flush 2 s, back-off 20 ms to 1 s.
    #[must_use]
    pub fn new(cluster: ClusterId, me: Peer) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            cluster,
            me,
            peers: BTreeMap::new(),
            frame_bytes_max: FRAME_BYTES_MAX,
            queues: QueueCaps::default(),
            handshakes_max: 64,
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            flush_timeout: Duration::from_secs(2),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(1),
            seed: me.node.0 ^ me.incarnation.0.rotate_left(32),
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`TcpError::Config`] names the first field that breaks its rule, and the rule.
    pub fn validate(&self) -> Result<(), TcpError> {
        const FRAME_BYTES_LEAST: usize = 64;
        const FRAME_BYTES_MOST: usize = 1 << 30;
        let positive = |span: Duration| !span.is_zero();
        let caps = Class::ALL.map(|class| self.queues.of(class));
        let rules = [
            (!self.peers.contains_key(&self.me.node), "peers", "this node is not its own peer"),
            (
                self.peers.values().all(|address| address.contains(':')),
                "peers",
                "every address is host:port",
            ),
            (
                (FRAME_BYTES_LEAST..=FRAME_BYTES_MOST).contains(&self.frame_bytes_max),
                "frame_bytes_max",
                "64 bytes to 1 GiB",
            ),
            (
                caps.iter().all(|cap| cap.frames_max > 0 && cap.bytes_max > 0),
                "queues",
                "every cap is at least 1",
            ),
            (self.handshakes_max > 0, "handshakes_max", "at least 1"),
            (positive(self.handshake_timeout), "handshake_timeout", "more than nothing"),
            (self.idle_timeout >= Duration::from_millis(30), "idle_timeout", "at least 30 ms"),
            (positive(self.write_timeout), "write_timeout", "more than nothing"),
            (positive(self.backoff_min), "backoff_min", "more than nothing"),
            (self.backoff_min <= self.backoff_max, "backoff_max", "not under backoff_min"),
        ];
        match rules.into_iter().find(|(kept, ..)| !kept) {
            Some((_, field, rule)) => Err(TcpError::Config { field, rule }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Incarnation;

    type Change = fn(&mut TcpConfig);

    #[test]
    fn the_field_and_the_rule_are_named() {
        let me = Peer { node: NodeId(1), incarnation: Incarnation(1) };
        let broken = |change: Change| {
            let mut config = TcpConfig::new(ClusterId(1), me);
            change(&mut config);
            config.validate().map_err(|error| error.to_string())
        };
        assert_eq!(broken(|_| ()), Ok(()));
        let cases: [(Change, &str); 5] = [
            (|c| c.frame_bytes_max = 1, "frame_bytes_max"),
            (|c| c.queues.bulk.frames_max = 0, "queues"),
            (|c| c.handshakes_max = 0, "handshakes_max"),
            (|c| c.backoff_min = Duration::from_secs(9), "backoff_max"),
            (|c| drop(c.peers.insert(c.me.node, "127.0.0.1:1".to_owned())), "peers"),
        ];
        for (change, field) in cases {
            let error = broken(change).unwrap_err();
            assert!(error.starts_with(field), "{field}: {error}");
        }
    }
}
