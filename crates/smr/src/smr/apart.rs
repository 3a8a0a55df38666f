//! The applier, here or away: applying on another thread.
//!
//! The machine hands its applier over together with what is to be applied, and goes on with Raft
//! meanwhile. What needs the state waits until it is back; all else never does.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use quorate_raft::{Index, View};
use quorate_transport::{Digest, RequestId, Time, Work, Worked};

use super::apply::cost;
use super::{Deferred, Out, Smr};
use crate::applier::{Applier, Outcome, Stop};
use crate::request::{Rejection, Reply};
use crate::state_machine::StateMachine;
use crate::watch::Watch;

/// The applier, or what is known of it while it is away.
#[derive(Clone, Debug)]
pub(super) enum Place<S> {
    Here(Box<Applier<S>>),
    Away(Known),
}

/// What an applier was when it was last here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) applied: Index,
    /// What it applies now goes up to here.
    pub(super) upto: Index,
    pub(super) digest: u128,
    pub(super) sessions: usize,
    pub(super) expired: u64,
    pub(super) log_time: Duration,
    pub(super) audited: bool,
    pub(super) history_first: Index,
}

impl<S: StateMachine> Place<S> {
    pub(super) fn here(&self) -> Option<&Applier<S>> {
        match self {
            Self::Here(applier) => Some(applier),
            Self::Away(_) => None,
        }
    }

    pub(super) fn here_mut(&mut self) -> Option<&mut Applier<S>> {
        match self {
            Self::Here(applier) => Some(applier),
            Self::Away(_) => None,
        }
    }

    pub(super) fn known(&self) -> Known {
        match self {
            Self::Here(applier) => Known {
                applied: applier.applied(),
                upto: applier.applied(),
                digest: applier.digest(),
                sessions: applier.sessions(),
                expired: applier.expired(),
                log_time: applier.log_time(),
                audited: applier.is_audited(),
                history_first: applier.history().first(),
            },
            Self::Away(known) => *known,
        }
    }

    /// Everything up to here is applied.
    pub(super) fn applied(&self) -> Index {
        match self {
            Self::Here(applier) => applier.applied(),
            Self::Away(known) => known.applied,
        }
    }

    pub(super) fn digest(&self, into: &mut Digest) {
        let Known { applied, upto, digest, .. } = self.known();
        into.u64(applied.0);
        into.u64(upto.0);
        into.u64(digest as u64);
        into.u64((digest >> 64) as u64);
        into.bool(self.here().is_some());
        if let Some(applier) = self.here() {
            applier.history().digest(into);
        }
    }

    /// The applier goes away, to apply everything up to `upto`.
    fn lend(&mut self, upto: Index) -> Option<Box<Applier<S>>> {
        let away = Self::Away(Known { upto, ..self.known() });
        match core::mem::replace(self, away) {
            Self::Here(applier) => Some(applier),
            Self::Away(known) => {
                *self = Self::Away(known);
                None
            }
        }
    }
}

/// What needs the state, whatever is applied.
#[derive(Clone, Debug)]
pub(super) enum Look {
    Query(Bytes),
    Watch(Watch),
    Digest,
}

/// What is handed over.
#[derive(Clone)]
struct Job<S> {
    applier: Box<Applier<S>>,
    views: Vec<View>,
    /// Somebody waits for outcomes from here on.
    wanted: Index,
}

/// What comes back.
struct Done<S> {
    applier: Box<Applier<S>>,
    outcomes: Vec<(Index, Outcome)>,
    stop: Option<Stop>,
    cost: u64,
}

fn run<S: StateMachine>(job: Job<S>) -> Done<S> {
    let Job { mut applier, views, wanted } = job;
    let mut outcomes = Vec::new();
    let mut sum = 0;
    for view in &views {
        let told = |index, outcome| outcomes.push((index, outcome));
        if let Err(stop) = applier.apply(view, |index| index >= wanted, told) {
            return Done { applier, outcomes, stop: Some(stop), cost: sum };
        }
        sum += cost(view) as u64;
    }
    Done { applier, outcomes, stop: None, cost: sum }
}

impl<S: StateMachine> Smr<S> {
    /// Hands over what has become durable here, unless there is something under way; takes a
    /// snapshot over here.
    pub(super) fn apply_apart(&mut self, now: Time, out: Out<'_, S>) {
        self.pace.begin_anew();
        let mut views = Vec::new();
        while !self.stopped
            && !self.pace.is_spent()
            && self.place.here().is_some()
            && let Some((after, next)) =
                self.deferred.pop_front_if(|(after, _)| *after <= self.durable)
        {
            match next {
                Deferred::View(view) => {
                    let (view, rest) = self.pace.cut(view);
                    if let Some(rest) = rest {
                        self.deferred.push_front((after, Deferred::View(rest)));
                    }
                    views.push(view);
                }
                restore @ Deferred::Restore { .. } if !views.is_empty() => {
                    self.deferred.push_front((after, restore));
                    break;
                }
                Deferred::Restore { id, offset, bytes, last } => {
                    self.restore(now, (id, offset), &bytes, last, out);
                }
            }
        }
        let Some(upto) = views.last().map(View::last) else { return };
        let wanted = self.waiting.first().unwrap_or(Index(u64::MAX));
        if let Some(applier) = self.place.lend(upto) {
            out.work(Work::new(Job { applier, views, wanted }, run::<S>));
        }
    }

    /// The applier is back.
    pub(super) fn on_worked(&mut self, now: Time, worked: Worked, out: Out<'_, S>) {
        let Some(done) = worked.take::<Done<S>>() else { return };
        let Done { applier, outcomes, stop, cost } = *done;
        self.place = Place::Here(applier);
        for (index, outcome) in outcomes {
            if let Some((id, first, outcomes)) = self.waiting.tell(index, outcome) {
                // Durable here and on a majority before it was handed over.
                out.answer_eager(id, Reply::Applied { first, outcomes });
            }
        }
        if let Some(stop) = stop {
            return self.stop(&stop, out);
        }
        self.snapshots.applied(now, cost);
        self.unreported = true;
        // Whoever has waited for it comes before it goes again.
        for (id, look) in core::mem::take(&mut self.held) {
            self.look(now, id, look, out);
        }
        self.after_apply(now, out);
        self.begin_snapshot(now, out);
    }

    /// Looks at the state as it is, or when it is back.
    pub(super) fn look(&mut self, now: Time, id: RequestId, look: Look, out: Out<'_, S>) {
        let Some(applier) = self.place.here() else {
            if self.held.len() >= self.queries_max {
                return out.answer_eager(id, Reply::Rejected(Rejection::Busy)); // nothing was done
            }
            return self.held.push((id, look));
        };
        let index = applier.applied();
        // Only what is durable here was applied.
        match look {
            Look::Query(query) => match applier.query(&query) {
                Ok(answer) => out.answer_eager(id, Reply::Answer { index, answer }),
                Err(panicked) => self.stop_panicked("a query", panicked, out),
            },
            Look::Digest => {
                out.answer_eager(id, Reply::Digest { index, digest: applier.digest() });
            }
            Look::Watch(watch) => {
                if let Some(reply) = self.watches.ask(now, id, watch, applier.history(), index) {
                    out.answer_eager(id, reply);
                }
            }
        }
    }
}
