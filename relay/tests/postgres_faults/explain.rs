//! `relay explain` on a cluster of which one server is silent and another gone.

use crate::kit::*;
use crate::store_kit::NOW;
use deploy::postgres::PostgresCluster;
use deploy::proxy::Proxy;
use relay::store::Store;
use relay::types::Verified;
use std::net::Ipv4Addr;

#[tokio::test(flavor = "multi_thread")]
async fn every_server_is_explained_and_those_that_cannot_be_asked_are_named() {
    let cluster = PostgresCluster::setup().replicas(1).start().await.unwrap();
    let mut urls = cluster.database_urls("postgres");
    let store = open(options(&urls)).await;
    let write = async |notes: std::ops::Range<usize>| {
        for n in notes {
            store.append(vec![Verified::vouch(note(n))], NOW).await.unwrap();
        }
    };
    write(0..5).await;
    cluster.wait_applied().await.unwrap();
    cluster.server("replica-1").unwrap().pause_replay().await.unwrap();
    write(5..8).await;
    store.close().await;
    let silent = Proxy::start((Ipv4Addr::LOCALHOST, cluster.primary().unwrap().port()).into()).await.unwrap();
    silent.silence(true);
    let gone = deploy::free_port().unwrap();
    // Neither first nor last, and with a password that must not be shown.
    urls.insert(1, format!("postgres://postgres:hunter2@127.0.0.1:{gone}/postgres"));
    urls.insert(1, format!("postgres://postgres:hunter2@{}/postgres", silent.address()));

    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_relay"));
    command.args(["explain", r#"{"kinds":[1],"limit":5}"#]).env("RELAY_DATABASE_URLS", urls.join(","));
    let output = command.output().await.unwrap();
    let (text, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1), "{text}{errors}");
    assert!(!text.contains("hunter2") && !errors.contains("hunter2"), "{text}{errors}");
    let parts: Vec<&str> = text.split("postgres://").skip(1).collect();
    let [primary, silent, gone, replica] = parts[..] else { panic!("four servers:\n{text}") };
    for (part, role) in [(primary, "primary at position 8"), (replica, "replica at position 5, 3 positions and ")] {
        for words in [role, "form     kind\n", " buffers, ", "Index Only Scan using event_kind", "Execution Time: "] {
            assert!(part.contains(words), "{words} in:\n{part}");
        }
    }
    for (part, words) in [(silent, "cannot be asked: "), (gone, "Connection refused")] {
        assert!(part.contains(words) && !part.contains("form"), "{words} in:\n{part}");
    }
    assert_eq!(errors.matches(" cannot be asked: ").count(), 2, "{errors}");

    // Control: where every server answers there is no complaint.
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_relay"));
    command.args(["explain", r#"{"kinds":[1]}"#, "--url", &cluster.database_urls("postgres")[0]]);
    let output = command.output().await.unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
