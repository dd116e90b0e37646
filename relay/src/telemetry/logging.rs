//! Log lines, on standard error. A value that may hold a secret has a type that does not show it (`config::Redacted`).

use super::repeats::Repeats;
use crate::config::{LogFormat, LogSettings};
use std::io::IsTerminal;
use tracing::Subscriber;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Why logging could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is neither a level nor a filter.
    #[error("`log.level` is neither a level nor a filter: {0}")]
    Level(#[from] ParseError),
    /// This process has set up logging before.
    #[error("logging was set up twice: {0}")]
    Twice(#[from] TryInitError),
    /// The subscriber has ended.
    #[error("logging has ended: {0}")]
    Ended(#[from] reload::Error),
}

/// Changes the level while the relay runs.
#[derive(Debug, Clone)]
pub struct LogControl(reload::Handle<EnvFilter, Registry>);

impl LogControl {
    /// Sets the level: a level's name, or a filter. On an error nothing changes.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        Ok(self.0.reload(EnvFilter::builder().parse(level)?)?)
    }
}

/// Sends the log lines of the whole process to standard error. To be called once in a process.
pub fn init_logging(log: &LogSettings) -> Result<LogControl, LogError> {
    let (subscriber, control) = subscriber(log, std::io::stderr, std::io::stderr().is_terminal())?;
    subscriber.try_init()?;
    Ok(control)
}

fn subscriber<W>(
    log: &LogSettings,
    writer: W,
    colours: bool,
) -> Result<(impl Subscriber + Send + Sync, LogControl), LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(EnvFilter::builder().parse(&log.level)?);
    let lines = fmt::layer().with_writer(writer);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(colours).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    Ok((tracing_subscriber::registry().with(filter).with(Repeats::default()).with(lines), LogControl(handle)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::io::Write;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap()
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_level_can_be_changed_while_running() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = LogSettings { level: "info".into(), format: LogFormat::Text };
        let (subscriber, control) = subscriber(&log, move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("hidden");
            tracing::info!(client = 7, "shown");
            let text = lines.take();
            assert!(text.contains("shown") && text.contains("client=7") && !text.contains("hidden"), "{text}");
            control.set_level("warn,relay=debug").unwrap();
            tracing::debug!("now shown");
            assert!(lines.take().contains("now shown"));
            assert!(control.set_level("relay=loud").is_err());
            tracing::debug!("still shown");
            assert!(lines.take().contains("still shown"), "a wrong level changes nothing");
        });
    }

    #[test]
    fn for_machines_each_line_is_one_object() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = LogSettings { level: "info".into(), format: LogFormat::Json };
        let (subscriber, _control) = subscriber(&log, move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, || tracing::warn!(position = 5, "two\nlines"));
        let text = lines.take();
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["level"], &line["message"], &line["position"]),
            (&"WARN".into(), &"two\nlines".into(), &5.into())
        );
    }
}
