//! The direct way of a client to a core: requests and replies in slots of shared memory.
//!
//! ```text
//!   submissions   ├ stamp │ head │ short body ┤ × 16   128 B each      client writes
//!   completions   ├ stamp │ head │ one record ┤ × 16    64 B each      core writes
//!   words         client sleeps · core sleeps · pins given back · core's processor · retired · arrivals
//!                                                                        each in lines of its own
//!   given back    the numbers of pins, a ring                          client writes
//!   chunks        ├ body 16 KiB │ records 16 KiB ┤ × 16                for what does not fit into a slot
//!   holds         what the client has of the core's shelf: see `shelf`
//! ```
//!
//! Request *n* lies in slot *n* mod 16, and so do its reply and its chunk; replies come in the order of requests. A slot's
//! stamp is *n* + 1, written after everything else and read before it, so one line of memory moves from one processor to
//! the other, and no count. The client has at most 16 requests under way, and needs no count of room either.
//!
//! The core copies what it reads before it looks at it, knows by itself where things are, and believes nothing: a client
//! that scribbles makes requests that make no sense, and its lane ends. What is asked and answered is the business of
//! `snowskin_protocol::wire::lane`.
//!
//! What the core has to read from elsewhere first is not waited for in a slot: the core answers that it is on its way, and counts
//! *arrivals* up when it is worth while to ask again.
//!
//! Sleeping is as in `pipe`: who finds nothing says so, looks once more, and waits for the bell; who writes looks whether
//! the other one sleeps.

use super::atomic::{AtomicU32, Ordering, fence};
use super::pipe::Broken;
use snowskin_protocol::wire::lane::{BODY_BYTES_MAX, RECORD_BYTES, REPLY_HEAD_BYTES, REQUEST_HEAD_BYTES};

/// Requests under way in a lane, at most.
pub const LANE_SLOTS: u32 = 16;
/// Pins that a lane's client holds, at most.
pub const LANE_PINS_MAX: usize = 8192;

/// Bytes of a slot of a request and of a reply, the stamp among them.
const SUBMISSION_BYTES: usize = 128;
const COMPLETION_BYTES: usize = 64;
const STAMP_BYTES: usize = size_of::<u32>();
/// A body that lies in the slot.
const SHORT_BODY_BYTES: usize = SUBMISSION_BYTES - STAMP_BYTES - REQUEST_HEAD_BYTES;
/// Bytes of half a chunk: the body, or the records.
const HALF_BYTES: usize = BODY_BYTES_MAX;
/// Words that different sides write are not in the same line, nor in neighbours that are fetched together.
const APART_BYTES: usize = 128;

const SUBMISSIONS_AT: usize = 0;
const COMPLETIONS_AT: usize = SUBMISSIONS_AT + LANE_SLOTS as usize * SUBMISSION_BYTES;
const CALLER_SLEEPS_AT: usize = COMPLETIONS_AT + LANE_SLOTS as usize * COMPLETION_BYTES;
const SERVER_SLEEPS_AT: usize = CALLER_SLEEPS_AT + APART_BYTES;
const GIVEN_BACK_AT: usize = SERVER_SLEEPS_AT + APART_BYTES;
const SERVER_CPU_AT: usize = GIVEN_BACK_AT + APART_BYTES;
const RETIRED_AT: usize = SERVER_CPU_AT + APART_BYTES;
const ARRIVALS_AT: usize = RETIRED_AT + APART_BYTES;
const PINS_AT: usize = 4096;
const CHUNKS_AT: usize = PINS_AT + LANE_PINS_MAX * size_of::<u32>();
/// Where the client says what it has of the core's shelf, see `shelf`: from a page on.
pub(super) const HOLDS_AT: usize = CHUNKS_AT + LANE_SLOTS as usize * 2 * HALF_BYTES;
/// Bytes of a lane's memory.
pub(super) const LANE_BYTES: usize = HOLDS_AT + 5 * 4096;

const _: () = assert!(STAMP_BYTES + REPLY_HEAD_BYTES + RECORD_BYTES == COMPLETION_BYTES);
const _: () = assert!(ARRIVALS_AT + APART_BYTES <= PINS_AT);
const _: () = assert!(LANE_SLOTS.is_power_of_two() && LANE_PINS_MAX.is_power_of_two());

