//! What must hold of a group whose members change, and an operator who changes them.

use std::collections::BTreeMap;

use quorate_raft::{Change, Index, Members, Raft, Term};
use quorate_transport::{NodeId, Rng};

/// Every configuration that was ever seen to be committed, and what leaders made of them.
#[derive(Default)]
pub(crate) struct Configurations {
    committed: BTreeMap<Index, Members>,
    /// The newest configuration of each leader's log.
    of_leaders: BTreeMap<Term, Index>,
    /// What may be in force for each node, by when it last changed.
    in_force: BTreeMap<NodeId, (Index, bool, Vec<Members>)>,
    /// Every configuration that was ever seen to stand in a log.
    in_logs: BTreeMap<(Index, Term), Members>,
}

impl Configurations {
    /// R23: of two configurations that follow each other no two quorums are disjoint: one voter
    /// more or less, or both sides of a joint one. [Raft §6, thesis §4.1]
    pub(crate) fn r23(&mut self, index: Index, next: &Members) -> Result<(), String> {
        if self.committed.contains_key(&index) {
            return Ok(()); // R6 says that it is the same
        }
        let before = self.committed.range(..index).next_back().map(|(_, members)| members);
        let after = self.committed.range(index..).next().map(|(_, members)| members);
        let pairs = before.map(|members| (members, next)).into_iter();
        for (old, new) in pairs.chain(after.map(|members| (next, members))) {
            if !is_step(old, new) {
                return Err(format!("R23 {old:?} is followed by {new:?} at {index}"));
            }
        }
        self.committed.insert(index, next.clone());
        Ok(())
    }

    /// R23: a leader puts a configuration into its log when the one before it is committed.
    pub(crate) fn r23_one_at_a_time(
        &mut self,
        term: Term,
        newest: Index,
        committed: Index,
    ) -> Result<(), String> {
        let known = self.of_leaders.entry(term).or_insert(newest);
        if newest > *known && *known > committed {
            return Err(format!(
                "R23 the leader of {term} follows {known}, uncommitted, by {newest}"
            ));
        }
        *known = newest;
        Ok(())
    }

    /// Of a group that begins with these voters.
    pub(crate) fn of(founders: &[NodeId]) -> Self {
        let in_logs = BTreeMap::from([((Index::ZERO, Term::ZERO), Members::new(founders))]);
        Self { in_logs, ..Self::default() }
    }

    /// The configurations by which a log may have committed what follows `committed`: the last one
    /// up to there, and all after it. By what stands in the log, whatever its node believes.
    pub(crate) fn of_log(
        &self,
        committed: Index,
        term_at: impl Fn(Index) -> Option<Term>,
    ) -> Vec<&Members> {
        let mut all = Vec::new();
        for (&(index, term), members) in self.in_logs.iter().rev() {
            let stands = match term_at(index) {
                Some(there) => there == term,
                // A snapshot has taken its place.
                None => index == Index::ZERO || self.committed.get(&index) == Some(members),
            };
            if stands {
                all.push(members);
            }
            if stands && index <= committed {
                break;
            }
        }
        all
    }

    /// Remembers what may be in force for a node.
    pub(crate) fn note(&mut self, node: NodeId, raft: &Raft) {
        let at = raft.members_index();
        if let Some((term, entry)) = raft.entry(at)
            && !self.in_logs.contains_key(&(at, term))
            && postcard::to_allocvec(raft.members()).is_ok_and(|bytes| bytes == *entry)
        {
            self.in_logs.insert((at, term), raft.members().clone());
        }
        let all = || raft.members_in_force().cloned().collect();
        self.note_in_force(node, (at, at <= raft.commit()), all);
    }

    /// The newest configuration of a node is that of an index, committed or not; these are what
    /// may be in force.
    fn note_in_force(
        &mut self,
        node: NodeId,
        state: (Index, bool),
        all: impl FnOnce() -> Vec<Members>,
    ) {
        let known = self.in_force.get(&node).map(|(index, committed, _)| (*index, *committed));
        if known == Some(state) {
            return;
        }
        let mut all = all();
        // Power may be lost before a configuration that is cut off is so on the disk.
        if let Some((_, _, before)) = self.in_force.remove(&node)
            && (!state.1 || known.is_some_and(|(index, _)| state.0 < index))
        {
            all.extend(before);
        }
        self.in_force.insert(node, (state.0, state.1, all));
    }

    /// Adds to `core`, from `others`, until it can decide whatever configuration is in force or
    /// follows by itself.
    pub(crate) fn complete(&self, core: &mut Vec<NodeId>, mut others: Vec<NodeId>) {
        let decides = |core: &[NodeId]| {
            self.in_force.values().flat_map(|(.., all)| all).all(|members| {
                let later = members.target().map_or(&[][..], |target| target.voters());
                let within = later.iter().filter(|node| core.contains(node)).count();
                members.is_quorum(|node| core.contains(&node))
                    && (later.is_empty() || within * 2 > later.len())
            })
        };
        while !decides(core)
            && let Some(one) = others.pop()
        {
            core.push(one);
        }
    }
}

