//! A disk in memory that never fails and never makes anyone wait.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};

/// A directory in memory, gone with its last clone; clones share it.
///
/// For nodes that need not survive their process. It takes all memory it is asked for, and has no
/// faults to offer: tests of what survives use the simulated disk.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    files: Mutex<BTreeMap<String, MemFile>>,
    locked: Mutex<bool>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner) // no step leaves it half done
}

impl MemDisk {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        held(&self.shared.files).values().map(|file| held(&file.0).len() as u64).sum()
    }
}

impl Disk for MemDisk {
    type File = MemFile;
    type Lock = MemLock;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(held(&self.shared.files).keys().cloned().collect())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<MemFile> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let file = MemFile(Arc::new(Mutex::new(vec![0; len])));
        held(&self.shared.files).insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<MemFile> {
        held(&self.shared.files).get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = held(&self.shared.files);
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let gone = held(&self.shared.files).remove(name);
        gone.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<MemLock> {
        if std::mem::replace(&mut *held(&self.shared.locked), true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(MemLock(Arc::clone(&self.shared)))
    }
}

/// The lock of a [`MemDisk`].
#[derive(Debug)]
pub struct MemLock(Arc<Shared>);

impl Drop for MemLock {
    fn drop(&mut self) {
        *held(&self.0.locked) = false;
    }
}

/// A file of a [`MemDisk`].
#[derive(Clone, Debug)]
pub struct MemFile(Arc<Mutex<Vec<u8>>>);

impl DiskFile for MemFile {
    fn len(&self) -> io::Result<u64> {
        Ok(held(&self.0).len() as u64)
    }

    fn write_at(&self, offset: u64, bufs: &[io::IoSlice<'_>]) -> io::Result<()> {
        let mut at = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes = held(&self.0);
        for buf in bufs {
            let end = at.checked_add(buf.len()).ok_or(io::ErrorKind::FileTooLarge)?;
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(buf);
            at = end;
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let bytes = held(&self.0);
        let from = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)?.get(..buf.len()));
        buf.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_grow_are_renamed_and_shared_by_clones() {
        let disk = MemDisk::new();
        let file = disk.create("a", 4).unwrap();
        file.write_at(2, &[io::IoSlice::new(b"one"), io::IoSlice::new(b"two")]).unwrap();
        disk.clone().rename("a", "b").unwrap();
        let mut read = [0; 8];
        disk.open("b").unwrap().read_at(0, &mut read).unwrap();
        assert_eq!((&read, file.len().unwrap(), disk.bytes()), (b"\0\0onetwo", 8, 8));
        for offset in [1, 9, u64::MAX] {
            let error = file.read_at(offset, &mut read).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{offset}");
        }
        assert_eq!(disk.open("a").unwrap_err().kind(), io::ErrorKind::NotFound);
        disk.remove("b").unwrap();
        assert_eq!(disk.list().unwrap(), [""; 0]);
    }

    #[test]
    fn a_second_lock_would_block_until_the_first_is_dropped() {
        let disk = MemDisk::new();
        let lock = disk.lock().unwrap();
        assert_eq!(disk.clone().lock().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        disk.lock().unwrap();
    }
}
