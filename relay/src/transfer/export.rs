//! Export: a walk through the whole store, in the order in which events came.

use crate::store::StoreError;
use crate::store::sqlite::Archive;
use crate::types::{Event, Filter};
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
