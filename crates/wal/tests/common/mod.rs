//! A journal and, beside it, what it promised: every state it may be found in after a crash.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_transport::{Attachment, Attachments, Frame, Key, Rng, Ticket};
use quorate_wal::{OpenError, Options, Recovery, SimDisk, Wal, WalError};

pub(crate) const OPTIONS: Options = Options { owner: 7, segment_bytes: 8192, spares_max: 2 };

pub(crate) type Record = (Key, Ticket, Frame);

/// Records and releases that are there together or not at all.
type Burst = (Vec<Record>, Vec<(Key, Ticket)>);

/// How many seeds: as `QUORATE_CRASH_SEEDS` or else `QUORATE_SEEDS` says, or the ordinary number.
pub(crate) fn seeds(ordinary: u64) -> u64 {
    let asked = ["QUORATE_CRASH_SEEDS", "QUORATE_SEEDS"].map(|name| std::env::var(name).ok());
    let asked = asked.into_iter().flatten().next();
    asked.and_then(|n| n.parse().ok()).unwrap_or(ordinary)
}

/// A record with a head of 8 bytes and, where `len` asks for it, an attachment.
pub(crate) fn frame(mark: u64, len: usize) -> Frame {
    let head = Bytes::copy_from_slice(&mark.to_le_bytes());
    let mut attachments = Attachments::None;
    if len > 0 {
        attachments.push(Attachment::new(Bytes::from(vec![mark as u8 | 1; len])));
    }
    Frame { head, attachments }
}

/// What the caller of a journal knows about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// The records and releases that one or more bursts may have left, in order.
    bursts: Vec<Burst>,
    waiting: Burst,
    /// How many bursts a sync has acknowledged.
    durable: usize,
    pub(crate) next: BTreeMap<Key, u64>,
}

impl Model {
    /// Goes on from what a journal handed out.
    pub(crate) fn recovered(recovery: &Recovery) -> Self {
        let mut next = BTreeMap::new();
        for (key, ticket) in &recovery.released {
            next.insert(*key, ticket.0);
        }
        for (key, ticket, _) in &recovery.records {
            next.insert(*key, ticket.0);
        }
        let burst = (recovery.records.clone(), recovery.released.clone());
        Self { bursts: vec![burst], waiting: Default::default(), durable: 1, next }
    }

    fn written(&mut self) {
        let burst = std::mem::take(&mut self.waiting);
        self.bursts.push(burst);
    }

    /// What is found when the first `count` bursts survive.
    fn after(&self, count: usize) -> (Vec<Record>, Vec<(Key, Ticket)>) {
        let mut released = BTreeMap::new();
        let kept = &self.bursts[..count];
        for (key, upto) in kept.iter().flat_map(|burst| &burst.1) {
            let mark: &mut Ticket = released.entry(*key).or_default();
            *mark = (*mark).max(*upto);
        }
        let live = |r: &&Record| released.get(&r.0).is_none_or(|upto: &Ticket| r.1 > *upto);
        let records = kept.iter().flat_map(|burst| &burst.0).filter(live).cloned().collect();
        (records, released.into_iter().collect())
    }

    /// How many bursts are there; every acknowledged one must be, whole and in order, and nothing
    /// else.
    pub(crate) fn check(&self, recovery: &Recovery, what: &str) -> usize {
        let mut last = BTreeMap::new();
        for (key, ticket, _) in &recovery.records {
            let before = last.insert(*key, *ticket);
            assert!(before < Some(*ticket), "{what}: tickets of {key} do not increase");
        }
        let found = (&recovery.records, &recovery.released);
        for count in (self.durable..=self.bursts.len()).rev() {
            let (records, released) = self.after(count);
            if found == (&records, &released) {
                return count;
            }
        }
        let brief = |records: &[Record]| -> Vec<String> {
            records.iter().map(|(key, ticket, _)| format!("{key}:{ticket}")).collect()
        };
        let (records, released) = self.after(self.durable);
        panic!(
            "{what}: found {:?} released {:?},\nneeded at least {:?} released {released:?}\n{:?}",
            brief(&recovery.records),
            recovery.released,
            brief(&records),
            recovery.tail
        );
    }

