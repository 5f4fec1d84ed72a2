//! The task that drives a core's ring: hands over what tasks have begun, and waits for what the kernel completes.
//!
//! All tasks that begin operations in one go of the executor are served by one system call, because the driver runs after
//! them. Then it waits in the cheapest way that is fair:
//!
//! * While few reads and nothing else are in the kernel it looks for their completion for up to `SPIN_MAX`: a read of
//!   4 KiB takes less, and being woken costs as much again. Not if that has had no luck lately, and not while several
//!   streams are active on the core: they would wait with it.
//! * Else at the eventfd, which the executor waits for together with sockets and timers.
//!
//! A task that never waits for the executor's own ring starves it, and disks that answer at once (page cache, tmpfs)
//! would make a pair of such tasks of the driver and its caller. So after `BURST_MAX` without having waited there the
//! driver makes a trip ([`Turn`]).

use super::ring::{Ring, Turned};
use crate::uring::Shared;
use crate::uring::spin::Spin;
use crate::uring::turn::Turn;
use glommio::io::BufferedFile;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How long to look for a completion.
const SPIN_MAX: Duration = Duration::from_micros(60);
/// With more reads than these in the kernel waiting at the eventfd is cheaper, as one ring is for many of them.
const SPIN_READS_MAX: u32 = 4;
/// How long the driver goes on without a trip through the executor's ring.
const BURST_MAX: Duration = Duration::from_micros(500);
/// Who has waited for so long has not been in a burst.
const BURST_BREAK: Duration = Duration::from_micros(100);
/// How long to leave a kernel alone that takes nothing.
const STUCK: Duration = Duration::from_millis(1);
/// The highest score of luck; at zero, one wait in so many looks all the same.
const LUCK_MAX: u8 = 8;
const TRIAL_EVERY: u8 = 32;

/// What tasks wake the driver with.
#[derive(Default)]
pub(super) struct Doorbell {
    is_rung: Cell<bool>,
    /// It has been the kernel, by way of the executor's ring.
    is_from_kernel: Cell<bool>,
    driver: RefCell<Option<Waker>>,
}

impl Doorbell {
    pub(super) fn ring(&self) {
        if !self.is_rung.replace(true)
            && let Some(driver) = self.driver.take()
        {
            driver.wake();
        }
    }

