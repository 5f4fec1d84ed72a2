//! A lock for what takes a handful of instructions: cheaper than a mutex, and nobody sleeps in it.
//!
//! Taking it is one exchange, and giving it back is a store: half of what an uncontended mutex costs, which has to find out
//! whether somebody sleeps. Whoever finds it taken looks again, and after a while lets others run. So it is never held over a
//! system call, an allocation of size, or anything that waits; but for those who only try, and do something else if it is taken.

#[cfg(all(test, snowskin_loom))]
use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, Ordering},
    thread::yield_now,
};
#[cfg(not(all(test, snowskin_loom)))]
use plain::UnsafeCell;
#[cfg(not(all(test, snowskin_loom)))]
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread::yield_now,
};

use std::fmt;

/// Looks at a latch that is taken before others are let run: the holder may need our processor to go on.
const LOOKS: u32 = 128;

/// The lock, and what it guards.
pub struct Latch<T> {
    is_taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is used by one thread at a time, see `with`; so it may be one that only moves between threads.
unsafe impl<T: Send> Sync for Latch<T> {}

impl<T> Latch<T> {
    /// A latch that guards `value`.
    pub fn new(value: T) -> Self {
        Latch { is_taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Uses the value while nobody else does. `job` must not come back to this latch: it would wait for itself.
    #[inline]
    pub fn with<R>(&self, job: impl FnOnce(&mut T) -> R) -> R {
        if self.is_taken.swap(true, Ordering::Acquire) {
            self.wait();
        }
        self.use_taken(job)
    }

    /// The same, unless somebody else uses it just now. May take long.
    #[inline]
    pub fn try_with<R>(&self, job: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.is_taken.swap(true, Ordering::Acquire) { None } else { Some(self.use_taken(job)) }
    }

    /// Only for who has just found `is_taken` false and made it true in one step.
    #[inline]
    fn use_taken<R>(&self, job: impl FnOnce(&mut T) -> R) -> R {
        let _taken = Taken(&self.is_taken);
        // SAFETY: by what is said above nobody else is here, and nobody comes before `is_taken` is false again: when `_taken` is
        // dropped, behind this closure, also when that unwinds. So there is no other reference.
        self.value.with_mut(|value| job(unsafe { &mut *value }))
    }

    #[cold]
    fn wait(&self) {
        let mut looks = 0;
        while self.is_taken.load(Ordering::Relaxed) || self.is_taken.swap(true, Ordering::Acquire) {
            looks += 1;
            if looks % LOOKS == 0 {
                yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

/// Gives the latch back.
struct Taken<'a>(&'a AtomicBool);

impl Drop for Taken<'_> {
    #[inline]
    fn drop(&mut self) {
        if cfg!(snowskin_loom) {
            // loom takes a store beside an exchange that failed for unordered, and shows the exchange's value afterwards. It is
            // not: an exchange reads what is just before it, so that one was before the store.
            self.0.swap(false, Ordering::Release);
        } else {
            self.0.store(false, Ordering::Release);
        }
    }
}

impl<T: Default> Default for Latch<T> {
    fn default() -> Self {
        Latch::new(T::default())
    }
}

impl<T> fmt::Debug for Latch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Latch")
    }
}

/// The cell as loom has it.
#[cfg(not(all(test, snowskin_loom)))]
mod plain {
    pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(super) fn new(value: T) -> Self {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        #[inline]
        pub(super) fn with_mut<R>(&self, job: impl FnOnce(*mut T) -> R) -> R {
            job(self.0.get())
        }
    }
}

#[cfg(all(test, snowskin_loom))]
mod loom_tests {
    use super::Latch;
    use loom::sync::Arc;
    use loom::thread;

    /// Nobody waits here: loom cannot follow who looks again and again.
    #[test]
    fn loom_latch_lets_one_in_at_a_time_and_shows_what_the_last_one_did() {
        loom::model(|| {
            let latch = Arc::new(Latch::new(0));
            let other = latch.clone();
            let thread = thread::spawn(move || other.try_with(|count| *count += 1).is_some());
            let was_mine = latch.try_with(|count| *count += 1).is_some();
            let was_theirs = thread.join().unwrap();
            assert!(was_mine || was_theirs);
            assert_eq!(latch.try_with(|count| *count), Some(u32::from(was_mine) + u32::from(was_theirs)));
        });
    }
}

#[cfg(all(test, not(snowskin_loom)))]
mod tests {
    use super::Latch;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn all_that_threads_do_is_counted() {
        let latch = Latch::new(0_u64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50_000).for_each(|_| latch.with(|count| *count += 1)));
            }
        });
        assert_eq!(latch.with(|count| *count), 200_000);
        assert_eq!(latch.with(|_| latch.try_with(|count| *count)), None, "it is taken");
        assert_eq!(latch.try_with(|count| *count), Some(200_000));
    }

    #[test]
    fn whoever_panics_lets_the_next_one_in() {
        let latch = Latch::new(1);
        assert!(catch_unwind(AssertUnwindSafe(|| latch.with(|_| panic!("on purpose")))).is_err());
        assert_eq!(latch.with(|count| *count), 1);
    }
}
