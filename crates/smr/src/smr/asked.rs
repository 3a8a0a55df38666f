//! What was asked of Raft and is not answered, and who waits for what is committed.

use alloc::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_raft::Index;
use quorate_transport::RequestId;

use crate::outcomes::Outcomes;

#[derive(Clone, Debug)]
pub(super) enum Asked {
    Apply {
        id: RequestId,
        count: usize,
    },
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

/// A question about commands.
#[derive(Clone, Copy, Debug)]
struct Apply {
    ask: u64,
    id: RequestId,
    count: usize,
}

/// Open questions by number; numbers are given in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Asks {
    next: u64,
    /// By number. They are many, and nearly always the first is answered first.
    applies: VecDeque<Apply>,
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
        if let Asked::Apply { id, count } = asked {
            self.applies.push_back(Apply { ask: number.0, id, count });
        } else {
            self.others.insert(number.0, asked);
        }
        number
    }

    /// Raft has answered: what was the question?
    pub(super) fn take(&mut self, number: RequestId) -> Option<Asked> {
        let apply = match self.applies.pop_front_if(|first| first.ask == number.0) {
            Some(first) => Some(first),
            None => {
                let at = self.applies.binary_search_by_key(&number.0, |apply| apply.ask);
                at.ok().and_then(|at| self.applies.remove(at))
            }
        };
        match apply {
            Some(Apply { id, count, .. }) => Some(Asked::Apply { id, count }),
            None => self.others.remove(&number.0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.applies.len() + self.others.len()
    }
}

/// A request whose commands are committed and wait to be applied here.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) first: Index,
    pub(super) id: RequestId,
    pub(super) count: usize,
    pub(super) outcomes: Outcomes,
}

/// Those, by first index.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue(VecDeque<Waiting>);

impl Queue {
    pub(super) fn push(&mut self, first: Index, id: RequestId, count: usize) {
        let waiting = Waiting { first, id, count, outcomes: Outcomes::with_capacity(count) };
        if self.0.back().is_none_or(|last| last.first < first) {
            return self.0.push_back(waiting); // nearly always
        }
        let at = self.0.partition_point(|other| other.first < first);
        self.0.insert(at, waiting);
    }

    pub(super) fn front(&self) -> Option<&Waiting> {
        self.0.front()
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Waiting> {
        self.0.front_mut()
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        self.0.pop_front()
    }

    pub(super) fn pop_upto(&mut self, last: Index) -> Option<Waiting> {
        self.0.pop_front_if(|waiting| waiting.first <= last)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn each_question_is_found_once_in_whatever_order_answers_come() {
        let mut asks = Asks::default();
        let apply = |id| Asked::Apply { id: RequestId(id), count: 1 };
        assert_eq!(asks.push(apply(10)), RequestId(0));
        assert_eq!(asks.skip(), RequestId(1));
        assert_eq!(asks.push(Asked::Tick), RequestId(2));
        let numbers = [11, 12, 13].map(|id| asks.push(apply(id)));
        assert_eq!(asks.len(), 5);
        assert!(asks.take(RequestId(1)).is_none(), "its answer means nothing");
        let id = |asked| match asked {
            Some(Asked::Apply { id, .. }) => id.0,
            other => panic!("{other:?}"),
        };
        assert_eq!(id(asks.take(numbers[1])), 12, "out of order");
        assert!(asks.take(numbers[1]).is_none(), "once");
        assert_eq!(id(asks.take(RequestId(0))), 10);
        assert!(matches!(asks.take(RequestId(2)), Some(Asked::Tick)));
        assert_eq!(id(asks.take(numbers[0])), 11);
        assert_eq!(id(asks.take(numbers[2])), 13);
        assert_eq!(asks.len(), 0);
    }

    #[test]
    fn whoever_waits_stands_by_index() {
        let mut queue = Queue::default();
        for first in [3, 9, 5, 1] {
            queue.push(Index(first), RequestId(first), 1);
        }
        assert_eq!(queue.front().map(|waiting| waiting.id.0), Some(1));
        assert_eq!(queue.iter().map(|waiting| waiting.id.0).collect::<Vec<_>>(), [1, 3, 5, 9]);
        assert_eq!(queue.pop_upto(Index(3)).map(|waiting| waiting.id.0), Some(1));
        assert_eq!(queue.pop_upto(Index(3)).map(|waiting| waiting.id.0), Some(3));
        assert!(queue.pop_upto(Index(3)).is_none());
        assert_eq!(queue.pop().map(|waiting| waiting.id.0), Some(5));
    }
}
