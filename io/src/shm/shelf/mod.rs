//! A shelf: values of a core that clients of this machine find without asking it.
//!
//! ```text
//!   shelf   ├ life, hour │ tags: 4 hashes a set │ cards: 256 B each ┤      the core writes, clients can only read
//!   lane    ├ holds × 64 │ uses: a ring ┤                                 its client writes, the core reads
//! ```
//!
//! A card says where a value lies and under which name. It is read as behind a *seqlock*: its number is even while it says nothing, and
//! goes up with every change, so whoever finds the same odd number before and after has read one card. And it is held as by a *hazard
//! pointer*: a client writes number and place of the card into its lane and looks whether the card is still the same. The core that
//! takes a card back changes its number first and looks into all lanes then. All four are in one order for everybody, so at least one
//! sees the other: either the client finds the card gone, or the core finds it held, and keeps the bytes until it is not.
//!
//! So a read costs no request, and no line of memory that the core has to have in its cache. What it cannot do without the core it does
//! later: a client notes which cards it has used, and the core takes that in before it chooses what to evict.
//!
//! **A core that is dead or hangs is not believed.** It holds a robust mutex in the shelf as long as it lives; when its thread dies, in
//! whatever way, the kernel says so there before anything else of the process is gone. And it says the hour, again and again: a shelf whose
//! hour has passed is not read.
//!
//! What clients write is believed as far as it harms nobody but themselves: numbers of cards that they hold keep those bytes, others mean
//! nothing.

mod cards;
mod clock;
mod holds;
mod life;
mod region;

pub use cards::{CARDS_PER_SET, Card, CardId, NAME_BYTES_MAX, Placed};
pub use clock::host_ms;
pub use holds::{HOLDS, Holder, Watch, release};
pub(super) use region::HOLD_BYTES;
pub use region::{HoldRegion, SharedShelf, ShelfRegion};

/// Memory that several processes share, in words. Fresh ones are 0.
pub trait Words {
    /// The word at a place, counted in words.
    fn word(&self, at: usize) -> &super::atomic::AtomicU64;
}