/// The memory of a lane, zero at first.
pub trait LaneMemory {
    /// Slots in use: [`LANE_SLOTS`], fewer in models.
    const SLOTS: u32 = LANE_SLOTS;

    /// The word at an address that is a multiple of 4.
    fn word(&self, at: usize) -> &AtomicU32;

    /// Writes bytes from `at` on.
    fn write(&self, at: usize, bytes: &[u8]);

    /// Reads the bytes from `at` on.
    fn read(&self, at: usize, buffer: &mut [u8]);
}

/// The client's end.
#[derive(Debug)]
pub struct Caller<M> {
    memory: M,
    submitted: u32,
    taken: u32,
}

/// The core's end.
#[derive(Debug)]
pub struct Server<M> {
    memory: M,
    served: u32,
    given_back: u32,
    arrivals: u32,
}

/// The client's end of giving pins back: apart, because others than the caller may do so.
#[derive(Debug)]
pub struct PinReturns<M> {
    memory: M,
    given_back: u32,
}

/// A request as it was when it was looked at.
pub struct Submission {
    slot: u32,
    bytes: [u8; SUBMISSION_BYTES - STAMP_BYTES],
}

/// A reply, as far as it lies in its slot.
pub struct Completion {
    slot: u32,
    bytes: [u8; COMPLETION_BYTES - STAMP_BYTES],
}

#[inline]
fn submission_at(slot: u32) -> usize {
    SUBMISSIONS_AT + slot as usize * SUBMISSION_BYTES
}

#[inline]
fn completion_at(slot: u32) -> usize {
    COMPLETIONS_AT + slot as usize * COMPLETION_BYTES
}

fn body_at(slot: u32) -> usize {
    CHUNKS_AT + slot as usize * 2 * HALF_BYTES
}

fn records_at(slot: u32) -> usize {
    body_at(slot) + HALF_BYTES
}

impl<M: LaneMemory> Caller<M> {
    /// Of a fresh memory, of which this is the only client's end.
    pub fn new(memory: M) -> Self {
        Caller { memory, submitted: 0, taken: 0 }
    }

    /// No more requests come: those that are under way are not to be served, and what was reserved is given up. Pins stay, until
    /// they are given back or the socket ends.
    pub fn retire(&self) {
        self.memory.word(RETIRED_AT).store(1, Ordering::SeqCst);
    }

    /// The processor that the core has said it runs on: as long as we are there, it is not.
    pub fn server_cpu(&self) -> Option<u32> {
        self.memory.word(SERVER_CPU_AT).load(Ordering::Relaxed).checked_sub(1)
    }

    /// Requests that have no reply yet, or one that was not taken.
    pub fn under_way(&self) -> u32 {
        self.submitted.wrapping_sub(self.taken)
    }

    /// Whether there is room for another request.
    pub fn has_room(&self) -> bool {
        self.under_way() < M::SLOTS
    }

    /// Sends a request, for which there must be room. The body has at most [`BODY_BYTES_MAX`].
    #[inline]
    pub fn submit(&mut self, head: &[u8; REQUEST_HEAD_BYTES], body: &[u8]) {
        assert!(self.has_room() && body.len() <= BODY_BYTES_MAX, "{} bytes", body.len());
        let slot = self.submitted % M::SLOTS;
        let at = submission_at(slot);
        match body.len() <= SHORT_BODY_BYTES {
            true => self.memory.write(at + STAMP_BYTES + REQUEST_HEAD_BYTES, body),
            false => self.memory.write(body_at(slot), body),
        }
        self.memory.write(at + STAMP_BYTES, head);
        self.submitted = self.submitted.wrapping_add(1);
        publish(self.memory.word(at), self.submitted);
    }

    /// Whether the core is to be woken for what was submitted. Only once for each time that it sleeps.
    pub fn wakes_server(&self) -> bool {
        wakes(self.memory.word(SERVER_SLEEPS_AT))
    }

    /// The next reply, if it has come.
    #[inline]
    pub fn take(&mut self) -> Option<Completion> {
        if !self.has_reply() {
            return None;
        }
        let slot = self.taken % M::SLOTS;
        let mut completion = Completion { slot, bytes: [0; _] };
        self.memory.read(completion_at(slot) + STAMP_BYTES, &mut completion.bytes);
        self.taken = self.taken.wrapping_add(1);
        Some(completion)
    }

