//! Snapshots beside the journal: written aside, given their name once durable, verified at every
//! read.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};

use bytes::Bytes;
use quorate_transport::{Key, SnapshotId, StoreError, StoreOp, Stored, crc32c_append};

use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, DiskError, Named, OpenError};
use crate::format::{HEADER_BYTES, VERSION, u32_at};
use crate::layout::{
    BLOCK_BYTES, MAKING, SNAPSHOT, SnapshotHeader, block_seed, parse_name, snapshot_name,
};
use crate::real::LOCK_NAME;

/// The longest answer to one read, whatever was asked for.
const CHUNK_BYTES_MAX: u32 = 1 << 20;
/// Bytes of a snapshot in the making that may wait to be synced: few, so that the disk is never
/// busy with them for long while the journal waits.
const UNSYNCED_BYTES_MAX: u64 = 4 << 20;
/// Snapshots in the making of one machine; beginning another drops the one of the lowest id.
const MAKING_MAX: usize = 4;

/// A finished snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub id: SnapshotId,
    /// Its length in bytes.
    pub len: u64,
    /// The CRC-32C of all its bytes.
    pub checksum: u32,
}

#[derive(Debug)]
struct Finished {
    len: u64,
    checksum: u32,
    /// One checksum for each block.
    blocks: Vec<u32>,
}

#[derive(Debug)]
struct Making<F> {
    file: F,
    len: u64,
    /// How much of that is known to be on disk.
    synced: u64,
    checksum: u32,
    /// The checksum of each block begun.
    blocks: Vec<u32>,
}

/// The snapshots of all machines of a node, in a directory of their own.
///
/// - Input and effect: [`apply`](Self::apply), which touches the disk before it returns; the host
///   decides on which thread.
/// - Getters: the rest.
///
/// A snapshot is there once [`Stored::Finished`] was answered: whole, synced, under its name. One
/// in the making is gone after a restart. A failure concerns the one snapshot, except that of
/// naming one: then nothing is finished or removed any more until the store is opened again.
pub struct SnapshotStore<D: Disk> {
    disk: D,
    _lock: D::Lock,
    finished: BTreeMap<(Key, SnapshotId), Finished>,
    making: BTreeMap<(Key, SnapshotId), Making<D::File>>,
    /// The finished snapshot that was read last.
    reading: Option<((Key, SnapshotId), D::File)>,
    failure: Option<DiskError>,
}

