//! Files handed to a child on its standard input, which is a Unix socket.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How many are handed over.
pub(super) const FILES: usize = 3;

/// Hands files over. They stay open here too.
pub(super) fn hand_over(socket: impl AsFd, files: [BorrowedFd<'_>; FILES]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&files)), "there is space for them");
    rustix::net::sendmsg(socket, &[IoSlice::new(&[1])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes files; waits until they come.
pub(super) fn take_over(socket: impl AsFd) -> io::Result<[OwnedFd; FILES]> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            files.extend(some);
        }
    }
    let strange = |files: Vec<OwnedFd>| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} files were handed over", files.len()))
    };
    files.try_into().map_err(strange)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn files_are_the_same_on_the_other_side() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        hand_over(&here, [writer.as_fd(), here.as_fd(), there.as_fd()]).unwrap();
        let [first, ..] = take_over(&there).unwrap();
        drop(writer);
        File::from(first).write_all(b"x").unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut reader, &mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn a_socket_without_files_is_an_error() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&[1]).unwrap();
        assert!(take_over(&there).unwrap_err().to_string().contains("0 files"));
    }
}
