//! Great and odd filters on the whole way: HAProxy, a relay, PostgreSQL.

use crate::kit::{Author, Client};
use crate::stage::Stage;
use deploy::local::Wish;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};

#[tokio::test]
async fn great_and_odd_filters_are_served() {
    let stage = Stage::start(Wish { relays: Some(1), replicas: Some(1), ..Wish::default() }).await;
    let mut client = Client::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, stage.port))).await;
    let author = Author::new();
    let mut follows: Vec<String> = (0..2_499_u32).map(|n| format!("{n:064x}")).collect();
    follows.push(author.pubkey().to_hex());
    let tags: Vec<[&str; 2]> = follows.iter().map(|key| ["p", key]).collect();
    let tags: Vec<&[&str]> = tags.iter().map(|tag| &tag[..]).collect();
    let (list, article) = (author.event(3, &tags, ""), author.event(30_023, &[], "no identifier"));
    assert!(client.publish(&list).await.0 && client.publish(&article).await.0);

    let feed = json!({"authors": follows, "kinds": [1, 3, 6]});
    assert!(feed.to_string().len() > 131_072);
    assert_eq!(client.subscribe("feed", feed.clone()).await.len(), 1);
    client.send(json!(["COUNT", "feed", feed])).await;
    assert_eq!(client.next().await, json!(["COUNT", "feed", {"count": 1}]));

    let by_identifier = json!({"authors": [author.pubkey().to_hex()], "kinds": [30_023], "#d": [""]});
    assert_eq!(client.subscribe("naddr", by_identifier.clone()).await.len(), 1);
    client.send(json!(["COUNT", "naddr", by_identifier])).await;
    assert_eq!(client.next().await, json!(["COUNT", "naddr", {"count": 1}]));

    for never in [json!({"kinds": [99_999], "limit": 0}), json!({"#a": []}), json!({"authors": []})] {
        assert_eq!(client.subscribe("never", never).await, [] as [Value; 0]);
    }
    stage.stop().await;
}
