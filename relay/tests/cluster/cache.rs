//! The caches of all instances while Redis or an instance dies: every answer to a repeated query, from whichever layer,
//! is what the log says at its position.

use crate::clients::{Socket, id};
use crate::stage::Stage;
use crate::verdict::stranger;
use crate::world::{Session, World};
use crate::{Run, buses, clients};
use deploy::redis::Sentinels;
use deploy::{Home, STEP_TIMEOUT, Signal, until};
use relay::types::{Change, Filter, LogEntry};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

const PACE: Duration = Duration::from_millis(40);
/// The time between two rounds of the same queries.
const ASKED_EVERY: Duration = Duration::from_millis(150);
/// The most positions between an answer and the recorder's head when it was asked for.
const SLACK: u64 = 100;
const TOKEN: &str = "a token of the operator's";

/// Few filters for many clients, so that every instance caches all of them.
fn questions() -> Vec<Value> {
    vec![
        json!({"kinds": [1], "limit": 10}),
        json!({"kinds": [7, 10_002]}),
        json!({"#t": ["t1"], "limit": 40}),
        json!({"#t": ["t2", "t3"], "kinds": [1], "limit": 5}),
    ]
}

/// Few COUNTs for many clients, some of several filters.
fn counts() -> [Vec<Value>; 3] {
    [
        vec![json!({"kinds": [1]})],
        vec![json!({"kinds": [7, 10_002]}), json!({"#t": ["t1"]})],
        vec![json!({"#t": ["t2", "t3"], "kinds": [1]})],
    ]
}

/// A COUNT under way.
struct Counted {
    question: usize,
    asked_at: u64,
    answered_at: u64,
    number: u64,
}

