//! Carries out requests to vanish (NIP-62): removes the events below a key's floor in batches, between other commits.
//!
//! The request's own transaction sets the floor, so removed events cannot come in again meanwhile. Each batch is an
//! entry of the log like any other, so every answer is exact as of its position. The stored requests are the list of
//! the work: they are walked at the start and from time to time, so the work is completed after a crash, a full list or
//! the death of another instance.

use crate::policy::{Rules, check_vanish};
use crate::store::rules::Vanish;
use crate::store::{Appended, Read, Store, StoreError};
use crate::types::{Change, Event, Filter, Key, Kind, Position, Timestamp};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

/// How many events one transaction removes: few enough that other writers do not notice.
const BATCH_EVENTS: usize = 500;

/// How many requests wait in memory. Those beyond are found by the next walk.
const MAX_PENDING: usize = 1_024;

/// How many stored requests the walk reads at a time.
const WALK_PAGE: usize = 256;

/// Between two batches, for the writer's other work.
const PAUSE: Duration = Duration::from_millis(10);

/// Between two walks through the stored requests.
const WALK_INTERVAL: Duration = Duration::from_secs(3_600);

/// How long the walk's read may take: the writer waits for it, and readers that occupy the store's connections must
/// keep no event from being stored.
const WALK_READ_TIMEOUT: Duration = Duration::from_millis(200);

/// After a store that failed.
const RETRY: Duration = Duration::from_secs(5);

/// Carries out requests to vanish, one batch a call.
pub(crate) struct Eraser {
    pending: VecDeque<Vanish>,
    /// Where the walk through the stored requests is; `None` between two walks.
    walk: Option<Option<Key>>,
    ticks: Interval,
}

impl Eraser {
    /// Begins with a walk: a request may have been left half done.
    pub(crate) fn new() -> Self {
        let mut ticks = interval(WALK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { pending: VecDeque::new(), walk: Some(None), ticks }
    }

    /// Waits until there may be something to do. Cancel safe.
    pub(crate) async fn due(&mut self) {
        self.ticks.tick().await;
        if self.pending.is_empty() && self.walk.is_none() {
            self.walk = Some(None);
        }
    }

    /// Notes the requests among what was just stored.
    pub(crate) fn note(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Inserted(insertion) = change
                && let Some(vanish) = Vanish::of(&insertion.event)
            {
                self.push(vanish);
                self.ticks.reset_after(PAUSE);
            }
        }
    }

    fn push(&mut self, vanish: Vanish) {
        if self.pending.len() < MAX_PENDING {
            self.pending.push_back(vanish);
        } else {
            self.walk = Some(None);
        }
    }

    /// Removes one batch, or looks for further requests. Not cancel safe, like every write.
    pub(crate) async fn step(&mut self, store: &dyn Store, rules: &Rules) -> Option<Appended> {
        match self.try_step(store, rules).await {
            Ok(done) => {
                if self.is_idle() {
                    self.ticks.reset_after(WALK_INTERVAL);
                } else {
                    self.ticks.reset_after(PAUSE);
                }
                done
            }
            Err(StoreError::Closed) => None,
            Err(error) => {
                tracing::warn!(%error, "a request to vanish could not be carried out; the relay tries again");
                self.ticks.reset_after(RETRY);
                None
            }
        }
    }

    /// True when everything is done that is known of.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.walk.is_none()
    }

    async fn try_step(&mut self, store: &dyn Store, rules: &Rules) -> Result<Option<Appended>, StoreError> {
        if let Some(vanish) = self.pending.front() {
            let done = store.vanish(vanish, BATCH_EVENTS).await?;
            if done.changes.is_empty() {
                self.pending.pop_front();
            }
            return Ok(Some(done));
        }
        let Some(after) = self.walk else { return Ok(None) };
        let filter = Filter { kinds: Some([Kind::VANISH].into()), ..Filter::default() };
        let read = Read {
            filter: &filter,
            limit: WALK_PAGE,
            after,
            access: None,
            at_least: Position::default(),
            now: Timestamp::MIN,
            max_text_bytes: usize::MAX,
        };
        let page = timeout(WALK_READ_TIMEOUT, store.read(&read)).await.unwrap_or(Err(StoreError::Overloaded))?;
        self.walk = page.rows.last().filter(|_| !page.complete).map(|row| Some(row.key));
        for row in page.rows {
            let request = Event::from_stored(&row.text).map_err(|error| StoreError::Damaged(error.to_string()))?;
            // Older programs have stored requests that were meant for other relays.
            if check_vanish(&request, &rules.own_urls).is_ok() {
                self.pending.extend(Vanish::of(&request));
            }
        }
        Ok(None)
    }
}
