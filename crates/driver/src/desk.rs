//! One machine's port and mailbox inside the engine.

use std::collections::VecDeque;

use quorate_transport::{Halt, Host, Machine, MachineRef, Port, RequestRange, Shell, Time};
use tokio::sync::{broadcast, mpsc};

use crate::handle::{Answered, Mail};

/// Who waits for which answer.
pub(crate) struct Desk<M: Machine> {
    /// Ids are consecutive: the front waits for `first`.
    waiting: VecDeque<Option<Answered<M>>>,
    first: u64,
    events: broadcast::Sender<M::Event>,
}

impl<M: Machine> Desk<M> {
    pub(crate) fn new(events: broadcast::Sender<M::Event>) -> Self {
        Self { waiting: VecDeque::new(), first: 0, events }
    }
}

impl<M: Machine> Port<M> for Desk<M> {
    fn answer(&mut self, ids: RequestRange, reply: M::Reply) {
        for id in ids.iter() {
            let place = id.0.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
            let sender = place.and_then(|at| self.waiting.get_mut(at)).and_then(Option::take);
            // Whoever asked may have gone away in the meantime.
            let _ = sender.map(|sender| sender.send((id, reply.clone())));
        }
        while self.waiting.pop_front_if(|sender| sender.is_none()).is_some() {
            self.first += 1;
        }
    }

    fn event(&mut self, event: M::Event) {
        let _ = self.events.send(event); // nobody may be listening
    }

    fn halted(&mut self, halt: &Halt) {
        tracing::error!(%halt, "a machine has stopped itself");
        self.first += self.waiting.len() as u64;
        self.waiting.clear();
    }
}

/// A mailbox whose types the engine need not know.
pub(crate) trait Mailbox: Send {
    /// Feeds up to `max` mails to the machine; says how many.
    fn feed(&mut self, host: &mut Host, now: Time, shell: &mut dyn Shell, max: usize) -> usize;
    /// Takes no more mail; what waits is dropped, and its senders told.
    fn close(&mut self);
}

pub(crate) struct Post<M: Machine> {
    pub(crate) mail: mpsc::Receiver<Mail<M>>,
    pub(crate) machine: MachineRef<M, Desk<M>>,
}

impl<M: Machine> Mailbox for Post<M> {
    fn feed(&mut self, host: &mut Host, now: Time, shell: &mut dyn Shell, max: usize) -> usize {
        for count in 0..max {
            match self.mail.try_recv() {
                Ok(Mail::Request(request, sender)) => {
                    if host.cell(self.machine).halted().is_some() {
                        continue; // dropping the sender tells it
                    }
                    host.port(self.machine).waiting.push_back(Some(sender));
                    host.request(now, self.machine, request, shell);
                }
                Ok(Mail::Look(look)) => look(host.machine(self.machine)),
                Err(_) => return count,
            }
        }
        max
    }

    fn close(&mut self) {
        self.mail.close();
        while self.mail.try_recv().is_ok() {}
    }
}