/// Asks one query after the other until the run is quiet, and keeps each answer as a session of its own; returns the
/// counts.
async fn asker(world: Arc<World>, relay: usize, port: u16) -> Vec<Counted> {
    let (questions, counts) = (questions(), counts());
    let mut counted = Vec::new();
    let mut socket = Socket::patient(port).await;
    for number in 0.. {
        if world.is_quiet() {
            break;
        }
        tokio::time::sleep(ASKED_EVERY).await;
        let (question, asked_at) = (number % counts.len(), world.head());
        if let Some(number) = count(&mut socket, &counts[question]).await {
            counted.push(Counted { question, asked_at, answered_at: world.head(), number });
        }

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
    counted
}

/// Starts a client for each relay that repeats the queries.
fn ask_all(run: &Run, stage: &Stage) -> JoinSet<Vec<Counted>> {
    let one = |(index, relay): (usize, &deploy::relay::Relay)| asker(run.world.clone(), index, relay.port);
    stage.relays.iter().enumerate().map(one).collect()
}

async fn count(socket: &mut Socket, filters: &[Value]) -> Option<u64> {
    let mut message = vec![json!("COUNT"), json!("n")];
    message.extend_from_slice(filters);
    socket.send(Value::from(message).to_string()).await?;
    loop {
        let message = socket.next().await?;
        match message[0].as_str()? {
            "COUNT" => return message[2]["count"].as_u64(),
            "CLOSED" => return None,
            _ => {}
        }
    }
}

/// The number of events that a stranger's COUNT has at each position of the log, 0 first.
fn naive(question: &[Value], entries: &[LogEntry]) -> Vec<u64> {
    let filters: Vec<Filter> = question.iter().map(|filter| Filter::parse(&filter.to_string()).unwrap()).collect();
    let (stranger, mut number) = (stranger(), 0);
    let each = entries.iter().map(|entry| {
        for change in entry.changes.iter() {
            let (event, difference) = match change {
                Change::Inserted(insertion) => (&insertion.event, 1),
                Change::Removed(removal) => (&removal.event, -1),
            };
            let counts = stranger.may_read(event) && filters.iter().any(|filter| filter.matches(event));
            number += if counts { difference } else { 0 };
        }
        u64::try_from(number).unwrap()
    });
    std::iter::once(0).chain(each).collect()
}

/// Ends the run, and compares every answer and every count with the log. Then counts once more: as nothing changes any
/// more, each count has one right answer.
async fn end(run: Run, stage: &Stage, mut askers: JoinSet<Vec<Counted>>) {
    let world = run.world.clone();
    let entries = run.end(stage).await;
    let answers = world.sessions.lock().iter().filter(|session| session.filters.len() == 1).count();
    println!("{answers} answers to questions");
    assert!(answers > 60, "{answers} answers show little");
    let right: Vec<Vec<u64>> = counts().iter().map(|question| naive(question, &entries)).collect();
    let mut all = 0;
    while let Some(counted) = askers.join_next().await {
        for Counted { question, asked_at, answered_at, number } in counted.unwrap() {
            all += 1;
            let at = |position: u64| usize::try_from(position).unwrap().min(entries.len());
            let possible = &right[question][at(asked_at.saturating_sub(SLACK))..=at(answered_at + SLACK)];
            assert!(
                possible.contains(&number),
                "{:?} between {asked_at} and {answered_at}: {number}",
                counts()[question]
            );
        }
    }

    assert!(all > 60, "{all} counts show little");
    for relay in &stage.relays {
        let mut socket = Socket::patient(relay.port).await;
        for (question, right) in counts().iter().zip(&right) {
            assert_eq!(count(&mut socket, question).await.as_ref(), right.last(), "{question:?} at {}", relay.name);
        }
        let (_, shown) = relay.get("/cache.json").await.unwrap();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let kept =
            shown["hottest"].as_array().unwrap().iter().filter(|hot| {
                hot["filter"].as_str().unwrap().starts_with("COUNT") && hot["hits"].as_u64().unwrap() > 0
            });
        assert!(kept.count() > 0, "{} has kept no count: {shown}", relay.name);
    }
}

/// Uses a new id for each query: the last one may bring live events until its CLOSE has arrived.
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
    /// Sets long timeouts for a busy machine: these tests do not measure the speed of Redis.
    async fn be_patient_with_redis(&mut self) {
        for relay in &mut self.relays {
            relay.stop().await.unwrap();
            relay.settings.push(("RELAY_CACHE_L2_PATIENCE_MILLISECONDS".to_owned(), "200".to_owned()));
            relay.start().await.unwrap();
        }
    }

    /// One instance starts cold and reads; then another one starts, and finds some of those answers.
    async fn a_cold_one_finds_what_another_has_read(&mut self) {
        for relay in [0, 2] {
            self.relays[relay].kill().await.unwrap();
            self.relays[relay].start().await.unwrap();
            self.wait_for_hits(relay, "l1", 5.0).await;
        }
        assert!(self.hits(2, "l2").await > 0.0, "it read everything itself");
    }

    async fn hits(&self, relay: usize, layer: &str) -> f64 {
        let labels = |line: &str| line.contains(&format!("\"{layer}\"")) && line.contains("\"hit\"");
        let (_, text) = self.relays[relay].get("/metrics").await.unwrap();
        let lines = text.lines().filter(|line| line.starts_with("nostr_cache_requests_total") && labels(line));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    async fn wait_for_hits(&self, relay: usize, layer: &str, more: f64) {
        let wanted = self.hits(relay, layer).await + more;
        until(&format!("hits of {layer} on relay-{}", relay + 1), STEP_TIMEOUT, async || {
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
    stage.be_patient_with_redis().await;
    let run = Run::begin(&stage, PACE);
    let askers = ask_all(&run, &stage);
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
    // Without Redis: only the database and the cache in the process answer.
    stage.wait_for_hits(1, "l1", 5.0).await;
    assert_eq!(stage.hits(1, "l2").await, 0.0);
    stage.redis.start().await.unwrap();
    run.acknowledged(60).await;
    stage.a_cold_one_finds_what_another_has_read().await;
    end(run, &stage, askers).await;
    stage.stop().await;
}

/// The master of the shared cache dies, and the Sentinels promote another one: there an instance finds what another
/// instance has read.
#[tokio::test(flavor = "multi_thread")]
async fn the_shared_cache_follows_sentinels_to_a_new_master() {
    let home = Home::temporary().unwrap();
    let mut redis = Sentinels::start(home.clone()).await.unwrap();
    let master = redis.master().await.unwrap();
    let mut stage = buses::stage_on(home, redis.url()).await;
    stage.be_patient_with_redis().await;
    let run = Run::begin(&stage, PACE);
    let askers = ask_all(&run, &stage);
    run.acknowledged(60).await;
    stage.a_cold_one_finds_what_another_has_read().await;
    redis.servers[master].kill().await.unwrap();
    stage.wait_bus(false).await;
    stage.wait_bus(true).await;
    assert_ne!(redis.master().await.unwrap(), master);
    stage.a_cold_one_finds_what_another_has_read().await;
    run.acknowledged(60).await;
    end(run, &stage, askers).await;
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

    // Refused: without the token.
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

    // With the token: one author's entries, on every instance.
    let (status, body) = post(&stage.relays[1], &path, &allowed).await;
    assert_eq!((status, &body["entries"], &body["instances"]), (200, &json!(1), &json!("all")), "{body}");
    for relay in [1, 2] {
        until("the purge to reach the instance", STEP_TIMEOUT, async || match filters(&stage, relay).await.1 {
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

    // By a filter, whatever windows and limits the cached queries have; then everything.
    let since = relay::types::now() - 3_600;
    asked(&stage, 2, &json!({"kinds": [1], "since": since, "limit": 7})).await;
    let windowed = "%7B%22kinds%22:%5B1%5D,%22since%22:2000,%22until%22:1700000000,%22limit%22:9%7D";
    let (status, body) = post(&stage.relays[2], &format!("/cache/purge?filter={windowed}"), &allowed).await;
    assert_eq!((status, &body["entries"]), (200, &json!(2)), "{body}");
    let (status, body) = post(&stage.relays[2], "/cache/purge?all", &allowed).await;
    assert_eq!((status, &body["entries"]), (200, &json!(1)), "{body}");
    stage.stop().await;
}