    /// The records of a reply that has more than one, into the beginning of `records`. Before the next request.
    pub fn read_records(&self, completion: &Completion, records: &mut [u8]) {
        assert!(records.len() <= HALF_BYTES);
        self.memory.read(records_at(completion.slot), records);
    }

    /// Says that this end will sleep, and whether it may: not if the next reply has come.
    pub fn doze(&self) -> bool {
        doze(self.memory.word(CALLER_SLEEPS_AT));
        !self.has_reply()
    }

    /// Arrivals so far. To be read before the request whose answer may be that something is on its way.
    pub fn arrivals(&self) -> u32 {
        let order = if cfg!(snowskin_loom) { Ordering::Acquire } else { Ordering::SeqCst };
        self.memory.word(ARRIVALS_AT).load(order)
    }

    /// Says that this end will sleep, and whether it may: not if the next reply has come, or more has arrived than `seen`.
    pub fn doze_until_arrival(&self, seen: u32) -> bool {
        self.doze() && self.arrivals() == seen
    }

    /// This end is awake: nobody need ring.
    pub fn rise(&self) {
        self.memory.word(CALLER_SLEEPS_AT).store(0, Ordering::Relaxed);
    }

    /// Whether the next reply has come.
    #[inline]
    pub fn has_reply(&self) -> bool {
        let stamp = self.taken.wrapping_add(1);
        self.under_way() > 0 && is_published(self.memory.word(completion_at(self.taken % M::SLOTS)), stamp)
    }
}

impl Completion {
    /// The head.
    pub fn head(&self) -> &[u8; REPLY_HEAD_BYTES] {
        self.bytes.first_chunk().expect("a slot has a head")
    }

    /// The record of a reply that has one.
    pub fn record(&self) -> &[u8; RECORD_BYTES] {
        self.bytes.last_chunk().expect("a slot has a record")
    }
}

impl Submission {
    /// The head.
    pub fn head(&self) -> &[u8; REQUEST_HEAD_BYTES] {
        self.bytes.first_chunk().expect("a slot has a head")
    }
}

impl<M: LaneMemory> Server<M> {
    /// Of a fresh memory, of which this is the only core's end.
    pub fn new(memory: M) -> Self {
        Server { memory, served: 0, given_back: 0, arrivals: 0 }
    }

    /// Whether no more requests come.
    #[inline]
    pub fn is_retired(&self) -> bool {
        self.memory.word(RETIRED_AT).load(Ordering::Relaxed) != 0
    }

    /// Says on which processor this end runs.
    pub fn show_cpu(&self, cpu: u32) {
        self.memory.word(SERVER_CPU_AT).store(cpu.wrapping_add(1), Ordering::Relaxed);
    }

    /// The next request, if there is one.
    #[inline]
    pub fn next(&self) -> Option<Submission> {
        if !self.has_request() {
            return None;
        }
        let slot = self.served % M::SLOTS;
        let mut submission = Submission { slot, bytes: [0; _] };
        self.memory.read(submission_at(slot) + STAMP_BYTES, &mut submission.bytes);
        Some(submission)
    }

    /// Its body, which is said to have so many bytes, at most [`BODY_BYTES_MAX`]. Long ones are copied to `buffer`.
    #[inline]
    pub fn body<'b>(&self, submission: &'b Submission, bytes: usize, buffer: &'b mut Vec<u8>) -> &'b [u8] {
        assert!(bytes <= BODY_BYTES_MAX, "checked with the head");
        if bytes <= SHORT_BODY_BYTES {
            return &submission.bytes[REQUEST_HEAD_BYTES..][..bytes];
        }
        buffer.resize(bytes.max(buffer.len()), 0);
        self.memory.read(body_at(submission.slot), &mut buffer[..bytes]);
        &buffer[..bytes]
    }

