//! The caches of all instances while Redis and an instance go: what is asked again and again is answered as the log says
//! each time, out of whatever layer.

use crate::clients::{Socket, id};
use crate::stage::Stage;
use crate::world::{Session, World};
use crate::{Run, clients};
use deploy::{PATIENCE, Signal, until};
use relay::types::Filter;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const PACE: Duration = Duration::from_millis(40);
/// Between two times that the same is asked.
const ASKED_EVERY: Duration = Duration::from_millis(150);
const TOKEN: &str = "a token of the operator's";

/// What many ask: few filters, so that every instance has them all.
fn questions() -> Vec<Value> {
    vec![
        json!({"kinds": [1], "limit": 10}),
        json!({"kinds": [7, 10_002]}),
        json!({"#t": ["t1"], "limit": 40}),
        json!({"#t": ["t2", "t3"], "kinds": [1], "limit": 5}),
    ]
}

/// Asks one question after the other until the run is quiet, and keeps each answer as a session of its own.
async fn asker(world: Arc<World>, relay: usize, port: u16) {
    let questions = questions();
    let mut socket = Socket::patient(port).await;
    for number in 0.. {
        if world.is_quiet() {
            return;
        }
        tokio::time::sleep(ASKED_EVERY).await;
        let question = &questions[number % questions.len()];
        let asked_at = world.head();
        match ask(&mut socket, number, question).await {
            Some(stored) => world.sessions.lock().push(Session {
                relay,
                subscriber: None,
                filters: [Filter::parse(&question.to_string()).unwrap()].into(),
                asked_at,
                eose_at: world.head(),
                stored,
                live: Vec::new(),
                whole: false,
            }),
            None => socket = Socket::patient(port).await,
        }
    }
}

/// Each time under another name: until its CLOSE has arrived, the last one may bring live events.
async fn ask(socket: &mut Socket, number: usize, question: &Value) -> Option<Vec<relay::types::EventId>> {
    let name = format!("q{number}");
    socket.send(json!(["REQ", name, question]).to_string()).await?;
    let mut stored = Vec::new();
    loop {
        let message = socket.next().await?;
        match message[0].as_str()? {
            "EVENT" if message[1] == name => stored.push(id(&message[2])),
            "EOSE" => break,
            "CLOSED" => return None,
            _ => {}
        }
    }
    socket.send(json!(["CLOSE", name]).to_string()).await?;
    Some(stored)
}

