//! Every disk call of a workload on the snapshot store is a crash point; every bit of a finished
//! snapshot may flip.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bytes::Bytes;
use quorate_transport::{Key, Rng, SnapshotId, StoreError, StoreOp, Stored, crc32c};
use quorate_wal::{Fault, OpenError, RealDisk, SimDisk, Snapshot, SnapshotStore};

const A: Key = Key::new(1, 1);
const B: Key = Key::new(2, 1);
const STEPS: usize = 90;

fn id(index: u64) -> SnapshotId {
    SnapshotId { index, term: 1 + index / 4 }
}

/// Random bytes, of which every snapshot is a part of its own.
static BASE: LazyLock<Bytes> = LazyLock::new(|| {
    let mut rng = Rng::new(77);
    (0..1 << 16).map(|_| rng.next_u64() as u8).collect()
});

/// The one content that a snapshot of this name ever has.
fn contents(key: Key, id: SnapshotId) -> Bytes {
    let mut rng = Rng::new(id.index * 64 + u64::from(key.protocol.0));
    let len = [0, 100, 5_000, 16_384, 40_000][rng.below(5) as usize];
    let from = rng.below(20_000) as usize;
    BASE.slice(from..from + len)
}

fn finish(key: Key, id: SnapshotId) -> StoreOp {
    let bytes = contents(key, id);
    StoreOp::Finish { id, len: bytes.len() as u64, checksum: crc32c(&bytes) }
}

fn write(key: Key, id: SnapshotId, from: usize, to: usize) -> StoreOp {
    StoreOp::Write { id, offset: from as u64, bytes: contents(key, id).slice(from..to) }
}

/// Reads a whole snapshot in uneven chunks.
fn read(
    store: &mut SnapshotStore<SimDisk>,
    key: Key,
    id: SnapshotId,
) -> Result<Vec<u8>, StoreError> {
    let mut all = Vec::new();
    loop {
        let op = StoreOp::Read { id, offset: all.len() as u64, len_max: 7001, tag: 5 };
        match store.apply(key, op) {
            Some(Stored::Chunk { bytes, len, tag: 5, .. }) => {
                all.extend_from_slice(&bytes);
                if all.len() as u64 >= len {
                    return Ok(all);
                }
                assert!(!bytes.is_empty(), "a read that gets nowhere");
            }
            Some(Stored::Failed { error, tag: 5, .. }) => return Err(error),
            other => panic!("{other:?}"),
        }
    }
}

#[derive(Clone, Default)]
struct Model {
    /// Answered `Finished`, and not asked to be removed since.
    there: BTreeSet<(Key, SnapshotId)>,
    /// Asked to be finished at some time.
    maybe: BTreeSet<(Key, SnapshotId)>,
}

impl Model {
    fn check(&self, store: &mut SnapshotStore<SimDisk>, what: &str) {
        let mut found = BTreeSet::new();
        for key in [A, B] {
            for Snapshot { id, len, checksum } in store.list(key) {
                assert!(self.maybe.contains(&(key, id)), "{what}: {id:?} out of nowhere");
                let want = contents(key, id);
                assert_eq!((len, checksum), (want.len() as u64, crc32c(&want)), "{what}");
                assert_eq!(read(store, key, id).as_deref(), Ok(&want[..]), "{what}");
                found.insert((key, id));
            }
        }
        let lost: Vec<_> = self.there.difference(&found).collect();
        assert!(lost.is_empty(), "{what}: lost {lost:?}");
    }
}

