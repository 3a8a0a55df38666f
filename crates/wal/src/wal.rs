//! The journal: collects a burst, writes it at once, syncs it once, and recycles what is released.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use quorate_transport::{ATTACHMENTS_MAX, Frame, HEAD_BYTES_MAX, Key, Ticket};

use crate::burst::Burst;
use crate::disk::{Disk, DiskFile};
use crate::error::{DiskError, Named, OpenError, WalError};
use crate::format::{
    BurstEnd, COMMIT_BYTES, Commit, HEADER_BYTES, Header, Position, RECORD_BYTES_MAX, VERSION,
    seed, segment_name, spare_name,
};
use crate::index::Index;
use crate::recover::{Recovery, State, install, recover};

/// How a journal is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whose journal it is, such as a hash of cluster and node: the directory of another owner is
    /// refused. Default 0.
    pub owner: u64,
    /// Length of a segment in bytes, a multiple of 4096. Larger: fewer rotations, and a coarser
    /// grain of recycling. A burst longer than this gets a segment of its own size. Default 16 MiB.
    pub segment_bytes: u64,
    /// How many recycled segments are kept for later; more are removed. Default 4.
    pub spares_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { owner: 0, segment_bytes: 16 << 20, spares_max: 4 }
    }
}

impl Options {
    /// The least [`segment_bytes`](Self::segment_bytes).
    pub const SEGMENT_BYTES_MIN: u64 = 2 * HEADER_BYTES;

    fn validate(&self) -> Result<(), OpenError> {
        let value = self.segment_bytes;
        let max = 1 << 40;
        if !(Self::SEGMENT_BYTES_MIN..=max).contains(&value) || !value.is_multiple_of(HEADER_BYTES)
        {
            let rule = "a multiple of 4096 from 8192 to 2^40";
            return Err(OpenError::Options { field: "segment_bytes", value, rule });
        }
        Ok(())
    }
}

/// What a journal has done since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stats {
    /// Records appended.
    pub records: u64,
    /// Bursts written.
    pub bursts: u64,
    /// Marks written.
    pub marks: u64,
    /// Bytes written in bursts, framing included.
    pub bytes: u64,
    /// Syncs of a segment's contents.
    pub syncs: u64,
    /// Segments for which a new file was made.
    pub segments_created: u64,
    /// Segments for which a released one was used again.
    pub segments_recycled: u64,
}

#[derive(Debug)]
struct Active<F> {
    file: F,
    name: String,
    sequence: u64,
    len: u64,
    end: u64,
    seed: u32,
}

impl<F> Active<F> {
    fn end(&self) -> Position {
        Position { segment: self.sequence, offset: self.end }
    }
}

/// One stream of records, shared by all machines of a node.
///
/// - Inputs: [`append`](Self::append) and [`release`](Self::release), in memory.
/// - Effects: [`write`](Self::write), [`sync`](Self::sync), [`commit`](Self::commit), which is
///   both, and [`idle`](Self::idle).
/// - Getters: the rest.
///
/// The first failed effect poisons it: every later call is refused, and nothing is tried twice.
/// Dropping it writes nothing and gives the lock back.
pub struct Wal<D: Disk> {
    disk: D,
    _lock: D::Lock,
    options: Options,
    active: Active<D::File>,
    /// Full segments that are still needed, oldest first: sequence and length.
    sealed: VecDeque<(u64, u64)>,
    spares: Vec<String>,
    burst: Burst,
    index: Index,
    /// Releases that no burst states yet.
    releases: BTreeMap<Key, Ticket>,
    /// True until the first burst of the active segment has repeated all release marks.
    repeat_marks: bool,
    synced: Position,
    /// What the last commit or header says is durable.
    stated: Position,
    content_end: Position,
    /// The oldest segment needed: as written last, and as known durable.
    first_written: u64,
    first_durable: u64,
    /// The checksum of the last frame.
    chain: u32,
    poison: Option<(&'static str, String)>,
    stats: Stats,
}

impl<D: Disk> Wal<D> {
    /// Opens the journal of a directory, or makes a new one, and hands out what it holds.
    ///
    /// What is handed out is durable: it was synced, file and directory, before this returns.
    /// A crash at any point of it harms nothing.
    ///
    /// # Errors
    /// [`OpenError`]: the directory is locked, not ours, damaged, or the disk failed.
    pub fn open(disk: D, options: Options) -> Result<(Self, Recovery), OpenError> {
        options.validate()?;
        let lock = match disk.lock() {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(OpenError::Locked);
            }
            Err(error) => return Err(Err::<(), _>(error).named("lock", ".").unwrap_err().into()),
        };
        let state = recover(&disk, &options)?;
        let (mut wal, recovery) = Self::resume(disk, lock, options, state);
        wal.recycle()?;
        Ok((wal, recovery))
    }

