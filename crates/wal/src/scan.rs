//! Reads one segment: whole bursts up to the first damage, then what lies beyond it.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_transport::{
    ATTACHMENTS_MAX, Frame, FrameError, GroupId, HEAD_BYTES_MAX, Key, ProtocolId, Ticket,
};

use crate::error::Damage;
use crate::format::{
    ALIGN, Commit, HEADER_BYTES, Kind, Position, RECORD_HEAD, RELEASE_ENTRY, RawFrame, frame_at,
    u64_at,
};

/// One record: its machine, its ticket, and what was appended.
pub(crate) type Recovered = (Key, Ticket, Frame);

/// No more than this of a frame is checksummed, whatever its lengths say.
const COVERED_MAX: usize = RECORD_HEAD + 9 + 8 * ATTACHMENTS_MAX + HEAD_BYTES_MAX;
/// Beyond the damage only small frames are looked for: enough for every commit.
const EVIDENCE_MAX: usize = 4096;

/// What all segments read so far hold.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) records: Vec<(Position, Recovered)>,
    pub(crate) released: BTreeMap<Key, Ticket>,
    /// Whether a release mark has moved since the last [`drop_released`](Self::drop_released).
    pub(crate) moved: bool,
    pub(crate) last: BTreeMap<Key, Ticket>,
    /// The highest place that a header or commit calls durable.
    pub(crate) synced: Position,
    /// The oldest segment needed, by the last header or commit.
    pub(crate) first: u64,
    /// Where the last burst that is not just a mark ends.
    pub(crate) content_end: Position,
    /// The checksum of the last frame.
    pub(crate) chain: u32,
}

impl Contents {
    /// Forgets the records that a later release covers.
    pub(crate) fn drop_released(&mut self) {
        let released = &self.released;
        let live =
            |(key, ticket, _): &Recovered| released.get(key).is_none_or(|upto| ticket > upto);
        if std::mem::take(&mut self.moved) {
            self.records.retain(|(_, record)| live(record));
        }
    }
}

/// Where the bursts of a segment end, and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) offset: u64,
    pub(crate) damaged_at: u64,
    pub(crate) damage: Damage,
    /// Beyond `offset` there are remains of frames of this very segment.
    pub(crate) remains: bool,
}

#[derive(Default)]
struct Pending {
    records: Vec<(Position, Recovered)>,
    releases: Vec<(Key, Ticket)>,
    frames: u32,
}

/// Adds the whole bursts of a segment to `contents`.
pub(crate) fn scan(bytes: &[u8], sequence: u64, seed: u32, contents: &mut Contents) -> End {
    let mut offset = HEADER_BYTES;
    let mut chain = contents.chain;
    let mut at = offset;
    let mut pending = Pending::default();
    let damage = loop {
        let frame = match frame_at(bytes, seed, at, COVERED_MAX) {
            Ok(frame) if frame.previous != chain => break Damage::Chain,
            Ok(frame) => frame,
            Err(damage) => break damage,
        };
        let place = Position { segment: sequence, offset: at };
        let step = match frame.kind {
            Kind::Commit => finish(&frame, place, offset, &mut pending, contents),
            _ => collect(&frame, place, &mut pending),
        };
        if let Err(damage) = step {
            break damage;
        }
        at = frame.end;
        chain = frame.checksum;
        if frame.kind == Kind::Commit {
            offset = at;
            contents.chain = chain;
        }
    };
    let torn = at > offset || damage != Damage::NoFrame;
    let beyond = search(bytes, sequence, seed, offset, contents);
    End { offset, damaged_at: at, damage, remains: torn || beyond }
}

/// Adds a record or releases to the burst being read.
fn collect(frame: &RawFrame<'_>, place: Position, pending: &mut Pending) -> Result<(), Damage> {
    pending.frames += 1;
    if frame.kind == Kind::Record {
        pending.records.push((place, record(frame.body)?));
        return Ok(());
    }
    if !frame.body.len().is_multiple_of(RELEASE_ENTRY) {
        return Err(Damage::Contents);
    }
    for entry in frame.body.chunks_exact(RELEASE_ENTRY) {
        pending.releases.push(head(entry)?);
    }
    Ok(())
}

/// Takes a burst over, whole: its commit is here.
fn finish(
    frame: &RawFrame<'_>,
    place: Position,
    start: u64,
    pending: &mut Pending,
    contents: &mut Contents,
) -> Result<(), Damage> {
    let commit = Commit::decode(frame.body)?;
    if commit.start != start || commit.frames != pending.frames || commit.synced > place {
        return Err(Damage::Contents);
    }
    for (_, (key, ticket, _)) in &pending.records {
        let last = contents.last.entry(*key).or_default();
        if ticket <= last {
            return Err(Damage::TicketOrder);
        }
        *last = *ticket;
    }
    for (key, upto) in pending.releases.drain(..) {
        let mark = contents.released.entry(key).or_default();
        contents.moved |= upto > *mark;
        *mark = upto.max(*mark);
        let last = contents.last.entry(key).or_default();
        *last = upto.max(*last);
    }
    contents.records.append(&mut pending.records);
    contents.synced = contents.synced.max(commit.synced);
    contents.first = contents.first.max(commit.first);
    if commit.frames > 0 {
        contents.content_end = Position { segment: place.segment, offset: frame.end };
    }
    pending.frames = 0;
    Ok(())
}

