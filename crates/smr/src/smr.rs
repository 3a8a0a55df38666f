//! The machine: a Raft node inside, and the applier fed by what it commits.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use quorate_raft::{self as raft, Index, Raft, View};
use quorate_transport::{
    Digest, Effect, Input, Machine, Outbox, Rename, RequestId, RequestRange, SnapshotId, Start,
    Ticket, Time,
};

use crate::applier::{Applier, Taken};
use crate::audit::Audits;
use crate::config::{Config, Error};
use crate::guard::guard;
use crate::message::Message;
use crate::request::{Event, Rejection, Reply, Request, Status};
use crate::snapshots::Snapshots;
use crate::state_machine::{RestoreError, StateMachine};
use crate::ticker::Ticker;
use crate::watch::Watches;

mod apart;
mod apply;
mod asked;
mod reads;
mod upkeep;

use apart::{Known, Look, Place};
use apply::Pace;
use asked::{Applies, Asked, Asks, Queue};

/// One replica of a state machine.
#[derive(Clone, Debug)]
pub struct Smr<S: StateMachine> {
    raft: Raft,
    inner: Outbox<Raft>,
    place: Place<S>,
    /// It is handed over for what takes long.
    apart: bool,
    /// Who waits until it is back.
    held: Vec<(RequestId, Look)>,
    /// Everything up to here is durable.
    durable: Ticket,
    /// What Raft has emitted and this node's disk has not caught up with.
    deferred: VecDeque<(Ticket, Deferred)>,
    /// What was asked of Raft and is not answered.
    asks: Asks,
    /// Whose commands are committed and wait to be applied here.
    waiting: Queue,
    /// Queries that wait until an index is applied.
    queries: BTreeMap<(Index, u64), (RequestId, Bytes)>,
    /// Queries that wait for their index, or to be told it.
    reading: usize,
    snapshots: Snapshots<S>,
    watches: Watches,
    pace: Pace,
    ticker: Ticker,
    /// When the next audit begins.
    auditor: Ticker,
    audits: Audits,
    /// It has halted: nothing more is applied.
    stopped: bool,
    /// What Raft should be told has been applied.
    unreported: bool,
    queries_max: usize,
}

#[derive(Clone, Debug)]
enum Deferred {
    View(View),
    Restore { id: SnapshotId, offset: u64, bytes: Bytes, last: bool },
}

type Out<'a, S> = &'a mut Outbox<Smr<S>>;

impl<S: StateMachine> Machine for Smr<S> {
    type Config = Config<S>;
    type Error = Error;
    type Message = Message;
    type Record = raft::Record;
    type Request = Request;
    type Reply = Reply;
    type Event = Event;

