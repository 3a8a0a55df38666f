//! A disk in memory that does to unsynced bytes what real disks do, by seed.
//!
//! What a running process sees is the cache; what a power loss leaves is the disk, plus a seeded
//! choice of the sectors and names that were not synced. A process that dies leaves the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_transport::Rng;

use crate::disk::{Disk, DiskFile};

const SECTOR: usize = 512;

/// What one call does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `EIO`. A write may be partly done; after a sync, unsynced bytes are readable, clean, and
    /// will never reach the disk, as on Linux.
    Io,
    /// `ENOSPC`; a write may be partly done.
    NoSpace,
    /// The process dies during the call; every later call fails until
    /// [`SimDisk::kill`] or [`SimDisk::power_loss`].
    Crash,
}

/// What has befallen a [`SimDisk`] in all its lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Sectors that were written, not synced, and lost with the power.
    pub lost: u64,
    /// Sectors of which a power loss left a part.
    pub torn: u64,
    /// Power losses that kept a later write and lost an earlier one, or kept an older version.
    pub reordered: u64,
    /// Syncs that failed.
    pub syncs: u64,
    /// Writes that failed and were partly done.
    pub short_writes: u64,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    cache: Vec<u8>,
    disk: Vec<u8>,
    /// Versions of each sector since it was last synced, oldest first.
    dirty: BTreeMap<usize, Vec<[u8; SECTOR]>>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, usize),
    Unlink(String),
    /// From, to, and the file itself: its new name leads to it whatever became of its old one.
    Rename(String, String, usize),
}

#[derive(Clone, Debug)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<NameChange>,
    faults: BTreeMap<u64, Fault>,
    calls: u64,
    last_call: (&'static str, usize, u64, u64),
    down: bool,
    epoch: u64,
    locked: bool,
    rng: Rng,
    troubles: Troubles,
}

/// A handle on one simulated directory; clones share it.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty directory. The seed decides how much of a failing call is done.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            faults: BTreeMap::new(),
            calls: 0,
            last_call: ("none", 0, 0, 0),
            down: false,
            epoch: 0,
            locked: false,
            rng: Rng::new(seed),
            troubles: Troubles::default(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// An independent copy of everything, for trying out several futures.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        let mut state = self.state().clone();
        state.rng = Rng::new(seed);
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// How many calls were made, failed ones included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// What has befallen it so far.
    #[must_use]
    pub fn troubles(&self) -> Troubles {
        self.state().troubles
    }

    /// The last call, for messages: `write file 3 4096+120`.
    #[must_use]
    pub fn last_call(&self) -> String {
        let (what, file, at, len) = self.state().last_call;
        format!("{what} file {file} {at}+{len}")
    }

    /// Lets the call of this number (the first is 1) fail.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        self.state().faults.insert(call, fault);
    }

    /// Forgets all faults that have not struck.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// True between a [`Fault::Crash`] and the `kill` or `power_loss` after it.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.state().down
    }

    /// The process dies: its open files and its lock are void, all that was written is still
    /// readable, and another may open the directory at once.
    pub fn kill(&self) {
        let mut state = self.state();
        state.down = false;
        state.locked = false;
        state.epoch += 1;
        state.faults.clear();
    }

    /// Power went and came back: of what was not synced, a seeded choice of sectors (some of an
    /// older version, some torn) and of name changes is left.
    ///
    /// Every fourth seed loses all of it, and every fourth keeps all.
    pub fn power_loss(&self, seed: u64) {
        self.kill();
        let mut state = self.state();
        let state = &mut *state;
        let mut rng = Rng::new(seed).fork(0x9d);
        let mut keep = |rng: &mut Rng| match seed % 4 {
            0 => false,
            1 => true,
            _ => rng.below(2) == 0,
        };
        for change in std::mem::take(&mut state.unsynced_names) {
            if keep(&mut rng) {
                apply(&mut state.durable_names, change);
            }
        }
        state.names = state.durable_names.clone();
        for inode in &mut state.inodes {
            inode.lose(&mut rng, &mut keep, &mut state.troubles);
        }
    }

    /// All names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// The bytes of a file as a process would read them.
    #[must_use]
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(name).map(|inode| state.inodes[*inode].cache.clone())
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let state = self.state();
        state.names.values().map(|inode| state.inodes[*inode].cache.len() as u64).sum()
    }

    /// Flips one bit of a file, in cache and on disk.
    ///
    /// # Panics
    /// When there is no such file or bit.
    pub fn flip(&self, name: &str, bit: usize) {
        let mut state = self.state();
        let inode = state.names[name];
        let inode = &mut state.inodes[inode];
        inode.cache[bit / 8] ^= 1 << (bit % 8);
        if let Some(byte) = inode.disk.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
    }

    /// Puts a durable file there, whatever was there before.
    pub fn plant(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        let (cache, disk) = (bytes.to_vec(), bytes.to_vec());
        state.inodes.push(Inode { cache, disk, dirty: BTreeMap::new() });
        let inode = state.inodes.len() - 1;
        state.names.insert(name.to_owned(), inode);
        state.durable_names.insert(name.to_owned(), inode);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, what: &'static str, change: NameChange) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.call((what, 0, 0, 0))?;
        let done = match fault {
            None => true,
            Some(Fault::Crash) => state.rng.below(2) == 0,
            Some(_) => false,
        };
        if done {
            state.change_names(change)?;
        }
        fault.map_or(Ok(()), |fault| Err(error(fault)))
    }

    fn file(&self, inode: usize) -> SimFile {
        SimFile { disk: self.clone(), inode, epoch: self.state().epoch }
    }
}

