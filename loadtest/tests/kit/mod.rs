//! A relay of a hundred lines: it keeps events in memory and matches filters one by one. It can be told to lie.

use futures_util::{SinkExt, StreamExt};
use loadtest::bench::Site;
use loadtest::client::{Scratch, Target};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::Message;

/// What the relay does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    /// Every third live delivery comes twice.
    DoubleDeliveries,
    /// Every event is refused.
    RefuseEvents,
    /// Every REQ is refused.
    RefuseQuestions,
    /// Subscribers are hung up on when the fifth event comes.
    HangUp,
}

#[derive(Debug)]
struct Store {
    events: Mutex<Vec<Value>>,
    live: broadcast::Sender<(usize, Value)>,
    lie: Lie,
}

/// Starts it with `stored` JSON lines on a port of its own; it ends with the test's runtime.
pub(crate) async fn relay(stored: &str, lie: Lie) -> Site {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let events = Mutex::new(stored.lines().map(|line| serde_json::from_str(line).unwrap()).collect());
    let store = Arc::new(Store { events, live: broadcast::channel(10_000).0, lie });
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, store.clone()));
        }
    });
    Site { target: Target::resolve(&url).unwrap(), sources: Vec::new(), pid: None, scratch: Scratch::new() }
}

async fn serve(stream: TcpStream, store: Arc<Store>) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    let mut subscriptions = HashMap::<String, Value>::new();
    let mut live = store.live.subscribe();
    loop {
        let answers = tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => store.answer(&text, &mut subscriptions),
                Some(Ok(_)) => continue,
                _ => return,
            },
            Ok((number, event)) = live.recv() => {
                if store.lie == Lie::HangUp && number == 5 && !subscriptions.is_empty() {
                    return;
                }
                let copies = if store.lie == Lie::DoubleDeliveries && number % 3 == 0 { 2 } else { 1 };
                let matching = subscriptions.iter().filter(|(_, filter)| matches(filter, &event));
                let answers = matching.map(|(id, _)| json!(["EVENT", id, event]));
                answers.flat_map(|answer| vec![answer; copies]).collect()
            }
        };
        for answer in answers {
            // A hung-up client is the client's affair.
            let _ = socket.send(Message::text(answer.to_string())).await;
        }
    }
}

impl Store {
    fn answer(&self, text: &str, subscriptions: &mut HashMap<String, Value>) -> Vec<Value> {
        let message: Value = serde_json::from_str(text).unwrap();
        let mut events = self.events.lock().unwrap();
        let found = |filter: &Value| {
            let limit = filter["limit"].as_u64().unwrap_or(u64::MAX) as usize;
            events.iter().rev().filter(|event| matches(filter, event)).take(limit).cloned().collect::<Vec<_>>()
        };
        match message[0].as_str().unwrap() {
            "EVENT" if self.lie == Lie::RefuseEvents => vec![json!(["OK", message[1]["id"], false, "blocked: no"])],
            "EVENT" => {
                let event = &message[1];
                if events.iter().any(|known| known["id"] == event["id"]) {
                    return vec![json!(["OK", event["id"], true, "duplicate: known"])];
                }
                events.push(event.clone());
                let _ = self.live.send((events.len(), event.clone()));
                vec![json!(["OK", event["id"], true, ""])]
            }
            "REQ" if self.lie == Lie::RefuseQuestions => vec![json!(["CLOSED", message[1], "error: no"])],
            "REQ" => {
                subscriptions.insert(message[1].as_str().unwrap().to_owned(), message[2].clone());
                let rows = found(&message[2]).into_iter().map(|event| json!(["EVENT", message[1], event]));
                rows.chain([json!(["EOSE", message[1]])]).collect()
            }
            "COUNT" => vec![json!(["COUNT", message[1], { "count": found(&message[2]).len() }])],
            "CLOSE" => {
                subscriptions.remove(message[1].as_str().unwrap());
                Vec::new()
            }
            other => panic!("{other}"),
        }
    }
}

/// NIP-01, by the letter.
pub(crate) fn matches(filter: &Value, event: &Value) -> bool {
    let Value::Object(filter) = filter else { return false };
    filter.iter().all(|(key, wanted)| match key.as_str() {
        "ids" => wanted.as_array().unwrap().contains(&event["id"]),
        "authors" => wanted.as_array().unwrap().contains(&event["pubkey"]),
        "kinds" => wanted.as_array().unwrap().contains(&event["kind"]),
        "limit" => true,
        tag => event["tags"]
            .as_array()
            .unwrap()
            .iter()
            .any(|pair| tag.strip_prefix('#') == pair[0].as_str() && wanted.as_array().unwrap().contains(&pair[1])),
    })
}
