//! Clients that read too slowly, beside ordinary ones.

use crate::Run;
use crate::clients;
use crate::stage::Stage;
use std::time::Duration;
use tokio::task::JoinSet;

/// The rate of a slow reader.
const BYTES_PER_SECOND: usize = 1_024;
/// The padding of notes: long enough that a slow reader falls behind at once.
const PADDING: usize = 24_576;

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_slow_nobody_else_down() {
    // The bound is wide: the windows are short, and other tests run beside this one.
    slow_clients(3, Duration::from_millis(1_500), 0, Duration::from_millis(120), 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten pairs of windows: minutes"]
async fn one_percent_of_slow_clients_slows_nobody_down() {
    slow_clients(10, Duration::from_secs(10), 282, Duration::from_millis(60), 1.1).await;
}

/// Pairs of windows, without and with a slow client on each relay, and `others` clients beside the usual ones. The
/// median of the 99th percentiles with them is at most `bound` times that without them, or a millisecond more.
async fn slow_clients(pairs: usize, window: Duration, others: usize, pace: Duration, bound: f64) {
    let stage = Stage::start(true, false).await;
    let run = Run::begin_on(&stage, &[0, 1, 2], pace, PADDING);
    let mut crowd = JoinSet::new();
    for other in 0..others {
        crowd.spawn(clients::slow_reader(stage.relays[other % 3].port, 1 << 24));
    }
    run.acknowledged(20).await;
    let behind = async || {
        let mut times = Vec::new();
        for relay in 0..3 {
            times.push(stage.metric(relay, "nostr_slow_clients_total", "").await);
        }
        times
    };

    let before = behind().await;
    let mut ratios = Vec::new();
    for pair in 0..pairs {
        let alone = run.p99("without slow clients", run.lasting(window).await);
        let mut slow = JoinSet::new();
        for relay in &stage.relays {
            slow.spawn(clients::slow_reader(relay.port, BYTES_PER_SECOND));
        }
        if pair == 0 {
            // The kernel buffers megabytes for a reader: the first pair of windows begins once these are full.
            deploy::until("the slow to fall behind", deploy::STEP_TIMEOUT, async || {
                let now = behind().await;
                let fell = now.iter().zip(&before).all(|(now, before)| now > before);
                if fell { Ok(()) } else { Err(format!("{before:?} {now:?}")) }
            })
            .await
            .unwrap();
        }
        let beside = run.p99("beside slow clients", run.lasting(window).await);
        let allowed = alone + Duration::from_millis(1);
        ratios.push(beside.as_secs_f64() / allowed.as_secs_f64());
        slow.shutdown().await;
    }

    crowd.shutdown().await;
    run.end(&stage).await;
    ratios.sort_by(f64::total_cmp);
    println!("p99 beside slow clients over p99 without: {ratios:.2?}");
    assert!(ratios[pairs / 2] <= bound, "{ratios:.2?}");
    stage.stop().await;
}
