//! What a client needs to know before it can ask.

use snowskin_protocol::key::DEFAULT_TENANT;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a call may take if nothing else is said.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(5);
/// How long a read busy-waits if nothing else is said.
pub const SPIN_DEFAULT: Duration = Duration::from_micros(50);

/// Settings of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// Whom to ask for the first routing table: masters or any cores of engines.
    pub seeds: Vec<SocketAddr>,
    /// The tenant of all keys.
    pub tenant: String,
    /// How long one call may take.
    pub deadline: Duration,
    /// Whether values that are read are compared with their checksum. A client that does not may hand out bytes that
    /// were damaged on their way.
    pub verify: bool,
    /// How long a read busy-waits for an answer that is likely to come soon, before it lets the kernel wake it up;
    /// zero: never. Ignored by the simulator.
    pub spin: Duration,
}

impl ClientConfig {
    /// The usual settings, with these seeds.
    pub fn new(seeds: impl IntoIterator<Item = SocketAddr>) -> Self {
        ClientConfig {
            seeds: seeds.into_iter().collect(),
            tenant: DEFAULT_TENANT.to_owned(),
            deadline: DEADLINE_DEFAULT,
            verify: true,
            spin: SPIN_DEFAULT,
        }
    }
}
