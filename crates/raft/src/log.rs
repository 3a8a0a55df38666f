//! The log in memory: a window of views behind a compacted prefix.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use quorate_transport::{Digest, Rename, Ticket};

use crate::batch::{Kind, VIEWS_MAX, View, Views};
use crate::members::Members;
use crate::types::{Index, Term};

#[derive(Clone, Debug)]
struct Slot {
    view: View,
    /// As the view says, but without a walk to the batch.
    term: Term,
    /// The record that made it durable first; increasing along the log.
    ticket: Ticket,
    /// The record that keeps it now: later than `ticket` once a checkpoint has moved it.
    home: Ticket,
    /// Bytes of memory of the log up to the end of this view, since the log began.
    bytes: u64,
}

impl Slot {
    fn new(view: View, ticket: Ticket, home: Ticket, bytes: u64) -> Self {
        Self { term: view.term(), view, ticket, home, bytes }
    }

    fn first(&self) -> Index {
        self.view.first()
    }

    fn last(&self) -> Index {
        self.view.last()
    }
}

/// What came of an append to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// All of it was there.
    Known,
    /// All of it is new and follows the last entry.
    All,
    /// These views are new; everything from the first of them on is replaced.
    New(Views),
    /// It contradicts an entry at or below the limit.
    Contradiction(Index),
}

/// The entries after `base`, in order, without a gap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    base: Index,
    base_term: Term,
    /// The last entry, its term and the bytes up to it: asked for at every step.
    last: Index,
    last_term: Term,
    last_bytes: u64,
    slots: VecDeque<Slot>,
    /// Bytes up to `base`.
    base_bytes: u64,
    configs: Configs,
    /// The newest of them may be another than was told, or is not told as committed.
    pub(crate) members_to_tell: bool,
}

/// The configurations of the log, each with the entry that it came with: the newest counts. The
/// first one is as of `base` or before; a cut of the log brings back the one before.
#[derive(Clone, Debug)]
struct Configs(Vec<(Index, Arc<Members>)>);

impl Default for Configs {
    fn default() -> Self {
        Self(alloc::vec![(Index::ZERO, Arc::default())])
    }
}

impl Log {
    /// An empty log of a group whose members are known from elsewhere.
    pub(crate) fn founded(members: Members) -> Self {
        let configs = Configs(alloc::vec![(Index::ZERO, Arc::new(members))]);
        Self { configs, members_to_tell: true, ..Self::default() }
    }

    /// The newest configuration, and the entry that it came with.
    pub(crate) fn newest_members(&self) -> (Index, &Arc<Members>) {
        let (index, members) = self.configs.0.last().expect("there is always one");
        (*index, members)
    }

    /// The configuration in force for whoever has read up to `index`.
    pub(crate) fn members_at(&self, index: Index) -> &Arc<Members> {
        let upto = self.configs.0.partition_point(|(at, _)| *at <= index);
        &self.configs.0[upto.max(1) - 1].1
    }

    /// That one, and all that follow.
    pub(crate) fn members_since(&self, index: Index) -> impl Iterator<Item = &Members> {
        let upto = self.configs.0.partition_point(|(at, _)| *at <= index);
        self.configs.0[upto.max(1) - 1..].iter().map(|(_, members)| &**members)
    }

    /// A snapshot says what the configuration is as of `index`.
    pub(crate) fn anchor_members(&mut self, index: Index, members: Arc<Members>) {
        self.members_to_tell = true;
        self.configs.0.retain(|(at, _)| *at > index);
        self.configs.0.insert(0, (index, members));
    }

    /// The last entry that is no longer here; its term is still known.
    pub(crate) fn base(&self) -> Index {
        self.base
    }

    pub(crate) fn last(&self) -> Index {
        self.last
    }

    pub(crate) fn last_term(&self) -> Term {
        self.last_term
    }

