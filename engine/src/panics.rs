//! What a panic ends. A core that has lost its invariants must not go on serving, and a panic on one thread would leave a hole in
//! the cluster that looks alive: so a panic on a thread of an engine ends the process, whoever the process belongs to. On other threads of a
//! host, a panic is the host's business.

use std::cell::Cell;
use std::panic::{set_hook, take_hook};
use std::process::abort;
use std::sync::Once;

thread_local! {
    /// Whether the thread is a core's, its master's or a helper's of these.
    static IS_AN_ENGINES: Cell<bool> = const { Cell::new(false) };
}

/// From now on a panic on this thread ends the process, if [`abort_where_engines_run`] holds.
pub(crate) fn this_thread_is_an_engines() {
    IS_AN_ENGINES.set(true);
}

/// From now on a panic on a thread of any engine ends the process, behind what the hook does that was there before. Further calls change
/// nothing. A hook that the host sets afterwards and that does not call this one replaces it.
pub fn abort_where_engines_run() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let earlier = take_hook();
        set_hook(Box::new(move |panic| {
            earlier(panic);
            if IS_AN_ENGINES.get() {
                abort();
            }
        }));
    });
}

/// The same for a panic on any thread: for a process that is nothing but an engine.
pub fn abort_everywhere() {
    let earlier = take_hook();
    set_hook(Box::new(move |panic| {
        earlier(panic);
        abort();
    }));
}