impl<D: Disk> SnapshotStore<D> {
    /// Opens the snapshots of a directory that holds nothing else.
    ///
    /// What is listed afterwards is durable, file and name; its bytes are verified when read.
    ///
    /// # Errors
    /// [`OpenError`]: the directory is locked, not ours, damaged, or the disk failed. Nothing was
    /// changed, except that snapshots in the making may be gone.
    pub fn open(disk: D) -> Result<Self, OpenError> {
        let lock = match disk.lock() {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(OpenError::Locked);
            }
            Err(error) => return Err(OpenError::Disk(named("lock", ".", error))),
        };
        let mut finished = BTreeMap::new();
        let mut remains = Vec::new();
        for name in disk.list().named("list", ".")? {
            if let Some(whose) = parse_name(&name, SNAPSHOT) {
                finished.insert(whose, load(&disk, &name, whose)?);
            } else if parse_name(&name, MAKING).is_some() {
                remains.push(name);
            } else if name != LOCK_NAME {
                return Err(OpenError::Foreign { name });
            }
        }
        for name in remains {
            disk.remove(&name).named("remove", &name)?;
        }
        // A process that died may have left names that were never synced.
        disk.sync_dir().named("sync", ".")?;
        let making = BTreeMap::new();
        Ok(Self { disk, _lock: lock, finished, making, reading: None, failure: None })
    }

    /// Does what a machine asked for.
    ///
    /// A write or removal that succeeds is not answered. A read is answered with at most 1 MiB,
    /// and beyond the end with nothing.
    pub fn apply(&mut self, key: Key, op: StoreOp) -> Option<Stored> {
        let tag = if let StoreOp::Read { tag, .. } = &op { *tag } else { 0 };
        let (id, done) = match op {
            StoreOp::Write { id, offset, bytes } => {
                (id, self.write(key, id, offset, &bytes).map(|()| None))
            }
            StoreOp::Finish { id, len, checksum } => {
                let done = self.finish(key, id, len, checksum);
                (id, done.map(|()| Some(Stored::Finished { id })))
            }
            StoreOp::Read { id, offset, len_max, tag } => {
                let chunk = |(bytes, len)| Some(Stored::Chunk { id, offset, bytes, len, tag });
                (id, self.read(key, id, offset, len_max).map(chunk))
            }
            StoreOp::RemoveBefore { id } => (id, self.remove_before(key, id).map(|()| None)),
        };
        done.unwrap_or_else(|error| Some(Stored::Failed { id, error, tag }))
    }

    /// The finished snapshots of a machine, oldest first.
    #[must_use]
    pub fn list(&self, key: Key) -> Vec<Snapshot> {
        let all = SnapshotId { index: 0, term: 0 }..=SnapshotId { index: u64::MAX, term: u64::MAX };
        let range = (key, *all.start())..=(key, *all.end());
        let one = |((_, id), finished): (&(Key, SnapshotId), &Finished)| Snapshot {
            id: *id,
            len: finished.len,
            checksum: finished.checksum,
        };
        self.finished.range(range).map(one).collect()
    }

    /// Bytes on disk of all finished snapshots and those in the making.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let finished = self.finished.values().map(|one| one.len + 4 * one.blocks.len() as u64);
        let making = self.making.values().map(|one| one.len);
        finished.chain(making).map(|bytes| HEADER_BYTES + bytes).sum()
    }

    /// Why nothing is finished or removed any more: naming or removing a snapshot has failed. A
    /// node must stop then, for without snapshots its log can neither shrink nor be caught up.
    #[must_use]
    pub fn failure(&self) -> Option<&DiskError> {
        self.failure.as_ref()
    }

    /// Gives the store up, with what [`failure`](Self::failure) said.
    #[must_use]
    pub fn into_failure(self) -> Option<DiskError> {
        self.failure
    }

    fn write(
        &mut self,
        key: Key,
        id: SnapshotId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        if offset == 0 {
            self.begin(key, id)?;
        }
        let making = self.making.get_mut(&(key, id)).ok_or(StoreError::Missing)?;
        if making.len != offset {
            self.forget(key, id);
            return Err(StoreError::Mismatch);
        }
        let done = making.file.write_at(HEADER_BYTES + offset, &[IoSlice::new(bytes)]);
        if done.is_err() {
            self.forget(key, id);
            return Err(StoreError::Disk);
        }
        making.append(key, id, bytes);
        if making.len - making.synced >= UNSYNCED_BYTES_MAX {
            making.synced = making.len;
            if making.file.sync().is_err() {
                self.forget(key, id);
                return Err(StoreError::Disk);
            }
        }
        Ok(())
    }

    fn begin(&mut self, key: Key, id: SnapshotId) -> Result<(), StoreError> {
        self.making.remove(&(key, id));
        let mut others = self.making.keys().filter(|(owner, _)| *owner == key);
        let lowest = others.next().copied();
        if let Some((_, lowest)) = lowest.filter(|_| others.count() + 1 >= MAKING_MAX) {
            self.forget(key, lowest);
        }
        let name = snapshot_name(MAKING, key, id);
        let file = self.disk.create(&name, HEADER_BYTES).map_err(|_| {
            // As much as there is of it is in the way of nothing but its space.
            let _ = self.disk.remove(&name);
            StoreError::Disk
        })?;
        let making = Making { file, len: 0, synced: 0, checksum: 0, blocks: Vec::new() };
        self.making.insert((key, id), making);
        Ok(())
    }

    /// Drops a snapshot in the making; what cannot be removed now, the next open removes.
    fn forget(&mut self, key: Key, id: SnapshotId) {
        self.making.remove(&(key, id));
        let _ = self.disk.remove(&snapshot_name(MAKING, key, id));
    }

    fn finish(
        &mut self,
        key: Key,
        id: SnapshotId,
        len: u64,
        checksum: u32,
    ) -> Result<(), StoreError> {
        let Some(making) = self.making.get(&(key, id)) else {
            let same = |one: &Finished| one.len == len && one.checksum == checksum;
            let there = self.finished.get(&(key, id)).is_some_and(same);
            return if there { Ok(()) } else { Err(StoreError::Missing) };
        };
        if (making.len, making.checksum) != (len, checksum) {
            self.forget(key, id);
            return Err(StoreError::Mismatch);
        }
        if self.failure.is_some() || making.seal(key, id).is_err() {
            // Its bytes are never synced again: a later attempt makes a new file.
            self.forget(key, id);
            return Err(StoreError::Disk);
        }
        let making = self.making.remove(&(key, id)).ok_or(StoreError::Missing)?;
        let (from, to) = (snapshot_name(MAKING, key, id), snapshot_name(SNAPSHOT, key, id));
        let renamed = self.disk.rename(&from, &to).named("rename", &to);
        let named = renamed.and_then(|()| self.disk.sync_dir().named("sync", "."));
        if self.reading.as_ref().is_some_and(|(whose, _)| *whose == (key, id)) {
            self.reading = None;
        }
        if let Err(failure) = named {
            self.failure = Some(failure);
            self.finished.remove(&(key, id));
            return Err(StoreError::Disk);
        }
        let blocks = making.blocks;
        self.finished.insert((key, id), Finished { len, checksum, blocks });
        Ok(())
    }

    fn read(
        &mut self,
        key: Key,
        id: SnapshotId,
        offset: u64,
        len_max: u32,
    ) -> Result<(Bytes, u64), StoreError> {
        let whose = (key, id);
        let finished = self.finished.get(&whose).ok_or(StoreError::Missing)?;
        let end = offset.saturating_add(u64::from(len_max.min(CHUNK_BYTES_MAX))).min(finished.len);
        if offset >= end {
            return Ok((Bytes::new(), finished.len));
        }
        if self.reading.as_ref().is_none_or(|(open, _)| *open != whose) {
            let name = snapshot_name(SNAPSHOT, key, id);
            let file = self.disk.open(&name).map_err(|_| StoreError::Disk)?;
            self.reading = Some((whose, file));
        }
        let Some((_, file)) = &self.reading else {
            return Err(StoreError::Disk);
        };
        let first = offset / BLOCK_BYTES;
        let from = first * BLOCK_BYTES;
        let to = end.next_multiple_of(BLOCK_BYTES).min(finished.len);
        let mut bytes = vec![0; (to - from) as usize];
        if file.read_at(HEADER_BYTES + from, &mut bytes).is_err() {
            return Err(StoreError::Disk);
        }
        for (block, number) in bytes.chunks(BLOCK_BYTES as usize).zip(first..) {
            let found = crc32c_append(block_seed(key, id, number), block);
            if finished.blocks.get(number as usize) != Some(&found) {
                return Err(StoreError::Mismatch);
            }
        }
        let bytes = Bytes::from(bytes).slice((offset - from) as usize..(end - from) as usize);
        Ok((bytes, finished.len))
    }

    /// Not synced: what a power loss brings back, the next removal takes away again.
    fn remove_before(&mut self, key: Key, id: SnapshotId) -> Result<(), StoreError> {
        if self.failure.is_some() {
            return Err(StoreError::Disk);
        }
        let old: Vec<_> = self.list(key).into_iter().filter(|one| one.id < id).collect();
        for one in old {
            let whose = (key, one.id);
            self.finished.remove(&whose);
            self.reading.take_if(|(open, _)| *open == whose);
            let name = snapshot_name(SNAPSHOT, key, one.id);
            if let Err(failure) = self.disk.remove(&name).named("remove", &name) {
                self.failure = Some(failure);
                return Err(StoreError::Disk);
            }
        }
        Ok(())
    }
}

