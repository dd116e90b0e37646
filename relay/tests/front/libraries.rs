//! Real client libraries through HAProxy, by ws:// and by wss://.

use crate::installed::node;
use crate::stage::Stage;
use deploy::local::Wish;

/// Libraries that sign in, read NIP-11 or publish large lists, each through the proxy.
const SESSIONS: [&str; 4] =
    ["libraries/nostr_tools.mjs", "libraries/ndk.mjs", "libraries/applesauce.mjs", "libraries/nostrify.mjs"];
/// Steps that need no relay of their own. (`relay/tests/clients.rs` has their controls.)
const STEPS: [&str; 6] = ["profile", "live", "follows", "many filters", "deletion", "gift wraps"];

#[tokio::test]
async fn libraries_work_by_ws() {
    works(false).await;
}

#[tokio::test]
async fn libraries_work_by_wss() {
    works(true).await;
}

async fn works(tls: bool) {
    let stage = Stage::start(Wish { relays: Some(3), replicas: Some(1), tls, observe: !tls, ..Wish::default() }).await;
    assert_warm(&stage).await;
    let mut spread = node("through_front.mjs");
    spread.arg(stage.local.url());
    if tls {
        let (succeeded, said) = run(&mut spread);
        assert!(!succeeded && said.contains("self-signed"), "control: nobody knows the certificate: {said}");
        spread.env("NODE_EXTRA_CA_CERTS", stage.directory().join("haproxy.pem"));
    }

    let (succeeded, said) = run(&mut spread);
    assert!(succeeded, "{said}");
    for script in SESSIONS {
        // Node sends to whichever relay HAProxy chooses: what one connection wrote, another one reads.
        let mut session = node(script);
        session.arg(stage.local.url()).args(STEPS);
        if tls {
            session.env("NODE_EXTRA_CA_CERTS", stage.directory().join("haproxy.pem"));
        }
        let (succeeded, said) = run(&mut session);
        assert!(succeeded, "{said}");
    }

    let taken = stage.local.front().servers().await.unwrap();
    assert!(taken.iter().all(|server| server.total >= 3), "all relays had some of it: {taken:?}");
    if !tls {
        assert_observed(&stage).await;
    }
    stage.stop().await;
}

/// Each ready relay has two connections or more to each replica, and no client's statement is a connection's first: the
/// mark is the last statement of warming. (The store's own tests have the control.)
async fn assert_warm(stage: &Stage) {
    let warm = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'skein' AND query LIKE '%texts(%'";
    let warm: i64 = stage.local.postgres().server("replica-1").unwrap().ask(warm).await.unwrap();
    assert!(warm >= 6, "{warm} warm connections");
}

/// Prometheus has found all three relays and HAProxy.
async fn assert_observed(stage: &Stage) {
    deploy::until("Prometheus to scrape everything", deploy::STEP_TIMEOUT, async || {
        let rows = stage.local.status().await;
        let row = rows.into_iter().find(|row| row.name == "prometheus").ok_or("there is none")?;
        if row.detail == "4 targets answer" { Ok(()) } else { Err(row.detail) }
    })
    .await
    .unwrap();
}

fn run(node: &mut std::process::Command) -> (bool, String) {
    let output = node.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}
