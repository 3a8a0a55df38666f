//! The digest of a whole node, for the explorer.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use quorate_transport::{Digest, NodeId, Rename, Time};

use crate::lock::Phase;
use crate::ricart_agrawala::RicartAgrawala;

impl RicartAgrawala {
    pub(crate) fn write_digest(&self, now: Time, rename: &Rename, into: &mut Digest) {
        let rest = |at: Time| at.since(now).as_nanos() as u64;
        let node = |node: NodeId| rename.node(node).0;
        let peers = |missing: &BTreeSet<NodeId>, into: &mut Digest| {
            let mut named: Vec<_> = missing.iter().map(|peer| node(*peer)).collect();
            named.sort_unstable();
            into.u64(named.len() as u64);
            named.into_iter().for_each(|peer| into.u64(peer));
        };
        into.u64(node(self.node));
        into.u64(self.clock);
        into.u64(self.reserved.0);
        into.option(self.due.map(rest));
        into.bool(self.joining.is_some());
        if let Some(joining) = &self.joining {
            peers(&joining.missing, into);
            into.u64(now.since(joining.since).as_nanos() as u64);
            into.u64(rest(joining.retry_at));
            into.u64(u64::from(joining.tries));
        }
        for (name, lock) in &self.locks {
            into.bytes(name.as_bytes());
            match &lock.phase {
                Phase::Joining => into.u64(0),
                Phase::Held { stamp, .. } => {
                    into.u64(1);
                    into.u64(*stamp);
                }
                Phase::Wanted(wanted) => {
                    into.u64(2);
                    into.u64(wanted.stamp);
                    peers(&wanted.missing, into);
                    into.u64(now.since(wanted.since).as_nanos() as u64);
                    into.u64(rest(wanted.retry_at));
                    into.u64(u64::from(wanted.tries));
                    into.option(wanted.expires.map(rest));
                }
            }
            let mut deferred: Vec<_> = lock.deferred.iter().map(|(p, d)| (node(*p), *d)).collect();
            deferred.sort_unstable();
            for (peer, (life, stamp)) in deferred {
                into.u64(peer);
                into.u64(life.0);
                into.u64(stamp);
            }
            for waiter in &lock.waiters {
                into.option(waiter.expires.map(rest));
            }
        }
        let mut lives: Vec<_> = self.lives.iter().map(|(p, life)| (node(*p), life)).collect();
        lives.sort_unstable_by_key(|(peer, _)| *peer);
        for (peer, life) in lives {
            into.u64(peer);
            into.u64(life.incarnation.0);
            into.u64(now.since(life.heard).as_nanos() as u64);
        }
        self.silent.iter().for_each(|peer| into.u64(node(*peer)));
    }
}
