//! The writes of a [`PostgresStore`](crate::store::postgres::PostgresStore), and their statements on a connection.

use crate::store::postgres::planner::Planner;
use crate::store::postgres::read;
use crate::store::rules::{SelectIds, Vanish};
use crate::store::{Appended, Page, Read, StoreError};
use crate::types::{Epoch, EventId, Filter, RemovalCause, Timestamp, Verified};
use sqlx::PgConnection;

/// A write.
pub(in crate::store::postgres) enum PostgresWrite {
    Append(Vec<Verified>, Timestamp),
    Sweep(Timestamp, usize),
    Remove(Filter, usize),
    Vanish(Vanish, usize),
    Trim(Vec<EventId>),
}

impl PostgresWrite {
    /// Runs the write on `connection` to the primary. Not cancel safe, like every write.
    pub(in crate::store::postgres) async fn run_on(
        &self,
        connection: &mut PgConnection,
        planner: &Planner,
        epoch: Epoch,
    ) -> Result<Appended, StoreError> {
        let hasher = &planner.hasher;
        match self {
            Self::Append(batch, now) => super::append(connection, hasher, epoch, batch, *now).await,
            Self::Sweep(now, max) => super::sweep_expired(connection, hasher, epoch, *now, *max).await,
            Self::Trim(ids) => {
                let (all, cause) = (Filter::default(), RemovalCause::Administered);
                super::remove(connection, hasher, epoch, ids, &all, cause).await
            }
            Self::Remove(filter, max) => {
                let mut selection = PostgresSelection { connection: &mut *connection, planner };
                let ids = selection.select_ids(filter, *max).await?;
                super::remove(connection, hasher, epoch, &ids, filter, RemovalCause::Administered).await
            }
            Self::Vanish(vanish, max) => {
                let mut selection = PostgresSelection { connection: &mut *connection, planner };
                let (ids, filter) = vanish.next_batch(&mut selection, *max).await?;
                super::vanish(connection, hasher, epoch, &ids, &filter, vanish).await
            }
        }
    }
}

/// Reads on the connection of a write.
struct PostgresSelection<'a> {
    connection: &'a mut PgConnection,
    planner: &'a Planner,
}

impl SelectIds for PostgresSelection<'_> {
    async fn page(&mut self, read: &Read<'_>) -> Result<Page, StoreError> {
        read::page(self.connection, self.planner, read).await
    }
}
