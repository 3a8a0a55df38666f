//! The loop around a host: drain a burst, read the clock, feed, settle once, hand over to disks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use quorate_transport::{
    Class, Frame, Halt, Host, Incoming, Key, NodeId, Shell, StoreOp, Ticket, Time, Transport, Work,
};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::clock::boot_time;
use crate::desk::Feed;
use crate::disks::{Batch, Done, Journal};
use crate::setup::{DriverError, DriverStats, Options};
use crate::sync::{self, Alarm, Mutex, MutexGuard, Notify};

/// The engine's hands: sends leave at once, the rest is collected for the end of the burst.
pub(crate) struct Hands {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) records: Vec<(Key, Ticket, Frame)>,
    pub(crate) releases: Vec<(Key, Ticket)>,
    pub(crate) ops: VecDeque<(Key, StoreOp)>,
    pub(crate) work: Vec<(Key, Work)>,
    pub(crate) halts: broadcast::Sender<(Key, Halt)>,
    pub(crate) halted: Vec<(Key, Halt)>,
}

impl Shell for Hands {
    fn send(&mut self, to: NodeId, class: Class, frame: Frame) {
        // A frame that is refused is lost, as any may be; the transport counts it.
        let _ = self.transport.try_send(to, class, frame);
    }

    fn append(&mut self, key: Key, ticket: Ticket, frame: Frame) {
        self.records.push((key, ticket, frame));
    }

    fn release(&mut self, key: Key, upto: Ticket) {
        self.releases.push((key, upto));
    }

    fn store(&mut self, key: Key, op: StoreOp) {
        self.ops.push_back((key, op));
    }

    fn work(&mut self, key: Key, work: Work) {
        self.work.push((key, work));
    }

    fn halted(&mut self, key: Key, halt: &Halt) {
        tracing::error!(%key, %halt, "machine stopped");
        self.halted.push((key, halt.clone()));
        let _ = self.halts.send((key, halt.clone())); // nobody may be listening
    }
}

pub(crate) struct Engine {
    pub(crate) host: Host,
    pub(crate) hands: Hands,
    pub(crate) mailboxes: Vec<Box<dyn Feed>>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) journal: Journal,
    /// What a journal that it writes itself has said since the last turn.
    pub(crate) said: Vec<Done>,
    pub(crate) store: mpsc::Sender<(Key, StoreOp)>,
    pub(crate) done: mpsc::Receiver<Done>,
    /// What work that was handed over has come to; `wake` is called when there is some.
    pub(crate) worked: Arc<Mutex<Vec<Done>>>,
    /// How much of that is not done.
    pub(crate) working: usize,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) probes: mpsc::Receiver<oneshot::Sender<DriverStats>>,
    pub(crate) journal_stats: quorate_wal::Stats,
    pub(crate) journal_bytes: u64,
    pub(crate) options: Options,
    /// Bulk frames that wait until the disk has caught up.
    pub(crate) held: VecDeque<Incoming>,
    pub(crate) batches_waiting: VecDeque<Batch>,
    /// The last checkpoint asked for: not again before it had an effect.
    pub(crate) asked: Option<(Key, Ticket)>,
}

