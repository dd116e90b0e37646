//! Faults of the line between one instance and Redis, then of the lines to every Postgres server: slow, then lossy.

use crate::Run;
use crate::faults::{PACE, assert_healed};
use crate::stage::Stage;
use deploy::Home;
use deploy::network::LossyNetwork;
use deploy::proxy::Proxy;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const DELAY: Duration = Duration::from_millis(100);
const JITTER: Duration = Duration::from_millis(50);
const LOSS: f64 = 0.02;

#[tokio::test(flavor = "multi_thread")]
async fn one_instance_has_a_bad_line() {
    bad_lines(Duration::from_millis(2_500), Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the full times: a minute and a half"]
async fn one_instance_has_a_bad_line_for_long() {
    bad_lines(Duration::from_secs(15), Duration::from_millis(100)).await;
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The line from the first relay to a server. It can be slow, and lossy where the test may make a network for that.
struct Line {
    network: Option<LossyNetwork>,
    proxies: Vec<Proxy>,
}

impl Line {
    async fn to(ports: &[u16]) -> Self {
        let allowed = LossyNetwork::is_allowed();
        let network = if allowed { Some(LossyNetwork::start(Home::temporary().unwrap()).await.unwrap()) } else { None };
        let mut proxies = Vec::new();
        for port in ports {
            proxies.push(match &network {
                Some(network) => network.proxy(local(*port)).unwrap(),
                None => Proxy::start(local(*port)).await.unwrap(),
            });
        }
        Self { network, proxies }
    }

    fn delay(&self, delay: Duration, jitter: Duration) {
        self.proxies.iter().for_each(|proxy| proxy.delay(delay, jitter));
    }
}

async fn bad_lines(lasting: Duration, healed: Duration) {
    let mut stage = Stage::start(true, false).await;
    let to_redis = Line::to(&[stage.redis.port]).await;
    let ports: Vec<u16> = stage.postgres.servers.iter().map(|server| server.port()).collect();
    let to_postgres = Line::to(&ports).await;
    let urls = to_postgres.proxies.iter().map(|proxy| format!("postgres://postgres@{}/postgres", proxy.address()));
    let redis = format!("redis://{}", to_redis.proxies[0].address());
    stage.change(0, &[("RELAY_REDIS_URL", redis), ("RELAY_DATABASE_URLS", urls.collect::<Vec<_>>().join(","))]).await;
    let run = Run::begin(&stage, PACE);
    run.acknowledged(60).await;

    let read = async || stage.metric(0, "nostr_log_entries_total", "\"log\"").await;
    let before = read().await;
    to_redis.delay(DELAY, JITTER);
    run.p99("Redis is far", run.lasting(lasting).await);
    // The own writer's entries come before earlier ones that the slow bus brings: these holes are read from the log.
    deploy::until("entries that the bus brings too late", deploy::STEP_TIMEOUT, async || match read().await - before {
        read if read >= 20.0 => Ok(()),
        read => Err(read.to_string()),
    })
    .await
    .unwrap();
    to_redis.delay(Duration::ZERO, Duration::ZERO);
    assert_healed(&run, healed).await;

    let commits = async |end: &str| stage.metric(0, &format!("nostr_commit_seconds_{end}"), "").await;
    let before = (commits("sum").await, commits("count").await);
    to_postgres.delay(DELAY, JITTER);
    let far = run.p99("Postgres is far", run.lasting(lasting).await);
    assert!(far > DELAY, "{far:?}: the fault did not bite");
    let commit = (commits("sum").await - before.0) / (commits("count").await - before.1);
    assert!(commit > DELAY.as_secs_f64(), "a commit took {commit} s: the metric does not show it");
    to_postgres.delay(Duration::ZERO, Duration::ZERO);
    assert_healed(&run, healed).await;

    let repairs = async || stage.metric(0, "nostr_log_repairs_total", "").await;
    let slow_commits =
        async || commits("count").await - stage.metric(0, "nostr_commit_seconds_bucket", "le=\"0.1\"").await;
    for (what, line) in [("Redis", &to_redis), ("Postgres", &to_postgres)] {
        let Some(network) = &line.network else {
            println!("SKIPPED: {LOSS} of the packets to {what} lost: only root may make a network that loses them");
            continue;
        };
        // The metric that shows the fault: entries that come late are read from the log, and late writes are slow
        // commits.
        let shown = async || if what == "Redis" { repairs().await } else { slow_commits().await };
        let before = shown().await;
        network.lose(LOSS).await.unwrap();
        run.p99(&format!("the line to {what} is lossy"), run.lasting(lasting).await);
        deploy::until("packets to be lost", deploy::STEP_TIMEOUT, async || match network.dropped().await {
            Ok(dropped) if dropped >= 10 => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await
        .unwrap();
        deploy::until("the metric to show it", deploy::STEP_TIMEOUT, async || match shown().await {
            now if now > before => Ok(()),
            now => Err(now.to_string()),
        })
        .await
        .unwrap();
        network.lose(0.0).await.unwrap();
        assert_healed(&run, healed).await;
    }
    run.end(&stage).await;
    stage.stop().await;
}
