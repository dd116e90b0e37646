//! Measures how many new events a second a relay accepts, and how long each waits for its OK.

use super::{Meter, Round, SILENCE, Site};
use crate::client::{Client, ClientError, Reply, unhex};
use crate::events::Signed;
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// One round of publishing.
#[derive(Debug, Clone, Copy)]
pub struct Publish {
    /// How many connections publish.
    pub connections: usize,
    /// How many events without an OK each connection has.
    pub in_flight: usize,
    /// Nothing new is sent after this long; the round ends sooner when it runs out of events.
    pub at_most: Duration,
}

/// What the connections of a round share.
struct PublishShared {
    /// The events still to send. All connections take from it, so that none idles while another has a backlog.
    next: std::vec::IntoIter<Signed>,
    ends: Instant,
    last: Instant,
    round: Round,
}

/// Publishes `events`, which the relay must not know, over connections that are open before the clock starts. Each is a
/// closed loop: an OK makes room for the next event. To be run in a `LocalSet`.
///
/// Only an OK that is true and no duplicate counts.
///
/// # Errors
/// A connection that cannot be opened or breaks.
pub async fn publish(site: &Site, plan: Publish, events: Vec<Signed>) -> Result<Round, ClientError> {
    let mut clients = Vec::with_capacity(plan.connections);
    for index in 0..plan.connections {
        clients.push(site.connect(index).await?);
    }
    let meter = Meter::start(site.pid);
    let (start, ends) = (meter.started(), meter.started() + plan.at_most);
    let shared = PublishShared { next: events.into_iter(), ends, last: start, round: Round::default() };
    let shared = Rc::new(RefCell::new(shared));
    let mut publishers = JoinSet::new();
    for client in clients {
        publishers.spawn_local(one(client, site.clone(), plan.in_flight, shared.clone()));
    }

    while let Some(done) = publishers.join_next().await {
        done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    }
    let mut shared = shared.borrow_mut();
    let mut round = std::mem::take(&mut shared.round);
    meter.stop(shared.last, &mut round);
    Ok(round)
}

async fn one(
    mut client: Client,
    site: Site,
    in_flight: usize,
    shared: Rc<RefCell<PublishShared>>,
) -> Result<(), ClientError> {
    let mut pending = FxHashMap::<[u8; 32], Instant>::default();
    loop {
        {
            let mut shared = shared.borrow_mut();
            let now = Instant::now();
            while pending.len() < in_flight && now < shared.ends {
                let Some(event) = shared.next.next() else { break };
                client.queue(&[b"[\"EVENT\",", event.text.as_bytes(), b"]"]);
                pending.insert(event.id, now);
            }
        }

        if pending.is_empty() {
            return Ok(());
        }
        let answers = client.receive(&site.scratch, |message| {
            let mut shared = shared.borrow_mut();
            let now = Instant::now();
            shared.last = now;
            let Round { operations, latency, faults, .. } = &mut shared.round;
            match Reply::parse(message) {
                Reply::Ok { id, accepted, words } => match unhex(id).and_then(|id| pending.remove(&id)) {
                    Some(_) if !accepted => faults.add(&refusal(words), 1),
                    Some(_) if words.starts_with(b"duplicate:") => faults.add("duplicate (not a new event)", 1),
                    Some(sent) => {
                        *operations += 1;
                        latency.record(now - sent);
                    }
                    None => faults.add("OK for an event not sent or answered before", 1),
                },
                Reply::Notice(words) => faults.add(&format!("NOTICE {}", String::from_utf8_lossy(words)), 1),
                _ => {}
            }
        });

        match timeout(SILENCE, answers).await {
            Ok(answers) => answers.map(drop)?,
            Err(_) => {
                shared.borrow_mut().round.faults.add("no OK", pending.len() as u64);
                return Ok(());
            }
        }
    }
}

fn refusal(words: &[u8]) -> String {
    format!("refused: {}", String::from_utf8_lossy(words))
}
