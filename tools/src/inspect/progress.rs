//! A bar on a terminal's standard error while something long is read; nothing elsewhere, and nothing for what is short.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Draws so often a second.
const DRAWS_PER_S: u8 = 10;
/// What takes no longer has no bar.
const SHORT: Duration = Duration::from_millis(500);

/// The progress of one scan; it vanishes with it.
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
    is_wanted: bool,
}

impl Progress {
    /// Of something whose length is not known yet.
    pub(crate) fn new(label: &'static str) -> Self {
        let style =
            ProgressStyle::with_template("  {prefix:10} {bar:32.cyan/blue} {percent:>3}% {eta:>4} left")
                .expect("a valid template")
                .progress_chars("█▉▊▋▌▍▎▏ ");
        let hidden = ProgressDrawTarget::hidden();
        let bar = ProgressBar::with_draw_target(Some(1), hidden).with_style(style).with_prefix(label);
        Progress { bar, began: Instant::now(), is_wanted: std::io::stderr().is_terminal() }
    }

    /// So much of so much has been read.
    pub(crate) fn at(&mut self, done: u64, all: u64) {
        if self.is_wanted && self.bar.is_hidden() && self.began.elapsed() > SHORT {
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(DRAWS_PER_S));
        }
        self.bar.set_length(all.max(1));
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