    /// Adds a record to the pending burst; it is neither written nor durable yet.
    ///
    /// Large attachments are not copied. Never touches the disk.
    ///
    /// # Errors
    /// [`WalError::TicketOrder`], [`WalError::TooLarge`]: nothing changed.
    /// [`WalError::Poisoned`]: nothing changes any more.
    pub fn append(&mut self, key: Key, ticket: Ticket, frame: &Frame) -> Result<(), WalError> {
        self.check_poison()?;
        check_sizes(frame)?;
        let last = self.index.last(key);
        if ticket <= last {
            return Err(WalError::TicketOrder { key, ticket, last });
        }
        self.index.taken(key, ticket);
        self.burst.push_record(key, ticket, frame);
        self.stats.records += 1;
        Ok(())
    }

    /// Notes that a machine needs its records at or before `upto` no more.
    ///
    /// A later burst states it on disk; segments are recycled once that burst is durable. What was
    /// never appended is not released, and a mark never goes back.
    pub fn release(&mut self, key: Key, upto: Ticket) {
        if let Some(upto) = self.index.release(key, upto) {
            self.releases.insert(key, upto);
        }
    }

    /// Writes the pending burst in one vectored write, closed by a commit frame; at recovery a
    /// burst is there as a whole or not at all. Without records it writes only if that lets it
    /// recycle a segment.
    ///
    /// # Errors
    /// [`WalError::Disk`] poisons the journal.
    pub fn write(&mut self) -> Result<BurstEnd, WalError> {
        self.check_poison()?;
        if !self.burst.is_empty() || self.frees_segment() {
            let done = self.write_burst();
            self.judge(done)?;
        }
        Ok(self.active.end())
    }

    /// Makes every written burst durable, with one `fdatasync`; without any, does nothing.
    ///
    /// # Errors
    /// [`WalError::Disk`] poisons the journal: a failed sync is never tried again.
    pub fn sync(&mut self) -> Result<BurstEnd, WalError> {
        self.check_poison()?;
        let done = self.sync_active();
        self.judge(done)?;
        Ok(self.synced)
    }

    /// [`write`](Self::write), then [`sync`](Self::sync): all that waits, durable at once.
    ///
    /// # Errors
    /// As those.
    pub fn commit(&mut self) -> Result<BurstEnd, WalError> {
        self.write()?;
        self.sync()
    }

    /// Writes a mark that everything is durable, if everything is and no mark says so yet.
    ///
    /// Call it when there is nothing to do. The mark is not synced: the kernel takes it to disk in
    /// its own time, or with the next burst. Afterwards damage anywhere is known as such.
    ///
    /// # Errors
    /// [`WalError::Disk`] poisons the journal.
    pub fn idle(&mut self) -> Result<BurstEnd, WalError> {
        self.check_poison()?;
        let settled = self.burst.is_empty() && self.synced == self.active.end();
        if settled && self.stated < self.content_end {
            // Releases that no burst has stated yet free nothing.
            let done = self.write_frames(self.first_written);
            self.judge(done)?;
            self.stats.marks += 1;
        }
        Ok(self.synced)
    }

