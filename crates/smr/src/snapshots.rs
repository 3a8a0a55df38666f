//! When a snapshot is made, how far it is, and what is being taken over from one.

use alloc::boxed::Box;
use core::time::Duration;

use quorate_transport::{Digest, Time};

use crate::config::Config;
use crate::guard::{Panicked, guard};
use crate::state_machine::{Pieces, StateMachine};
use crate::transit::{Loading, Saving};

/// A replica's snapshots: one being made at the most, one being taken over.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots<S> {
    /// Payload applied since the last one began.
    fresh_bytes: u64,
    /// When the first of it was.
    fresh_since: Option<Time>,
    /// Payload that makes a new one.
    due_bytes: u64,
    stage: Stage,
    /// Former states, on their way out of memory.
    former: Option<Pieces>,
    pub(crate) loading: Option<Loading<S>>,
    step_at: Option<Time>,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    bytes: u64,
    bytes_max: u64,
    interval: Duration,
    step_bytes: usize,
    step_interval: Duration,
}

#[derive(Clone, Debug)]
enum Stage {
    Idle,
    /// It is being written.
    Writing(Box<Saving>),
    /// Raft and the store have it.
    Storing,
}

impl<S: StateMachine> Snapshots<S> {
    pub(crate) fn new(config: &Config<S>) -> Self {
        let limits = Limits {
            bytes: config.snapshot_bytes,
            bytes_max: config.snapshot_bytes_max,
            interval: config.snapshot_interval,
            step_bytes: config.snapshot_step_bytes,
            step_interval: config.snapshot_step_interval,
        };
        Self {
            fresh_bytes: 0,
            fresh_since: None,
            due_bytes: limits.bytes,
            stage: Stage::Idle,
            former: None,
            loading: None,
            step_at: None,
            limits,
        }
    }

    /// So much payload was applied.
    pub(crate) fn applied(&mut self, now: Time, bytes: u64) {
        self.fresh_bytes += bytes;
        self.fresh_since.get_or_insert(now);
    }

    /// Whether one should begin now.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        let is_idle = matches!(self.stage, Stage::Idle);
        let is_old = || self.due_at().is_some_and(|at| at <= now);
        is_idle && (self.fresh_bytes >= self.due_bytes || is_old())
    }

    /// When one should begin, however little was applied.
    fn due_at(&self) -> Option<Time> {
        self.fresh_since.map(|since| since + self.limits.interval)
    }

    pub(crate) fn begin(&mut self, now: Time, saving: Saving) {
        (self.fresh_bytes, self.fresh_since) = (0, None);
        self.stage = Stage::Writing(Box::new(saving));
        self.step_after(now);
    }

    /// Raft has answered: it is durable, or will never be.
    pub(crate) fn stored(&mut self) {
        if matches!(self.stage, Stage::Storing) {
            self.stage = Stage::Idle;
        }
    }

    /// A state is being taken over: what is being written has lost its use.
    pub(crate) fn begin_loading(&mut self, now: Time, loading: Loading<S>) {
        self.loading = Some(loading);
        if let Stage::Writing(_) = self.stage
            && let Stage::Writing(saving) = core::mem::replace(&mut self.stage, Stage::Idle)
        {
            self.drop_slowly(now, saving.into_rest());
        }
    }

    /// One was taken over in place of the state that is `former` now.
    pub(crate) fn loaded(&mut self, now: Time, former: Pieces, len: usize) {
        (self.fresh_bytes, self.fresh_since) = (0, None);
        self.due_bytes = self.due_after(len);
        self.drop_slowly(now, former);
    }

    /// Does a step, if one is due; gives back a snapshot that is all written.
    pub(crate) fn step(&mut self, now: Time) -> Result<Option<Saving>, Panicked> {
        if self.step_at.take_if(|at| *at <= now).is_none() {
            return Ok(None);
        }
        let mut bytes = self.limits.step_bytes;
        while let Some(former) = &mut self.former
            && bytes > 0
        {
            match guard(|| former.next())? {
                Some(piece) => bytes = bytes.saturating_sub(piece.len().max(1)),
                None => self.former = None,
            }
        }
        if let Stage::Writing(saving) = &mut self.stage
            && guard(|| saving.step(bytes))?
        {
            let len = saving.written();
            self.due_bytes = self.due_after(len);
            if let Stage::Writing(saving) = core::mem::replace(&mut self.stage, Stage::Storing) {
                self.step_after(now);
                return Ok(Some(*saving));
            }
        }
        self.step_after(now);
        Ok(None)
    }

    /// When the next step is due, or the next snapshot, if one may begin.
    pub(crate) fn deadline(&self, may_begin: bool) -> Option<Time> {
        let begin_at = self.due_at().filter(|_| may_begin && matches!(self.stage, Stage::Idle));
        self.step_at.into_iter().chain(begin_at).min()
    }

    pub(crate) fn digest(&self, now: Time, into: &mut Digest) {
        into.u64(self.fresh_bytes);
        into.u64(self.due_bytes);
        into.option(self.fresh_since.map(|since| now.since(since).as_nanos() as u64));
        match &self.stage {
            Stage::Idle => into.u64(0),
            Stage::Storing => into.u64(1),
            Stage::Writing(saving) => {
                into.u64(2);
                into.u64(saving.index().0);
                into.u64(saving.written() as u64);
            }
        }
        into.bool(self.former.is_some());
        into.option(self.loading.as_ref().map(|loading| loading.read() as u64));
        into.option(self.step_at.map(|at| at.since(now).as_nanos() as u64));
    }

    fn due_after(&self, len: usize) -> u64 {
        (len as u64).clamp(self.limits.bytes, self.limits.bytes_max)
    }

    /// Lets go of a state in steps.
    pub(crate) fn drop_slowly(&mut self, now: Time, pieces: Pieces) {
        self.former = Some(match self.former.take() {
            Some(former) => Pieces::new(former.chain(pieces)),
            None => pieces,
        });
        self.step_after(now);
    }

    fn step_after(&mut self, now: Time) {
        let busy = self.former.is_some() || matches!(self.stage, Stage::Writing(_));
        self.step_at = busy.then(|| now + self.limits.step_interval);
    }
}
