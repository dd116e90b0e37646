//! One client's life after the handshake: one task that reads, writes and watches the clock, and never waits for one
//! of them while another could go on.

use super::alarm::Alarm;
use super::clock::{Clock, Due};
use super::reading::Reading;
use super::reason::name;
use super::socket::Socket;
use crate::connection::ConnectionSettings;
use crate::connection::http::upgrade::Upgraded;
use crate::connection::listening::listener::Gate;
use crate::connection::session::{Session, Waiting};
use crate::outbox::{Item, Outbox};
use crate::telemetry::{CloseReason, ConnectionOutcome};
use futures_util::FutureExt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_tungstenite::WebSocketStream;
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
    /// The last time, everything that had come was read.
    pub(super) idle: bool,
    /// A large message has made tungstenite's buffer large.
    pub(super) bloated: bool,
}

/// The buffer that a connection reads into. It is made before the handshake, so that what the handshake allocates
/// and frees leaves no hole behind it.
pub(in crate::connection) fn read_buffer() -> Vec<u8> {
    Vec::with_capacity(READ_BUFFER_BYTES)
}

/// Serves a client until one of us leaves. `buffer` is a [`read_buffer`].
pub(in crate::connection) async fn run(gate: &Gate, upgraded: Upgraded, mut buffer: Vec<u8>) {
    let begun = Instant::now();
    let settings = gate.services.settings.load_full();
    let config = websocket_config(settings.max_message_bytes);
    let Upgraded { stream, leftover, client } = upgraded;
    let mut socket = Socket::new(stream);
    socket.note_received(&leftover);
    buffer.extend_from_slice(&leftover);
    // Even where nothing is left over, it holds on to hyper's buffer.
    drop(leftover);
    let socket = WebSocketStream::from_partially_read(socket, buffer, Role::Server, Some(config)).await;
    let outbox = Outbox::new(settings.outbox);
    let session = Session::new(client, outbox.clone());
    let waiting_to_be_sent = outbox.clone();
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
        idle: true,
        bloated: false,
    };
    let metrics = &gate.services.metrics;
    metrics.connections.of(ConnectionOutcome::Accepted).increment(1);
    let reason = loop {
        match connection.serve().await {
            Ended::For(reason) => break reason,
            Ended::Bloated => {
                let socket = connection.socket.into_inner();
                connection.socket =
                    WebSocketStream::from_partially_read(socket, read_buffer(), Role::Server, Some(config)).await;
            }
        }
    };
    connection.session.end(gate);
    let address = connection.session.client.address;
    // Boxed, so that what happens once in the end takes no space until then.
    let (bytes_in, bytes_out) = Box::pin(connection.part(reason)).await;
    waiting_to_be_sent.close();
    metrics.connections_closed.of(reason).increment(1);
    let seconds = begun.elapsed().as_secs_f32();
    tracing::debug!(%address, reason = name(reason), seconds, bytes_in, bytes_out, "a connection ended");
}

/// Why [`Connection::serve`] came to an end.
enum Ended {
    /// The connection is over.
    For(CloseReason),
    /// tungstenite is to get a new buffer: it never shrinks its own, and nothing of use is in it.
    Bloated,
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
    async fn serve(&mut self) -> Ended {
        let shutdown = self.gate.services.shutdown.clone();
        // Not all at once: the other relays would have to take all the clients in the same second.
        let leave = async {
            let over = shutdown.draining().await;
            sleep(over.mul_f64(rand::random())).await;
        };
        let mut leave = pin!(leave.fuse());
        let mut timer = pin!(sleep_until(self.clock.next(None, &self.settings)));
        let mut alarm = Alarm::new();
        poll_fn(|cx| {
            // Asked before anything is looked at: what comes later wakes us again.
            self.outbox.watch(cx.waker());
            let result = if alarm.has_rung(cx.waker()) || !self.only_listens() {
                let mut alarm = Context::from_waker(alarm.waker());
                if leave.as_mut().poll(&mut alarm).is_ready() {
                    self.clock.leave();
                }
                self.work(cx, &mut alarm).and_then(|()| self.look_at(timer.as_mut(), cx, &mut alarm))
            } else {
                self.write(cx).and_then(|sent| match sent {
                    true => Ok(()),
                    // Now the client has a deadline.
                    false => self.look_at(timer.as_mut(), cx, &mut Context::from_waker(alarm.waker())),
                })
            };
            self.count_traffic();
            match result {
                Ok(()) if self.bloated && self.holds_nothing() => {
                    self.bloated = false;
                    Poll::Ready(Ended::Bloated)
                }
                Ok(()) => Poll::Pending,
                Err(reason) => Poll::Ready(Ended::For(reason)),
            }
        })
        .await
    }

    /// True when there is nothing to do but to send, as long as the alarm is silent.
    fn only_listens(&self) -> bool {
        self.idle
            && self.waiting.is_none()
            && !self.clock.is_leaving()
            && self.socket.get_ref().blocked_since().is_none()
    }

    /// True when tungstenite keeps nothing of use: all that was read were whole frames and is dealt with, and with room in the
    /// socket's buffer no answer to a ping is held back.
    fn holds_nothing(&self) -> bool {
        let socket = self.socket.get_ref();
        self.idle && !socket.frames().is_inside() && socket.has_room()
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

    /// Reads and writes until neither can go on. What may be read later, or is waited for, rings the `alarm`.
    fn work(&mut self, cx: &mut Context<'_>, alarm: &mut Context<'_>) -> Result<(), CloseReason> {
        loop {
            // Where it has no room, tungstenite keeps the answer to a ping, and hands it over when it is read from next.
            let was_full = !self.socket.get_ref().has_room();
            let reading = self.read(alarm)?;
            let resumed = self.resume(alarm);
            let empty = self.write(cx)?;
            let may_go_on = match reading {
                Reading::Idle => resumed || (was_full && self.socket.get_ref().has_room()),
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
    fn look_at(
        &mut self,
        mut timer: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
        alarm: &mut Context<'_>,
    ) -> Result<(), CloseReason> {
        loop {
            let next = self.clock.next(self.socket.get_ref().blocked_since(), &self.settings);
            // Only ever moved forward, and back once it has fired: so a busy connection does not keep moving it.
            if next < timer.deadline() {
                timer.as_mut().reset(next);
            }
            if timer.as_mut().poll(alarm).is_pending() {
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