    /// Bytes on disk, preallocated ones and spares included.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let sealed: u64 = self.sealed.iter().map(|(_, len)| len).sum();
        self.active.len + sealed + self.spares.len() as u64 * self.options.segment_bytes
    }

    /// Bytes on disk of what is needed: what a checkpoint can make less of. Spares, and what is
    /// preallocated, are there whatever machines release.
    #[must_use]
    pub fn needed_bytes(&self) -> u64 {
        self.active.end + self.sealed.iter().map(|(_, len)| len).sum::<u64>()
    }

    /// The machine with the oldest written record that is not released, and the ticket to hand it
    /// as `Checkpoint { before }`: once it has released all before that, it pins the oldest
    /// segment no longer.
    #[must_use]
    pub fn oldest_live(&self) -> Option<(Key, Ticket)> {
        self.index.oldest_live()
    }

    /// Bytes appended that wait for [`write`](Self::write).
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.burst.len()
    }

    /// Up to where everything is durable.
    #[must_use]
    pub fn synced(&self) -> BurstEnd {
        self.synced
    }

    /// True once an effect has failed.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    /// What was done since opening.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn resume(disk: D, lock: D::Lock, options: Options, state: State<D::File>) -> (Self, Recovery) {
        let State { contents, mut segments, spares, file, end, tail, fresh } = state;
        let (sequence, len) = segments.pop().expect("recovery ends with the active segment");
        let mut index = Index::default();
        for (key, last) in &contents.last {
            index.taken(*key, *last);
        }
        for (key, upto) in &contents.released {
            index.release(*key, *upto);
        }
        // Collected in place, as the standard library can here: a long journal is in memory once.
        let known = contents.records.into_iter().map(|(at, record)| {
            index.written(record.0, record.1, at);
            record
        });
        let records = known.collect();
        let seed = seed(options.owner, sequence);
        let recovery =
            Recovery { records, released: contents.released.into_iter().collect(), tail, fresh };
        let wal = Self {
            disk,
            _lock: lock,
            options,
            active: Active {
                file,
                name: segment_name(sequence),
                sequence,
                len,
                end: end.offset,
                seed,
            },
            sealed: segments.into(),
            spares,
            burst: Burst::default(),
            index,
            releases: BTreeMap::new(),
            repeat_marks: end.offset == HEADER_BYTES,
            synced: end,
            stated: contents.synced,
            content_end: contents.content_end,
            first_written: contents.first,
            first_durable: contents.first,
            chain: contents.chain,
            poison: None,
            stats: Stats::default(),
        };
        (wal, recovery)
    }

    fn check_poison(&self) -> Result<(), WalError> {
        match &self.poison {
            None => Ok(()),
            Some((operation, file)) => Err(WalError::Poisoned { operation, file: file.clone() }),
        }
    }

    fn judge<T>(&mut self, done: Result<T, DiskError>) -> Result<T, WalError> {
        done.map_err(|error| {
            self.poison = Some((error.operation, error.file.clone()));
            error.into()
        })
    }

    /// True when stating the releases would let go of a segment.
    fn frees_segment(&self) -> bool {
        let needed = self.index.oldest_segment().unwrap_or(self.active.sequence);
        !self.releases.is_empty() && self.sealed.front().is_some_and(|(oldest, _)| *oldest < needed)
    }

    fn write_burst(&mut self) -> Result<(), DiskError> {
        // Room for one mark is always left, so that `idle` never needs a new segment.
        let mut need = self.burst.len_with(self.releases_due()) + COMMIT_BYTES;
        if need > self.active.len - self.active.end {
            self.repeat_marks = true;
            need = self.burst.len_with(self.releases_due()) + COMMIT_BYTES;
            self.rotate(need)?;
        }
        let base = self.active.end();
        for run in self.burst.runs() {
            let at = Position { offset: base.offset + run.at, ..base };
            self.index.written(run.key, run.last, at);
        }
        if self.repeat_marks {
            if self.releases_due() > 0 {
                self.burst.push_releases(self.index.released());
            }
        } else if !self.releases.is_empty() {
            self.burst.push_releases(self.releases.iter().map(|(key, upto)| (*key, *upto)));
        }
        let first = self.index.oldest_segment().unwrap_or(base.segment);
        self.write_frames(first)?;
        self.releases.clear();
        self.repeat_marks = false;
        self.content_end = self.active.end();
        self.stats.bursts += 1;
        Ok(())
    }

    /// Release marks that the next burst will state: after a rotation those of all machines, so
    /// that no older segment is needed for them.
    fn releases_due(&self) -> usize {
        if self.repeat_marks { self.index.released().count() } else { self.releases.len() }
    }

    /// Writes what the burst holds, which may be nothing, and its commit.
    fn write_frames(&mut self, first: u64) -> Result<(), DiskError> {
        let active = &mut self.active;
        let commit = Commit { synced: self.synced, first, start: active.end, frames: 0 };
        self.chain = self.burst.seal(active.seed, self.chain, commit);
        let len = self.burst.len();
        active.file.write_at(active.end, &self.burst.slices()).named("write", &active.name)?;
        self.burst.clear();
        active.end += len;
        self.stats.bytes += len;
        self.stated = commit.synced;
        self.first_written = first;
        Ok(())
    }

    fn sync_active(&mut self) -> Result<(), DiskError> {
        if self.synced == self.active.end() {
            return Ok(());
        }
        self.active.file.sync().named("sync", &self.active.name)?;
        self.stats.syncs += 1;
        self.synced = self.active.end();
        self.first_durable = self.first_written;
        self.recycle()
    }

    /// Turns segments that nothing durable needs any more into spares.
    fn recycle(&mut self) -> Result<(), DiskError> {
        let mut changed = false;
        let mut renamed = Vec::new();
        while let Some((sequence, len)) = self.sealed.front().copied() {
            if sequence >= self.first_durable {
                break;
            }
            let name = segment_name(sequence);
            let room = self.spares.len() + renamed.len() < self.options.spares_max;
            if room && len == self.options.segment_bytes {
                let spare = spare_name(sequence);
                self.disk.rename(&name, &spare).named("rename", &name)?;
                renamed.push(spare);
            } else {
                self.disk.remove(&name).named("remove", &name)?;
            }
            self.sealed.pop_front();
            changed = true;
        }
        if changed {
            // Only a durable spare may get a new header: under its old name that would be damage.
            self.disk.sync_dir().named("sync", ".")?;
            self.spares.append(&mut renamed);
        }
        Ok(())
    }

    /// Makes the next segment, with room for `need` bytes, the active one.
    fn rotate(&mut self, need: u64) -> Result<(), DiskError> {
        self.sync_active()?;
        let sequence = self.active.sequence + 1;
        let least = (HEADER_BYTES + need).next_multiple_of(HEADER_BYTES);
        let len = least.max(self.options.segment_bytes);
        let spare = if len == self.options.segment_bytes { self.spares.pop() } else { None };
        let (file, spare) = match spare {
            Some(name) => {
                let file = self.disk.open(&name).named("open", &name)?;
                self.stats.segments_recycled += 1;
                (file, name)
            }
            None => {
                let name = spare_name(sequence);
                let file = self.disk.create(&name, len).named("create", &name)?;
                self.stats.segments_created += 1;
                (file, name)
            }
        };
        let (version, owner, chain) = (VERSION, self.options.owner, self.chain);
        let (previous_end, first) = (self.active.end, self.first_durable);
        let header = Header { version, owner, sequence, len, previous_end, chain, first };
        install(&self.disk, &file, &spare, &header)?;
        self.sealed.push_back((self.active.sequence, self.active.len));
        let (name, seed) = (segment_name(sequence), seed(owner, sequence));
        self.active = Active { file, name, sequence, len, end: HEADER_BYTES, seed };
        self.synced = self.active.end();
        self.stated = self.synced;
        Ok(())
    }
}

impl<D: Disk> std::fmt::Debug for Wal<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Wal");
        out.field("end", &self.active.end()).field("synced", &self.synced);
        out.field("poison", &self.poison).field("stats", &self.stats).finish_non_exhaustive()
    }
}

fn check_sizes(frame: &Frame) -> Result<(), WalError> {
    let check = |field, value, max| {
        if value > max { Err(WalError::TooLarge { field, value, max }) } else { Ok(()) }
    };
    check("head", frame.head.len(), HEAD_BYTES_MAX)?;
    check("attachment count", frame.attachments.as_slice().len(), ATTACHMENTS_MAX)?;
    check("length", frame.flat_len(), RECORD_BYTES_MAX)
}
