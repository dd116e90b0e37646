//! Publishers and subscribers. They come again whenever their relay goes.

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
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// The kind of the event that ends a run; every subscription asks for it.
pub const LAST: u16 = 4_242;
/// What a publisher waits for an OK before it gives the connection up.
const OK_TIMEOUT: Duration = Duration::from_secs(40);
/// Nothing is removed before the recorder has read it.
const REMOVAL_AGE: Duration = Duration::from_secs(2);

pub struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    async fn connect(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (socket, _) = client_async(format!("ws://127.0.0.1:{port}/"), stream).await.ok()?;
        Some(Self(socket))
    }

    /// Comes again until it is let in.
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

    /// Publishes and gives the OK: true or false, and the words. `None`: nobody knows.
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
            author.event(if random.random_bool(0.3) { 7 } else { 1 }, &[&["t", &topic]], &format!("{seed} {count}"))
        };
        world.sent.lock().insert(event.id(), Instant::now());
        match socket.publish(&event).await {
            Some((true, _)) => {
                world.acknowledged.lock().push(event.id());
                if event.kind().0 == 1 {
                    notes.push_back((event.id(), Instant::now()));
                }
            }
            Some((false, words)) => world.refused.lock().push(words),
            None => socket = Socket::patient(port).await,
        }
    }
}

/// Publishes the event that ends a run, until a relay has taken it.
pub async fn publish_last(port: u16, event: &Event) {
    loop {
        if let Some((true, _)) = Socket::patient(port).await.publish(event).await {
            return;
        }
    }
}

/// Publishes notes through one relay and reads each through another as soon as it is acknowledged, by its id and as its
/// author's newest. Gives the number of stale answers.
pub async fn stale_reads(write: u16, read: u16, pairs: usize) -> usize {
    let (mut writer, mut reader) = (Socket::patient(write).await, Socket::patient(read).await);
    let mut stale = 0;
    for n in 0..pairs {
        let note = Author::new().event(1, &[], &format!("pair {n}"));
        assert_eq!(writer.publish(&note).await, Some((true, String::new())));
        let filter = if n % 2 == 0 {
            json!({"ids": [note.id().to_hex()]})
        } else {
            json!({"authors": [note.pubkey().to_hex()], "limit": 1})
        };
        reader.send(json!(["REQ", format!("r{n}"), filter]).to_string()).await.unwrap();
        let mut found = false;
        loop {
            let message = reader.next().await.unwrap();
            match message[0].as_str().unwrap() {
                "EVENT" => found |= message[2]["id"] == note.id().to_hex(),
                "EOSE" => break,
                "AUTH" => {}
                _ => panic!("instead of events came {message}"),
            }
        }
        reader.send(json!(["CLOSE", format!("r{n}")]).to_string()).await.unwrap();
        stale += usize::from(!found);
    }
    stale
}

/// Filters of a subscriber: one at random that leaves no stored event out, and the one for the end.
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
        filter["#t"] = json!([format!("t{}", random.random_range(0..4)), "t1"]);
    }
    vec![filter, json!({"kinds": [LAST]})]
}

/// Subscribes, again whenever it is cut off, until the last event has come. Keeps a transcript of each session.
pub async fn subscriber(world: Arc<World>, relay: usize, port: u16, asked: Vec<Value>) {
    let filters: Arc<[Filter]> = asked.iter().map(|filter| Filter::parse(&filter.to_string()).unwrap()).collect();
    let mut request = vec![json!("REQ"), json!("s")];
    request.extend(asked);
    let request = Value::Array(request).to_string();
    let mut whole = false;
    while !whole {
        let mut socket = Socket::patient(port).await;
        let mut session = Session {
            relay,
            filters: filters.clone(),
            asked_at: world.head(),
            eose_at: 0,
            stored: Vec::new(),
            live: Vec::new(),
            whole: false,
        };
        let mut answered = false;
        if socket.send(request.clone()).await.is_none() {
            continue;
        }
        while let Some(message) = socket.next().await {
            match message[0].as_str().unwrap() {
                "EVENT" => {
                    let event = id(&message[2]);
                    whole |= message[2]["kind"] == LAST;
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
        session.whole = whole && answered;
        whole = session.whole;
        if answered {
            world.sessions.lock().push(session);
        }
    }
}
