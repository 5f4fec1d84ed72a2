//! The only door to kernel and NIC.
//!
//! Everything above this crate is generic over [`Platform`]: a clock, entropy, tasks, a byte-stream network and disks.
//! Three implementations run the same engine, master and client code:
//!
//! | platform | for | on |
//! |---|---|---|
//! | [`uring::UringPlatform`] | cores of an engine | glommio: one executor per pinned thread, io_uring |
//! | [`sockets::SocketsPlatform`] | clients and the master | tokio: ordinary sockets, no io_uring |
//! | [`sim::SimPlatform`] | tests | a seeded single-threaded executor with virtual time, a virtual network and virtual disks |
//!
//! Tasks of a platform share memory freely (`Rc`, `RefCell`) because only one thread at a time runs them.
//!
//! [`memory`] hands out the bytes themselves: spans of registered memory that one owner at a time may write, and
//! loans of a caller's buffer that end when the caller says so. [`disk`] says what disks promise, and which buffers their
//! operations take.
//!
//! This is the only crate with `unsafe`. Each block names the invariant it rests on and who keeps it.

mod birth;
pub mod disk;
mod either;
pub mod framing;
mod latch;
pub mod memory;
pub mod platform;
pub mod probe;
pub mod seeded;
mod shm;
pub mod sim;
pub mod sockets;
mod split_mix;
pub mod sync;
pub mod topology;
pub mod uring;

pub use birth::Birth;
pub use disk::{Disk, DiskPart, DiskPlace, NoDisk, SECTOR_BYTES};
pub use either::Either;
pub use latch::Latch;
pub use platform::{
    Accept, Bell, ByteReader, ByteWriter, Lane, Listener, LocalUsers, Moment, NoBell, NoPatience, Patience,
    Peer, Platform, Stream, with_deadline,
};
pub use shm::{lane, local_folder, local_socket};
pub use split_mix::SplitMix;
