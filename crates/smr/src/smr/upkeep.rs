//! What a replica does by itself: snapshots and audits in steps, time, and stopping.

use alloc::format;

use quorate_raft::{self as raft, Index};
use quorate_transport::{NodeId, RequestId, Time};

use super::{Asked, Out, Smr};
use crate::applier::{Applier, NO_PANIC, Stop};
use crate::audit::Verdict;
use crate::command::Commands;
use crate::guard::Panicked;
use crate::message::Message;
use crate::request::Event;
use crate::state_machine::StateMachine;

impl<S: StateMachine> Smr<S> {
    pub(super) fn on_timer(&mut self, now: Time, out: Out<'_, S>) {
        self.step_snapshot(now, out);
        self.begin_snapshot(now, out);
        self.step_audit(now, out);
        // Nothing was found for them: there is nothing to take back.
        self.watches.expire(now, |id, reply| out.answer_eager(id, reply));
        if let Some(passed) = self.ticker.tick(now) {
            let Commands { proposals } = Commands::tick(passed);
            self.ask(now, Asked::Tick, raft::Request::Propose(proposals), out);
        }
        if self.auditor.tick(now).is_some() {
            self.audit(now, None, out);
        }
    }

    /// Begins a snapshot, if one is due.
    pub(super) fn begin_snapshot(&mut self, now: Time, out: Out<'_, S>) {
        if self.snapshots.is_due(now)
            && !self.stopped
            && let Some(applier) = self.place.here()
        {
            match applier.save() {
                Ok(saving) => self.snapshots.begin(now, saving),
                Err(stop) => self.stop(&stop, out),
            }
        }
    }

    /// Writes on at a snapshot; Raft gets it when it is whole.
    fn step_snapshot(&mut self, now: Time, out: Out<'_, S>) {
        match self.snapshots.step(now) {
            Ok(Some(saving)) => {
                let index = saving.index();
                let contents = saving.finish();
                self.ask(now, Asked::Compact, raft::Request::Compact { index, contents }, out);
            }
            Ok(None) => {}
            Err(panicked) => self.stop_panicked("a snapshot", panicked, out),
        }
    }

    /// Walks on over the state of an audit; all are told what it comes to.
    fn step_audit(&mut self, now: Time, out: Out<'_, S>) {
        match self.audits.step(now) {
            Ok(Some(Verdict::Tell(index, digest))) => {
                let digest = [digest as u64, (digest >> 64) as u64];
                for peer in self.audits.peers() {
                    // The state is of entries that are committed and durable here.
                    out.send_eager(peer, Message::Audit { index, digest });
                }
                for peer in self.audits.peers().filter(|peer| self.audits.differs(*peer, index)) {
                    out.emit_eager(Event::Differs { node: peer, index });
                }
            }
            Ok(Some(Verdict::Stop(rule, detail))) => self.halt(rule, detail, out),
            Ok(None) => {}
            Err(panicked) => self.stop_panicked("an audit", panicked, out),
        }
        self.answer_audits(out);
    }

    /// Puts an audit into the log.
    pub(super) fn audit(&mut self, now: Time, id: Option<RequestId>, out: Out<'_, S>) {
        let Commands { proposals } = Commands::audit();
        self.ask(now, Asked::Audit(id), raft::Request::Propose(proposals), out);
    }

    /// Another replica says what its state is.
    pub(super) fn on_audit(&mut self, node: NodeId, index: Index, digest: u128, out: Out<'_, S>) {
        if let Some(Verdict::Stop(rule, detail)) = self.audits.hear(node, index, digest) {
            return self.halt(rule, detail, out);
        }
        if self.audits.differs(node, index) {
            out.emit_eager(Event::Differs { node, index }); // it is said, whatever is durable
        }
    }

    /// Begins the audit that the last entries have asked for, unless one is under way.
    pub(super) fn begin_audit(&mut self, now: Time) {
        if let Some(walk) = self.place.here_mut().and_then(Applier::take_audit)
            && !self.audits.is_busy()
        {
            self.audits.begin(now, walk, None);
        }
    }

    pub(super) fn answer_audits(&mut self, out: Out<'_, S>) {
        let applied = self.place.applied();
        // Only what is durable here was applied.
        self.audits.answer(applied, |id, reply| out.answer_eager(id, reply));
    }

    pub(super) fn stop(&mut self, stop: &Stop, out: Out<'_, S>) {
        let (rule, detail) = stop.report();
        self.halt(rule, detail, out);
    }

    pub(super) fn stop_panicked(&mut self, during: &str, why: Panicked, out: Out<'_, S>) {
        let detail = format!("in {during}, at {}: {}", self.place.applied(), why.0);
        self.halt(NO_PANIC, detail, out);
    }

    fn halt(&mut self, rule: &'static str, detail: alloc::string::String, out: Out<'_, S>) {
        self.stopped = true;
        out.halt(rule, detail);
    }
}
