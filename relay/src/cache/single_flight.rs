//! Single-flight: of all queries that miss the same key at the same time, the leader reads and its followers wait for
//! what it publishes.

use super::Answer;
use super::query::HashedKey;
use crate::store::StoreError;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// What a leader publishes to its followers.
#[derive(Debug, Clone)]
pub enum SharedResult {
    /// The answer that the leader has read.
    Answer(Answer),
    /// The answer has more text than one read may hold in memory: each follower reads for itself.
    TooLarge,
    /// The store has failed, and would fail the next reader too.
    Failed(Arc<StoreError>),
}

/// The reads under way, by key. Each belongs to a query under way, which bounds their number.
#[derive(Debug, Default)]
pub(super) struct SingleFlight {
    under_way: Mutex<FxHashMap<HashedKey, watch::Receiver<Option<SharedResult>>>>,
}

/// The part that a query takes in a read.
pub enum Join<'a> {
    /// The query reads, then [publishes](FlightLeader::publish) what it has read.
    Leader(FlightLeader<'a>),
    /// The query waits for the leader.
    Follower(FlightFollower),
}

/// The query that reads for all. Dropping it ends the read; without a published result, each follower gets `None`.
pub struct FlightLeader<'a> {
    single_flight: &'a SingleFlight,
    hashed: HashedKey,
    sender: watch::Sender<Option<SharedResult>>,
}

/// A query that waits for the leader's read.
pub struct FlightFollower(watch::Receiver<Option<SharedResult>>);

impl SingleFlight {
    /// Joins the read of `name`, or begins it as its leader.
    pub(super) fn join(&self, hashed: &HashedKey) -> Join<'_> {
        let mut under_way = self.under_way.lock();
        if let Some(flight) = under_way.get(hashed) {
            return Join::Follower(FlightFollower(flight.clone()));
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(hashed.clone(), receiver);
        Join::Leader(FlightLeader { single_flight: self, hashed: hashed.clone(), sender })
    }
}

impl FlightLeader<'_> {
    /// Gives `result` to every follower.
    pub fn publish(self, result: SharedResult) {
        self.sender.send_replace(Some(result));
    }
}

impl Drop for FlightLeader<'_> {
    fn drop(&mut self) {
        self.single_flight.under_way.lock().remove(&self.hashed);
    }
}

impl FlightFollower {
    /// Waits for the result. `None`: the leader was dropped without one, so the caller joins again. Cancel safe.
    pub async fn wait(mut self) -> Option<SharedResult> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}
