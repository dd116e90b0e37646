use crate::Error;
use crate::process::Process;
use std::time::{Duration, Instant};

/// Far longer than anything here takes on a busy machine.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks again and again until `ask` gives `Ok`, which is returned.
///
/// Between two questions lie 20 ms. Cancel safe as far as `ask` is.
///
/// # Errors
/// [`Error::Timeout`] with the last refusal when `patience` ends; the question under way is given up then.
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
        // The end of its process ends the waiting: that is the inner result.
        if let Some(Err(ended)) = process.map(Process::check) {
            return Ok(Err(ended));
        }
        ask().await.map(Ok).map_err(|error| error.to_string())
    })
    .await?
}
