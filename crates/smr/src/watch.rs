//! Watchers: questions for changes that wait until there are some.
//!
//! A watcher asks again and again, each time from where the last answer ended. So a replica keeps
//! nothing of it but the question under way, and it can go on at any other replica.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use quorate_raft::Index;
use quorate_transport::{Digest, RequestId, Time};

use crate::changes::{Filter, Found, History};
use crate::config::Config;
use crate::request::{Rejection, Reply};

/// A question for changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The changes of entries after this one are asked for.
    pub after: Index,
    /// Which of them.
    pub filter: Filter,
    /// How long the question may wait for a change; the answer is then how far the log has come
    /// without one. At the most `watch_wait_max` of the configuration.
    pub wait: Duration,
}

/// The watchers of a replica, each with its question under way.
#[derive(Clone, Debug)]
pub(crate) struct Watches {
    pending: BTreeMap<RequestId, Pending>,
    by_time: BTreeSet<(Time, RequestId)>,
    /// Everything up to here was looked through for those that wait.
    served: Index,
    count_max: usize,
    bytes_max: usize,
    wait_max: Duration,
}

#[derive(Clone, Debug)]
struct Pending {
    watch: Watch,
    /// Nothing that is wanted is up to here.
    seen: Index,
    until: Time,
}

impl Watches {
    pub(crate) fn new<S>(config: &Config<S>) -> Self {
        Self {
            pending: BTreeMap::new(),
            by_time: BTreeSet::new(),
            served: Index::ZERO,
            count_max: config.watches_max,
            bytes_max: config.watch_bytes_max,
            wait_max: config.watch_wait_max,
        }
    }

    /// Takes a question in, or answers it at once.
    pub(crate) fn ask(
        &mut self,
        now: Time,
        id: RequestId,
        watch: Watch,
        history: &History,
        applied: Index,
    ) -> Option<Reply> {
        if !history.is_kept() {
            return Some(Reply::Rejected(Rejection::NoHistory));
        }
        let until = now + watch.wait.min(self.wait_max);
        let mut pending = Pending { seen: watch.after, watch, until };
        let reply = pending.look(history, applied, self.bytes_max);
        if reply.is_some() {
            return reply;
        }
        if self.pending.len() >= self.count_max {
            return Some(Reply::Rejected(Rejection::Busy));
        }
        self.by_time.insert((until, id));
        self.pending.insert(id, pending);
        None
    }

    /// Answers whoever waited for what is applied by now.
    pub(crate) fn serve(
        &mut self,
        history: &History,
        applied: Index,
        mut answer: impl FnMut(RequestId, Reply),
    ) {
        if core::mem::replace(&mut self.served, applied) == applied || self.pending.is_empty() {
            return;
        }
        let mut done = Vec::new();
        for (id, pending) in &mut self.pending {
            if let Some(reply) = pending.look(history, applied, self.bytes_max) {
                done.push((*id, pending.until));
                answer(*id, reply);
            }
        }
        for (id, until) in done {
            self.pending.remove(&id);
            self.by_time.remove(&(until, id));
        }
    }

    /// Answers whoever has waited for long enough.
    pub(crate) fn expire(&mut self, now: Time, mut answer: impl FnMut(RequestId, Reply)) {
        while let Some((_, id)) = self.by_time.first().copied().filter(|(until, _)| *until <= now) {
            self.by_time.pop_first();
            if let Some(Pending { watch, seen, .. }) = self.pending.remove(&id) {
                answer(id, Reply::changes(watch.after, Found { upto: seen, changes: Vec::new() }));
            }
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.by_time.first().map(|(until, _)| *until)
    }

    pub(crate) fn digest(&self, now: Time, into: &mut Digest) {
        into.u64(self.pending.len() as u64);
        for (index, pending) in self.pending.values().enumerate() {
            into.u64(index as u64);
            into.u64(pending.watch.after.0);
            into.u64(pending.seen.0);
            into.u64(pending.until.since(now).as_nanos() as u64);
        }
    }
}

impl Pending {
    /// What there is to say by now; a look that finds nothing is not repeated.
    fn look(&mut self, history: &History, applied: Index, bytes_max: usize) -> Option<Reply> {
        if self.seen >= applied && self.seen >= history.floor() {
            return None; // it is ahead of this replica, or up with it
        }
        match history.read((self.seen, applied), &self.watch.filter, bytes_max) {
            Ok(found) if found.changes.is_empty() => {
                self.seen = found.upto;
                None
            }
            Ok(found) => Some(Reply::changes(self.watch.after, found)),
            Err(first) => Some(Reply::Compacted { first }),
        }
    }
}
