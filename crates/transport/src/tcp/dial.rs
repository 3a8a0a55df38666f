//! The sending half: dials a peer for one class, again and again, and writes what is queued.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::frame::Frame;
use crate::rng::Rng;
use crate::tcp::outbound::Finished;
use crate::tcp::peer::{Connection, PeerState};
use crate::tcp::shared::{Phase, Shared};
use crate::tcp::stats::End;
use crate::tcp::wire::{
    ANSWER_BYTES, Answer, Hello, PONG, Refusal, VERSION_MAX, VERSION_MIN, put_ping, put_prefix,
};
use crate::wire::Class;

/// Slices in one system call; the kernel takes 1024.
const SLICES_MAX: usize = 256;
/// An attachment up to this is cheaper to copy than to name in a slice of its own.
const INLINE_BYTES_MAX: usize = 128;
/// Heads of a burst share one allocation of this size.
const HEADS_BYTES: usize = 16 << 10;

/// The end of dialing: at once where nothing is queued, else when the time to flush is over.
async fn done(shared: &Shared, peer: &PeerState, class: Class) {
    shared.stopped(peer, Phase::Flushing).await;
    if !peer.outbound(class).is_finished() {
        shared.stopped(peer, Phase::Closed).await;
    }
}

/// Dials until the transport closes or forgets the peer.
pub(super) async fn run(shared: Arc<Shared>, peer: Arc<PeerState>, class: Class) {
    let mut backoff = Backoff::new(&shared, &peer, class);
    loop {
        let attempt = tokio::select! {
            biased;
            () = done(&shared, &peer, class) => return,
            attempt = connect(&shared, &peer, class) => attempt,
        };
        match attempt {
            Ok((stream, connection)) => {
                backoff.reset();
                let end = hold(&shared, &peer, class, stream, &connection).await;
                peer.counters.ended(end);
                peer.dialed_ended(&shared.inbox, class);
            }
            Err(Failed::Refused(refusal)) => peer.refused_by_peer(refusal),
            Err(Failed::Older) => peer.refused(Refusal::OlderIncarnation),
            Err(Failed::Nobody) => peer.counters.dial_failed(),
        }
        tokio::select! {
            biased;
            () = done(&shared, &peer, class) => return,
            () = peer.nudged(class) => {}
            () = sleep(backoff.next()) => {}
        }
    }
}

/// Doubling pauses, each drawn between its half and itself.
struct Backoff {
    rng: Rng,
    min: Duration,
    max: Duration,
    pause: Duration,
}

impl Backoff {
    fn new(shared: &Shared, peer: &PeerState, class: Class) -> Self {
        let config = &shared.config;
        let stream = peer.node.0.wrapping_mul(4).wrapping_add(class as u64);
        Self {
            rng: Rng::new(config.seed).fork(stream),
            min: config.backoff_min,
            max: config.backoff_max,
            pause: config.backoff_min,
        }
    }

    fn reset(&mut self) {
        self.pause = self.min;
    }

    fn next(&mut self) -> Duration {
        let pause = self.rng.duration(self.pause / 2, self.pause);
        self.pause = (self.pause * 2).min(self.max);
        pause
    }
}

enum Failed {
    /// Nobody is there, or nobody of this protocol.
    Nobody,
    Refused(Refusal),
    /// A life is there that should be dead.
    Older,
}

impl From<io::Error> for Failed {
    fn from(_: io::Error) -> Self {
        Self::Nobody
    }
}

async fn connect(
    shared: &Shared,
    peer: &PeerState,
    class: Class,
) -> Result<(TcpStream, Connection), Failed> {
    let dial = async {
        let mut stream = TcpStream::connect(peer.address()).await?;
        stream.set_nodelay(true)?;
        let hello = Hello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            class: class as u8,
            cluster: shared.config.cluster,
            from: shared.config.me,
            to: peer.node,
        };
        stream.write_all(&hello.encode()).await?;
        let mut answer = [0; ANSWER_BYTES];
        stream.read_exact(&mut answer).await?;
        let answer = Answer::decode(&answer).map_err(|_| Failed::Nobody)?;
        Ok::<_, Failed>((stream, answer))
    };
    let dialed = timeout(shared.config.handshake_timeout, dial).await;
    let (stream, answer) = dialed.map_err(|_| Failed::Nobody)??;
    if let Some(refusal) = answer.refusal {
        return Err(Failed::Refused(refusal));
    }
    if answer.peer.node != peer.node {
        return Err(Failed::Refused(Refusal::WrongNode));
    }
    let connection = peer.dialed(&shared.inbox, class, answer.peer.incarnation);
    Ok((stream, connection.map_err(|_| Failed::Older)?))
}

