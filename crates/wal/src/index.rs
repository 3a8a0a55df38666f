//! Which machine still needs which segment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_transport::{Key, Ticket};

use crate::format::Position;

#[derive(Debug)]
struct Span {
    at: Position,
    last: Ticket,
}

#[derive(Debug, Default)]
struct Machine {
    last: Ticket,
    released: Ticket,
    /// Its live records, one span for each segment.
    spans: VecDeque<Span>,
}

/// All machines of a journal.
#[derive(Debug, Default)]
pub(crate) struct Index {
    machines: BTreeMap<Key, Machine>,
    /// Where each machine's first span begins.
    pins: BTreeSet<(Position, Key)>,
}

impl Index {
    /// The last ticket of a machine; zero where it has none.
    pub(crate) fn last(&self, key: Key) -> Ticket {
        self.machines.get(&key).map_or(Ticket::ZERO, |machine| machine.last)
    }

    /// Notes a ticket given, before its record has a place.
    pub(crate) fn taken(&mut self, key: Key, ticket: Ticket) {
        let machine = self.machines.entry(key).or_default();
        machine.last = machine.last.max(ticket);
    }

    /// Notes that records up to `last` were written at `at` and later in its segment.
    pub(crate) fn written(&mut self, key: Key, last: Ticket, at: Position) {
        let machine = self.machines.entry(key).or_default();
        machine.last = machine.last.max(last);
        if last <= machine.released {
            return;
        }
        match machine.spans.back_mut() {
            Some(span) if span.at.segment == at.segment => span.last = last,
            Some(_) => machine.spans.push_back(Span { at, last }),
            None => {
                machine.spans.push_back(Span { at, last });
                self.pins.insert((at, key));
            }
        }
    }

    /// Releases what is at or before `upto`; returns the new mark where it moved.
    pub(crate) fn release(&mut self, key: Key, upto: Ticket) -> Option<Ticket> {
        let machine = self.machines.get_mut(&key)?;
        let upto = upto.min(machine.last);
        if upto <= machine.released {
            return None;
        }
        machine.released = upto;
        let before = machine.spans.front().map(|span| span.at);
        while machine.spans.front().is_some_and(|span| span.last <= upto) {
            machine.spans.pop_front();
        }
        let after = machine.spans.front().map(|span| span.at);
        if before != after {
            if let Some(at) = before {
                self.pins.remove(&(at, key));
            }
            if let Some(at) = after {
                self.pins.insert((at, key));
            }
        }
        Some(upto)
    }

    /// The oldest segment with a live record.
    pub(crate) fn oldest_segment(&self) -> Option<u64> {
        self.pins.first().map(|(at, _)| at.segment)
    }

    /// The machine with the oldest live record, and the ticket after its last one in that segment.
    pub(crate) fn oldest_live(&self) -> Option<(Key, Ticket)> {
        let (_, key) = self.pins.first()?;
        let span = self.machines.get(key)?.spans.front()?;
        Some((*key, span.last.next()))
    }

    /// How far each machine has released, where it has.
    pub(crate) fn released(&self) -> impl Iterator<Item = (Key, Ticket)> {
        let marks = self.machines.iter().map(|(key, machine)| (*key, machine.released));
        marks.filter(|(_, upto)| *upto > Ticket::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_live_record_moves_as_machines_release() {
        let (a, b) = (Key::new(1, 1), Key::new(1, 2));
        let at = |segment, offset| Position { segment, offset };
        let mut index = Index::default();
        index.written(a, Ticket(3), at(1, 4096));
        index.written(b, Ticket(1), at(1, 5000));
        index.written(b, Ticket(2), at(1, 6000));
        index.written(a, Ticket(9), at(2, 4096));
        let pin = |key, before| Some((key, Ticket(before)));
        assert_eq!(index.oldest_live(), pin(a, 4));
        assert_eq!(index.release(a, Ticket(1)), Some(Ticket(1)));
        assert_eq!(index.oldest_live(), pin(a, 4));
        index.release(a, Ticket(5));
        assert_eq!(index.oldest_live(), pin(b, 3));
        assert_eq!(index.release(b, Ticket(99)), Some(Ticket(2)), "never past what it has");
        assert_eq!(index.release(b, Ticket(1)), None, "a mark never goes back");
        assert_eq!((index.oldest_live(), index.oldest_segment()), (pin(a, 10), Some(2)));
        index.release(a, Ticket(9));
        assert_eq!(index.oldest_live(), None);
        assert_eq!(index.released().count(), 2);
    }
}
