//! One machine's port and mailbox inside the engine.

use std::collections::VecDeque;
use std::sync::Arc;

use quorate_transport::{Halt, Host, Machine, MachineRef, Port, RequestRange, Shell, Time};
use tokio::sync::broadcast;

use crate::handle::{Answered, Mail};
use crate::mailbox::Mailbox;
use crate::sync::Notify;

/// Hears what a machine tells, and may ask something in return.
pub(crate) type Listener<M> =
    Box<dyn FnMut(<M as Machine>::Event, &mut Vec<<M as Machine>::Request>) + Send>;

/// Who waits for which answer.
pub(crate) struct Desk<M: Machine> {
    /// Ids are consecutive: the front waits for `first`.
    waiting: VecDeque<Option<Answered<M>>>,
    first: u64,
    events: broadcast::Sender<M::Event>,
    listener: Option<Listener<M>>,
    /// What the listener asks: for the next burst.
    asks: Vec<M::Request>,
    wake: Arc<Notify>,
}

impl<M: Machine> Desk<M> {
    pub(crate) fn new(
        events: broadcast::Sender<M::Event>,
        listener: Option<Listener<M>>,
        wake: Arc<Notify>,
    ) -> Self {
        Self { waiting: VecDeque::new(), first: 0, events, listener, asks: Vec::new(), wake }
    }
}

impl<M: Machine> Port<M> for Desk<M> {
    fn answer(&mut self, ids: RequestRange, reply: M::Reply) {
        let mut reply = Some(reply);
        for id in ids.iter() {
            let sender = if id.0 == self.first {
                self.first += 1;
                self.waiting.pop_front().flatten() // nearly always
            } else {
                let place = id.0.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
                place.and_then(|at| self.waiting.get_mut(at)).and_then(Option::take)
            };
            let reply = if id == ids.last { reply.take() } else { reply.clone() };
            if let (Some(sender), Some(reply)) = (sender, reply) {
                let _ = sender.send((id, reply)); // whoever asked may have gone away
            }
        }
        while self.waiting.pop_front_if(|sender| sender.is_none()).is_some() {
            self.first += 1;
        }
    }

    fn event(&mut self, event: M::Event) {
        let Some(listener) = &mut self.listener else {
            let _ = self.events.send(event); // nobody may be listening
            return;
        };
        let _ = self.events.send(event.clone());
        listener(event, &mut self.asks);
        if !self.asks.is_empty() {
            self.wake.notify_one();
        }
    }

    fn halted(&mut self, halt: &Halt) {
        tracing::error!(%halt, "a machine has stopped itself");
        self.first += self.waiting.len() as u64;
        self.waiting.clear();
    }
}

/// A mailbox whose types the engine need not know.
pub(crate) trait Feed: Send {
    /// Feeds all mails to the machine.
    fn feed(&mut self, host: &mut Host, now: Time, shell: &mut dyn Shell);
    /// Takes no more mail; what waits is dropped, and its senders told.
    fn close(&mut self);
}

pub(crate) struct Post<M: Machine> {
    pub(crate) mail: Mailbox<Mail<M>>,
    pub(crate) machine: MachineRef<M, Desk<M>>,
    /// Empty between two bursts; kept for its memory.
    pub(crate) taken: Vec<Mail<M>>,
}

impl<M: Machine> Feed for Post<M> {
    fn feed(&mut self, host: &mut Host, now: Time, shell: &mut dyn Shell) {
        let mut asks = std::mem::take(&mut host.port(self.machine).asks);
        self.mail.take(&mut self.taken);
        if asks.is_empty() && self.taken.is_empty() {
            return;
        }
        let mut at = host.at(self.machine);
        for request in asks.drain(..) {
            if at.cell().halted().is_none() {
                at.port().waiting.push_back(None); // nobody waits for the answer
                at.request(now, request, shell);
            }
        }
        for mail in self.taken.drain(..) {
            match mail {
                Mail::Request(request, sender) => {
                    if at.cell().halted().is_some() {
                        continue; // dropping the sender tells it
                    }
                    at.port().waiting.push_back(Some(sender));
                    at.request(now, request, shell);
                }
                Mail::Look(look) => look(at.cell().machine()),
            }
        }
    }

    fn close(&mut self) {
        self.mail.close();
    }
}
