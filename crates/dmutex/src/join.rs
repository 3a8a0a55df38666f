//! A new life learns the latest stamp before it asks for anything.
//!
//! Its former life may have permitted requests that still wait. If this one asked with an earlier
//! stamp, their owners would let it pass, and both would enter.

use alloc::collections::BTreeSet;

use quorate_transport::{Incarnation, NodeId, Outbox, Time};

use crate::message::Message;
use crate::request::Event;
use crate::ricart_agrawala::{RicartAgrawala, STAMP_MAX};

type Out<'a> = &'a mut Outbox<RicartAgrawala>;

/// Who has not answered the hello yet.
#[derive(Clone, Debug)]
pub(crate) struct Joining {
    pub(crate) missing: BTreeSet<NodeId>,
    pub(crate) since: Time,
    pub(crate) retry_at: Time,
    pub(crate) tries: u32,
}

impl RicartAgrawala {
    pub(crate) fn begin_joining(&mut self, now: Time, out: Out<'_>) {
        let missing: BTreeSet<_> = self.peers().collect();
        let retry_at = now + self.config.retry_interval;
        self.joining = Some(Joining { missing, since: now, retry_at, tries: 0 });
        self.wake(Some(retry_at));
        self.say_hello(out);
        self.maybe_joined(now, out);
    }

    pub(crate) fn say_hello(&self, out: Out<'_>) {
        let missing = self.joining.iter().flat_map(|joining| &joining.missing);
        for peer in missing {
            out.send_eager(*peer, Message::Hello); // promises nothing
        }
    }

    pub(crate) fn on_hello(&mut self, from: NodeId, life: Incarnation, out: Out<'_>) {
        let welcome = Message::Welcome { to: life, clock: self.clock };
        // The clock holds every stamp that this node has asked with or heard of.
        out.send_eager(from, welcome);
    }

    pub(crate) fn on_welcome(
        &mut self,
        now: Time,
        from: NodeId,
        to: Incarnation,
        clock: u64,
        out: Out<'_>,
    ) {
        if clock > STAMP_MAX {
            self.stats.refused += 1;
            return;
        }
        let own = self.incarnation;
        let Some(joining) = self.joining.as_mut().filter(|_| to == own) else {
            self.stats.stale += 1;
            return;
        };
        self.clock = self.clock.max(clock);
        joining.missing.remove(&from);
        self.maybe_joined(now, out);
    }

    fn maybe_joined(&mut self, now: Time, out: Out<'_>) {
        if self.joining.as_ref().is_none_or(|joining| !joining.missing.is_empty()) {
            return;
        }
        self.joining = None;
        out.emit_eager(Event::Joined); // promises nothing
        let waiting: alloc::vec::Vec<_> = self.locks.keys().cloned().collect();
        waiting.into_iter().for_each(|name| self.next_turn(now, &name, out));
    }
}
