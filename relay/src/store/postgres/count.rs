//! COUNT (NIP-45): one statement, whatever the number of filters.

use super::error::translate;
use super::lookup;
use super::plan::{self, PlanQuestion};
use super::planner::{Picked, Planner};
use super::rows::{self, run};
use crate::store::{Counted, StoreError};
use crate::types::{Access, Filter, Timestamp};
use sqlx::Row;
use sqlx::postgres::PgConnection;

/// The number of distinct events that the filters select. Compares tags by their keyed hashes alone: making two tags
/// collide takes the database's secret.
pub(super) async fn count(
    connection: &mut PgConnection,
    planner: &Planner,
    filters: &[Filter],
    access: &Access,
    now: Timestamp,
) -> Result<Counted, StoreError> {
    let mut picked: Vec<(Picked, PlanQuestion<'_>)> = Vec::with_capacity(filters.len());
    for filter in filters.iter().filter(|filter| !filter.is_impossible()) {
        // A count reads each list of matching rows to its end.
        let question = PlanQuestion { access: Some(access), walked: Some(usize::MAX), ..PlanQuestion::of(filter, now) };
        let first = planner.pick(connection, &question).await?;
        picked.push((planner.count_further(connection, &question, first).await?, question));
    }

    let questions: Vec<_> = picked
        .iter()
        .map(|(picked, question)| (picked.form, PlanQuestion { lengths: picked.lengths.as_ref(), ..*question }))
        .collect();
    if questions.is_empty() {
        return Ok(Counted { head: lookup::head(connection).await?, ..Counted::default() });
    }

    let statement = plan::count(&questions, &planner.hasher);
    let rows = run(connection, &statement).await?;
    let row = rows.first().ok_or_else(|| StoreError::Damaged("the log has no head".into()))?;
    let number = row.try_get::<i64, _>(2).map_err(translate)?.cast_unsigned();
    let expires_at = row.try_get(3).map_err(translate)?;
    Ok(Counted { number, head: rows::head(row).map_err(translate)?, expires_at })
}
