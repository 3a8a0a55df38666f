//! What must hold of transactions, one function an invariant, each with its name.
//!
//! Each looks at what one step could have broken, against all that was ever seen. Each has a test
//! that shows it a broken thing and a good one.

use std::collections::{BTreeMap, BTreeSet};

use quorate_transport::NodeId;
use quorate_txn::{TxnId, Vote};

/// What is known of one transaction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    /// The first outcome that anybody was told.
    pub(crate) committed: Option<bool>,
    pub(crate) parts: Vec<NodeId>,
    /// Every vote cast by each node, in order.
    pub(crate) votes: BTreeMap<NodeId, Vec<Vote>>,
    /// Where its commit was told to the resource.
    pub(crate) applied: BTreeSet<NodeId>,
    /// When it was begun, where nothing was broken at that time.
    pub(crate) begun_in_calm: Option<u64>,
}

impl Fate {
    fn all_assent(&self) -> bool {
        let assents = |votes: &Vec<Vote>| votes.iter().any(|vote| *vote != Vote::No);
        let assent = |node| self.votes.get(node).is_some_and(assents);
        !self.parts.is_empty() && self.parts.iter().all(assent)
    }

    /// Whether a read-only vote of this node may have been counted, in any of its lives: no outcome
    /// binds it then, whatever it says to an echo of the question after a crash.
    pub(crate) fn has_left(&self, node: NodeId) -> bool {
        self.votes.get(&node).is_none_or(|votes| votes.contains(&Vote::ReadOnly))
    }

    /// AC1: all that decide decide the same.
    pub(crate) fn ac1(&mut self, node: NodeId, txn: TxnId, committed: bool) -> Result<(), String> {
        let first = *self.committed.get_or_insert(committed);
        if first == committed {
            return Ok(());
        }
        Err(format!("AC1 {txn}: committed is {first}, and {committed} at {node}"))
    }

    /// AC2: a decision stands. Called where a resource is told to abort.
    pub(crate) fn ac2(&self, node: NodeId, txn: TxnId) -> Result<(), String> {
        if !self.applied.contains(&node) {
            return Ok(());
        }
        Err(format!("AC2 {txn} is aborted at {node} after its commit"))
    }

    /// AC3: what is committed has all votes.
    pub(crate) fn ac3(&self, node: NodeId, txn: TxnId) -> Result<(), String> {
        if self.all_assent() {
            return Ok(());
        }
        Err(format!("AC3 {txn} is committed at {node} without all votes"))
    }

    /// Nobody ever said no.
    fn none_dissents(&self) -> bool {
        let wants = |votes: &Vec<Vote>| votes.iter().all(|vote| *vote != Vote::No);
        self.all_assent() && self.votes.values().all(wants)
    }

    /// AC4: without failures, what all want is committed. Called where a transaction is answered as
    /// aborted; `patience` is how long all wait for each other.
    pub(crate) fn ac4(&self, txn: TxnId, now: u64, patience: u64) -> Result<(), String> {
        match self.begun_in_calm {
            Some(begun) if self.none_dissents() && now - begun < patience => {
                Err(format!("AC4 {txn} is aborted in the calm though all voted for it"))
            }
            _ => Ok(()),
        }
    }

    /// AC1 in the end: it was committed at every node that is bound by a yes.
    pub(crate) fn ac1_in_the_end(&self, txn: TxnId) -> Result<(), String> {
        for (node, votes) in &self.votes {
            let bound = votes.iter().all(|vote| *vote == Vote::Yes);
            if self.committed == Some(true) && bound && !self.applied.contains(node) {
                return Err(format!("AC1 {txn} was never committed at {node}"));
            }
        }
        Ok(())
    }
}

/// AC5 and T10: once failures are repaired, all decide: in the end nothing is open, neither at
/// those who voted nor at those who drive.
pub(crate) fn ac5(held: &[TxnId], driven: &[TxnId]) -> Result<(), String> {
    if held.is_empty() && driven.is_empty() {
        return Ok(());
    }
    Err(format!("AC5 {held:?} and {driven:?} are open in the end"))
}

/// T11: what a yes has locked is locked once, and by that transaction until it is decided.
pub(crate) fn t11_taken(
    locks: &mut BTreeMap<TxnId, u8>,
    txn: TxnId,
    lock: u8,
) -> Result<(), String> {
    let other = locks.iter().find(|(other, held)| **held == lock && **other != txn);
    let found = other
        .map_or(Ok(()), |(other, _)| Err(format!("T11 the lock of {txn} is taken by {other}")));
    locks.insert(txn, lock);
    found
}

