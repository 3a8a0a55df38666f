//! The disk of the operating system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskFile};

/// The most slices that one `pwritev` takes.
const SLICES_MAX: usize = 1024;
const ZEROS: usize = 1 << 20;

/// The file that is locked, never written.
pub(crate) const LOCK_NAME: &str = "LOCK";

/// A directory of the file system.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    directory: File,
}

impl RealDisk {
    /// The directory at `path`, made if it is missing.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_path_buf();
        if !path.is_dir() {
            fs::create_dir_all(&path)?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
        let directory = File::open(&path)?;
        Ok(Self { path, directory })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Disk for RealDisk {
    type File = RealFile;
    type Lock = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let name =
            |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        fs::read_dir(&self.path)?.map(name).collect()
    }

    fn create(&self, name: &str, len: u64) -> io::Result<RealFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(self.path.join(name))?;
        // Zeros are really written: an allocated but unwritten extent would cost a metadata
        // update at every later sync.
        let zeros = vec![0; ZEROS.min(usize::try_from(len).unwrap_or(ZEROS))];
        let mut at = 0;
        while at < len {
            let part = (len - at).min(zeros.len() as u64) as usize;
            file.write_all_at(&zeros[..part], at)?;
            at += part as u64;
        }
        Ok(RealFile(file))
    }

    fn open(&self, name: &str) -> io::Result<RealFile> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
        Ok(RealFile(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn lock(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(self.path.join(LOCK_NAME))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// A file of the file system.
#[derive(Debug)]
pub struct RealFile(File);

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn write_at(&self, offset: u64, bufs: &[io::IoSlice<'_>]) -> io::Result<()> {
        let mut at = offset;
        for some in bufs.chunks(SLICES_MAX) {
            let want: usize = some.iter().map(|buf| buf.len()).sum();
            let done = loop {
                match rustix::io::pwritev(&self.0, some, at) {
                    Err(rustix::io::Errno::INTR) => {}
                    other => break other?,
                }
            };
            if done != want {
                let what = format!("{done} of {want} bytes written");
                return Err(io::Error::new(io::ErrorKind::WriteZero, what));
            }
            at += want as u64;
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_would_block_until_the_first_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (RealDisk::open(dir.path()).unwrap(), RealDisk::open(dir.path()).unwrap());
        let held = one.lock().unwrap();
        assert_eq!(two.lock().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        two.lock().unwrap();
    }

    #[test]
    fn a_write_of_more_slices_than_one_call_takes_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path().join("a/b")).unwrap();
        let file = disk.create("f", 10).unwrap();
        assert_eq!(file.len().unwrap(), 10);
        let bytes: Vec<u8> = (0..3000_u32).map(|n| n as u8).collect();
        let slices: Vec<_> = bytes.chunks(1).map(io::IoSlice::new).collect();
        file.write_at(5, &slices).unwrap();
        let mut read = vec![0; 3000];
        file.read_at(5, &mut read).unwrap();
        assert_eq!(read, bytes);
        let past = file.read_at(3000, &mut read).unwrap_err();
        assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
    }
}
