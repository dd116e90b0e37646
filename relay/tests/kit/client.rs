//! A client over a real socket.

use super::{Author, patiently};
use futures_util::{SinkExt, StreamExt};
use relay::types::{Event, EventId};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// A connected client. It takes messages in order; those that a test does not wait for stay queued.
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    /// Messages that came while another one was waited for.
    skipped: VecDeque<Value>,
    /// The challenge that the relay sent on connecting (NIP-42).
    pub challenge: String,
    address: SocketAddr,
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Goodbye {
    /// With a close frame: its code and reason.
    Closed(u16, String),
    /// Without one.
    Gone,
}

impl Client {
    /// Connects and reads the challenge.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = patiently("a TCP connection", TcpStream::connect(address)).await.unwrap();
        Self::over(stream, address).await
    }

    /// Connects with a receive buffer of about this many bytes.
    pub async fn connect_with_buffer(address: SocketAddr, bytes: u32) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(bytes).unwrap();
        let stream = patiently("a TCP connection", socket.connect(address)).await.unwrap();
        Self::over(stream, address).await
    }

    /// Makes a WebSocket of a stream, on which a PROXY header may have been sent.
    pub async fn over(stream: TcpStream, address: SocketAddr) -> Self {
        Self::request(stream, address, &[]).await.unwrap()
    }

    /// Asks for a WebSocket with more headers.
    pub async fn request(
        stream: TcpStream,
        address: SocketAddr,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, tungstenite::Error> {
        use tungstenite::client::IntoClientRequest;
        stream.set_nodelay(true).unwrap();
        let mut request = format!("ws://{address}/").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, _) = patiently("the handshake", client_async(request, stream)).await?;
        let mut client = Self { socket, skipped: VecDeque::new(), challenge: String::new(), address };
        let auth = client.next().await;
        assert_eq!(auth[0], "AUTH", "the challenge comes first");
        client.challenge = auth[1].as_str().unwrap().to_owned();
        Ok(client)
    }

    /// The raw stream, for a client that misbehaves.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }

    /// Sends any WebSocket message.
    pub async fn send_message(&mut self, message: Message) {
        patiently("the relay to take a message", self.socket.send(message)).await.unwrap();
    }

    /// Sends a text message as it is.
    pub async fn send_text(&mut self, text: impl Into<String>) {
        self.send_message(Message::text(text.into())).await;
    }

    pub async fn send(&mut self, message: Value) {
        self.send_text(message.to_string()).await;
    }

    pub async fn send_event(&mut self, event: &Event) {
        self.send_text(format!("[\"EVENT\",{}]", event.text())).await;
    }

    /// The next message from the relay.
    pub async fn next(&mut self) -> Value {
        if let Some(value) = self.skipped.pop_front() {
            return value;
        }
        self.receive().await.unwrap_or_else(|goodbye| panic!("the relay hung up: {goodbye:?}"))
    }

    /// The next message for which `wanted` holds; others stay queued.
    pub async fn next_where(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.skipped.iter().position(&wanted) {
            return self.skipped.remove(at).unwrap();
        }
        loop {
            let value = self.receive().await.unwrap_or_else(|goodbye| panic!("the relay hung up: {goodbye:?}"));
            if wanted(&value) {
                return value;
            }
            self.skipped.push_back(value);
        }
    }

    /// Publishes an event; returns its OK, true or false, and its words.
    pub async fn publish(&mut self, event: &Event) -> (bool, String) {
        self.send_event(event).await;
        self.ok(event.id()).await
    }

    /// The OK for an event.
    pub async fn ok(&mut self, id: EventId) -> (bool, String) {
        let id = id.to_hex();
        let ok = self.next_where(|value| value[0] == "OK" && value[1] == id).await;
        (ok[2].as_bool().unwrap(), ok[3].as_str().unwrap().to_owned())
    }

    /// Opens a subscription; returns the stored events, up to EOSE.
    pub async fn subscribe(&mut self, id: &str, filter: Value) -> Vec<Value> {
        self.send(json!(["REQ", id, filter])).await;
        self.stored(id).await
    }

    /// The stored events of a subscription, up to EOSE.
    pub async fn stored(&mut self, id: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let next = self.next_where(|value| value[1] == id && value[0] != "OK").await;
            match next[0].as_str().unwrap() {
                "EVENT" => events.push(next[2].clone()),
                "EOSE" => return events,
                _ => panic!("instead of events came {next}"),
            }
        }
    }

    /// The next event of a subscription.
    pub async fn event(&mut self, id: &str) -> Value {
        self.next_where(|value| value[0] == "EVENT" && value[1] == id).await[2].clone()
    }

    /// The words of the next message of this type, `NOTICE`, or `CLOSED` for a subscription.
    pub async fn notice(&mut self) -> String {
        self.next_where(|value| value[0] == "NOTICE").await[1].as_str().unwrap().to_owned()
    }

    pub async fn closed(&mut self, id: &str) -> String {
        self.next_where(|value| value[0] == "CLOSED" && value[1] == id).await[2].as_str().unwrap().to_owned()
    }

    /// Authenticates as `author`, with the address of the connection as the relay's URL; returns the OK.
    pub async fn authenticate(&mut self, author: &Author) -> (bool, String) {
        self.authenticate_at(&format!("ws://{}", self.address), author).await
    }

    /// Authenticates as `author` with that URL of the relay; returns the OK.
    pub async fn authenticate_at(&mut self, relay_url: &str, author: &Author) -> (bool, String) {
        let event = author.auth(&self.challenge, relay_url);
        self.send_text(format!("[\"AUTH\",{}]", event.text())).await;
        self.ok(event.id()).await
    }

    /// Fails unless the relay answers a query on this connection.
    pub async fn assert_served(&mut self) {
        self.send(json!(["REQ", "alive?", {"limit": 0}])).await;
        assert_eq!(self.stored("alive?").await, Vec::<Value>::new());
        self.send(json!(["CLOSE", "alive?"])).await;
    }

    /// Everything that came and was not waited for.
    pub fn unexpected(&self) -> &VecDeque<Value> {
        &self.skipped
    }

    /// Reads to the end; returns how the connection ended.
    pub async fn goodbye(&mut self) -> Goodbye {
        loop {
            match self.receive().await {
                Ok(value) => self.skipped.push_back(value),
                Err(goodbye) => return goodbye,
            }
        }
    }

    async fn receive(&mut self) -> Result<Value, Goodbye> {
        loop {
            match patiently("a message from the relay", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err(Goodbye::Closed(frame.code.into(), frame.reason.to_string()));
                }
                // RFC 6455's number for a close frame without a code.
                Some(Ok(Message::Close(None))) => return Err(Goodbye::Closed(1005, String::new())),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("a relay sends no {other:?}"),
                Some(Err(_)) | None => return Err(Goodbye::Gone),
            }
        }
    }
}
