//! The table of faults.

use crate::stage::Stage;
use crate::{Run, clients, verdict};
use deploy::Signal;
use std::time::Duration;

const PACE: Duration = Duration::from_millis(40);
/// What live delivery may take while the bus is away.
const WITHOUT_BUS: Duration = Duration::from_millis(500);

/// Live events after the bus went came out of the log, and in time.
async fn assert_followed_the_log(stage: &Stage, before: f64) {
    let read = stage.read_from_log().await - before;
    assert!(read > 20.0, "only {read} entries were read from the log: the fault did not bite");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_instances_are_one_relay_and_the_verdict_can_fail() {
    let stage = Stage::start(true, false).await;
    let run = Run::begin(&stage, PACE);
    let window = run.acknowledged(300).await;
    run.p99("without a fault", window);
    let world = run.world.clone();
    let entries = run.end(&stage).await;
    verdict::assert_sees(&world, &entries);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_cut_off_again_and_again_hangs_and_dies() {
    // Other tests run beside this one: what is held here is three times what the long one holds.
    redis_goes(2, Duration::from_secs(4), Duration::from_secs(4), Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the full times: a minute and a half"]
async fn redis_goes_for_long() {
    redis_goes(10, Duration::from_secs(15), Duration::from_secs(30), Duration::from_millis(100)).await;
}

/// `healed`: what live delivery may take from two seconds after each fault.
async fn redis_goes(cuts: usize, hang: Duration, death: Duration, healed: Duration) {
    let mut stage = Stage::start(true, false).await;
    let run = Run::begin(&stage, PACE);
    run.acknowledged(60).await;

    let kill = || redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").to_owned();
    let begin = std::time::Instant::now();
    let mut killed = 0;
    for _ in 0..cuts {
        killed += stage.redis.ask::<i64>(&kill()).await.unwrap();
        run.lasting(Duration::from_secs(2)).await;
    }
    assert!(killed >= 3 * cuts as i64, "{killed} listeners were cut off");
    let cut = run.p99("CLIENT KILL", (begin, std::time::Instant::now()));

    let before = stage.read_from_log().await;
    stage.redis.signal(Signal::STOP);
    let hung = run.lasting(hang).await;
    assert_followed_the_log(&stage, before).await;
    stage.redis.signal(Signal::CONT);
    let hung = run.p99("Redis stopped", hung);
    run.lasting(Duration::from_secs(2)).await;
    let after_hang = run.lasting(Duration::from_secs(2)).await;
    let after_hang = run.p99("2 s after", after_hang);

    let before = stage.read_from_log().await;
    stage.redis.kill().await.unwrap();
    let dead = run.lasting(death).await;
    assert_followed_the_log(&stage, before).await;
    stage.redis.start().await.unwrap();
    let dead = run.p99("Redis killed", dead);
    run.lasting(Duration::from_secs(2)).await;
    let after_death = run.lasting(Duration::from_secs(2)).await;
    let after_death = run.p99("2 s after", after_death);
    for relay in 0..3 {
        assert_eq!(stage.metric(relay, "nostr_bus_up", "").await, 1.0, "relay-{} heals", relay + 1);
    }

    run.end(&stage).await;
    for p99 in [cut, hung, dead] {
        assert!(p99 < WITHOUT_BUS, "{p99:?}");
    }
    for p99 in [after_hang, after_death] {
        assert!(p99 < healed, "{p99:?}");
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_was_never_there() {
    let stage = Stage::start(false, false).await;
    let run = Run::begin(&stage, PACE);
    let window = run.acknowledged(200).await;
    assert_followed_the_log(&stage, 0.0).await;
    let p99 = run.p99("without Redis", window);
    run.end(&stage).await;
    assert!(p99 < WITHOUT_BUS, "{p99:?}");
    stage.stop().await;
}

/// An instance that dies between COMMIT and PUBLISH leaves entries in the log that nobody hears of on the bus. One
/// whose own Redis is not there leaves the others exactly that, for every entry; and then it dies.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_commits_and_dies_without_a_word_on_the_bus() {
    let mut stage = Stage::start(true, false).await;
    let nowhere = deploy::free_port().unwrap();
    let mut mute = stage.relays.remove(0);
    mute.stop().await.unwrap();
    mute = mute.set("RELAY_REDIS_URL", format!("redis://127.0.0.1:{nowhere}"));
    mute.start().await.unwrap();
    stage.relays.insert(0, mute);
    let run = Run::begin_on(&stage, &[0], PACE);
    let window = run.acknowledged(80).await;
    for relay in [1, 2] {
        let read = stage.metric(relay, "nostr_log_entries_total", "\"log\"").await;
        assert!(read > 20.0, "{read}: the bus brought the entries, the fault did not bite");
        assert_eq!(stage.metric(relay, "nostr_bus_up", "").await, 1.0, "the others have a bus");
    }
    stage.relays[0].kill().await.unwrap();
    let p99 = run.p99("entries that the bus never brought", window);
    stage.relays[0].start().await.unwrap();
    run.end(&stage).await;
    assert!(p99 < Duration::from_secs(1), "{p99:?}");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_die_and_come_again_under_load() {
    let mut stage = Stage::start(true, false).await;
    let run = Run::begin(&stage, PACE);
    for round in 0..4 {
        run.acknowledged(40).await;
        let relay = &mut stage.relays[round % 3];
        if round % 2 == 0 {
            relay.kill().await.unwrap();
        } else {
            assert!(relay.stop().await.unwrap());
        }
        run.acknowledged(20).await;
        stage.relays[round % 3].start().await.unwrap();
    }
    run.acknowledged(60).await;
    assert!(run.world.sessions.lock().len() >= 20, "sessions were cut off, or this shows nothing");
    run.end(&stage).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_stand_still_and_go() {
    replicas_go(150).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "10,000 reads of what was just written: minutes"]
async fn replicas_stand_still_for_long() {
    replicas_go(10_000).await;
}

async fn replicas_go(pairs: usize) {
    let mut stage = Stage::start(true, false).await;
    let run = Run::begin(&stage, PACE);
    run.acknowledged(40).await;
    stage.postgres.server("replica-1").unwrap().pause_replay().await.unwrap();
    let before = stage.events_on("replica-1").await;
    assert_eq!(clients::stale_reads(stage.relays[0].port, stage.relays[1].port, pairs).await, 0);
    // The control: the replica that stands still has none of these, and would have answered without them.
    assert_eq!(stage.events_on("replica-1").await, before);
    assert!(stage.events_on("primary").await >= before + pairs as i64);
    // Whoever asks now is served from where the log has come to, whichever server answers.
    stage.relays[1].kill().await.unwrap();
    stage.relays[1].start().await.unwrap();
    run.acknowledged(50).await;
    stage.postgres.server_mut("replica-2").unwrap().kill().await.unwrap();
    stage.postgres.server_mut("replica-1").unwrap().kill().await.unwrap();
    assert_eq!(clients::stale_reads(stage.relays[1].port, stage.relays[2].port, pairs / 3).await, 0);
    stage.relays[2].kill().await.unwrap();
    stage.relays[2].start().await.unwrap();
    run.acknowledged(50).await;
    run.end(&stage).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_dies_and_nothing_acknowledged_is_lost() {
    let mut stage = Stage::start(true, true).await;
    let run = Run::begin(&stage, PACE);
    run.acknowledged(100).await;
    stage.postgres.primary_mut().unwrap().kill().await.unwrap();
    stage.postgres.failover().await.unwrap();
    let (promoted, back) = run.acknowledged(20).await;
    println!("writes were back {:?} after the promotion", back - promoted);
    assert!(back - promoted < Duration::from_secs(30));
    run.acknowledged(100).await;
    run.end(&stage).await;
    stage.stop().await;
}
