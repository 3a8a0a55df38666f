//! What a participant remembers of one coordinator's closed transactions, so that the echo of a
//! prepare is known as one.
//!
//! A coordinator says with each prepare below which number all is decided: what is closed below
//! this cut need not be remembered, since a vote on a decided transaction counts for nothing.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quorate_transport::{Digest, Incarnation, NodeId};

use crate::record::Record;
use crate::types::TxnId;

/// How it ended here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    Committed,
    Aborted,
    /// Durably: will never vote yes.
    Refused,
    /// Voted no, of which nothing is durable.
    No,
    ReadOnly,
}

/// One coordinator, as a participant knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    incarnation: Incarnation,
    cut: u64,
    closed: BTreeMap<u64, Past>,
}

impl Seen {
    /// Takes note of a cut; false when the transaction is an echo of a decided one.
    pub(crate) fn advance(&mut self, txn: TxnId, cut: u64) -> bool {
        if txn.incarnation > self.incarnation {
            *self = Self { incarnation: txn.incarnation, cut, closed: BTreeMap::new() };
        } else if txn.incarnation == self.incarnation && cut > self.cut {
            self.cut = cut;
            while self.closed.first_key_value().is_some_and(|(counter, _)| *counter < cut) {
                self.closed.pop_first();
            }
        }
        txn.incarnation == self.incarnation && txn.counter >= self.cut
    }

    pub(crate) fn close(&mut self, txn: TxnId, past: Past) {
        if self.advance(txn, 0) {
            self.closed.insert(txn.counter, past);
        }
    }

    pub(crate) fn past(&self, txn: TxnId) -> Option<Past> {
        let same = txn.incarnation == self.incarnation;
        self.closed.get(&txn.counter).copied().filter(|_| same)
    }

    pub(crate) fn len(&self) -> usize {
        self.closed.len()
    }

    /// What must outlive a checkpoint.
    pub(crate) fn record(&self, node: NodeId) -> Record {
        let of = |wanted| -> Vec<u64> {
            let those = self.closed.iter().filter(|(_, past)| **past == wanted);
            those.map(|(counter, _)| *counter).collect()
        };
        let (committed, refused) = (of(Past::Committed), of(Past::Refused));
        Record::Closed { node, incarnation: self.incarnation, cut: self.cut, committed, refused }
    }

    pub(crate) fn digest(&self, into: &mut Digest) {
        into.u64(self.incarnation.0);
        into.u64(self.cut);
        into.u64(self.closed.len() as u64);
        for (counter, past) in &self.closed {
            into.u64(*counter);
            into.u64(*past as u64);
        }
    }
}