    /// Answers the request that was looked at last.
    #[inline]
    pub fn answer(&mut self, head: &[u8; REPLY_HEAD_BYTES], records: &[u8]) {
        assert!(records.len() <= HALF_BYTES, "{} bytes of records", records.len());
        let slot = self.served % M::SLOTS;
        let at = completion_at(slot);
        match (<&[u8; RECORD_BYTES]>::try_from(records), records.len() < RECORD_BYTES) {
            // The usual one: so many bytes, known when this is compiled, are moved in registers.
            (Ok(record), _) => self.memory.write(at + STAMP_BYTES + REPLY_HEAD_BYTES, record),
            (Err(_), true) => self.memory.write(at + STAMP_BYTES + REPLY_HEAD_BYTES, records),
            (Err(_), false) => self.memory.write(records_at(slot), records),
        }
        self.memory.write(at + STAMP_BYTES, head);
        self.served = self.served.wrapping_add(1);
        publish(self.memory.word(at), self.served);
    }

    /// Something has arrived that the client was told to ask for again.
    pub fn arrive(&mut self) {
        self.arrivals = self.arrivals.wrapping_add(1);
        publish(self.memory.word(ARRIVALS_AT), self.arrivals);
    }

    /// Whether the client is to be woken for what was answered, or has arrived. Only once for each time that it sleeps.
    #[inline]
    pub fn wakes_caller(&self) -> bool {
        wakes(self.memory.word(CALLER_SLEEPS_AT))
    }

    /// Says that this end will sleep, and whether it may: not if there is a request.
    pub fn doze(&self) -> bool {
        doze(self.memory.word(SERVER_SLEEPS_AT));
        !self.has_request()
    }

    /// This end is awake: nobody need ring.
    pub fn rise(&self) {
        self.memory.word(SERVER_SLEEPS_AT).store(0, Ordering::Relaxed);
    }

    /// Calls `take` with the pins that were given back since the last time: any numbers.
    #[inline]
    pub fn given_back(&mut self, mut take: impl FnMut(u32)) -> Result<(), Broken> {
        let given_back = self.memory.word(GIVEN_BACK_AT).load(Ordering::Acquire);
        if given_back.wrapping_sub(self.given_back) as usize > LANE_PINS_MAX {
            return Err(Broken);
        }
        while self.given_back != given_back {
            let mut pin = [0; 4];
            self.memory.read(pin_at(self.given_back), &mut pin);
            take(u32::from_le_bytes(pin));
            self.given_back = self.given_back.wrapping_add(1);
        }
        Ok(())
    }

    #[inline]
    fn has_request(&self) -> bool {
        let stamp = self.served.wrapping_add(1);
        is_published(self.memory.word(submission_at(self.served % M::SLOTS)), stamp)
    }
}

impl<M: LaneMemory> PinReturns<M> {
    /// Of a fresh memory, of which this is the only one.
    pub fn new(memory: M) -> Self {
        PinReturns { memory, given_back: 0 }
    }

    /// Gives a pin back: one that was given here, and only once. So there is always room: as many as can be had.
    pub fn give_back(&mut self, pin: u32) {
        self.memory.write(pin_at(self.given_back), &pin.to_le_bytes());
        self.given_back = self.given_back.wrapping_add(1);
        self.memory.word(GIVEN_BACK_AT).store(self.given_back, Ordering::Release);
    }
}

fn pin_at(count: u32) -> usize {
    PINS_AT + (count as usize & (LANE_PINS_MAX - 1)) * size_of::<u32>()
}

// Stamps and the words of those that sleep are in one order for all: who writes a stamp and sees nobody asleep wrote it before
// the other one fell asleep, and is seen by its second look. On x86 that is an exchange for each write, half as dear as a
// fence. loom does not know such orders, but it does fences.

#[inline]
fn publish(stamp: &AtomicU32, value: u32) {
    if cfg!(snowskin_loom) {
        stamp.store(value, Ordering::Release);
        fence(Ordering::SeqCst);
    } else {
        stamp.swap(value, Ordering::SeqCst);
    }
}

#[inline]
fn is_published(stamp: &AtomicU32, value: u32) -> bool {
    stamp.load(if cfg!(snowskin_loom) { Ordering::Acquire } else { Ordering::SeqCst }) == value
}

fn doze(sleeps: &AtomicU32) {
    sleeps.swap(1, Ordering::SeqCst);
    fence(Ordering::SeqCst);
}

#[inline]
fn wakes(sleeps: &AtomicU32) -> bool {
    sleeps.load(Ordering::SeqCst) != 0 && sleeps.swap(0, Ordering::SeqCst) != 0
}

#[cfg(all(test, not(snowskin_loom)))]
#[path = "slots_tests.rs"]
mod tests;