/// Writes until the connection ends, for whatever reason.
async fn hold(
    shared: &Shared,
    peer: &PeerState,
    class: Class,
    stream: TcpStream,
    connection: &Connection,
) -> End {
    let (read, write) = stream.into_split();
    tokio::select! {
        biased;
        () = connection.end.notified() => End::Replaced,
        () = shared.stopped(peer, Phase::Closed) => End::Stopped,
        end = listen(read, shared.config.idle_timeout) => end,
        end = send(write, shared, peer, class) => end,
    }
}

/// Hears the pongs, and the end.
async fn listen(mut read: impl AsyncRead + Unpin, idle_timeout: Duration) -> End {
    let mut bytes = [0; 64];
    loop {
        match timeout(idle_timeout, read.read(&mut bytes)).await {
            Err(_) => return End::Idle,
            Ok(Ok(0) | Err(_)) => return End::Closed,
            Ok(Ok(count)) if bytes[..count].iter().all(|byte| *byte == PONG) => {}
            Ok(Ok(_)) => return End::Garbage,
        }
    }
}

/// Writes what is queued, and a ping now and then; after the last frame of a queue that was
/// closed, says so and leaves the end to the other side.
async fn send(
    mut write: impl AsyncWrite + Unpin,
    shared: &Shared,
    peer: &PeerState,
    class: Class,
) -> End {
    let ping_interval = shared.config.idle_timeout / 3;
    let mut ping_at = Instant::now() + ping_interval;
    let mut frames = Vec::new();
    let mut batch = Batch::default();
    loop {
        match timeout_at(ping_at, peer.outbound(class).take(&mut frames)).await {
            Ok(Ok(())) => {}
            Ok(Err(Finished)) => {
                let _ = write.shutdown().await;
                return std::future::pending().await;
            }
            Err(_) => {}
        }
        let (count, bytes) = (frames.len(), frames.iter().map(Frame::flat_len).sum());
        frames.drain(..).for_each(|frame| batch.push(&frame));
        if Instant::now() >= ping_at {
            put_ping(&mut batch.heads);
            ping_at = Instant::now() + ping_interval;
        }
        if let Err(end) = batch.write(&mut write, shared.config.write_timeout).await {
            peer.counters.lost(count);
            return end;
        }
        peer.counters.sent(count, bytes);
    }
}

/// Frames on their way to the socket: heads, gathered, between attachments, never copied.
#[derive(Default)]
struct Batch {
    slices: VecDeque<Bytes>,
    heads: BytesMut,
}

impl Batch {
    fn push(&mut self, frame: &Frame) {
        if self.heads.capacity() - self.heads.len() < frame.head.len() + 64 {
            self.heads.reserve(HEADS_BYTES.max(frame.head.len() + 64));
        }
        put_prefix(frame, &mut self.heads);
        for attachment in frame.attachments.as_slice() {
            let bytes = attachment.bytes();
            if bytes.len() <= INLINE_BYTES_MAX {
                self.heads.extend_from_slice(bytes);
            } else {
                self.slices.push_back(self.heads.split().freeze());
                self.slices.push_back(bytes.clone());
            }
        }
    }

    async fn write(
        &mut self,
        write: &mut (impl AsyncWrite + Unpin),
        write_timeout: Duration,
    ) -> Result<(), End> {
        if !self.heads.is_empty() {
            self.slices.push_back(self.heads.split().freeze());
        }
        while !self.slices.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.slices.len().min(SLICES_MAX);
            for (slice, bytes) in slices.iter_mut().zip(&self.slices) {
                *slice = IoSlice::new(bytes);
            }
            let written = timeout(write_timeout, write.write_vectored(&slices[..count])).await;
            match written {
                Err(_) => return Err(End::Slow),
                Ok(Ok(0) | Err(_)) => return Err(End::Closed),
                Ok(Ok(bytes)) => self.advance(bytes),
            }
        }
        Ok(())
    }

    fn advance(&mut self, mut bytes: usize) {
        while let Some(first) = self.slices.front_mut() {
            if first.len() > bytes {
                first.advance(bytes);
                return;
            }
            bytes -= first.len();
            self.slices.pop_front();
        }
    }
}
