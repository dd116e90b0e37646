//! One client's life after the handshake: one task that reads, writes and watches the clock, and never waits for one
//! of them while another could go on.

use super::ConnectionSettings;
use super::clock::{Clock, Due};
use super::listener::Gate;
use super::reading::Reading;
use super::reason::name;
use super::session::{Session, Waiting};
use super::socket::Socket;
use super::upgrade::Upgraded;
use crate::outbox::{Item, Outbox};
use crate::telemetry::{CloseReason, ConnectionOutcome};
use futures_util::FutureExt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// tungstenite's read buffer. Small: it is what an idle connection costs most.
pub(super) const READ_BUFFER_BYTES: usize = 4096;

/// One client that is being served.
pub(super) struct Connection<'a> {
    pub(super) gate: &'a Gate,
    /// What was in force when the connection began: timeouts do not change.
    pub(super) settings: Arc<ConnectionSettings>,
    pub(super) socket: WebSocketStream<Socket>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) session: Session,
    pub(super) waiting: Option<Waiting>,
    pub(super) clock: Clock,
    /// The bytes received and sent that were counted already.
    pub(super) counted: (u64, u64),
    pub(super) items: Vec<Item>,
    pub(super) scratch: String,
    /// The last message, if it was large. While it lives, tungstenite cannot keep its buffer for the next one.
    pub(super) large: Option<Utf8Bytes>,
}

/// Serves a client until one of us leaves.
pub(super) async fn run(gate: &Gate, upgraded: Upgraded) {
    let begun = Instant::now();
    let settings = gate.services.settings.load_full();
    let mut socket = Socket::new(upgraded.stream);
    socket.note_received(&upgraded.leftover);
    let config = websocket_config(settings.max_message_bytes);
    let leftover = upgraded.leftover.to_vec();
    let socket = WebSocketStream::from_partially_read(socket, leftover, Role::Server, Some(config)).await;
    let outbox = Outbox::new(settings.outbox);
    let session = Session::new(upgraded.client, outbox.clone());
    let mut connection = Connection {
        gate,
        settings,
        socket,
        outbox,
        session,
        waiting: None,
        clock: Clock::new(),
        counted: (0, 0),
        items: Vec::new(),
        scratch: String::new(),
        large: None,
    };
    let metrics = &gate.services.metrics;
    metrics.connections.of(ConnectionOutcome::Accepted).increment(1);
    let reason = connection.serve().await;
    connection.session.end(gate);
    let address = connection.session.client.address;
    let (bytes_in, bytes_out) = connection.part(reason).await;
    metrics.connections_closed.of(reason).increment(1);
    let seconds = begun.elapsed().as_secs_f32();
    tracing::debug!(%address, reason = name(reason), seconds, bytes_in, bytes_out, "a connection ended");
}

/// tungstenite refuses what no [`ConnectionSettings::max_message_bytes`] can answer; its own write buffer only ever
/// holds pongs and goodbyes.
fn websocket_config(max_message_bytes: usize) -> WebSocketConfig {
    let max_bytes = Some(max_message_bytes.saturating_mul(2));
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(max_bytes)
        .max_frame_size(max_bytes)
}

impl Connection<'_> {
    /// Reads and writes until there is a reason to end.
    async fn serve(&mut self) -> CloseReason {
        let outbox = self.outbox.clone();
        let shutdown = self.gate.services.shutdown.clone();
        // Not all at once: the other relays would have to take all the clients in the same second.
        let leave = async {
            let over = shutdown.draining().await;
            sleep(over.mul_f64(rand::random())).await;
        };
        let mut leave = pin!(leave.fuse());
        let mut ready = pin!(outbox.ready());
        let mut timer = pin!(sleep_until(self.clock.next(None, &self.settings)));
        loop {
            tokio::select! {
                biased;
                () = &mut ready => ready.set(outbox.ready()),
                () = &mut leave => self.clock.leave(),
                reason = poll_fn(|cx| self.poll(cx, timer.as_mut())) => return reason,
            }
        }
    }

    /// Does all that can be done without waiting. Ready with the reason once the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Poll<CloseReason> {
        let result = self.work(cx).and_then(|()| self.look_at(timer, cx));
        self.count_traffic();
        match result {
            Ok(()) => Poll::Pending,
            Err(reason) => Poll::Ready(reason),
        }
    }

    fn count_traffic(&mut self) {
        let metrics = &self.gate.services.metrics;
        let (received, sent) = self.socket.get_ref().traffic();
        if received > self.counted.0 {
            metrics.received_bytes.increment(received - self.counted.0);
        }
        if sent > self.counted.1 {
            metrics.sent_bytes.increment(sent - self.counted.1);
        }
        self.counted = (received, sent);
    }

    /// Reads and writes until neither can go on.
    fn work(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        loop {
            let reading = self.read(cx)?;
            let resumed = self.resume(cx);
            let empty = self.write(cx)?;
            let may_go_on = match reading {
                Reading::Idle => resumed,
                // Writing may have made room.
                Reading::Paused => resumed || self.may_read(),
                Reading::More => true,
            };
            if !may_go_on {
                let done = self.clock.is_leaving() && empty && self.session.in_flight() == 0;
                return if done { Err(CloseReason::Shutdown) } else { Ok(()) };
            }
        }
    }

    /// Looks at what the session waits for; true: it is over.
    fn resume(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(waiting) = &mut self.waiting else { return false };
        let Poll::Ready(outcome) = waiting.poll_unpin(cx) else { return false };
        self.waiting = None;
        self.session.resume(outcome, self.gate);
        true
    }

    /// Looks at the clock, and sets the timer if something may be due before it.
    fn look_at(&mut self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        loop {
            let next = self.clock.next(self.socket.get_ref().blocked_since(), &self.settings);
            // Only ever moved forward, and back once it has fired: so a busy connection does not keep moving it.
            if next < timer.deadline() {
                timer.as_mut().reset(next);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            match self.clock.due(self.socket.get_ref().blocked_since(), &self.settings) {
                Due::Nothing => {}
                Due::Close(reason) => return Err(reason),
                Due::Ping => {
                    self.socket.get_mut().push_ping();
                    self.write(cx)?;
                }
            }
            timer.as_mut().reset(self.clock.next(self.socket.get_ref().blocked_since(), &self.settings));
        }
    }
}
