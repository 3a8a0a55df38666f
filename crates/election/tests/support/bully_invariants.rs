//! What must hold of bullies, one function an invariant, each with its name. There is no E1 and no
//! E5: what a bully says is an opinion.
//!
//! Each has a test that shows it a broken thing and a good one.

use std::collections::BTreeMap;

use quorate_election::Term;
use quorate_election::bully::Advisory;
use quorate_transport::{NodeId, Time};

/// What each node that is up believes.
pub(crate) type Beliefs = BTreeMap<NodeId, Advisory>;

/// E2: what an application is told never falls, over all lives of its node.
pub(crate) fn e2(before: Option<Term>, told: Term, node: NodeId) -> Result<(), String> {
    match before {
        Some(before) if before > told => {
            Err(format!("E2 {node} told {before:?}, and {told:?} later"))
        }
        _ => Ok(()),
    }
}

/// E3: nobody waits for ever: whatever happens, something is due within `longest`.
pub(crate) fn e3_due(now: Time, due: Option<Time>, longest: Time) -> Result<(), String> {
    if due.is_some_and(|due| due <= longest) {
        return Ok(());
    }
    Err(format!("E3 at {now:?} a node waits until {due:?}"))
}

/// E3 and E4: in the calm all follow the highest node, in one term.
pub(crate) fn e3_e4(nodes: &[NodeId], beliefs: &Beliefs) -> Result<(), String> {
    let Some(highest) = nodes.iter().max() else { return Ok(()) };
    let own = beliefs.get(highest).map(|advisory| advisory.term);
    let follows = |node| {
        let belief: Option<&Advisory> = beliefs.get(node);
        belief.is_some_and(|belief| belief.leader == *highest && Some(belief.term) == own)
    };
    if nodes.iter().all(follows) {
        return Ok(());
    }
    Err(format!("E3, E4 not all follow {highest} in one term in the calm: {beliefs:?}"))
}

/// E7: in the calm no opinion changes.
pub(crate) fn e7(before: &Beliefs, after: &Beliefs, doubts: u64) -> Result<(), String> {
    if before == after && doubts == 0 {
        return Ok(());
    }
    Err(format!("E7 {doubts} doubts in the calm: {before:?}, {after:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    fn believes(by: NodeId, leader: NodeId, term: u64) -> (NodeId, Advisory) {
        (by, Advisory { by, leader, term: Term(term) })
    }

    fn breaks<T>(id: &str, result: Result<T, String>) {
        let what = result.err().unwrap_or_else(|| panic!("{id} did not see it"));
        assert!(what.starts_with(id), "{what}");
    }

    #[test]
    fn e2_sees_a_term_that_falls() {
        e2(None, Term(1), ONE).unwrap();
        e2(Some(Term(1)), Term(1), ONE).unwrap();
        breaks("E2", e2(Some(Term(2)), Term(1), ONE));
    }

    #[test]
    fn e3_sees_who_waits_for_ever() {
        let at = Time::from_nanos;
        e3_due(at(1), Some(at(9)), at(9)).unwrap();
        breaks("E3", e3_due(at(1), Some(at(10)), at(9)));
        breaks("E3", e3_due(at(1), None, at(9)));
    }

    #[test]
    fn e3_e4_see_who_follows_another_or_nobody_or_another_term() {
        let nodes = [ONE, TWO];
        let (one, two) = (believes(ONE, TWO, 3), believes(TWO, TWO, 3));
        e3_e4(&nodes, &BTreeMap::from([one, two])).unwrap();
        breaks("E3", e3_e4(&nodes, &BTreeMap::from([believes(ONE, ONE, 3), two])));
        breaks("E3", e3_e4(&nodes, &BTreeMap::from([believes(ONE, TWO, 2), two])));
        breaks("E3", e3_e4(&nodes, &BTreeMap::from([two])));
    }

    #[test]
    fn e7_sees_a_change_of_mind() {
        let before = BTreeMap::from([believes(ONE, TWO, 3)]);
        e7(&before, &before, 0).unwrap();
        breaks("E7", e7(&before, &before, 1));
        breaks("E7", e7(&before, &BTreeMap::new(), 0));
    }
}
