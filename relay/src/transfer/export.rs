//! Export: a walk through the whole store, beside writers.
//!
//! A writer may replace an event during the walk. So the walk goes in the order in which versions come: where it has
//! not reached the old version yet, it will reach the new one.

use crate::store::sqlite::Archive;
use crate::store::{Read, Store, StoreError};
use crate::types::{Event, Filter, Position, Timestamp};
use std::io::Write;

/// How many events are read at once.
const CHUNK: usize = 1_000;
/// The most events of one second that are read at once.
const MOST: usize = 64 * CHUNK;

/// The progress of an export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExportReport {
    /// Events looked at.
    pub seen: u64,
    /// Events written.
    pub written: u64,
}

/// Why an export stopped.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The destination could not be written.
    #[error("cannot write the events: {0}")]
    Write(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored text is no event.
    #[error("a stored event is damaged: {0}")]
    Damaged(#[from] crate::types::EventError),
}

/// Writes the events that `filter` selects (all, where there is none), one a line, in the order in which they were
/// stored, but for those that expire, which come last. A relay may run on the store meanwhile: what it stores or
/// removes in these moments may or may not be part of the export; of what it replaces, at least one version is.
/// `progress` is called after each piece.
pub async fn export(
    archive: &mut Archive,
    filter: Option<&Filter>,
    out: &mut (dyn Write + Send),
    mut progress: impl FnMut(ExportReport) + Send,
) -> Result<ExportReport, ExportError> {
    let mut report = ExportReport::default();
    let mut after = None;
    loop {
        let piece = archive.export(after, CHUNK).await?;
        for text in &piece.texts {
            report.seen += 1;
            let wanted = match filter {
                Some(filter) => filter.matches(&Event::from_stored(text)?),
                None => true,
            };
            if wanted {
                out.write_all(text.as_bytes())?;
                out.write_all(b"\n")?;
                report.written += 1;
            }
        }
        progress(report);
        after = piece.next;
        if after.is_none() {
            out.flush()?;
            return Ok(report);
        }
    }
}

/// The same for any store, the oldest event first.
///
/// Stores read newest first. So the time is cut into windows, the oldest first, each narrow enough to be read whole, in
/// one snapshot. No version is older than the one that it replaces: it lies in the same window or in a later one.
/// (Where so much is of one second that it is not held in memory at once, a version that replaces another of that
/// second may be missed.)
pub async fn export_pages(
    store: &dyn Store,
    filter: Option<&Filter>,
    out: &mut (dyn Write + Send),
    mut progress: impl FnMut(ExportReport) + Send,
) -> Result<ExportReport, ExportError> {
    let mut window = filter.cloned().unwrap_or_default();
    let (mut from, last) = (window.since.unwrap_or(0).max(0), window.until.unwrap_or(Timestamp::MAX));
    // Of one second everything is read at once, up to a bound: beyond it, page after page.
    let (mut seconds, mut limit, mut after) = (Timestamp::MAX, CHUNK, None);
    let mut report = ExportReport::default();
    let mut at_least = Position::default();
    while from <= last {
        let to = from.saturating_add(seconds - 1).min(last);
        (window.since, window.until) = (Some(from), Some(to));
        let page = store
            .read(&Read {
                filter: &window,
                limit,
                after,
                access: None,
                at_least,
                // Also events that have expired.
                now: Timestamp::MIN,
                max_text_bytes: usize::MAX,
            })
            .await?;
        // A replica that lags behind this one may lack the new version of an event that is no longer here.
        at_least = page.head.position;
        after = None;
        if let (false, Some(oldest)) = (page.complete, page.rows.last()) {
            match from < to {
                true => seconds = (oldest.key.created_at - from) / 2 + 1,
                false if limit < MOST => limit *= 2,
                false => after = Some(oldest.key),
            }
            if after.is_none() {
                continue;
            }
        }
        for row in page.rows.iter().rev() {
            out.write_all(row.text.as_bytes())?;
            out.write_all(b"\n")?;
        }
        report.seen += page.rows.len() as u64;
        report.written = report.seen;
        progress(report);
        if after.is_some() {
            continue;
        }
        if to == last {
            break;
        }
        from = to + 1;
        limit = CHUNK;
        if page.rows.len() < CHUNK / 2 {
            seconds = seconds.saturating_mul(2);
        }
    }
    out.flush()?;
    Ok(report)
}
