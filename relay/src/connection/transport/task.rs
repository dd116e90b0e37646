//! One client after the handshake. One task reads, writes and keeps the deadlines; while one of these has to wait, the
//! others go on.

use super::alarm::Alarm;
use super::buffer::{READ_BUFFER_BYTES, read_buffer};
use super::close::label;
use super::connection::Connection;
use super::deadlines::{Deadlines, Due};
use super::reading::ReadEnd;
use super::socket::Socket;
use crate::connection::context::ListenerContext;
use crate::connection::http::upgrade::Upgraded;
use crate::connection::session::Session;
use crate::outbox::Outbox;
use crate::telemetry::{CloseReason, ConnectionOutcome};
use futures_util::FutureExt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// Serves a client until it or the relay closes the connection. `buffer` is a [`read_buffer`].
pub(in crate::connection) async fn run(context: &ListenerContext, upgraded: Upgraded, mut buffer: Vec<u8>) {
    let begun = Instant::now();
    let settings = context.services.settings.load_full();
    let config = websocket_config(settings.max_message_bytes);
    let Upgraded { stream, leftover, origin } = upgraded;
    let memory = context.services.memory.connect();
    let mut socket = Socket::new(stream, memory.clone());
    socket.note_received(&leftover);
    buffer.extend_from_slice(&leftover);
    // Even an empty `Bytes` keeps hyper's buffer alive.
    drop(leftover);
    let socket = WebSocketStream::from_partially_read(socket, buffer, Role::Server, Some(config)).await;
    let outbox = Outbox::new(settings.outbox, memory);
    let session = Session::new(origin, outbox.clone(), context.services.log.clone());
    let mut connection = Connection {
        context,
        settings,
        socket,
        outbox,
        session,
        pending_step: None,
        deadlines: Deadlines::new(),
        counted: (0, 0),
        items: Vec::new(),
        scratch: String::new(),
        is_drained: true,
        is_half_closed: false,
        has_large_buffer: false,
    };
    let metrics = &context.services.metrics;
    metrics.connections.of(ConnectionOutcome::Accepted).increment(1);
    let reason = loop {
        match connection.serve().await {
            ServeEnd::Closed(reason) => break reason,
            ServeEnd::ReplaceReadBuffer => {
                let socket = connection.socket.into_inner();
                connection.socket =
                    WebSocketStream::from_partially_read(socket, read_buffer(), Role::Server, Some(config)).await;
            }
        }
    };
    // Boxed, like the end below, so that the future of an open connection has no space for it.
    if connection.is_half_closed {
        Box::pin(connection.settle()).await;
    }
    connection.session.end();
    if reason == CloseReason::Client {
        Box::pin(connection.settle()).await;
    }
    let address = connection.session.origin.address;
    let (bytes_in, bytes_out) = Box::pin(connection.finish(reason)).await;
    metrics.connections_closed.of(reason).increment(1);
    let seconds = begun.elapsed().as_secs_f32();
    tracing::debug!(%address, reason = label(reason), seconds, bytes_in, bytes_out, "a connection ended");
}

/// Why [`Connection::serve`] has returned.
enum ServeEnd {
    /// The connection is over.
    Closed(CloseReason),
    /// tungstenite's read buffer is large and holds nothing of use. It never shrinks, so it is replaced.
    ReplaceReadBuffer,
}

