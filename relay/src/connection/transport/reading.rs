//! The half of a connection that listens.

use super::client::{Connection, READ_BUFFER_BYTES};
use crate::connection::ConnectionSettings;
use crate::telemetry::CloseReason;
use crate::types::{Refusal, Reply};
use futures_util::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio_tungstenite::tungstenite::{self, Message};

/// How many messages are read before what they led to is written.
const MESSAGES_PER_TURN: usize = 64;

/// After a message of this size the buffer that it needed is thrown away.
const LARGE_MESSAGE_BYTES: usize = 4 * READ_BUFFER_BYTES;

/// What stopped the reading.
pub(super) enum Reading {
    /// There is nothing to read.
    Idle,
    /// Something must be answered first.
    Paused,
    /// There may be more: let others have a turn.
    More,
}

impl Connection<'_> {
    /// True when the next message may be read.
    pub(super) fn may_read(&self) -> bool {
        let settings = self.gate.services.settings.load();
        self.may_go_on(&settings) && self.session.room(&settings) > 0
    }

    fn may_go_on(&self, settings: &ConnectionSettings) -> bool {
        self.waiting.is_none() && !self.clock.is_leaving() && !self.session.is_busy(settings)
    }

    /// Reads what is there, as far as the answers that it leads to stay bounded.
    pub(super) fn read(&mut self, cx: &mut Context<'_>) -> Result<Reading, CloseReason> {
        let settings = self.gate.services.settings.load();
        let room = self.session.room(&settings);
        let mut reading = if room < MESSAGES_PER_TURN { Reading::Paused } else { Reading::More };
        for _ in 0..room.min(MESSAGES_PER_TURN) {
            if !self.may_go_on(&settings) {
                reading = Reading::Paused;
                break;
            }
            match Pin::new(&mut self.socket).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => self.receive(message)?,
                Poll::Ready(Some(Err(error))) => return Err(self.failed(error)),
                Poll::Ready(None) => return Err(CloseReason::Lost),
                Poll::Pending => {
                    reading = Reading::Idle;
                    break;
                }
            }
        }
        self.idle = matches!(reading, Reading::Idle);
        self.clock.heard(self.socket.get_ref());
        if matches!(reading, Reading::Paused) {
            self.clock.paused();
        }
        Ok(reading)
    }

    fn receive(&mut self, message: Message) -> Result<(), CloseReason> {
        match message {
            Message::Text(text) => {
                self.bloated |= text.len() >= LARGE_MESSAGE_BYTES;
                self.waiting = self.session.receive(text.as_str(), self.gate);
            }
            Message::Binary(bytes) => {
                self.bloated |= bytes.len() >= LARGE_MESSAGE_BYTES;
                let words = "messages are text, this one was binary".to_owned();
                self.outbox.reply(Reply::Notice(Refusal::Invalid(words)));
            }
            Message::Close(_) => return Err(CloseReason::Client),
            // tungstenite has queued the pong.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
        Ok(())
    }

    fn failed(&self, error: tungstenite::Error) -> CloseReason {
        let reason = super::reason::reason(&error);
        if reason == CloseReason::TooLarge {
            let max_bytes = self.settings.max_message_bytes;
            self.outbox.reply(Reply::Notice(Refusal::MessageTooLarge { max_bytes }));
        }
        reason
    }
}