impl<D: Disk> std::fmt::Debug for SnapshotStore<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("SnapshotStore");
        out.field("finished", &self.finished.keys()).field("making", &self.making.keys());
        out.field("failure", &self.failure).finish_non_exhaustive()
    }
}

impl<F: DiskFile> Making<F> {
    fn append(&mut self, key: Key, id: SnapshotId, mut bytes: &[u8]) {
        self.checksum = crc32c_append(self.checksum, bytes);
        while !bytes.is_empty() {
            let number = self.len / BLOCK_BYTES;
            let room = ((number + 1) * BLOCK_BYTES - self.len) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if self.len.is_multiple_of(BLOCK_BYTES) {
                self.blocks.push(block_seed(key, id, number));
            }
            if let Some(block) = self.blocks.last_mut() {
                *block = crc32c_append(*block, now);
            }
            self.len += now.len() as u64;
            bytes = later;
        }
    }

    /// Writes the table of blocks and the header, and makes the whole file durable.
    fn seal(&self, key: Key, id: SnapshotId) -> io::Result<()> {
        let table: Vec<u8> = self.blocks.iter().flat_map(|block| block.to_le_bytes()).collect();
        let header = SnapshotHeader {
            version: VERSION,
            key,
            id,
            len: self.len,
            checksum: self.checksum,
            table: crc32c_append(0, &table),
        };
        self.file.write_at(HEADER_BYTES + self.len, &[IoSlice::new(&table)])?;
        self.file.write_at(0, &[IoSlice::new(&header.encode())])?;
        self.file.sync()
    }
}

