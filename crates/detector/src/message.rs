//! What nodes tell each other.

use quorate_transport::{Decoder, Encoder, Wire, WireError};
use serde::{Deserialize, Serialize};

/// What nodes tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The sender lives.
    Heartbeat {
        /// Rising in one life, so that a late copy is no sign of life.
        number: u64,
    },
}

impl Wire for Message {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.value(self);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        from.value("detector message")
    }
}
