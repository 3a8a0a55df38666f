//! Queries: from which index on they may be answered, and answering them.

use core::time::Duration;

use bytes::Bytes;
use quorate_raft as raft;
use quorate_transport::{RequestId, Time};

use super::{Asked, Look, Out, Smr};
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
        let within = match freshness {
            Freshness::Linearizable => Duration::ZERO,
            Freshness::Within(within) => within,
            Freshness::Any => return self.look(now, id, Look::Query(query), out),
        };
        self.read(now, id, within, Asked::Read { id, query }, out);
    }

    /// Asks Raft from which index on a read is fresh enough.
    pub(super) fn read(
        &mut self,
        now: Time,
        id: RequestId,
        within: Duration,
        asked: Asked,
        out: Out<'_, S>,
    ) {
        if self.reading >= self.queries_max {
            out.answer_eager(id, Reply::Rejected(Rejection::Busy)); // nothing was done
            return;
        }
        self.reading += 1;
        self.ask(now, asked, raft::Request::ReadHere { within }, out);
    }

    /// This node has left the group: what is not committed here will not be.
    #[cold]
    pub(super) fn give_up_queries(&mut self, out: Out<'_, S>) {
        let never = self.queries.split_off(&(self.raft.commit().next(), 0));
        self.reading -= never.len();
        let gone = Reply::Rejected(Rejection::NotLeader { leader: None });
        for (id, _) in never.into_values() {
            out.answer_eager(id, gone.clone()); // nothing was done
        }
    }

    pub(super) fn answer_queries(&mut self, out: Out<'_, S>) {
        let applied = self.place.applied();
        while let Some(entry) = self.queries.first_entry() {
            if entry.key().0 > applied {
                break;
            }
            let (id, query) = entry.remove();
            self.reading -= 1;
            let Some(applier) = self.place.here() else { return };
            let answer = match applier.query(&query) {
                Ok(answer) => answer,
                Err(panicked) => return self.stop_panicked("a query", panicked, out),
            };
            // A majority confirmed the index; everything applied here is durable here.
            out.answer_eager(id, Reply::Answer { index: applied, answer });
        }
    }
}
