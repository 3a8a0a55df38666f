//! What can go wrong, whose fault it is, and what may be done next.

use std::io;

use quorate_transport::{Key, Ticket};
use thiserror::Error;

/// The operating system refused one operation: the disk's fault, or the operator's.
#[derive(Debug, Error)]
#[error("{operation} of `{file}` failed: {source}")]
pub struct DiskError {
    /// What was tried.
    pub operation: &'static str,
    /// On which file; `.` is the directory.
    pub file: String,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

/// Adds operation and file to what the operating system said.
pub(crate) trait Named<T> {
    fn named(self, operation: &'static str, file: &str) -> Result<T, DiskError>;
}

impl<T> Named<T> for io::Result<T> {
    fn named(self, operation: &'static str, file: &str) -> Result<T, DiskError> {
        self.map_err(|source| DiskError { operation, file: file.to_owned(), source })
    }
}

/// Why a running journal refused a call.
#[derive(Debug, Error)]
pub enum WalError {
    /// The disk's fault. The journal is poisoned: what reached the disk is unknown, and only
    /// opening it again can tell. Never retry; stop the node.
    #[error("{0}: the journal takes nothing more until it is opened again")]
    Disk(#[from] DiskError),
    /// An earlier call failed. Nothing changed by this call. Never retry; stop the node.
    #[error("the journal takes nothing since the {operation} of `{file}` failed")]
    Poisoned {
        /// The operation that failed first.
        operation: &'static str,
        /// Its file.
        file: String,
    },
    /// The caller's fault: tickets of one machine increase. Nothing changed; do not retry.
    #[error("ticket {ticket} of machine {key} does not follow {last}")]
    TicketOrder {
        /// The machine.
        key: Key,
        /// The ticket given.
        ticket: Ticket,
        /// The machine's last one.
        last: Ticket,
    },
    /// The caller's fault: over a cap of the format. Nothing changed; do not retry.
    #[error("the {field} of a record is {value}, over the cap of {max}")]
    TooLarge {
        /// Which size.
        field: &'static str,
        /// What it is.
        value: usize,
        /// What it may be.
        max: usize,
    },
}

/// Why a directory was not opened. In every case nothing was handed out and the call may be
/// repeated once the cause is gone.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The operator's fault: another process, or another part of this one, has it open.
    #[error("the directory is locked by another writer")]
    Locked,
    /// The operator's fault: the directory holds a file that is not ours. Nothing was changed.
    #[error("`{name}` is no file of this journal: is this the right directory?")]
    Foreign {
        /// Its name.
        name: String,
    },
    /// The operator's fault: written by another version. Nothing was changed.
    #[error("`{file}` has format version {found}, this program reads {expected}")]
    Version {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
        /// The version this program writes.
        expected: u32,
    },
    /// The operator's fault: the directory of another node. Nothing was changed.
    #[error("`{file}` belongs to owner {found:016x}, not to {expected:016x}")]
    Owner {
        /// The file.
        file: String,
        /// Whose it is.
        found: u64,
        /// Who asks.
        expected: u64,
    },
    /// The disk's fault: bytes that were durable are damaged. Nothing was changed; the node must
    /// not vote or acknowledge on what is left, but be rebuilt from its peers.
    #[error("`{file}` is corrupt at offset {offset}: {reason}")]
    Corrupt {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        reason: Damage,
    },
    /// The operator's or the disk's fault: a needed file is gone. Nothing was changed.
    #[error("`{file}` is missing")]
    Missing {
        /// Its name.
        file: String,
    },
    /// The caller's fault: an option is out of its range.
    #[error("option {field} is {value}, it must be {rule}")]
    Options {
        /// Which.
        field: &'static str,
        /// What it is.
        value: u64,
        /// What it must be.
        rule: &'static str,
    },
    /// The disk's fault. What open had begun to repair, the next open repairs.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// What is wrong with bytes that should have been a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    /// No frame begins here.
    #[error("no frame begins here")]
    NoFrame,
    /// The file has another length than its header says, or none at all.
    #[error("the file is {found} bytes long, not {expected}")]
    FileLength {
        /// What it is.
        found: u64,
        /// What it was.
        expected: u64,
    },
    /// A length runs past the end of the file.
    #[error("a length runs past the end of the file")]
    Length,
    /// Contents, file or place of the frame are not what they were.
    #[error("the checksum does not match")]
    Checksum,
    /// The frame does not follow the one before it.
    #[error("the frame does not follow the one before it")]
    Chain,
    /// The checksum of the frame holds, its contents make no sense.
    #[error("the contents make no sense")]
    Contents,
    /// The checksum of a record's attachment does not match.
    #[error("the checksum of a record's attachment does not match")]
    Attachment,
    /// The file ends its records before the place up to which they were durable.
    #[error("records end here, but were durable up to offset {durable}")]
    Short {
        /// Up to where.
        durable: u64,
    },
    /// The tickets of a machine do not increase.
    #[error("the tickets of a machine do not increase")]
    TicketOrder,
}
