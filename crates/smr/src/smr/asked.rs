//! What was asked of Raft and is not answered, and who waits for what is committed.

use alloc::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_raft::Index;
use quorate_transport::{RequestId, RequestRange};

use crate::applier::Outcome;
use crate::outcomes::Outcomes;

/// A question that is not about commands.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Read {
        id: RequestId,
        query: Bytes,
    },
    Index(RequestId),
    Transfer(RequestId),
    Change(RequestId),
    Compact,
    Tick,
    /// By a request, or because it is time.
    Audit(Option<RequestId>),
}

/// Questions about commands, asked one after the other, each about as many: their numbers and those
/// of the requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Applies {
    ask: u64,
    pub(super) id: RequestId,
    /// Commands of each.
    pub(super) count: usize,
    /// Questions.
    pub(super) len: u64,
}

impl Applies {
    /// Those from the `from`th on, so many of them.
    fn part(self, from: u64, len: u64) -> Self {
        Self { ask: self.ask + from, id: RequestId(self.id.0 + from), len, ..self }
    }

    /// The first so many at the most, and the rest; either may be none.
    pub(super) fn split(self, at: u64) -> (Self, Self) {
        let at = at.min(self.len);
        (self.part(0, at), self.part(at, self.len - at))
    }

    pub(super) fn ids(self) -> impl Iterator<Item = RequestId> {
        (self.id.0..self.id.0 + self.len).map(RequestId)
    }
}

/// Open questions by number; numbers are given in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Asks {
    next: u64,
    /// By number. They are many, and nearly always the first are answered first.
    applies: VecDeque<Applies>,
    others: BTreeMap<u64, Asked>,
}

impl Asks {
    /// The next number, for something whose answer means nothing.
    pub(super) fn skip(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next - 1)
    }

    pub(super) fn push(&mut self, asked: Asked) -> RequestId {
        let number = self.skip();
        self.others.insert(number.0, asked);
        number
    }

    pub(super) fn push_apply(&mut self, id: RequestId, count: usize) -> RequestId {
        let number = self.skip();
        match self.applies.back_mut() {
            Some(back)
                if back.ask + back.len == number.0
                    && back.id.0 + back.len == id.0
                    && back.count == count =>
            {
                back.len += 1;
            }
            _ => self.applies.push_back(Applies { ask: number.0, id, count, len: 1 }),
        }
        number
    }

    /// Raft has answered these: which were about commands, from the first of them on?
    pub(super) fn take_applies(&mut self, numbers: RequestRange) -> Option<Applies> {
        let (first, asked) = (numbers.first.0, numbers.count());
        let end = |run: &Applies| run.ask + run.len;
        let at = match self.applies.front() {
            Some(front) if first < end(front) => 0, // nearly always
            _ => self.applies.partition_point(|run| end(run) <= first),
        };
        let run = self.applies.get_mut(at).filter(|run| run.ask <= first)?;
        let (whole, before) = (*run, first - run.ask);
        let len = asked.min(whole.len - before);
        let after = whole.len - before - len;
        let rest = whole.part(before + len, after);
        match (before, after) {
            (0, 0) => drop(self.applies.remove(at)),
            (0, _) => *run = rest,
            (_, 0) => run.len = before,
            _ => {
                run.len = before;
                self.applies.insert(at + 1, rest);
            }
        }
        Some(whole.part(before, len))
    }

    /// Raft has answered: what was the question, if it was none about commands?
    pub(super) fn take(&mut self, number: RequestId) -> Option<Asked> {
        self.others.remove(&number.0)
    }

    pub(super) fn len(&self) -> usize {
        self.applies.iter().map(|run| run.len as usize).sum::<usize>() + self.others.len()
    }
}

/// Requests whose commands are committed, stand next to each other in the log, and wait to be
/// applied here.
#[derive(Clone, Debug)]
struct Waiting {
    /// The first command of the first of them.
    first: Index,
    id: RequestId,
    /// Commands of each.
    count: usize,
    /// Requests.
    len: u64,
    /// Of the first of them, so far.
    outcomes: Outcomes,
}

