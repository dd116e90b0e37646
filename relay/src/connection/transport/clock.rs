//! Everything that has a deadline in a client's life, behind one timer.

use super::socket::Socket;
use crate::connection::ConnectionSettings;
use crate::telemetry::CloseReason;
use std::time::Duration;
use tokio::time::Instant;

/// How long goodbyes may take: what is still owed, the closing handshake, and the client hanging up.
pub(super) const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

/// For a deadline that never comes.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// When what happened. The socket knows since when it is blocked.
#[derive(Debug)]
pub(super) struct Clock {
    heard_bytes: u64,
    heard_at: Instant,
    pinged_at: Option<Instant>,
    /// The message that is arriving, by [`FrameTracker::finished`](super::frames::FrameTracker::finished), and since
    /// when.
    message: Option<(u64, Instant)>,
    leaving_since: Option<Instant>,
}

/// What is to be done at a moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing yet.
    Nothing,
    /// The client was silent for long.
    Ping,
    /// The connection is over.
    Close(CloseReason),
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { heard_bytes: 0, heard_at: Instant::now(), pinged_at: None, message: None, leaving_since: None }
    }

    /// Takes note of what was heard, after all that could be read was read.
    pub(super) fn heard(&mut self, socket: &Socket) {
        let (bytes, _) = socket.traffic();
        if bytes == self.heard_bytes {
            return;
        }
        self.heard_bytes = bytes;
        self.heard_at = Instant::now();
        self.pinged_at = None;
        let frames = socket.frames();
        if !frames.is_inside() {
            self.message = None;
        } else if self.message.is_none_or(|(message, _)| message != frames.finished()) {
            self.message = Some((frames.finished(), self.heard_at));
        }
    }

    /// Takes note that the client is not listened to: it is not to blame for its silence.
    pub(super) fn paused(&mut self) {
        self.message = None;
        if self.pinged_at.is_some() {
            self.pinged_at = None;
            self.heard_at = Instant::now();
        }
    }

    /// Begins the goodbyes.
    pub(super) fn leave(&mut self) {
        self.leaving_since = Some(Instant::now());
    }

    /// True once the goodbyes have begun.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving_since.is_some()
    }

    /// The next moment at which something may be due.
    pub(super) fn next(&self, blocked_since: Option<Instant>, settings: &ConnectionSettings) -> Instant {
        let silence = match (self.pinged_at, settings.ping_interval) {
            (Some(pinged_at), _) => pinged_at + settings.pong_timeout,
            (None, Some(interval)) => self.heard_at + interval,
            (None, None) => self.heard_at + NEVER,
        };
        let deadlines = [
            self.message.map(|(_, since)| since + settings.message_timeout),
            blocked_since.map(|since| since + settings.write_stall),
            self.leaving_since.map(|since| since + GOODBYE_TIMEOUT),
        ];
        deadlines.into_iter().flatten().fold(silence, Instant::min)
    }

    /// What is due now. A ping that is due counts as sent.
    pub(super) fn due(&mut self, blocked_since: Option<Instant>, settings: &ConnectionSettings) -> Due {
        let now = Instant::now();
        let over = |since: Option<Instant>, time: Duration| since.is_some_and(|since| since + time <= now);
        if over(self.leaving_since, GOODBYE_TIMEOUT) {
            Due::Close(CloseReason::Shutdown)
        } else if over(blocked_since, settings.write_stall) {
            Due::Close(CloseReason::WriteStall)
        } else if over(self.message.map(|(_, since)| since), settings.message_timeout) {
            Due::Close(CloseReason::MessageTimeout)
        } else if over(self.pinged_at, settings.pong_timeout) {
            Due::Close(CloseReason::PongTimeout)
        } else if self.pinged_at.is_none()
            && settings.ping_interval.is_some_and(|interval| self.heard_at + interval <= now)
        {
            self.pinged_at = Some(now);
            Due::Ping
        } else {
            Due::Nothing
        }
    }
}