/// The workload; goes on after refusals, as machines may.
fn work(store: &mut SnapshotStore<SimDisk>, disk: &SimDisk, seed: u64) -> Model {
    let mut model = Model::default();
    let mut rng = Rng::new(seed);
    let mut made: BTreeMap<(Key, SnapshotId), usize> = BTreeMap::new();
    let mut next = 1;
    for _ in 0..STEPS {
        if disk.is_down() {
            break;
        }
        let key = if rng.below(2) == 0 { A } else { B };
        let open = made.keys().find(|(owner, _)| *owner == key).copied();
        match (rng.below(8), open) {
            (0..=1, _) | (_, None) => {
                let some = contents(key, id(next)).len().min(4000);
                if store.apply(key, write(key, id(next), 0, some)).is_none() {
                    made.insert((key, id(next)), some);
                }
                next += 1;
            }
            (2..=4, Some(whose)) => {
                let (from, whole) = (made[&whose], contents(key, whose.1).len());
                let to = whole.min(from + 9000);
                if from > 0 && store.apply(key, write(key, whose.1, from, to)).is_none() {
                    made.insert(whose, to);
                } else if from > 0 {
                    made.remove(&whose);
                }
            }
            (5..=6, Some(whose)) => {
                let from = made.remove(&whose).unwrap_or(0);
                let whole = contents(key, whose.1).len();
                let wrote =
                    from == whole || store.apply(key, write(key, whose.1, from, whole)).is_none();
                if wrote {
                    model.maybe.insert(whose);
                    let answer = store.apply(key, finish(key, whose.1));
                    if answer == Some(Stored::Finished { id: whose.1 }) {
                        model.there.insert(whose);
                    }
                }
            }
            _ => {
                let listed = store.list(key);
                if let Some(last) = listed.last() {
                    model.there.retain(|(owner, id)| *owner != key || *id >= last.id);
                    store.apply(key, StoreOp::RemoveBefore { id: last.id });
                }
            }
        }
    }
    model
}

fn seeds(ordinary: u64) -> u64 {
    let asked = ["QUORATE_CRASH_SEEDS", "QUORATE_SEEDS"].map(|name| std::env::var(name).ok());
    let asked = asked.into_iter().flatten().next();
    asked.and_then(|n| n.parse().ok()).unwrap_or(ordinary)
}

fn reopen(disk: &SimDisk, model: &Model, what: &str) {
    let mut first = SnapshotStore::open(disk.clone()).unwrap_or_else(|e| panic!("{what}: {e}"));
    model.check(&mut first, what);
    let listed = [first.list(A), first.list(B)];
    drop(first);
    disk.power_loss(0);
    let mut second = SnapshotStore::open(disk.clone()).unwrap_or_else(|e| panic!("{what}: {e}"));
    model.check(&mut second, what);
    assert_eq!([second.list(A), second.list(B)], listed, "{what}: listed, then gone");
    assert!(disk.names().iter().all(|name| !name.starts_with("making")), "{what}");
}

#[test]
fn whatever_call_a_crash_or_fault_strikes_finished_snapshots_are_there_and_whole() {
    let mut tried = 0;
    for seed in 1..=seeds(2) {
        let whole = SimDisk::new(seed);
        let model = work(&mut SnapshotStore::open(whole.clone()).unwrap(), &whole, seed);
        assert!(model.maybe.len() > 8, "a dull workload: {}", model.maybe.len());
        for call in 1..=whole.calls() {
            for fault in [Fault::Crash, Fault::Io, Fault::NoSpace] {
                let disk = SimDisk::new(seed ^ call);
                disk.fail_at(call, fault);
                let opened = SnapshotStore::open(disk.clone());
                let model = match opened {
                    Ok(mut store) => work(&mut store, &disk, seed),
                    Err(OpenError::Disk(_)) => Model::default(),
                    Err(other) => panic!("{fault:?} at {call}: {other}"),
                };
                for end in 0..8 {
                    let disk = disk.fork(end);
                    if end == 0 {
                        disk.kill()
                    } else {
                        disk.power_loss(end)
                    };
                    tried += 1;
                    reopen(&disk, &model, &format!("seed {seed}, {fault:?} at {call}, {end}"));
                }
            }
        }
    }
    println!("crash points tried: {tried}");
}

