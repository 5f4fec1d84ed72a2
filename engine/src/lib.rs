//! The engine: a process that holds data, one pinned core beside another.
//!
//! | module | what lives there |
//! |---|---|
//! | [`percore`] | one struct that lists what a core owns |
//! | [`shard`] | the verbs of the store: the only place where their meaning lives |
//! | [`segment`] | a core's memory: reservations, extents, pins |
//! | [`eviction`] | which object goes when room is needed |
//! | [`tiering`] | the SSD tier of a core: what goes there and what comes back |
//! | [`transport`] | connections, frames in, replies out |
//! | [`control`] | membership, hand-over of slots, the life of a core |
//! | [`config`], [`cli`], [`placement`], [`check`] | what was asked for, and what this machine can do |
//! | [`patience`] | what is somebody else's for a moment is asked for again |
//! | [`launch`] | a thread for each core, from the first line of the log to the last slot given away |
//! | [`embedded`] | the whole engine within any process, with a master of its own if it was given none |
//! | [`panics`] | what a panic ends |
//!
//! Everything down to [`control`] is generic over [`snowskin_io::Platform`] and runs unchanged in the simulator.

pub mod check;
pub mod cli;
pub mod config;
pub mod control;
pub mod embedded;
pub mod eviction;
pub mod launch;
pub mod panics;
pub mod patience;
pub mod percore;
pub mod placement;
pub mod segment;
pub mod shard;
pub mod tiering;
pub mod transport;
