#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod burst;
mod disk;
mod error;
mod format;
mod index;
mod layout;
mod mem;
mod real;
mod recover;
mod scan;
#[cfg(feature = "sim")]
mod sim;
mod snapshot;
mod wal;

pub use disk::{Disk, DiskFile};
pub use error::{Damage, DiskError, OpenError, WalError};
pub use format::{BurstEnd, Position, RECORD_BYTES_MAX};
pub use mem::{MemDisk, MemFile, MemLock};
pub use real::{RealDisk, RealFile};
pub use recover::{Recovery, Tail};
#[cfg(feature = "sim")]
pub use sim::{Fault, SimDisk, SimFile, SimLock, Troubles};
pub use snapshot::{Snapshot, SnapshotStore};
pub use wal::{Options, Stats, Wal};
