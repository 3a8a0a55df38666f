//! What opening makes of damaged, foreign, stale and recycled files.

mod common;

use common::{Model, OPTIONS, Pair, frame, seeds};
use quorate_transport::{Key, Rng, Ticket};
use quorate_wal::{Damage, Fault, OpenError, Options, RealDisk, SimDisk, Tail, Wal, WalError};

const A: Key = Key::new(1, 1);
const B: Key = Key::new(1, 2);

/// A journal of several segments at rest, and where its newest file is.
fn at_rest(mark: bool) -> (SimDisk, Model) {
    let disk = SimDisk::new(4);
    let (mut pair, _) = Pair::open(&disk).unwrap();
    pair.append(Key::new(8, 8), 3).unwrap();
    pair.work(12, 90).unwrap();
    pair.append(A, 100).unwrap();
    pair.commit().unwrap();
    if mark {
        pair.wal.idle().unwrap();
        pair.wal.sync().unwrap();
    }
    (disk.clone(), pair.model)
}

/// Each byte of each file with one bit flipped, or each bit where more seeds are asked for.
fn flips(disk: &SimDisk, mut check: impl FnMut(&SimDisk, &str, usize)) {
    let mut rng = Rng::new(5);
    for name in disk.names() {
        let bytes = disk.contents(&name).unwrap().len();
        for byte in 0..bytes {
            let some = rng.below(8) as usize;
            let bits = if seeds(0) > 0 { 0..8 } else { some..some + 1 };
            for bit in bits {
                let bit = byte * 8 + bit;
                let disk = disk.fork(0);
                disk.flip(&name, bit);
                disk.power_loss(0);
                check(&disk, &name, bit);
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_a_marked_journal_is_harmless_or_named() {
    let (disk, model) = at_rest(true);
    let (mut harmless, mut named) = (0, 0);
    flips(&disk, |disk, flipped, bit| match Pair::open(disk) {
        Ok((_, found)) => {
            let what = format!("bit {bit} of {flipped}, {:?}", found.tail);
            assert_eq!(model.check(&found, &what), model.count(), "{what}");
            harmless += 1;
        }
        Err(OpenError::Corrupt { file, offset, .. }) => {
            assert_eq!(file, flipped);
            assert!(offset <= bit as u64 / 8, "{file} {offset} after bit {bit}");
            named += 1;
        }
        Err(other) => panic!("bit {bit} of {flipped}: {other}"),
    });
    assert!(harmless > 1000 && named > 1000, "{harmless} harmless, {named} named");
}

#[test]
fn without_a_mark_a_flipped_bit_can_cost_the_last_burst_only_and_says_so() {
    let (disk, mut model) = at_rest(false);
    model.doubt_last();
    let mut lost = 0;
    flips(&disk, |disk, flipped, bit| match Pair::open(disk) {
        Ok((_, found)) => {
            let what = format!("bit {bit} of {flipped}, {:?}", found.tail);
            if model.check(&found, &what) < model.count() {
                let Tail::Torn { known, at, .. } = found.tail else { panic!("hidden: {what}") };
                assert!(known <= at && at.offset <= bit as u64 / 8, "{what}");
                lost += 1;
            } else {
                assert_ne!(found.tail, Tail::Clean, "{what}");
            }
        }
        Err(OpenError::Corrupt { file, .. }) => assert_eq!(file, flipped),
        Err(other) => panic!("bit {bit} of {flipped}: {other}"),
    });
    assert!(lost > 100, "only {lost} flips hit the last burst");
}

#[test]
fn damage_before_the_place_known_to_be_synced_is_corruption_with_file_offset_and_reason() {
    let disk = SimDisk::new(1);
    let (mut pair, _) = Pair::open(&disk).unwrap();
    let start = pair.wal.synced();
    pair.append(A, 50).unwrap();
    pair.commit().unwrap();
    let second = pair.wal.synced();
    pair.append(A, 50).unwrap();
    pair.commit().unwrap();
    drop(pair);
    let name = disk.names().into_iter().find(|name| name.starts_with("journal")).unwrap();
    for (at, needle) in [(start, true), (second, false)] {
        let disk = disk.fork(1);
        disk.flip(&name, at.offset as usize * 8 + 40);
        match Pair::open(&disk) {
            Err(OpenError::Corrupt { file, offset, reason }) => {
                assert!(needle, "the last burst is not known to be synced");
                assert_eq!((file, offset, reason), (name.clone(), at.offset, Damage::Checksum));
            }
            Ok((_, found)) => {
                assert!(!needle, "a synced record is missing: {:?}", found.tail);
                assert!(matches!(found.tail, Tail::Torn { known, .. } if known == second));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_write_that_never_reached_the_disk_is_noticed_by_the_chain() {
    let disk = SimDisk::new(1);
    let (pair, _) = Pair::open(&disk).unwrap();
    let start = pair.wal.synced().offset as usize;
    drop(pair);
    // Two histories that differ in their first burst, of the same length.
    let history = |mark, bursts| {
        let disk = disk.fork(1);
        let (mut wal, _) = Wal::open(disk.clone(), OPTIONS).unwrap();
        for burst in 0..bursts {
            wal.append(A, Ticket(1 + burst), &frame(mark, 30)).unwrap();
            wal.commit().unwrap();
        }
        (disk, wal.synced().offset as usize)
    };
    let ((one, end), (two, _)) = (history(1, 1), history(2, 3));
    let name = one.names().into_iter().find(|name| name.starts_with("journal")).unwrap();
    let mut spliced = two.contents(&name).unwrap();
    spliced[start..end].copy_from_slice(&one.contents(&name).unwrap()[start..end]);
    two.kill();
    two.plant(&name, &spliced);
    match Pair::open(&two) {
        Err(OpenError::Corrupt { reason, .. }) => assert_eq!(reason, Damage::Chain),
        other => panic!("two histories in one: {:?}", other.map(|(_, found)| found)),
    }
}

#[test]
fn records_of_a_recycled_segment_are_never_taken_for_new() {
    let disk = SimDisk::new(1);
    let (mut pair, _) = Pair::open(&disk).unwrap();
    for round in 0..60 {
        // Always the same lengths: old frames lie exactly where new ones end.
        pair.append(A, 400).unwrap();
        pair.commit().unwrap();
        let last = pair.model.next[&A];
        pair.release(A, Ticket(last.saturating_sub(3)));
        let copy = disk.fork(round);
        copy.power_loss(round);
        let (_, found) = Pair::open(&copy).unwrap();
        pair.model.check(&found, "recycled");
        assert!(!matches!(found.tail, Tail::Torn { .. }), "{:?}", found.tail);
        assert!(found.records.len() <= 5, "{}", found.records.len());
    }
    assert!(pair.wal.stats().segments_recycled > 3);
}

#[test]
fn spares_and_preallocation_are_on_disk_and_are_not_needed() {
    let disk = SimDisk::new(1);
    let (mut pair, _) = Pair::open(&disk).unwrap();
    for _ in 0..100 {
        pair.append(A, 400).unwrap();
        pair.commit().unwrap();
    }
    let before = pair.wal.needed_bytes();
    assert!(before > 100 * 400);
    let last = pair.model.next[&A];
    pair.release(A, Ticket(last));
    pair.append(B, 10).unwrap();
    pair.commit().unwrap();
    let needed = pair.wal.needed_bytes();
    assert!(needed <= OPTIONS.segment_bytes, "{needed} bytes are needed");
    assert_eq!(pair.wal.disk_bytes(), 3 * OPTIONS.segment_bytes, "the segment and two spares");
}

#[test]
fn an_idle_machine_pins_the_log_until_its_checkpoint_and_then_disk_use_is_bounded() {
    const CAP: u64 = 10 * 8192;
    let run = |checkpoints: bool| {
        let disk = SimDisk::new(1);
        let (mut pair, _) = Pair::open(&disk).unwrap();
        pair.append(B, 200).unwrap();
        pair.commit().unwrap();
        let mut most = 0;
        for _ in 0..2000 {
            pair.append(A, 400).unwrap();
            pair.commit().unwrap();
            let last = pair.model.next[&A];
            pair.release(A, Ticket(last.saturating_sub(10)));
            if checkpoints && pair.wal.disk_bytes() > CAP {
                let (key, before) = pair.wal.oldest_live().unwrap();
                if key == B {
                    // The quiet machine persists again what still matters, then lets go.
                    pair.append(B, 200).unwrap();
                    pair.commit().unwrap();
                    pair.release(B, Ticket(before.0 - 1));
                }
            }
            most = most.max(pair.wal.disk_bytes());
        }
        assert_eq!(pair.wal.disk_bytes(), disk.bytes());
        disk.kill();
        let (_, found) = Pair::open(&disk).unwrap();
        assert_eq!(found.records.iter().filter(|(key, ..)| *key == B).count(), 1);
        most
    };
    assert!(run(true) <= CAP + 3 * 8192, "{}", run(true));
    assert!(run(false) > 10 * CAP, "{}: nothing was pinned", run(false));
}

#[test]
fn the_machine_to_ask_for_a_checkpoint_is_the_one_with_the_oldest_record() {
    let (mut pair, _) = Pair::open(&SimDisk::new(1)).unwrap();
    assert_eq!(pair.wal.oldest_live(), None);
    for key in [B, A, A, B] {
        pair.append(key, 2000).unwrap();
        pair.commit().unwrap();
    }
    assert_eq!(pair.wal.oldest_live(), Some((B, Ticket(2))), "its second is in a later segment");
    pair.release(B, Ticket(1));
    assert_eq!(pair.wal.oldest_live(), Some((A, Ticket(2))));
}

#[test]
fn a_locked_directory_is_refused_until_the_lock_is_given_back() {
    let disk = SimDisk::new(1);
    let held = Pair::open(&disk).unwrap();
    assert!(matches!(Pair::open(&disk), Err(OpenError::Locked)));
    drop(held);
    Pair::open(&disk).unwrap();
}

#[test]
fn a_foreign_file_another_owner_and_another_version_are_refused_untouched() {
    let disk = SimDisk::new(1);
    drop(Pair::open(&disk).unwrap());
    let name = disk.names()[0].clone();
    let before = disk.contents(&name).unwrap();
    let other = Options { owner: 8, ..OPTIONS };
    let error = Wal::open(disk.clone(), other).unwrap_err();
    assert!(matches!(error, OpenError::Owner { found: 7, expected: 8, .. }), "{error}");

    let copy = disk.fork(1);
    copy.plant("notes.txt", b"mine");
    let error = Wal::open(copy.clone(), OPTIONS).unwrap_err();
    assert!(matches!(&error, OpenError::Foreign { name } if name == "notes.txt"), "{error}");

    // Version 2, with the checksum that such a header would have.
    let mut newer = before.clone();
    newer[8] = 2;
    let sum = quorate_transport::crc32c(&newer[..12]);
    let sum = quorate_transport::crc32c_append(sum, &newer[16..80]);
    newer[12..16].copy_from_slice(&sum.to_le_bytes());
    let copy = disk.fork(1);
    copy.plant(&name, &newer);
    let error = Wal::open(copy.clone(), OPTIONS).unwrap_err();
    assert!(matches!(error, OpenError::Version { found: 2, expected: 1, .. }), "{error}");
    assert_eq!(copy.contents(&name).unwrap(), newer);
    assert_eq!(disk.contents(&name).unwrap(), before);
}

#[test]
fn a_needed_segment_that_is_gone_is_missing_not_empty() {
    let disk = SimDisk::new(1);
    let (mut pair, _) = Pair::open(&disk).unwrap();
    for _ in 0..6 {
        pair.append(A, 3000).unwrap();
        pair.commit().unwrap();
    }
    drop(pair);
    let names = disk.names();
    for gone in &names[..names.len() - 1] {
        let copy = SimDisk::new(2);
        for name in names.iter().filter(|name| *name != gone) {
            copy.plant(name, &disk.contents(name).unwrap());
        }
        let error = Wal::open(copy, OPTIONS).unwrap_err();
        assert!(matches!(&error, OpenError::Missing { file } if file == gone), "{error}");
    }
}

#[test]
fn tickets_that_do_not_increase_and_records_over_a_cap_change_nothing() {
    let (mut pair, _) = Pair::open(&SimDisk::new(1)).unwrap();
    pair.append(A, 1).unwrap();
    let again = pair.wal.append(A, Ticket(1), &frame(1, 1));
    assert!(matches!(again, Err(WalError::TicketOrder { last: Ticket(1), .. })), "{again:?}");
    let mut large = frame(1, 1);
    large.head = vec![0; (1 << 20) + 1].into();
    let refused = pair.wal.append(A, Ticket(2), &large);
    assert!(matches!(refused, Err(WalError::TooLarge { .. })), "{refused:?}");
    pair.append(A, 1).unwrap();
    pair.commit().unwrap();
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    let disk = SimDisk::new(1);
    let (mut pair, _) = Pair::open(&disk).unwrap();
    pair.append(A, 1).unwrap();
    pair.write().unwrap();
    disk.fail_at(disk.calls() + 1, Fault::Io);
    assert!(matches!(pair.wal.sync(), Err(WalError::Disk(_))));
    let calls = disk.calls();
    assert!(matches!(pair.wal.sync(), Err(WalError::Poisoned { operation: "sync", .. })));
    assert_eq!(disk.calls(), calls);
}

#[test]
fn one_burst_is_one_write_and_one_sync() {
    let disk = SimDisk::new(1);
    let (mut wal, _) =
        Wal::open(disk.clone(), Options { segment_bytes: 1 << 20, ..OPTIONS }).unwrap();
    let calls = disk.calls();
    for ticket in 1..=100 {
        wal.append(A, Ticket(ticket), &frame(ticket, 3000)).unwrap();
        wal.append(B, Ticket(ticket), &frame(ticket, 10)).unwrap();
    }
    wal.commit().unwrap();
    assert_eq!(disk.calls() - calls, 2);
    wal.commit().unwrap();
    assert_eq!(disk.calls() - calls, 2, "nothing waits, nothing is done");
}

#[test]
fn the_real_disk_keeps_a_journal_through_rotation_and_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Wal::open(RealDisk::open(dir.path()).unwrap(), OPTIONS);
    let (mut wal, recovery) = open().unwrap();
    assert!(recovery.fresh);
    for ticket in 1..=50 {
        wal.append(A, Ticket(ticket), &frame(ticket, 3000)).unwrap();
        wal.commit().unwrap();
        wal.release(A, Ticket(ticket.saturating_sub(4)));
    }
    assert!(matches!(open(), Err(OpenError::Locked)));
    wal.idle().unwrap();
    assert!(wal.stats().segments_recycled > 10);
    drop(wal);
    let (_, recovery) = open().unwrap();
    let tickets: Vec<u64> = recovery.records.iter().map(|(_, ticket, _)| ticket.0).collect();
    assert_eq!(tickets, [46, 47, 48, 49, 50]);
    assert_eq!((recovery.tail, recovery.fresh), (Tail::Clean, false));
}
