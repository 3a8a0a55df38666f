//! Reads on a follower: its leader says from which index on they are linearizable, or an answer
//! that is young enough does. [Raft thesis §6.4]

use alloc::collections::VecDeque;
use core::time::Duration;

use quorate_transport::{Digest, Incarnation, NodeId, Outbox, RequestId, RequestRange, Time};

use crate::message::Message;
use crate::raft::{Raft, Role};
use crate::request::{Rejection, Reply};
use crate::types::Index;

type Out<'a> = &'a mut Outbox<Raft>;

/// Reads of this node that its leader is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadsHere {
    /// The last question asked, or about to be.
    number: u64,
    waiting: VecDeque<Waiting>,
    /// The newest answer, and when its question was asked: it knows all that was acknowledged
    /// before.
    newest: Option<(Index, Time)>,
}

#[derive(Clone, Debug)]
struct Waiting {
    ids: RequestRange,
    number: u64,
    asked: Time,
}

impl ReadsHere {
    /// No question of a former life has a number of this one: late answers mean nothing.
    pub(crate) fn new(life: Incarnation) -> Self {
        Self { number: life.0 << 32, ..Self::default() }
    }

    /// When the oldest of them has waited too long.
    pub(crate) fn until(&self, patience: Duration) -> Option<Time> {
        self.waiting.front().map(|waiting| waiting.asked + patience)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn digest(&self, now: Time, into: &mut Digest) {
        let age = |at: Time| now.since(at).as_nanos() as u64;
        into.option(self.newest.map(|(index, at)| index.0 ^ age(at).rotate_left(32)));
        for waiting in &self.waiting {
            into.u64(waiting.ids.count());
            into.u64(self.number - waiting.number);
            into.u64(age(waiting.asked));
        }
    }
}

impl Raft {
    pub(crate) fn on_read_here(
        &mut self,
        now: Time,
        id: RequestId,
        within: Duration,
        out: Out<'_>,
    ) {
        if self.is_leader() {
            return self.on_read(now, id, out);
        }
        let fresh = self.reads_here.newest.filter(|(_, asked)| now.since(*asked) <= within);
        if let Some((index, _)) = fresh.filter(|_| !within.is_zero()) {
            return self.answer_here(id.into(), index, out);
        }
        let refusal = match self.leader {
            None => Rejection::NotLeader { leader: None },
            Some(_) if self.reads_here.waiting.len() >= self.config.reads_max => Rejection::Busy,
            Some(_) => return self.take_read_here(now, id),
        };
        out.answer_eager(id, Reply::Rejected(refusal)); // nothing was done
    }

    fn take_read_here(&mut self, now: Time, id: RequestId) {
        let here = &mut self.reads_here;
        if !core::mem::replace(&mut self.reads_here_due, true) {
            here.number += 1;
        }
        match here.waiting.back_mut() {
            Some(back) if back.number == here.number && back.ids.last.0 + 1 == id.0 => {
                back.ids.last = id;
            }
            _ => {
                let (ids, number) = (id.into(), here.number);
                here.waiting.push_back(Waiting { ids, number, asked: now });
            }
        }
    }

    /// The end of a burst: one question for all that came in it.
    pub(crate) fn ask_leader(&mut self, out: Out<'_>) {
        let (term, number) = (self.term, self.reads_here.number);
        match self.leader.filter(|leader| *leader != self.node) {
            Some(leader) => {
                out.send_after(self.vote_ticket, leader, Message::Read { term, number });
            }
            None => self.give_up_reads(out),
        }
    }

    pub(crate) fn on_read_reply(
        &mut self,
        from: NodeId,
        number: u64,
        index: Option<Index>,
        out: Out<'_>,
    ) {
        if self.leader != Some(from) || !matches!(self.role, Role::Follower) {
            return;
        }
        let answered = |waiting: &mut Waiting| waiting.number <= number;
        // An answer to a later question is one to the earlier ones too.
        while let Some(waiting) = self.reads_here.waiting.pop_front_if(answered) {
            match index {
                Some(index) => {
                    let newest = &mut self.reads_here.newest;
                    *newest = (*newest).max(Some((index, waiting.asked)));
                    self.answer_here(waiting.ids, index, out);
                }
                None => out.answer_eager(waiting.ids, Reply::Rejected(Rejection::NotReady)),
            }
        }
    }

    fn answer_here(&self, ids: RequestRange, index: Index, out: Out<'_>) {
        let entries = self.applied.distance(index);
        let reply = if entries > self.config.read_lag_max {
            Reply::Rejected(Rejection::Lagging { entries })
        } else {
            Reply::ReadAt { index }
        };
        out.answer_eager(ids, reply); // a majority stands behind the index
    }

    /// Those that wait too long are refused: the leader, or a message, may be gone.
    pub(crate) fn expire_reads(&mut self, now: Time, out: Out<'_>) {
        let patience = self.config.election_timeout_min;
        let late = |waiting: &mut Waiting| waiting.asked + patience <= now;
        while let Some(waiting) = self.reads_here.waiting.pop_front_if(late) {
            out.answer_eager(waiting.ids, Reply::Rejected(Rejection::NotReady)); // nothing was done
        }
    }

    /// The leader that was asked is none any more.
    pub(crate) fn give_up_reads(&mut self, out: Out<'_>) {
        let gone = Reply::Rejected(Rejection::NotLeader { leader: None });
        for waiting in core::mem::take(&mut self.reads_here.waiting) {
            out.answer_eager(waiting.ids, gone.clone()); // nothing was done
        }
        self.reads_here_due = false;
    }
}