#[test]
fn a_snapshot_is_there_once_finished_and_not_before() {
    let disk = SimDisk::new(1);
    let mut store = SnapshotStore::open(disk.clone()).unwrap();
    let one = SnapshotId { index: 9, term: 2 };
    let bytes = contents(A, one);
    assert_eq!(store.apply(A, write(A, one, 0, bytes.len())), None);
    assert_eq!(store.list(A), []);
    let missing = Some(Stored::Failed { id: one, error: StoreError::Missing, tag: 4 });
    let early = StoreOp::Read { id: one, offset: 0, len_max: 1, tag: 4 };
    assert_eq!(store.apply(A, early), missing);
    assert_eq!(store.apply(A, finish(A, one)), Some(Stored::Finished { id: one }));
    assert_eq!(store.apply(A, finish(A, one)), Some(Stored::Finished { id: one }), "again");
    assert_eq!(store.list(B), [], "another machine's");
    disk.power_loss(0);
    let mut store = SnapshotStore::open(disk).unwrap();
    assert_eq!(read(&mut store, A, one).as_deref(), Ok(&bytes[..]));
    store.apply(A, StoreOp::RemoveBefore { id: one });
    assert_eq!(store.list(A).len(), 1, "before means before");
    store.apply(A, StoreOp::RemoveBefore { id: SnapshotId { index: 9, term: 3 } });
    assert_eq!(store.list(A), []);
}

#[test]
fn a_long_snapshot_is_synced_as_it_grows_and_a_failed_sync_costs_it_alone() {
    const PIECE: u64 = 1 << 20;
    let piece = Bytes::from(vec![7; PIECE as usize]);
    let disk = SimDisk::new(1);
    let mut store = SnapshotStore::open(disk.clone()).unwrap();
    let write = |number| StoreOp::Write { id: id(1), offset: number * PIECE, bytes: piece.clone() };
    let mut syncs = 0;
    for number in 0..8 {
        assert_eq!(store.apply(A, write(number)), None);
        syncs += u64::from(disk.last_call().starts_with("sync"));
    }
    assert_eq!(syncs, 2);
    (8..11).for_each(|number| assert_eq!(store.apply(A, write(number)), None));
    disk.fail_at(disk.calls() + 2, Fault::Io);
    let failed = Stored::Failed { id: id(1), error: StoreError::Disk, tag: 0 };
    assert_eq!(store.apply(A, write(11)), Some(failed));
    assert!(store.failure().is_none());
    assert!(!disk.names().iter().any(|name| name.contains("making")), "{:?}", disk.names());
}

#[test]
fn bytes_out_of_order_or_of_another_checksum_are_a_mismatch_and_leave_nothing() {
    let disk = SimDisk::new(1);
    let mut store = SnapshotStore::open(disk.clone()).unwrap();
    let one = SnapshotId { index: 1, term: 1 };
    let bytes = Bytes::from_static(b"0123456789");
    let write = |offset| StoreOp::Write { id: one, offset, bytes: bytes.clone() };
    let finish = |len, checksum| StoreOp::Finish { id: one, len, checksum };
    let failed = |error| Some(Stored::Failed { id: one, error, tag: 0 });
    for (ops, error) in [
        (vec![write(10)], StoreError::Missing),
        (vec![write(0), write(11)], StoreError::Mismatch),
        (vec![write(0), finish(9, crc32c(&bytes))], StoreError::Mismatch),
        (vec![write(0), finish(10, crc32c(&bytes) ^ 1)], StoreError::Mismatch),
        (vec![finish(10, crc32c(&bytes))], StoreError::Missing),
    ] {
        let last = ops.into_iter().map(|op| store.apply(A, op)).last().unwrap();
        assert_eq!(last, failed(error));
        assert_eq!(disk.names().len(), 0, "remains of a refused snapshot");
    }
    // Offset 0 begins anew.
    assert_eq!(store.apply(A, write(0)), None);
    assert_eq!(store.apply(A, write(0)), None);
    let answer = store.apply(A, finish(10, crc32c(&bytes)));
    assert_eq!(answer, Some(Stored::Finished { id: one }));
}

