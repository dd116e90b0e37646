//! A small relay that keeps events in memory and matches filters one by one. It can be configured to violate the
//! protocol in one way (a [`Lie`]), and counts how often it does.

#![allow(dead_code, reason = "each test file uses its part")]

use futures_util::{SinkExt, StreamExt};
use loadtest::bench::Site;
use loadtest::client::{Scratch, Target};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Message;

/// The violation that the relay commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    /// Every third live delivery comes twice.
    DoubleDeliveries,
    /// Every event is refused.
    RefuseEvents,
    /// Every REQ is refused.
    RefuseQuestions,
    /// The connections of subscribers are dropped when the fifth event comes.
    HangUp,
    /// One of 100 live deliveries does not come.
    Drop,
    /// One of 100 live deliveries comes twice.
    Double,
    /// One of 100 live deliveries comes this much too late.
    Delay(Duration),
    /// One of 100 live deliveries comes after the next event of the same publisher.
    Reorder,
    /// One of 100 events gets an OK with true, and is neither delivered nor stored.
    LoseEvents,
    /// One of 100 events gets an OK with true and is delivered, but not stored.
    ForgetEvents,
    /// One of 100 events gets an OK with false, and is delivered and stored.
    DenyEvents,
    /// One of 100 events gets two OKs.
    OkTwice,
    /// One of 100 events gets no OK.
    NoOk,
    /// One of 100 events goes to every subscription, whatever its filter.
    Misdeliver,
    /// One of 100 REQs gets no EOSE.
    NoEose,
}

/// One occasion in this many is a violation.
const ONE_IN: u64 = 100;

/// The relay's events, and its count of violations.
#[derive(Debug)]
pub(crate) struct Store {
    events: Mutex<Vec<Value>>,
    live: broadcast::Sender<(usize, usize, Arc<Value>)>,
    lie: Lie,
    /// The number of events so far, with those that were not stored.
    number: AtomicUsize,
    connections: AtomicUsize,
    /// The number of occasions for a violation.
    occasions: AtomicU64,
    /// The number of violations.
    pub(crate) lies: AtomicU64,
}

/// Starts the relay with the events in `stored` (JSON lines) on a free port; it ends with the test's runtime.
pub(crate) async fn relay(stored: &str, lie: Lie) -> Site {
    let (url, _) = lying(stored, lie).await;
    Site { target: Target::resolve(&url).unwrap(), sources: Vec::new(), pid: None, scratch: Scratch::new() }
}

/// Like [`relay`], with its URL, and its store with the count of violations.
pub(crate) async fn lying(stored: &str, lie: Lie) -> (String, Arc<Store>) {
    let events = Mutex::new(stored.lines().map(|line| serde_json::from_str(line).unwrap()).collect());
    let (occasions, lies) = (AtomicU64::new(0), AtomicU64::new(0));
    let store = Arc::new(Store {
        events,
        live: broadcast::channel(50_000).0,
        lie,
        number: AtomicUsize::new(0),
        connections: AtomicUsize::new(0),
        occasions,
        lies,
    });
    (door(&store).await, store)
}

/// One more address of the same relay.
pub(crate) async fn door(store: &Arc<Store>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let store = store.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let connection = store.connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(Connection::serve(stream, store.clone(), connection));
        }
    });
    url
}

struct Connection {
    store: Arc<Store>,
    number: usize,
    /// The filter of each subscription, and how many events there were at its REQ: those were sent as stored events.
    subscriptions: HashMap<String, (Value, usize)>,
    /// Deliveries held back until their time, or until the publisher's next event.
    delayed: VecDeque<(Instant, Value)>,
    held: Vec<(usize, Value)>,
}

impl Connection {
    async fn serve(stream: TcpStream, store: Arc<Store>, number: usize) {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
        let mut live = store.live.subscribe();
        let (subscriptions, delayed, held) = Default::default();
        let mut this = Self { store, number, subscriptions, delayed, held };
        loop {
            let due = this.delayed.front().map(|(due, _)| *due);
            let answers = tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => this.answer(&text),
                    Some(Ok(_)) => continue,
                    _ => return,
                },
                event = live.recv() => {
                    let (number, publisher, event) = event.unwrap();
                    if this.store.lie == Lie::HangUp && number == 5 && !this.subscriptions.is_empty() {
                        return;
                    }
                    this.deliver(number, publisher, &event)
                }
                () = async { match due { Some(due) => sleep_until(due).await, None => pending().await } } => {
                    this.delayed.pop_front().map(|(_, message)| message).into_iter().collect()
                }
            };

