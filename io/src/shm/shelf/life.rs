//! Whether the thread that made something in shared memory lives: a robust mutex that it holds, which the kernel marks when it dies.
//!
//! The kernel does so when the thread's memory goes, and that is before its files and sockets are closed. So whoever comes after it, in
//! another process, cannot have begun to serve while it still seems to live.

use super::super::atomic::AtomicU64;
use super::super::atomic::Ordering;
use std::io;
use std::marker::PhantomData;

/// Bytes at which the mutex lies; 40 on x86-64, 48 on aarch64.
pub(super) const LIFE_BYTES: usize = 48;
/// The bits of the mutex's first word that name the thread that has it. The highest two say that it has died, and that others wait.
const OWNER: u32 = (1 << 30) - 1;
const OWNER_DIED: u32 = 1 << 30;

const _: () = assert!(size_of::<libc::pthread_mutex_t>() <= LIFE_BYTES);

/// The mutex, held by this thread until this is dropped.
#[derive(Debug)]
pub(super) struct Life {
    mutex: *mut libc::pthread_mutex_t,
    /// Whoever has locked it unlocks it.
    _of_thread: PhantomData<*const ()>,
}

impl Life {
    /// Locks a fresh mutex at an address.
    ///
    /// # Safety
    ///
    /// [`LIFE_BYTES`] from there on are mapped for reading and writing as long as the result lives, begin at a multiple of 16, and nobody
    /// else writes to them.
    pub(super) unsafe fn begin(at: *mut u8) -> io::Result<Self> {
        // Elsewhere it is not known which word the kernel marks: nobody would be believed to live.
        if !cfg!(target_env = "gnu") {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mutex = at.cast::<libc::pthread_mutex_t>();
        let mut kind = std::mem::MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let kind = kind.as_mut_ptr();
        let done = |result: i32| match result {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        };
        // SAFETY: `kind` is ours and initialised first; the mutex is where the caller says, and is initialised before it is locked.
        unsafe {
            done(libc::pthread_mutexattr_init(kind))?;
            done(libc::pthread_mutexattr_setpshared(kind, libc::PTHREAD_PROCESS_SHARED))?;
            done(libc::pthread_mutexattr_setrobust(kind, libc::PTHREAD_MUTEX_ROBUST))?;
            done(libc::pthread_mutex_init(mutex, kind))?;
            done(libc::pthread_mutexattr_destroy(kind))?;
            done(libc::pthread_mutex_lock(mutex))?;
        }
        Ok(Life { mutex, _of_thread: PhantomData })
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // SAFETY: the mutex is still mapped, by what `begin` asks for, and this thread has it: `Life` does not move to others.
        let result = unsafe { libc::pthread_mutex_unlock(self.mutex) };
        debug_assert_eq!(result, 0);
    }
}

/// Whether the thread lives that has locked the mutex of which this is the first word.
#[inline]
pub(super) fn lives(word: &AtomicU64) -> bool {
    let lock = word.load(Ordering::Acquire) as u32;
    lock & OWNER != 0 && lock & OWNER_DIED == 0
}