impl Waiting {
    fn follows(&self, (first, applies): (Index, Applies)) -> bool {
        self.first.0 + self.count as u64 * self.len == first.0
            && self.id.0 + self.len == applies.id.0
            && self.count == applies.count
    }

    /// The first of them is answered.
    fn advance(&mut self) {
        self.first = Index(self.first.0 + self.count as u64);
        self.id = RequestId(self.id.0 + 1);
        self.len -= 1;
    }
}

/// Those, by first index.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue(VecDeque<Waiting>);

impl Queue {
    /// The commands of these stand in the log from `first` on.
    pub(super) fn push(&mut self, first: Index, applies: Applies) {
        if applies.len == 0 {
            return;
        }
        if let Some(back) = self.0.back_mut().filter(|back| back.follows((first, applies))) {
            back.len += applies.len;
            return;
        }
        let Applies { id, count, len, .. } = applies;
        let waiting = Waiting { first, id, count, len, outcomes: Outcomes::with_capacity(count) };
        if self.0.back().is_none_or(|last| last.first < first) {
            return self.0.push_back(waiting); // nearly always
        }
        let at = self.0.partition_point(|other| other.first < first);
        self.0.insert(at, waiting);
    }

    /// The first command that somebody waits for.
    pub(super) fn first(&self) -> Option<Index> {
        self.0.front().map(|waiting| waiting.first)
    }

    /// What became of a command; with the last one of a request, that request, its first command,
    /// and what became of all of them.
    pub(super) fn tell(
        &mut self,
        index: Index,
        outcome: Outcome,
    ) -> Option<(RequestId, Index, Outcomes)> {
        let front = self.0.front_mut()?;
        let expected = front.first.0 + front.outcomes.len() as u64;
        if index.0 < expected {
            return None;
        }
        debug_assert!(index.0 == expected, "outcomes come without a gap");
        front.outcomes.push(outcome);
        if front.outcomes.len() < front.count {
            return None;
        }
        let next = Outcomes::with_capacity(if front.len > 1 { front.count } else { 0 });
        let done = core::mem::replace(&mut front.outcomes, next);
        let (id, first) = (front.id, front.first);
        front.advance();
        if front.len == 0 {
            self.0.pop_front();
        }
        Some((id, first, done))
    }

