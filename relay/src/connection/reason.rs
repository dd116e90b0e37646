//! Why a connection ended.

use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// Why a connection ended: one variant a reason, so that metrics and the log can tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client said goodbye.
    ClientClosed,
    /// The client went away without a goodbye.
    ClientGone,
    /// The client broke RFC 6455.
    ProtocolError,
    /// A text message was not UTF-8.
    InvalidUtf8,
    /// A message was far larger than allowed.
    MessageTooLarge,
    /// A message took too long from its first byte to its last.
    MessageTimeout,
    /// A ping got no sign of life.
    PongTimeout,
    /// The client took no byte for too long although some waited.
    WriteStall,
    /// The relay is shutting down.
    ShuttingDown,
}

impl CloseReason {
    /// Every reason, in the order of [`index`](Self::index).
    pub const ALL: [Self; 9] = [
        Self::ClientClosed,
        Self::ClientGone,
        Self::ProtocolError,
        Self::InvalidUtf8,
        Self::MessageTooLarge,
        Self::MessageTimeout,
        Self::PongTimeout,
        Self::WriteStall,
        Self::ShuttingDown,
    ];

    /// Its place in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }

    /// A short name for metrics and the log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::ClientGone => "client_gone",
            Self::ProtocolError => "protocol_error",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::MessageTooLarge => "message_too_large",
            Self::MessageTimeout => "message_timeout",
            Self::PongTimeout => "pong_timeout",
            Self::WriteStall => "write_stall",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// The close code and the words that the client is sent (RFC 6455, 7.4.1). `None` where there is nobody left to
    /// tell, or where the goodbye is an answer to the client's own.
    pub(super) const fn farewell(self) -> Option<(CloseCode, &'static str)> {
        match self {
            Self::ClientClosed | Self::ClientGone | Self::PongTimeout | Self::WriteStall => None,
            Self::ProtocolError => Some((CloseCode::Protocol, "WebSocket protocol error")),
            Self::InvalidUtf8 => Some((CloseCode::Invalid, "text must be UTF-8")),
            Self::MessageTooLarge => Some((CloseCode::Size, "message too large")),
            Self::MessageTimeout => Some((CloseCode::Policy, "a message took too long to arrive")),
            Self::ShuttingDown => Some((CloseCode::Restart, "the relay is shutting down")),
        }
    }
}

impl From<Error> for CloseReason {
    fn from(error: Error) -> Self {
        match error {
            Error::Capacity(_) => Self::MessageTooLarge,
            Error::Utf8(_) => Self::InvalidUtf8,
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::ClientGone,
            Error::Protocol(_) => Self::ProtocolError,
            Error::ConnectionClosed => Self::ClientClosed,
            _ => Self::ClientGone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_has_its_place_and_its_name() {
        for (place, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), place);
        }
        let labels: HashSet<_> = CloseReason::ALL.map(CloseReason::label).into_iter().collect();
        assert_eq!(labels.len(), CloseReason::ALL.len());
    }

    /// A close frame's payload may have 125 bytes, two of which are the code.
    #[test]
    fn farewells_fit_into_a_control_frame() {
        for (_, words) in CloseReason::ALL.into_iter().filter_map(CloseReason::farewell) {
            assert!(words.len() <= 123);
        }
    }
}
