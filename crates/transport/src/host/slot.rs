//! One hosted machine with its types erased: frames outside, messages inside.

use alloc::boxed::Box;
use core::any::Any;

use bytes::BytesMut;

use super::{Port, ReplayError, Shell};
use crate::cell::{Cell, Sink};
use crate::frame::Frame;
use crate::ids::{Key, NodeId, Peer, RequestId, RequestRange, Ticket};
use crate::machine::{Halt, Input, LinkState, Machine, StoreOp, Stored};
use crate::time::Time;
use crate::wire::{Wire, WireError, decode_message, decode_record, encode_message, encode_record};
use crate::work::{Work, Worked};

/// The inputs whose type is the same for every machine.
pub(super) enum Plain {
    Started,
    Timer,
    Link { peer: NodeId, state: LinkState },
    Durable { upto: Ticket },
    Checkpoint { before: Ticket },
    Stored(Stored),
    Worked(Worked),
}

/// What a machine appended since it was last asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Appended {
    pub(super) last: Option<Ticket>,
    pub(super) records: u64,
    pub(super) bytes: usize,
}

/// A machine whose types the host need not know.
pub(super) trait Hosted: Send {
    fn replay(&mut self, ticket: Ticket, frame: &Frame) -> Result<(), ReplayError>;
    fn skip_to(&mut self, upto: Ticket);
    fn message(
        &mut self,
        now: Time,
        from: Peer,
        frame: &Frame,
        shell: &mut dyn Shell,
    ) -> Result<(), WireError>;
    fn plain(&mut self, now: Time, input: Plain, shell: &mut dyn Shell);
    fn flush(&mut self, shell: &mut dyn Shell);
    fn settle(&mut self, now: Time, shell: &mut dyn Shell);
    fn take_appended(&mut self) -> Appended;
    fn deadline(&self) -> Option<Time>;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// A machine, its gate, its port and the buffer its heads are encoded in.
pub(super) struct Slot<M: Machine, P> {
    key: Key,
    cell: Cell<M>,
    port: P,
    scratch: BytesMut,
    appended: Appended,
}

struct Encode<'a, P> {
    key: Key,
    port: &'a mut P,
    scratch: &'a mut BytesMut,
    appended: &'a mut Appended,
    shell: &'a mut dyn Shell,
}

impl<M: Machine, P: Port<M>> Sink<M> for Encode<'_, P> {
    fn persist(&mut self, ticket: Ticket, record: M::Record) {
        let frame = encode_record(&record, self.scratch);
        self.appended.last = Some(ticket);
        self.appended.records += 1;
        self.appended.bytes += frame.flat_len();
        self.shell.append(self.key, ticket, frame);
    }

    fn send(&mut self, to: NodeId, message: M::Message) {
        let class = message.class();
        let frame = encode_message(self.key, &message, self.scratch);
        self.shell.send(to, class, frame);
    }

    fn emit(&mut self, event: M::Event) {
        self.port.event(event);
    }

    fn answer(&mut self, ids: RequestRange, reply: M::Reply) {
        self.port.answer(ids, reply);
    }

    fn release(&mut self, upto: Ticket) {
        self.shell.release(self.key, upto);
    }

    fn store(&mut self, op: StoreOp) {
        self.shell.store(self.key, op);
    }

    fn work(&mut self, work: Work) {
        self.shell.work(self.key, work);
    }

    fn halt(&mut self, halt: &Halt) {
        self.port.halted(halt);
        self.shell.halted(self.key, halt);
    }
}

impl<M: Machine, P: Port<M>> Slot<M, P> {
    pub(super) fn new(key: Key, cell: Cell<M>, port: P) -> Self {
        let scratch = BytesMut::with_capacity(4096);
        Self { key, cell, port, scratch, appended: Appended::default() }
    }

    pub(super) fn cell(&self) -> &Cell<M> {
        &self.cell
    }

    pub(super) fn port(&mut self) -> &mut P {
        &mut self.port
    }

    pub(super) fn request(
        &mut self,
        now: Time,
        request: M::Request,
        shell: &mut dyn Shell,
    ) -> RequestId {
        let (cell, mut sink) = self.split(shell);
        cell.feed_request(now, request, &mut sink)
    }

    fn split<'a>(&'a mut self, shell: &'a mut dyn Shell) -> (&'a mut Cell<M>, Encode<'a, P>) {
        let sink = Encode {
            key: self.key,
            port: &mut self.port,
            scratch: &mut self.scratch,
            appended: &mut self.appended,
            shell,
        };
        (&mut self.cell, sink)
    }
}

impl<M: Machine, P: Port<M>> Hosted for Slot<M, P> {
    fn replay(&mut self, ticket: Ticket, frame: &Frame) -> Result<(), ReplayError> {
        let (key, last) = (self.key, self.cell.last());
        if ticket <= last {
            return Err(ReplayError::Order { key, ticket, last });
        }
        let record =
            decode_record(frame).map_err(|source| ReplayError::Record { key, ticket, source })?;
        self.cell.replay(ticket, record).map_err(|source| ReplayError::Refused {
            key,
            ticket,
            source: Box::new(source),
        })
    }

    fn skip_to(&mut self, upto: Ticket) {
        self.cell.skip_to(upto);
    }

    fn message(
        &mut self,
        now: Time,
        from: Peer,
        frame: &Frame,
        shell: &mut dyn Shell,
    ) -> Result<(), WireError> {
        let message = decode_message(frame)?;
        let (cell, mut sink) = self.split(shell);
        cell.feed(now, Input::Message { from, message }, &mut sink);
        Ok(())
    }

    fn plain(&mut self, now: Time, input: Plain, shell: &mut dyn Shell) {
        let (cell, mut sink) = self.split(shell);
        let input = match input {
            Plain::Durable { upto } => return cell.feed_durable(now, upto, &mut sink),
            Plain::Started => Input::Started,
            Plain::Timer => Input::Timer,
            Plain::Link { peer, state } => Input::Link { peer, state },
            Plain::Checkpoint { before } => Input::Checkpoint { before },
            Plain::Stored(stored) => Input::Stored(stored),
            Plain::Worked(worked) => Input::Worked(worked),
        };
        cell.feed(now, input, &mut sink);
    }

    fn flush(&mut self, shell: &mut dyn Shell) {
        let (cell, mut sink) = self.split(shell);
        cell.flush(&mut sink);
    }

    fn settle(&mut self, now: Time, shell: &mut dyn Shell) {
        let (cell, mut sink) = self.split(shell);
        cell.settle(now, &mut sink);
    }

    fn take_appended(&mut self) -> Appended {
        core::mem::take(&mut self.appended)
    }

    fn deadline(&self) -> Option<Time> {
        self.cell.deadline()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
