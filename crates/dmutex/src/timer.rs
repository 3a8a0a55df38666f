//! What is done when time has passed: asking again, giving up, saying who is silent.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use quorate_transport::{NodeId, Outbox, RequestId, Time};

use crate::lock::{Lock, Phase};
use crate::message::Message;
use crate::request::{Event, Rejection};
use crate::ricart_agrawala::RicartAgrawala;

type Out<'a> = &'a mut Outbox<RicartAgrawala>;

impl RicartAgrawala {
    pub(crate) fn wake(&mut self, at: Option<Time>) {
        let Some(at) = at else { return };
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    pub(crate) fn on_timer(&mut self, now: Time, out: Out<'_>) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        let expired = self.expired(now);
        for id in expired {
            self.stats.timed_out += 1;
            self.give_up(now, id, Rejection::TimedOut, out);
        }
        self.retry(now, out);
        self.tell_silent(now, out);
        let joining = self.joining.as_ref().map(|joining| joining.retry_at);
        let locks = self.locks.values().map(Lock::deadline);
        let due = locks.chain(joining).min().filter(|due| *due < Time::MAX);
        self.due = due.map(|due| due.max(Time::from_nanos(now.as_nanos() + 1)));
    }

    fn expired(&self, now: Time) -> VecDeque<RequestId> {
        let is_over = |expires: Option<Time>| expires.is_some_and(|at| at <= now);
        let mut expired = VecDeque::new();
        for lock in self.locks.values().filter(|lock| lock.deadline() <= now) {
            let waiters = lock.waiters.iter().filter(|waiter| is_over(waiter.expires));
            expired.extend(waiters.map(|waiter| waiter.id));
            if let Phase::Wanted(wanted) = &lock.phase
                && is_over(wanted.expires)
            {
                expired.push_back(wanted.id); // last: the next waiter, too late itself, goes first
            }
        }
        expired
    }

    fn retry(&mut self, now: Time, out: Out<'_>) {
        let interval = self.config.retry_interval;
        let later = |tries: u32| now + interval * (1 << tries.min(3));
        if let Some(joining) = self.joining.as_mut().filter(|joining| joining.retry_at <= now) {
            joining.tries += 1;
            joining.retry_at = later(joining.tries);
            self.say_hello(out);
        }
        let gate = self.reserved.1;
        for (name, lock) in &mut self.locks {
            let Phase::Wanted(wanted) = &mut lock.phase else { continue };
            if wanted.retry_at > now {
                continue;
            }
            wanted.tries = wanted.tries.saturating_add(1);
            wanted.retry_at = later(wanted.tries);
            for peer in &wanted.missing {
                self.stats.requests_again += 1;
                let (name, stamp) = (name.clone(), wanted.stamp);
                out.send_after(gate, *peer, Message::Request { name, stamp, again: true });
            }
        }
    }

    /// Says who keeps this node waiting without a word, when that has changed.
    fn tell_silent(&mut self, now: Time, out: Out<'_>) {
        let limit = self.config.silent_after;
        let mut waited_for = BTreeSet::new();
        let mut note = |missing: &BTreeSet<NodeId>, since: Time| {
            if now.since(since) >= limit {
                waited_for.extend(missing);
            }
        };
        self.joining.iter().for_each(|joining| note(&joining.missing, joining.since));
        for lock in self.locks.values() {
            if let Phase::Wanted(wanted) = &lock.phase {
                note(&wanted.missing, wanted.since);
            }
        }
        let heard = |peer: &NodeId| self.lives.get(peer).map(|life| life.heard);
        let is_silent = |peer: &NodeId| heard(peer).is_none_or(|at| now.since(at) >= limit);
        let silent: Vec<_> = waited_for.into_iter().filter(is_silent).collect();
        if silent != self.silent {
            self.silent.clone_from(&silent);
            out.emit_eager(Event::Silent { peers: silent }); // a guess, and said to be one
        }
    }
}
