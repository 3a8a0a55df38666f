//! What must hold of quorum leases, one function an invariant, each with its name.
//!
//! Each looks at what one step could have broken, against all that was ever seen. Each has a test
//! that shows it a broken thing and a good one.

use std::collections::BTreeMap;

use quorate_election::{Term, Token};
use quorate_transport::NodeId;

/// A lease that holds: under which token, whose, and when it was seen, in true time.
pub(crate) type Lease = (Token, NodeId, u64);

/// Everything that was ever seen to be true of a group.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) leaders: BTreeMap<Term, NodeId>,
    /// The newest lease, when it was last seen to hold.
    newest: Option<Lease>,
    /// The greatest token that each node has told its application in this life.
    told: BTreeMap<NodeId, Token>,
}

impl Facts {
    /// E1: at most one leader a term, over the whole run.
    pub(crate) fn e1(&mut self, term: Term, node: NodeId) -> Result<(), String> {
        let first = *self.leaders.entry(term).or_insert(node);
        if first == node {
            return Ok(());
        }
        Err(format!("E1 {first} and {node} lead {term:?}"))
    }

    /// E2: what an application is told never falls while it lives.
    pub(crate) fn e2(&mut self, node: NodeId, token: Token) -> Result<(), String> {
        match self.told.insert(node, token) {
            Some(before) if before > token => {
                Err(format!("E2 {node} told {before:?}, and {token:?} later"))
            }
            _ => Ok(()),
        }
    }

    /// A life is over.
    pub(crate) fn died(&mut self, node: NodeId) {
        self.told.remove(&node);
    }

    /// E5 and E8: leases are disjoint in true time. One holds at this instant: no later leader may
    /// have held one before.
    pub(crate) fn e5(&mut self, lease: Lease) -> Result<(), String> {
        let (token, node, _) = lease;
        match self.newest {
            Some((newer, holder, since)) if newer > token => {
                Err(format!("E5 {node} holds {token:?}, {holder} held {newer:?} at {since}"))
            }
            _ => {
                self.newest = Some(lease);
                Ok(())
            }
        }
    }

    /// The newest lease; of nobody before the first.
    pub(crate) fn newest(&self) -> Lease {
        let none = Token { config: 0, term: Term(0) };
        self.newest.unwrap_or((none, NodeId(0), 0))
    }
}

/// E3 and E7: in the calm the leader stays, and goes on renewing its lease.
pub(crate) fn e3_e7(before: Lease, after: Lease, now: u64, fresh: u64) -> Result<(), String> {
    if (after.0, after.1) == (before.0, before.1) && after.2 + fresh >= now {
        return Ok(());
    }
    let (token, node, _) = before;
    Err(format!("E3 {node} led with {token:?} in the calm, now {after:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    fn token(term: u64) -> Token {
        Token { config: 0, term: Term(term) }
    }

    fn breaks<T>(id: &str, result: Result<T, String>) {
        let what = result.err().unwrap_or_else(|| panic!("{id} did not see it"));
        assert!(what.starts_with(id), "{what}");
    }

    #[test]
    fn e1_sees_a_second_leader_however_late() {
        let mut facts = Facts::default();
        facts.e1(Term(1), ONE).unwrap();
        facts.e1(Term(2), TWO).unwrap();
        facts.e1(Term(1), ONE).unwrap();
        breaks("E1", facts.e1(Term(1), TWO));
    }

    #[test]
    fn e2_sees_a_token_that_falls_in_one_life() {
        let mut facts = Facts::default();
        facts.e2(ONE, token(3)).unwrap();
        facts.e2(ONE, token(3)).unwrap();
        facts.e2(TWO, token(1)).unwrap();
        facts.died(ONE);
        facts.e2(ONE, token(2)).unwrap();
        breaks("E2", facts.e2(ONE, token(1)));
    }

    #[test]
    fn e5_sees_a_lease_that_outlives_its_successor() {
        let mut facts = Facts::default();
        facts.e5((token(1), ONE, 10)).unwrap();
        facts.e5((token(1), ONE, 20)).unwrap();
        facts.e5((token(2), TWO, 30)).unwrap();
        breaks("E5", facts.e5((token(1), ONE, 31)));
        assert_eq!(facts.newest(), (token(2), TWO, 30));
    }

    #[test]
    fn e3_e7_see_a_change_and_an_end() {
        let before = (token(1), ONE, 10);
        e3_e7(before, (token(1), ONE, 95), 100, 10).unwrap();
        breaks("E3", e3_e7(before, (token(1), ONE, 89), 100, 10));
        breaks("E3", e3_e7(before, (token(2), ONE, 95), 100, 10));
        breaks("E3", e3_e7(before, (token(2), TWO, 95), 100, 10));
    }
}
