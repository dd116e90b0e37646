//! COUNT (NIP-45): one statement, whatever the number of filters.

use super::bind::{FormQuestion, head_from, push};
use super::error::translate;
use super::pool::ReaderLease;
use super::read::pick;
use super::sql;
use crate::store::form::Form;
use crate::store::form::Rights;
use crate::store::hash::Hasher;
use crate::store::{Counted, StoreError};
use crate::types::{Access, Filter, Timestamp};
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, Row};

/// How many distinct events the filters select. Authors and tags are compared by their keyed hashes alone: making two
/// tags collide takes the database's secret.
pub(super) async fn count(
    lease: &mut ReaderLease,
    hasher: &Hasher,
    filters: &[Filter],
    access: &Access,
    now: Timestamp,
) -> Result<Counted, StoreError> {
    let mut all = SqliteArguments::default();
    let mut queries = Vec::new();
    let mut unique = true;
    for filter in filters.iter().filter(|filter| !filter.is_impossible()) {
        let question = FormQuestion { filter, access: Some(access), now, after: None, elements: 0, big_text_bytes: 0 };
        let form = pick(lease, hasher, &question).await?;

        // A count reads all rows of all lists, so the forms of one list and of several are the same.
        let form = match form {
            Form::AuthorKind => Form::AuthorsKinds,
            Form::Tag(at) => Form::Tags(at),
            Form::Kind => Form::Kinds,
            other => other,
        };
        // An event with two of the tag's values is in two lists.
        unique &= queries.is_empty()
            && !matches!(form, Form::Tags(at) if filter.tags.get(at).is_some_and(|tag| tag.values.len() > 1));
        let sql = sql::rows(form, filter, Rights::of(Some(access), filter));
        queries.push(sql::shifted(&sql, all.len()));
        push(&mut all, &question, form, hasher);
    }

    if queries.is_empty() {
        queries.push("SELECT 0 AS row WHERE false".to_owned());
    }
    let rows = queries.join(if unique { " " } else { " UNION " });
    let distinct = if unique { "" } else { "DISTINCT " };

    // A row above 0 never expires: see the schema.
    let sql = format!(
        "SELECT (SELECT epoch FROM head), (SELECT position FROM head), count(*), \
         min(CASE WHEN r.row > 0 THEN NULL ELSE (SELECT x.expires_at FROM event x NOT INDEXED WHERE x.row = r.row) END) \
         FROM (SELECT {distinct}row FROM ({rows})) r"
    );

    let row = lease.one(sql.into(), all).await?;
    let number = row.try_get::<i64, _>(2).map_err(translate)?.cast_unsigned();
    Ok(Counted { number, head: head_from(&row)?, expires_at: row.try_get(3).map_err(translate)? })
}
