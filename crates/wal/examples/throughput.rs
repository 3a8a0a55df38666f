//! How close the journal comes to the limit: a raw write into a preallocated file and an fdatasync.
//!
//! `cargo run --release -p quorate-wal --example throughput -- [directory] [rounds]`. Each burst is
//! one record with one attachment of 1 to 1024 entries of 256 bytes; both sides take turns, and the
//! medians are printed.

use std::time::Instant;

use bytes::Bytes;
use quorate_transport::{Attachment, Attachments, Frame, Key, Ticket};
use quorate_wal::{Disk, DiskFile, Options, RealDisk, Wal};

const ENTRY: usize = 256;
const FILE: u64 = 16 << 20;

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args
        .next()
        .map_or_else(|| std::env::current_dir().map(|d| d.join("target")), |d| Ok(d.into()))?;
    let rounds: usize = args.next().map_or(Ok(400), |n| n.parse())?;
    let dir = tempfile::tempdir_in(dir)?;
    let (mut wal, _) = Wal::open(RealDisk::open(dir.path().join("wal"))?, Options::default())?;
    let raw = RealDisk::open(dir.path().join("raw"))?.create("raw", FILE)?;
    raw.sync()?;
    let key = Key::new(1, 1);
    let (mut ticket, mut at) = (0, 0);
    println!("{:>7} {:>12} {:>12} {:>7}", "burst", "wal", "limit", "ratio");
    for entries in [1, 16, 64, 256, 1024] {
        let payload = Bytes::from(vec![0x5a; entries * ENTRY]);
        let head = Bytes::from_static(&[1; 24]);
        // As in a node: the checksum was computed once, where the batch was made.
        let batch = Attachment::new(payload.clone());
        let frame = Frame { head, attachments: Attachments::One(batch) };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..rounds + 20 {
            let begin = now();
            ticket += 1;
            wal.append(key, Ticket(ticket), &frame)?;
            wal.commit()?;
            let spent = begin.elapsed().as_secs_f64();
            wal.release(key, Ticket(ticket - 1));
            if at + payload.len() as u64 > FILE {
                at = 0;
            }
            let begin = now();
            raw.write_at(at, &[std::io::IoSlice::new(&payload)])?;
            raw.sync()?;
            let raw_spent = begin.elapsed().as_secs_f64();
            at += payload.len() as u64;
            // The first rounds make the segments that later ones recycle.
            if round >= 20 {
                ours.push(spent);
                theirs.push(raw_spent);
            }
        }
        let (ours, theirs) = (median(&mut ours), median(&mut theirs));
        let rate = |seconds: f64| entries as f64 / seconds;
        let ratio = theirs / ours;
        println!("{entries:>7} {:>12.0} {:>12.0} {ratio:>7.2}", rate(ours), rate(theirs));
    }
    println!("entries of {ENTRY} bytes a second; {:?}", wal.stats());
    Ok(())
}
