//! Measures the memory that an idle connection takes in the relay.

use super::{Row, SILENCE, Site};
use crate::client::{ClientError, Reply};
use crate::stats::Spread;
use crate::system::{Memory, Process};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Memory counts as stable once this many looks in a row differ by less than one part in 500.
const STABLE_LOOKS: usize = 5;
/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long memory may take to become stable.
const STABLE_WITHIN: Duration = Duration::from_secs(15);

/// Opens `connections` and returns by how much the relay's own memory (RssAnon) has grown for each: first idle, then
/// each with one subscription. The relay should be freshly started: else it reuses memory that it freed before.
///
/// # Errors
/// A connection that cannot be opened or breaks, or a relay process that is gone.
pub async fn idle(site: &Site, process: Process, connections: usize) -> Result<[Row; 2], ClientError> {
    // A first connection, so that memory which is allocated only once is allocated before the first look.
    drop(site.connect(0).await?);
    let before = stable(process).await?;
    let mut clients = Vec::with_capacity(connections);
    for index in 0..connections {
        clients.push(site.connect(index).await?);
    }

    let open = stable(process).await?;
    for (index, client) in clients.iter_mut().enumerate() {
        client.queue(&[format!(r#"["REQ","idle",{{"authors":["{index:064x}"]}}]"#).as_bytes()]);
        let mut ended = false;
        while !ended {
            let answers = client.receive(&site.scratch, |message| {
                ended |= matches!(Reply::parse(message), Reply::Eose(_) | Reply::Closed { .. });
            });
            timeout(SILENCE, answers).await.map_err(|_| ClientError::Refused("no EOSE in time".to_owned()))??;
        }
    }

    let subscribed = stable(process).await?;
    let row = |name: &str, now: Memory| {
        let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / connections as f64;
        let value = each(now.anonymous, before.anonymous);
        Row::new(format!("{name}, {connections}"), "bytes each", Spread { median: value, min: value, max: value })
    };
    Ok([row("idle connections", open), row("connections with one REQ", subscribed)])
}

/// Polls until memory has stopped changing; returns the last value after 15 s.
async fn stable(process: Process) -> Result<Memory, ClientError> {
    let gone = || ClientError::Refused(format!("the relay (process {}) is gone", process.0));
    let ends = Instant::now() + STABLE_WITHIN;
    let mut last = process.memory().ok_or_else(gone)?;
    let mut stable_looks = 0;
    while stable_looks < STABLE_LOOKS && Instant::now() < ends {
        sleep(LOOK_EVERY).await;
        let now = process.memory().ok_or_else(gone)?;
        let is_stable = now.anonymous.abs_diff(last.anonymous) * 500 < last.anonymous;
        stable_looks = if is_stable { stable_looks + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}
