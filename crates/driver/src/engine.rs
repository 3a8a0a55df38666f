//! The loop around a host: drain a burst, read the clock, feed, settle once, hand over to disks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use quorate_transport::{
    Class, Frame, Halt, Host, Incoming, Key, NodeId, Shell, StoreOp, Ticket, Time, Transport,
};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::clock::boot_time;
use crate::desk::Mailbox;
use crate::disks::{Batch, Done};
use crate::setup::{DriverError, DriverStats, Options};
use crate::sync::{self, Notify};

/// The engine's hands: sends leave at once, the rest is collected for the end of the burst.
pub(crate) struct Hands {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) records: Vec<(Key, Ticket, Frame)>,
    pub(crate) releases: Vec<(Key, Ticket)>,
    pub(crate) ops: VecDeque<(Key, StoreOp)>,
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

    fn halted(&mut self, key: Key, halt: &Halt) {
        tracing::error!(%key, %halt, "machine stopped");
        self.halted.push((key, halt.clone()));
        let _ = self.halts.send((key, halt.clone())); // nobody may be listening
    }
}

pub(crate) struct Engine {
    pub(crate) host: Host,
    pub(crate) hands: Hands,
    pub(crate) mailboxes: Vec<Box<dyn Mailbox>>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) batches: mpsc::Sender<Batch>,
    pub(crate) work: mpsc::Sender<(Key, StoreOp)>,
    pub(crate) done: mpsc::Receiver<Done>,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) probes: mpsc::Receiver<oneshot::Sender<DriverStats>>,
    pub(crate) journal: quorate_wal::Stats,
    pub(crate) journal_bytes: u64,
    pub(crate) options: Options,
    /// Bulk frames that wait until the disk has caught up.
    pub(crate) held: VecDeque<Incoming>,
    pub(crate) batches_waiting: VecDeque<Batch>,
    /// The last checkpoint asked for: not again before it had an effect.
    pub(crate) asked: Option<(Key, Ticket)>,
}

/// Frames, and mails of one machine, that one burst takes at the most.
const BURST_MAX: usize = 1024;
const HELD_MAX: usize = 4096;
/// How long a stop waits for the disk.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

impl Engine {
    pub(crate) async fn run(mut self) -> Result<(), DriverError> {
        self.host.start(boot_time(), &mut self.hands);
        self.end_burst(boot_time());
        let mut incoming = Vec::new();
        let mut done = Vec::new();
        let transport = Arc::clone(&self.hands.transport);
        let mut more = false;
        let result = loop {
            if *self.stop.borrow() {
                break Ok(());
            }
            let pause = if more { Duration::ZERO } else { self.pause() };
            tokio::select! {
                biased;
                _ = sync::recv_many(&mut self.done, &mut done, BURST_MAX) => {}
                received = transport.recv_many(&mut incoming, BURST_MAX) => {
                    if received.is_err() {
                        break Ok(());
                    }
                }
                () = self.wake.notified() => {}
                () = sync::sleep(pause), if !more => {}
                () = std::future::ready(()), if more => {}
                changed = sync::changed(&mut self.stop) => if changed.is_err() {
                    break Ok(()); // nobody holds the driver any more
                }
            }
            if done.is_empty() {
                while done.len() < BURST_MAX
                    && let Ok(next) = self.done.try_recv()
                {
                    done.push(next);
                }
            }
            let now = boot_time();
            if let Err(error) = self.on_done(now, &mut done) {
                break Err(error);
            }
            self.answer_probes();
            self.feed(now, &mut incoming);
            self.host.flush(&mut self.hands); // who waits for this need not wait for the mail too
            more = self.mail(now);
            self.host.timer(now, &mut self.hands);
            self.end_burst(now);
        };
        match result {
            Ok(()) => self.finish().await,
            Err(error) => {
                self.close().await; // whatever waits for the journal waits in vain
                Err(error)
            }
        }
    }

    fn answer_probes(&mut self) {
        while let Ok(probe) = self.probes.try_recv() {
            let _ = probe.send(DriverStats {
                host: self.host.stats(),
                journal: self.journal,
                journal_bytes: self.journal_bytes,
                frames_held: self.held.len(),
                halted: self.hands.halted.clone(),
            });
        }
    }

    fn pause(&self) -> Duration {
        let far = Duration::from_secs(1);
        self.host.deadline().map_or(far, |at| at.since(boot_time()).min(far))
    }

    fn on_done(&mut self, now: Time, done: &mut Vec<Done>) -> Result<(), DriverError> {
        for next in done.drain(..) {
            match next {
                Done::Durable { upto, needed_bytes, oldest, stats } => {
                    (self.journal, self.journal_bytes) = (stats, needed_bytes);
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

    /// Feeds the mailboxes; true when some may hold more.
    fn mail(&mut self, now: Time) -> bool {
        if !self.host.is_open() {
            return false;
        }
        let mut more = false;
        for mailbox in &mut self.mailboxes {
            more |= mailbox.feed(&mut self.host, now, &mut self.hands, BURST_MAX) == BURST_MAX;
        }
        more
    }

    fn end_burst(&mut self, now: Time) {
        let burst = self.host.settle(now, &mut self.hands);
        let hands = &mut self.hands;
        if burst.is_some() || !hands.releases.is_empty() {
            let records = std::mem::take(&mut hands.records);
            let releases = std::mem::take(&mut hands.releases);
            self.batches_waiting.push_back(Batch { burst, records, releases });
        }
        while let Some(batch) = self.batches_waiting.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(batch)) = self.batches.try_send(batch) {
                self.batches_waiting.push_front(batch);
                break;
            }
        }
        while let Some(op) = self.hands.ops.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(op)) = self.work.try_send(op) {
                self.hands.ops.push_front(op);
                break;
            }
        }
    }

    /// No more mail; what was appended still reaches the disk, and what it gates still leaves.
    async fn finish(mut self) -> Result<(), DriverError> {
        self.mailboxes.iter_mut().for_each(|mailbox| mailbox.close());
        let settle = async {
            while self.host.is_busy() {
                let Some(next) = self.done.recv().await else { break };
                let now = boot_time();
                self.on_done(now, &mut vec![next])?;
                self.end_burst(now);
            }
            Ok(())
        };
        let settled = tokio::time::timeout(STOP_PATIENCE, settle).await;
        self.close().await;
        settled.unwrap_or(Err(DriverError::Slow(STOP_PATIENCE)))
    }

    async fn close(mut self) {
        self.mailboxes.iter_mut().for_each(|mailbox| mailbox.close());
        self.hands.transport.close().await;
    }
}
