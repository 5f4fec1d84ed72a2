//! The bell of a lane for a thread that waits by itself: looks into memory again and again, then the kernel.

use super::local::SocketsBell;
use super::spin::{Burst, Spin, SpinScore};
use crate::lane::Heard;
use crate::shm::news;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Looks before the clock is asked: a microsecond or two, in which an answer comes usually.
const LOOKS_FIRST: u32 = 64;

/// A lane's socket, and how long to look before one waits at it.
#[derive(Debug)]
pub struct BlockingBell {
    socket: OwnedFd,
    score: SpinScore,
}

impl BlockingBell {
    /// Of a bell that no runtime waits at; looks for at most `spin_max` (zero: once) before it waits.
    pub fn new(bell: SocketsBell, spin_max: Duration) -> Self {
        let spin_max = if super::is_single_cpu_machine() { Duration::ZERO } else { spin_max };
        BlockingBell { socket: bell.into_socket(), score: Spin::new(spin_max).stream() }
    }

    /// Wakes the other side. Never waits.
    pub fn ring(&self) {
        news::ring(self.socket.as_fd());
    }

    /// The next that was said, if anything was.
    pub fn hear(&self) -> Heard {
        news::hear(self.socket.as_fd())
    }

    /// Looks whether something has come, until it has or more looks are not worth while: the last ones had no luck, or the peer
    /// runs on the processor that we are on.
    #[inline]
    pub fn look(&mut self, peer_cpu: impl Fn() -> Option<u32>, has_come: impl Fn() -> bool) -> bool {
        if self.score.is_hopeful() {
            for _ in 0..LOOKS_FIRST {
                if has_come() {
                    self.score.reward();
                    return true;
                }
                std::hint::spin_loop();
            }
            // It cannot answer while we are looking.
            if peer_cpu() == Some(rustix::thread::sched_getcpu() as u32) {
                return has_come();
            }
        }
        loop {
            match self.score.burst(|| has_come().then_some(())) {
                Burst::Found(()) => return true,
                Burst::Again => {}
                Burst::Park => return false,
            }
        }
    }

    /// Waits until something can be heard; `false`: not for so long.
    pub fn wait(&self, patience: Duration) -> io::Result<bool> {
        news::wait(self.socket.as_fd(), patience)
    }
}
