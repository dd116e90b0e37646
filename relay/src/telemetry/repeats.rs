//! Rate limit for log lines: a place in the program that logs too often does not fill the disk. Lines beyond the limit
//! are counted instead.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// The most lines that one place may log in a [`WINDOW`].
const MAX_LINES: u64 = 50;
const WINDOW: Duration = Duration::from_secs(1);

/// Drops log lines beyond the limit. Never drops lines of debug and trace: an operator who turns them on wants all.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// For each place that has logged: when its window began, and how many lines have come since.
    places: Mutex<HashMap<Identifier, (Instant, u64)>>,
}

impl Repeats {
    /// Counts a line: whether it may be written, and how many were left out in the window that has just ended.
    fn count(&self, place: Identifier, now: Instant) -> (bool, u64) {
        let mut places = self.places.lock();
        // Bounded: the program has a fixed number of places.
        let (began, lines) = places.entry(place).or_insert((now, 0));
        let mut left_out = 0;
        if now.saturating_duration_since(*began) >= WINDOW {
            left_out = lines.saturating_sub(MAX_LINES);
            (*began, *lines) = (now, 0);
        }
        *lines += 1;
        (*lines <= MAX_LINES, left_out)
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO {
            return true;
        }
        let (allowed, left_out) = self.count(metadata.callsite(), Instant::now());
        if left_out > 0 {
            tracing::info!(left_out, place = metadata.name(), "the log had too many lines of one kind");
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Default, Clone)]
    struct Written(std::sync::Arc<Mutex<Vec<Level>>>);

    impl<S: Subscriber> Layer<S> for Written {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().push(*event.metadata().level());
        }
    }

    #[test]
    fn one_place_writes_so_many_lines_and_others_go_on() {
        let written = Written::default();
        let subscriber = tracing_subscriber::registry().with(Repeats::default()).with(written.clone());
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..3 * MAX_LINES {
                tracing::warn!("again and again");
                tracing::debug!("all of these");
            }
            tracing::error!("once");
        });
        let count = |level| written.0.lock().iter().filter(|written| **written == level).count() as u64;
        assert_eq!((count(Level::WARN), count(Level::DEBUG), count(Level::ERROR)), (MAX_LINES, 3 * MAX_LINES, 1));
    }

    #[test]
    fn what_was_left_out_is_told_in_the_next_second() {
        struct FixedCallsite;
        impl tracing::callsite::Callsite for FixedCallsite {
            fn set_interest(&self, _: tracing::subscriber::Interest) {}
            fn metadata(&self) -> &tracing::Metadata<'_> {
                unreachable!("only its address is of interest")
            }
        }
        let (repeats, place, start) = (Repeats::default(), Identifier(&FixedCallsite), Instant::now());
        for line in 0..MAX_LINES + 7 {
            assert_eq!(repeats.count(place.clone(), start), (line < MAX_LINES, 0));
        }
        assert_eq!(repeats.count(place.clone(), start + WINDOW), (true, 7));
        assert_eq!(repeats.count(place, start + WINDOW * 2), (true, 0));
    }
}
