//! Whose process is at the other end of a Unix socket.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const SOL_SOCKET: c_int = 1;
const SO_PEERCRED: c_int = 17;

// rustix has this too, and takes a process number of 0 for impossible; it is that of a process in another container.
// SAFETY: this is the C library's own declaration (sys/socket.h).
unsafe extern "C" {
    fn getsockopt(socket: c_int, level: c_int, name: c_int, value: *mut c_void, bytes: *mut u32) -> c_int;
}

/// A process, when it connected or began to listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Credentials {
    /// Its number; 0: it is none that we can see.
    pub(super) process: u32,
    /// Its effective user.
    pub(super) user: u32,
    /// Its effective group.
    pub(super) group: u32,
}

/// Of the other end of a socket.
pub(super) fn of_peer(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let mut found = Credentials::default();
    let mut bytes = size_of::<Credentials>() as u32;
    // SAFETY: the descriptor is open as long as it is borrowed; the kernel writes at most `bytes` bytes, for which `found` has
    // room, three numbers of 32 bits whatever they are.
    let answer = unsafe {
        getsockopt(socket.as_raw_fd(), SOL_SOCKET, SO_PEERCRED, (&raw mut found).cast(), &raw mut bytes)
    };
    if answer == 0 && bytes as usize == size_of::<Credentials>() {
        Ok(found)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Our own user.
pub(super) fn our_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn we_are_at_the_other_end_of_our_own_sockets() {
        let (one, _other) = UnixStream::pair().unwrap();
        let found = of_peer(one.as_fd()).unwrap();
        assert_eq!((found.process, found.user), (std::process::id(), our_user()));
    }
}
