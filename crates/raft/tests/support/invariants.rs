//! What must hold of a Raft group, one function an invariant, each with its name.
//!
//! Each looks at what one step could have broken, against all that was ever seen. Each has a test
//! that shows it a broken thing and a good one.

use std::collections::{BTreeMap, VecDeque};

use quorate_raft::{Index, Term};
use quorate_transport::{NodeId, Ticket};

/// An entry: its term, its digest, and the operation in it.
pub(crate) type Fact = (Term, u128, Option<u64>);

/// Where a log ends: its last entry, and the term of it unless a snapshot has taken its place.
pub(crate) type End = (Index, Option<Term>);

/// How far the log of each node is durable: by what its journal says, not by what it believes.
#[derive(Default)]
pub(crate) struct Disks(BTreeMap<NodeId, Disk>);

#[derive(Default)]
struct Disk {
    durable: Option<End>,
    /// Ends of the log that are durable with a ticket.
    under_way: VecDeque<(Ticket, End)>,
    /// Nothing of the present life was noted yet.
    starts: bool,
}

impl Disks {
    /// A node starts: all that it finds is durable, and nothing else is any more.
    pub(crate) fn start(&mut self, node: NodeId) {
        let disk = self.0.entry(node).or_default();
        disk.under_way.clear();
        disk.starts = true;
    }

    /// A log ends there, by records up to `written`; of its records those up to `synced` are
    /// durable. Whether something that was durable may be so no more.
    pub(crate) fn note(&mut self, node: NodeId, end: End, written: Ticket, synced: Ticket) -> bool {
        let disk = self.0.entry(node).or_default();
        let before = disk.durable;
        if std::mem::take(&mut disk.starts) {
            disk.durable = Some(end);
        }
        let newest = disk.under_way.back().map(|(_, end)| *end).or(disk.durable);
        if newest != Some(end) {
            disk.under_way.push_back((written, end));
        }
        while let Some((_, end)) = disk.under_way.pop_front_if(|(ticket, _)| *ticket <= synced) {
            disk.durable = Some(end);
        }
        let follows = |old: End, new: End| new.0 >= old.0 && new.1 == old.1;
        before.zip(disk.durable).is_some_and(|(old, new)| !follows(old, new))
    }
}

/// Everything that was ever seen to be true of a group.
#[derive(Default)]
pub(crate) struct Facts {
    /// The first leader seen in each term.
    pub(crate) leaders: BTreeMap<Term, NodeId>,
    /// What was first applied at each index.
    pub(crate) committed: BTreeMap<Index, Fact>,
    /// The term of the node that first knew an index to be committed.
    pub(crate) known_in: BTreeMap<Index, Term>,
    /// Every entry ever seen in a log: its digest and the term before it.
    logs: BTreeMap<(Index, Term), (u128, Term)>,
    /// What somebody was told is committed, and where.
    pub(crate) promised: BTreeMap<Index, u64>,
}

impl Facts {
    /// R1 election safety: at most one leader a term, over the whole run. [Raft §5.2]
    pub(crate) fn r1(&mut self, term: Term, leader: NodeId) -> Result<(), String> {
        let first = *self.leaders.entry(term).or_insert(leader);
        if first == leader {
            return Ok(());
        }
        Err(format!("R1 two leaders of term {term}: {first} and {leader}"))
    }

    /// R4 log matching: entries of one index and term are one, and so is the term before it. True
    /// where this entry was seen before, and with it all before it. [Raft §5.3]
    pub(crate) fn r4(
        &mut self,
        (index, term): (Index, Term),
        entry: (u128, Term),
    ) -> Result<bool, String> {
        match self.logs.insert((index, term), entry) {
            Some(known) if known != entry => Err(format!("R4 two entries {index}@{term}")),
            known => Ok(known.is_some()),
        }
    }

    /// Whether each of two logs, known by where they end, has something in the place of what the
    /// other has; also where that was not seen.
    pub(crate) fn contradict(&self, one: (Index, Term), other: (Index, Term)) -> bool {
        let upto = one.0.min(other.0);
        let terms = [one, other].map(|last| self.term_at(upto, last));
        terms[0] != terms[1] || terms.contains(&None)
    }

