//! A burst of ephemeral events, and clients that only wait for their turn.

use super::{News, QUEUE, alone};
use crate::log::Log;
use crate::outbox::{Outbox, OutboxLimits, Subscription};
use crate::telemetry::Metrics;
use crate::types::{Event, Filter, Head, Kind, PublicKey, SubscriptionId};
use std::sync::Arc;
use tokio::sync::mpsc;

const BURST: usize = 1_000;

/// What a client gets of a burst, its outbox much smaller than the follower's queue, all on one thread.
#[tokio::test]
async fn a_burst_does_not_outrun_a_client_that_keeps_up() {
    let log = Log::new(Head::default(), 1 << 20, Arc::new(Metrics::detached()));
    let outbox = Outbox::new(OutboxLimits { max_events: QUEUE / 4, max_bytes: usize::MAX });
    let everything = [Filter::default()].into();
    let subscription = Subscription::new(SubscriptionId("s".into()), everything, outbox.clone());
    log.open(&subscription, log.head());

    let (sender, inbox) = mpsc::channel(QUEUE);
    let follower = tokio::spawn(alone(log, Arc::new(Metrics::detached()), inbox));
    let client = tokio::spawn(async move {
        let mut items = Vec::new();
        while items.len() < BURST && !outbox.is_closed() {
            outbox.ready().await;
            while outbox.take(&mut items, usize::MAX, usize::MAX).items {}
        }
        items.len()
    });
    for salt in 0..BURST {
        let tags = [vec!["salt".to_owned(), salt.to_string()]];
        let event = Event::build(PublicKey::from_bytes([1; 32]), 1, Kind(20_000), &tags, "", |_| [0; 64]);
        sender.send(News::Ephemeral(Arc::new(event))).await.ok().unwrap();
    }
    drop(sender);
    follower.await.unwrap().unwrap();
    subscription.outbox.close();
    assert_eq!(client.await.unwrap(), BURST);
}
