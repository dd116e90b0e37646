//! The half of a connection that writes.

use super::close::close_frame_for;
use super::connection::Connection;
use super::deadlines::CLOSE_TIMEOUT;
use super::socket::{HIGH_WATER_BYTES, Socket};
use crate::message;
use crate::outbox::{Item, Subscription};
use crate::telemetry::CloseReason;
use crate::types::{Reply, now};
use futures_util::SinkExt;
use std::future::poll_fn;
use std::task::{Context, Poll};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// How many items are taken from the outbox at a time.
const MAX_ITEMS_PER_TAKE: usize = 128;

/// The most items that an idle connection keeps space for.
const MAX_KEPT_ITEMS: usize = 8;

/// The most scratch space that an idle connection keeps.
const MAX_KEPT_SCRATCH_BYTES: usize = 2048;

impl Connection<'_> {
    /// Sends what the socket takes; true: nothing is left to send.
    pub(super) fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, CloseReason> {
        loop {
            let left = self.fill();
            match self.socket.get_mut().poll_drain(cx) {
                Poll::Ready(Ok(())) if left => {}
                Poll::Ready(Ok(())) => return Ok(true),
                Poll::Ready(Err(_)) => return Err(CloseReason::Lost),
                Poll::Pending => return Ok(false),
            }
        }
    }

    /// Moves items from the outbox to the socket's buffer while the buffer is below its high-water mark. True: items
    /// are left.
    fn fill(&mut self) -> bool {
        let services = &self.context.services;
        let left = loop {
            let socket = self.socket.get_mut();
            if !socket.has_room() {
                break true;
            }
            let left = self.outbox.take(&mut self.items, MAX_ITEMS_PER_TAKE, HIGH_WATER_BYTES);
            if self.items.is_empty() && !left.behind {
                break false;
            }
            self.session.close_if_no_longer_allowed(services);
            let (now, access) = (now(), self.session.access(&services.settings.load()));
            for item in self.items.drain(..) {
                // Removal, expiry and access are checked at the moment of sending: the item may have waited.
                match item {
                    Item::Reply(reply) => socket.push_text(&message::reply(&reply)),
                    Item::Eose(subscription, hints) => {
                        if !subscription.is_over() {
                            socket.push_text(&message::reply(&Reply::Eose(subscription.id.clone(), hints)));
                        }
                    }
                    Item::Ended(subscription, why) => {
                        if subscription.settle_end() {
                            socket.push_text(&message::reply(&Reply::Closed(subscription.id.clone(), why)));
                        }
                    }
                    Item::Stored { subscription, row } => {
                        if !subscription.is_over() && row.expires_at.is_none_or(|at| at > now) {
                            push_event(socket, &mut self.scratch, &subscription, &row.text);
                        }
                    }
                    Item::Live { subscription, insertion } => {
                        let event = &insertion.event;
                        if !subscription.is_over()
                            && !insertion.is_dead()
                            && !event.is_expired(now)
                            && access.may_read(event)
                        {
                            push_event(socket, &mut self.scratch, &subscription, event.text());
                            if let Some(learnt_at) = insertion.learnt_at {
                                services.metrics.fanout.record(learnt_at.elapsed());
                            }
                        }
                    }
                }
            }
            let replayed = left.behind && self.outbox.replay(|subscription| services.log.catch_up(subscription));
            if !left.items && !replayed {
                break false;
            }
        };
        self.socket.get_mut().count_buffered();
        if self.scratch.capacity() > MAX_KEPT_SCRATCH_BYTES {
            self.scratch = String::new();
        }
        if self.items.capacity() > MAX_KEPT_ITEMS {
            self.items = Vec::new();
        }
        left
    }

    /// Closes the connection as `reason` asks for. Returns the bytes received and sent.
    pub(super) async fn finish(self, reason: CloseReason) -> (u64, u64) {
        use CloseReason::{Lost, PongTimeout, WriteStall};
        let traffic = self.socket.get_ref().traffic();
        match reason {
            // The answers that it was owed are sent, and the kernel delivers them only where the socket closes in
            // order.
            Lost if self.is_half_closed => drop(timeout(CLOSE_TIMEOUT, self.socket.into_inner().linger()).await),
            Lost | PongTimeout | WriteStall => self.socket.into_inner().abort(),
            // Closed in time or not, the connection is over.
            _ => drop(timeout(CLOSE_TIMEOUT, self.send_close(reason)).await),
        }
        traffic
    }

    /// Sends the replies owed, then the close frame. Events are not sent: their subscriptions are closed by now.
    async fn send_close(mut self, reason: CloseReason) -> Result<(), tungstenite::Error> {
        poll_fn(|cx| match self.write(cx) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(_) => Poll::Ready(Err(tungstenite::Error::ConnectionClosed)),
        })
        .await?;
        match close_frame_for(reason) {
            Some((code, words)) => self.socket.close(Some(CloseFrame { code, reason: words.into() })).await?,
            // tungstenite has queued the answer to the client's close frame.
            None => self.socket.flush().await?,
        }
        let mut socket = self.socket.into_inner();
        poll_fn(|cx| socket.poll_drain(cx)).await?;
        Ok(socket.linger().await?)
    }
}

fn push_event(socket: &mut Socket, scratch: &mut String, subscription: &Subscription, text: &str) {
    scratch.clear();
    message::push_event(&subscription.id, text, scratch);
    socket.push_text(scratch);
}
