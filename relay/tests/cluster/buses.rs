//! Redis as a Cluster, behind Sentinels, and with TLS and users.

use crate::Run;
use crate::faults::{PACE, WITHOUT_BUS, assert_healed};
use crate::stage::Stage;
use deploy::Home;
use deploy::redis::{RedisCluster, RedisServer, Sentinels};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The bound of live delivery from two seconds after a fault on.
const HEALED: Duration = Duration::from_millis(300);

/// Starts relays on a bus with this URL.
pub async fn stage_on(home: Arc<Home>, url: String) -> Stage {
    let unused = RedisServer::new("redis", home.clone()).unwrap();
    let stage = Stage::start_with(home, unused, false, &[("RELAY_REDIS_URL", url)]).await;
    stage.wait_bus(true).await;
    stage
}

/// A master dies under load, and a replica is promoted.
async fn a_master_dies(stage: Stage, mut kill: impl AsyncFnMut()) {
    let recording = stage.record();
    let run = Run::begin(&stage, PACE);
    run.acknowledged(60).await;
    let dead = recording.fault().await;
    let begin = Instant::now();
    kill().await;
    stage.wait_bus(false).await;
    dead.raises("SkeinRedisDown", "nostr_bus_up").await.unwrap();
    stage.wait_bus(true).await;
    println!("the bus was back after {:?}", begin.elapsed());
    run.in_time("while there is no master", (begin, Instant::now()), WITHOUT_BUS);
    assert_healed(&run, HEALED).await;
    run.end(&stage).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_of_a_redis_cluster_dies_and_is_replaced() {
    let home = Home::temporary().unwrap();
    let mut redis = RedisCluster::start(home.clone()).await.unwrap();
    let stage = stage_on(home, redis.url()).await;
    a_master_dies(stage, async || {
        let carrier = redis.carrier().await.unwrap();
        redis.servers[carrier].kill().await.unwrap();
    })
    .await;
    assert_eq!(redis.masters().await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_fail_over() {
    let home = Home::temporary().unwrap();
    let mut redis = Sentinels::start(home.clone()).await.unwrap();
    let master = redis.master().await.unwrap();
    let stage = stage_on(home, redis.url()).await;
    a_master_dies(stage, async || redis.servers[master].kill().await.unwrap()).await;
    assert_ne!(redis.master().await.unwrap(), master);
}

/// When each relay was started, as it reports.
async fn started(stage: &Stage) -> [f64; 3] {
    let mut times = [0.0; 3];
    for (relay, time) in times.iter_mut().enumerate() {
        *time = stage.metric(relay, "process_start_time_seconds", "").await;
    }
    times
}

/// A user with no more rights than a relay needs, with TLS; and instances that are restarted under load, ten times:
/// over all its connections a subscriber gets everything.
#[tokio::test(flavor = "multi_thread")]
async fn instances_die_and_come_again_under_load_on_a_bus_with_tls_and_a_user() {
    const SECRET: &str = "not-to-be-logged";
    let home = Home::temporary().unwrap();
    let user = format!("relay on >{SECRET} ~skein:* &skein:* +@all -@admin -@dangerous");
    let words: Vec<&str> = ["--user"].into_iter().chain(user.split(' ')).collect();
    let mut redis = RedisServer::new("redis", home.clone()).unwrap().options(&words).with_tls().unwrap();
    redis.start().await.unwrap();
    let url = |password: &str| redis.tls_url(&format!("relay:{password}")).unwrap();
    let certificate = redis.certificate().unwrap().to_string_lossy().into_owned();
    let settings = [("RELAY_REDIS_URL", url(SECRET)), ("SSL_CERT_FILE", certificate)];
    let wrong = [("RELAY_REDIS_URL", url("wrong"))];
    let untrusted = [("RELAY_REDIS_URL", url(SECRET)), ("SSL_CERT_FILE", "/dev/null".to_owned())];
    let mut stage = Stage::start_with(home, redis, false, &settings).await;
    stage.wait_bus(true).await;

    // The controls: without the password, or without trust in the server, there is no bus.
    for settings in [&wrong[..], &untrusted] {
        stage.change(0, settings).await;
        stage.wait_bus(false).await;
    }
    stage.change(0, &settings).await;
    stage.wait_bus(true).await;

    let run = Run::begin(&stage, PACE);
    let begun = started(&stage).await;
    for round in 0..10 {
        run.acknowledged(25).await;
        let relay = &mut stage.relays[round % 3];
        if round % 2 == 0 {
            relay.kill().await.unwrap();
        } else {
            assert!(relay.stop().await.unwrap());
        }
        run.acknowledged(10).await;
        stage.relays[round % 3].start().await.unwrap();
    }
    stage.wait_bus(true).await;
    run.acknowledged(60).await;
    let again = started(&stage).await;
    assert!(begun.iter().zip(&again).all(|(begun, again)| again > begun), "the metric shows it: {begun:?} {again:?}");
    assert!(run.world.sessions.lock().len() >= 50, "sessions were cut off, or this shows nothing");
    for relay in 0..3 {
        assert!(stage.metric(relay, "nostr_log_entries_total", "\"bus\"").await > 0.0, "relay-{} hears", relay + 1);
        let log = std::fs::read_to_string(stage.relays[relay].log()).unwrap();
        assert!(!log.contains(SECRET), "a password is in the log");
    }
    run.end(&stage).await;
    stage.stop().await;
}