    /// Gives up the next request whose first command is at or before `last`.
    pub(super) fn pop_upto(&mut self, last: Index) -> Option<RequestId> {
        let front = self.0.front_mut().filter(|front| front.first <= last)?;
        let id = front.id;
        front.outcomes = Outcomes::with_capacity(front.count);
        front.advance();
        if front.len == 0 {
            self.0.pop_front();
        }
        Some(id)
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|waiting| waiting.len as usize).sum()
    }

    /// Of each request the first command, and how many of its outcomes are open.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Index, usize)> {
        self.0.iter().flat_map(|waiting| {
            let known = waiting.outcomes.len();
            let count = waiting.count as u64;
            (0..waiting.len).map(move |at| {
                let known = if at == 0 { known } else { 0 };
                (Index(waiting.first.0 + at * count), waiting.count - known)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    fn range(first: u64, last: u64) -> RequestRange {
        RequestRange { first: RequestId(first), last: RequestId(last) }
    }

    #[test]
    fn each_question_is_found_once_in_whatever_order_answers_come() {
        let mut asks = Asks::default();
        assert_eq!(asks.push_apply(RequestId(10), 1), RequestId(0));
        assert_eq!(asks.skip(), RequestId(1));
        assert_eq!(asks.push(Asked::Tick), RequestId(2));
        (11..19).for_each(|id| assert_eq!(asks.push_apply(RequestId(id), 1).0, id - 8));
        assert_eq!(asks.len(), 10);
        let mut take = |first, last| {
            let taken = asks.take_applies(range(first, last));
            taken.map(|applies| (applies.id.0, applies.len))
        };
        assert_eq!(take(1, 1), None, "its answer means nothing");
        assert_eq!(take(6, 7), Some((14, 2)), "out of order");
        assert_eq!(take(6, 7), None, "once");
        assert_eq!(take(0, 9), Some((10, 1)), "up to the first that is none");
        assert_eq!(take(5, 9), Some((13, 1)), "up to the first that is gone");
        assert_eq!(take(10, 10), Some((18, 1)), "the last");
        assert_eq!(take(2, 2), None, "another kind");
        assert_eq!(take(3, 9), Some((11, 2)));
        assert_eq!(take(8, 30), Some((16, 2)));
        assert!(matches!(asks.take(RequestId(2)), Some(Asked::Tick)));
        assert_eq!(asks.len(), 0);
    }

    #[test]
    fn those_of_other_sizes_or_numbers_are_apart() {
        let mut asks = Asks::default();
        for (id, count) in [(1, 1), (2, 2), (3, 2), (7, 2)] {
            asks.push_apply(RequestId(id), count);
        }
        let mut take = |first| {
            let taken = asks.take_applies(range(first, 9));
            taken.map(|applies| (applies.id.0, applies.count, applies.len))
        };
        assert_eq!(
            [take(0), take(1), take(3)],
            [Some((1, 1, 1)), Some((2, 2, 2)), Some((7, 2, 1))]
        );
    }

    /// Applies of so many requests, of `count` commands each.
    fn applies(id: u64, count: usize, len: u64) -> Applies {
        Applies { ask: 0, id: RequestId(id), count, len }
    }

    #[test]
    fn some_requests_of_a_run_may_have_passed() {
        let all = applies(7, 2, 5);
        let parts = |at| {
            let (late, rest) = all.split(at);
            (late.ids().count(), rest.ids().map(|id| id.0).collect::<Vec<_>>())
        };
        assert_eq!(parts(0), (0, (7..12).collect()));
        assert_eq!(parts(3), (3, vec![10, 11]));
        assert_eq!(parts(9), (5, vec![]));
    }

    #[test]
    fn whoever_waits_stands_by_index() {
        let mut queue = Queue::default();
        for first in [3, 9, 5, 1] {
            queue.push(Index(first), applies(first, 1, 1));
        }
        assert_eq!(queue.first(), Some(Index(1)));
        assert_eq!(queue.iter().map(|(first, _)| first.0).collect::<Vec<_>>(), [1, 3, 5, 9]);
        assert_eq!(queue.pop_upto(Index(3)), Some(RequestId(1)));
        assert_eq!(queue.pop_upto(Index(3)), Some(RequestId(3)));
        assert_eq!(queue.pop_upto(Index(3)), None);
        let told = queue.tell(Index(5), Outcome::Strange);
        assert_eq!(told.map(|(id, first, _)| (id.0, first.0)), Some((5, 5)));
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn each_request_of_a_run_is_answered_with_its_own_outcomes() {
        let mut queue = Queue::default();
        queue.push(Index(4), applies(7, 2, 2));
        queue.push(Index(8), applies(9, 2, 1)); // it follows, and belongs to the run
        assert_eq!((queue.len(), queue.0.len()), (3, 1));
        assert_eq!(queue.tell(Index(3), Outcome::Strange), None, "nobody waits for it");
        let mut told = Vec::new();
        for index in 4..=9 {
            let kind = if index % 2 == 0 { Outcome::Forgotten } else { Outcome::Expired };
            let open: Vec<_> = queue.iter().map(|(first, open)| (first.0, open)).collect();
            assert_eq!(open[0], (index - index % 2, 2 - (index % 2) as usize));
            told.extend(queue.tell(Index(index), kind));
        }
        for (at, (id, first, outcomes)) in told.iter().enumerate() {
            assert_eq!((id.0, first.0), (7 + at as u64, 4 + 2 * at as u64));
            assert_eq!(outcomes[..], [Outcome::Forgotten, Outcome::Expired]);
        }
        assert_eq!((told.len(), queue.len()), (3, 0));
    }
}