            for answer in answers {
                // A client that has gone needs no answer.
                let _ = socket.send(Message::text(answer.to_string())).await;
            }
        }
    }

    fn deliver(&mut self, number: usize, publisher: usize, event: &Value) -> Vec<Value> {
        let store = self.store.clone();
        let astray = store.lie == Lie::Misdeliver && (number as u64).is_multiple_of(ONE_IN);
        let mut messages = Vec::new();
        for (id, (filters, after)) in &self.subscriptions {
            if number <= *after {
                continue;
            }
            let matching = matches(filters, event);
            if !matching && !astray {
                continue;
            }

            if !matching {
                store.lies.fetch_add(1, Ordering::Relaxed);
            }
            let message = json!(["EVENT", id, event]);
            let behind = self.held.iter().position(|(held, _)| *held == publisher);
            match store.lie {
                Lie::DoubleDeliveries if number.is_multiple_of(3) => messages.extend([message.clone(), message]),
                Lie::Drop if store.lies() => {}
                Lie::Double if store.lies() => messages.extend([message.clone(), message]),
                Lie::Delay(by) if store.lies() => self.delayed.push_back((Instant::now() + by, message)),
                Lie::Reorder if behind.is_some() => {
                    messages.push(message);
                    messages.extend(behind.map(|at| self.held.swap_remove(at).1));
                    // Counted only once it is committed.
                    store.lies.fetch_add(1, Ordering::Relaxed);
                }
                Lie::Reorder if store.occasion() => self.held.push((publisher, message)),
                _ => messages.push(message),
            }
        }
        messages
    }

    fn answer(&mut self, text: &str) -> Vec<Value> {
        let message: Value = serde_json::from_str(text).unwrap();
        let store = self.store.clone();
        let mut events = store.events.lock().unwrap();
        let filters = message.as_array().unwrap().get(2..).unwrap_or_default();
        let found = || {
            let of = |filter: &Value| {
                let limit = filter["limit"].as_u64().unwrap_or(u64::MAX) as usize;
                events.iter().rev().filter(|event| matches(filter, event)).take(limit).cloned().collect::<Vec<_>>()
            };
            filters.iter().flat_map(of).collect::<Vec<_>>()
        };

        match message[0].as_str().unwrap() {
            "EVENT" if store.lie == Lie::RefuseEvents => vec![json!(["OK", message[1]["id"], false, "blocked: no"])],
            "EVENT" => {
                let event = &message[1];
                if events.iter().any(|known| known["id"] == event["id"]) {
                    return vec![json!(["OK", event["id"], true, "duplicate: known"])];
                }
                let of_events =
                    [Lie::LoseEvents, Lie::ForgetEvents, Lie::DenyEvents, Lie::OkTwice, Lie::NoOk].contains(&store.lie);
                let lie = if of_events && store.lies() { store.lie } else { Lie::None };
                if !matches!(lie, Lie::LoseEvents | Lie::ForgetEvents) {
                    events.push(event.clone());
                }
                // Under the lock of the events, so that a REQ sees an event either stored or live.
                let number = store.number.fetch_add(1, Ordering::Relaxed) + 1;
                if lie != Lie::LoseEvents {
                    let _ = store.live.send((number, self.number, Arc::new(event.clone())));
                }
                let copies = match lie {
                    Lie::OkTwice => 2,
                    Lie::NoOk => 0,
                    _ => 1,
                };
                vec![json!(["OK", event["id"], lie != Lie::DenyEvents, ""]); copies]
            }
            "REQ" if store.lie == Lie::RefuseQuestions => vec![json!(["CLOSED", message[1], "error: no"])],
            "REQ" => {
                let name = message[1].as_str().unwrap();
                // Only for questions: without an EOSE a subscription of the standard mix would never become live.
                let silent = store.lie == Lie::NoEose && name.starts_with('q') && store.lies();
                let after = store.number.load(Ordering::Relaxed);
                self.subscriptions.insert(name.to_owned(), (filters.to_vec().into(), after));
                let rows = found().into_iter().map(|event| json!(["EVENT", message[1], event]));
                rows.chain((!silent).then(|| json!(["EOSE", message[1]]))).collect()
            }
            "COUNT" => vec![json!(["COUNT", message[1], { "count": found().len() }])],
            "CLOSE" => {
                self.subscriptions.remove(message[1].as_str().unwrap());
                Vec::new()
            }
            other => panic!("{other}"),
        }
    }
}

impl Store {
    /// True at one occasion in [`ONE_IN`].
    fn occasion(&self) -> bool {
        self.occasions.fetch_add(1, Ordering::Relaxed) % ONE_IN == ONE_IN - 1
    }

    /// Like `occasion`, and counts the violation.
    fn lies(&self) -> bool {
        let lies = self.occasion();
        self.lies.fetch_add(u64::from(lies), Ordering::Relaxed);
        lies
    }

    /// The number of violations so far.
    pub(crate) fn told(&self) -> u64 {
        self.lies.load(Ordering::Relaxed)
    }
}

/// The literal rules of NIP-01.
pub(crate) fn matches(filter: &Value, event: &Value) -> bool {
    if let Value::Array(filters) = filter {
        return filters.iter().any(|filter| matches(filter, event));
    }
    let Value::Object(filter) = filter else { return false };
    filter.iter().all(|(key, wanted)| match key.as_str() {
        "ids" => wanted.as_array().unwrap().contains(&event["id"]),
        "authors" => wanted.as_array().unwrap().contains(&event["pubkey"]),
        "kinds" => wanted.as_array().unwrap().contains(&event["kind"]),
        "limit" => true,
        "since" => event["created_at"].as_u64() >= wanted.as_u64(),
        tag => event["tags"]
            .as_array()
            .unwrap()
            .iter()
            .any(|pair| tag.strip_prefix('#') == pair[0].as_str() && wanted.as_array().unwrap().contains(&pair[1])),
    })
}
