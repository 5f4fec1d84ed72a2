//! A caller's buffers, of any kind, given to the client for the length of one call.
//!
//! ```text
//!   caller   Given::new(buffers) ─► claim ····················· take, or drop: waits for the lock ─► buffers are the caller's
//!   task                └────────► given ── with(index, one read or copy) under the lock … with() → None: taken back
//! ```
//!
//! The same as a loan ([`snowskin_io::memory::LoanMut`]) of buffers that are moved and not borrowed, for calls that can be dropped in
//! the middle. As long as a task may reach a buffer, the buffer is here; who has the claim gets it back at any time, whether the task
//! has ended, goes on or has never begun; and after that no task can reach it.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The tasks' end.
pub(crate) struct Given<B>(Arc<Mutex<Vec<B>>>);

/// The caller's end. Dropped, it takes the buffers back and drops them.
pub(crate) struct Claim<B>(Arc<Mutex<Vec<B>>>);

/// Buffers in which tasks write, of whatever kind.
pub(crate) trait Buffers {
    /// Calls `use_bytes` with these buffers together, unless they have been taken back (or never were that many).
    fn with_many(&self, indexes: Range<usize>, use_bytes: &mut dyn FnMut(&mut [&mut [u8]])) -> Option<()>;

    /// Calls `use_bytes` with buffer `index`, unless it has been taken back (or never was there).
    fn with(&self, index: usize, use_bytes: &mut dyn FnMut(&mut [u8])) -> Option<()>;
}

impl<B> Given<B> {
    /// Gives buffers.
    pub(crate) fn new(buffers: Vec<B>) -> (Given<B>, Claim<B>) {
        let shared = Arc::new(Mutex::new(buffers));
        (Given(shared.clone()), Claim(shared))
    }

    /// Without their kind.
    pub(crate) fn into_buffers(self) -> Arc<dyn Buffers>
    where
        B: AsMut<[u8]> + 'static,
    {
        self.0
    }
}

impl<B: AsMut<[u8]>> Buffers for Mutex<Vec<B>> {
    fn with_many(&self, indexes: Range<usize>, use_bytes: &mut dyn FnMut(&mut [&mut [u8]])) -> Option<()> {
        let mut buffers = locked(self);
        let mut many: Vec<&mut [u8]> = buffers.get_mut(indexes)?.iter_mut().map(AsMut::as_mut).collect();
        use_bytes(&mut many);
        Some(())
    }

    fn with(&self, index: usize, use_bytes: &mut dyn FnMut(&mut [u8])) -> Option<()> {
        use_bytes(locked(self).get_mut(index)?.as_mut());
        Some(())
    }
}

impl<B> Claim<B> {
    /// Takes the buffers back: from now on no task can reach them.
    pub(crate) fn take(self) -> Vec<B> {
        std::mem::take(&mut *locked(&self.0))
    }
}

impl<B> Drop for Claim<B> {
    fn drop(&mut self) {
        // Dropped without the lock: what a buffer does then is its own business.
        let buffers = std::mem::take(&mut *locked(&self.0));
        drop(buffers);
    }
}

/// Lists, one behind the other, and the place of each.
pub(crate) fn flattened<T>(lists: Vec<Vec<T>>) -> (Vec<T>, Vec<Range<usize>>) {
    let mut end = 0;
    let place = |list: &Vec<T>| {
        end += list.len();
        end - list.len()..end
    };
    let places = lists.iter().map(place).collect();
    (lists.into_iter().flatten().collect(), places)
}

/// The lists that were [`flattened`].
pub(crate) fn regrouped<T>(items: impl IntoIterator<Item = T>, places: &[Range<usize>]) -> Vec<Vec<T>> {
    let mut items = items.into_iter();
    places.iter().map(|place| items.by_ref().take(place.len()).collect()).collect()
}

fn locked<B>(shared: &Mutex<Vec<B>>) -> MutexGuard<'_, Vec<B>> {
    // Whoever panicked with it has written at most part of a buffer.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_filled_and_taken_back() {
        let (given, claim) = Given::new(vec![vec![0; 4], vec![0; 2]]);
        let buffers = given.into_buffers();
        assert_eq!(buffers.with(1, &mut |bytes| bytes.fill(7)), Some(()));
        assert_eq!(buffers.with_many(0..2, &mut |all| all[0][1] = all[1][1]), Some(()));
        assert_eq!(buffers.with_many(1..3, &mut |_| ()), None);
        assert_eq!(claim.take(), [vec![0, 7, 0, 0], vec![7; 2]]);
        assert_eq!(buffers.with(0, &mut |_| unreachable!("they are the caller's")), None);
        assert_eq!(buffers.with_many(0..1, &mut |_| unreachable!("they are the caller's")), None);
    }

    #[test]
    fn a_claim_that_is_dropped_drops_the_buffers() {
        let buffer = Arc::new(());
        struct Kept(Vec<u8>, #[allow(dead_code, reason = "counted")] Arc<()>);
        impl AsMut<[u8]> for Kept {
            fn as_mut(&mut self) -> &mut [u8] {
                &mut self.0
            }
        }
        let (given, claim) = Given::new(vec![Kept(vec![1], buffer.clone())]);
        let buffers = given.into_buffers();
        assert_eq!(Arc::strong_count(&buffer), 2);
        drop(claim);
        assert_eq!(Arc::strong_count(&buffer), 1);
        assert_eq!(buffers.with(0, &mut |_| unreachable!("they are gone")), None);
    }

    #[test]
    fn who_panics_with_a_buffer_leaves_it_to_its_owner() {
        let (given, claim) = Given::new(vec![vec![1]]);
        let buffers = given.into_buffers();
        let panics = std::panic::AssertUnwindSafe(|| {
            buffers.with(0, &mut |_| std::panic::resume_unwind(Box::new("on purpose")))
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(claim.take(), [vec![1]]);
    }
}
