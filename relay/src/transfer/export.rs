//! Export and deletion: long walks over what a filter selects, a page at a time.

use crate::store::{Read, Store, StoreError};
use crate::types::{Filter, now};
use std::io::Write;

/// How many events one page holds.
const PAGE: usize = 1_000;

/// Texts beyond this many bytes in one page are fetched in a second step.
const PAGE_BYTES: usize = 16 << 20;

/// Why an export stopped.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The destination could not be written.
    #[error("cannot write the events: {0}")]
    Write(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes what `filter` selects, newest first, one event a line, and returns the number of events. Each page is a
/// snapshot of its own: on a relay that is running, what is stored or removed meanwhile may or may not be part of it.
/// `filter.limit`, where given, bounds the whole walk. `progress` is called after each page with the number so far.
pub async fn export(
    store: &dyn Store,
    filter: &Filter,
    out: &mut (dyn Write + Send),
    mut progress: impl FnMut(u64) + Send,
) -> Result<u64, ExportError> {
    let mut left = filter.limit.map_or(usize::MAX, |limit| limit as usize);
    let mut written = 0;
    let mut after = None;
    while left > 0 {
        let limit = left.min(PAGE);
        let read = Read { filter, limit, after, access: None, now: now(), max_text_bytes: PAGE_BYTES };
        let page = store.read(&read).await?;
        let taken = page.rows.len() + page.rest.len();
        let rest: Vec<_> = page.rest.iter().map(|key| key.id).collect();
        after = page.rest.last().copied().or(page.rows.last().map(|row| row.key));
        for row in &page.rows {
            write_line(out, &row.text)?;
        }
        for ids in rest.chunks(32) {
            let mut rows = store.fetch(ids).await?;
            rows.sort_by_key(|row| row.key.order());
            for row in rows {
                write_line(out, &row.text)?;
            }
        }
        written += taken as u64;
        left -= taken;
        progress(written);
        if taken < limit {
            break;
        }
    }
    out.flush()?;
    Ok(written)
}

fn write_line(out: &mut (dyn Write + Send), text: &str) -> Result<(), std::io::Error> {
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")
}

/// Removes everything that `filter` selects, a batch a transaction, and returns the number of events. `progress` is
/// called after each batch with the number so far.
pub async fn delete(
    store: &dyn Store,
    filter: &Filter,
    mut progress: impl FnMut(u64) + Send,
) -> Result<u64, StoreError> {
    let mut removed = 0;
    loop {
        let batch = store.remove(filter, PAGE).await?.changes.len() as u64;
        removed += batch;
        progress(removed);
        if batch == 0 {
            return Ok(removed);
        }
    }
}
