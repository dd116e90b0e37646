//! The primary dies and a replica is promoted.

use crate::faults::PACE;
use crate::stage::Stage;
use crate::{Run, assert_all_well};
use std::time::{Duration, Instant};

/// The longest time after a promotion until writes succeed again.
const BACK: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_dies_and_nothing_acknowledged_is_lost() {
    let mut stage = Stage::start(true, true).await;
    let recording = stage.record();
    let run = Run::begin(&stage, PACE);
    run.acknowledged(100).await;
    let dead = recording.fault().await;
    stage.postgres.primary_mut().unwrap().kill().await.unwrap();
    dead.raises("SkeinNoPrimary", "nostr_database_servers").await.unwrap();
    stage.postgres.failover().await.unwrap();
    let (promoted, back) = run.acknowledged(20).await;
    println!("writes were back {:?} after the promotion", back - promoted);
    assert!(back - promoted < BACK);
    run.acknowledged(100).await;
    assert_followed(&stage).await;
    run.end(&stage).await;
    stage.stop().await;
}

/// The metric that counts failovers shows it on every instance.
async fn assert_followed(stage: &Stage) {
    for relay in 0..3 {
        stage.wait_metric(&[relay], "nostr_log_epochs_total", "", |followed| followed >= 1.0).await;
    }
}

/// Waits until every instance has submitted again all cut-off entries that it knew: on a busy machine this takes longer
/// than every other step.
async fn stored_again(stage: &Stage) {
    deploy::until("what was cut off to be stored again", deploy::STEP_TIMEOUT, async || {
        let logs = stage.relays.iter().map(|relay| std::fs::read_to_string(relay.log()).unwrap_or_default());
        let log = logs.collect::<String>();
        let said = |words: &str| log.matches(words).count();
        match (said("they are submitted again"), said("had cut off is stored again")) {
            (begun, done) if begun > 0 && begun == done => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}

/// No replica has the last entries of an asynchronous primary. Returns the faults at the end, how many entries the
/// promotion has cut off, and the stage, whose logs are kept for a failure. With `forget` the instances, which know
/// these entries too, die with the primary.
async fn an_old_replica_is_promoted(forget: bool) -> (Vec<String>, usize, Stage) {
    let mut stage = Stage::start(true, false).await;
    let recording = stage.record();
    let run = Run::begin(&stage, PACE);
    run.acknowledged(250).await;
    for replica in ["replica-1", "replica-2"] {
        stage.postgres.server_mut(replica).unwrap().receive(false).await.unwrap();
    }

    run.acknowledged(60).await;
    let dead = recording.fault().await;
    stage.postgres.primary_mut().unwrap().kill().await.unwrap();
    if forget {
        for relay in &mut stage.relays {
            relay.kill().await.unwrap();
        }
    } else {
        dead.raises("SkeinNoPrimary", "nostr_database_servers").await.unwrap();
    }

    stage.postgres.failover().await.unwrap();
    let promoted = Instant::now();
    for relay in &mut stage.relays {
        relay.start().await.unwrap();
    }
    run.acknowledged(20).await;
    println!("writes were back {:?} after the promotion", promoted.elapsed());
    assert!(promoted.elapsed() < BACK);
    run.acknowledged(100).await;
    if !forget {
        assert_followed(&stage).await;
        stored_again(&stage).await;
    }
    let (wrong, cut_off) = run.end_after_loss(&stage, promoted).await;
    (wrong, cut_off, stage)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_promotion_has_lost_comes_back_from_the_instances() {
    let (wrong, cut_off, stage) = an_old_replica_is_promoted(false).await;
    assert!(cut_off > 20, "only {cut_off} entries were cut off: the fault did not bite");
    assert_all_well(&wrong);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_where_the_instances_forget_it_too_it_is_lost_and_seen_to_be() {
    let (wrong, cut_off, stage) = an_old_replica_is_promoted(true).await;
    let lost = wrong.iter().filter(|wrong| wrong.contains("acknowledged and is not in the log")).count();
    assert!(cut_off > 20 && lost > 20, "{cut_off} entries cut off, {lost} events missed");
    stage.stop().await;
}
