//! A machine that stamps what nodes tell each other, and remembers the last of it: what happened
//! before what, on all nodes, without a common clock.

use std::collections::VecDeque;

use quorate_clocks::{Lamport, LamportTime, VectorClock};
use quorate_transport::{
    Decoder, Digest, Encoder, Input, Machine, NoRecord, NodeId, Outbox, Peer, Rename, Start,
    Ticket, Time, Wire, WireError,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Bytes of a word at most.
pub const WORD_BYTES_MAX: usize = 64;
/// Happenings that a node remembers at most.
pub const KEEP_MAX: usize = 1 << 16;

/// The configuration of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who may be told something, and tell.
    pub peers: Vec<NodeId>,
    /// How many happenings are remembered; older ones are forgotten. Default 256.
    pub keep: usize,
}

impl Config {
    /// The defaults for these peers.
    #[must_use]
    pub fn new(peers: impl IntoIterator<Item = NodeId>) -> Self {
        Self { peers: peers.into_iter().collect(), keep: 256 }
    }
}

/// Why it cannot start: the caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {rule}")]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// The rule it breaks.
    pub rule: &'static str,
}

/// A message's name: unique for ever, because a life of a node never comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WordId {
    /// Who said it.
    pub from: Peer,
    /// Counts what that life has said, from 1.
    pub number: u64,
}

/// What a peer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    number: u64,
    time: LamportTime,
    vector: VectorClock,
    word: String,
}

impl Wire for Message {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.value(&(self.number, self.time));
        self.vector.encode(to);
        to.value(&self.word);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let (number, time) = from.value("chronicle message")?;
        let vector = VectorClock::decode(from)?;
        let word: String = from.value("word")?;
        if word.len() > WORD_BYTES_MAX {
            return Err(WireError::Rule { field: "word", rule: "has at most 64 bytes" });
        }
        Ok(Self { number, time, vector, word })
    }
}

/// What happened on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something of its own.
    Local,
    /// It said this.
    Said(WordId),
    /// It heard this.
    Heard(WordId),
}

/// Something that happened on this node, with its stamps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// What.
    pub kind: Kind,
    /// In words.
    pub word: String,
    /// Its Lamport time: with the node, a place in one order of all.
    pub time: LamportTime,
    /// Its vector: what happened before it, exactly.
    pub vector: VectorClock,
}

/// What the local application asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Note something of one's own.
    Note {
        /// In words.
        word: String,
    },
    /// Tell a peer.
    Say {
        /// Whom.
        to: NodeId,
        /// What.
        word: String,
    },
    /// Give everything that is remembered.
    Story,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is noted, or on its way.
    Done,
    /// What is remembered, oldest first.
    Story(Vec<Happening>),
    /// Nothing was done: why.
    Refused(&'static str),
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Words said.
    pub said: u64,
    /// Words heard.
    pub heard: u64,
    /// Messages and requests refused: from strangers, too long, or with stamps that cannot be.
    pub refused: u64,
}

/// The machine. Stamps are those of this life: nothing of it is durable, and its vector has an
/// entry of its own.
#[derive(Clone, Debug)]
pub struct Chronicle {
    own: Peer,
    config: Config,
    clock: Lamport,
    vector: VectorClock,
    number: u64,
    story: VecDeque<Happening>,
    stats: Stats,
}

impl Chronicle {
    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Advances both clocks for an event of this node, or neither.
    fn stamp(&mut self) -> Result<(LamportTime, VectorClock), &'static str> {
        let (mut clock, mut vector) = (self.clock.clone(), self.vector.clone());
        let time = clock.tick().map_err(|_| "the logical clock has come to its end")?;
        vector.tick(self.own).map_err(|_| "the vector is full")?;
        (self.clock, self.vector) = (clock, vector.clone());
        Ok((time, vector))
    }

    fn keep(&mut self, happening: Happening) {
        self.story.push_back(happening);
        while self.story.len() > self.config.keep {
            self.story.pop_front();
        }
    }

    fn on_request(&mut self, request: Request, out: &mut Outbox<Self>) -> Reply {
        let (to, word) = match request {
            Request::Story => return Reply::Story(self.story.iter().cloned().collect()),
            Request::Note { word } => (None, word),
            Request::Say { to, word } => (Some(to), word),
        };
        if word.len() > WORD_BYTES_MAX {
            self.stats.refused += 1;
            return Reply::Refused("word: has at most 64 bytes");
        }
        if to.is_some_and(|to| !self.config.peers.contains(&to)) {
            self.stats.refused += 1;
            return Reply::Refused("to: is a peer");
        }
        let (time, vector) = match self.stamp() {
            Ok(stamps) => stamps,
            Err(why) => {
                self.stats.refused += 1;
                return Reply::Refused(why);
            }
        };
        let mut kind = Kind::Local;
        if let Some(to) = to {
            self.number += 1;
            self.stats.said += 1;
            kind = Kind::Said(WordId { from: self.own, number: self.number });
            let (number, vector, word) = (self.number, vector.clone(), word.clone());
            // Nothing of a chronicle is durable: there is nothing to wait for.
            out.send_eager(to, Message { number, time, vector, word });
        }
        self.keep(Happening { kind, word, time, vector });
        Reply::Done
    }

    fn on_message(&mut self, from: Peer, message: Message) {
        let stranger = !self.config.peers.contains(&from.node);
        if stranger || message.number == 0 {
            self.stats.refused += 1;
            return;
        }
        // Both clocks take the stamp, or neither: one that cannot be changes nothing.
        let (mut clock, mut vector) = (self.clock.clone(), self.vector.clone());
        let (Ok(time), Ok(_)) =
            (clock.receive(message.time), vector.receive(self.own, &message.vector))
        else {
            self.stats.refused += 1;
            return;
        };
        (self.clock, self.vector) = (clock, vector.clone());
        self.stats.heard += 1;
        let kind = Kind::Heard(WordId { from, number: message.number });
        self.keep(Happening { kind, word: message.word, time, vector });
    }
}

impl Machine for Chronicle {
    type Config = Config;
    type Error = ConfigError;
    type Message = Message;
    type Record = NoRecord;
    type Request = Request;
    type Reply = Reply;
    type Event = NoRecord;

    fn new(start: Start, config: Config) -> Result<Self, ConfigError> {
        let own = Peer { node: start.node, incarnation: start.incarnation };
        let broken = |field, rule| Err(ConfigError { field, rule });
        if config.peers.contains(&start.node) {
            return broken("peers", "does not hold this node");
        }
        if !(1..=KEEP_MAX).contains(&config.keep) {
            return broken("keep", "is 1 to 65,536");
        }
        let (clock, vector) = (Lamport::new(), VectorClock::new());
        let (story, stats) = (VecDeque::new(), Stats::default());
        Ok(Self { own, config, clock, vector, number: 0, story, stats })
    }

    fn replay(&mut self, _: Ticket, record: NoRecord) -> Result<(), ConfigError> {
        match record {}
    }

    fn handle(&mut self, _: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, request } => {
                let reply = self.on_request(request, out);
                out.answer_eager(id, reply); // nothing here is durable
            }
            Input::Message { from, message } => self.on_message(from, message),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        None
    }

    fn digest(&self, _: Time, rename: &Rename, into: &mut Digest) {
        into.u64(self.clock.latest().0);
        into.u64(self.number);
        for (peer, count) in self.vector.iter() {
            into.u64(rename.node(peer.node).0);
            into.u64(peer.incarnation.0);
            into.u64(count);
        }
        for happening in &self.story {
            into.u64(happening.time.0);
            into.bytes(happening.word.as_bytes());
        }
    }
}
