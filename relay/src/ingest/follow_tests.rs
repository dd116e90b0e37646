//! A burst of ephemeral events, and clients that only wait for their turn; where a new instance begins.

use super::{FollowerInput, beginning, follow_solo};
use crate::ingest::follower_input::MAX_QUEUED_INPUTS;
use crate::log::Log;
use crate::memory::ClientMemory;
use crate::outbox::{Outbox, OutboxLimits, Subscription};
use crate::store::{LogSlice, SharedHead, SharedLog, StoreError};
use crate::telemetry::Metrics;
use crate::types::{
    Change, Epoch, Event, Filter, Head, Insertion, Kind, LogEntry, Position, PublicKey, SubscriptionId,
};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use std::sync::Arc;
use tokio::sync::mpsc;

const BURST: usize = 1_000;

/// What a client gets of a burst, its outbox much smaller than the follower's queue, all on one thread.
#[tokio::test]
async fn a_burst_does_not_outrun_a_client_that_keeps_up() {
    let log = Log::new(Head::default(), 1 << 20, Arc::new(Metrics::detached()));
    let outbox = Outbox::new(
        OutboxLimits { max_events: MAX_QUEUED_INPUTS / 4, max_bytes: usize::MAX },
        ClientMemory::unbounded().connect(),
    );
    let everything = [Filter::default()].into();
    let subscription = Subscription::new(SubscriptionId("s".into()), everything, outbox.clone());
    log.open(&subscription, log.head());

    let (sender, inbox) = mpsc::channel(MAX_QUEUED_INPUTS);
    let follower = tokio::spawn(follow_solo(log, Arc::new(Metrics::detached()), inbox));
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
        sender.send(FollowerInput::Ephemeral(Arc::new(event))).await.ok().unwrap();
    }
    drop(sender);
    follower.await.unwrap().unwrap();
    subscription.outbox.close();
    assert_eq!(client.await.unwrap(), BURST);
}

/// A log whose last `large` entries have `changes` changes each and the others one, trimmed up to a position.
struct SyntheticLog {
    head: u64,
    large: u64,
    changes: usize,
    trimmed: u64,
}

impl SharedLog for SyntheticLog {
    fn shared_head(&self) -> BoxFuture<'_, Result<SharedHead, StoreError>> {
        let head = Head { position: Position(self.head), ..Head::default() };
        ready(Ok(SharedHead { head, base: Position(0), previous: Epoch(0) })).boxed()
    }

    fn entries(&self, after: Position, _: usize) -> BoxFuture<'_, Result<LogSlice, StoreError>> {
        if after.0 < self.trimmed {
            return ready(Err(StoreError::OutOfReach)).boxed();
        }
        let event = Event::build(PublicKey::from_bytes([1; 32]), 1, Kind(1), &[], "", |_| [0; 64]);
        let count = if after.0 + self.large >= self.head { self.changes } else { 1 };
        let changes = vec![Change::Inserted(Insertion::new(Arc::new(event))); count];
        let entry = LogEntry::new(after.next(), changes);
        async { Ok(LogSlice { head: self.shared_head().await?, entries: vec![entry] }) }.boxed()
    }
}

#[tokio::test]
async fn a_new_instance_reads_no_more_of_the_log_than_is_of_use() {
    let back = async |tail: SyntheticLog, shared_cache| {
        let (begin, head) = beginning(&tail, shared_cache).await.unwrap();
        assert_eq!(head.position.0, tail.head);
        head.position.0 - begin.position.0
    };
    let quiet = |trimmed| SyntheticLog { head: 100_000, large: 0, changes: 0, trimmed };
    assert_eq!(back(quiet(0), false).await, 512);
    assert_eq!(back(quiet(0), true).await, 32_768);
    assert_eq!(back(quiet(99_000), true).await, 512);
    assert_eq!(back(quiet(99_999), true).await, 0);
    // Millions were imported, 2,048 an entry.
    let imported = |large| SyntheticLog { head: 100_000, large, changes: 2_048, trimmed: 0 };
    assert_eq!(back(imported(50_000), true).await, 64);
    assert_eq!(back(imported(100), true).await, 64);
    // Heavy writing: 25 an entry.
    assert_eq!(back(SyntheticLog { head: 100_000, large: 100_000, changes: 25, trimmed: 0 }, true).await, 4_096);
    assert_eq!(back(SyntheticLog { head: 5, large: 0, changes: 0, trimmed: 0 }, true).await, 5);
}