    fn new(start: Start, config: Config<S>) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self {
            inner: Outbox::default(),
            place: Place::Here(Box::new(Applier::new(&config))),
            apart: config.apply_apart,
            held: Vec::new(),
            snapshots: Snapshots::new(&config),
            watches: Watches::new(&config),
            pace: Pace::new(config.apply_step_bytes),
            ticker: Ticker::new(config.tick_interval),
            auditor: Ticker::new(config.audit_interval),
            audits: Audits::new(start.node, &config),
            stopped: false,
            raft: Raft::new(start, config.raft)?,
            durable: Ticket::ZERO,
            deferred: VecDeque::new(),
            asks: Asks::default(),
            waiting: Queue::default(),
            queries: BTreeMap::new(),
            reading: 0,
            unreported: false,
            queries_max: config.queries_max,
        })
    }

    fn replay(&mut self, at: Ticket, record: raft::Record) -> Result<(), Error> {
        self.durable = at;
        Ok(self.raft.replay(at, record)?)
    }

    fn handle(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        let input = match input {
            Input::Request { id, request } => {
                // What it opens the way for waits for the end of the burst, as what others open.
                return self.on_request(now, id, request, out);
            }
            Input::Message { from, message: Message::Audit { index, digest: [low, high] } } => {
                let digest = u128::from(high) << 64 | u128::from(low);
                return self.on_audit(from.node, index, digest, out);
            }
            Input::Message { from, message: Message::Raft(message) } => {
                let input = Input::Message { from, message };
                self.nest(now, out, |raft, now, inner| raft.handle(now, input, inner));
                return self.apply_deferred(now, out);
            }
            Input::Durable { upto } => {
                self.durable = upto;
                Input::Durable { upto }
            }
            Input::Started => Input::Started,
            Input::Timer => {
                self.on_timer(now, out);
                Input::Timer
            }
            Input::Link { peer, state } => Input::Link { peer, state },
            Input::Checkpoint { before } => Input::Checkpoint { before },
            Input::Stored(stored) => Input::Stored(stored),
            Input::Worked(worked) => {
                self.on_worked(now, worked, out);
                return self.apply_deferred(now, out);
            }
        };
        self.nest(now, out, |raft, now, inner| raft.handle(now, input, inner));
        self.apply_deferred(now, out);
    }

    fn settle(&mut self, now: Time, out: &mut Outbox<Self>) {
        if core::mem::take(&mut self.unreported) {
            let index = self.place.applied();
            let id = self.asks.skip();
            self.request(now, id, raft::Request::Applied { index }, out);
        }
        let leads = self.raft.is_leader();
        let Known { sessions, audited, .. } = self.place.known();
        self.ticker.count(now, leads && sessions > 0);
        self.auditor.count(now, leads && !audited);
        self.begin_snapshot(now, out);
        self.nest(now, out, Raft::settle);
        self.apply_deferred(now, out);
        if !self.queries.is_empty() && self.raft.is_removed() {
            self.give_up_queries(out);
        }
    }

    fn deadline(&self) -> Option<Time> {
        // Who has just given up leading counts no time, though its tickers learn that later.
        let [ticker, auditor] = [&self.ticker, &self.auditor]
            .map(|own| own.deadline().filter(|_| self.raft.is_leader()));
        let own = [
            self.pace.deadline(),
            self.snapshots.deadline(self.place.here().is_some()),
            self.watches.deadline(),
            ticker,
            auditor,
            self.audits.deadline(),
        ];
        self.raft.deadline().into_iter().chain(own.into_iter().flatten()).min()
    }

    fn digest(&self, now: Time, rename: &Rename, into: &mut Digest) {
        self.raft.digest(now, rename, into);
        self.place.digest(into);
        into.u64(self.held.len() as u64);
        for (after, deferred) in &self.deferred {
            into.u64(after.0.saturating_sub(self.durable.0));
            match deferred {
                Deferred::View(view) => into.u64(view.last().0),
                Deferred::Restore { offset, .. } => into.u64(!offset),
            }
        }
        into.u64(self.asks.len() as u64);
        for (first, open) in self.waiting.iter() {
            into.u64(first.0);
            into.u64(open as u64);
        }
        for (index, _) in self.queries.keys() {
            into.u64(index.0);
        }
        into.u64(self.reading as u64);
        self.pace.digest(now, into);
        self.snapshots.digest(now, into);
        self.watches.digest(now, into);
        self.ticker.digest(now, into);
        self.auditor.digest(now, into);
        self.audits.digest(now, rename, into);
        into.bool(self.unreported);
    }
}

