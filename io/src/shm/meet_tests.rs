//! Two ends of a connection in one process, strangers, and what is left behind.

use super::*;
use crate::shm::{LinkReader, LinkWriter, listen};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

fn pair() -> (Link, Link) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (engine, pid) = meet_client(theirs.into(), LocalUsers::Owner).unwrap();
    assert_eq!(pid, std::process::id());
    (meet_engine(ours.as_fd()).expect("it is there").unwrap(), engine)
}

fn pass(writer: &mut LinkWriter, reader: &mut LinkReader, text: &[u8]) {
    let mut got = Vec::new();
    let mut rest = text;
    while got.len() < text.len() {
        if let Some(count) = writer.try_write(&[IoSlice::new(rest)]) {
            rest = &rest[count.unwrap()..];
        }
        let mut buffer = [0; 10_000];
        if let Some(count) = reader.try_read(&mut buffer) {
            got.extend_from_slice(&buffer[..count.unwrap()]);
        }
    }
    assert_eq!(got, text);
}

#[test]
fn bytes_go_both_ways() {
    let (client, engine) = pair();
    let ((mut from_engine, mut to_engine), (mut from_client, mut to_client)) =
        (client.split(), engine.split());
    let text: Vec<u8> = (0..1_000_000_u32).map(|number| (number * 7 / 3) as u8).collect();
    pass(&mut to_engine, &mut from_client, &text);
    pass(&mut to_client, &mut from_engine, b"and back");
    assert!(from_engine.try_read(&mut [0; 9]).is_none());
}

#[test]
fn who_sleeps_hears_the_bell_once() {
    let (client, engine) = pair();
    let ((mut reader, _to_engine), (_from_client, mut writer)) = (client.split(), engine.split());
    assert!(reader.may_sleep().unwrap());
    assert!(listen(reader.bell()).is_none());
    for text in [&b"one"[..], b"two"] {
        assert_eq!(writer.try_write(&[IoSlice::new(text)]).unwrap().unwrap(), 3);
    }
    assert_eq!(listen(reader.bell()).unwrap().unwrap(), 1, "the second time nobody slept");
    assert!(!reader.may_sleep().unwrap(), "there is something");
    assert_eq!(reader.try_read(&mut [0; 9]).unwrap().unwrap(), 6);
    // And the other bell: for room.
    let large = vec![1; LINK_BYTES];
    assert!(writer.try_write(&[IoSlice::new(&large)]).unwrap().unwrap() < large.len());
    assert!(writer.try_write(&[IoSlice::new(&large)]).is_none() && writer.may_sleep().unwrap());
    assert_eq!(reader.try_read(&mut [0; 9]).unwrap().unwrap(), 9);
    assert_eq!(listen(writer.bell()).unwrap().unwrap(), 1);
    assert!(!writer.may_sleep().unwrap(), "there is room");
}

#[test]
fn the_end_comes_after_the_last_bytes() {
    let (client, engine) = pair();
    let ((mut reader, mut to_engine), (_from_client, mut writer)) = (client.split(), engine.split());
    assert_eq!(writer.try_write(&[IoSlice::new(b"farewell")]).unwrap().unwrap(), 8);
    writer.shutdown();
    assert!(writer.try_write(&[IoSlice::new(b"x")]).unwrap().is_err());
    assert_eq!(listen(to_engine.bell()).unwrap().unwrap(), 0, "it has hung up");
    to_engine.end();
    assert!(to_engine.try_write(&[IoSlice::new(b"x")]).unwrap().is_err());
    reader.end();
    assert_eq!(reader.try_read(&mut [0; 99]).unwrap().unwrap(), 8);
    assert_eq!(reader.try_read(&mut [0; 99]).unwrap().unwrap(), 0);
    assert!(!reader.may_sleep().unwrap());
}

#[test]
fn strange_greetings_are_refused() {
    let greeted = |bytes: &[u8]| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(bytes).unwrap();
        drop(theirs);
        meet_engine(ours.as_fd()).expect("something is there").unwrap_err()
    };
    let mut greeting = [0; GREETING_BYTES];
    assert_eq!(greeted(&[]).kind(), io::ErrorKind::InvalidData);
    assert_eq!(greeted(&greeting).kind(), io::ErrorKind::InvalidData);
    greeting[..8].copy_from_slice(&MAGIC);
    assert_eq!(greeted(&greeting[..9]).kind(), io::ErrorKind::InvalidData, "cut");
    assert_eq!(greeted(&greeting).kind(), io::ErrorKind::InvalidData, "without a memory");
    greeting[8] = ANOTHER_USER as u8;
    assert_eq!(greeted(&greeting).kind(), io::ErrorKind::PermissionDenied);
    let (ours, _theirs) = UnixStream::pair().unwrap();
    assert!(meet_engine(ours.as_fd()).is_none(), "it has not come yet");
}

/// A memory that its maker could shrink would end us by SIGBUS.
#[test]
fn a_memory_that_is_not_sealed_is_refused() {
    let memory = |bytes: usize, seals: SealFlags| {
        let memory = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&memory, bytes as u64).unwrap();
        fcntl_add_seals(&memory, seals).unwrap();
        memory
    };
    for (bytes, seals, is_good) in
        [(LINK_BYTES, SEALS, true), (LINK_BYTES, SealFlags::GROW, false), (LINK_BYTES - 4096, SEALS, false)]
    {
        let ((ours, theirs), (other, _end)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let (lane, _its_end) = news::pair().unwrap();
        let memory = memory(bytes, seals);
        greet(theirs.as_fd(), WELCOME, &[memory.as_fd(), other.as_fd(), lane.as_fd()]).unwrap();
        assert_eq!(meet_engine(ours.as_fd()).unwrap().is_ok(), is_good);
    }
}

#[test]
fn a_socket_of_the_dead_is_replaced_and_one_of_the_living_is_not() {
    let folder = std::env::temp_dir().join(format!("snowskin-meet-{}", std::process::id()));
    let path = folder.join("a/core.sock");
    drop(bind(&path, LocalUsers::Owner).unwrap());
    assert!(path.exists(), "nobody takes it away");
    let alive = bind(&path, LocalUsers::Owner).unwrap();
    assert_eq!(bind(&path, LocalUsers::Owner).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    drop(alive);
    fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = bind(&path, LocalUsers::Owner).unwrap_err();
    assert!(error.to_string().contains("others may write to it"), "{error}");
    fs::remove_dir_all(folder).unwrap();
}
