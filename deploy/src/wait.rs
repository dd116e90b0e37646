use crate::Error;
use crate::process::Process;
use std::time::{Duration, Instant};

/// A timeout far longer than any step takes on a busy machine.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// Calls `ask` until it returns `Ok`, and returns that.
///
/// Pauses 20 ms between two calls. Cancel safe as far as `ask` is.
///
/// # Errors
/// [`Error::Timeout`] with the last error when `patience` ends; the call under way is dropped then.
pub async fn until<T>(
    what: &str,
    patience: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, Error> {
    let deadline = Instant::now() + patience;
    let mut last = String::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(refusal)) => last = refusal,
            Err(_) => return Err(Error::Timeout { what: what.to_owned(), waited: patience, last }),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks a server until it answers, for as long as its process runs.
pub(crate) async fn ready(
    name: &str,
    process: Option<&Process>,
    mut ask: impl AsyncFnMut() -> Result<(), Error>,
) -> Result<(), Error> {
    let what = format!("{name} to be ready");
    until(&what, STEP_TIMEOUT, async || {
        // The inner result: where the process has ended, waiting any longer is in vain.
        if let Some(Err(ended)) = process.map(Process::check) {
            return Ok(Err(ended));
        }
        ask().await.map(Ok).map_err(|error| error.to_string())
    })
    .await?
}
