//! Applying what is committed and durable here, a bounded step at a time.

use core::time::Duration;

use quorate_raft::{Index, View};
use quorate_transport::{Digest, Time};

use super::{Deferred, Out, Smr};
use crate::request::Reply;
use crate::state_machine::StateMachine;

/// How much one step may apply, however much has become durable at once: messages, timers and
/// others' answers get their turn between two steps.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    step_bytes: usize,
    /// When the present step began: it ends with the burst of that time.
    now: Time,
    left: usize,
    go_on_at: Option<Time>,
}

/// The least by which time must have gone on for the next step.
const PAUSE: Duration = Duration::from_nanos(1);

/// What an entry costs beside its bytes.
const ENTRY_BYTES: usize = 16;

pub(super) fn cost(view: &View) -> usize {
    view.payload_len() + ENTRY_BYTES * view.count()
}

impl Pace {
    pub(super) fn new(step_bytes: usize) -> Self {
        Self { step_bytes, now: Time::ZERO, left: step_bytes, go_on_at: None }
    }

    /// A step of its own, whatever the time.
    pub(super) fn begin_anew(&mut self) {
        self.left = self.step_bytes;
    }

    fn begin(&mut self, now: Time) {
        if now != self.now {
            (self.now, self.left) = (now, self.step_bytes);
        }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// As much of a view as the step has room for, at least an entry; and the rest of it.
    pub(super) fn cut(&mut self, view: View) -> (View, Option<View>) {
        let whole = cost(&view);
        if whole <= self.left {
            self.left -= whole;
            return (view, None);
        }
        let mut last = view.first();
        for (at, entry) in view.entries().enumerate() {
            let cost = entry.len() + ENTRY_BYTES;
            if at > 0 && cost > self.left {
                break;
            }
            self.left = self.left.saturating_sub(cost);
            last = Index(view.first().0 + at as u64);
        }
        self.left = 0;
        match (view.upto_index(last), view.from_index(last.next())) {
            (Some(head), Some(rest)) if last < view.last() => (head, Some(rest)),
            _ => (view, None),
        }
    }

    /// The step is over; some of what it had to do `waits` for the next.
    fn go_on(&mut self, now: Time, waits: bool) {
        self.go_on_at = waits.then(|| now + PAUSE);
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.go_on_at
    }

    pub(super) fn digest(&self, now: Time, into: &mut Digest) {
        let left = if self.now == now { self.left } else { self.step_bytes };
        into.u64(left as u64);
        into.bool(self.go_on_at.is_some());
    }
}

impl<S: StateMachine> Smr<S> {
    /// Applies what has become durable here, in order, and answers whoever waited for it.
    pub(super) fn apply_deferred(&mut self, now: Time, out: Out<'_, S>) {
        if self.apart {
            self.apply_apart(now, out);
            return self.after_apply(now, out);
        }
        self.pace.begin(now);
        while !self.stopped
            && !self.pace.is_spent()
            && let Some((after, next)) =
                self.deferred.pop_front_if(|(after, _)| *after <= self.durable)
        {
            match next {
                Deferred::View(view) => {
                    let (view, rest) = self.pace.cut(view);
                    if let Some(rest) = rest {
                        self.deferred.push_front((after, Deferred::View(rest)));
                    }
                    self.apply(now, &view, out);
                }
                Deferred::Restore { id, offset, bytes, last } => {
                    self.restore(now, (id, offset), &bytes, last, out);
                }
            }
        }
        if self.stopped {
            return;
        }
        let waits = self.deferred.front().is_some_and(|(after, _)| *after <= self.durable);
        self.pace.go_on(now, waits);
        self.after_apply(now, out);
    }

    /// Answers whoever waited for what is applied by now.
    pub(super) fn after_apply(&mut self, now: Time, out: Out<'_, S>) {
        if self.stopped {
            return;
        }
        if self.place.here().is_some() {
            self.answer_queries(out);
            self.begin_audit(now);
        }
        self.answer_audits(out); // of what was applied when the state was last here
        let Some(applier) = self.place.here() else { return };
        // A majority has it, and everything applied here is durable here.
        let answer = |id, reply| out.answer_eager(id, reply);
        self.watches.serve(applier.history(), applier.applied(), answer);
    }

    fn apply(&mut self, now: Time, view: &View, out: Out<'_, S>) {
        let waiting = &mut self.waiting;
        let next = waiting.first().unwrap_or(Index(u64::MAX));
        let wanted = |index: Index| index >= next;
        let Some(applier) = self.place.here_mut() else { return };
        let applied = applier.apply(view, wanted, |index, outcome| {
            if let Some((id, first, outcomes)) = waiting.tell(index, outcome) {
                // Durable here and on a majority by now.
                out.answer_eager(id, Reply::Applied { first, outcomes });
            }
        });
        if let Err(stop) = applied {
            return self.stop(&stop, out);
        }
        self.snapshots.applied(now, cost(view) as u64);
        self.unreported = true;
    }
}
