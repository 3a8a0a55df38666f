//! What the journal asks of a disk: one directory of files, and when its contents are safe.
//!
//! Everything that can fail goes through these two traits, so that a simulated disk can fail at
//! each call, and the code under test is the code that runs.

use std::io;

/// One directory.
///
/// A new, renamed or removed name is durable only after [`sync_dir`](Self::sync_dir); the bytes of
/// a file only after its own [`sync`](DiskFile::sync).
pub trait Disk: Send {
    /// An open file.
    type File: DiskFile;
    /// Held while this process is the directory's only writer; dropping it gives the lock back.
    type Lock: Send;

    /// All names in the directory, in any order.
    ///
    /// # Errors
    /// What the operating system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A new file of `len` zero bytes, its space taken from the disk; an old one is replaced.
    ///
    /// # Errors
    /// What the operating system says; the file may then exist, shorter.
    fn create(&self, name: &str, len: u64) -> io::Result<Self::File>;

    /// An existing file, for reading and writing.
    ///
    /// # Errors
    /// What the operating system says.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Renames a file, replacing any that has the new name.
    ///
    /// # Errors
    /// What the operating system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes every creation, renaming and removal so far durable.
    ///
    /// # Errors
    /// What the operating system says; what is durable is then unknown.
    fn sync_dir(&self) -> io::Result<()>;

    /// Takes the single-writer lock, without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while somebody else holds it.
    fn lock(&self) -> io::Result<Self::Lock>;
}

/// One open file.
pub trait DiskFile: Send {
    /// Its length in bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn len(&self) -> io::Result<u64>;

    /// True when it has no bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Writes all of `bufs`, one after the other, from `offset` on; the file grows as needed.
    ///
    /// # Errors
    /// What the operating system says, and [`io::ErrorKind::WriteZero`] for a short write; any
    /// part may then be written.
    fn write_at(&self, offset: u64, bufs: &[io::IoSlice<'_>]) -> io::Result<()>;

    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// What the operating system says, [`io::ErrorKind::UnexpectedEof`] past the end.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Makes every byte written so far durable, by any process (`fdatasync`).
    ///
    /// # Errors
    /// What the operating system says; what is durable is then unknown, and a second try would
    /// report success for bytes that the kernel has dropped.
    fn sync(&self) -> io::Result<()>;
}