impl Stage {
    async fn hits(&self, relay: usize, layer: &str) -> f64 {
        let labels = |line: &str| line.contains(&format!("\"{layer}\"")) && line.contains("\"hit\"");
        let (_, text) = self.relays[relay].get("/metrics").await.unwrap();
        let lines = text.lines().filter(|line| line.starts_with("nostr_cache_requests_total") && labels(line));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    async fn wait_for_hits(&self, relay: usize, layer: &str, more: f64) {
        let wanted = self.hits(relay, layer).await + more;
        until(&format!("hits of {layer} on relay-{}", relay + 1), PATIENCE, async || {
            let hits = self.hits(relay, layer).await;
            if hits >= wanted { Ok(()) } else { Err(format!("{hits} of {wanted}")) }
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_are_exact_while_redis_hangs_and_dies_and_an_instance_starts_cold() {
    let mut stage = Stage::start(true, false).await;
    for relay in &mut stage.relays {
        relay.stop().await.unwrap();
        // This machine is busy: what is tested is not how quick Redis is.
        relay.settings.push(("RELAY_CACHE_L2_PATIENCE_MILLISECONDS".to_owned(), "200".to_owned()));
        relay.start().await.unwrap();
    }
    let run = Run::begin(&stage, PACE);
    let mut askers = tokio::task::JoinSet::new();
    for (index, relay) in stage.relays.iter().enumerate() {
        askers.spawn(asker(run.world.clone(), index, relay.port));
    }
    run.acknowledged(60).await;
    for relay in 0..3 {
        stage.wait_for_hits(relay, "l1", 10.0).await;
    }

    // A cold instance finds what the others have read.
    stage.relays[2].kill().await.unwrap();
    stage.relays[2].start().await.unwrap();
    stage.wait_for_hits(2, "l2", 1.0).await;

    stage.redis.signal(Signal::STOP);
    run.lasting(Duration::from_secs(2)).await;
    stage.wait_for_hits(0, "l1", 5.0).await;
    stage.redis.signal(Signal::CONT);
    run.lasting(Duration::from_secs(1)).await;
    stage.redis.kill().await.unwrap();
    stage.relays[1].kill().await.unwrap();
    stage.relays[1].start().await.unwrap();
    // Without Redis the database and the process alone.
    stage.wait_for_hits(1, "l1", 5.0).await;
    assert_eq!(stage.hits(1, "l2").await, 0.0);
    stage.redis.start().await.unwrap();
    run.acknowledged(60).await;
    stage.relays[0].kill().await.unwrap();
    stage.relays[0].start().await.unwrap();
    stage.wait_for_hits(0, "l1", 5.0).await;

    let world = run.world.clone();
    run.end(&stage).await;
    while let Some(asker) = askers.join_next().await {
        asker.unwrap();
    }
    let answers = world.sessions.lock().iter().filter(|session| session.filters.len() == 1).count();
    println!("{answers} answers to questions");
    assert!(answers > 60, "{answers} answers show little");
    stage.stop().await;
}

/// One request to the operator's listener: its status and body.
async fn post(relay: &deploy::relay::Relay, path: &str, headers: &str) -> (u16, Value) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", relay.admin_port)).await.unwrap();
    let request = format!("POST {path} HTTP/1.0\r\nContent-Length: 0\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_the_hottest_filters_and_purges_every_instance() {
    let mut stage = Stage::start(true, false).await;
    for relay in &mut stage.relays[1..] {
        relay.stop().await.unwrap();
        relay.settings.push(("RELAY_ADMIN_TOKEN".to_owned(), TOKEN.replace(' ', "-")));
        relay.start().await.unwrap();
    }
    let allowed = format!("Host: 127.0.0.1\r\nAuthorization: Bearer {}\r\n", TOKEN.replace(' ', "-"));
    let author = crate::kit::Author::new();
    let of_author = json!({"authors": [author.pubkey().to_hex()], "kinds": [1], "limit": 5});
    clients::publish_last(stage.relays[1].port, &author.note("the only one")).await;
    let asked = async |stage: &Stage, relay: usize, question: &Value| {
        let mut socket = Socket::patient(stage.relays[relay].port).await;
        for number in 0..5 {
            ask(&mut socket, number, question).await.unwrap();
        }
    };
    let filters = async |stage: &Stage, relay: usize| {
        let (status, body) = stage.relays[relay].get("/cache.json").await.unwrap();
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        let hottest = body["hottest"].as_array().unwrap().clone();
        (body, hottest.iter().map(|hot| hot["filter"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
    };
    let everything = json!({"kinds": [1], "limit": 3});
    for relay in [1, 2] {
        asked(&stage, relay, &of_author).await;
        asked(&stage, relay, &everything).await;
        let (body, shown) = filters(&stage, relay).await;
        assert_eq!(shown.len(), 2, "{body}");
        let hot = &body["hottest"][0];
        assert!(hot["hits"].as_u64().unwrap() >= 4 && hot["saved_seconds"].as_f64().unwrap() > 0.0, "{body}");
        assert!(hot["hit_rate"].as_f64().unwrap() > 0.5 && body["l1"]["entries"] == 2, "{body}");
        assert_eq!(body["l2"]["traffic"]["servers_up"], 1, "{body}");
    }

    // Who may not.
    let path = format!("/cache/purge?author={}", author.pubkey().to_hex());
    let (status, body) = post(&stage.relays[0], &path, &allowed).await;
    assert!(status == 403 && body["error"].as_str().unwrap().contains("RELAY_ADMIN_TOKEN"), "{body}");
    for headers in ["Host: 127.0.0.1\r\n", "Host: 127.0.0.1\r\nAuthorization: Bearer wrong\r\n"] {
        assert_eq!(post(&stage.relays[1], &path, headers).await.0, 401);
    }
    assert_eq!(post(&stage.relays[1], &path, &allowed.replace("127.0.0.1", "evil.example")).await.0, 404);
    for wrong in ["/cache/purge", "/cache/purge?author=x", "/cache/purge?filter=%7B", "/cache/purge?filter=%zz"] {
        assert_eq!(post(&stage.relays[1], wrong, &allowed).await.0, 400, "{wrong}");
    }
    assert_eq!(stage.relays[1].get("/cache/purge?all").await.unwrap().0, 405);
    assert_eq!(filters(&stage, 1).await.1.len(), 2, "nothing was purged");

    // Who may: one author's, everywhere.
    let (status, body) = post(&stage.relays[1], &path, &allowed).await;
    assert_eq!((status, &body["entries"], &body["instances"]), (200, &json!(1), &json!("all")), "{body}");
    for relay in [1, 2] {
        until("the purge to reach the instance", PATIENCE, async || match filters(&stage, relay).await.1 {
            shown if shown.len() == 1 && shown[0].contains("\"kinds\":[1]") => Ok(()),
            shown => Err(format!("{shown:?}")),
        })
        .await
        .unwrap();
    }
    let misses = async |stage: &Stage| stage.metric(2, "nostr_store_read_seconds_count", "").await;
    let before = misses(&stage).await;
    asked(&stage, 2, &of_author).await;
    assert!(misses(&stage).await > before, "what others had shared was purged too: it was read from the store");

    // With a filter, whatever its limit; then all.
    let (status, body) = post(&stage.relays[2], "/cache/purge?filter=%7B%22kinds%22:%5B1%5D%7D", &allowed).await;
    assert_eq!((status, &body["entries"]), (200, &json!(1)), "{body}");
    let (status, body) = post(&stage.relays[2], "/cache/purge?all", &allowed).await;
    assert_eq!((status, &body["entries"]), (200, &json!(1)), "{body}");
    stage.stop().await;
}