/// R24: who leads or asks for votes is a voter, unless the configuration that says otherwise is
/// not committed. [Raft thesis §4.2.2]
pub(crate) fn r24(is_voter: bool, committed: bool, leads: bool) -> Result<(), String> {
    // A leader that has left may have learnt of its commit, and hands over at the end of the burst.
    if is_voter || !committed || leads {
        return Ok(());
    }
    Err("R24 a node asks for votes and is no voter".into())
}

fn is_step(old: &Members, new: &Members) -> bool {
    let without = |a: &[NodeId], b: &[NodeId]| a.iter().filter(|node| !b.contains(node)).count();
    let (was, is) = (old.voters(), new.voters());
    match (old.is_joint(), new.is_joint()) {
        (false, false) => without(was, is) + without(is, was) <= 1,
        (false, true) => new.outgoing() == was,
        (true, false) => was == is,
        (true, true) => old == new,
    }
}

/// A change that an operator might ask for, wise or not.
pub(crate) fn any_change(nodes: &[NodeId], rng: &mut Rng) -> Change {
    let mut any = || nodes[rng.below(nodes.len() as u64) as usize];
    let (node, other, address) = (any(), any(), String::new());
    match rng.below(12) {
        0..3 => Change::Add { node, address },
        3 => Change::AddLearner { node, address },
        4 => Change::Promote { node },
        5 => Change::Demote { node },
        6 | 7 => Change::Remove { node },
        8 => Change::Replace { old: node, new: other, address },
        9 => Change::Cancel,
        _ => {
            let mut voters = nodes.to_vec();
            voters.retain(|_| rng.below(3) > 0);
            let learners = nodes.iter().copied().filter(|node| !voters.contains(node));
            let learners = learners.filter(|_| rng.below(2) == 0).collect();
            Change::Become { voters, learners }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(voters: &[u64]) -> Members {
        Members::new(&voters.iter().copied().map(NodeId).collect::<Vec<_>>())
    }

    #[test]
    fn r23_sees_two_configurations_with_disjoint_quorums_in_whatever_order_they_come() {
        let mut all = Configurations::default();
        all.r23(Index(1), &of(&[1, 2, 3])).unwrap();
        all.r23(Index(9), &of(&[1, 2])).unwrap();
        all.r23(Index(9), &of(&[1, 2])).unwrap();
        let far = all.r23(Index(12), &of(&[3, 4])).unwrap_err();
        assert!(far.starts_with("R23"), "{far}");
        let between = all.r23(Index(5), &of(&[4, 5, 6])).unwrap_err();
        assert!(between.starts_with("R23"), "{between}");
        all.r23(Index(5), &of(&[1, 2, 3])).unwrap();
    }

    #[test]
    fn r23_sees_a_leader_that_does_not_wait() {
        let mut all = Configurations::default();
        all.r23_one_at_a_time(Term(1), Index(3), Index(0)).unwrap();
        all.r23_one_at_a_time(Term(2), Index(4), Index(0)).unwrap();
        all.r23_one_at_a_time(Term(1), Index(7), Index(3)).unwrap();
        assert!(all.r23_one_at_a_time(Term(1), Index(9), Index(6)).is_err());
    }

    #[test]
    fn what_a_log_is_committed_by_stands_in_it() {
        let mut all = Configurations::of(&[1, 2, 3].map(NodeId));
        let (one, two) = (of(&[1, 2]), of(&[1]));
        all.in_logs.insert((Index(4), Term(1)), one.clone());
        all.in_logs.insert((Index(6), Term(2)), two.clone());
        let log = |term| move |index: Index| (index.0 > 0).then_some(Term(term));
        assert_eq!(all.of_log(Index(3), log(1)), [&one, &of(&[1, 2, 3])]);
        assert_eq!(all.of_log(Index(5), log(1)), [&one]);
        assert_eq!(all.of_log(Index(5), log(2)), [&two, &of(&[1, 2, 3])]);
        assert_eq!(all.of_log(Index(9), log(3)), [&of(&[1, 2, 3])]);
        all.committed.insert(Index(4), one.clone());
        assert_eq!(all.of_log(Index(9), |_| None), [&one]);
    }

    /// Seed 3011, before other draws: it was at peace without who was needed, and stood still.
    #[test]
    fn a_core_decides_by_what_a_lost_disk_may_bring_back() {
        let mut all = Configurations::of(&[1, 2, 3].map(NodeId));
        let (three, five) = (of(&[1, 2, 3]), of(&[1, 2, 3, 4, 5]));
        let core = |all: &Configurations| {
            let mut core = [1, 2].map(NodeId).to_vec();
            all.complete(&mut core, [3, 4, 5].map(NodeId).to_vec());
            core.len()
        };
        all.note_in_force(NodeId(1), (Index(0), true), || vec![three.clone()]);
        assert_eq!(core(&all), 2);
        all.note_in_force(NodeId(1), (Index(5), false), || vec![three.clone(), five]);
        assert_eq!(core(&all), 3);
        all.note_in_force(NodeId(1), (Index(0), true), || vec![three.clone()]);
        assert_eq!(core(&all), 3, "it was cut off, perhaps not on the disk");
        all.note_in_force(NodeId(1), (Index(7), true), || vec![three]);
        assert_eq!(core(&all), 2, "a later one is committed");
    }

    #[test]
    fn r24_sees_a_learner_that_campaigns() {
        r24(true, true, false).unwrap();
        r24(false, false, false).unwrap();
        assert!(r24(false, true, false).is_err());
    }
}
