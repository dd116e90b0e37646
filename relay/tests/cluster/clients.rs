//! Publishers and subscribers that reconnect whenever their relay ends.

use crate::kit::Author;
use crate::world::{Delivery, Session, World};
use futures_util::{SinkExt, StreamExt};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use relay::types::{Event, EventId, Filter};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// The kind of the event that ends a run; every subscription asks for it.
pub const LAST: u16 = 4_242;
/// The kind that the relays serve to its author alone.
pub const AUTHOR_ONLY: u16 = 78;
/// How long a publisher waits for an OK before it gives the connection up.
const OK_TIMEOUT: Duration = Duration::from_secs(40);
/// The least age of an event that is removed: the recorder must have read it before.
const REMOVAL_AGE: Duration = Duration::from_secs(2);

pub struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    async fn connect(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (socket, _) = client_async(format!("ws://127.0.0.1:{port}/"), stream).await.ok()?;
        Some(Self(socket))
    }

    /// Reconnects until the relay accepts the connection.
    pub async fn patient(port: u16) -> Self {
        loop {
            match Self::connect(port).await {
                Some(socket) => return socket,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    pub async fn send(&mut self, text: String) -> Option<()> {
        self.0.send(Message::text(text)).await.ok()
    }

    pub async fn next(&mut self) -> Option<Value> {
        loop {
            match self.0.next().await?.ok()? {
                Message::Text(text) => return serde_json::from_str(&text).ok(),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// Publishes; returns the OK, true or false, and its words. `None`: the outcome is unknown.
    async fn publish(&mut self, event: &Event) -> Option<(bool, String)> {
        self.send(format!("[\"EVENT\",{}]", event.text())).await?;
        let id = event.id().to_hex();
        let answer = async {
            loop {
                let message = self.next().await?;
                if message[0] == "OK" && message[1] == id {
                    return Some((message[2].as_bool()?, message[3].as_str()?.to_owned()));
                }
            }
        };
        tokio::time::timeout(OK_TIMEOUT, answer).await.ok()?
    }
}

impl Socket {
    /// The number of events that match, counted by the relay (COUNT) or by this client (REQ).
    async fn ask(&mut self, verb: &str, filter: Value) -> Option<u64> {
        self.send(json!([verb, "q", filter]).to_string()).await?;
        let mut found = 0;
        loop {
            let message = self.next().await?;
            match message[0].as_str()? {
                "EVENT" => found += 1,
                "COUNT" => return message[2]["count"].as_u64(),
                "EOSE" => break,
                "AUTH" => {}
                _ => panic!("instead of events came {message}"),
            }
        }
        self.send(json!(["CLOSE", "q"]).to_string()).await?;
        Some(found)
    }
}

pub fn id(event: &Value) -> EventId {
    EventId::from_hex(event["id"].as_str().unwrap().as_bytes()).unwrap()
}

/// Publishes an event every `pace`, notes mostly, until the world is quiet.
pub async fn publisher(world: Arc<World>, port: u16, author: Author, seed: u64, pace: Duration) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut ticks = tokio::time::interval(pace);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut notes: VecDeque<(EventId, Instant)> = VecDeque::new();
    let mut profile = Instant::now();
    let mut socket = Socket::patient(port).await;
    let mut count = 0;
    while !world.is_quiet() {
        ticks.tick().await;
        count += 1;
        let topic = format!("t{}", random.random_range(0..4));
        let old = notes.front().filter(|(_, at)| at.elapsed() > REMOVAL_AGE && count % 8 == 0).copied();
        let event = if let Some((note, _)) = old {
            notes.pop_front();
            author.event(5, &[&["e", &note.to_hex()]], "")
        } else if profile.elapsed() > REMOVAL_AGE + Duration::from_secs(1) {
            profile = Instant::now();
            author.event(10_002, &[], &format!("profile {count}"))
        } else {
            let kind = [1, 1, 1, 1, 1, 1, 7, 7, 7, AUTHOR_ONLY][random.random_range(0..10)];
            let other = format!("t{}", random.random_range(0..4));
            author.event(kind, &[&["t", &topic], &["t", &other]], &format!("{seed} {count}{:>1$}", "", world.padding))
        };

        let sent = Instant::now();
        world.sent.lock().insert(event.id(), sent);
        match socket.publish(&event).await {
            Some((true, _)) => {
                world.acknowledged.lock().push(event.id());
                world.answers.lock().push(Delivery { at: Instant::now(), took: sent.elapsed() });
                world.deleted.lock().extend(old.map(|(note, _)| note));
                match event.kind().0 {
                    1 => notes.push_back((event.id(), Instant::now())),
                    10_002 => world.replaceable.lock().push(event),
                    _ => {}
                }
            }
            Some((false, words)) => world.refused.lock().push(words),
            None => socket = Socket::patient(port).await,
        }
    }
}

/// Publishes the event that ends a run, until a relay has accepted it.
pub async fn publish_last(port: u16, event: &Event) {
    loop {
        if let Some((true, _)) = Socket::patient(port).await.publish(event).await {
            return;
        }
    }
}

/// Publishes notes through one relay and asks another for each as soon as it is acknowledged: by its id, by its author,
/// or for their number. Without `named` it asks by a tag, which does not make an instance look for writes elsewhere.
/// Returns the number of stale answers.
pub async fn stale_reads(write: u16, read: u16, pairs: usize, named: bool) -> usize {
    let (mut writer, mut reader) = (Socket::patient(write).await, Socket::patient(read).await);
    let mut stale = 0;
    for n in 0..pairs {
        let author = Author::new();
        let by = author.pubkey().to_hex();
        let note = author.event(1, &[&["t", &by]], &format!("pair {n}"));
        assert_eq!(writer.publish(&note).await, Some((true, String::new())));
        let (verb, filter) = match n % 3 {
            _ if !named => ("REQ", json!({"#t": [by]})),
            0 => ("REQ", json!({"ids": [note.id().to_hex()]})),
            1 => ("REQ", json!({"authors": [by], "limit": 1})),
            _ => ("COUNT", json!({"authors": [by]})),
        };
        let found = reader.ask(verb, filter).await.expect("an answer");
        stale += usize::from(found != 1);
    }
    stale
}

/// The number of matching events that a relay sends.
pub async fn found(port: u16, filter: Value) -> u64 {
    Socket::patient(port).await.ask("REQ", filter).await.expect("an answer")
}

/// Subscribes to everything through a small buffer and reads this many bytes a second.
pub async fn slow_reader(port: u16, bytes_per_second: usize) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
    let (mut socket, _) = client_async(format!("ws://127.0.0.1:{port}/"), stream).await.unwrap();
    socket.send(Message::text(r#"["REQ","s",{"limit":0}]"#)).await.unwrap();
    let mut stream = socket.into_inner();
    let mut buffer = vec![0; bytes_per_second.div_ceil(10)];
    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The filters of a subscriber: a random one that leaves no stored event out, and the one for the end.
pub fn filters(authors: &[Author], seed: u64) -> Vec<Value> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut filter = json!({"limit": 5_000});
    if random.random_bool(0.5) {
        let chosen = &authors[random.random_range(0..authors.len())];
        filter["authors"] = json!([chosen.pubkey().to_hex()]);
    }
    if random.random_bool(0.5) {
        filter["kinds"] = [json!([1]), json!([7, 10_002]), json!([1, 5])][random.random_range(0..3)].clone();
    }
    if random.random_bool(0.3) {
        // One of two topics, or both (NIP-91).
        let topics = json!([format!("t{}", random.random_range(0..4)), "t1"]);
        filter[if random.random_bool(0.5) { "#t" } else { "&t" }] = topics;
    }
    vec![filter, json!({"kinds": [LAST]})]
}

/// How far before its newest event a subscriber asks when it reconnects.
const LOOK_BACK_SECONDS: i64 = 5;

/// One subscriber of many.
#[derive(Clone, Copy)]
pub struct Place {
    pub subscriber: usize,
    pub relay: usize,
    pub port: u16,
    /// When it reconnects, asks only for events about as new as its newest, or newer.
    pub resumes: bool,
}

/// Subscribes until the last event has come, again whenever the connection breaks. Keeps a transcript of each session.
pub async fn subscriber(world: Arc<World>, place: Place, mut asked: Vec<Value>) {
    let Place { subscriber, relay, port, resumes } = place;
    let mut newest = None;
    let mut whole = false;
    while !whole {
        if let Some(newest) = newest.filter(|_| resumes) {
            asked.iter_mut().for_each(|filter| filter["since"] = json!(newest - LOOK_BACK_SECONDS));
        }
        let filters: Arc<[Filter]> = asked.iter().map(|filter| Filter::parse(&filter.to_string()).unwrap()).collect();
        let mut request = vec![json!("REQ"), json!("s")];
        request.extend(asked.clone());
        let mut socket = Socket::patient(port).await;
        let mut session = Session {
            subscriber: Some(subscriber),
            relay,
            filters,
            asked_at: world.head(),
            eose_at: 0,
            stored: Vec::new(),
            live: Vec::new(),
            whole: false,
        };

        let mut answered = false;
        if socket.send(Value::Array(request).to_string()).await.is_none() {
            continue;
        }
        while let Some(message) = socket.next().await {
            match message[0].as_str().unwrap() {
                "EVENT" => {
                    let event = id(&message[2]);
                    whole |= message[2]["kind"] == LAST;
                    newest = newest.max(message[2]["created_at"].as_i64());
                    if answered {
                        session.live.push(event);
                        let now = Instant::now();
                        if let Some(sent) = world.sent.lock().get(&event) {
                            world.deliveries.lock().push(Delivery { at: now, took: now - *sent });
                        }
                    } else {
                        session.stored.push(event);
                    }
                }
                "EOSE" => {
                    (answered, session.eose_at) = (true, world.head());
                }
                "CLOSED" => {
                    world.refused.lock().push(format!("CLOSED {}", message[2]));
                    break;
                }
                _ => {}
            }
            if whole && answered {
                break;
            }
        }

        whole = whole && answered;
        session.whole = whole;
        if answered {
            world.sessions.lock().push(session);
        }
    }
}