/// T11: a commit finds its lock, and lets go of it once.
pub(crate) fn t11_released(locks: &mut BTreeMap<TxnId, u8>, txn: TxnId) -> Result<(), String> {
    match locks.remove(&txn) {
        Some(_) => Ok(()),
        None => Err(format!("T11 {txn} is committed without its lock")),
    }
}

#[cfg(test)]
mod tests {
    use quorate_transport::Incarnation;

    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    fn txn(counter: u64) -> TxnId {
        TxnId { node: ONE, incarnation: Incarnation(1), counter }
    }

    /// Both nodes have voted so.
    fn voted(one: Vote, two: Vote) -> Fate {
        let votes = BTreeMap::from([(ONE, vec![one]), (TWO, vec![two])]);
        Fate { parts: vec![ONE, TWO], votes, ..Fate::default() }
    }

    fn breaks<T>(id: &str, result: Result<T, String>) {
        let what = result.err().unwrap_or_else(|| panic!("{id} did not see it"));
        assert!(what.starts_with(id), "{what}");
    }

    #[test]
    fn ac1_sees_two_outcomes_and_one_that_never_came() {
        let mut fate = voted(Vote::Yes, Vote::Yes);
        fate.ac1(ONE, txn(1), true).unwrap();
        fate.ac1(TWO, txn(1), true).unwrap();
        breaks("AC1", fate.clone().ac1(TWO, txn(1), false));
        fate.applied = BTreeSet::from([ONE]);
        breaks("AC1", fate.ac1_in_the_end(txn(1)));
        fate.applied.insert(TWO);
        fate.ac1_in_the_end(txn(1)).unwrap();
        let mut read_only = voted(Vote::ReadOnly, Vote::Yes);
        (read_only.committed, read_only.applied) = (Some(true), BTreeSet::from([TWO]));
        read_only.ac1_in_the_end(txn(1)).unwrap();
        let mut again = voted(Vote::Yes, Vote::No);
        assert!(!again.has_left(ONE) && !again.has_left(TWO));
        again.votes.insert(TWO, vec![Vote::No, Vote::ReadOnly, Vote::Yes]);
        assert!(again.has_left(TWO), "the second may have been counted");
    }

    #[test]
    fn ac2_sees_a_decision_taken_back() {
        let mut fate = voted(Vote::Yes, Vote::Yes);
        fate.ac2(ONE, txn(1)).unwrap();
        fate.applied.insert(ONE);
        fate.ac2(TWO, txn(1)).unwrap();
        breaks("AC2", fate.ac2(ONE, txn(1)));
    }

    #[test]
    fn ac3_sees_a_commit_without_all_votes() {
        voted(Vote::Yes, Vote::ReadOnly).ac3(ONE, txn(1)).unwrap();
        breaks("AC3", voted(Vote::Yes, Vote::No).ac3(ONE, txn(1)));
        breaks("AC3", Fate::default().ac3(ONE, txn(1)));
    }

    #[test]
    fn ac4_sees_an_abort_that_nobody_wanted() {
        let mut fate = voted(Vote::Yes, Vote::Yes);
        fate.ac4(txn(1), 50, 100).unwrap();
        fate.begun_in_calm = Some(10);
        breaks("AC4", fate.ac4(txn(1), 50, 100));
        fate.ac4(txn(1), 110, 100).unwrap();
        fate.votes.insert(TWO, vec![Vote::No]);
        fate.ac4(txn(1), 50, 100).unwrap();
    }

    #[test]
    fn ac5_sees_what_is_open_in_the_end() {
        ac5(&[], &[]).unwrap();
        breaks("AC5", ac5(&[txn(1)], &[]));
        breaks("AC5", ac5(&[], &[txn(1)]));
    }

    #[test]
    fn t11_sees_a_lock_taken_twice_and_one_that_is_not_there() {
        let mut locks = BTreeMap::new();
        t11_taken(&mut locks, txn(1), 7).unwrap();
        t11_taken(&mut locks, txn(1), 7).unwrap();
        t11_taken(&mut locks, txn(2), 8).unwrap();
        breaks("T11", t11_taken(&mut locks, txn(3), 7));
        t11_released(&mut locks, txn(1)).unwrap();
        breaks("T11", t11_released(&mut locks, txn(1)));
    }
}
