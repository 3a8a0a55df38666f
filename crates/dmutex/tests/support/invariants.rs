//! What must hold of nodes that take turns, one function an invariant, each with its name.
//!
//! Each looks at what one step could have broken, against all that was ever seen. Each has a test
//! that shows it a broken thing and a good one.

use std::collections::{BTreeMap, BTreeSet};

use quorate_dmutex::{Fence, Name, Rejection, Reply};
use quorate_transport::{NodeId, RequestId};

/// What a request of the application was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Acquire {
        name: Name,
        asked_at: u64,
        calm: bool,
    },
    /// Of something held: must succeed.
    Release,
    /// Of something long gone: must be refused.
    WrongRelease,
    Cancel,
}

/// Everything that was ever seen to be true of a group.
#[derive(Default)]
pub(crate) struct Facts {
    /// Who holds what now, as the machines themselves say.
    holders: BTreeMap<Name, NodeId>,
    /// The greatest fence a protected resource has seen.
    fences: BTreeMap<Name, Fence>,
    /// When each resource was last given back, or its holder died.
    freed: BTreeMap<Name, u64>,
}

impl Facts {
    /// X1 mutual exclusion: no two nodes hold one resource. `held` is all that `node` holds.
    pub(crate) fn x1(&mut self, node: NodeId, held: &[Name], now: u64) -> Result<(), String> {
        self.forget(node, held, now);
        for name in held {
            let holder = *self.holders.entry(name.clone()).or_insert(node);
            if holder != node {
                return Err(format!("X1 {holder} and {node} both hold {name}"));
            }
        }
        Ok(())
    }

    /// A node holds no more than this.
    pub(crate) fn forget(&mut self, node: NodeId, held: &[Name], now: u64) {
        let Self { holders, freed, .. } = self;
        holders.retain(|name, holder| {
            let keeps = *holder != node || held.contains(name);
            if !keeps {
                freed.insert(name.clone(), now);
            }
            keeps
        });
    }

    /// X1 and X2: the fences of a resource grow with every holder, over all nodes and lives, so
    /// grants follow the order of stamps. [Ricart and Agrawala 1981, §2]
    pub(crate) fn x1_x2(&mut self, name: &Name, fence: Fence) -> Result<(), String> {
        let last = self.fences.insert(name.clone(), fence);
        if last.is_none_or(|last| last < fence) {
            return Ok(());
        }
        Err(format!("X1 the fence of {name} was {last:?}, is {fence:?}"))
    }

    /// X3 in the small: what is free and wanted is handed over at once; nobody has to ask again.
    pub(crate) fn x3_handed_over(
        &self,
        name: &Name,
        (asked_at, now): (u64, u64),
        bound: u64,
    ) -> Result<(), String> {
        let since = self.freed.get(name).map_or(asked_at, |freed| asked_at.max(*freed));
        let idle = now.saturating_sub(since);
        if idle <= bound {
            return Ok(());
        }
        Err(format!("X3 {name} was free and wanted for {idle} ns, {bound} is the bound"))
    }

    /// Who holds something.
    pub(crate) fn any_holder(&self) -> Option<NodeId> {
        self.holders.values().next().copied()
    }
}

/// X3 no starvation: whoever asks at peace is granted in time.
pub(crate) fn x3(open: i64, longest: u64, bound: u64) -> Result<(), String> {
    if open == 0 && longest <= bound {
        return Ok(());
    }
    Err(format!("X3 {open} requests of the calm still wait, the longest waited {longest} ns"))
}

/// X6: only a holder releases; and every request is answered by what answers it.
pub(crate) fn x6(node: NodeId, id: RequestId, asked: &Asked, reply: Reply) -> Result<(), String> {
    match (asked, reply) {
        (Asked::Acquire { .. }, Reply::Held { .. } | Reply::Rejected(_))
        | (Asked::Release, Reply::Released)
        | (Asked::Cancel, Reply::Cancelled | Reply::Rejected(Rejection::NotWaiting))
        | (Asked::WrongRelease, Reply::Rejected(Rejection::NotHeld)) => Ok(()),
        (asked, reply) => Err(format!("X6 {id} of {node}, {asked:?}, was answered {reply:?}")),
    }
}

