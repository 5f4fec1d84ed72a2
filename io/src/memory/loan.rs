//! Lending a caller's buffers to tasks that may outlive the call.
//!
//! A blocking get reads into the caller's buffer, but the task that reads belongs to the client and may run on
//! another caller's thread. When the deadline passes, the call must return at once and the buffer must be the
//! caller's again, although the task still waits for bytes. So the task does not get the buffer but a loan of it:
//!
//! ```text
//!   caller   lend_mut(buffers) ──► scope runs … returns ──► revoke: wait for the lock, clear ──► buffers are ours
//!   task                 with(index, |bytes| one system call) under the lock … with() → None: revoked
//! ```
//!
//! Invariant: raw parts are dereferenced only under the lock and only while they are there; they are there only
//! while the borrow that they were made from is alive, because the scope is a closure and revocation happens in the
//! same frame, also when it unwinds.

#[cfg(all(test, snowskin_loom))]
use loom::sync::{Arc, Mutex, MutexGuard};
use std::ops::Range;
use std::sync::PoisonError;
#[cfg(not(all(test, snowskin_loom)))]
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Clone, Copy)]
struct RawParts {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: raw parts are an address and a length; who dereferences them, and when, is settled by the lock.
unsafe impl Send for RawParts {}

type Shared = Arc<Mutex<Vec<RawParts>>>;

/// Buffers lent for reading.
#[derive(Clone)]
pub struct Loan(Shared);

/// Buffers lent for writing.
#[derive(Clone)]
pub struct LoanMut(Shared);

impl Loan {
    /// Calls `use_bytes` with buffer `index`, unless the loan has ended (or never had that buffer).
    pub fn with<R>(&self, index: usize, use_bytes: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let parts = locked(&self.0);
        let RawParts { start, bytes } = *parts.get(index)?;
        // SAFETY: the parts are there, so the borrow they were made from is alive (revocation needs the lock we hold),
        // and it was a shared borrow, so nobody writes.
        Some(use_bytes(unsafe { std::slice::from_raw_parts(start, bytes) }))
    }
}

impl LoanMut {
    /// Calls `use_bytes` with buffer `index`, unless the loan has ended (or never had that buffer).
    pub fn with<R>(&self, index: usize, use_bytes: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        let parts = locked(&self.0);
        let RawParts { start, bytes } = *parts.get(index)?;
        // SAFETY: the parts are there, so the borrow they were made from is alive (revocation needs the lock we hold),
        // it was an exclusive borrow of distinct buffers, and the lock makes this the only use of it.
        Some(use_bytes(unsafe { std::slice::from_raw_parts_mut(start, bytes) }))
    }

    /// Calls `use_bytes` with these buffers together, unless the loan has ended (or never had all of them).
    pub fn with_many<R>(
        &self,
        indexes: Range<usize>,
        use_bytes: impl FnOnce(&mut [&mut [u8]]) -> R,
    ) -> Option<R> {
        let parts = locked(&self.0);
        let buffer = |&RawParts { start, bytes }: &RawParts| {
            // SAFETY: as in `with`: the borrow is alive as long as we hold the lock, which is longer than `use_bytes` has
            // the buffer, and the buffers are distinct.
            unsafe { std::slice::from_raw_parts_mut(start, bytes) }
        };
        let mut buffers: Vec<&mut [u8]> = parts.get(indexes)?.iter().map(buffer).collect();
        Some(use_bytes(&mut buffers))
    }
}

/// Runs `scope` with a loan of `buffers`; when it returns, the loan has ended.
pub fn lend<R>(buffers: &[&[u8]], scope: impl FnOnce(Loan) -> R) -> R {
    let parts =
        buffers.iter().map(|buffer| RawParts { start: buffer.as_ptr().cast_mut(), bytes: buffer.len() });
    let shared = Arc::new(Mutex::new(parts.collect()));
    let _revoked_at_return = Revoke(&shared);
    scope(Loan(shared.clone()))
}

/// Runs `scope` with a loan of `buffers`; when it returns, the loan has ended.
pub fn lend_mut<R>(buffers: &mut [&mut [u8]], scope: impl FnOnce(LoanMut) -> R) -> R {
    let parts = buffers.iter_mut().map(|buffer| RawParts { start: buffer.as_mut_ptr(), bytes: buffer.len() });
    let shared = Arc::new(Mutex::new(parts.collect()));
    let _revoked_at_return = Revoke(&shared);
    scope(LoanMut(shared.clone()))
}

struct Revoke<'a>(&'a Shared);

impl Drop for Revoke<'_> {
    fn drop(&mut self) {
        locked(self.0).clear();
    }
}

fn locked(shared: &Shared) -> MutexGuard<'_, Vec<RawParts>> {
    // A user that panicked under the lock has written at most part of its bytes; the parts themselves are intact.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, snowskin_loom))]
#[path = "loan_loom.rs"]
mod loom_tests;

#[cfg(test)]
#[cfg(not(snowskin_loom))]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_through_a_loan_and_stop_at_its_end() {
        let (mut a, mut b) = (vec![0; 4], vec![0; 2]);
        let escaped = lend_mut(&mut [&mut a, &mut b], |loan| {
            let task = loan.clone();
            std::thread::spawn(move || task.with(1, |bytes| bytes.fill(7))).join().unwrap().unwrap();
            assert_eq!(loan.with(2, |_| ()), None);
            assert_eq!(loan.with_many(0..2, |buffers| buffers[0][1] = buffers[1][1]), Some(()));
            assert_eq!(loan.with_many(1..3, |_| ()), None);
            loan
        });
        assert_eq!((a, b), (vec![0, 7, 0, 0], vec![7; 2]));
        assert_eq!(escaped.with(0, |_| ()), None);
        assert_eq!(escaped.with_many(0..1, |_| ()), None);
    }

    #[test]
    fn a_shared_loan_reads() {
        let escaped = lend(&[b"abc", b"de"], |loan| {
            assert_eq!(loan.with(1, <[u8]>::to_vec), Some(b"de".to_vec()));
            loan
        });
        assert_eq!(escaped.with(0, <[u8]>::len), None);
    }

    #[test]
    fn the_loan_ends_when_the_scope_unwinds() {
        let slot = Mutex::new(None);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            lend_mut(&mut [&mut [0; 8]], |loan| {
                *slot.lock().unwrap() = Some(loan);
                panic!("on purpose");
            })
        }));
        assert!(result.is_err());
        let loan = slot.into_inner().unwrap_or_else(PoisonError::into_inner).unwrap();
        assert_eq!(loan.with(0, |_| ()), None);
    }
}
