//! Why a call, or one key of it, failed. A key that is not held is no error: see [`crate::Found`].

use snowskin_protocol::wire::Refusal;
use snowskin_protocol::wire::data::ItemStatus;
use snowskin_protocol::{Code, CoreId, NameError};
use std::net::SocketAddr;

/// A failure, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Tenant and key make no name.
    #[error(transparent)]
    InvalidKey(#[from] NameError),
    /// A value has at least one byte.
    #[error("the value is empty: store at least one byte")]
    EmptyValue,
    /// The home has no memory for the value, even after evicting what may be evicted.
    #[error("no memory for the value, even after eviction: add memory, or pin and lease less")]
    NoSpace,
    /// The value is larger than the largest segment of the core, or than any value may be.
    #[error("the value is larger than what one core can hold: split it into several keys")]
    TooLarge,
    /// A value that was to be durable is held, in memory alone: its core has no SSD tier, or one that takes nothing any more.
    #[error(
        "held in memory, and not durable: the engine has no SSD (see snowskin-engine --ssd), or it has failed, or the master has no ledger (see \
         snowskin-master --ledger) to remember whose it is"
    )]
    NotDurable,
    /// A value that was to be durable was stored, and the SSD had no room for it in time. It may have been evicted since.
    #[error("stored, and not durable yet: the SSD is full or slow; put it again to wait for it once more")]
    NotDurableYet,
    /// The caller's buffer is smaller than the value; what is in it now means nothing.
    #[error("the buffer is too small: the value needs {needed} bytes")]
    BufferTooSmall {
        /// Bytes of the value.
        needed: u64,
    },
    /// A range that was to be read lies beyond the end of the value, in part at least. The buffers are as they were.
    #[error(
        "the value has {value_bytes} bytes, and none of the {bytes} from {offset} on, or not all of them"
    )]
    RangeBeyondEnd {
        /// Where the range begins in the value.
        offset: u64,
        /// Its bytes.
        bytes: u64,
        /// Bytes of the value.
        value_bytes: u64,
    },
    /// The bytes that arrived do not match their checksum; what is in the caller's buffer now means nothing.
    #[error("the bytes do not match their checksum: read again, or compute the value anew")]
    Checksum,
    /// No answer in time. A put may have happened or not.
    #[error("no answer within the deadline: try again, or allow more time")]
    Deadline,
    /// A peer cannot be reached, tried twice where time allowed.
    #[error("cannot reach {}{address}: {reason}; is the engine running there?", of_core(.core))]
    Unreachable {
        /// The core that should be there; `None` for a seed.
        core: Option<CoreId>,
        /// Where it should listen.
        address: SocketAddr,
        /// What the attempt said.
        reason: String,
    },
    /// The connection to a peer broke while it was asked, twice. A put may have happened or not.
    #[error("the connection to {}{address} broke: {reason}; try again", of_core(.core))]
    Broken {
        /// The core that was asked; `None` for a seed.
        core: Option<CoreId>,
        /// Where it listens.
        address: SocketAddr,
        /// What went wrong.
        reason: String,
    },
    /// The seeds answer, and know of no engine.
    #[error("the cluster has no engine yet: start one, or wait longer")]
    NoEngines,
    /// The cluster has no such core.
    #[error("there is no core {0} in the cluster: it may have left")]
    NoSuchCore(CoreId),
    /// A peer refused the request.
    #[error("{address} refused ({refusal:?}): {sentence}")]
    Refused {
        /// Who refused.
        address: SocketAddr,
        /// Why.
        refusal: Refusal,
        /// Why, in the peer's words.
        sentence: String,
    },
    /// A peer gave an answer that this operation never has: one of the two is of a strange version.
    #[error("the answer {0:?} makes no sense here: are client and engine of the same release?")]
    Unexpected(ItemStatus),
    /// Too many requests or bytes are under way already.
    #[error("too much is under way: wait for some answers before asking for more")]
    Overloaded,
    /// The pattern is not a regular expression, or too long.
    #[error("the pattern cannot be used: {0}")]
    BadPattern(String),
    /// Slots have changed hands since the first page of a listing: keys may be listed twice, or not at all.
    #[error("slots have changed hands since the listing began, and keys with them: begin anew")]
    KeysMoved,
    /// The runtime or its thread cannot be made.
    #[error("the client cannot start: {0}")]
    Runtime(String),
    /// The client's tasks are gone: it has been shut down.
    #[error("the client is closed: connect again")]
    Closed,
}

impl Error {
    /// The number that callers of Mooncake Store's API know.
    pub fn code(&self) -> Code {
        match self {
            Error::InvalidKey(_) => Code::InvalidKey,
            Error::EmptyValue
            | Error::RangeBeyondEnd { .. }
            | Error::BadPattern(_)
            | Error::NoSuchCore(_)
            | Error::NotDurable
            | Error::Closed => Code::InvalidParameters,
            Error::NoSpace | Error::TooLarge => Code::NoSpace,
            Error::BufferTooSmall { .. } => Code::BufferOverflow,
            Error::Checksum => Code::ChecksumMismatch,
            Error::Deadline => Code::RpcTimeout,
            Error::Unreachable { .. } | Error::Refused { .. } => Code::RpcFailed,
            Error::Broken { .. } => Code::TransferFailed,
            Error::NoEngines | Error::Overloaded | Error::NotDurableYet | Error::KeysMoved => {
                Code::UnavailableNow
            }
            Error::Runtime(_) | Error::Unexpected(_) => Code::Internal,
        }
    }
}

fn of_core(core: &Option<CoreId>) -> String {
    core.map_or(String::new(), |core| format!("core {core} at "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_and_numbers() {
        let address = "127.0.0.1:7400".parse().unwrap();
        let seed = Error::Unreachable { core: None, address, reason: "refused".into() };
        assert_eq!(seed.to_string(), "cannot reach 127.0.0.1:7400: refused; is the engine running there?");
        let core = Some(CoreId::default());
        let broken = Error::Broken { core, address, reason: "reset".into() };
        assert!(broken.to_string().contains("core 00000000/0 at 127.0.0.1:7400"), "{broken}");
        assert_eq!(broken.code(), Code::TransferFailed);
        assert_eq!(Error::from(NameError::KeyEmpty).code(), Code::InvalidKey);
        assert_eq!(Error::BufferTooSmall { needed: 3 }.code().number(), -10);
        assert_eq!(Error::KeysMoved.code(), Code::UnavailableNow);
        let range = Error::RangeBeyondEnd { offset: 7, bytes: 2, value_bytes: 8 };
        assert_eq!(range.code().number(), -600);
        assert!(range.to_string().contains("8 bytes") && range.to_string().contains("2 from 7"), "{range}");
    }
}
