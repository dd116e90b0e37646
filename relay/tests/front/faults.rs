//! The table of faults, one crowd through all of them.

use crate::kit::Client;
use crate::run::Run;
use crate::stage::{Size, Stage};
use crate::watch::{Askers, Drain, Watch};
use deploy::Signal;
use deploy::local::Wish;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
#[cfg(debug_assertions)]
use tokio::io::AsyncWriteExt;
#[cfg(debug_assertions)]
use tokio::net::TcpStream;

const SMALL: Size = Size {
    subscribers: 45,
    broad_one_in: 3,
    publishers: 3,
    pace: Duration::from_millis(60),
    askers: 6,
    drain: Duration::from_secs(2),
    // Other tests run beside this one, in a build that compiles fast.
    slack: Duration::from_secs(1),
    again: Duration::from_secs(10),
};
const THOUSAND: Size = Size {
    subscribers: 940,
    broad_one_in: 50,
    publishers: 20,
    pace: Duration::from_millis(400),
    askers: 40,
    drain: Duration::from_secs(10),
    slack: Duration::ZERO,
    again: Duration::from_secs(2),
};

#[tokio::test(flavor = "multi_thread")]
async fn no_client_loses_anything_whatever_dies_drains_rolls_or_scales() {
    everything(SMALL).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "1,000 clients: minutes"]
async fn a_thousand_clients_lose_nothing_whatever_dies_drains_rolls_or_scales() {
    everything(THOUSAND).await;
}

async fn everything(size: Size) {
    let drain = |seconds: u64| ("RELAY_TIMEOUTS_DRAIN_SECONDS".to_owned(), seconds.to_string());
    let settings = vec![drain(size.drain.as_secs())];
    let wish = Wish { relays: Some(3), replicas: Some(2), synchronous: true, settings, ..Wish::default() };
    let mut stage = Stage::start(wish).await;
    let (run, authors) = stage.crowd(size);
    let askers = Askers::start(stage.port, &authors, size.askers);
    run.acknowledged(100).await;
    let quiet = run.lasting(size.drain * 3).await;
    let (quiet, _) = askers.times("nothing happens", quiet);

    // First of all, while the crowd's answers are as short as when it was quiet.
    let (watch, begin) = (Watch::start(&stage.local), Instant::now());
    stage.local.roll(&Wish::default(), &stage.quiet).await.unwrap();
    let (rolled, cut_off) = askers.times("the relays are rolled", (begin, Instant::now()));
    assert!(rolled <= quiet * 2 + size.slack, "{rolled:?} against {quiet:?}");
    assert!(cut_off < size.again, "{cut_off:?} without an answer");
    let drains = with_clients(watch.end());
    assert_eq!(drains.len(), 3, "each relay was drained once: {drains:?}");
    assert_drained_gently(&drains, size);

    let recording = stage.local.record();
    let dead = recording.fault().await;
    stage.local.kill("relay-1", Signal::KILL).await.unwrap();
    run.acknowledged(50).await;
    dead.raises("SkeinInstanceDown", "up").await.unwrap();
    stage.local.mend(&stage.quiet).await.unwrap();

    panics(&stage, 2).await;
    run.acknowledged(50).await;
    stage.local.mend(&stage.quiet).await.unwrap();

    drains_by_itself(&mut stage, size).await;

    let started = stage.local.front_metric("haproxy_process_start_time_seconds").await.unwrap();
    for _ in 0..10 {
        stage.local.reload().await.unwrap();
    }
    run.acknowledged(50).await;
    assert!(stage.local.front_metric("haproxy_process_start_time_seconds").await.unwrap() > started);

    for (name, alert, metric) in [
        ("haproxy", "SkeinFrontDown", "up"),
        ("redis", "SkeinRedisDown", "nostr_bus_up"),
        ("replica-1", "SkeinServerDown", "nostr_database_servers"),
    ] {
        let dead = recording.fault().await;
        stage.local.kill(name, Signal::KILL).await.unwrap();
        if name != "haproxy" {
            run.acknowledged(50).await;
        }
        dead.raises(alert, metric).await.unwrap();
        stage.local.mend(&stage.quiet).await.unwrap();
        run.acknowledged(50).await;
    }

    drop(recording);
    stage.local.scale(6, &stage.quiet).await.unwrap();
    assert_eq!(active(&stage).await, 6.0);
    run.acknowledged(50).await;
    let watch = Watch::start(&stage.local);
    stage.local.scale(2, &stage.quiet).await.unwrap();
    assert_drained_gently(&with_clients(watch.end()), size);
    assert_eq!(active(&stage).await, 2.0);

    let recording = stage.local.record();
    let dead = recording.fault().await;
    stage.local.kill("primary", Signal::KILL).await.unwrap();
    let begin = Instant::now();
    dead.raises("SkeinNoPrimary", "nostr_database_servers").await.unwrap();
    stage.local.failover(&stage.quiet).await.unwrap();
    run.acknowledged(20).await;
    println!("writes were back {:?} after the primary had died", begin.elapsed());
    stage.local.mend(&stage.quiet).await.unwrap();

    // The control of the spread, and a roll to other settings, which are in force when the new relays drain.
    let hasty = Wish { settings: vec![drain(0)], ..Wish::default() };
    stage.local.roll(&hasty, &stage.quiet).await.unwrap();
    run.acknowledged(50).await;
    let watch = Watch::start(&stage.local);
    stage.local.roll(&Wish::default(), &stage.quiet).await.unwrap();
    let drains = watch.end();
    assert!(!drains.is_empty(), "control: both relays were drained");
    // A client that left between two samples is not even seen here.
    for drain in with_clients(drains) {
        println!("control: {}", drain.times());
        assert!(!drain.is_spread_over(size.drain), "control: without a time to drain all leave at once: {drain:?}");
    }
    run.acknowledged(50).await;
    drop(askers);
    end(run, &stage, size).await;
    stage.stop().await;
}

