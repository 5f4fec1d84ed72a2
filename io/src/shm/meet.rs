//! How a client and an engine come to share memory: a Unix socket, and who may connect to it.
//!
//! ```text
//!   client ─ connect ─► engine     the engine looks who it is (SO_PEERCRED)
//!          ◄─ "snowshm3", 0, bytes of the memory; with it a memfd and two more sockets
//!                                                         (without that of the lane, for another user)
//!          ◄─ "snowshm3", 1, 0                      another user: not here
//! ```
//!
//! The engine's own user and root may connect: they could read and write its memory anyway. Others may only where the
//! operator says so, and then see nothing but the memory of their own connection. The socket lies in a folder into which only
//! its owner can write, and whoever listens must be that owner (or root); a client that finds it otherwise does not connect.

use super::credentials::{self, Credentials, our_user};
use super::link::{Link, Side, Sockets};
use super::news;
use super::region::{self, LINK_BYTES, SEALS};
use crate::platform::LocalUsers;
use rustix::fs::fcntl_get_seals;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::fs::{self, DirBuilder, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

const MAGIC: [u8; 8] = *b"snowshm3";
const WELCOME: u32 = 0;
const ANOTHER_USER: u32 = 1;
/// Magic, answer, bytes of the memory.
const GREETING_BYTES: usize = 16;
/// The user who may do everything.
const ROOT: u32 = 0;
/// Descriptors that come with a welcome: the memory, the sockets for room and (unless the client is another user's) for the lane.
const FDS: usize = 3;

/// Listens at a path, in a folder that is made if need be, into which nobody else can put anything. A socket that a dead
/// process left there is taken away; if a live one listens, that is an error.
pub(crate) fn bind(path: &Path, users: LocalUsers) -> io::Result<UnixListener> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let folder_mode = if users == LocalUsers::Any { 0o755 } else { 0o700 };
    DirBuilder::new().recursive(true).mode(folder_mode).create(folder)?;
    check_folder(path, &[our_user(), ROOT])?;
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match UnixStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
                _ => return Err(io::ErrorKind::AddrInUse.into()),
            }
            UnixListener::bind(path)
        }
        done => done,
    }?;
    let mode = if users == LocalUsers::Any { 0o666 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Whether the folder of a socket belongs to one of these users, and nobody else can put sockets into it: a client would
/// believe what somebody else's says.
fn check_folder(path: &Path, owners: &[u32]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let found = fs::metadata(folder)?;
    if (owners.is_empty() || owners.contains(&found.uid())) && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    let sentence = format!(
        "{} belongs to another user, or others may write to it: choose another folder, or chmod go-w it",
        folder.display()
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, sentence))
}

/// Whether a client may connect to a socket. Where nobody has said which folder, it must be ours or root's: anybody could have
/// made one of that name.
pub(crate) fn check_before_connecting(path: &Path) -> io::Result<()> {
    let is_usual = path.parent() == Some(&super::local_folder());
    let ours = [our_user(), ROOT];
    check_folder(path, if is_usual { &ours } else { &[] })
}

/// Whether who listens there is who owns the folder, or root.
pub(crate) fn check_server(path: &Path, socket: BorrowedFd<'_>) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let (owner, server) = (fs::metadata(folder)?.uid(), credentials::of_peer(socket)?.user);
    if server == owner || server == ROOT {
        return Ok(());
    }
    let sentence = format!("user {server} listens in a folder of user {owner}: it is not believed");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, sentence))
}

/// The engine's part: greets whoever has connected, and says which process that is. Does not wait.
pub(crate) fn meet_client(socket: OwnedFd, users: LocalUsers) -> io::Result<(Link, u32)> {
    let Credentials { process, user, .. } = credentials::of_peer(socket.as_fd())?;
    let is_trusted = user == our_user() || user == ROOT;
    if !is_trusted && users == LocalUsers::Owner {
        greet(socket.as_fd(), ANOTHER_USER, &[])?;
        let sentence = format!("process {process} of user {user} is not let in");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, sentence));
    }
    Ok((meet(socket, is_trusted)?, process))
}

/// Welcomes a client: with a lane, or, if it is not trusted with our memory, without.
fn meet(socket: OwnedFd, has_lane: bool) -> io::Result<Link> {
    let memory = region::create()?;
    let flags = SocketFlags::CLOEXEC;
    let (room, their_room) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let (lane, their_lane) = news::pair()?;
    let fds = [memory.as_fd(), their_room.as_fd(), their_lane.as_fd()];
    greet(socket.as_fd(), WELCOME, &fds[..if has_lane { FDS } else { FDS - 1 }])?;
    let sockets = Sockets { bytes: socket, room, lane: has_lane.then_some(lane) };
    Link::map(Side::Engine, &File::from(memory), sockets)
}

fn greet(socket: BorrowedFd<'_>, answer: u32, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut greeting = [0; GREETING_BYTES];
    greeting[..8].copy_from_slice(&MAGIC);
    greeting[8..12].copy_from_slice(&answer.to_le_bytes());
    greeting[12..].copy_from_slice(&(LINK_BYTES as u32).to_le_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)), "there is space for three");
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match rustix::net::sendmsg(socket, &[IoSlice::new(&greeting)], &mut control, flags)? {
        GREETING_BYTES => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// The client's part: takes the greeting. `None`: it has not come yet.
pub(crate) fn meet_engine(socket: BorrowedFd<'_>) -> Option<io::Result<Link>> {
    let mut greeting = [0; GREETING_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received =
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut greeting)], &mut control, flags) {
            Ok(received) => received,
            Err(Errno::AGAIN | Errno::INTR) => return None,
            Err(error) => return Some(Err(error.into())),
        };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            fds.extend(some);
        }
    }
    let is_whole = received.bytes == GREETING_BYTES && !received.flags.contains(ReturnFlags::CTRUNC);
    Some(accept_greeting(socket, &greeting, is_whole, fds))
}

fn accept_greeting(
    socket: BorrowedFd<'_>,
    greeting: &[u8; GREETING_BYTES],
    is_whole: bool,
    fds: Vec<OwnedFd>,
) -> io::Result<Link> {
    let strange =
        || io::Error::new(io::ErrorKind::InvalidData, "this is no engine's socket, or another version's");
    let number =
        |at: usize| u32::from_le_bytes([greeting[at], greeting[at + 1], greeting[at + 2], greeting[at + 3]]);
    if !is_whole || greeting[..8] != MAGIC {
        return Err(strange());
    }
    if number(8) == ANOTHER_USER {
        let sentence = "the engine is another user's, and lets only its own and root share memory";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, sentence));
    }
    let mut fds = fds.into_iter();
    let (Some(memory), Some(room), lane, None) = (fds.next(), fds.next(), fds.next(), fds.next()) else {
        return Err(strange());
    };
    let memory = File::from(memory);
    // A memory that can be made smaller under us would be our end.
    let is_sealed = fcntl_get_seals(&memory).is_ok_and(|seals| seals.contains(SEALS));
    if number(8) != WELCOME
        || number(12) as usize != LINK_BYTES
        || memory.metadata()?.len() != LINK_BYTES as u64
        || !is_sealed
    {
        return Err(strange());
    }
    Link::map(Side::Client, &memory, Sockets { bytes: socket.try_clone_to_owned()?, room, lane })
}

#[cfg(test)]
#[path = "meet_tests.rs"]
mod tests;
