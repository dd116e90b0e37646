//! Warms a new connection. Its server process reads the catalogues and plans each statement when it first runs that
//! statement. Here each statement of reading and following runs once, for rows that do not exist, before a client waits
//! for it.
//!
//! Measured (PostgreSQL 15, 40 partitions of texts, nothing else running): the first page of a new connection takes 10
//! ms, 4 of them for the catalogues and 6 for the partitions; the first of each other form 0.6 ms; each later one 0.1
//! ms. All the statements here take 20 ms.

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

/// The limit of one statement: beyond it the server is slow, or a lock of a table is held, and waiting does not pay.
/// The server enforces the limit, since a statement that only its client gives up would go on and delay the
/// connection's next one.
const BOUND: &str = "SET statement_timeout = '200ms'";
const UNBOUND: &str = "RESET statement_timeout";
/// The budget of all statements: a call may be waiting for the connection.
const WARM_UP_BUDGET: Duration = Duration::from_millis(500);

/// The function that looks texts up plans a statement over all their partitions, and a page without rows does not call
/// it. It comes last, so that `pg_stat_activity` shows which connections are warm.
const TEXTS: &str = "SELECT FROM texts('{}', '{}', '{}', 0, 0, 0); RESET statement_timeout";

/// Warms a new connection to a server of this role, within the budget. Writes nothing.
///
/// # Errors
/// The server refuses the limit on its statements: then the connection is of no use. A connection that is not warm
/// still serves, only more slowly.
pub(super) async fn warm(connection: &mut PgConnection, role: Role) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(BOUND)).await?;
    if let Err(error) = ask(connection, role).await {
        tracing::debug!(%error, "a connection could not be warmed");
        connection.execute(sqlx::raw_sql(UNBOUND)).await?;
    }
    Ok(())
}

/// Runs every frequent statement of such a server but the writes.
async fn ask(connection: &mut PgConnection, role: Role) -> Result<(), StoreError> {
    // Any secret will do: the statements find nothing.
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
        write::look_up_nothing(connection).await?;
        log::shared_head(connection).await?;
        log::entries(connection, Position(i64::MAX.unsigned_abs()), 1).await?;
    }

    connection.execute(sqlx::raw_sql(TEXTS)).await.map_err(translate)?;
    Ok(())
}

/// A frequent filter of each form. No event is as old as they ask for.
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
