//! Opening: which files there are, what they hold, and making it durable before it is handed out.

use std::io::{self, IoSlice};

use quorate_transport::{Frame, Key, Ticket};

use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, DiskError, Named, OpenError};
use crate::format::{
    HEADER_BYTES, Header, Position, VERSION, seed, segment_name, sequence_of, spare_name,
};
use crate::real::LOCK_NAME;
use crate::scan::{Contents, End, scan};
use crate::wal::Options;

/// What a journal held when it was opened. All of it is durable by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Every record that is not released, in the order of appending, its checksums verified.
    pub records: Vec<(Key, Ticket, Frame)>,
    /// How far each machine had released, by key. A machine's next ticket follows this and its
    /// records.
    pub released: Vec<(Key, Ticket)>,
    /// How the journal ended.
    pub tail: Tail,
    /// True when the directory held no journal: a first start, or a disk that was wiped. Only the
    /// host can know which.
    pub fresh: bool,
}

/// How the journal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Every record was known to be durable by its writer, and nothing follows.
    Clean,
    /// The last bursts are whole and kept, but nothing on disk says that their writer saw them
    /// become durable: it may have acknowledged them or not.
    Ambiguous {
        /// Known to be durable up to here.
        from: Position,
        /// Whole up to here.
        upto: Position,
    },
    /// After the last whole burst are remains of another, which were dropped. Either it was never
    /// durable, as after a power loss during its write; or it was, and has been damaged since. A
    /// journal cannot tell these apart for its last bursts, those written after `known`; a node
    /// that fears the second asks its peers.
    Torn {
        /// Known to be durable up to here.
        known: Position,
        /// Whole up to here; overwritten from here on.
        at: Position,
        /// Where the damage is.
        damaged_at: u64,
        /// What is wrong there.
        damage: Damage,
    },
}

/// What the journal goes on from.
pub(crate) struct State<F> {
    pub(crate) contents: Contents,
    pub(crate) segments: Vec<(u64, u64)>,
    pub(crate) spares: Vec<String>,
    pub(crate) file: F,
    pub(crate) end: Position,
    pub(crate) tail: Tail,
    pub(crate) fresh: bool,
}

/// Reads, repairs and synchronises a locked directory.
pub(crate) fn recover<D: Disk>(disk: &D, options: &Options) -> Result<State<D::File>, OpenError> {
    let inventory = inventory(disk)?;
    let Some(last) = inventory.segments.last().copied() else {
        return create(disk, options, &inventory);
    };
    let run = last_run(&inventory.segments);
    let mut contents = Contents::default();
    let mut segments = Vec::new();
    let mut ended = None;
    for sequence in run.iter().copied() {
        let name = segment_name(sequence);
        let file = disk.open(&name).named("open", &name)?;
        let bytes = read(&file, &name)?;
        let header = check_header(&bytes, sequence, options)?;
        follow(&header, ended.as_ref(), &mut contents)?;
        let end = scan(&bytes, sequence, seed(options.owner, sequence), &mut contents);
        contents.drop_released();
        segments.push((sequence, header.len));
        ended = Some((sequence, end));
        if sequence == last {
            let at = Position { segment: sequence, offset: end.offset };
            let tail = tail(&contents, at, end)?;
            check_first(run, contents.first, sequence, end)?;
            repair(&file, &name, &bytes, contents.synced, at)?;
            let spares = tidy(disk, options, &inventory, run)?;
            disk.sync_dir().named("sync", ".")?;
            return Ok(State { contents, segments, spares, file, end: at, tail, fresh: false });
        }
    }
    unreachable!("the last run of segments ends with the last segment")
}

/// Gives a file with a durable header its name as a segment.
pub(crate) fn install<D: Disk>(
    disk: &D,
    file: &D::File,
    spare: &str,
    header: &Header,
) -> Result<(), DiskError> {
    let name = segment_name(header.sequence);
    file.write_at(0, &[IoSlice::new(&header.encode())]).named("write", spare)?;
    file.sync().named("sync", spare)?;
    disk.rename(spare, &name).named("rename", spare)?;
    disk.sync_dir().named("sync", ".")
}

#[derive(Default)]
struct Inventory {
    segments: Vec<u64>,
    spares: Vec<String>,
}

fn inventory<D: Disk>(disk: &D) -> Result<Inventory, OpenError> {
    let mut found = Inventory::default();
    for name in disk.list().named("list", ".")? {
        if let Some(sequence) = sequence_of(&name, "journal") {
            found.segments.push(sequence);
        } else if sequence_of(&name, "spare").is_some() {
            found.spares.push(name);
        } else if name != LOCK_NAME {
            return Err(OpenError::Foreign { name });
        }
    }
    found.segments.sort_unstable();
    found.spares.sort_unstable();
    Ok(found)
}

/// The segments without a gap before the last. Those before a gap were on their way to be
/// recycled, in any order, when power was lost; if they were not, `check_first` notices.
fn last_run(segments: &[u64]) -> &[u64] {
    let mut from = segments.len() - 1;
    while from > 0 && segments[from - 1] + 1 == segments[from] {
        from -= 1;
    }
    &segments[from..]
}

fn read<F: DiskFile>(file: &F, name: &str) -> Result<Vec<u8>, OpenError> {
    let len = file.len().named("measure", name)?;
    let len = usize::try_from(len).map_err(io::Error::other).named("read", name)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(io::Error::other).named("read", name)?;
    bytes.resize(len, 0);
    file.read_at(0, &mut bytes).named("read", name)?;
    Ok(bytes)
}

