//! Expired events leave the store (NIP-40). They are not sent once they have expired, swept or not.
//!
//! Sweeping removes them for all instances, and so goes by the one clock that all instances share, the store's: an
//! instance whose own clock is hours ahead must not take from the others what they still send.

use crate::store::{Appended, Store, StoreError};
use crate::types::now;
use crate::types::safeguard::{Safeguard, ablated};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Between sweeps where there are none: longer than a process lives.
const NO_SWEEP_INTERVAL: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// After a sweep that has removed as much as it may, before the next: the writer has its turn.
const PAUSE_AFTER_FULL_SWEEP: Duration = Duration::from_millis(100);

/// How expired events leave the store.
#[derive(Debug, Clone, Copy)]
pub struct Sweep {
    /// How often they are looked for.
    pub interval: Duration,
    /// How long they have expired by then: as far as the instances' clocks may be behind.
    pub grace: Duration,
    /// How many one commit removes.
    pub batch: usize,
}

/// Looks for expired events now and then.
pub(super) struct Sweeper {
    settings: Option<Sweep>,
    ticks: Interval,
}

impl Sweeper {
    /// Never sweeps without settings.
    pub(super) fn new(settings: Option<Sweep>) -> Self {
        let mut ticks = interval(settings.map_or(NO_SWEEP_INTERVAL, |sweep| sweep.interval));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { settings, ticks }
    }

    /// Waits until a sweep is due. Cancel safe.
    pub(super) async fn due(&mut self) {
        self.ticks.tick().await;
    }

    /// Removes what is due. Not cancel safe, like every write.
    pub(super) async fn sweep(&mut self, store: &dyn Store) -> Option<Appended> {
        let settings = self.settings?;
        match sweep(store, settings).await {
            Ok(swept) => {
                if swept.changes.len() >= settings.batch {
                    self.ticks.reset_after(PAUSE_AFTER_FULL_SWEEP);
                }
                Some(swept)
            }
            Err(StoreError::Closed) => None,
            Err(error) => {
                tracing::warn!(%error, "expired events could not be swept; the next sweep tries again");
                None
            }
        }
    }
}

async fn sweep(store: &dyn Store, Sweep { grace, batch, .. }: Sweep) -> Result<Appended, StoreError> {
    let time = if ablated(Safeguard::SharedClock) { now() } else { store.now().await? };
    store.sweep_expired(time.saturating_sub_unsigned(grace.as_secs()), batch).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::Redacted;
    use crate::store::MemoryStore;
    use crate::store::postgres::{Options, PostgresStore};
    use crate::types::safeguard::without;
    use crate::types::{Event, EventId, Kind, Position, PublicKey, Timestamp, Verified};
    use deploy::STEP_TIMEOUT;
    use deploy::postgres::{PostgresCluster, PostgresServer};
    use futures_util::FutureExt;
    use std::sync::Arc;
    use tokio::time::timeout;

    /// An event that expires at this second.
    fn expiring(at: Timestamp) -> Verified {
        let tags = [vec!["expiration".to_owned(), at.to_string()]];
        Verified::vouch(Arc::new(Event::build(PublicKey::from_bytes([1; 32]), 1, Kind(1), &tags, "", |_| [7; 64])))
    }

    async fn put(store: &PostgresStore, expiries: [Timestamp; 2]) -> [EventId; 2] {
        let [one, two] = expiries.map(expiring);
        let ids = [one.event().id(), two.event().id()];
        store.append(vec![one, two], 1).await.unwrap();
        ids
    }

    /// Moves the server's clock by `seconds`, for every connection that is opened from now on.
    async fn set_clock(server: &PostgresServer, seconds: i64) {
        for sql in [
            "CREATE SCHEMA IF NOT EXISTS skewed".to_owned(),
            format!(
                "CREATE OR REPLACE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS \
                 $$ SELECT pg_catalog.clock_timestamp() + interval '{seconds} seconds' $$"
            ),
            "ALTER ROLE CURRENT_USER SET search_path = public, skewed, pg_catalog".to_owned(),
        ] {
            server.execute(&sql).await.unwrap();
        }
    }

    async fn open(server: &PostgresServer) -> PostgresStore {
        PostgresStore::open(Options::new([Redacted::new(server.url())])).await.unwrap()
    }

    /// Which of two events an instance removes whose own clock is an hour ahead of the primary's: one has expired by
    /// the primary's clock, the other by the instance's alone.
    async fn swept_an_hour_ahead(server: &PostgresServer) -> [bool; 2] {
        set_clock(server, -3_600).await;
        let store = open(server).await;
        let ids = put(&store, [now() - 7_000, now() - 1_800]).await;
        let settings = Sweep { interval: Duration::from_secs(1), grace: Duration::ZERO, batch: 10 };
        // A grace of two hours: neither is due.
        let patient = Sweep { grace: Duration::from_secs(7_200), ..settings };
        assert!(sweep(&store, patient).await.unwrap().changes.is_empty());
        sweep(&store, settings).await.unwrap();
        let (known, _) = store.known(&ids, Position::default()).await.unwrap();
        store.close().await;
        [!known[0], !known[1]]
    }

    #[test]
    fn an_instance_whose_clock_is_ahead_takes_nothing_from_the_others() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let cluster = runtime.block_on(async { PostgresCluster::setup().start().await.unwrap() });
        let server = cluster.primary().unwrap();
        assert_eq!(runtime.block_on(swept_an_hour_ahead(server)), [true, false]);
        let control = without(Some(Safeguard::SharedClock), || runtime.block_on(swept_an_hour_ahead(server)));
        assert_eq!(control, [true, true], "control: by its own clock it takes both");
    }

    #[tokio::test]
    async fn a_sweep_that_found_enough_is_followed_by_another_soon() {
        let store = MemoryStore::default();
        store.append((2..7).map(expiring).collect(), 1).await.unwrap();
        let hourly = Sweep { interval: Duration::from_secs(3_600), grace: Duration::from_secs(60), batch: 2 };
        let mut sweeper = Sweeper::new(Some(hourly));
        for found in [2, 2, 1] {
            timeout(STEP_TIMEOUT, sweeper.due()).await.unwrap();
            assert_eq!(sweeper.sweep(&store).await.unwrap().changes.len(), found);
        }
        assert!(sweeper.due().now_or_never().is_none(), "the next one is due in an hour");
    }
}
