//! Queries: from which index on they may be answered, and answering them.

use bytes::Bytes;
use quorate_raft as raft;
use quorate_transport::{RequestId, Time};

use super::{Asked, Out, Smr};
use crate::request::{Freshness, Rejection, Reply};
use crate::state_machine::StateMachine;

impl<S: StateMachine> Smr<S> {
    pub(super) fn on_query(
        &mut self,
        now: Time,
        id: RequestId,
        query: Bytes,
        freshness: Freshness,
        out: Out<'_, S>,
    ) {
        let limit = match freshness {
            Freshness::Linearizable => {
                return self.read(now, id, Asked::Read { id, query }, out);
            }
            Freshness::Within(limit) => Some(limit),
            Freshness::Any => None,
        };
        let near = limit.is_none_or(|limit| {
            self.contact.since(now, &self.raft).is_some_and(|since| since <= limit)
        });
        let reply = if near {
            let index = self.applier.applied();
            match self.applier.query(&query) {
                Ok(answer) => Reply::Answer { index, answer },
                Err(panicked) => return self.stop_panicked("a query", panicked, out),
            }
        } else {
            Reply::Rejected(Rejection::NotFresh)
        };
        out.answer_eager(id, reply); // only what is durable here was applied
    }

    /// Asks Raft from which index on a read is linearizable.
    pub(super) fn read(&mut self, now: Time, id: RequestId, asked: Asked, out: Out<'_, S>) {
        if self.reading >= self.queries_max {
            out.answer_eager(id, Reply::Rejected(Rejection::Busy)); // nothing was done
            return;
        }
        self.reading += 1;
        self.ask(now, asked, raft::Request::Read, out);
    }

    pub(super) fn answer_queries(&mut self, out: Out<'_, S>) {
        let applied = self.applier.applied();
        while let Some(entry) = self.queries.first_entry() {
            if entry.key().0 > applied {
                break;
            }
            let (id, query) = entry.remove();
            self.reading -= 1;
            let answer = match self.applier.query(&query) {
                Ok(answer) => answer,
                Err(panicked) => return self.stop_panicked("a query", panicked, out),
            };
            // A majority confirmed the index; everything applied here is durable here.
            out.answer_eager(id, Reply::Answer { index: applied, answer });
        }
    }
}