    fn poll_rung(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_rung.take() {
            return Poll::Ready(());
        }
        *self.driver.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Whether looking for completions has paid lately.
struct Luck {
    spin: Spin,
    max: Duration,
    score: u8,
    trial: u8,
}

impl Luck {
    fn new(spin: Spin) -> Luck {
        let max = spin.max().min(SPIN_MAX);
        Luck { spin, max, score: LUCK_MAX / 2, trial: 0 }
    }

    /// Looks until there is something (`true`) or it is not worth while any more.
    fn look(&mut self, mut is_there: impl FnMut() -> bool) -> bool {
        if self.max.is_zero() || self.spin.is_shared() {
            return false;
        }
        if self.score == 0 {
            self.trial = (self.trial + 1) % TRIAL_EVERY;
            if self.trial != 0 {
                return false;
            }
        }
        let begun = Instant::now();
        while begun.elapsed() < self.max {
            if is_there() {
                self.score = (self.score + 1).min(LUCK_MAX);
                return true;
            }
            std::hint::spin_loop();
        }
        self.score = self.score.saturating_sub(1);
        false
    }
}

/// Time since the driver has waited for the executor's own ring.
struct Burst {
    began: Instant,
    turn: Turn,
}

impl Burst {
    /// The driver has waited since `before`, or it was the executor's ring that has woken it.
    fn note_wait(&mut self, before: Instant, is_from_kernel: bool) {
        let now = Instant::now();
        if is_from_kernel || now.duration_since(before) > BURST_BREAK {
            self.began = now;
        }
    }

    /// Lets everybody else have a turn, if this has been long.
    async fn pause(&mut self) {
        if self.began.elapsed() > BURST_MAX {
            self.turn.end();
            poll_fn(|context| self.turn.poll_mine(context)).await;
            self.began = Instant::now();
        }
    }
}

/// Starts what drives the ring, which ends with it.
pub(super) fn start(ring: &Rc<Ring>, shared: &Shared) -> io::Result<()> {
    let eventfd = ring.eventfd()?.into_raw_fd();
    // SAFETY: the descriptor is an open eventfd and is ours alone: `into_raw_fd` has just given it up.
    let eventfd = unsafe { BufferedFile::from_raw_fd(eventfd) };
    let burst = Burst { began: Instant::now(), turn: shared.turns.turn() };
    let (doorbell, luck) = (ring.doorbell.clone(), Luck::new(shared.spin.clone()));
    shared.tasks.spawn(listen(Rc::downgrade(ring), doorbell.clone(), eventfd));
    shared.tasks.spawn(drive(Rc::downgrade(ring), doorbell, burst, luck));
    Ok(())
}

/// Waits for the kernel. A task of its own: glommio keeps a waker for each poll of a read, and there is an end to that.
async fn listen(ring: Weak<Ring>, doorbell: Rc<Doorbell>, eventfd: BufferedFile) {
    while ring.strong_count() > 0 {
        // How often it has rung does not matter.
        if let Err(error) = eventfd.read_at(0, 8).await {
            log::warn!("the disk's eventfd cannot be waited for, so that operations take long: {error}");
            glommio::timer::sleep(STUCK).await;
        }
        doorbell.is_from_kernel.set(true);
        doorbell.ring();
    }
}

async fn drive(ring: Weak<Ring>, doorbell: Rc<Doorbell>, mut burst: Burst, mut luck: Luck) {
    loop {
        let before = Instant::now();
        poll_fn(|context| doorbell.poll_rung(context)).await;
        burst.note_wait(before, doorbell.is_from_kernel.take());
        // Held only while there is work: who drops the last handle ends the ring.
        let Some(ring) = ring.upgrade() else { return };
        ring.silence();
        work(&ring, &mut burst, &mut luck).await;
    }
}

/// Turns until there is nothing to do but to wait at the eventfd.
async fn work(ring: &Ring, burst: &mut Burst, luck: &mut Luck) {
    loop {
        let turned = ring.turn();
        burst.pause().await;
        match turned {
            Turned::More => continue,
            Turned::Stuck => {
                glommio::timer::sleep(STUCK).await;
                continue;
            }
            Turned::Wait => {}
        }
        let (in_kernel, reads) = ring.in_kernel();
        let is_few = (1..=SPIN_READS_MAX).contains(&reads) && in_kernel == reads;
        if is_few && luck.look(|| ring.has_news()) {
            continue;
        }
        // What comes from now on rings.
        if in_kernel == 0 || !ring.listen() {
            return;
        }
        ring.silence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_ends_without_luck_and_is_tried_again() {
        let mut luck = Luck::new(Spin::new(Duration::from_micros(10)));
        let mut tried = 0;
        for _ in 0..200 {
            let mut looks = 0;
            assert!(!luck.look(|| {
                looks += 1;
                false
            }));
            tried += usize::from(looks > 0);
        }
        assert!((8..=12).contains(&tried), "{tried}");
        while !luck.look(|| true) {}
        assert!(luck.look(|| true), "luck has come back");
    }

    #[test]
    fn nobody_looks_who_may_not() {
        let mut luck = Luck::new(Spin::new(Duration::ZERO));
        assert!(!luck.look(|| true));
        let spin = Spin::new(Duration::from_millis(50));
        let mut luck = Luck::new(spin.clone());
        let mut streams = [spin.stream(), spin.stream()];
        assert_eq!(streams[0].attempt(|| Some(1)), Some(1));
        assert!(luck.look(|| true), "one stream is who waits for the disk");
        assert_eq!(streams[1].attempt(|| Some(1)), Some(1));
        assert!(!luck.look(|| true), "several would wait with it");
    }

    #[test]
    fn a_doorbell_that_has_rung_is_heard_once() {
        let doorbell = Doorbell::default();
        let mut context = Context::from_waker(Waker::noop());
        assert!(doorbell.poll_rung(&mut context).is_pending());
        doorbell.ring();
        doorbell.ring();
        assert!(doorbell.poll_rung(&mut context).is_ready() && doorbell.poll_rung(&mut context).is_pending());
    }
}