    /// The term of an entry of the log that ends with `last`.
    fn term_at(&self, index: Index, last: (Index, Term)) -> Option<Term> {
        let (mut at, mut term) = last;
        while at > index {
            term = self.logs.get(&(at, term))?.1;
            at = at.previous();
        }
        Some(term)
    }

    /// R5 leader completeness: a leader has every entry that was committed in an earlier term.
    /// `log` is its first and last entry in memory, `term_at` the term of each. [Raft §5.4]
    pub(crate) fn r5(
        &self,
        term: Term,
        (first, last): (Index, Index),
        term_at: impl Fn(Index) -> Option<Term>,
    ) -> Result<(), String> {
        let earlier = |index: &Index| self.known_in[index] < term;
        let Some((&newest, _)) = self.committed.last_key_value() else { return Ok(()) };
        if last < newest && earlier(&newest) {
            return Err(format!("R5 leader of {term} ends at {last}, committed is {newest}"));
        }
        let from = first.max(Index(newest.0.saturating_sub(20)));
        for (index, (committed, ..)) in self.committed.range(from..) {
            let here = term_at(*index);
            if here != Some(*committed) && earlier(index) {
                return Err(format!("R5 leader has {here:?} at {index}, committed is {committed}"));
            }
        }
        Ok(())
    }

    /// R6 state machine safety: one entry an index, on all nodes, for all time. [Raft §5.4.3]
    pub(crate) fn r6(&mut self, index: Index, fact: Fact, term: Term) -> Result<(), String> {
        self.known_in.entry(index).or_insert(term);
        let known = *self.committed.entry(index).or_insert(fact);
        if known == fact {
            return Ok(());
        }
        Err(format!("R6 two entries at {index}: {known:?} and {fact:?}"))
    }

    /// R8: what is committed is durable on a quorum, and stays so. [Raft §5.3]
    pub(crate) fn r8(
        &self,
        entry: (Index, Term),
        disks: &Disks,
        is_quorum: impl Fn(&dyn Fn(NodeId) -> bool) -> bool,
    ) -> Result<(), String> {
        let has = |node: NodeId| {
            let durable = disks.0.get(&node).and_then(|disk| disk.durable);
            durable.is_some_and(|end| self.has(end, entry))
        };
        if is_quorum(&has) {
            return Ok(());
        }
        let nodes: Vec<_> = disks.0.keys().copied().filter(|node| has(*node)).collect();
        Err(format!("R8 {}@{} is committed and durable on {nodes:?} alone", entry.0, entry.1))
    }

    /// Whether a log that ends there has an entry: by what came before each, where it was seen.
    fn has(&self, (last, last_term): End, (index, term): (Index, Term)) -> bool {
        let Some(mut before) = last_term else { return index <= last };
        let mut at = last;
        while at > index {
            let Some((_, previous)) = self.logs.get(&(at, before)) else { return true };
            (at, before) = (at.previous(), *previous);
        }
        (at, before) == (index, term)
    }

    /// D1: what was answered as committed at an index is what stands there.
    pub(crate) fn d1(&self, index: Index) -> Result<(), String> {
        let stands = self.committed.get(&index).map(|(_, _, op)| *op);
        match (self.promised.get(&index), stands) {
            (Some(promised), Some(op)) if op != Some(*promised) => {
                Err(format!("D1 op {promised} was committed at {index}, which holds {op:?}"))
            }
            _ => Ok(()),
        }
    }

    /// D1 in the end: all that was answered as committed is there.
    pub(crate) fn d1_in_the_end(&self) -> Result<(), String> {
        for (index, op) in &self.promised {
            self.d1(*index)?;
            if !self.committed.contains_key(index) {
                return Err(format!("D1 op {op} was committed at {index} and is not there"));
            }
        }
        Ok(())
    }
}

