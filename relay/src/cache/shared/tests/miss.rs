//! Misses: keys without a usable entry.

use super::*;

/// The layer's answer with a position of at least `floor`; or the miss.
async fn since(layer: &RedisLayer, key: &FilterKey, floor: u64) -> Result<Answer, Miss> {
    layer.get(key, &|answer| answer.head().position.0 >= floor).await
}

#[test]
fn what_is_of_no_use_does_not_keep_its_place() {
    block_on(async {
        let server = RedisServer::temporary().await.unwrap();
        let (layer, _purges) = layer(&server.url(), PATIENT).await;
        let large = Snapshot { limit: 1_000, ..entry(EPOCH, 100) };
        assert!(put(&layer, &key(1), large).await);
        let small = rows(Snapshot { limit: 40, ..entry(EPOCH, 6_000) });
        let miss = since(&layer, &key(1), 5_000).await.unwrap_err();
        assert!(
            !put_answer(&layer, &key(1), small.clone()).await,
            "control: one with less room is not taken otherwise"
        );
        assert!(put_at(&layer, &key(1), small.clone(), miss).await);
        assert_eq!(since(&layer, &key(1), 5_000).await, Ok(small));
        // An entry that another instance has put there meanwhile is not the one that could not be used.
        assert!(!put_at(&layer, &key(1), rows(entry(EPOCH, 5_999)), miss).await);
    });
}

/// How long the next reader of this key waits, whether it gets nothing, and its miss.
async fn next_waits(layer: &RedisLayer) -> (Duration, u64, Miss) {
    until("all to be done", STEP_TIMEOUT, async || match layer.commands.capacity() {
        QUEUE => Ok(()),
        left => Err(left.to_string()),
    })
    .await
    .unwrap();
    let (begin, before) = (Instant::now(), status(layer).waited_in_vain);
    let miss = since(layer, &key(1), 0).await.unwrap_err();
    (begin.elapsed(), status(layer).waited_in_vain - before, miss)
}

#[test]
fn nobody_waits_for_what_will_not_come() {
    block_on(async {
        let server = RedisServer::temporary().await.unwrap();
        let (layer, _purges) = layer(&server.url(), PATIENT).await;
        let leased = since(&layer, &key(1), 0).await.unwrap_err();
        let (waited, in_vain, not_leased) = next_waits(&layer).await;
        assert!(waited >= LEASE_WAIT && in_vain == 1, "control: a lease is waited for, {waited:?}");
        layer.release_lease(&key(1), not_leased);
        assert_eq!(next_waits(&layer).await.1, 1, "it was another's to give back");
        layer.release_lease(&key(1), leased);
        // The next reader gets the lease.
        assert_eq!(next_waits(&layer).await.1, 0);
        // Not an event's text: it cannot be written.
        let mut odd = entry(EPOCH, 1);
        odd.rows[0].text = "{}".into();
        assert!(!put(&layer, &key(1), odd).await);
        assert_eq!(next_waits(&layer).await.1, 0);
    });
}
