//! Reading a page: chooses the form, runs one statement, rechecks what the indexes know as hashes only, and never
//! serves a page short.

use super::error::translate;
use super::plan::{self, PlanQuestion};
use super::planner::Planner;
use super::rows::{event_id, head, run};
use crate::store::form::{Form, Rights};
use crate::store::{Page, Read, StoreError, text};
use crate::types::{Head, Key, Row, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

/// Answers `read` with one snapshot of the server behind `connection`.
///
/// May be dropped at any await; the connection is then in the middle of an answer, as with any statement.
pub(super) async fn page(
    connection: &mut PgConnection,
    planner: &Planner,
    read: &Read<'_>,
) -> Result<Page, StoreError> {
    // One more than the limit, which tells whether there is more.
    let mut question = question(read, read.limit.saturating_add(1));
    let picked = planner.pick(connection, &question).await?;
    let probe = planner.probe_page(connection, &question, &picked).await?;

    let mut found = 0;
    if let Some(probe) = probe {
        // A probe answers only where it fills the page: the rest could be further back.
        let answer =
            ask(connection, planner, read, probe.form, &PlanQuestion { rows: Some(probe.rows), ..question }).await?;
        if answer.cut && answer.is_enough(read.limit) {
            planner.counters.full(probe);
            return Ok(answer.page(read.limit));
        }
        found = answer.found.len();
    }

    let (picked, walked) =
        planner.after_probe(connection, &question, picked, probe.map(|probe| (probe, found))).await?;
    question.walked = walked;
    question.lengths = picked.lengths.as_ref();

    loop {
        let answer = ask(connection, planner, read, picked.form, &question).await?;
        if answer.is_enough(read.limit) {
            return Ok(answer.page(read.limit));
        }
        // Hashes have collided, and too few of the rows pass the recheck.
        question.elements = question.elements.saturating_mul(4);
    }
}

/// `read` as a question to the planner.
pub(super) fn question<'a>(read: &Read<'a>, elements: usize) -> PlanQuestion<'a> {
    let Read { filter, access, now, after, max_text_bytes, .. } = *read;
    PlanQuestion { access, after, elements, max_text_bytes, ..PlanQuestion::of(filter, now) }
}

/// The rows of one statement.
struct RawPage {
    found: Vec<RawRow>,
    head: Head,
    /// The statement stopped at its limit.
    cut: bool,
}

struct RawRow {
    key: Key,
    expires_at: Option<Timestamp>,
    /// `None` beyond the bound on texts.
    text: Option<String>,
}

impl RawPage {
    /// False where the recheck dropped rows and there may be others.
    fn is_enough(&self, limit: usize) -> bool {
        !self.cut || self.found.len() > limit
    }

    fn page(mut self, limit: usize) -> Page {
        let complete = self.found.len() <= limit;
        self.found.sort_unstable_by_key(|row| row.key.order());
        self.found.truncate(limit);
        let mut page = Page { rows: Vec::with_capacity(self.found.len()), rest: Vec::new(), head: self.head, complete };
        for RawRow { key, expires_at, text } in self.found {
            match text {
                Some(text) if page.rest.is_empty() => page.rows.push(Row { key, expires_at, text: text.into() }),
                _ => page.rest.push(key),
            }
        }
        page
    }
}

async fn ask(
    connection: &mut PgConnection,
    planner: &Planner,
    read: &Read<'_>,
    form: Form,
    question: &PlanQuestion<'_>,
) -> Result<RawPage, StoreError> {
    let statement = plan::page(form, question, &planner.hasher);
    let rows = run(connection, &statement).await?;

    let first = rows.first().ok_or_else(|| StoreError::Damaged("the log has no head".into()))?;
    let head = head(first).map_err(translate)?;
    let rights = Rights::of(read.access, read.filter);
    let mut answer = RawPage { found: Vec::with_capacity(rows.len()), head, cut: false };

    let mut count = 0;
    for row in &rows {
        let Some(found) = found(row)? else { continue };
        count += 1;
        // The tags of a text that did not come along are not rechecked: making two of them collide takes the database's
        // secret.
        let meant = found.text.as_ref().is_none_or(|text| {
            (read.filter.tags.is_empty() || text::confirms(text, found.key, read.filter))
                && (rights != Rights::Readers
                    || read.access.is_none_or(|access| text::may_read(text, access, read.filter)))
        });
        if meant {
            answer.found.push(found);
        }
    }

    answer.cut = count >= question.elements;
    Ok(answer)
}

/// The columns id, created_at, expires_at, text after the head; `None` where there is only the head.
fn found(row: &PgRow) -> Result<Option<RawRow>, StoreError> {
    let Some(id) = row.try_get::<Option<&[u8]>, _>(2).map_err(translate)? else { return Ok(None) };
    let key = Key { id: event_id(id)?, created_at: row.try_get(3).map_err(translate)? };
    let expires_at = row.try_get(4).map_err(translate)?;
    Ok(Some(RawRow { key, expires_at, text: row.try_get(5).map_err(translate)? }))
}
