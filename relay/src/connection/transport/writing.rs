//! The half of a connection that speaks.

use super::client::Connection;
use super::clock::GOODBYE_TIMEOUT;
use super::reason::farewell;
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
const GROUP: usize = 128;

/// Space for items beyond this is given back.
const KEPT_ITEMS: usize = 8;

/// A scratch text larger than this is given back.
const KEPT_SCRATCH_BYTES: usize = 2048;

impl Connection<'_> {
    /// Sends what the socket takes; true: everything was sent.
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

    /// Moves what may be sent from the outbox to the socket's buffer, as far as that has room; true: something is
    /// left.
    fn fill(&mut self) -> bool {
        let services = &self.gate.services;
        let left = loop {
            let socket = self.socket.get_mut();
            if !socket.has_room() {
                break true;
            }
            let left = self.outbox.take(&mut self.items, GROUP, HIGH_WATER_BYTES);
            if self.items.is_empty() && !left.behind {
                break false;
            }
            self.session.hold_to_rules(services);
            let (now, access) = (now(), self.session.access(&services.settings.load()));
            for item in self.items.drain(..) {
                // Death, expiry and access count as of the moment of sending.
                match item {
                    Item::Reply(reply) => socket.push_text(&message::reply(&reply)),
                    Item::Eose(subscription) => {
                        if !subscription.is_over() {
                            socket.push_text(&message::reply(&Reply::Eose(subscription.id.clone())));
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
        if self.scratch.capacity() > KEPT_SCRATCH_BYTES {
            self.scratch = String::new();
        }
        if self.items.capacity() > KEPT_ITEMS {
            self.items = Vec::new();
        }
        left
    }

    /// Says goodbye in the way that the reason asks for, and gives the bytes that were received and sent.
    pub(super) async fn part(self, reason: CloseReason) -> (u64, u64) {
        use CloseReason::{Lost, PongTimeout, WriteStall};
        let traffic = self.socket.get_ref().traffic();
        match reason {
            Lost | PongTimeout | WriteStall => self.socket.into_inner().abort(),
            // However it ends, the connection is over.
            _ => drop(timeout(GOODBYE_TIMEOUT, self.say_goodbye(reason)).await),
        }
        traffic
    }

    /// Sends the answers that are owed (events are not: their subscriptions are closed by now), then the close frame.
    async fn say_goodbye(mut self, reason: CloseReason) -> Result<(), tungstenite::Error> {
        poll_fn(|cx| match self.write(cx) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(_) => Poll::Ready(Err(tungstenite::Error::ConnectionClosed)),
        })
        .await?;
        match farewell(reason) {
            Some((code, words)) => self.socket.close(Some(CloseFrame { code, reason: words.into() })).await?,
            // tungstenite has the answer to the client's goodbye ready.
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
