//! Shows the progress of a run: a bar on the terminal, and a line a second in a log.

use indicatif::{ProgressBar, ProgressStyle};
use loadtest::load::Watcher;
use loadtest::report::{Run, Verdict};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

/// Shows a run on standard error, where that is a terminal, and writes a log.
pub(crate) struct Show {
    bar: ProgressBar,
    log: Option<BufWriter<File>>,
    start: Instant,
    /// The last line of the log: the same line is not logged twice.
    last: String,
    phase: String,
}

impl Show {
    pub(crate) fn new(log: Option<PathBuf>) -> io::Result<Self> {
        let log = log.map(File::create).transpose()?.map(BufWriter::new);
        Ok(Self {
            bar: ProgressBar::no_length(),
            log,
            start: Instant::now(),
            last: String::new(),
            phase: String::new(),
        })
    }

    /// A log that cannot be written does not spoil the measurement.
    fn line(&mut self, words: &str) {
        if let Some(log) = &mut self.log {
            let _ = writeln!(log, "{:9.3} {words}", self.start.elapsed().as_secs_f64());
            let _ = log.flush();
        }
    }

    pub(crate) fn begin(&mut self, name: &str) {
        self.line(&format!("run: {name}"));
    }

    pub(crate) fn end(&mut self, run: &Run) {
        self.bar.finish_and_clear();
        for (name, latency) in &run.latency_ms {
            self.line(&format!("latency of {name}: {latency:?}"));
        }
        self.line(&format!("{:?}", run.ledger));
        self.line(&format!("{:?}", run.counts));
        self.line(&format!("{:?}", run.tester));
        for (words, times) in &run.errors.0 {
            self.line(&format!("error, {times} times: {words}"));
        }
    }

    pub(crate) fn verdict(&mut self, verdict: &Verdict) {
        self.line(&format!("{verdict:?}"));
    }
}

impl Watcher for Show {
    fn phase(&mut self, words: &str) {
        self.line(words);
        self.phase = words.to_owned();
        self.bar.finish_and_clear();
        self.bar = ProgressBar::no_length();
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:24} {human_pos}/{human_len} {msg}") {
            self.bar.set_style(style);
        }
        self.bar.set_prefix(words.to_owned());
    }

    fn progress(&mut self, done: u64, of: u64, words: &str) {
        if of > 0 {
            self.bar.set_length(of);
        }
        self.bar.set_position(done);
        if words != self.last {
            self.last = words.to_owned();
            self.bar.set_message(words.to_owned());
            self.line(&format!("{}: {done}/{of} {words}", self.phase));
        }
        self.bar.tick();
    }
}
