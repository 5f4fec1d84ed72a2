//! What goes through the socket of a lane: rings, which wake the other side, and news of segments, with their descriptors.
//!
//! A ring is a packet of one byte, news is one of [`NEWS_BYTES`] and a descriptor (SCM_RIGHTS). The core sends news of a
//! segment before the first reply that refers to it, so a client that looks finds it.

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Bytes of news: segment, what it is, bytes.
const NEWS_BYTES: usize = 16;

/// What has become of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may be read and written.
    ReadWrite = 1,
    /// It may be read.
    Read = 2,
    /// It is there no more; whoever has mapped it should let it go.
    Gone = 3,
    /// It is no segment but the core's shelf, which may be read; not its bytes are said, but how many cards it has.
    Shelf = 4,
}

/// News of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentNews {
    /// Its number in the life of its core.
    pub segment: u32,
    /// What may be done with it.
    pub access: Access,
    /// Its bytes.
    pub bytes: u64,
}

/// What was heard at a lane's socket.
#[derive(Debug)]
pub enum Heard {
    /// Nothing.
    Silence,
    /// It was rung.
    Ring,
    /// News, with the memory if it is there.
    News(SegmentNews, Option<OwnedFd>),
    /// The other side has gone, or says what cannot be.
    End,
}

impl SegmentNews {
    fn encode(&self) -> [u8; NEWS_BYTES] {
        let mut bytes = [0; NEWS_BYTES];
        bytes[..4].copy_from_slice(&self.segment.to_le_bytes());
        bytes[4] = self.access as u8;
        bytes[8..].copy_from_slice(&self.bytes.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; NEWS_BYTES]) -> Option<Self> {
        let access = match bytes[4] {
            1 => Access::ReadWrite,
            2 => Access::Read,
            3 => Access::Gone,
            4 => Access::Shelf,
            _ => return None,
        };
        let segment = u32::from_le_bytes(*bytes.first_chunk()?);
        Some(SegmentNews { segment, access, bytes: u64::from_le_bytes(*bytes.last_chunk()?) })
    }
}

/// Wakes the other side. Never waits: where there is no room for another ring, many have not been heard yet.
pub(crate) fn ring(socket: BorrowedFd<'_>) {
    // Other errors are those of a peer that is gone; whoever waits for it hears that.
    let _ = rustix::net::send(socket, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}

/// Sends news, or says that there is no room for it now. Does not wait.
pub(crate) fn show(
    socket: BorrowedFd<'_>,
    news: &SegmentNews,
    memory: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = memory.into_iter().collect();
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)), "there is space for one");
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(socket, &[IoSlice::new(&news.encode())], &mut control, flags)?;
    Ok(())
}

/// The next that has come. Does not wait.
pub(crate) fn hear(socket: BorrowedFd<'_>) -> Heard {
    let mut bytes = [0; NEWS_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)
    {
        Ok(received) => received,
        Err(Errno::AGAIN | Errno::INTR) => return Heard::Silence,
        Err(_) => return Heard::End,
    };
    let mut memory = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            memory = fds.last();
        }
    }
    let is_whole = !received.flags.intersects(ReturnFlags::CTRUNC | ReturnFlags::TRUNC);
    match received.bytes {
        1 if is_whole => Heard::Ring,
        NEWS_BYTES if is_whole => match SegmentNews::decode(&bytes) {
            Some(news) => Heard::News(news, memory),
            None => Heard::End,
        },
        _ => Heard::End,
    }
}

/// Ends a lane for both sides.
pub(crate) fn close(socket: BorrowedFd<'_>) {
    // An error says that the other one has done so already.
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
}

/// Two connected sockets of packets.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Waits until something can be heard, or `timeout` is over.
pub(crate) fn wait(socket: BorrowedFd<'_>, timeout: std::time::Duration) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(&socket, PollFlags::IN)];
    let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
    match poll(&mut fds, Some(&timeout)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::time::Duration;

    #[test]
    fn rings_and_news_come_in_order_and_the_end_last() {
        let (core, client) = pair().unwrap();
        assert!(matches!(hear(client.as_fd()), Heard::Silence));
        assert!(!wait(client.as_fd(), Duration::from_millis(1)).unwrap());
        ring(core.as_fd());
        let shown = SegmentNews { segment: 7, access: Access::Read, bytes: 1 << 40 };
        show(core.as_fd(), &shown, Some(core.as_fd())).unwrap();
        let gone = SegmentNews { access: Access::Gone, ..shown };
        show(core.as_fd(), &gone, None).unwrap();
        assert!(wait(client.as_fd(), Duration::from_secs(9)).unwrap());
        assert!(matches!(hear(client.as_fd()), Heard::Ring));
        assert!(matches!(hear(client.as_fd()), Heard::News(news, Some(_)) if news == shown));
        assert!(matches!(hear(client.as_fd()), Heard::News(news, None) if news == gone));
        drop(core);
        assert!(matches!(hear(client.as_fd()), Heard::End));
    }

    #[test]
    fn who_says_what_cannot_be_is_heard_no_more() {
        for strange in [&[0_u8; 3][..], &[0; NEWS_BYTES], &[1; 99]] {
            let (core, client) = pair().unwrap();
            rustix::net::send(&core, strange, SendFlags::DONTWAIT).unwrap();
            assert!(matches!(hear(client.as_fd()), Heard::End), "{strange:?}");
        }
    }

    #[test]
    fn a_full_socket_makes_nobody_wait() {
        let (core, _client) = pair().unwrap();
        let news = SegmentNews { segment: 1, access: Access::Gone, bytes: 0 };
        (0..100_000).for_each(|_| ring(core.as_fd()));
        let error = show(core.as_fd(), &news, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
