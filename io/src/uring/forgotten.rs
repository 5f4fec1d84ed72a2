//! The eventfd of an executor, which glommio forgets to close.
//!
//! glommio 0.9 gives each task a reference to its executor's notifier and never takes one back, so that the notifier's eventfd is open for as long as
//! the process lives: one more for each core that has ever been started. glommio makes it on the thread that starts the executor, and tells nobody
//! its number. So that thread looks which eventfd is new when the executor has one, and closes it when the executor's thread is gone.
//!
//! **Why nobody else's is closed.** Cores start one at a time and wait for the end of the look. If exactly one eventfd has come, it is glommio's, because
//! that one has come for certain. If a thread of the host has made one at the same moment there are two, nothing is known, and both stay open.
//!
//! **Why nobody misses it.** Whoever could still write to it has a waker of a task of the core, and no waker of a core leaves its thread.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

const DESCRIPTORS_PATH: &str = "/proc/self/fd";
const DESCRIPTORS_INFO_PATH: &str = "/proc/self/fdinfo";

/// One core starts at a time.
static STARTING: Mutex<()> = Mutex::new(());

/// An open eventfd: its descriptor, and what the kernel calls it (`eventfd-id: 7`), which tells it from another one that has its number later.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Eventfd {
    descriptor: RawFd,
    id: String,
}

/// Does something that makes an eventfd; and says which, if that can be told.
pub(super) fn watch<T>(begin: impl FnOnce() -> T) -> (T, Option<Eventfd>) {
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let before = all();
    let begun = begin();
    (begun, only_new(&before, &all()))
}

impl Eventfd {
    /// Closes it. To be called when its executor has run and ended.
    pub(super) fn close(self) {
        if all().contains(&self) {
            // SAFETY: it is open, and it is the executor's: `watch` has seen that. The executor is gone, and what is left of it is not reached by
            // anybody (see the module's head), so nobody else uses or closes it.
            drop(unsafe { OwnedFd::from_raw_fd(self.descriptor) });
        }
    }
}

fn only_new(before: &BTreeSet<Eventfd>, after: &BTreeSet<Eventfd>) -> Option<Eventfd> {
    let mut new = after.difference(before);
    new.next().filter(|_| new.next().is_none()).cloned()
}

/// All that this process has open. None where the kernel does not say so.
fn all() -> BTreeSet<Eventfd> {
    let Ok(entries) = fs::read_dir(DESCRIPTORS_PATH) else { return BTreeSet::new() };
    let eventfd = |entry: fs::DirEntry| {
        let is_one = fs::read_link(entry.path()).ok()?.as_os_str() == "anon_inode:[eventfd]";
        let descriptor: RawFd = entry.file_name().to_str().filter(|_| is_one)?.parse().ok()?;
        let info = fs::read_to_string(format!("{DESCRIPTORS_INFO_PATH}/{descriptor}")).ok()?;
        let id = info.lines().find(|line| line.starts_with("eventfd-id:"))?.to_owned();
        Some(Eventfd { descriptor, id })
    };
    entries.filter_map(Result::ok).filter_map(eventfd).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use std::os::fd::{AsRawFd, IntoRawFd};

    fn set(eventfds: &[(RawFd, &str)]) -> BTreeSet<Eventfd> {
        eventfds.iter().map(|&(descriptor, id)| Eventfd { descriptor, id: id.to_owned() }).collect()
    }

    #[test]
    fn what_is_new_is_known_if_it_is_alone() {
        let before = set(&[(3, "1"), (5, "2")]);
        let new = |after: &[(RawFd, &str)]| only_new(&before, &set(after)).map(|new| new.descriptor);
        assert_eq!(new(&[(3, "1"), (5, "2"), (6, "3")]), Some(6));
        assert_eq!(new(&[(3, "1"), (5, "4")]), Some(5), "the number is not new");
        assert_eq!(new(&[(3, "1"), (5, "2")]), None);
        assert_eq!(new(&[(3, "1"), (6, "3"), (7, "4")]), None, "one of them is somebody else's");
    }

    #[test]
    fn an_eventfd_is_closed_once_and_only_if_it_is_still_there() {
        let made = eventfd(0, EventfdFlags::CLOEXEC).expect("a descriptor");
        let known = all().into_iter().find(|known| known.descriptor == made.as_raw_fd()).expect("it is open");
        let descriptor = made.into_raw_fd();
        let other = Eventfd { id: "eventfd-id: none".to_owned(), ..known.clone() };
        other.close();
        assert!(all().contains(&known), "another one is not closed for it");
        known.clone().close();
        assert!(!all().contains(&known));
        known.close();
        assert!(descriptor > 2);
    }
}
