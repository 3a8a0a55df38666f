//! Snapshots beside the journal.