impl State {
    /// Counts a call; the fault that strikes it, if any.
    fn call(&mut self, what: (&'static str, usize, u64, u64)) -> io::Result<Option<Fault>> {
        if self.down {
            return Err(error(Fault::Crash));
        }
        self.calls += 1;
        self.last_call = what;
        let fault = self.faults.remove(&self.calls);
        self.down = fault == Some(Fault::Crash);
        Ok(fault)
    }

    /// Frees the bytes of files that no name leads to.
    fn collect(&mut self) {
        let used: BTreeSet<usize> = self.names.values().copied().collect();
        for (number, inode) in self.inodes.iter_mut().enumerate() {
            if !inode.cache.is_empty() && !used.contains(&number) {
                *inode = Inode::default();
            }
        }
    }

    fn change_names(&mut self, mut change: NameChange) -> io::Result<()> {
        match &mut change {
            NameChange::Link(..) => {}
            NameChange::Unlink(name) => {
                self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
            }
            NameChange::Rename(from, _, inode) => {
                *inode = *self.names.get(from).ok_or(io::ErrorKind::NotFound)?;
            }
        }
        apply(&mut self.names, change.clone());
        self.unsynced_names.push(change);
        Ok(())
    }
}

impl Inode {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR..=(end - 1) / SECTOR {
            let version = sector_of(&self.cache, sector);
            self.dirty.entry(sector).or_default().push(version);
        }
    }

    fn sync(&mut self) {
        self.disk.resize(self.cache.len(), 0);
        for sector in std::mem::take(&mut self.dirty).into_keys() {
            put_sector(&mut self.disk, sector, &sector_of(&self.cache, sector));
        }
    }

    fn lose(
        &mut self,
        rng: &mut Rng,
        keep: &mut impl FnMut(&mut Rng) -> bool,
        troubles: &mut Troubles,
    ) {
        let (mut lost, mut reordered) = (false, false);
        if self.disk.len() < self.cache.len() && keep(rng) {
            self.disk.resize(self.cache.len(), 0);
        }
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            if !keep(rng) {
                troubles.lost += 1;
                lost = true;
                continue;
            }
            reordered |= lost;
            let latest = versions.len() - 1;
            let picked =
                if rng.below(4) == 0 { rng.below(versions.len() as u64) as usize } else { latest };
            reordered |= picked != latest;
            let mut bytes = versions[picked];
            if rng.below(8) == 0 {
                let cut = rng.below(SECTOR as u64) as usize;
                troubles.torn += 1;
                bytes[cut..].copy_from_slice(&sector_of(&self.disk, sector)[cut..]);
            }
            let end = ((sector + 1) * SECTOR).min(self.cache.len());
            if self.disk.len() < end {
                self.disk.resize(end, 0);
            }
            put_sector(&mut self.disk, sector, &bytes);
        }
        troubles.reordered += u64::from(reordered);
        self.cache.clone_from(&self.disk);
    }
}

fn sector_of(bytes: &[u8], sector: usize) -> [u8; SECTOR] {
    let mut out = [0; SECTOR];
    let start = (sector * SECTOR).min(bytes.len());
    let end = (start + SECTOR).min(bytes.len());
    out[..end - start].copy_from_slice(&bytes[start..end]);
    out
}

fn put_sector(bytes: &mut [u8], sector: usize, version: &[u8; SECTOR]) {
    let start = (sector * SECTOR).min(bytes.len());
    let end = (start + SECTOR).min(bytes.len());
    bytes[start..end].copy_from_slice(&version[..end - start]);
}