/// R11 and R13: in one life neither term nor commit index falls.
pub(crate) fn r11_r13(before: (Term, Index), now: (Term, Index)) -> Result<(), String> {
    if now.0 >= before.0 && now.1 >= before.1 {
        return Ok(());
    }
    Err(format!("R11, R13: term and commit were {before:?}, are {now:?}"))
}

/// R26: a read at `index` sees the last of what was answered as committed, each with when, before
/// `since`.
pub(crate) fn r26(promised: &[(u64, Index)], since: u64, index: Index) -> Result<(), String> {
    let upto = promised.partition_point(|(at, _)| *at < since);
    match promised[..upto].last() {
        Some((at, known)) if *known > index => {
            Err(format!("R26 a read is at {index}, but {known} was answered at {at} ns"))
        }
        _ => Ok(()),
    }
}

/// R14: what is to be applied follows what was applied.
pub(crate) fn r14(applied: Index, first: Index) -> Result<(), String> {
    if first == applied.next() {
        return Ok(());
    }
    Err(format!("R14 applied {applied}, then told to apply {first}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    fn breaks<T>(id: &str, result: Result<T, String>) {
        let what = result.err().unwrap_or_else(|| panic!("{id} did not see it"));
        assert!(what.starts_with(id), "{what}");
    }

    #[test]
    fn r1_sees_a_second_leader_however_late() {
        let mut facts = Facts::default();
        facts.r1(Term(1), ONE).unwrap();
        facts.r1(Term(2), TWO).unwrap();
        facts.r1(Term(1), ONE).unwrap();
        breaks("R1", facts.r1(Term(1), TWO));
    }

    #[test]
    fn r4_sees_another_entry_and_another_past() {
        let at = (Index(3), Term(2));
        let mut facts = Facts::default();
        assert!(!facts.r4(at, (7, Term(1))).unwrap());
        assert!(facts.r4(at, (7, Term(1))).unwrap());
        facts.r4((Index(3), Term(1)), (8, Term(1))).unwrap();
        breaks("R4", facts.r4(at, (9, Term(1))));
        let mut facts = Facts::default();
        facts.r4(at, (7, Term(1))).unwrap();
        breaks("R4", facts.r4(at, (7, Term(2))));
    }

    #[test]
    fn logs_contradict_each_other_unless_one_is_a_part_of_the_other() {
        let mut facts = Facts::default();
        for (index, term, before) in [(1, 1, 0), (2, 1, 1), (2, 3, 1), (3, 4, 3)] {
            facts.r4((Index(index), Term(term)), (9, Term(before))).unwrap();
        }
        let end = |index, term| (Index(index), Term(term));
        assert!(facts.contradict(end(2, 1), end(3, 4)) && facts.contradict(end(3, 4), end(2, 1)));
        assert!(!facts.contradict(end(2, 3), end(3, 4)), "it is a part of it");
        assert!(!facts.contradict(end(1, 1), end(2, 1)) && !facts.contradict(end(0, 0), end(3, 4)));
        assert!(facts.contradict(end(1, 1), end(5, 5)), "that was never seen");
    }

    #[test]
    fn r5_sees_a_leader_that_lacks_what_is_committed() {
        let mut facts = Facts::default();
        for index in 1..=3 {
            facts.r6(Index(index), (Term(1), u128::from(index), None), Term(1)).unwrap();
        }
        let whole = |_| Some(Term(1));
        let log = |last| (Index(1), Index(last));
        facts.r5(Term(2), log(3), whole).unwrap();
        breaks("R5", facts.r5(Term(2), log(2), whole));
        breaks("R5", facts.r5(Term(2), log(3), |index| Some(Term(1 + u64::from(index.0 == 2)))));
        // A leader of the very term may not know yet what others do.
        facts.r5(Term(1), log(2), whole).unwrap();
    }

    #[test]
    fn r8_sees_what_is_committed_and_not_durable() {
        let mut facts = Facts::default();
        for (index, term, before) in [(1, 1, 0), (2, 1, 1), (2, 2, 1), (3, 2, 2)] {
            facts.r4((Index(index), Term(term)), (9, Term(before))).unwrap();
        }
        let end = |index, term| (Index(index), Some(Term(term)));
        let both = |has: &dyn Fn(NodeId) -> bool| has(ONE) && has(TWO);
        let mut disks = Disks::default();
        assert!(!disks.note(ONE, end(3, 2), Ticket(5), Ticket(5)));
        assert!(!disks.note(TWO, end(2, 1), Ticket(7), Ticket(7)));
        facts.r8((Index(1), Term(1)), &disks, both).unwrap();
        breaks("R8", facts.r8((Index(2), Term(2)), &disks, both));
        // The end of another log takes the place of its own, and is not durable yet.
        assert!(!disks.note(TWO, end(2, 2), Ticket(8), Ticket(7)));
        breaks("R8", facts.r8((Index(2), Term(2)), &disks, both));
        assert!(disks.note(TWO, end(3, 2), Ticket(9), Ticket(8)), "it was an entry of term 1");
        facts.r8((Index(2), Term(2)), &disks, both).unwrap();
        breaks("R8", facts.r8((Index(3), Term(2)), &disks, both));
        // What was under way is lost, but what a new life finds is durable.
        disks.start(TWO);
        breaks("R8", facts.r8((Index(3), Term(2)), &disks, both));
        disks.note(TWO, end(3, 2), Ticket(9), Ticket(8));
        facts.r8((Index(3), Term(2)), &disks, both).unwrap();
        // A snapshot has all before it.
        disks.start(TWO);
        disks.note(TWO, (Index(3), None), Ticket(9), Ticket(9));
        facts.r8((Index(3), Term(2)), &disks, both).unwrap();
        breaks("R8", facts.r8((Index(4), Term(2)), &disks, both));
        // What a quorum has had it may not lose, by an older snapshot or by a restart.
        assert!(disks.note(TWO, (Index(2), None), Ticket(10), Ticket(10)));
        breaks("R8", facts.r8((Index(3), Term(2)), &disks, both));
        disks.start(TWO);
        assert!(disks.note(TWO, end(1, 1), Ticket(10), Ticket(10)));
    }

    #[test]
    fn r6_sees_two_entries_at_one_index() {
        let mut facts = Facts::default();
        let fact = (Term(1), 5, Some(9));
        facts.r6(Index(1), fact, Term(1)).unwrap();
        facts.r6(Index(1), fact, Term(4)).unwrap();
        breaks("R6", facts.r6(Index(1), (Term(1), 6, Some(9)), Term(1)));
        breaks("R6", facts.r6(Index(1), (Term(2), 5, Some(9)), Term(1)));
    }

    #[test]
    fn d1_sees_an_answer_that_does_not_stand() {
        let mut facts = Facts::default();
        facts.promised.insert(Index(4), 70);
        facts.d1(Index(4)).unwrap();
        breaks("D1", facts.d1_in_the_end());
        facts.r6(Index(4), (Term(1), 1, Some(70)), Term(1)).unwrap();
        facts.d1_in_the_end().unwrap();
        facts.promised.insert(Index(4), 71);
        breaks("D1", facts.d1(Index(4)));
    }

    #[test]
    fn r26_sees_a_read_that_is_too_old() {
        let promised = [(10, Index(1)), (20, Index(5)), (30, Index(9))];
        r26(&promised, 30, Index(5)).unwrap();
        r26(&promised, 5, Index(0)).unwrap();
        breaks("R26", r26(&promised, 31, Index(8)));
        breaks("R26", r26(&promised, 21, Index(4)));
    }

    #[test]
    fn r11_r13_and_r14_see_what_falls_and_what_is_skipped() {
        let before = (Term(3), Index(5));
        r11_r13(before, (Term(3), Index(5))).unwrap();
        breaks("R11", r11_r13(before, (Term(2), Index(9))));
        breaks("R11", r11_r13(before, (Term(4), Index(4))));
        r14(Index(5), Index(6)).unwrap();
        breaks("R14", r14(Index(5), Index(7)));
        breaks("R14", r14(Index(5), Index(5)));
    }
}
