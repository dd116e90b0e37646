//! Reading a page: chooses the form, runs one statement, rechecks what the indexes know as hashes only, and never
//! serves a page short.

use super::bind::{FormQuestion, add, arguments, head_from, json};
use super::ord::ord;
use super::pool::ReaderLease;
use super::sql;
use crate::store::form::{Choice, Form, Rights, choose, tries_recent, tries_whole};
use crate::store::hash::Hasher;
use crate::store::text;
use crate::store::{Page, Read, StoreError};
use crate::types::{Access, EventId, Filter, Head, Key, PublicKey, Row};
use rustc_hash::FxHashMap;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use std::sync::Arc;

/// Texts up to this size come with the first statement, however small the caller's bound is.
const SMALL_TEXT_BYTES: usize = 4 << 10;
/// Longer texts are fetched by a statement of their own.
const BIG_TEXT_BYTES: usize = 1 << 20;

/// One row of the statement's answer.
struct LineRow<'a> {
    key: Key,
    expires_at: Option<i64>,
    body: Body<'a>,
}

enum Body<'a> {
    Text(&'a str),
    /// The text is too long to come along: its row number, its length, and its author.
    Big(i64, usize, PublicKey),
}

/// Answers `read` on a connection whose every statement sees one snapshot.
pub(super) async fn page(lease: &mut ReaderLease, hasher: &Hasher, read: &Read<'_>) -> Result<Page, StoreError> {
    let rights = Rights::of(read.access, read.filter);
    // One more than the limit, which tells whether there is more; and the one that `after` names.
    let mut elements = read.limit.saturating_add(1 + usize::from(read.after.is_some()));
    let question = |elements: usize| FormQuestion {
        filter: read.filter,
        access: read.access,
        now: read.now,
        after: read.after,
        elements,
        big_text_bytes: (read.max_text_bytes / elements.max(1)).clamp(SMALL_TEXT_BYTES, BIG_TEXT_BYTES),
    };

    let form = pick(lease, hasher, &question(0)).await?;
    if tries_recent(form, read.filter) {
        let sql = sql::page(Form::Recent, read.filter, rights);
        let row = lease.one(sql.into(), arguments(&question(elements), Form::Recent, hasher)).await?;
        // The newest events answer only where they fill the page: the rest could be further back.
        if let Ok(answer) = evaluate(&row, read, elements)?
            && answer.cut
        {
            return finish(lease, read, answer).await;
        }
    }

    if tries_whole(form, read.filter) {
        let sql = sql::whole_page(form, read.filter, rights);
        let row = lease.one(sql.into(), arguments(&question(elements), form, hasher)).await?;
        if let Ok(answer) = evaluate(&row, read, elements)? {
            return finish(lease, read, answer).await;
        }
    }

    let sql: Arc<str> = sql::page(form, read.filter, rights).into();
    loop {
        let row = lease.one(sql.clone(), arguments(&question(elements), form, hasher)).await?;
        match evaluate(&row, read, elements)? {
            Ok(answer) => return finish(lease, read, answer).await,
            Err(Short(rows)) => elements = more(elements, rows, read.limit),
        }
    }
}

/// The number of elements to ask for after `elements` brought `rows` rows: what would have been enough at the same
/// rate, and a quarter more. At most four times as many, since the first part may be an exception.
fn more(elements: usize, rows: usize, limit: usize) -> usize {
    let enough = elements.saturating_mul(limit + 2) / rows.max(1);
    enough.saturating_add(enough / 4).clamp(elements + elements / 4 + 1, elements.saturating_mul(4))
}

/// The form that answers `question`; asks the database for the lengths of the lists where that matters.
pub(super) async fn pick(
    lease: &mut ReaderLease,
    hasher: &Hasher,
    question: &FormQuestion<'_>,
) -> Result<Form, StoreError> {
    let candidates = match choose(question.filter) {
        Choice::Take(form) => return Ok(form),
        Choice::Rarest(candidates) => candidates,
    };
    let sql = sql::lengths(&candidates, question.filter);
    let row = lease.one(sql.into(), arguments(question, Form::Time, hasher)).await?;
    let lengths = (0..candidates.len()).map(|at| row.try_get::<i64, _>(at).unwrap_or(i64::MAX));
    // Where all lists are long, the last candidate, which is by author: checking a tag on the way is faster than
    // checking an author.
    let shortest = lengths.zip(&candidates).rev().min_by_key(|(length, _)| *length);
    Ok(shortest.map_or(Form::Time, |(_, form)| *form))
}

/// A statement's answer after all checks.
struct LinePage<'a> {
    found: Vec<LineRow<'a>>,
    head: Head,
    complete: bool,
    /// The statement stopped at its limit.
    cut: bool,
}

/// Too few rows passed the checks, or the order of the last ones is uncertain: the read asks for more. The number of
/// certain rows.
struct Short(usize);

