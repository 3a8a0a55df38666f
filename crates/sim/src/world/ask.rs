//! What an application may do with its host.

use quorate_transport::{Host, Machine, MachineRef, NodeId, Port, RequestId, Rng, Shell, Time};

use crate::limits::{Choice, Choices};

/// The application's way to its own host, in the middle of a step.
pub struct Ask<'a> {
    /// The host; `None` while the node is down.
    pub(super) host: Option<(&'a mut Host, &'a mut dyn Shell)>,
    /// The node's own time.
    pub now: Time,
    /// True time since the start, in nanoseconds: for histories, not for machines.
    pub true_now: u64,
    pub(super) alarms: &'a mut Vec<(NodeId, u64, u64)>,
    /// Randomness of the workload.
    pub rng: &'a mut Rng,
    /// Where clients ask: how often they have, and which of it happens.
    pub(super) clients: Option<Clients<'a>>,
}

pub(super) struct Clients<'a> {
    pub(super) asked: &'a mut u64,
    pub(super) choices: &'a mut Choices,
    pub(super) chaos: bool,
}

impl Clients<'_> {
    /// Whether the next operation happens: a failure is made small by leaving out some.
    fn ask(&mut self) -> bool {
        let number = *self.asked;
        *self.asked += 1;
        !self.chaos || self.choices.happens(Choice::Ask, number)
    }
}

impl Ask<'_> {
    /// Asks one of the node's machines; `None` while the node is down. In
    /// [`System::alarm`](super::System::alarm) this is an operation of a client, and where a
    /// failure is made small it may be left out: `None`.
    pub fn request<M, P>(
        &mut self,
        machine: MachineRef<M, P>,
        request: M::Request,
    ) -> Option<RequestId>
    where
        M: Machine,
        P: Port<M>,
    {
        if self.host.is_some() && !self.clients.as_mut().is_none_or(Clients::ask) {
            return None;
        }
        self.insist(machine, request)
    }

    /// The same for what the protocol rests on, as the release of a lock: it is never left out.
    pub fn insist<M, P>(
        &mut self,
        machine: MachineRef<M, P>,
        request: M::Request,
    ) -> Option<RequestId>
    where
        M: Machine,
        P: Port<M>,
    {
        let (host, shell) = self.host.as_mut()?;
        Some(host.request(self.now, machine, request, *shell))
    }

    /// The node's host; `None` while the node is down.
    pub fn host(&mut self) -> Option<&mut Host> {
        self.host.as_mut().map(|(host, _)| &mut **host)
    }

    /// Calls [`System::alarm`](super::System::alarm) for a node after `nanos` of true time.
    pub fn alarm(&mut self, nanos: u64, node: NodeId, alarm: u64) {
        self.alarms.push((node, nanos, alarm));
    }
}
