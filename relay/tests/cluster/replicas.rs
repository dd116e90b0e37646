//! Replicas lag, pause and die. A client that reads what was just written through another instance finds it.

use crate::Run;
use crate::clients::stale_reads;
use crate::faults::PACE;
use crate::stage::Stage;
use std::time::Duration;

const LAG: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn replicas_lag_stand_still_and_go() {
    replicas_go(90, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "10,000 reads of what was just written, and a pause of a minute"]
async fn replicas_lag_and_stand_still_for_long() {
    replicas_go(10_000, Duration::from_secs(60)).await;
}

/// `pause`: the least time for which replay pauses.
async fn replicas_go(pairs: usize, pause: Duration) {
    // Without the bus every instance is some milliseconds behind the primary, so each read could be stale.
    let mut stage = Stage::start(false, false).await;
    let recording = stage.record();
    let run = Run::begin(&stage, PACE);
    run.acknowledged(40).await;
    let ports: Vec<u16> = stage.relays.iter().map(|relay| relay.port).collect();

    stage.postgres.server_mut("replica-1").unwrap().apply_delay(LAG).await.unwrap();
    stage.wait_metric(&[0, 1, 2], "nostr_replica_lag_seconds", "", |lag| lag > 1.0).await;
    assert_eq!(stale_reads(ports[0], ports[1], pairs, true).await, 0);
    // The control: a query by a tag does not wait for the primary.
    let mut stale = 0;
    for _ in 0..20 {
        stale += stale_reads(ports[0], ports[1], 10, false).await;
        if stale > 0 {
            break;
        }
    }
    assert!(stale > 0, "nor is anything stale without the primary's head: this shows nothing");
    stage.postgres.server_mut("replica-1").unwrap().apply_delay(Duration::ZERO).await.unwrap();

    let (behind, paused) = (recording.fault().await, std::time::Instant::now());
    stage.postgres.server("replica-1").unwrap().pause_replay().await.unwrap();
    let before = stage.events_on("replica-1").await;
    assert_eq!(stale_reads(ports[0], ports[1], pairs, true).await, 0);
    // The paused replica has none of these events, and would have answered without them.
    assert_eq!(stage.events_on("replica-1").await, before);
    assert!(stage.events_on("primary").await >= before + pairs as i64);
    // A query now is served as of the present head, whichever server answers.
    stage.relays[1].kill().await.unwrap();
    stage.relays[1].start().await.unwrap();
    run.acknowledged(50).await;
    run.lasting(pause.saturating_sub(paused.elapsed())).await;
    behind.raises("SkeinReplicaLags", "nostr_replica_lag_seconds").await.unwrap();

    let gone = recording.fault().await;
    stage.postgres.server_mut("replica-2").unwrap().kill().await.unwrap();
    stage.postgres.server_mut("replica-1").unwrap().kill().await.unwrap();
    assert_eq!(stale_reads(ports[1], ports[2], pairs / 3, true).await, 0);
    stage.relays[2].kill().await.unwrap();
    stage.relays[2].start().await.unwrap();
    run.acknowledged(50).await;
    gone.raises("SkeinServerDown", "nostr_database_servers").await.unwrap();
    run.end(&stage).await;
    stage.stop().await;
}
