//! A small client, and events signed by the `nostr` crate, which also checks what comes back.

use super::{Relay, STEP_TIMEOUT};
use futures_util::{SinkExt, StreamExt};
use nostr::prelude::*;
use serde_json::{Value, json};
use std::collections::HashMap;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// The most ids that one filter may name (`limits.max_filter_values`).
const MAX_IDS: usize = 1000;

/// An event and how it is sent.
#[derive(Clone)]
pub struct Signed {
    pub id: String,
    /// The whole EVENT message.
    pub message: String,
}

/// Makes notes that all differ, at consecutive seconds.
pub struct Author {
    keys: Keys,
    made: u64,
}

impl Author {
    pub fn new() -> Self {
        Self { keys: Keys::generate(), made: 0 }
    }

    /// A note of about `bytes` bytes.
    pub fn note(&mut self, bytes: usize) -> Signed {
        self.made += 1;
        let content = format!("{:08} {}", self.made, "x".repeat(bytes));
        let builder =
            EventBuilder::new(Kind::TextNote, content).custom_created_at(Timestamp::from(1_700_000_000 + self.made));
        let event = builder.finalize(&self.keys).unwrap();
        Signed { id: event.id.to_hex(), message: format!("[\"EVENT\",{}]", event.as_json()) }
    }

    pub fn notes(&mut self, count: usize, bytes: usize) -> Vec<Signed> {
        (0..count).map(|_| self.note(bytes)).collect()
    }
}

/// A message from the relay.
#[derive(Debug)]
pub enum Incoming {
    Message(Value),
    /// The relay sent a close frame, with this code if it gave one.
    Goodbye(Option<u16>),
    /// The connection broke without a close frame.
    Lost,
}

/// One connection.
pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
}

impl Client {
    pub async fn connect(relay: &Relay) -> Self {
        let stream = TcpStream::connect(relay.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, _) = tokio_tungstenite::client_async(relay.url(), stream).await.unwrap();
        Self { socket }
    }

    pub async fn send(&mut self, message: impl Into<String>) {
        self.socket.send(Message::text(message.into())).await.unwrap();
    }

    /// The next message. Reports whatever breaks, and never waits without end.
    pub async fn next(&mut self) -> Incoming {
        next(&mut self.socket).await
    }

    /// The next message that answers something: no AUTH challenge, no close frame.
    pub async fn answer(&mut self) -> Value {
        loop {
            match self.next().await {
                Incoming::Message(message) if message[0] == "AUTH" => {}
                Incoming::Message(message) => return message,
                end => panic!("the relay ended the connection: {end:?}"),
            }
        }
    }

    /// Publishes one event; returns the words of its OK.
    pub async fn publish(&mut self, event: &Signed) -> (bool, String) {
        self.send(event.message.clone()).await;
        let answer = self.answer().await;
        assert_eq!((&answer[0], &answer[1]), (&json!("OK"), &json!(event.id)), "{answer}");
        (answer[2].as_bool().unwrap(), answer[3].as_str().unwrap().to_owned())
    }

    /// Publishes events that must all be accepted, without waiting in between.
    pub async fn publish_all(&mut self, events: &[Signed]) {
        for event in events {
            self.socket.feed(Message::text(event.message.clone())).await.unwrap();
        }
        self.socket.flush().await.unwrap();
        for _ in events {
            let answer = self.answer().await;
            assert!(answer[0] == "OK" && answer[2] == true, "{answer}");
        }
    }

    /// The stored events that `filter` selects. Every one must be whole: its id is its hash, its signature holds.
    pub async fn stored(&mut self, filter: Value) -> Vec<Event> {
        self.send(json!(["REQ", "stored", filter]).to_string()).await;
        let mut events = Vec::new();
        loop {
            let mut answer = self.answer().await;
            match answer[0].as_str() {
                Some("EVENT") => {
                    let event = Event::from_json(answer[2].take().to_string()).expect("an event that can be read");
                    event.verify().expect("an event that is whole");
                    events.push(event);
                }
                Some("EOSE") => break,
                _ => panic!("instead of stored events: {answer}"),
            }
        }

        self.send(json!(["CLOSE", "stored"]).to_string()).await;
        events
    }

    /// The stored ones of `events`, by id.
    pub async fn stored_of(&mut self, events: &[Signed]) -> HashMap<String, Event> {
        let mut found = HashMap::new();
        for chunk in events.chunks(MAX_IDS) {
            let ids: Vec<&str> = chunk.iter().map(|event| event.id.as_str()).collect();
            let stored = self.stored(json!({ "ids": ids, "limit": ids.len() })).await;
            found.extend(stored.into_iter().map(|event| (event.id.to_hex(), event)));
        }
        found
    }
}

/// Reads one message from either half or the whole of a socket.
pub async fn next<S>(socket: &mut S) -> Incoming
where
    S: StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    loop {
        match tokio::time::timeout(STEP_TIMEOUT, socket.next()).await.expect("the relay answers nothing") {
            Some(Ok(Message::Text(text))) => return Incoming::Message(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(frame))) => return Incoming::Goodbye(frame.map(|frame| frame.code.into())),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Incoming::Lost,
        }
    }
}
