//! What happened, as one number and a few counts.
//!
//! Everything that happens in a simulation passes [`Trace::record`] and is folded into a running xxh3 hash. Two runs
//! of one program with one seed must end with equal hashes; where they do not, something outside the seed (a wall
//! clock, a thread, the order of a hash map, an address) has leaked into the program.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Kinds of events. The numbers are part of the hash only, never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Spawned = 1,
    Polled,
    Finished,
    TimerFired,
    EntropyDrawn,
    Listening,
    Opened,
    Accepted,
    Established,
    Refused,
    Sent,
    Delivered,
    Read,
    Acknowledged,
    EndSent,
    EndDelivered,
    ResetSent,
    ResetDelivered,
    Held,
    Released,
    Fault,
    DiskOpened,
    DiskBegun,
    DiskComplete,
    DiskAbandoned,
    DiskPowerCut,
    DiskFault,
    DiskChanged,
}

/// How much of everything has happened so far. All are sums since the simulation began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Polls of tasks.
    pub polls: u64,
    /// Timers that came due.
    pub timers: u64,
    /// Connects that were begun.
    pub connects: u64,
    /// Connects that were refused.
    pub refused: u64,
    /// Connections that reached a listener.
    pub connections: u64,
    /// Writes that took at least a byte.
    pub writes: u64,
    /// Writes that took fewer bytes than asked for.
    pub short_writes: u64,
    /// Writes that took nothing, because the window was full.
    pub blocked_writes: u64,
    /// Segments that writes were cut into.
    pub segments: u64,
    /// Bytes that writers handed over.
    pub bytes_sent: u64,
    /// Bytes that arrived at a socket that was still open.
    pub bytes_delivered: u64,
    /// Bits that were flipped on the way.
    pub flipped_bits: u64,
    /// Reads that returned at least a byte.
    pub reads: u64,
    /// Reads that returned fewer bytes than were there and had room.
    pub short_reads: u64,
    /// Bytes that readers took.
    pub bytes_read: u64,
    /// Ends of connections that saw a reset.
    pub resets: u64,
    /// Packets that waited for a partition to heal or a machine to return.
    pub held: u64,
}

/// The running hash, and the counts.
#[derive(Debug, Default)]
pub(super) struct Trace {
    hash: u64,
    events: u64,
    pub(super) counts: Counts,
}

impl Trace {
    /// Folds one event into the hash: when, what, and up to three numbers that say which.
    pub(super) fn record(&mut self, now: u64, event: Event, numbers: [u64; 3]) {
        let mut bytes = [0; 40];
        let words = [now, event as u64, numbers[0], numbers[1], numbers[2]];
        for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        self.hash = xxh3_64_with_seed(&bytes, self.hash);
        self.events += 1;
    }

    /// The hash of all events so far.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events that were.
    pub(super) fn events(&self) -> u64 {
        self.events
    }
}
