//! Faults of the bus and of instances, each with its bound for live delivery.

use crate::stage::Stage;
use crate::{Run, verdict};
use deploy::Signal;
use std::time::Duration;

pub const PACE: Duration = Duration::from_millis(40);
/// The bound of live delivery while the bus is away.
pub const WITHOUT_BUS: Duration = Duration::from_millis(500);

/// While the bus was down, live events came from the shared log, and in time.
pub async fn assert_followed_the_log(stage: &Stage, before: f64) {
    let read = stage.read_from_log().await - before;
    assert!(read > 20.0, "only {read} entries were read from the log: the fault did not bite");
}

/// After this time a fault must have no effect any more.
const HEALING: Duration = Duration::from_secs(2);

/// From two seconds after a fault on, live delivery takes at most `healed`.
pub async fn assert_healed(run: &Run, healed: Duration) {
    run.lasting(HEALING).await;
    let after = run.lasting(HEALING).await;
    run.in_time("2 s after", after, healed);
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
    // Other tests run beside this one, so its bound is three times that of the long one.
    redis_goes(3, Duration::from_secs(4), Duration::from_secs(4), Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the full times: a minute and a half"]
async fn redis_goes_for_long() {
    redis_goes(10, Duration::from_secs(15), Duration::from_secs(30), Duration::from_millis(100)).await;
}

/// `healed`: the bound of live delivery from two seconds after each fault on.
async fn redis_goes(cuts: usize, hang: Duration, death: Duration, healed: Duration) {
    let mut stage = Stage::start(true, false).await;
    let recording = stage.record();
    let run = Run::begin(&stage, PACE);
    run.acknowledged(60).await;

    let cut_off = recording.fault().await;
    let kill = || redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").to_owned();
    let begin = std::time::Instant::now();
    let mut killed = 0;
    for _ in 0..cuts {
        killed += stage.redis.ask::<i64>(&kill()).await.unwrap();
        run.lasting(Duration::from_secs(2)).await;
    }
    assert!(killed >= 3 * cuts as i64, "{killed} listeners were cut off");
    run.in_time("CLIENT KILL", (begin, std::time::Instant::now()), WITHOUT_BUS);
    cut_off.raises("SkeinBusUnsteady", "nostr_bus_losses_total").await.unwrap();

    let (before, stopped) = (stage.read_from_log().await, recording.fault().await);
    stage.redis.signal(Signal::STOP);
    let hung = run.lasting(hang).await;
    assert_followed_the_log(&stage, before).await;
    stopped.raises("SkeinRedisDown", "nostr_bus_up").await.unwrap();
    stage.redis.signal(Signal::CONT);
    run.in_time("Redis stopped", hung, WITHOUT_BUS);
    assert_healed(&run, healed).await;

    let (before, killed) = (stage.read_from_log().await, recording.fault().await);
    stage.redis.kill().await.unwrap();
    let dead = run.lasting(death).await;
    assert_followed_the_log(&stage, before).await;
    killed.raises("SkeinRedisDown", "nostr_bus_up").await.unwrap();
    stage.redis.start().await.unwrap();
    run.in_time("Redis killed", dead, WITHOUT_BUS);
    assert_healed(&run, healed).await;
    for relay in 0..3 {
        assert_eq!(stage.metric(relay, "nostr_bus_up", "").await, 1.0, "relay-{} heals", relay + 1);
    }
    run.end(&stage).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_was_never_there() {
    let stage = Stage::start(false, false).await;
    let recording = stage.record();
    let run = Run::begin(&stage, PACE);
    let window = run.acknowledged(200).await;
    assert_followed_the_log(&stage, 0.0).await;
    recording.fault_from_the_start(1.0).raises("SkeinRedisDown", "nostr_bus_up").await.unwrap();
    run.in_time("without Redis", window, WITHOUT_BUS);
    run.end(&stage).await;
    stage.stop().await;
}

/// An instance that dies between COMMIT and PUBLISH leaves entries in the log that the bus never brings. An instance
/// without Redis leaves the same to the others, for every entry; and then it dies.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_commits_and_dies_without_a_word_on_the_bus() {
    let mut stage = Stage::start(true, false).await;
    let nowhere = deploy::free_port().unwrap();
    stage.change(0, &[("RELAY_REDIS_URL", format!("redis://127.0.0.1:{nowhere}"))]).await;
    let recording = stage.record();
    let run = Run::begin_on(&stage, &[0], PACE, 0);
    let window = run.acknowledged(80).await;
    for relay in [1, 2] {
        let read = stage.metric(relay, "nostr_log_entries_total", "\"log\"").await;
        assert!(read > 20.0, "{read}: the bus brought the entries, the fault did not bite");
        assert_eq!(stage.metric(relay, "nostr_bus_up", "").await, 1.0, "the others have a bus");
    }

    let dead = recording.fault().await;
    stage.relays[0].kill().await.unwrap();
    dead.raises("SkeinInstanceDown", "up").await.unwrap();
    run.in_time("entries that the bus never brought", window, Duration::from_secs(1));
    stage.relays[0].start().await.unwrap();
    run.end(&stage).await;
    stage.stop().await;
}