/// Frames that one burst takes at the most.
const BURST_MAX: usize = 1024;
const HELD_MAX: usize = 4096;
/// How long a stop waits for the disk.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Nothing that is done under the lock can leave it half done.
fn lock(worked: &Mutex<Vec<Done>>) -> MutexGuard<'_, Vec<Done>> {
    worked.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Engine {
    pub(crate) async fn run(mut self) -> Result<(), DriverError> {
        match self.turns().await {
            Ok(()) => self.finish().await,
            Err(error) => {
                self.close().await; // whatever waits for the journal waits in vain
                Err(error)
            }
        }
    }

    /// Turn by turn, until it is stopped or the journal fails.
    async fn turns(&mut self) -> Result<(), DriverError> {
        let now = boot_time();
        self.host.start(now, &mut self.hands);
        self.end_burst(now)?;
        let (mut incoming, mut done) = (Vec::new(), Vec::new());
        let transport = Arc::clone(&self.hands.transport);
        let mut alarm = Alarm::new();
        let mut rested = false;
        loop {
            if *self.stop.borrow() {
                return Ok(());
            }
            let more = rested || !self.said.is_empty();
            let at = self.deadline();
            let mut called = false;
            tokio::select! {
                biased;
                _ = sync::recv_many(&mut self.done, &mut done, BURST_MAX) => {}
                received = transport.recv_many(&mut incoming, BURST_MAX) => {
                    if received.is_err() {
                        return Ok(());
                    }
                }
                () = self.wake.notified() => called = true,
                () = alarm.ring(at), if !more => {}
                () = std::future::ready(()), if more => {}
                changed = sync::changed(&mut self.stop) => if changed.is_err() {
                    return Ok(()); // nobody holds the driver any more
                }
            }
            // Whoever else is ready to run may have something for this burst. Without this, the
            // first mail of many would be a burst of its own: tokio runs at once what was woken.
            // A journal thread needs it not: during a sync more comes together than this.
            if called && !rested && matches!(self.journal, Journal::Here(_)) {
                rested = true;
                sync::yield_now().await;
                continue;
            }
            rested = false;
            if done.is_empty() {
                sync::take(&mut self.done, &mut done, BURST_MAX);
            }
            done.append(&mut self.said);
            self.take_worked(&mut done);
            let now = boot_time();
            self.on_done(now, &mut done)?;
            self.answer_probes();
            self.feed(now, &mut incoming);
            self.host.flush(&mut self.hands); // who waits for this need not wait for the mail too
            self.mail(now);
            self.host.timer(now, &mut self.hands);
            self.idle(now);
            self.end_burst(now)?;
        }
    }

    fn answer_probes(&mut self) {
        while let Ok(probe) = self.probes.try_recv() {
            let _ = probe.send(DriverStats {
                host: self.host.stats(),
                journal: self.journal_stats,
                journal_bytes: self.journal_bytes,
                frames_held: self.held.len(),
                halted: self.hands.halted.clone(),
            });
        }
    }

    /// When something is to be done without being asked.
    fn deadline(&self) -> Time {
        let journal = match &self.journal {
            Journal::Thread(_) => None,
            Journal::Here(journal) => journal.deadline(),
        };
        self.host.deadline().into_iter().chain(journal).min().unwrap_or(Time::MAX)
    }

    fn on_done(&mut self, now: Time, done: &mut Vec<Done>) -> Result<(), DriverError> {
        for next in done.drain(..) {
            match next {
                Done::Durable { upto, needed_bytes, oldest, stats } => {
                    (self.journal_stats, self.journal_bytes) = (stats, needed_bytes);
                    self.host.durable(now, upto, &mut self.hands);
                    if needed_bytes > self.options.journal_bytes_max && oldest != self.asked {
                        self.asked = oldest;
                        if let Some((key, before)) = oldest {
                            self.host.checkpoint(now, key, before, &mut self.hands);
                        }
                    }
                }
                Done::Failed(error) => return Err(DriverError::Journal(error)),
                Done::StoreFailed(error) => return Err(DriverError::Snapshots(error)),
                Done::Stored { key, stored } => {
                    self.host.stored(now, key, stored, &mut self.hands);
                }
                Done::Worked { key, worked } => {
                    self.working -= 1;
                    let panicked = || DriverError::Engine(format!("work of {key} has panicked"));
                    let worked = worked.ok_or_else(panicked)?;
                    self.host.worked(now, key, worked, &mut self.hands);
                }
            }
        }
        Ok(())
    }

    fn feed(&mut self, now: Time, incoming: &mut Vec<Incoming>) {
        while self.host.is_open()
            && let Some(next) = self.held.pop_front()
        {
            self.one(now, &next);
        }
        for next in incoming.drain(..) {
            let bulk = matches!(&next, Incoming::Frame { class, .. } if *class != Class::Urgent);
            if bulk && (!self.held.is_empty() || !self.host.is_open()) {
                if self.held.len() < HELD_MAX {
                    self.held.push_back(next);
                }
                continue;
            }
            self.one(now, &next);
        }
    }

    fn one(&mut self, now: Time, incoming: &Incoming) {
        match incoming {
            Incoming::Frame { from, frame, .. } => {
                self.host.message(now, *from, frame, &mut self.hands);
            }
            Incoming::Link { peer, state } => {
                tracing::debug!(%peer, ?state, "link");
                self.host.link(now, *peer, *state, &mut self.hands);
            }
        }
    }

    fn mail(&mut self, now: Time) {
        if self.host.is_open() {
            for mailbox in &mut self.mailboxes {
                mailbox.feed(&mut self.host, now, &mut self.hands);
            }
        }
    }

    /// A journal that it writes itself, and that has nothing to do, marks itself as wholly synced.
    fn idle(&mut self, now: Time) {
        if let Journal::Here(journal) = &mut self.journal
            && journal.deadline().is_some_and(|at| at <= now)
        {
            self.said.extend(journal.idle());
        }
    }

    fn end_burst(&mut self, now: Time) -> Result<(), DriverError> {
        self.settle(now);
        // What is durable at once is a burst of its own; what that appends waits for the next turn.
        let mut said = std::mem::take(&mut self.said);
        if !said.is_empty() {
            self.on_done(now, &mut said)?;
            self.said = said; // empty again, with its memory
            self.settle(now);
        }
        Ok(())
    }

    fn settle(&mut self, now: Time) {
        let burst = self.host.settle(now, &mut self.hands);
        let hands = &mut self.hands;
        if burst.is_some() || !hands.releases.is_empty() {
            let records = std::mem::take(&mut hands.records);
            let releases = std::mem::take(&mut hands.releases);
            let batch = Batch { burst, records, releases };
            match &mut self.journal {
                Journal::Thread(_) => self.batches_waiting.push_back(batch),
                Journal::Here(journal) => self.said.extend(journal.commit(now, batch)),
            }
        }
        if let Journal::Thread(batches) = &self.journal {
            while let Some(batch) = self.batches_waiting.pop_front() {
                if let Err(mpsc::error::TrySendError::Full(batch)) = batches.try_send(batch) {
                    self.batches_waiting.push_front(batch);
                    break;
                }
            }
        }
        self.hand_over();
        while let Some(op) = self.hands.ops.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(op)) = self.store.try_send(op) {
                self.hands.ops.push_front(op);
                break;
            }
        }
    }

    fn take_worked(&self, done: &mut Vec<Done>) {
        if self.working > 0 {
            done.append(&mut lock(&self.worked));
        }
    }

    /// Work that machines have handed over is begun, each on a thread that may be blocked.
    fn hand_over(&mut self) {
        for (key, work) in self.hands.work.drain(..) {
            let (all, wake) = (Arc::clone(&self.worked), Arc::clone(&self.wake));
            self.working += 1;
            tokio::task::spawn_blocking(move || {
                let run = std::panic::AssertUnwindSafe(|| work.run());
                let worked = std::panic::catch_unwind(run).ok();
                lock(&all).push(Done::Worked { key, worked });
                wake.notify_one();
            });
        }
    }

    /// No more mail; what was appended still reaches the disk, and what it gates still leaves.
    async fn finish(mut self) -> Result<(), DriverError> {
        self.mailboxes.iter_mut().for_each(|mailbox| mailbox.close());
        let settle = async {
            while self.host.is_busy() || self.working > 0 {
                let mut next = std::mem::take(&mut self.said);
                self.take_worked(&mut next);
                if next.is_empty() {
                    tokio::select! {
                        done = self.done.recv() => match done {
                            Some(done) => next.push(done),
                            None => break,
                        },
                        () = self.wake.notified(), if self.working > 0 => {}
                    }
                }
                let now = boot_time();
                self.on_done(now, &mut next)?;
                self.end_burst(now)?;
            }
            Ok(())
        };
        let settled = tokio::time::timeout(STOP_PATIENCE, settle).await;
        self.close().await;
        settled.unwrap_or(Err(DriverError::Slow(STOP_PATIENCE)))
    }

    async fn close(mut self) {
        if let Journal::Here(journal) = &mut self.journal {
            let _ = journal.idle(); // the mark is a help to the next start, and the last word
        }
        self.mailboxes.iter_mut().for_each(|mailbox| mailbox.close());
        self.hands.transport.close().await;
    }
}
