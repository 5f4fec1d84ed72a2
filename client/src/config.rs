//! What a client needs to know before it can ask.

use snowskin_io::local_folder;
use snowskin_protocol::key::DEFAULT_TENANT;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// How long a call may take if nothing else is said.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(5);
/// How long a read busy-waits if nothing else is said.
pub const SPIN_DEFAULT: Duration = Duration::from_micros(50);

/// How a client reaches cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// By shared memory where that can be had, else by TCP.
    #[default]
    Auto,
    /// By TCP.
    Tcp,
    /// By shared memory: a core that cannot be reached so is an error.
    SharedMemory,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Auto => "auto",
            Transport::Tcp => "tcp",
            Transport::SharedMemory => "shm",
        })
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Transport::Auto),
            "tcp" => Ok(Transport::Tcp),
            "shm" => Ok(Transport::SharedMemory),
            _ => Err(format!("\"{text}\" is no transport: use auto, shm or tcp")),
        }
    }
}

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
    /// How cores are reached.
    pub transport: Transport,
    /// The folder in which engines of this machine have their sockets, as `snowskin-engine --local-sockets` says.
    pub local_sockets: PathBuf,
    /// Threads that help to copy values out of and into the memory of engines of this machine, when there are 2 MiB of them
    /// or more in a call; 0: the caller copies alone. They start when they are needed first, and sleep in between.
    pub copy_helpers: usize,
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
            transport: Transport::Auto,
            local_sockets: local_folder(),
            copy_helpers: 0,
            spin: SPIN_DEFAULT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_are_read_as_they_are_written() {
        for transport in [Transport::Auto, Transport::Tcp, Transport::SharedMemory] {
            assert_eq!(transport.to_string().parse(), Ok(transport));
        }
        let error = "rdma".parse::<Transport>().unwrap_err();
        assert!(error.contains("use auto, shm or tcp"), "{error}");
    }
}