    /// The last burst was acknowledged, and damaged since: it may be gone.
    pub(crate) fn doubt_last(&mut self) {
        self.durable = self.bursts.len() - 1;
    }

    /// How many bursts were written.
    pub(crate) fn count(&self) -> usize {
        self.bursts.len()
    }
}

/// A journal with its model.
pub(crate) struct Pair {
    pub(crate) wal: Wal<SimDisk>,
    pub(crate) model: Model,
}

impl Pair {
    pub(crate) fn open(disk: &SimDisk) -> Result<(Self, Recovery), OpenError> {
        let (wal, recovery) = Wal::open(disk.clone(), OPTIONS)?;
        Ok((Self { wal, model: Model::recovered(&recovery) }, recovery))
    }

    pub(crate) fn append(&mut self, key: Key, len: usize) -> Result<(), WalError> {
        let next = self.model.next.entry(key).or_default();
        *next += 1;
        let record = (key, Ticket(*next), frame(*next * 31 + key.group.0, len));
        self.wal.append(key, record.1, &record.2)?;
        self.model.waiting.0.push(record);
        Ok(())
    }

    pub(crate) fn release(&mut self, key: Key, upto: Ticket) {
        self.wal.release(key, upto);
        let last = Ticket(self.model.next.get(&key).copied().unwrap_or(0));
        if last > Ticket::ZERO && upto > Ticket::ZERO {
            self.model.waiting.1.push((key, upto.min(last)));
        }
    }

    pub(crate) fn write(&mut self) -> Result<(), WalError> {
        let before = self.wal.stats().bursts;
        let done = self.wal.write();
        let something = !self.model.waiting.0.is_empty() || !self.model.waiting.1.is_empty();
        if self.wal.stats().bursts > before || (done.is_err() && something) {
            self.model.written();
        }
        done.map(drop)
    }

    pub(crate) fn sync(&mut self) -> Result<(), WalError> {
        self.wal.sync()?;
        self.model.durable = self.model.bursts.len();
        Ok(())
    }

    pub(crate) fn commit(&mut self) -> Result<(), WalError> {
        self.write()?;
        self.sync()
    }

    /// The scripted workload: several machines, records of all sizes, releases, recycling, marks.
    pub(crate) fn work(&mut self, seed: u64, steps: usize) -> Result<(), WalError> {
        let mut rng = Rng::new(seed);
        let keys = [Key::new(1, 1), Key::new(1, 2), Key::new(2, 1)];
        for step in 0..steps {
            let key = keys[rng.below(3) as usize];
            match rng.below(13) {
                0..=3 => self.append(key, [0, 1, 40, 300, 700][rng.below(5) as usize])?,
                4 => self.append(key, if step % 16 == 5 { 9000 } else { 2500 })?,
                5 => self.write()?,
                6 => self.sync()?,
                7 | 8 => self.commit()?,
                9 => {
                    if rng.below(2) == 0 {
                        self.commit()?;
                    }
                    self.wal.idle()?;
                }
                10 => {
                    // As a host does it: a release waits until its machine's records are durable.
                    self.commit()?;
                    if let Some((key, before)) = self.wal.oldest_live() {
                        self.release(key, Ticket(before.0 - 1));
                    }
                }
                11 => {
                    // A release between a write and its sync: that sync does not make it durable.
                    self.commit()?;
                    self.append(key, 20)?;
                    self.write()?;
                    if let Some((key, before)) = self.wal.oldest_live() {
                        let written = self.model.next[&key] - 1;
                        self.release(key, Ticket((before.0 - 1).min(written)));
                    }
                    self.sync()?;
                }
                _ => {
                    self.append(key, 20)?;
                    let last = self.model.next[&key];
                    self.commit()?;
                    self.release(key, Ticket(last - rng.below(2).min(last)));
                }
            }
        }
        self.commit()
    }
}
