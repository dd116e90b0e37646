//! Every deadline of one connection, behind one timer.

use super::socket::Socket;
use crate::connection::settings::ConnectionSettings;
use crate::telemetry::CloseReason;
use std::time::Duration;
use tokio::time::Instant;

/// How long closing may take: the replies owed, the closing handshake, and the client closing its side.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Stands for "no deadline".
const FAR_FUTURE: Duration = Duration::from_secs(24 * 3600);

/// What the deadlines count from. The socket knows since when it is blocked.
#[derive(Debug)]
pub(super) struct Deadlines {
    received_bytes: u64,
    received_at: Instant,
    pinged_at: Option<Instant>,
    /// The message that is arriving, by [`FrameTracker::finished`](super::frames::FrameTracker::finished), and when
    /// its first byte came.
    message: Option<(u64, Instant)>,
    closing_since: Option<Instant>,
}

/// What to do when the timer fires.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing yet.
    Nothing,
    /// The client was silent for `ping_interval`.
    Ping,
    /// The connection is over.
    Close(CloseReason),
}

impl Deadlines {
    pub(super) fn new() -> Self {
        Self { received_bytes: 0, received_at: Instant::now(), pinged_at: None, message: None, closing_since: None }
    }

    /// Notes what the client has sent. Called after a read, so a silent client is one that has sent nothing.
    pub(super) fn note_received(&mut self, socket: &Socket) {
        let (bytes, _) = socket.traffic();
        if bytes == self.received_bytes {
            return;
        }
        self.received_bytes = bytes;
        self.received_at = Instant::now();
        self.pinged_at = None;
        let frames = socket.frames();
        if !frames.is_inside() {
            self.message = None;
        } else if self.message.is_none_or(|(message, _)| message != frames.finished()) {
            self.message = Some((frames.finished(), self.received_at));
        }
    }

    /// Notes that the relay does not read from the client at present, so its silence counts for nothing.
    pub(super) fn note_paused(&mut self) {
        self.message = None;
        if self.pinged_at.is_some() {
            self.pinged_at = None;
            self.received_at = Instant::now();
        }
    }

    /// Starts the deadline of a connection that drains.
    pub(super) fn start_closing(&mut self) {
        self.closing_since = Some(Instant::now());
    }

    /// True once the connection drains.
    pub(super) fn is_closing(&self) -> bool {
        self.closing_since.is_some()
    }

    /// The next moment at which something may be due.
    pub(super) fn next(&self, blocked_since: Option<Instant>, settings: &ConnectionSettings) -> Instant {
        let silence = match (self.pinged_at, settings.ping_interval) {
            (Some(pinged_at), _) => pinged_at + settings.pong_timeout,
            (None, Some(interval)) => self.received_at + interval,
            (None, None) => self.received_at + FAR_FUTURE,
        };
        let deadlines = [
            self.message.map(|(_, since)| since + settings.message_timeout),
            blocked_since.map(|since| since + settings.write_stall),
            self.closing_since.map(|since| since + CLOSE_TIMEOUT),
        ];
        deadlines.into_iter().flatten().fold(silence, Instant::min)
    }

    /// What is due now. A ping that is due counts as sent.
    pub(super) fn due(&mut self, blocked_since: Option<Instant>, settings: &ConnectionSettings) -> Due {
        let now = Instant::now();
        let over = |since: Option<Instant>, time: Duration| since.is_some_and(|since| since + time <= now);
        if over(self.closing_since, CLOSE_TIMEOUT) {
            Due::Close(CloseReason::Shutdown)
        } else if over(blocked_since, settings.write_stall) {
            Due::Close(CloseReason::WriteStall)
        } else if over(self.message.map(|(_, since)| since), settings.message_timeout) {
            Due::Close(CloseReason::MessageTimeout)
        } else if over(self.pinged_at, settings.pong_timeout) {
            Due::Close(CloseReason::PongTimeout)
        } else if self.pinged_at.is_none()
            && settings.ping_interval.is_some_and(|interval| self.received_at + interval <= now)
        {
            self.pinged_at = Some(now);
            Due::Ping
        } else {
            Due::Nothing
        }
    }
}