/// The number of relays that HAProxy sends clients to, by its exporter.
/// A task without which the relay cannot go on panics: the process ends by itself, long before it would have drained.
#[cfg(debug_assertions)]
async fn panics(stage: &Stage, relay: usize) {
    let relay = &stage.local.relays()[relay];
    let mut admin = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.admin_port)).await.unwrap();
    let path = "/debug/tasks/panic?task=admit";
    let request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    admin.write_all(request.as_bytes()).await.unwrap();
    let begin = Instant::now();
    while relay.is_alive() {
        assert!(begin.elapsed() < Duration::from_secs(30), "{} goes on without admission", relay.name);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("{} ended {:?} after its admission had panicked", relay.name, begin.elapsed());
}

/// A release build has no page that injects a panic.
#[cfg(not(debug_assertions))]
async fn panics(_: &Stage, _: usize) {}

async fn active(stage: &Stage) -> f64 {
    stage.local.front_metric(r#"haproxy_backend_active_servers{proxy="relays"}"#).await.unwrap()
}

/// A name may come back with another port: what HAProxy remembered for a reload must not outlive it.
#[tokio::test]
async fn relays_that_come_again_on_other_ports_are_found_after_a_reload() {
    let mut stage = Stage::start(Wish { relays: Some(1), replicas: Some(0), ..Wish::default() }).await;
    stage.local.reload().await.unwrap();
    stage.local.scale(0, &stage.quiet).await.unwrap();
    stage.local.scale(1, &stage.quiet).await.unwrap();
    stage.stop().await;
}

/// The leftovers of an interrupted command, and of an operator's own doing: a relay drained and stopped, one that
/// HAProxy does not know, one that drains to its end.
#[tokio::test]
async fn what_was_left_half_done_is_taken_up() {
    let mut stage = Stage::start(Wish { relays: Some(3), replicas: Some(0), ..Wish::default() }).await;
    stage.local.front().drain("relay-1").await.unwrap();
    stage.local.kill("relay-1", Signal::KILL).await.unwrap();
    deploy::until("HAProxy to miss relay-1", deploy::STEP_TIMEOUT, async || {
        let servers = stage.local.front().servers().await.map_err(|error| error.to_string())?;
        let down = servers.iter().any(|server| server.name == "relay-1" && server.status == haproxy::Status::Down);
        if down { Ok(()) } else { Err(format!("{servers:?}")) }
    })
    .await
    .unwrap();

    stage.local.front().remove("relay-3", Duration::from_secs(5)).await.unwrap();
    // A client that sends no close frame keeps it for some seconds.
    let relay = &stage.local.relays()[1];
    let _client = Client::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, relay.port))).await;
    let ended = relay.process().unwrap().identity();
    relay.signal(Signal::TERM);
    deploy::until("relay-2 to drain", deploy::STEP_TIMEOUT, async || match relay.get("/ready").await {
        Ok((404, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
    .unwrap();

    assert!(active(&stage).await < 3.0 && ended.is_alive(), "control");
    stage.local.mend(&stage.quiet).await.unwrap();
    assert_eq!(active(&stage).await, 3.0);
    assert!(!ended.is_alive());

    // Relays that HAProxy does not know can go, and be replaced.
    for name in ["relay-2", "relay-3"] {
        stage.local.front().remove(name, Duration::from_secs(5)).await.unwrap();
    }
    stage.local.scale(2, &stage.quiet).await.unwrap();
    stage.local.roll(&Wish::default(), &stage.quiet).await.unwrap();
    assert_eq!(active(&stage).await, 2.0);
    stage.stop().await;
}

async fn end(run: Run, stage: &Stage, size: Size) {
    let world = run.world.clone();
    run.end_at(&[stage.port]).await;
    let sessions = world.sessions.lock().len();
    assert!(sessions >= 3 * size.subscribers, "{sessions} sessions: too few were cut off for this to show anything");
}

/// The drains with enough clients to be spread over anything.
fn with_clients(drains: Vec<Drain>) -> Vec<Drain> {
    drains.into_iter().filter(|drain| drain.clients.iter().any(|(_, clients)| *clients >= 10)).collect()
}

fn assert_drained_gently(drains: &[Drain], size: Size) {
    for drain in drains {
        println!("{}", drain.times());
        assert_eq!(drain.newly_sent, 0, "a client was sent to a relay that drains: {drain:?}");
        assert!(drain.is_spread_over(size.drain), "all at once: {drain:?}");
    }
}

/// SIGTERM; HAProxy learns of it by the relay's own 404.
async fn drains_by_itself(stage: &mut Stage, size: Size) {
    let watch = Watch::start(&stage.local);
    stage.local.kill("relay-2", Signal::TERM).await.unwrap();
    let relay = &stage.local.relays()[1];
    deploy::until("relay-2 to drain", deploy::STEP_TIMEOUT, async || match relay.get("/ready").await {
        Ok((404, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
    .unwrap();

    let (mut accepted, mut shown) = (Vec::new(), false);
    // To its end; then it answers no more.
    while let Ok((_, metrics)) = relay.get("/metrics").await {
        shown |= metrics.contains("\nnostr_ready 0\n");
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(r#"nostr_connections_total{outcome="accepted"} "#));
        accepted.push(line.unwrap().to_owned());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    assert!(shown, "the metric does not show that it drains");
    accepted.dedup();
    assert_eq!(accepted.len(), 1, "a relay that drains let somebody in: {accepted:?}");
    relay.ended(deploy::STEP_TIMEOUT).await.unwrap();
    let drains = with_clients(watch.end());
    let drain = drains.iter().find(|drain| drain.server == "relay-2").expect("HAProxy saw it drain");
    println!("{}", drain.times());
    assert!(drain.is_spread_over(size.drain), "{drain:?}");
    stage.local.mend(&stage.quiet).await.unwrap();
}
