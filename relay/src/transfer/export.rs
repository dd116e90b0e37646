//! Export: a walk through the whole store, in the order in which events came.

use crate::store::sqlite::Archive;
use crate::store::{Read, Store, StoreError};
use crate::types::{Event, Filter, Position, Timestamp};
use std::io::Write;

/// How many events are read at once.
const CHUNK: usize = 1_000;

/// How far an export is.
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
/// stored. A relay may run on the store meanwhile: what it stores or removes in these moments may or may not be part
/// of the export. `progress` is called after each piece.
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

/// The same for any store, page by page, the newest event first. What is stored meanwhile is not part of it; what is
/// removed meanwhile may or may not be.
pub async fn export_pages(
    store: &dyn Store,
    filter: Option<&Filter>,
    out: &mut (dyn Write + Send),
    mut progress: impl FnMut(ExportReport) + Send,
) -> Result<ExportReport, ExportError> {
    let everything = Filter::default();
    let mut report = ExportReport::default();
    let mut read = Read {
        filter: filter.unwrap_or(&everything),
        limit: CHUNK,
        after: None,
        access: None,
        at_least: Position::default(),
        // What has expired is still there.
        now: Timestamp::MIN,
        max_text_bytes: usize::MAX,
    };
    loop {
        let page = store.read(&read).await?;
        // A page that lags behind the one before would only repeat or miss what changed meanwhile; never go back.
        read.at_least = page.head.position;
        for row in &page.rows {
            out.write_all(row.text.as_bytes())?;
            out.write_all(b"\n")?;
        }
        report.seen += page.rows.len() as u64;
        report.written = report.seen;
        progress(report);
        read.after = page.rows.last().map(|row| row.key);
        if page.complete || read.after.is_none() {
            out.flush()?;
            return Ok(report);
        }
    }
}