/// The statement's answer after all checks.
fn evaluate<'a>(
    row: &'a SqliteRow,
    read: &Read<'_>,
    elements: usize,
) -> Result<Result<LinePage<'a>, Short>, StoreError> {
    let head = head_from(row)?;
    let count: i64 = row.try_get(2).map_err(super::error::translate)?;
    let lines: Option<&str> = row.try_get(3).map_err(super::error::translate)?;
    let cut = usize::try_from(count).unwrap_or(0) >= elements;
    let mut found = Vec::with_capacity(read.limit.min(1024) + 2);

    // Where the statement was cut, the rows of the last `ord` are uncertain: others of that `ord` may be missing.
    let mut last = i64::MAX;
    for line in lines.into_iter().flat_map(|lines| lines.split('\n')) {
        let row = parse(line)?;
        last = last.min(ord(row.key));
        let later = read.after.is_none_or(|after| row.key.order() > after.order());
        if later && confirms(&row, read.filter, read.access) {
            found.push(row);
        }
    }

    found.sort_unstable_by_key(|row| row.key.order());
    if cut {
        let certain = found.iter().filter(|row| ord(row.key) > last).count();
        if certain < read.limit || found.len() <= read.limit {
            return Ok(Err(Short(certain)));
        }
    }

    let complete = found.len() <= read.limit;
    found.truncate(read.limit);
    Ok(Ok(LinePage { found, head, complete, cut }))
}

fn parse(line: &str) -> Result<LineRow<'_>, StoreError> {
    let damaged = || StoreError::Damaged("a row is not what this program wrote".into());
    if line.starts_with('{') {
        return Ok(LineRow { key: text::key(line)?, expires_at: None, body: Body::Text(line) });
    }

    if let Some(line) = line.strip_prefix('#') {
        let mut fields = line.split(' ');
        let mut field = || fields.next().ok_or_else(damaged);
        let row = field()?.parse().map_err(|_| damaged())?;
        let bytes = field()?.parse().map_err(|_| damaged())?;
        let created_at = field()?.parse().map_err(|_| damaged())?;
        let expires_at = field()?.parse().ok();
        let id = EventId::from_hex(field()?.as_bytes()).map_err(|_| damaged())?;
        let pubkey = PublicKey::from_hex(field()?.as_bytes()).map_err(|_| damaged())?;
        return Ok(LineRow { key: Key { created_at, id }, expires_at, body: Body::Big(row, bytes, pubkey) });
    }

    let (expires_at, rest) = line.split_once(' ').ok_or_else(damaged)?;
    let expires_at = Some(expires_at.parse().map_err(|_| damaged())?);
    Ok(LineRow { key: text::key(rest)?, expires_at, body: Body::Text(rest) })
}

/// Rechecks what the statement compared by hash. The tags of a text that did not come along are not rechecked: making
/// two of them collide takes the database's secret.
fn confirms(row: &LineRow<'_>, filter: &Filter, access: Option<&Access>) -> bool {
    match row.body {
        Body::Big(_, _, author) => {
            filter.ids.as_ref().is_none_or(|ids| ids.binary_search(&row.key.id).is_ok())
                && filter.authors.as_ref().is_none_or(|authors| authors.binary_search(&author).is_ok())
        }
        Body::Text(text) => {
            text::confirms(text, row.key, filter) && access.is_none_or(|access| text::may_read(text, access, filter))
        }
    }
}

/// Fetches the long texts that fit into the caller's bound; the rows after them come as keys.
async fn finish(lease: &mut ReaderLease, read: &Read<'_>, answer: LinePage<'_>) -> Result<Page, StoreError> {
    let LinePage { found, head, complete, .. } = answer;
    let mut room = found.len();
    let mut bytes = 0_usize;
    let mut wanted = Vec::new();
    for (at, row) in found.iter().enumerate() {
        if bytes > read.max_text_bytes {
            room = at;
            break;
        }
        bytes = bytes.saturating_add(match row.body {
            Body::Text(text) => text.len(),
            Body::Big(row, bytes, _) => {
                wanted.push(row);
                bytes
            }
        });
    }

    let big = if wanted.is_empty() { FxHashMap::default() } else { big_texts(lease, &wanted).await? };
    let mut page = Page { rows: Vec::with_capacity(room), rest: Vec::new(), head, complete };
    let mut found = found.into_iter();
    for row in found.by_ref().take(room) {
        let text = match row.body {
            Body::Text(text) => Some(Arc::from(text)),
            Body::Big(row, ..) => big.get(&row).cloned(),
        };
        match text {
            Some(text) => page.rows.push(Row { key: row.key, expires_at: row.expires_at, text }),
            None => {
                // The event was removed after the snapshot, which includes it. So it comes as a key, and so do the rows
                // after it.
                page.rest.push(row.key);
                break;
            }
        }
    }

    page.rest.extend(found.map(|row| row.key));
    Ok(page)
}

async fn big_texts(lease: &mut ReaderLease, rows: &[i64]) -> Result<FxHashMap<i64, Arc<str>>, StoreError> {
    let sql = "SELECT e.row, e.text FROM json_each(?1) j CROSS JOIN event e ON e.row = j.value";
    let mut arguments = sqlx::sqlite::SqliteArguments::default();
    add(&mut arguments, json(rows.iter().copied()));
    let rows = lease.all(sql.into(), arguments).await?;
    let texts = rows.iter().map(|row| Ok((row.try_get(0)?, Arc::from(row.try_get::<&str, _>(1)?))));
    texts.collect::<Result<_, sqlx::Error>>().map_err(super::error::translate)
}
