//! Opening random and mutated files: never a panic, never more memory than they are long.

mod common;

use common::{OPTIONS, Pair};
use quorate_transport::{Key, Rng};
use quorate_wal::{OpenError, SimDisk, SnapshotStore, Wal};

fn iterations() -> u64 {
    let asked = std::env::var("QUORATE_FUZZ_ITERATIONS").ok().and_then(|n| n.parse().ok());
    asked.unwrap_or(40_000)
}

fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        let len = (rng.below(64) as usize).min(bytes.len() - at);
        match rng.below(6) {
            0 => bytes[at..at + len].fill(rng.next_u64() as u8),
            1 => bytes[at..at + len].iter_mut().for_each(|byte| *byte = rng.next_u64() as u8),
            2 => bytes.truncate(at),
            3 => {
                let from = rng.below((bytes.len() - len) as u64 + 1) as usize;
                bytes.copy_within(from..from + len, at);
            }
            4 => bytes.extend(std::iter::repeat_n(0, len)),
            _ if len > 0 => bytes[at] ^= 1 << rng.below(8),
            _ => {}
        }
        if bytes.is_empty() {
            break;
        }
    }
}

#[test]
fn a_journal_of_mutated_files_is_opened_or_refused_and_never_grows() {
    let journals: Vec<SimDisk> = (0..8)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            let (mut pair, _) = Pair::open(&disk).unwrap();
            pair.work(seed, 10 + 10 * seed as usize).unwrap();
            if seed % 2 == 0 {
                pair.wal.idle().unwrap();
            }
            disk
        })
        .collect();
    let mut rng = Rng::new(11);
    let (mut opened, mut corrupt) = (0, 0);
    for round in 0..iterations() {
        let base = &journals[rng.below(8) as usize];
        let names = base.names();
        let mutated = rng.below(names.len() as u64) as usize;
        let disk = SimDisk::new(round);
        let mut total = 0;
        for (number, name) in names.iter().enumerate() {
            let mut bytes = base.contents(name).unwrap();
            if number == mutated {
                mutate(&mut bytes, &mut rng);
            }
            total += bytes.len() as u64;
            disk.plant(name, &bytes);
        }
        match Wal::open(disk.clone(), OPTIONS) {
            Ok((mut wal, recovery)) => {
                opened += 1;
                let bytes: usize = recovery.records.iter().map(|(.., f)| f.flat_len()).sum();
                assert!(bytes as u64 <= total && disk.bytes() <= total, "round {round}");
                let last = recovery.records.iter().rev().find(|r| r.0 == Key::new(1, 1));
                let next = last.map_or(1 << 40, |record| record.1.0 + (1 << 40));
                let frame = common::frame(1, 5);
                wal.append(Key::new(1, 1), quorate_transport::Ticket(next), &frame).unwrap();
                wal.commit().unwrap();
            }
            Err(OpenError::Corrupt { .. }) => corrupt += 1,
            Err(OpenError::Missing { .. }) => {}
            Err(other) => panic!("round {round}: {other}"),
        }
    }
    println!("{opened} opened, {corrupt} corrupt");
    let few = iterations() / 20;
    assert!(opened > few && corrupt > few, "{opened} opened, {corrupt} corrupt");
}

#[test]
fn random_bytes_under_our_names_are_corrupt() {
    let mut rng = Rng::new(12);
    for round in 0..iterations() / 10 {
        let len = rng.below(9000) as usize;
        let bytes: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
        for name in [
            "journal-0000000000000001.wal",
            "snapshot-0001-0000000000000001-0000000000000001-0000000000000001.snap",
        ] {
            let disk = SimDisk::new(round);
            disk.plant(name, &bytes);
            let error = match name.starts_with('j') {
                true => Wal::open(disk, OPTIONS).map(drop).unwrap_err(),
                false => SnapshotStore::open(disk).map(drop).unwrap_err(),
            };
            assert!(matches!(error, OpenError::Corrupt { offset: 0, .. }), "{error}");
        }
    }
}
