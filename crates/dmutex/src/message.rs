//! What nodes tell each other.

use quorate_transport::{Decoder, Encoder, Incarnation, Wire, WireError};
use serde::{Deserialize, Serialize};

use crate::name::Name;

/// What one node tells another. Any of them may be lost, late, doubled or out of order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// A life has begun, and knows nothing yet.
    Hello,
    /// The answer: no request that I know of is stamped later than this.
    Welcome {
        /// The life that said hello.
        to: Incarnation,
        /// The sender's clock.
        clock: u64,
    },
    /// May I enter? Stamped once, when it was made.
    Request {
        /// What.
        name: Name,
        /// When, in logical time; ties go to the lower node.
        stamp: u64,
        /// Asked before, and not answered.
        again: bool,
    },
    /// You may, as far as I am concerned.
    Permission {
        /// What.
        name: Name,
        /// The stamp of the request.
        stamp: u64,
        /// The life that asked.
        to: Incarnation,
    },
    /// I live, and your turn comes after mine. Only ever the answer to a request asked again.
    Deferred {
        /// What.
        name: Name,
        /// The stamp of the request.
        stamp: u64,
        /// The life that asked.
        to: Incarnation,
    },
}

impl Wire for Message {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.value(self);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        from.value("dmutex message")
    }
}
