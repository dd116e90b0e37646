//! A new connection knows nothing: its server process reads the catalogues, and plans each statement, when it is first
//! asked. Here that happens before anybody waits for it: whatever reading and following ask, once, so that nothing is found.
//!
//! Measured (PostgreSQL 15, 40 partitions of texts, nothing else running): the first page of a new connection takes 10 ms,
//! 4 of them for the catalogues and 6 for the partitions; the first of each other form 0.6 ms; each later one 0.1 ms. All
//! of what is asked here takes 20 ms.

use super::error::translate;
use super::nodes::Role;
use super::planner::{Planner, Thresholds};
use super::{log, lookup, read, write};
use crate::store::hash::Hasher;
use crate::store::{Read, StoreError};
use crate::types::{Access, EventId, Filter, Kind, Position, PublicKey, TagFilter};
use sqlx::Executor;
use sqlx::postgres::PgConnection;
use std::time::{Duration, Instant};

/// What takes longer than this is worth no waiting: the server is slow, or somebody holds a table's lock. The server ends
/// it: a statement that only its client gives up would go on, and hold up whatever the connection is asked next.
const BOUND: &str = "SET statement_timeout = '200ms'";
const UNBOUND: &str = "RESET statement_timeout";
/// From then on no more is asked: who waits for the connection has waited long enough.
const WARM_UP_BUDGET: Duration = Duration::from_millis(500);

/// The function that looks up texts plans a statement over all their partitions. A page without rows does not call it.
/// Last of all, so `pg_stat_activity` shows which connections are warm.
const TEXTS: &str = "SELECT FROM texts('{}', '{}', '{}', 0, 0, 0); RESET statement_timeout";

/// Warms a new connection to a server of this role as far as the server is quick. Writes nothing.
///
/// # Errors
/// What the server says about the limit on its statements: then the connection is of no use. One that is not warm serves
/// as well, only later.
pub(super) async fn warm(connection: &mut PgConnection, role: Role) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(BOUND)).await?;
    if let Err(error) = ask(connection, role).await {
        tracing::debug!(%error, "a connection could not be warmed");
        connection.execute(sqlx::raw_sql(UNBOUND)).await?;
    }
    Ok(())
}

/// Whatever is asked of such a server all the time, except for writing.
async fn ask(connection: &mut PgConnection, role: Role) -> Result<(), StoreError> {
    // Any secret will do: nothing is to be found.
    let planner = Planner::new(Hasher::new([0; 16], 64), Thresholds::default());
    let access = Access::default();
    let begun = Instant::now();
    for filter in &filters() {
        if begun.elapsed() > WARM_UP_BUDGET {
            return Err(StoreError::Timeout);
        }
        let (at_least, now) = (Position::default(), 0);
        let read =
            Read { filter, limit: 1, after: None, access: Some(&access), at_least, now, max_text_bytes: usize::MAX };
        read::page(connection, &planner, &read).await?;
    }
    lookup::known(connection, &[EventId::from_bytes([0; 32])]).await?;
    if role == Role::Primary {
        write::look_at_nothing(connection).await?;
        log::shared_head(connection).await?;
        log::entries(connection, Position(i64::MAX.unsigned_abs()), 1).await?;
    }
    connection.execute(sqlx::raw_sql(TEXTS)).await.map_err(translate)?;
    Ok(())
}

/// One of each of the planner's forms, as it is asked most; nothing is as old as that.
fn filters() -> [Filter; 9] {
    let nothing = Filter { until: Some(0), ..Filter::default() };
    let ids = || Some(Box::from([EventId::from_bytes([0; 32])]));
    let authors = |count: u8| Some((0..count).map(|n| PublicKey::from_bytes([n; 32])).collect());
    let kinds = |count: u16| Some((0..count).map(Kind).collect());
    let tag = |values: &[&str]| {
        Box::from([TagFilter { letter: b'e', values: values.iter().copied().map(Box::from).collect() }])
    };
    [
        Filter { ids: ids(), ..nothing.clone() },
        Filter { authors: authors(1), kinds: kinds(1), ..nothing.clone() },
        Filter { authors: authors(2), kinds: kinds(2), ..nothing.clone() },
        Filter { authors: authors(1), ..nothing.clone() },
        Filter { tags: tag(&["a"]), kinds: kinds(1), ..nothing.clone() },
        Filter { tags: tag(&["a", "b"]), kinds: kinds(1), ..nothing.clone() },
        Filter { kinds: kinds(1), ..nothing.clone() },
        Filter { kinds: kinds(2), ..nothing.clone() },
        nothing,
    ]
}
