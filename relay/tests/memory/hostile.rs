//! Hostile clients, which ask and do not read; honest ones beside them; and the relay's own figures of its memory.

use super::process::client::{Author, Client, Incoming, Signed};
use super::process::{Relay, STEP_TIMEOUT, http_get};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// As many queries of one connection run at the same time.
const QUERIES: usize = 16;

/// The authors of the stored events: one of events of 20 KB, another one of events of 700 bytes.
pub(crate) struct Authors {
    pub(crate) large: String,
    pub(crate) small: String,
}

fn pubkey(event: &Signed) -> String {
    let message: Value = serde_json::from_str(&event.message).unwrap();
    message[1]["pubkey"].as_str().unwrap().to_owned()
}

/// Stores the events that the clients ask for.
pub(crate) async fn fill(relay: &Relay, large: usize, small: usize) -> Authors {
    let mut client = Client::connect(relay).await;
    let mut pubkeys = Vec::new();
    for (count, bytes) in [(large, 20_000), (small, 700)] {
        let mut author = Author::new();
        for chunk in author.notes(count, bytes).chunks(100) {
            client.publish_all(chunk).await;
            pubkeys.extend(chunk.first().map(pubkey));
        }
        pubkeys.dedup();
    }
    Authors { large: pubkeys[0].clone(), small: pubkeys[1].clone() }
}

/// A client that has asked for much and reads nothing, or little.
pub(crate) struct Hostile {
    socket: WebSocketStream<TcpStream>,
}

impl Hostile {
    async fn connect(relay: &Relay) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(relay.address()).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(relay.url(), stream).await.unwrap();
        Self { socket }
    }

    /// One that sends 16 REQs of 10 filters over one author's `events`. All the filters of all differ in `until`, so
    /// that no two of them share rows; `number` is the client's.
    pub(crate) async fn ask(relay: &Relay, number: usize, author: &str, events: usize) -> Self {
        let mut client = Self::connect(relay).await;
        for query in 0..QUERIES {
            let until = |n: usize| 1_700_100_000 + (number * QUERIES + query) * 10 + n;
            let filters = (0..10).map(|n| json!({"authors": [author], "until": until(n), "limit": events}));
            let request: Vec<Value> = [json!("REQ"), json!(query.to_string())].into_iter().chain(filters).collect();
            client.socket.feed(Message::text(Value::from(request).to_string())).await.unwrap();
        }
        client.socket.flush().await.unwrap();
        client
    }

    /// One that has sent half of a text message of `bytes`.
    pub(crate) async fn half_a_message(relay: &Relay, bytes: u64) -> Self {
        let mut client = Self::connect(relay).await;
        let mut frame = vec![0x81, 0x80 | 127];
        frame.extend_from_slice(&bytes.to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend(std::iter::repeat_n(b' ', bytes as usize / 2));
        let stream = client.socket.get_mut();
        // Bytes that the relay does not read fill the kernel's buffers: then the client waits, as it should.
        let _ = tokio::time::timeout(Duration::from_millis(50), stream.write_all(&frame)).await;
        client
    }

    /// Reads about `bytes`, then nothing for `pause`, again and again.
    pub(crate) async fn dribble(mut self, bytes: usize, pause: Duration) {
        loop {
            let mut read = 0;
            while read < bytes {
                match self.socket.next().await {
                    Some(Ok(message)) => read += message.len(),
                    _ => return,
                }
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// Sends 20 REQs at once for `rows` rows, each of which must be answered completely. Returns how long each took.
pub(crate) async fn ask_like_an_honest_client(relay: &Relay, author: &str, rows: usize) -> Vec<Duration> {
    let mut client = Client::connect(relay).await;
    ask_again(&mut client, author, rows).await
}

/// The same on an open connection.
pub(crate) async fn ask_again(client: &mut Client, author: &str, rows: usize) -> Vec<Duration> {
    let begun = Instant::now();
    for request in 0..20 {
        client.send(json!(["REQ", request.to_string(), {"authors": [author], "limit": rows}]).to_string()).await;
    }
    let (mut times, mut got, mut open) = (Vec::new(), 0, HashSet::<String>::from_iter((0..20).map(|n| n.to_string())));
    while !open.is_empty() {
        let Incoming::Message(message) = client.next().await else { panic!("the relay ended an honest connection") };
        match message[0].as_str().unwrap() {
            "AUTH" => {}
            "EVENT" => got += 1,
            "EOSE" => {
                assert!(open.remove(message[1].as_str().unwrap()), "{message}");
                times.push(begun.elapsed());
            }
            _ => panic!("an honest client got {message}"),
        }
    }

    assert_eq!(got, 20 * rows);
    times
}

/// The resident memory of a relay, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resident {
    pub(crate) now: u64,
    /// The most since the relay started.
    pub(crate) most: u64,
    /// Of `now`, what is no file: heap and stacks.
    pub(crate) anonymous: u64,
}

impl Resident {
    pub(crate) fn of(relay: &Relay) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).unwrap();
        let kib = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches("kB").trim().parse().unwrap()
        };
        Self { now: kib("VmRSS:") << 10, most: kib("VmHWM:") << 10, anonymous: kib("RssAnon:") << 10 }
    }
}

/// The bytes that the relay has allocated and not freed.
pub(crate) fn allocated_bytes(relay: &Relay) -> u64 {
    let (_, page) = http_get(relay.admin_address(), "/debug/memory", "*/*");
    serde_json::from_str::<Value>(&page).unwrap()["allocated"].as_u64().unwrap()
}

/// The relay's own figures of the bytes held for clients, by purpose, as of this call or later.
pub(crate) async fn client_bytes(relay: &Relay) -> BTreeMap<String, u64> {
    // The gauge is set once a second.
    let deadline = Instant::now() + STEP_TIMEOUT;
    let mut last = None;
    loop {
        let (_, page) = http_get(relay.admin_address(), "/metrics", "*/*");
        let kinds: BTreeMap<String, u64> = page
            .lines()
            .filter_map(|line| line.strip_prefix("nostr_client_bytes{kind=\"")?.split_once("\"} "))
            .map(|(kind, bytes)| (kind.to_owned(), bytes.parse::<f64>().unwrap() as u64))
            .collect();
        let begun = *last.get_or_insert_with(Instant::now);
        if begun.elapsed() > Duration::from_millis(1_500) {
            return kinds;
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