fn check_header(bytes: &[u8], sequence: u64, options: &Options) -> Result<Header, OpenError> {
    let file = segment_name(sequence);
    let corrupt = |reason| OpenError::Corrupt { file: file.clone(), offset: 0, reason };
    let header = Header::decode(bytes).map_err(corrupt)?;
    if header.version != VERSION {
        return Err(OpenError::Version { file, found: header.version, expected: VERSION });
    }
    if header.owner != options.owner {
        return Err(OpenError::Owner { file, found: header.owner, expected: options.owner });
    }
    let found = bytes.len() as u64;
    if header.len != found {
        return Err(corrupt(Damage::FileLength { found, expected: header.len }));
    }
    if header.sequence != sequence || !header.len.is_multiple_of(HEADER_BYTES) {
        return Err(corrupt(Damage::Contents));
    }
    Ok(header)
}

/// A segment begins where the one before it ended, which was durable by then.
fn follow(
    header: &Header,
    before: Option<&(u64, End)>,
    contents: &mut Contents,
) -> Result<(), OpenError> {
    match before {
        None => contents.chain = header.chain,
        Some((sequence, end)) => {
            let corrupt = |reason, offset| {
                Err(OpenError::Corrupt { file: segment_name(*sequence), offset, reason })
            };
            if end.offset < header.previous_end {
                return corrupt(end.damage, end.damaged_at);
            }
            if end.offset > header.previous_end || contents.chain != header.chain {
                return corrupt(Damage::Chain, header.previous_end);
            }
        }
    }
    let start = Position { segment: header.sequence, offset: HEADER_BYTES };
    contents.synced = contents.synced.max(start);
    contents.first = contents.first.max(header.first);
    Ok(())
}

fn check_first(run: &[u64], first: u64, last: u64, end: End) -> Result<(), OpenError> {
    if run[0] > first && end.remains {
        // Segments are recycled once the burst that frees them is durable: this one was.
        let (file, offset, reason) = (segment_name(last), end.damaged_at, end.damage);
        return Err(OpenError::Corrupt { file, offset, reason });
    }
    if run[0] > first {
        return Err(OpenError::Missing { file: segment_name(run[0] - 1) });
    }
    Ok(())
}

fn tail(contents: &Contents, at: Position, end: End) -> Result<Tail, OpenError> {
    let (known, damage, damaged_at) = (contents.synced, end.damage, end.damaged_at);
    if known > at {
        let file = segment_name(at.segment);
        let reason = match damage {
            Damage::NoFrame => Damage::Short { durable: known.offset },
            other => other,
        };
        return Err(OpenError::Corrupt { file, offset: damaged_at, reason });
    }
    if end.remains {
        return Ok(Tail::Torn { known, at, damaged_at, damage });
    }
    if contents.content_end > known {
        return Ok(Tail::Ambiguous { from: known, upto: contents.content_end });
    }
    Ok(Tail::Clean)
}

/// Makes what will be handed out durable, and what follows it nothing.
///
/// All of it is written again, even where it reads right: after a failed sync the kernel may hold
/// as clean what never reached the disk.
fn repair<F: DiskFile>(
    file: &F,
    name: &str,
    bytes: &[u8],
    known: Position,
    at: Position,
) -> Result<(), OpenError> {
    const ZEROS: &[u8] = &[0; 64 << 10];
    let end = at.offset as usize;
    let from = if known.segment == at.segment { known.offset as usize } else { end };
    let again = &bytes[from.clamp(HEADER_BYTES as usize, end)..end];
    let mut slices = vec![IoSlice::new(again)];
    let mut rest = bytes.len() - end;
    while rest > 0 {
        let some = rest.min(ZEROS.len());
        slices.push(IoSlice::new(&ZEROS[..some]));
        rest -= some;
    }
    file.write_at(at.offset - again.len() as u64, &slices).named("write", name)?;
    file.sync().named("sync", name)?;
    Ok(())
}

/// Removes what was on its way to be recycled, and spares of another size or too many.
fn tidy<D: Disk>(
    disk: &D,
    options: &Options,
    inventory: &Inventory,
    run: &[u64],
) -> Result<Vec<String>, OpenError> {
    for sequence in inventory.segments.iter().filter(|sequence| **sequence < run[0]) {
        let name = segment_name(*sequence);
        disk.remove(&name).named("remove", &name)?;
    }
    let mut kept = Vec::new();
    for name in &inventory.spares {
        let len = disk.open(name).and_then(|file| file.len()).named("measure", name)?;
        if len == options.segment_bytes && kept.len() < options.spares_max {
            kept.push(name.clone());
        } else {
            disk.remove(name).named("remove", name)?;
        }
    }
    Ok(kept)
}

/// The first segment of a new journal.
fn create<D: Disk>(
    disk: &D,
    options: &Options,
    inventory: &Inventory,
) -> Result<State<D::File>, OpenError> {
    for name in &inventory.spares {
        // A later spare was a segment, or was to follow one.
        if *name != spare_name(1) {
            return Err(OpenError::Missing { file: segment_name(1) });
        }
        disk.remove(name).named("remove", name)?;
    }
    let (sequence, len) = (1, options.segment_bytes);
    let spare = spare_name(sequence);
    let file = disk.create(&spare, len).named("create", &spare)?;
    let (version, owner) = (VERSION, options.owner);
    let header =
        Header { version, owner, sequence, len, previous_end: 0, chain: 0, first: sequence };
    install(disk, &file, &spare, &header)?;
    let end = Position { segment: sequence, offset: HEADER_BYTES };
    let contents = Contents { synced: end, first: sequence, ..Contents::default() };
    let segments = vec![(sequence, len)];
    Ok(State { contents, segments, spares: Vec::new(), file, end, tail: Tail::Clean, fresh: true })
}
