//! Trying again while what is wanted is still somebody else's: the kernel holds what a process that was killed had under way for a moment longer
//! than the process.

use futures_util::FutureExt;
use std::time::Duration;

/// How long what is in use is waited for.
const BUSY_TIME: Duration = Duration::from_secs(3);
/// How long until the next try.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// What an attempt comes to that is made again and again for a while, as long as it says that something is in use. `pause` waits until the next one.
pub async fn patiently<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    is_in_use: impl Fn(&E) -> bool,
    pause: impl AsyncFn(Duration),
) -> Result<T, E> {
    for _ in 0..BUSY_TIME.as_millis() / BUSY_PAUSE.as_millis() {
        match attempt() {
            Err(error) if is_in_use(&error) => pause(BUSY_PAUSE).await,
            done => return done,
        }
    }
    attempt()
}

/// The same on a thread that has nothing else to do.
pub fn patiently_blocking<T, E>(
    attempt: impl FnMut() -> Result<T, E>,
    is_in_use: impl Fn(&E) -> bool,
) -> Result<T, E> {
    patiently(attempt, is_in_use, async |time| std::thread::sleep(time))
        .now_or_never()
        .expect("it never waits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// What the `free_at`-th attempt finds free, if no other error comes first; and after how many attempts and how much time.
    fn tried(free_at: u32, error: &str) -> (Result<u32, &str>, u32, Duration) {
        let (attempts, paused) = (Cell::new(0), Cell::new(Duration::ZERO));
        let attempt = || {
            attempts.set(attempts.get() + 1);
            if attempts.get() < free_at { Err(error) } else { Ok(free_at) }
        };
        let pause = async |time| paused.set(paused.get() + time);
        let done = patiently(attempt, |error| *error == "in use", pause).now_or_never();
        (done.expect("nothing waits"), attempts.get(), paused.get())
    }

    #[test]
    fn what_is_in_use_is_waited_for_and_nothing_else_is() {
        assert_eq!(tried(1, "in use"), (Ok(1), 1, Duration::ZERO));
        assert_eq!(tried(3, "in use"), (Ok(3), 3, 2 * BUSY_PAUSE));
        assert_eq!(tried(61, "in use"), (Ok(61), 61, BUSY_TIME));
        assert_eq!(tried(62, "in use"), (Err("in use"), 61, BUSY_TIME));
        assert_eq!(tried(3, "broken"), (Err("broken"), 1, Duration::ZERO));
        let mut attempts = 0;
        let second = || {
            attempts += 1;
            if attempts == 2 { Ok(attempts) } else { Err(()) }
        };
        assert_eq!(patiently_blocking(second, |()| true), Ok(2));
    }
}