/// X10: a request that was given up leaves no ghost: a node wants no more resources than its
/// application waits for.
pub(crate) fn x10(node: NodeId, wanted: usize, open: &BTreeSet<&Name>) -> Result<(), String> {
    if wanted <= open.len() {
        return Ok(());
    }
    Err(format!("X10 {node} wants {wanted} resources, its application waits for {open:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes().to_vec()).unwrap()
    }

    fn breaks<T>(id: &str, result: Result<T, String>) {
        let what = result.err().unwrap_or_else(|| panic!("{id} did not see it"));
        assert!(what.starts_with(id), "{what}");
    }

    #[test]
    fn x1_sees_a_second_holder() {
        let (mut facts, a) = (Facts::default(), [name("a")]);
        facts.x1(ONE, &a, 0).unwrap();
        facts.x1(TWO, &[name("b")], 0).unwrap();
        facts.x1(ONE, &a, 1).unwrap();
        breaks("X1", facts.x1(TWO, &a, 2));
        facts.x1(ONE, &[], 3).unwrap();
        facts.x1(TWO, &a, 4).unwrap();
        facts.forget(TWO, &[], 5);
        facts.x1(ONE, &a, 6).unwrap();
    }

    #[test]
    fn x1_x2_see_a_fence_that_does_not_grow() {
        let (mut facts, a) = (Facts::default(), name("a"));
        let fence = |stamp, node| Fence { stamp, node };
        facts.x1_x2(&a, fence(4, ONE)).unwrap();
        facts.x1_x2(&a, fence(4, TWO)).unwrap();
        facts.x1_x2(&name("b"), fence(1, ONE)).unwrap();
        breaks("X1", facts.x1_x2(&a, fence(4, TWO)));
        breaks("X1", facts.x1_x2(&a, fence(3, TWO)));
    }

    #[test]
    fn x3_sees_who_waits_too_long_and_what_lies_idle() {
        x3(0, 10, 10).unwrap();
        breaks("X3", x3(1, 0, 10));
        breaks("X3", x3(0, 11, 10));
        let (mut facts, a) = (Facts::default(), [name("a")]);
        facts.x3_handed_over(&a[0], (10, 20), 10).unwrap();
        breaks("X3", facts.x3_handed_over(&a[0], (10, 21), 10));
        facts.x1(ONE, &a, 5).unwrap();
        facts.x1(ONE, &[], 15).unwrap();
        facts.x3_handed_over(&a[0], (10, 21), 10).unwrap();
        breaks("X3", facts.x3_handed_over(&a[0], (10, 26), 10));
    }

    #[test]
    fn x6_sees_a_release_by_no_holder_that_is_taken() {
        let answered = |asked, reply| x6(ONE, RequestId(7), &asked, reply);
        let (refused, idle) = (Rejection::NotHeld, Rejection::NotWaiting);
        answered(Asked::WrongRelease, Reply::Rejected(refused)).unwrap();
        answered(Asked::Release, Reply::Released).unwrap();
        answered(Asked::Cancel, Reply::Rejected(idle)).unwrap();
        breaks("X6", answered(Asked::WrongRelease, Reply::Released));
        breaks("X6", answered(Asked::Release, Reply::Rejected(refused)));
        breaks("X6", answered(Asked::Cancel, Reply::Released));
    }

    #[test]
    fn x10_sees_a_ghost() {
        let (a, b) = (name("a"), name("b"));
        x10(ONE, 2, &BTreeSet::from([&a, &b])).unwrap();
        x10(ONE, 0, &BTreeSet::from([&a])).unwrap();
        breaks("X10", x10(ONE, 1, &BTreeSet::new()));
    }
}