/// tungstenite fails at a message of more than twice `max_message_bytes`. A message between the two sizes is read, so
/// that the client gets a refusal. Its write buffer only holds pongs and Close frames.
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
    /// Reads and writes until the connection ends or its read buffer must be replaced.
    async fn serve(&mut self) -> ServeEnd {
        let shutdown = self.context.services.shutdown.clone();
        // At a random moment: else all clients would connect to the other relays in the same second.
        let drain = async {
            let over = shutdown.draining().await;
            sleep(over.mul_f64(rand::random())).await;
        };

        let mut drain = pin!(drain.fuse());
        let mut timer = pin!(sleep_until(self.deadlines.next(None, &self.settings)));
        let mut alarm = Alarm::new();
        poll_fn(|cx| {
            // Registered before anything is polled, so that an item that is queued meanwhile wakes the task again.
            self.outbox.watch(cx.waker());
            let result = if alarm.has_rung(cx.waker()) || !self.only_sends() {
                let mut alarm = Context::from_waker(alarm.waker());
                if drain.as_mut().poll(&mut alarm).is_ready() {
                    self.deadlines.start_closing();
                }
                self.work(cx, &mut alarm).and_then(|()| self.check_deadlines(timer.as_mut(), cx, &mut alarm))
            } else {
                self.write(cx).and_then(|sent| match sent {
                    true => Ok(()),
                    // Pending bytes have a deadline.
                    false => self.check_deadlines(timer.as_mut(), cx, &mut Context::from_waker(alarm.waker())),
                })
            };
            self.count_traffic();
            match result {
                Ok(()) if self.has_large_buffer && self.read_buffer_is_empty() => {
                    self.has_large_buffer = false;
                    Poll::Ready(ServeEnd::ReplaceReadBuffer)
                }
                Ok(()) => Poll::Pending,
                Err(reason) => Poll::Ready(ServeEnd::Closed(reason)),
            }
        })
        .await
    }

    /// True when the task has only to send until the alarm rings.
    fn only_sends(&self) -> bool {
        self.is_drained
            && self.pending_step.is_none()
            && !self.deadlines.is_closing()
            && self.socket.get_ref().blocked_since().is_none()
    }

    /// True when tungstenite holds nothing of use: whole frames were read and handled, and with room in the socket's
    /// buffer no pong is held back.
    fn read_buffer_is_empty(&self) -> bool {
        let socket = self.socket.get_ref();
        self.is_drained && !socket.frames().is_inside() && socket.has_room()
    }

    fn count_traffic(&mut self) {
        let metrics = &self.context.services.metrics;
        let (received, sent) = self.socket.get_ref().traffic();
        if received > self.counted.0 {
            metrics.received_bytes.increment(received - self.counted.0);
        }
        if sent > self.counted.1 {
            metrics.sent_bytes.increment(sent - self.counted.1);
        }
        self.counted = (received, sent);
    }

    /// Reads and writes until neither can go on. The `alarm` rings when one of them can.
    fn work(&mut self, cx: &mut Context<'_>, alarm: &mut Context<'_>) -> Result<(), CloseReason> {
        loop {
            // tungstenite keeps a pong while the buffer is full, and hands it over at the next read.
            let was_full = !self.socket.get_ref().has_room();
            let end = self.read(alarm)?;
            let resumed = self.resume(alarm);
            let empty = self.write(cx)?;
            let may_go_on = match end {
                ReadEnd::Drained => resumed || (was_full && self.socket.get_ref().has_room()),
                // Writing may have made room.
                ReadEnd::Paused => resumed || self.may_read(),
                ReadEnd::TurnOver => true,
            };

            if !may_go_on {
                let done = self.deadlines.is_closing() && empty && self.session.in_flight() == 0;
                return if done { Err(CloseReason::Shutdown) } else { Ok(()) };
            }
        }
    }

    /// Polls the pending step; true: it has ended.
    pub(super) fn resume(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(step) = &mut self.pending_step else { return false };
        let Poll::Ready(outcome) = step.poll_unpin(cx) else { return false };
        self.pending_step = None;
        self.session.resume(outcome, self.context);
        true
    }

    /// Handles the deadlines that have passed, and sets the timer to the next one.
    fn check_deadlines(
        &mut self,
        mut timer: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
        alarm: &mut Context<'_>,
    ) -> Result<(), CloseReason> {
        loop {
            let next = self.deadlines.next(self.socket.get_ref().blocked_since(), &self.settings);
            // Moved to an earlier time only, and to a later one once it has fired: a busy connection would move it with
            // each message.
            if next < timer.deadline() {
                timer.as_mut().reset(next);
            }

            if timer.as_mut().poll(alarm).is_pending() {
                return Ok(());
            }
            match self.deadlines.due(self.socket.get_ref().blocked_since(), &self.settings) {
                Due::Nothing => {}
                Due::Close(reason) => return Err(reason),
                Due::Ping => {
                    self.socket.get_mut().push_ping();
                    self.write(cx)?;
                }
            }
            timer.as_mut().reset(self.deadlines.next(self.socket.get_ref().blocked_since(), &self.settings));
        }
    }
}
