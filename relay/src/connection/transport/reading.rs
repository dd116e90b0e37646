//! The half of a connection that reads.

use super::buffer::READ_BUFFER_BYTES;
use super::close::{is_end_of_stream, reason_of};
use super::connection::Connection;
use crate::connection::settings::ConnectionSettings;
use crate::telemetry::CloseReason;
use crate::types::{Refusal, Reply};
use futures_util::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio_tungstenite::tungstenite::{self, Message};

/// How many messages are read before their replies are written.
const MAX_MESSAGES_PER_TURN: usize = 64;

/// A message of this size makes the connection replace its read buffer, which tungstenite never shrinks.
const LARGE_MESSAGE_BYTES: usize = 4 * READ_BUFFER_BYTES;

/// Why a read ended.
pub(super) enum ReadEnd {
    /// Nothing more has come.
    Drained,
    /// The client is owed replies, which go first.
    Paused,
    /// There may be more; other tasks get a turn.
    TurnOver,
}

impl Connection<'_> {
    /// True when the next message may be read.
    pub(super) fn may_read(&self) -> bool {
        let settings = self.context.services.settings.load();
        self.is_ready(&settings) && self.session.reply_capacity(&settings) > 0
    }

    fn is_ready(&self, settings: &ConnectionSettings) -> bool {
        self.pending_step.is_none() && !self.deadlines.is_closing() && !self.session.is_at_query_limit(settings)
    }

    /// Reads and handles the messages that have come, as far as the replies owed stay bounded.
    pub(super) fn read(&mut self, cx: &mut Context<'_>) -> Result<ReadEnd, CloseReason> {
        let settings = self.context.services.settings.load();
        let capacity = self.session.reply_capacity(&settings);
        let mut end = if capacity < MAX_MESSAGES_PER_TURN { ReadEnd::Paused } else { ReadEnd::TurnOver };
        for _ in 0..capacity.min(MAX_MESSAGES_PER_TURN) {
            if !self.is_ready(&settings) {
                end = ReadEnd::Paused;
                break;
            }
            match Pin::new(&mut self.socket).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => self.receive(message)?,
                Poll::Ready(Some(Err(error))) => return Err(self.close_reason(error)),
                Poll::Ready(None) => return Err(CloseReason::Lost),
                Poll::Pending => {
                    end = ReadEnd::Drained;
                    break;
                }
            }
        }
        self.is_drained = matches!(end, ReadEnd::Drained);
        self.deadlines.note_received(self.socket.get_ref());
        if matches!(end, ReadEnd::Paused) {
            self.deadlines.note_paused();
        }
        Ok(end)
    }

    fn receive(&mut self, message: Message) -> Result<(), CloseReason> {
        match message {
            Message::Text(text) => {
                self.has_large_buffer |= text.len() >= LARGE_MESSAGE_BYTES;
                let memory = self.socket.get_mut().take_message_memory();
                self.pending_step = self.session.receive(text.as_str(), memory, self.context);
            }
            Message::Binary(bytes) => {
                drop(self.socket.get_mut().take_message_memory());
                self.has_large_buffer |= bytes.len() >= LARGE_MESSAGE_BYTES;
                let words = "messages are text, this one was binary".to_owned();
                self.outbox.reply(Reply::Notice(Refusal::Invalid(words)));
            }
            Message::Close(_) => return Err(CloseReason::Client),
            // tungstenite has queued the pong.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
        Ok(())
    }

    fn close_reason(&mut self, error: tungstenite::Error) -> CloseReason {
        let reason = reason_of(&error);
        self.is_half_closed = is_end_of_stream(&error);
        if reason == CloseReason::TooLarge {
            let max_bytes = self.settings.max_message_bytes;
            self.outbox.reply(Reply::Notice(Refusal::MessageTooLarge { max_bytes }));
        }
        reason
    }
}
