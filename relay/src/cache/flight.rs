//! One flight at a time: of those who miss the same thing at the same time, one reads and the others wait for what it
//! brings.

use super::Answer;
use super::question::Name;
use crate::store::StoreError;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// What a flight has brought.
#[derive(Debug, Clone)]
pub enum Landing {
    /// What was read.
    Answer(Answer),
    /// More text than is held in memory at once: everyone reads their own.
    TooLarge,
    /// The store failed, and would for the next one too.
    Failed(Arc<StoreError>),
}

/// The flights under way. Bounded by the queries under way.
#[derive(Debug, Default)]
pub(super) struct Flights {
    under_way: Mutex<FxHashMap<Name, watch::Receiver<Option<Landing>>>>,
}

/// Somebody's place in a flight.
pub enum Boarding<'a> {
    /// To read, and to [land](Pilot::land).
    Pilot(Pilot<'a>),
    /// To wait.
    Passenger(Passenger),
}

/// Whoever reads for all. Dropped without landing, the flight is over and brought nothing.
pub struct Pilot<'a> {
    flights: &'a Flights,
    name: Name,
    sender: watch::Sender<Option<Landing>>,
}

/// Someone who waits for another's read.
pub struct Passenger(watch::Receiver<Option<Landing>>);

impl Flights {
    pub(super) fn board(&self, name: &Name) -> Boarding<'_> {
        let mut under_way = self.under_way.lock();
        if let Some(flight) = under_way.get(name) {
            return Boarding::Passenger(Passenger(flight.clone()));
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(name.clone(), receiver);
        Boarding::Pilot(Pilot { flights: self, name: name.clone(), sender })
    }
}

impl Pilot<'_> {
    /// Tells everyone who waits.
    pub fn land(self, landing: Landing) {
        self.sender.send_replace(Some(landing));
    }
}

impl Drop for Pilot<'_> {
    fn drop(&mut self) {
        self.flights.under_way.lock().remove(&self.name);
    }
}

impl Passenger {
    /// Waits for the landing; `None`: the pilot has given up, and whoever still wants to know boards again. Cancel safe.
    pub async fn wait(mut self) -> Option<Landing> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}
