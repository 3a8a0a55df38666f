//! Row P6: our journal beside raft-engine, and beside a raw write and fdatasync into a file whose
//! blocks are there already, which is the limit.
//!
//! All three write into the same file system, in turns; each burst is appended and synced.
#![allow(clippy::disallowed_methods, reason = "a benchmark's stopwatch")]

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use bytes::Bytes;
use clap::Parser;
use quorate_benches::measure::{in_turns, median};
use quorate_benches::progress::Progress;
use quorate_benches::report::{Better, Options, Report, Subject};
use quorate_transport::{Attachment, Attachments, Frame, Key, Ticket};
use quorate_wal::{Disk, DiskFile, RealDisk, RealFile, Wal};
use raft::eraftpb::Entry;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

const ENTRY: usize = 256;
const BURSTS: [usize; 5] = [1, 16, 64, 256, 1024];
const RAW_BYTES: u64 = 16 << 20;

/// Compare the journal with raft-engine and with the limit of the disk
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// Where the files go; removed afterwards
    #[arg(long, default_value = "target")]
    directory: PathBuf,
}

/// Our journal: a burst is one record with one attachment, as a batch of entries is.
struct Ours {
    wal: Wal<RealDisk>,
    ticket: u64,
    frame: Frame,
}

impl Ours {
    fn open(directory: &Path) -> anyhow::Result<Self> {
        let (wal, _) = Wal::open(RealDisk::open(directory)?, quorate_wal::Options::default())?;
        let frame = Frame { head: Bytes::new(), attachments: Attachments::None };
        Ok(Self { wal, ticket: 0, frame })
    }

    fn set_burst(&mut self, entries: usize) {
        // As in a node: the checksum was computed once, where the batch was made.
        let batch = Attachment::new(Bytes::from(vec![0x5a; entries * ENTRY]));
        let head = Bytes::from_static(&[1; 24]);
        self.frame = Frame { head, attachments: Attachments::One(batch) };
    }

    fn burst(&mut self) {
        let key = Key::new(1, 1);
        self.ticket += 1;
        self.wal.append(key, Ticket(self.ticket), &self.frame).expect("an append");
        self.wal.commit().expect("a sync");
        self.wal.release(key, Ticket(self.ticket - 1));
    }
}

/// raft-engine with its defaults, without compression: what both sides write is the payload.
struct Peer {
    engine: Engine,
    last: u64,
    entries: Vec<Entry>,
}

impl MessageExt for Peer {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

impl Peer {
    fn open(directory: &Path) -> anyhow::Result<Self> {
        let config = Config {
            dir: directory.to_str().context("the directory is not UTF-8")?.to_owned(),
            batch_compression_threshold: ReadableSize(0),
            target_file_size: ReadableSize::mb(16),
            purge_threshold: ReadableSize::mb(64),
            ..Config::default()
        };
        Ok(Self { engine: Engine::open(config)?, last: 0, entries: Vec::new() })
    }

    fn set_burst(&mut self, entries: usize) {
        let data = Bytes::from(vec![0x5a; ENTRY]);
        self.entries = vec![Entry { data, term: 1, ..Entry::default() }; entries];
    }

    fn burst(&mut self) {
        for entry in &mut self.entries {
            self.last += 1;
            entry.index = self.last;
        }
        let mut batch = LogBatch::default();
        batch.add_entries::<Self>(1, &self.entries).expect("entries that follow");
        self.engine.write(&mut batch, true).expect("a synced write");
        self.engine.compact_to(1, self.last);
    }

    /// Lets go of old files, out of the time that is measured.
    fn purge(&mut self) {
        self.engine.purge_expired_files().expect("a purge");
    }
}

/// What the disk gives.
struct Limit {
    file: RealFile,
    at: u64,
    payload: Vec<u8>,
}

impl Limit {
    fn open(directory: &Path) -> anyhow::Result<Self> {
        let file = RealDisk::open(directory)?.create("raw", RAW_BYTES)?;
        file.sync()?;
        let mut limit = Self { file, at: 0, payload: vec![0; 1 << 20] };
        // Every block is written once, so that no later write has to make one.
        (0..RAW_BYTES >> 20).for_each(|_| limit.burst());
        Ok(limit)
    }

    fn burst(&mut self) {
        let bytes = self.payload.len() as u64;
        if self.at + bytes > RAW_BYTES {
            self.at = 0;
        }
        self.file.write_at(self.at, &[IoSlice::new(&self.payload)]).expect("a write");
        self.file.sync().expect("a sync");
        self.at += bytes;
    }
}

/// Entries a second, from the median burst of `bursts`.
fn rate(entries: usize, bursts: usize, mut burst: impl FnMut()) -> f64 {
    let mut seconds = Vec::with_capacity(bursts);
    for _ in 0..bursts {
        let begun = Instant::now();
        burst();
        seconds.push(begun.elapsed().as_secs_f64());
    }
    entries as f64 / median(&seconds)
}

fn main() -> anyhow::Result<()> {
    let Cli { options, directory } = Cli::parse();
    let (rounds, bursts) = if options.quick { (3, 20) } else { (15, 60) };
    let directory = tempfile::Builder::new().prefix("compare-wal-").tempdir_in(&directory)?;
    let mut ours = Ours::open(&directory.path().join("wal"))?;
    let mut peer = Peer::open(&directory.path().join("peer"))?;
    let mut limit = Limit::open(&directory.path().join("limit"))?;
    let mut report = Report::default();
    let mut progress = Progress::new(BURSTS.len());
    for entries in BURSTS {
        ours.set_burst(entries);
        peer.set_burst(entries);
        limit.payload = vec![0x5a; entries * ENTRY];
        // The first bursts make the files that later ones recycle.
        let mut ours = || rate(entries, bursts, || ours.burst());
        let mut theirs = || {
            peer.purge();
            rate(entries, bursts, || peer.burst())
        };
        let mut limit = || rate(entries, bursts, || limit.burst());
        in_turns(1, &mut [&mut ours, &mut theirs, &mut limit]);
        let values = in_turns(rounds, &mut [&mut ours, &mut theirs, &mut limit]);
        let params = [("entries", entries as u64)];
        let subject = Subject { name: "wal/sync", better: Better::Higher, params: &params };
        let peers = [("raft-engine 0.4.2", &values[1][..]), ("write + fdatasync", &values[2][..])];
        progress.step(&report.add(&subject, &values[0], &peers));
    }
    report.write(options.json.as_deref())
}