    /// The term of an entry; `None` where it is compacted or not yet here.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.last {
            return Some(self.last_term); // nearly always
        }
        if index == self.base {
            return Some(self.base_term);
        }
        self.slot(index).map(|slot| slot.term)
    }

    /// The record that makes the entry durable; [`Ticket::ZERO`] for the compacted prefix.
    pub(crate) fn ticket_at(&self, index: Index) -> Ticket {
        self.slot(index).map_or(Ticket::ZERO, |slot| slot.ticket)
    }

    /// The last entry whose record is durable.
    pub(crate) fn durable_index(&self, upto: Ticket) -> Index {
        if self.slots.back().is_some_and(|slot| slot.ticket <= upto) {
            return self.last();
        }
        match self.slots.partition_point(|slot| slot.ticket <= upto) {
            0 => self.base,
            at => self.slots[at - 1].last(),
        }
    }

    /// Bytes of memory of the entries after `index`, to the view.
    pub(crate) fn bytes_after(&self, index: Index) -> u64 {
        self.last_bytes - self.bytes_upto(index)
    }

    /// Bytes of memory of all entries up to `index`, to the view, since the log began. Compaction
    /// does not change it.
    pub(crate) fn bytes_upto(&self, index: Index) -> u64 {
        if index >= self.last() {
            return self.last_bytes;
        }
        self.slot(index).map_or(self.base_bytes, |slot| slot.bytes)
    }

    /// The rest of the view that holds `from`, up to `to`; its record, and the bytes up to its
    /// end.
    pub(crate) fn view(&self, from: Index, to: Index) -> Option<(View, Ticket, u64)> {
        let slot = self.slot(from)?;
        if slot.first() == from && slot.last() <= to {
            return Some((slot.view.clone(), slot.ticket, slot.bytes)); // nearly always
        }
        let view = slot.view.slice(from, to)?;
        Some((view, slot.ticket, slot.bytes))
    }

    /// The newest view, if it begins there.
    pub(crate) fn newest_at(&self, from: Index) -> Option<&View> {
        self.slots.back().map(|slot| &slot.view).filter(|view| view.first() == from)
    }

    /// Consecutive views from `from` on: at least one, then as many as stay within `bytes_max`.
    pub(crate) fn run(&self, from: Index, bytes_max: usize) -> Views {
        let mut views = Views::None;
        let mut bytes = 0;
        for slot in self.slots.range(self.position(from)..) {
            let Some(view) = slot.view.from_index(from) else {
                continue;
            };
            bytes += view.encoded_len();
            let full = bytes > bytes_max || views.as_slice().len() == VIEWS_MAX;
            if full && views != Views::None {
                break;
            }
            views.push(view);
        }
        views
    }

    /// What is new in `views`, comparing terms. Entries at or below `limit` are known to be right.
    pub(crate) fn fit(&self, views: &Views, limit: Index) -> Fit {
        let all = views.as_slice();
        if all.first().is_some_and(|view| view.first() == self.last().next()) {
            return Fit::All; // nearly always
        }
        for (number, view) in all.iter().enumerate() {
            let known = self.term_at(view.last().min(limit));
            if view.first() <= limit && known.is_some_and(|term| term != view.term()) {
                return Fit::Contradiction(view.first());
            }
            let from = view.first().max(limit.next());
            let Some(conflict) = self.first_difference(view, from) else {
                continue;
            };
            let mut new = Views::None;
            if let Some(rest) = view.from_index(conflict) {
                new.push(rest);
            }
            all[number + 1..].iter().for_each(|view| new.push(view.clone()));
            return Fit::New(new);
        }
        Fit::Known
    }

    /// The first entry of `view` from `from` on that is not here as it is there.
    fn first_difference(&self, view: &View, from: Index) -> Option<Index> {
        let mut index = from;
        while index <= view.last() {
            let Some(slot) = self.slot(index) else {
                return Some(index);
            };
            if slot.term != view.term() {
                return Some(index);
            }
            index = slot.last().next();
        }
        None
    }

    /// Appends after cutting whatever lies from the view's first index on.
    pub(crate) fn append(&mut self, view: View, ticket: Ticket) {
        if view.first() <= self.last() {
            self.truncate(view.first().previous());
        }
        assert!(view.first() == self.last().next(), "the log has no gap");
        let bytes = self.last_bytes + view.weight() as u64;
        if let Some(members) = view.members() {
            self.members_to_tell = true;
            self.configs.0.push((view.first(), Arc::new(members)));
        }
        (self.last, self.last_term, self.last_bytes) = (view.last(), view.term(), bytes);
        self.slots.push_back(Slot::new(view, ticket, ticket, bytes));
    }

    /// Drops every entry after `last`.
    fn truncate(&mut self, last: Index) {
        while let Some(slot) = self.slots.pop_back_if(|slot| slot.last() > last) {
            if let Some(view) = slot.view.upto_index(last) {
                let bytes = slot.bytes - slot.view.weight() as u64;
                let bytes = bytes + view.weight() as u64;
                self.slots.push_back(Slot::new(view, slot.ticket, slot.home, bytes));
            }
        }
        self.cut_members(last);
        self.note_end();
    }

    fn cut_members(&mut self, last: Index) {
        while self.configs.0.len() > 1 && self.newest_members().0 > last {
            self.members_to_tell = true;
            self.configs.0.pop();
        }
    }

    fn note_end(&mut self) {
        (self.last, self.last_term, self.last_bytes) = match self.slots.back() {
            Some(slot) => (slot.last(), slot.term, slot.bytes),
            None => (self.base, self.base_term, self.base_bytes),
        };
    }

    /// Drops whole views up to `index`; one that reaches beyond it stays whole.
    pub(crate) fn compact(&mut self, index: Index) {
        self.compact_keeping(index, 0);
    }

    /// Drops whole views up to `index`, but keeps about `keep` bytes of memory before it.
    pub(crate) fn compact_keeping(&mut self, index: Index, keep: u64) {
        let covered = self.bytes_upto(index).saturating_sub(keep);
        let gone = |slot: &mut Slot| slot.last() <= index && slot.bytes <= covered;
        while let Some(slot) = self.slots.pop_front_if(gone) {
            self.base = slot.last();
            self.base_term = slot.term;
            self.base_bytes = slot.bytes;
        }
        let old = self.configs.0.partition_point(|(at, _)| *at <= self.base);
        self.configs.0.drain(..old.max(1) - 1);
        self.note_end();
    }

    /// Begins anew after a snapshot, or where a journal begins.
    pub(crate) fn reset(&mut self, base: Index, base_term: Term) {
        self.slots.clear();
        (self.base, self.base_term) = (base, base_term);
        self.cut_members(base);
        self.note_end();
    }

    /// The oldest record that still keeps an entry after `index`.
    pub(crate) fn oldest_home(&self, index: Index) -> Option<Ticket> {
        self.slots.range(self.position(index.next())..).map(|slot| slot.home).min()
    }

    /// Moves every entry after `index` to new records, in order, if one of them is kept by a
    /// record before `before`. All move, so that a replay from any of the old records on meets
    /// the whole of them again.
    pub(crate) fn rehome(
        &mut self,
        index: Index,
        before: Ticket,
        mut persist: impl FnMut(Term, View) -> Ticket,
    ) {
        let first = index.max(self.base).next();
        let start = self.slot(first).map_or(first, |slot| slot.first());
        let mut prev_term = self.term_at(start.previous()).unwrap_or(Term::ZERO);
        if self.oldest_home(index).is_some_and(|home| home < before) {
            for slot in self.slots.iter_mut().filter(|slot| slot.last() > index) {
                slot.home = persist(prev_term, slot.view.clone());
                prev_term = slot.term;
            }
        }
    }

    /// The last index at or before `index` whose term is at most `term`. [Raft §5.3]
    pub(crate) fn last_at_most(&self, index: Index, term: Term) -> Index {
        let mut at = index.min(self.last());
        while let Some(slot) = self.slot(at) {
            if slot.term <= term {
                return at;
            }
            at = slot.first().previous();
        }
        at
    }

    /// Whether a log that ends in (`index`, `term`) is at least as up to date. [Raft §5.4.1]
    pub(crate) fn is_up_to_date(&self, index: Index, term: Term) -> bool {
        (term, index) >= (self.last_term(), self.last())
    }

    pub(crate) fn digest(&self, rename: &Rename, into: &mut Digest) {
        into.u64(self.base.0);
        into.u64(self.base_term.0);
        for slot in &self.slots {
            into.u64(slot.first().0);
            into.u64(slot.term.0);
            if slot.view.kind() != Kind::Members {
                slot.view.entries().for_each(|entry| into.bytes(entry));
            }
        }
        for (index, members) in &self.configs.0 {
            into.u64(index.0);
            members.digest(rename, into);
        }
    }

    fn slot(&self, index: Index) -> Option<&Slot> {
        if let Some(slot) = self.slots.back().filter(|slot| slot.first() <= index) {
            return (index <= slot.last()).then_some(slot);
        }
        if index <= self.base {
            return None;
        }
        self.slots.get(self.position(index))
    }

    /// Where the view of `index` stands, or would. What is asked for is nearly always near the end.
    fn position(&self, index: Index) -> usize {
        let len = self.slots.len();
        for back in 1..=len.min(3) {
            let slot = &self.slots[len - back];
            if index > slot.last() {
                return len - back + 1;
            }
            if index >= slot.first() {
                return len - back;
            }
        }
        self.slots.partition_point(|slot| slot.last() < index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Proposals;

    fn view(first: u64, count: usize, term: u64) -> View {
        let mut proposals = Proposals::default();
        (0..count).for_each(|_| proposals.push(b"x"));
        proposals.freeze(Index(first), Term(term), Kind::Normal).into()
    }

    fn views(all: &[View]) -> Views {
        let mut views = Views::None;
        all.iter().for_each(|view| views.push(view.clone()));
        views
    }

    /// 1..=3 of term 1, 4..=8 of term 2.
    fn log() -> Log {
        let mut log = Log::default();
        log.append(view(1, 3, 1), Ticket(1));
        log.append(view(4, 5, 2), Ticket(2));
        log
    }

    #[test]
    fn what_is_there_is_known_and_what_is_new_begins_at_the_first_difference() {
        let log = log();
        let limit = Index(2);
        assert_eq!(log.fit(&views(&[view(1, 3, 1), view(4, 5, 2)]), limit), Fit::Known);
        assert_eq!(
            log.fit(&views(&[view(4, 2, 2)]), limit),
            Fit::Known,
            "a short one cuts nothing"
        );
        let new = view(4, 2, 3);
        assert_eq!(log.fit(&views(&[view(2, 2, 1), new.clone()]), limit), Fit::New(views(&[new])));
        let longer = view(4, 7, 2);
        let tail = longer.from_index(Index(9)).unwrap();
        assert_eq!(log.fit(&views(&[longer]), limit), Fit::New(views(&[tail])));
        assert_eq!(log.fit(&views(&[view(1, 2, 9)]), limit), Fit::Contradiction(Index(1)));
    }

    #[test]
    fn a_conflict_inside_a_batch_cuts_it_and_the_cut_one_can_be_sent_again() {
        let mut log = log();
        log.append(view(6, 1, 3), Ticket(3));
        assert_eq!((log.last(), log.last_term()), (Index(6), Term(3)));
        assert_eq!(log.term_at(Index(5)), Some(Term(2)));
        let run = log.run(Index(4), usize::MAX);
        let shown: alloc::vec::Vec<_> =
            run.as_slice().iter().map(|v| (v.first(), v.last())).collect();
        assert_eq!(shown, [(Index(4), Index(5)), (Index(6), Index(6))]);
        assert_eq!(
            log.bytes_after(Index(3)),
            (view(4, 2, 2).weight() + view(6, 1, 3).weight()) as u64
        );
        assert_eq!(log.durable_index(Ticket(2)), Index(5));
    }

    #[test]
    fn compaction_inside_a_batch_keeps_the_batch() {
        let mut log = log();
        log.compact(Index(5));
        assert_eq!((log.base(), log.term_at(Index(3))), (Index(3), Some(Term(1))));
        assert_eq!(log.term_at(Index(2)), None);
        assert_eq!(log.bytes_after(Index(3)), view(4, 5, 2).weight() as u64);
        log.compact(Index(8));
        assert_eq!((log.base(), log.last(), log.last_term()), (Index(8), Index(8), Term(2)));
    }

    #[test]
    fn a_run_is_bounded_but_never_empty() {
        let log = log();
        assert_eq!(log.run(Index(1), 0).last(), Some(Index(3)));
        assert_eq!(log.run(Index(2), usize::MAX).last(), Some(Index(8)));
        assert_eq!(log.run(Index(9), usize::MAX), Views::None);
    }

    #[test]
    fn last_log_comparison_puts_the_term_first() {
        let log = log();
        assert!(log.is_up_to_date(Index(8), Term(2)));
        assert!(log.is_up_to_date(Index(1), Term(3)));
        assert!(!log.is_up_to_date(Index(7), Term(2)));
        assert!(!log.is_up_to_date(Index(99), Term(1)));
    }

    #[test]
    fn backing_off_skips_whole_terms() {
        let log = log();
        assert_eq!(log.last_at_most(Index(7), Term(1)), Index(3));
        assert_eq!(log.last_at_most(Index(99), Term(2)), Index(8));
        assert_eq!(log.last_at_most(Index(7), Term(0)), Index(0));
    }

    #[test]
    fn moved_records_keep_their_durability_and_free_their_old_place() {
        let mut log = log();
        assert_eq!(log.oldest_home(Index(2)), Some(Ticket(1)));
        let mut next = 6;
        log.rehome(Index(2), Ticket(2), |_, _| {
            next += 1;
            Ticket(next)
        });
        assert_eq!(log.oldest_home(Index(2)), Some(Ticket(7)));
        assert_eq!(log.oldest_home(Index(3)), Some(Ticket(8)));
        assert_eq!(log.durable_index(Ticket(1)), Index(3));
    }
}
