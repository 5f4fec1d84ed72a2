//! Bars for people at a terminal; a line now and then for everybody else.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// How often a line is written where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The progress of one phase.
pub(crate) struct Progress {
    bar: ProgressBar,
    label: String,
    last_line: Instant,
}

impl Progress {
    /// `length` in whatever unit the positions have.
    pub(crate) fn new(label: &str, length: u64) -> Self {
        let style = ProgressStyle::with_template(
            "  {prefix:10} {bar:32.cyan/blue} {percent:>3}% {eta:>4} left  {msg}",
        )
        .expect("a valid template")
        .progress_chars("█▉▊▋▌▍▎▏ ");
        let bar = ProgressBar::new(length.max(1)).with_style(style).with_prefix(label.to_owned());
        Progress { bar, label: label.to_owned(), last_line: Instant::now() }
    }

    /// Moves the bar, and says something beside it.
    pub(crate) fn at(&mut self, position: u64, message: String) {
        if self.bar.is_hidden() && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            eprintln!(
                "  {}: {}%, {message}",
                self.label,
                100 * position / self.bar.length().unwrap_or(1).max(1)
            );
        }
        self.bar.set_position(position);
        self.bar.set_message(message);
    }

    /// Removes the bar; what was measured is printed elsewhere.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