fn apply(names: &mut BTreeMap<String, usize>, change: NameChange) {
    match change {
        NameChange::Link(name, inode) => {
            names.insert(name, inode);
        }
        NameChange::Unlink(name) => {
            names.remove(&name);
        }
        NameChange::Rename(from, to, inode) => {
            if names.get(&from) == Some(&inode) {
                names.remove(&from);
            }
            names.insert(to, inode);
        }
    }
}

fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::Io => io::Error::other("simulated EIO"),
        Fault::NoSpace => io::Error::new(io::ErrorKind::StorageFull, "simulated ENOSPC"),
        Fault::Crash => io::Error::other("simulated crash"),
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn list(&self) -> io::Result<Vec<String>> {
        let fault = self.state().call(("list", 0, 0, 0))?;
        fault.map_or_else(|| Ok(self.names()), |fault| Err(error(fault)))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<SimFile> {
        let mut state = self.state();
        let fault = state.call(("create", 0, 0, len))?;
        let want = len as usize;
        let len = if fault.is_none() { want } else { state.rng.below(len + 1) as usize };
        state.inodes.push(Inode { cache: vec![0; len], ..Inode::default() });
        let inode = state.inodes.len() - 1;
        state.change_names(NameChange::Link(name.to_owned(), inode))?;
        drop(state);
        fault.map_or_else(|| Ok(self.file(inode)), |fault| Err(error(fault)))
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let mut state = self.state();
        if let Some(fault) = state.call(("open", 0, 0, 0))? {
            return Err(error(fault));
        }
        let inode = state.names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        drop(state);
        Ok(self.file(inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let change = NameChange::Rename(from.to_owned(), to.to_owned(), 0);
        self.change("rename", change)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change("remove", NameChange::Unlink(name.to_owned()))
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        if let Some(fault) = state.call(("sync directory", 0, 0, 0))? {
            return Err(error(fault));
        }
        state.unsynced_names.clear();
        state.durable_names = state.names.clone();
        state.collect();
        Ok(())
    }

    fn lock(&self) -> io::Result<SimLock> {
        let mut state = self.state();
        if let Some(fault) = state.call(("lock", 0, 0, 0))? {
            return Err(error(fault));
        }
        if state.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locked = true;
        Ok(SimLock { disk: self.clone(), epoch: state.epoch })
    }
}

/// The lock on a [`SimDisk`].
#[derive(Debug)]
pub struct SimLock {
    disk: SimDisk,
    epoch: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.epoch == self.epoch {
            state.locked = false;
        }
    }
}

/// An open file of a [`SimDisk`]; void once the process is killed.
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    inode: usize,
    epoch: u64,
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.epoch == self.epoch { Ok(state) } else { Err(error(Fault::Crash)) }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.state()?;
        let fault = state.call(("measure", self.inode, 0, 0))?;
        fault.map_or_else(|| Ok(state.inodes[self.inode].cache.len() as u64), |f| Err(error(f)))
    }

    fn write_at(&self, offset: u64, bufs: &[io::IoSlice<'_>]) -> io::Result<()> {
        let mut state = self.state()?;
        let len: usize = bufs.iter().map(|buf| buf.len()).sum();
        let fault = state.call(("write", self.inode, offset, len as u64))?;
        let mut left = match fault {
            None => len,
            Some(_) => state.rng.below(len as u64 + 1) as usize,
        };
        state.troubles.short_writes += u64::from(fault.is_some() && 0 < left && left < len);
        let mut at = offset as usize;
        for buf in bufs {
            let now = left.min(buf.len());
            state.inodes[self.inode].write(at, &buf[..now]);
            (at, left) = (at + now, left - now);
        }
        fault.map_or(Ok(()), |fault| Err(error(fault)))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut state = self.state()?;
        if let Some(fault) = state.call(("read", self.inode, offset, buf.len() as u64))? {
            return Err(error(fault));
        }
        let cache = &state.inodes[self.inode].cache;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = from.saturating_add(buf.len());
        let bytes = cache.get(from..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let fault = state.call(("sync", self.inode, 0, 0))?;
        state.troubles.syncs += u64::from(matches!(fault, Some(Fault::Io | Fault::NoSpace)));
        let inode = &mut state.inodes[self.inode];
        match fault {
            None => inode.sync(),
            Some(Fault::Crash) => {}
            // The kernel forgets that they were dirty.
            Some(_) => inode.dirty.clear(),
        }
        fault.map_or(Ok(()), |fault| Err(error(fault)))
    }
}