/// The header and table of a finished snapshot; its bytes are verified when read.
fn load<D: Disk>(
    disk: &D,
    name: &str,
    (key, id): (Key, SnapshotId),
) -> Result<Finished, OpenError> {
    let corrupt = |offset, reason| OpenError::Corrupt { file: name.to_owned(), offset, reason };
    let file = disk.open(name).named("open", name)?;
    let found = file.len().named("measure", name)?;
    if found < HEADER_BYTES {
        return Err(corrupt(0, Damage::FileLength { found, expected: HEADER_BYTES }));
    }
    let mut page = vec![0; HEADER_BYTES as usize];
    file.read_at(0, &mut page).named("read", name)?;
    let header = SnapshotHeader::decode(&page).map_err(|reason| corrupt(0, reason))?;
    if header.version != VERSION {
        let (file, found) = (name.to_owned(), header.version);
        return Err(OpenError::Version { file, found, expected: VERSION });
    }
    if (header.key, header.id) != (key, id) {
        return Err(corrupt(0, Damage::Contents));
    }
    let at = HEADER_BYTES.saturating_add(header.len);
    let table = header.len.div_ceil(BLOCK_BYTES).saturating_mul(4);
    let expected = at.saturating_add(table);
    if found != expected {
        return Err(corrupt(0, Damage::FileLength { found, expected }));
    }
    let mut bytes = vec![0; table as usize];
    file.read_at(at, &mut bytes).named("read", name)?;
    if crc32c_append(0, &bytes) != header.table {
        return Err(corrupt(at, Damage::Checksum));
    }
    let blocks = bytes.chunks_exact(4).map(|block| u32_at(block, 0)).collect();
    Ok(Finished { len: header.len, checksum: header.checksum, blocks })
}

fn named(operation: &'static str, file: &str, source: io::Error) -> crate::DiskError {
    crate::DiskError { operation, file: file.to_owned(), source }
}
