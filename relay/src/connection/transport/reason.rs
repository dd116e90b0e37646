//! Why a connection ended, and what its client is told.

use crate::telemetry::{CloseReason, Label};
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// The close code and the words that the client is sent (RFC 6455, 7.4.1). `None` where there is nobody left to tell,
/// or where the goodbye is an answer to the client's own.
pub(super) const fn farewell(reason: CloseReason) -> Option<(CloseCode, &'static str)> {
    match reason {
        CloseReason::Client | CloseReason::Lost | CloseReason::PongTimeout | CloseReason::WriteStall => None,
        CloseReason::Protocol => Some((CloseCode::Protocol, "WebSocket protocol error")),
        CloseReason::InvalidUtf8 => Some((CloseCode::Invalid, "text must be UTF-8")),
        CloseReason::TooLarge => Some((CloseCode::Size, "message too large")),
        CloseReason::MessageTimeout => Some((CloseCode::Policy, "a message took too long to arrive")),
        CloseReason::Shutdown => Some((CloseCode::Restart, "the relay is shutting down")),
    }
}

/// The reason that lies in an error of tungstenite's.
pub(super) fn reason(error: &Error) -> CloseReason {
    match error {
        Error::ConnectionClosed => CloseReason::Client,
        Error::Capacity(_) => CloseReason::TooLarge,
        Error::Utf8(_) => CloseReason::InvalidUtf8,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => CloseReason::Lost,
        Error::Protocol(_) => CloseReason::Protocol,
        _ => CloseReason::Lost,
    }
}

/// A short name for the log, the same as in the metrics.
pub(super) fn name(reason: CloseReason) -> &'static str {
    CloseReason::VALUES.get(reason.index()).copied().unwrap_or_default()
}