/// Looks for frames of this segment after the damage: their commits say what was durable.
fn search(bytes: &[u8], sequence: u64, seed: u32, from: u64, contents: &mut Contents) -> bool {
    let mut found = false;
    let mut at = from;
    while at < bytes.len() as u64 {
        let Ok(frame) = frame_at(bytes, seed, at, EVIDENCE_MAX) else {
            at += ALIGN;
            continue;
        };
        found = true;
        let place = Position { segment: sequence, offset: at };
        if frame.kind == Kind::Commit
            && let Ok(commit) = Commit::decode(frame.body)
            && commit.synced <= place
        {
            contents.synced = contents.synced.max(commit.synced);
        }
        // What a whole frame holds is the application's, whatever it looks like.
        at = frame.end;
    }
    found
}

fn head(body: &[u8]) -> Result<(Key, Ticket), Damage> {
    if body.len() < RECORD_HEAD {
        return Err(Damage::Contents);
    }
    let group = GroupId(u64_at(body, 0));
    let protocol = u16::try_from(u64_at(body, 8)).map_err(|_| Damage::Contents)?;
    Ok((Key { protocol: ProtocolId(protocol), group }, Ticket(u64_at(body, 16))))
}

fn record(body: &[u8]) -> Result<Recovered, Damage> {
    let (key, ticket) = head(body)?;
    // A copy of its own, so that one live record does not keep the whole segment in memory.
    let flat = Bytes::copy_from_slice(&body[RECORD_HEAD..]);
    let frame = Frame::from_flat(&flat).map_err(|error| match error {
        FrameError::AttachmentChecksum(_) => Damage::Attachment,
        FrameError::HeadChecksum => Damage::Checksum,
        _ => Damage::Contents,
    })?;
    Ok((key, ticket, frame))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use quorate_transport::Rng;

    use super::*;
    use crate::format::{
        COMMIT_BYTES, FRAME_HEAD, put_frame_head, seal_frame, seed, set_frame_lengths,
    };

    /// A frame of any contents whose checksum and chain are right.
    fn sealed(rng: &mut Rng, chain: u32, offset: u64) -> (Vec<u8>, u32) {
        let kind = [Kind::Record, Kind::Release, Kind::Commit][rng.below(3) as usize];
        let len = match kind {
            Kind::Record => 20 + rng.below(60) as usize,
            Kind::Release => rng.below(3) as usize * RELEASE_ENTRY + rng.below(9) as usize / 8,
            Kind::Commit => COMMIT_BYTES as usize - FRAME_HEAD + rng.below(9) as usize / 8,
        };
        let mut out = Vec::new();
        put_frame_head(&mut out, kind);
        let small = |rng: &mut Rng| {
            if rng.below(2) == 0 { 0 } else { rng.next_u64() as u8 }
        };
        out.extend((0..len).map(|_| small(rng)));
        let valid = rng.below(2) == 0;
        if kind == Kind::Record && valid {
            out.truncate(FRAME_HEAD + 8);
            out.extend_from_slice(&1_u64.to_le_bytes());
            out.extend_from_slice(&rng.below(1 << 40).to_le_bytes());
            let mut flat = BytesMut::new();
            Frame::default().put_flat(&mut flat);
            out.extend_from_slice(&flat);
        } else if kind == Kind::Commit && valid && len == COMMIT_BYTES as usize - FRAME_HEAD {
            let synced = Position { segment: rng.below(5), offset: rng.below(8192) };
            let start = if rng.below(4) == 0 { offset } else { HEADER_BYTES };
            let frames = rng.below(3) as u32;
            out.truncate(FRAME_HEAD);
            Commit { synced, first: rng.below(4), start, frames }.put(&mut out);
        }
        let body = (out.len() - FRAME_HEAD) as u32;
        set_frame_lengths(&mut out, body, body - rng.below(u64::from(body) / 8 + 1) as u32);
        let covered = FRAME_HEAD + u32::from_le_bytes(out[20..24].try_into().unwrap()) as usize;
        let chain = seal_frame(&mut out[..covered], seed(7, 3), chain, offset);
        out.resize(out.len().next_multiple_of(ALIGN as usize), 0);
        (out, chain)
    }

    #[test]
    fn frames_of_any_contents_with_right_checksums_never_panic() {
        let asked = std::env::var("QUORATE_FUZZ_ITERATIONS").ok().and_then(|n| n.parse().ok());
        let mut rng = Rng::new(6);
        let mut bursts = 0;
        for _ in 0..asked.unwrap_or(20_000_u64) {
            let (mut segment, mut chain) = (vec![0; HEADER_BYTES as usize], 0);
            for _ in 0..rng.below(6) {
                let (frame, next) = sealed(&mut rng, chain, segment.len() as u64);
                segment.extend_from_slice(&frame);
                chain = if rng.below(16) == 0 { 1 } else { next };
            }
            let mut contents = Contents::default();
            let end = scan(&segment, 3, seed(7, 3), &mut contents);
            contents.drop_released();
            assert!((HEADER_BYTES..=segment.len() as u64).contains(&end.offset));
            assert!(end.offset <= end.damaged_at);
            assert!(contents.synced <= Position { segment: 3, offset: segment.len() as u64 });
            bursts += u64::from(end.offset > HEADER_BYTES);
        }
        assert!(bursts > 100, "only {bursts} had a whole burst");
    }
}
