//! Many instances, one log: publishers and subscribers with random filters on three relay processes keep transcripts
//! while servers die, hang and lag. Afterwards a naive filter compares every transcript with the log in Postgres:
//! nothing is missing or doubled, live events are in the order of their positions, every acknowledged event is stored.

#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

mod buses;
mod cache;
mod clients;
mod faults;
#[path = "../kit/mod.rs"]
mod kit;
mod lines;
#[path = "../journey_oracle/oracle.rs"]
mod oracle;
mod promotion;
mod replicas;
mod run;
mod slow;
mod stage;
mod verdict;
mod world;

use clients::Place;
use kit::Author;
use relay::types::LogEntry;
use run::{Run, assert_all_well};
use stage::Stage;
use std::time::{Duration, Instant};
use world::World;

const SUBSCRIBERS_EACH: usize = 5;

impl Run {
    /// Starts a publisher on each relay, one event every `pace`, and the subscribers.
    pub fn begin(stage: &Stage, pace: Duration) -> Self {
        Self::begin_on(stage, &[0, 1, 2], pace, 0)
    }

    /// The same with publishers on some relays only, whose notes are longer by this many bytes.
    pub fn begin_on(stage: &Stage, publishing: &[usize], pace: Duration, padding: usize) -> Self {
        let authors: Vec<_> = stage.relays.iter().map(|_| Author::new()).collect();
        let publishers = publishing.iter().map(|index| (stage.relays[*index].port, authors[*index].clone())).collect();
        let mut subscribers = Vec::new();
        for (relay, port) in ports(stage).into_iter().enumerate() {
            for n in 0..SUBSCRIBERS_EACH {
                let filters = clients::filters(&authors, (relay * 100 + n) as u64);
                let subscriber = relay * SUBSCRIBERS_EACH + n;
                subscribers.push((Place { subscriber, relay, port, resumes: n % 2 == 1 }, filters));
            }
        }
        let world = World { padding, ..World::default() };
        Self::start(world, world::urls(&stage.postgres), publishers, subscribers, pace)
    }

    /// Ends the load, waits until every client has had the last event, and compares all transcripts with the log.
    pub async fn end(self, stage: &Stage) -> Vec<LogEntry> {
        self.end_at(&ports(stage)).await
    }

    /// The same where a promotion at that moment has cut off a part of the log. Returns the faults, and how many
    /// entries were cut off.
    pub async fn end_after_loss(self, stage: &Stage, promoted: Instant) -> (Vec<String>, usize) {
        self.end_after_loss_at(&ports(stage), promoted).await
    }
}

fn ports(stage: &Stage) -> Vec<u16> {
    stage.relays.iter().map(|relay| relay.port).collect()
}
