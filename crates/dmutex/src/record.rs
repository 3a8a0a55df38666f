//! What a node must remember.

use quorate_transport::{Decoder, Encoder, Wire, WireError};
use serde::{Deserialize, Serialize};

/// One durable fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Stamps up to this may have been used; a later life begins after it.
    Reserved {
        /// The last of them.
        upto: u64,
    },
}

impl Wire for Record {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.value(self);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        from.value("dmutex record")
    }
}