impl<S: StateMachine> Smr<S> {
    /// Where this replica stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let Known { applied, digest, sessions, expired, log_time, history_first, .. } =
            self.place.known();
        Status {
            raft: self.raft.status(),
            applied,
            digest,
            sessions,
            sessions_expired: expired,
            log_time,
            waiting: self.waiting.len(),
            audited: self.audits.last(),
            audits_agreed: self.audits.agreed(),
            watching: self.watches.count(),
            history_first,
        }
    }

    /// The Raft node inside, for checkers.
    #[must_use]
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The state machine, for a look that changes nothing; as stale as `Freshness::Any`. `None`
    /// while commands are applied to it on another thread.
    #[must_use]
    pub fn state(&self) -> Option<&S> {
        self.place.here().map(Applier::state)
    }

    fn on_request(&mut self, now: Time, id: RequestId, request: Request, out: Out<'_, S>) {
        match request {
            Request::Apply(commands) => {
                let ask = self.asks.push_apply(id, commands.count());
                self.request(now, ask, raft::Request::Propose(commands.proposals), out);
            }
            Request::Query { query, freshness } => self.on_query(now, id, query, freshness, out),
            Request::ReadIndex => self.read(now, id, Duration::ZERO, Asked::Index(id), out),
            Request::Watch(watch) => self.look(now, id, Look::Watch(watch), out),
            Request::Digest => self.look(now, id, Look::Digest, out),
            Request::Audit => self.audit(now, Some(id), out),
            Request::Transfer { to } => {
                self.ask(now, Asked::Transfer(id), raft::Request::Transfer { to }, out);
            }
            Request::ChangeMembers(change) => {
                self.ask(now, Asked::Change(id), raft::Request::Change(change), out);
            }
        }
    }

    fn ask(&mut self, now: Time, asked: Asked, request: raft::Request, out: Out<'_, S>) {
        let id = self.asks.push(asked);
        self.request(now, id, request, out);
    }

    fn request(&mut self, now: Time, id: RequestId, request: raft::Request, out: Out<'_, S>) {
        let input = Input::Request { id, request };
        self.nest(now, out, |raft, now, inner| raft.handle(now, input, inner));
    }

    /// Runs Raft; its records and messages go out as they are, its answers and events stay.
    fn nest(
        &mut self,
        now: Time,
        out: Out<'_, S>,
        run: impl FnOnce(&mut Raft, Time, &mut Outbox<Raft>),
    ) {
        let mut inner = core::mem::take(&mut self.inner);
        let mut answers = Vec::new();
        let raft = &mut self.raft;
        let deferred = &mut self.deferred;
        let audits = &mut self.audits;
        out.nest(
            &mut inner,
            |inner| run(raft, now, inner),
            |effect, out| match effect {
                Effect::Persist { ticket, record } => out.push(Effect::Persist { ticket, record }),
                Effect::Send { to, message, after } => {
                    out.push(Effect::Send { to, message: Message::Raft(message), after })
                }
                Effect::Release { upto, after } => out.push(Effect::Release { upto, after }),
                Effect::Store(op) => out.push(Effect::Store(op)),
                Effect::Work(work) => out.push(Effect::Work(work)),
                Effect::Halt(halt) => out.push(Effect::Halt(halt)),
                Effect::Answer { ids, reply, .. } => answers.push((ids, reply)),
                Effect::Emit { event, after } => match event {
                    raft::Event::Committed(view) => {
                        deferred.push_back((after, Deferred::View(view)))
                    }
                    raft::Event::Restore { id, offset, bytes, last } => {
                        deferred.push_back((after, Deferred::Restore { id, offset, bytes, last }));
                    }
                    raft::Event::Members { index, members, committed } => {
                        audits.adopt(&members);
                        out.emit_after(after, Event::Members { index, members, committed });
                    }
                    raft::Event::Role { role, term, leader } => {
                        out.emit_after(after, Event::Role { role, term, leader });
                    }
                },
            },
        );
        self.inner = inner;
        for (ids, reply) in answers {
            self.on_answer(ids, &reply, out);
        }
    }

    fn on_answer(&mut self, ids: RequestRange, reply: &raft::Reply, out: Out<'_, S>) {
        let mut first = match reply {
            raft::Reply::Committed { first, .. } => *first,
            _ => Index::ZERO,
        };
        let mut next = ids.first;
        while next <= ids.last {
            let rest = RequestRange { first: next, last: ids.last };
            if let Some(applies) = self.asks.take_applies(rest) {
                next = RequestId(next.0 + applies.len);
                self.on_applies(applies, &mut first, reply, out);
                continue;
            }
            let asked = self.asks.take(next);
            next = RequestId(next.0 + 1);
            let Some(asked) = asked else { continue };
            match (asked, reply) {
                (Asked::Read { id, query }, raft::Reply::ReadAt { index }) => {
                    self.queries.insert((*index, id.0), (id, query));
                }
                (Asked::Index(id), raft::Reply::ReadAt { index }) => {
                    self.reading -= 1;
                    out.answer_eager(id, Reply::ReadIndex { index: *index }); // by a majority
                }
                (Asked::Transfer(id), raft::Reply::Transferred) => {
                    out.answer_eager(id, Reply::Transferred); // promises nothing
                }
                (Asked::Change(id), raft::Reply::Changed { index }) => {
                    out.answer_eager(id, Reply::MembersChanged { index: *index }); // by a majority
                }
                (Asked::Read { id, .. } | Asked::Index(id), other) => {
                    self.reading -= 1;
                    out.answer_eager(id, refusal(other)); // nothing was done
                }
                (Asked::Transfer(id) | Asked::Change(id), other) => {
                    out.answer_eager(id, refusal(other)); // nothing was done, or nobody knows
                }
                (Asked::Tick, _) => {
                    self.ticker.answered();
                    first = first.next();
                }
                (Asked::Audit(id), reply) => {
                    self.auditor.answered();
                    if let Some(id) = id {
                        match reply {
                            raft::Reply::Committed { .. } => self.audits.wait(id, first),
                            other => out.answer_eager(id, refusal(other)),
                        }
                    }
                    first = first.next();
                }
                (Asked::Compact, _) => self.snapshots.stored(),
            }
        }
    }

    /// Raft has answered requests about commands; where these are committed, they stand in the log
    /// from `first` on, which then is what follows them.
    fn on_applies(
        &mut self,
        applies: Applies,
        first: &mut Index,
        reply: &raft::Reply,
        out: Out<'_, S>,
    ) {
        let raft::Reply::Committed { .. } = reply else {
            // Nothing was done, or nobody knows.
            return applies.ids().for_each(|id| out.answer_eager(id, refusal(reply)));
        };
        let (count, applied) = (applies.count.max(1) as u64, self.place.known().upto);
        let passed = (applied.next().0.saturating_sub(first.0)).div_ceil(count);
        let (late, rest) = applies.split(passed);
        // Told late: the outcomes have gone by, and the next are not their own.
        late.ids().for_each(|id| out.answer_eager(id, Reply::Unknown));
        self.waiting.push(Index(first.0 + count * late.len), rest);
        *first = Index(first.0 + count * applies.len);
    }

    /// Takes a piece of a snapshot in; with the last the state is the snapshot's.
    fn restore(
        &mut self,
        now: Time,
        (id, offset): (SnapshotId, u64),
        chunk: &[u8],
        last: bool,
        out: Out<'_, S>,
    ) {
        let Some(applier) = self.place.here_mut() else { return };
        if offset == 0 {
            self.snapshots.begin_loading(now, applier.load());
        }
        let Some(mut loading) = self.snapshots.loading.take() else { return };
        let len = offset as usize + chunk.len();
        let index = Index(id.index);
        let read = guard(|| loading.feed(chunk));
        let done = match read.unwrap_or(Err(RestoreError)) {
            Ok(()) if !last => return self.snapshots.loading = Some(loading),
            Ok(()) => applier.take_over(index, loading),
            Err(error) => Err(error),
        };
        match done {
            Ok(Taken { former, audit, pieces }) => {
                self.snapshots.loaded(now, former, len);
                if let Some(rest) = self.audits.abandon() {
                    self.snapshots.drop_slowly(now, rest);
                }
                self.audits.begin(now, audit, Some(pieces));
            }
            Err(_) => {
                self.stopped = true;
                let rule = "a snapshot restores the state it was made of";
                return out.halt(rule, format!("{index}"));
            }
        }
        // Their outputs were computed elsewhere.
        while let Some(id) = self.waiting.pop_upto(index) {
            out.answer_eager(id, Reply::Unknown);
        }
        self.unreported = true;
        out.emit_eager(Event::Restored { index }); // it is durable here
    }
}

fn refusal(reply: &raft::Reply) -> Reply {
    use raft::Rejection as R;
    match reply {
        raft::Reply::Rejected(rejection) => Reply::Rejected(match rejection {
            R::NotLeader { leader } => Rejection::NotLeader { leader: *leader },
            R::Empty | R::TooLarge => Rejection::Size,
            R::TransferFailed => Rejection::TransferFailed,
            R::Replaced => Rejection::NotLeader { leader: None },
            R::Lagging { .. } => Rejection::NotFresh,
            R::Changing => Rejection::Changing,
            R::Cancelled => Rejection::Cancelled,
            R::BadChange { rule } => Rejection::BadChange { rule },
            R::Busy | R::NotReady | R::Transferring | R::BadIndex | R::Store => Rejection::Busy,
        }),
        _ => Reply::Unknown,
    }
}