#[test]
fn every_flipped_bit_of_a_finished_snapshot_is_harmless_or_named() {
    let disk = SimDisk::new(1);
    let mut store = SnapshotStore::open(disk.clone()).unwrap();
    let one = (0..).map(id).find(|id| contents(A, *id).len() == 40_000).unwrap();
    store.apply(A, write(A, one, 0, 40_000));
    store.apply(A, finish(A, one)).unwrap();
    drop(store);
    let name = disk.names()[0].clone();
    let bytes = disk.contents(&name).unwrap().len();
    let (mut at_open, mut at_read, mut rng) = (0, 0, Rng::new(1));
    // Headers and table densely, the bytes between by samples.
    let dense = (0..4096).chain(44_096..bytes);
    for byte in dense.chain((4096..44_096).step_by(37)) {
        let disk = disk.fork(1);
        disk.flip(&name, byte * 8 + rng.below(8) as usize);
        match SnapshotStore::open(disk) {
            Err(OpenError::Corrupt { file, .. }) => {
                assert_eq!(file, name);
                at_open += 1;
            }
            Err(other) => panic!("{other}"),
            Ok(mut store) => match read(&mut store, A, one) {
                Ok(found) => assert_eq!(found, contents(A, one), "byte {byte}"),
                Err(error) => {
                    assert_eq!(error, StoreError::Mismatch);
                    at_read += 1;
                }
            },
        }
    }
    assert!(at_open >= 64 && at_read > 1000, "{at_open} at open, {at_read} at read");
}

#[test]
fn snapshots_in_the_making_are_bounded_per_machine() {
    let disk = SimDisk::new(1);
    let mut store = SnapshotStore::open(disk.clone()).unwrap();
    for index in 1..=20 {
        assert_eq!(store.apply(A, write(A, id(index), 0, 0)), None);
    }
    assert_eq!(disk.names().len(), 4);
    let gone = Some(Stored::Failed { id: id(1), error: StoreError::Missing, tag: 0 });
    assert_eq!(store.apply(A, finish(A, id(1))), gone);
}

#[test]
fn a_failed_naming_finishes_nothing_more_until_the_store_is_opened_again() {
    let disk = SimDisk::new(1);
    let mut store = SnapshotStore::open(disk.clone()).unwrap();
    let one = (0..).map(id).find(|id| contents(A, *id).len() == 100).unwrap();
    let failed = Some(Stored::Failed { id: one, error: StoreError::Disk, tag: 0 });
    store.apply(A, write(A, one, 0, 100));
    // Two writes, a sync and a rename come before the directory's sync.
    disk.fail_at(disk.calls() + 5, Fault::Io);
    assert_eq!(store.apply(A, finish(A, one)), failed);
    assert!(store.failure().is_some());
    store.apply(A, write(A, one, 0, 100));
    assert_eq!(store.apply(A, finish(A, one)), failed);
    drop(store);
    assert!(SnapshotStore::open(disk).unwrap().failure().is_none());
}

#[test]
fn a_locked_or_foreign_directory_is_refused() {
    let disk = SimDisk::new(1);
    let held = SnapshotStore::open(disk.clone()).unwrap();
    assert!(matches!(SnapshotStore::open(disk.clone()), Err(OpenError::Locked)));
    drop(held);
    disk.plant("journal-0000000000000001.wal", b"");
    assert!(matches!(SnapshotStore::open(disk), Err(OpenError::Foreign { .. })));
}

#[test]
fn the_real_disk_keeps_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let open = || SnapshotStore::open(RealDisk::open(dir.path()).unwrap()).unwrap();
    let mut store = open();
    let one = (0..).map(id).find(|id| contents(A, *id).len() == 40_000).unwrap();
    store.apply(A, write(A, one, 0, 40_000));
    assert_eq!(store.apply(A, finish(A, one)), Some(Stored::Finished { id: one }));
    drop(store);
    let op = StoreOp::Read { id: one, offset: 100, len_max: 1 << 30, tag: 0 };
    let Some(Stored::Chunk { bytes, len, .. }) = open().apply(A, op) else { panic!("a chunk") };
    assert_eq!((bytes, len), (contents(A, one).slice(100..), 40_000));
}
