//! Progress on long work, on standard error.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// A bar where the end is known, a counter where it is not; nothing where standard error is no terminal.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// Counts bytes towards `total`.
    pub(super) fn bytes(total: Option<u64>) -> Self {
        Self::new(
            total,
            "{elapsed_precise} {wide_bar} {bytes}/{total_bytes} {eta} {msg}",
            "{elapsed_precise} {spinner} {bytes} {msg}",
        )
    }

    /// Counts things towards `total`.
    pub(super) fn items(total: Option<u64>) -> Self {
        Self::new(
            total,
            "{elapsed_precise} {wide_bar} {human_pos}/{human_len} {eta} {msg}",
            "{elapsed_precise} {spinner} {human_pos} {msg}",
        )
    }

    fn new(total: Option<u64>, with_end: &str, without: &str) -> Self {
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total), with_end),
            None => (ProgressBar::new_spinner(), without),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    pub(super) fn at(&self, position: u64, message: &str) {
        self.0.set_position(position);
        self.0.set_message(message.to_owned());
    }

    /// Prints a line above the bar, or just prints it.
    pub(super) fn tell(&self, line: &str) {
        self.0.suspend(|| eprintln!("{line}"));
    }

    pub(super) fn done(&self) {
        self.0.finish_and_clear();
    }

    /// Since the bar was made.
    pub(super) fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// `count` per second, for people.
pub(super) fn rate(count: u64, seconds: f64) -> u64 {
    (count as f64 / seconds.max(0.001)) as u64
}
