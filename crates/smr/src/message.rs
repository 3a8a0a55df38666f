//! What replicas tell each other: Raft's messages, and what state each is in.

use quorate_raft::{self as raft, Index};
use quorate_transport::{Class, Decoder, Encoder, Wire, WireError};

/// A message between two replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Of the Raft group.
    Raft(raft::Message),
    /// The digest of the sender's state at an index that all replicas audit.
    Audit {
        /// The index.
        index: Index,
        /// The low and the high half of the digest.
        digest: [u64; 2],
    },
}

impl From<raft::Message> for Message {
    fn from(message: raft::Message) -> Self {
        Self::Raft(message)
    }
}

const RAFT: u8 = 0;
const AUDIT: u8 = 1;

impl Wire for Message {
    fn class(&self) -> Class {
        match self {
            Self::Raft(message) => message.class(),
            Self::Audit { .. } => Class::Urgent,
        }
    }

    fn encode(&self, to: &mut Encoder<'_>) {
        match self {
            Self::Raft(message) => {
                to.value(&RAFT);
                message.encode(to);
            }
            Self::Audit { index, digest } => to.value(&(AUDIT, index, digest)),
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        match from.value::<u8>("replica message")? {
            RAFT => raft::Message::decode(from).map(Self::Raft),
            AUDIT => {
                let (index, digest) = from.value("audit")?;
                Ok(Self::Audit { index, digest })
            }
            _ => Err(WireError::Body { of: "replica message" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use quorate_raft::Term;
    use quorate_transport::{Key, decode_message, encode_message};

    use super::*;

    #[test]
    fn messages_come_back_and_raft_s_are_no_larger_for_it() {
        let reply = raft::Message::VoteReply { term: Term(7), granted: true };
        for message in [reply.into(), Message::Audit { index: Index(9), digest: [1, u64::MAX] }] {
            let frame = encode_message(Key::new(2, 0), &message, &mut BytesMut::new());
            assert_eq!(decode_message(&frame), Ok(message));
        }
        assert_eq!(size_of::<Message>(), size_of::<raft::Message>());
    }
}
